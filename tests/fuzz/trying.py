"""What every fuzz target is beside its inputs and its promises: the row of inputs, and the program."""

from __future__ import annotations

import argparse
import random
import sys
import time
from abc import ABC, abstractmethod
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

__all__ = ["Broken", "Changing", "Seeded", "bare", "expect", "hexed", "try_all"]


class Broken(Exception):
    """A promise that was not kept; the message says which."""


def expect(kept: bool, promise: str) -> None:
    """Raise Broken unless *promise* was *kept*."""
    if not kept:
        raise Broken(promise)


def bare(piece: bytes) -> memoryview:
    """*piece* in memory that ends where it ends.

    Behind every bytes object is a zero, so that a sanitizer would not see a read of one byte too many.
    """
    return memoryview(array("B", piece)[:])


def hexed(pieces: Iterable[bytes]) -> str:
    """*pieces* as they are told to whoever has to look for the fault."""
    return " ".join(piece.hex() or "-" for piece in pieces)


class Seeded(ABC):
    """An endless row of inputs, the same for the same *seed*, and what is promised of each."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    @abstractmethod
    def draw(self, number: int) -> tuple[Any, ...]:
        """The next input, which has that number, as `check` and `show` take it."""

    @abstractmethod
    def check(self, found: Counter[str], *drawn: Any) -> None:
        """Every promise is kept for one input, and what came of it is counted; or any exception."""

    @abstractmethod
    def show(self, *drawn: Any) -> str:
        """One input, for people."""

    def tell(self, found: Counter[str]) -> list[str]:
        """What came of all inputs, line by line."""
        return [" ".join(f"{name.replace(' ', '-')}:{count}" for name, count in sorted(found.items()))]

    def cut(self, data: bytes) -> list[bytes]:
        """*data* in pieces: a few, or single bytes."""
        chance = self._random.random
        if chance() < 0.05:
            return [data[at : at + 1] for at in range(len(data))]
        places = sorted([int(chance() * (len(data) + 1)) for _ in range(int(chance() * 4) + 1)])
        return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


class Changing(Seeded):
    """Inputs that were well formed before something was changed somewhere."""

    INTERESTING: ClassVar[tuple[bytes, ...]]
    """What such inputs are hurt by, wherever it stands."""

    def _place(self, data: bytearray) -> int:
        return int(self._random.random() * len(data))

    def _flip_bits(self, data: bytearray) -> None:
        for _ in range(int(self._random.random() * 3) + 1):
            data[self._place(data)] ^= 1 << int(self._random.random() * 8)

    def _truncate(self, data: bytearray) -> None:
        del data[self._place(data) :]

    def _write_something_interesting(self, data: bytearray) -> None:
        place = self._place(data)
        piece = self.INTERESTING[int(self._random.random() * len(self.INTERESTING))]
        data[place : place + len(piece)] = piece

    def _insert(self, data: bytearray) -> None:
        place = self._place(data)
        data[place:place] = self._random.randbytes(1 + int(self._random.random() * 3))

    def _remove(self, data: bytearray) -> None:
        place = self._place(data)
        del data[place : place + 1 + int(self._random.random() * 3)]


def try_all(make: type[Seeded], description: str, arguments: Sequence[str] | None = None) -> int:
    """Try as many inputs as the command line says, and tell what was found; the exit code.

    At the first promise that is broken its input is told, with the seed that makes it again.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--inputs", type=int, default=100_000, help="how many to try (%(default)s)")
    parser.add_argument("--seed", type=int, help="makes the same inputs again; random if not given")
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    inputs = make(seed)
    found: Counter[str] = Counter()
    started_s = time.perf_counter()
    for number in range(options.inputs):
        drawn = inputs.draw(number)
        try:
            inputs.check(found, *drawn)
        except Exception as broken:
            print(f"input {number} of seed {seed}: {broken!r}\n  {inputs.show(*drawn)}", file=sys.stderr)
            return 1
    took_s = time.perf_counter() - started_s
    print(f"{options.inputs} inputs, {options.inputs / took_s:.0f} inputs/s")
    print(*inputs.tell(found), sep="\n")
    return 0

"""Programs that run beside each other, and what one of them may do wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Broken", "Program", "wait_for"]

START_S = 60.0
STOP_S = 30.0
EVERY_S = 0.05
_TOLD_BYTES = 3_000


class Broken(Exception):
    """A run that cannot be judged, and why."""


class Program:
    """A program in a process of its own; what it prints goes to a file. Ended when the block is left."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def status(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self._process.poll()

    def printed(self) -> str:
        """Everything so far."""
        return self.log.read_text("utf-8", "replace")

    def wait_for_port(self) -> int:
        """The port that it says it listens at."""
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s:
            found = re.search(r"listening on \S+ port (\d+)", self.printed())
            if found:
                return int(found[1])
            if self.status() is not None:
                raise self.broken(f"did not start: it ended with exit code {self.status()}")
            time.sleep(EVERY_S)
        raise self.broken(f"does not listen after {START_S:.0f} s")

    def stop(self) -> None:
        """Ask it to end, and see that it does so in order. Raises Broken."""
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise self.broken(f"does not end within {STOP_S:.0f} s of SIGTERM") from None
        if status not in (0, -signal.SIGTERM):
            raise self.broken(f"ended with exit code {status} after SIGTERM")

    def broken(self, how: str) -> Broken:
        """What to raise when it did something wrong."""
        last = self.printed()[-_TOLD_BYTES:].rstrip()
        return Broken(f"the {self.name} {how}; {self.log} ends with:\n{last}")


def wait_for(worker: Program, others: Sequence[Program], *, watched: Program, silence_s: float) -> None:
    """Wait for a program to end with exit code 0 or 1 while the others run on.

    Raises Broken when it ends otherwise, when one of the others ends, and when the *watched* one, which
    prints something for each case, has been silent for too long.
    """
    printed_bytes, since_s = -1, 0.0
    while worker.status() is None:
        for other in others:
            if other.status() is not None:
                raise other.broken(f"ended in the middle, with exit code {other.status()}")
        now_s = time.monotonic()
        if watched.log.stat().st_size != printed_bytes:
            printed_bytes, since_s = watched.log.stat().st_size, now_s
        if now_s - since_s > silence_s:
            raise watched.broken(f"said nothing for {silence_s:.0f} s")
        time.sleep(EVERY_S)
    if worker.status() not in (0, 1):
        raise worker.broken(f"ended with exit code {worker.status()}")

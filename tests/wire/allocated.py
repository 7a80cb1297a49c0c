"""What memory something takes, by tracemalloc, and whether references are lost or kept."""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

ROUNDS = 40
"""How often `kept_bytes` has something done."""


@contextmanager
def traced() -> Iterator[None]:
    """What is allocated meanwhile is counted; no other thread of this process has its turn to add to it.

    There may be some, as that which takes in what the tests' distributor sends. What lets go of the
    interpreter's lock lets them run nevertheless.
    """
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1_000)
    time.sleep(2 * interval_s)  # whoever waits for a turn already has it now
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        sys.setswitchinterval(interval_s)


def peak_bytes(act: Callable[[], object]) -> int:
    """How much memory *act* had allocated at once, at most."""
    with traced():
        before = tracemalloc.get_traced_memory()[0]
        act()
        return tracemalloc.get_traced_memory()[1] - before


def assert_nothing_lost_or_kept(shared: Sequence[object], work: Callable[[], None]) -> None:
    """After *work* there are as many references to each of what is *shared* as before."""
    work()
    gc.collect()
    before = [sys.getrefcount(held) for held in shared]
    work()
    gc.collect()
    after = [sys.getrefcount(held) for held in shared]
    assert max(abs(late - early) for late, early in zip(after, before, strict=True)) < 50


def kept_bytes(act: Callable[[int], None]) -> int:
    """How much memory `ROUNDS` rounds of *act*, which is told how many, leave allocated."""
    act(3)
    gc.collect()
    with traced():
        act(2)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        act(ROUNDS)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

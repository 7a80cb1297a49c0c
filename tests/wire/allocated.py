"""How much memory something takes, by tracemalloc."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

ROUNDS = 40
"""How often `kept_bytes` has something done."""


def peak_bytes(act: Callable[[], object]) -> int:
    """How much memory *act* had allocated at once, at most."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        act()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def kept_bytes(act: Callable[[int], None]) -> int:
    """How much memory `ROUNDS` rounds of *act*, which is told how many, leave allocated."""
    act(3)
    gc.collect()
    tracemalloc.start()
    try:
        act(2)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        act(ROUNDS)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

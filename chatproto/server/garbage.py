"""How often the interpreter looks for what only holds itself, which no other way frees."""

from __future__ import annotations

import gc

__all__ = ["look_less_often"]

THRESHOLDS = (10_000, 5, 2)
"""After how many new objects the youngest are looked at, after how many such looks those that outlived one,
and after how many of these all. So what only holds itself waits for some 200,000 objects at most."""


def look_less_often() -> None:
    """Have the interpreter look at more objects at a time, and so at each of them less often.

    By default it looks after 700 objects, and at 10,000 of them, the messages that are under way, after a
    thousand messages. That was a seventh of the time that a message in a durable history takes.
    """
    gc.set_threshold(*THRESHOLDS)

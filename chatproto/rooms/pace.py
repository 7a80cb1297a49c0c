"""How fast one may go on: so many at once, and so many a second after that."""

from __future__ import annotations

__all__ = ["Pace"]


class Pace:
    """A bucket of tokens that fills again, told in the time at which it will be full.

    So it is one number, and needs no timer. What it allows is given with each question, as it may change.
    """

    __slots__ = ("_full_s",)

    def __init__(self) -> None:
        self._full_s = 0.0

    def left(self, now_s: float, burst: float, per_s: float) -> float:
        """How many may be had now, at most *burst*; below 1 none, and below 0 some are owed."""
        # Rounded, so that what was taken one by one adds up to whole ones again.
        return round(burst - max(0.0, self._full_s - now_s) * per_s, 6)

    def take(self, n: float, now_s: float, per_s: float) -> None:
        """Have *n* of them."""
        self._full_s = max(self._full_s, now_s) + n / per_s

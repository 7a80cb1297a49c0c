"""How often something was how large: counts by class, cheap enough to be made of everything that happens."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

__all__ = ["Spread"]


class Spread:
    """Counts what it is shown, in classes: up to and including each of *bounds*, which ascend, and beyond.

    One thread may observe while another looks; that one may then miss the newest in a count or in `total`.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count *value*."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

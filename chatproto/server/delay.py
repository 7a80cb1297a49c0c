"""How late the reactor is: what everybody waits for, whoever keeps it busy."""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chatproto.rooms.spread import Spread

__all__ = ["DELAY_BOUNDS_S", "ReactorDelay"]

EVERY_S = 0.25
"""How often it is measured: four wakings a second are nothing, and what blocks for long is not missed."""

DELAY_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class ReactorDelay:
    """Has itself called by *clock* again and again; `seen` has how many seconds late each call came.

    *monotonic* gives seconds too, but nobody sets it.
    """

    def __init__(self, clock: IReactorTime, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.seen = Spread(DELAY_BOUNDS_S)
        self._clock = clock
        self._monotonic = monotonic
        self._due_s = 0.0
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        """Measure, until `stop`."""
        self._due_s = self._monotonic() + EVERY_S
        self._call = self._clock.callLater(EVERY_S, self._called)

    def stop(self) -> None:
        """Measure no more; harmless if it does not."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _called(self) -> None:
        self.seen.observe(max(0.0, self._monotonic() - self._due_s))
        self.start()

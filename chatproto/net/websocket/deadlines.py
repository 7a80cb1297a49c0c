"""Deadlines of many connections with one timer between them."""

from __future__ import annotations

import heapq
from math import ceil
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

__all__ = ["Deadlines", "Waiting"]

TICK_S = 0.125
"""How late a deadline may be: those of one tick are served together."""

_log = Logger(namespace="chatproto.net.websocket")


class Waiting(Protocol):
    """Who has a deadline. `deadline_tick` belongs to `Deadlines`; it is 0 at first."""

    deadline_tick: int

    def deadlinePassed(self) -> None:
        """The time has come; there is no deadline now."""


class Deadlines:
    """At most one deadline for each connection, on *clock*.

    A `DelayedCall` of its own would cost an idle connection more memory than all else of it here.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: dict[int, set[Waiting]] = {}
        self._ticks: list[int] = []  # a heap of the keys of `_waiting`
        self._call: IDelayedCall | None = None
        self._call_tick = 0
        self._passing_tick = 0
        self._count = 0

    def set(self, waiting: Waiting, in_s: float) -> None:
        """Call `waiting.deadlinePassed()` in *in_s* seconds, instead of whenever it was to be before."""
        self.clear(waiting)
        # Never the tick that is being served: who sets a deadline each time would be served without end.
        tick = max(ceil((self._clock.seconds() + in_s) / TICK_S), self._passing_tick + 1)
        waiting.deadline_tick = tick
        self._count += 1
        those = self._waiting.get(tick)
        if those is not None:
            those.add(waiting)
            return
        self._waiting[tick] = {waiting}
        heapq.heappush(self._ticks, tick)
        self._call_at_the_first()

    def clear(self, waiting: Waiting) -> None:
        """Forget the deadline of *waiting*, if it has one."""
        tick, waiting.deadline_tick = waiting.deadline_tick, 0
        if not tick:
            return
        self._count -= 1
        those = self._waiting.get(tick)
        if those is not None:  # else it is being served
            those.discard(waiting)
        if not self._count:
            self._call_at_the_first()

    def _call_at_the_first(self) -> None:
        if not self._count:  # what is left are ticks that nobody waits for; no timer may be left for them
            self._waiting.clear()
            self._ticks.clear()
        first = self._ticks[0] if self._ticks else 0
        if self._call is not None:
            if first == self._call_tick:
                return
            self._call.cancel()
            self._call = None
        self._call_tick = first
        if first:
            in_s = max(0.0, first * TICK_S - self._clock.seconds())
            self._call = self._clock.callLater(in_s, self._pass)

    def _pass(self) -> None:
        self._call = None
        now_s = self._clock.seconds()
        while self._ticks and self._ticks[0] * TICK_S <= now_s:
            self._passing_tick = tick = heapq.heappop(self._ticks)
            for waiting in self._waiting.pop(tick):
                if waiting.deadline_tick != tick:
                    continue  # cleared by one that was served before it
                waiting.deadline_tick = 0
                self._count -= 1
                try:
                    waiting.deadlinePassed()
                except Exception:
                    _log.failure("a connection's deadline could not be kept")
        self._passing_tick = 0
        self._call_at_the_first()

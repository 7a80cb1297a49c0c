"""How a server goes: what was said is answered, everybody hears when to come back, then the end."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

if TYPE_CHECKING:
    from chatproto.net.factory import ChatFactory

__all__ = ["Draining", "return_spread_ms"]

SETTLING_SHARE = 0.5
"""Of the time there is: for answering what was said. The rest is for the last words to be read."""


LOOK_EVERY_S = 0.05
"""While there are connections that have not said yet what they speak, which takes a second at most, or people
who are gone and whose last words the history still has to answer."""


def return_spread_ms(n_people: int, max_returns_per_s: float) -> int:
    """Over how many milliseconds so many people are to come back."""
    return int(1000 * n_people / max_returns_per_s)


class Draining:
    """Ends all connections of *factory* within *timeout_s*; it MUST take in no new ones any more.

    First nothing more is heard, and what was heard takes effect and is answered: an `ack` that is owed by the
    history too. Who is gone is heard to the end as well. Then everybody gets `goodbye` with a time of their
    own, and what waits for them is sent. Who is not gone by the end is cut off.
    """

    def __init__(self, factory: ChatFactory, timeout_s: float, text: str) -> None:
        self.ended: Deferred[None] = Deferred()
        """Fires when the last connection is gone."""
        self._factory = factory
        self._text = text
        self._unsettled = 0
        self._has_said_goodbye = False
        clock = factory.hub.clock
        self._goodbye: IDelayedCall = clock.callLater(timeout_s * SETTLING_SHARE, self._say_goodbye)
        self._next_look: IDelayedCall | None = None
        self._end: IDelayedCall = clock.callLater(timeout_s, self.cut)
        self._settle()

    def _settle(self) -> None:
        sessions = [connection.session for connection in self._factory.connections]
        random.shuffle(sessions)
        self._unsettled = 1  # so that it is not over before all are asked
        for session in sessions:
            if not session.ended:
                self._unsettled += 1
                session.drain(self._settled)
        self._settled()

    def _settled(self) -> None:
        self._unsettled -= 1
        if not self._unsettled:
            self._look_around()

    def _look_around(self) -> None:
        """Who has only just come is not thrown out before anybody knows in which form to tell them, and who
        is gone is heard to the end."""
        if self._has_said_goodbye:
            return
        hub = self._factory.hub
        if hub.leaving or any(front.is_undecided for front in self._factory.fronts):
            self._next_look = hub.clock.callLater(LOOK_EVERY_S, self._look_around)
        else:
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        if self._has_said_goodbye:
            return
        self._has_said_goodbye = True
        for call in (self._goodbye, self._next_look):
            if call is not None and call.active():
                call.cancel()
        limits = self._factory.hub.limits
        spread_ms = return_spread_ms(len(self._factory.connections), limits.max_returns_per_s)
        emptied = self._factory.shut_down(int(1000 * limits.return_delay_s), self._text, spread_ms=spread_ms)
        emptied.addCallback(self._emptied)

    def _emptied(self, _: None) -> None:
        if self._end.active():
            self._end.cancel()
        self.ended.callback(None)

    def cut(self) -> None:
        """There is no time left: end what there is, without waiting for anybody."""
        self._say_goodbye()
        factory = self._factory
        for connection in list(factory.connections):
            connection.session.end("shutdown")
            connection.cut()
        for front in list(factory.fronts):
            front.cut()

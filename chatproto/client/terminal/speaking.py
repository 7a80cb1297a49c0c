"""Says what is to be said, one thing after the other, and shows how it fares."""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from chatproto.client.client import ChatClient
from chatproto.client.outcomes import Disconnected, Receipt, Refused, TooManyWaiting
from chatproto.client.terminal.desk import Desk
from chatproto.client.terminal.places import Place
from chatproto.client.terminal.transcript import Entry, State
from chatproto.wire.errors import ErrorCode

__all__ = ["Speaking"]

RATE_LIMIT_PAUSE_S = 1.0


class Speaking:
    """What one says oneself: it is on the screen at once, and marked until the server has kept it.

    The next thing is not sent before the one in front of it is answered, so that a refusal to go so fast
    does not change their order.
    """

    def __init__(self, desk: Desk, client: ChatClient) -> None:
        self._desk = desk
        self._client = client
        self._waiting: deque[tuple[Place, Entry]] = deque()
        self._is_working = False

    def say(self, place: Place, text: str) -> None:
        """Say *text* in *place*, or to that person."""
        entry = Entry(self._desk.now_ms(), self._desk.nick, text, own=True, state=State.WAITING)
        place.transcript.settle()
        place.view.to_end()
        self._desk.places.put(place, entry, True)
        self._waiting.append((place, entry))
        self._count()
        if not self._is_working:
            self._is_working = True
            Deferred.fromCoroutine(self._work())

    async def _work(self) -> None:
        try:
            while self._waiting:
                place, entry = self._waiting[0]
                try:
                    receipt = await self._until_allowed(place, entry.text)
                except Refused as refusal:
                    place.transcript.fail(entry, refusal.text)
                except (Disconnected, TooManyWaiting, ValueError) as error:
                    place.transcript.fail(entry, str(error))
                else:
                    place.transcript.keep(entry, receipt.seq, receipt.time_ms)
                self._waiting.popleft()
                self._count()
        finally:
            self._is_working = False

    async def _until_allowed(self, place: Place, text: str) -> Receipt:
        while True:
            try:
                if place.is_private:
                    return await self._client.tell(place.person, text)
                return await self._client.say(place.name, text)
            except Refused as refusal:
                if refusal.code != ErrorCode.RATE_LIMITED:
                    raise
            await deferLater(self._desk.clock, RATE_LIMIT_PAUSE_S)

    def _count(self) -> None:
        self._desk.unacknowledged = len(self._waiting)
        self._desk.changed()

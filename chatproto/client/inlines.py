"""Taking part in lines: plain ones for people and pipes, or JSON for programs."""

from __future__ import annotations

import argparse
import os
from typing import Any, Protocol, cast

from twisted.internet import stdio
from twisted.internet.defer import Deferred

from chatproto.client.address import endpoint_at, place_of
from chatproto.client.client import ChatClient
from chatproto.client.commands import Commands
from chatproto.client.ends import Ended, ExitCode, end_of
from chatproto.client.events import ChatEvents
from chatproto.client.jsonlines import JsonEvents, JsonRequests
from chatproto.client.login import Credentials, log_in
from chatproto.client.outcomes import Refused
from chatproto.client.plain import PlainScreen
from chatproto.client.standardio import Lines, Taker
from chatproto.wire.messages import Welcome

__all__ = ["JsonParticipant", "Participant", "PlainParticipant"]


class _Entering(Taker, Protocol):
    failure: str

    async def enter(self, room: str) -> None:
        """Join *room*."""


class Participant(ChatEvents):
    """One run of the program: who takes part. What they see is the other base of a subclass."""

    taker: _Entering

    def __init__(self, reactor: Any, chosen: argparse.Namespace) -> None:
        self.lines = Lines()
        self.reactor = reactor
        self._place = place_of(chosen.address)
        self._rooms: list[str] = chosen.room or [""]
        self._credentials: Credentials | None = chosen.credentials
        self._ended: Ended | None = None
        self._had_session = False
        self.client = ChatClient(endpoint_at(reactor, chosen.address), chosen.nick, self, clock=reactor)

    async def take_part(self) -> Ended:
        """Take part until there is nothing more to do, and clean up."""
        # Copies, because what is closed at the end must not be the process's own.
        cast(Any, stdio.StandardIO)(self.lines, stdin=os.dup(0), stdout=os.dup(1), reactor=self.reactor)
        ended = await self._talk()
        await self.client.stop()
        await self.lines.close()
        failure = self.taker.failure
        if ended.code == ExitCode.DONE and failure and not os.isatty(0):
            return Ended(ExitCode.NOT_ALL_DONE, f"not everything was done: {failure}")
        return ended

    def end(self, code: int, sentence: str = "") -> Deferred[None]:
        """Come to an end soon."""
        self._ended = self._ended or Ended(code, sentence)
        self.lines.finish()
        return self.client.stop()

    async def _talk(self) -> Ended:
        self.client.start()
        try:
            await self.client.when_connected(max_attempts=1)
            await log_in(self.client, self._credentials, self)
            for room in self._rooms:
                await self.taker.enter(room)
        except Exception as error:
            return self._ended or end_of(error, self._place)
        self.lines.begin(self.client, self.taker)
        await self.lines.finished
        return self._ended or Ended(ExitCode.DONE)

    def connected(self, message: Welcome) -> None:
        """See `ChatEvents`."""
        self._had_session = True
        super().connected(message)

    def disconnected(self, reason: str) -> None:
        """See `ChatEvents`."""
        if self._had_session:
            super().disconnected(reason)
        else:
            # Who does not even open a session is not asked a second time.
            self.end(ExitCode.NO_CONNECTION, f"no session with {self._place}: {reason}")

    def reconnecting(self, delay_s: float) -> None:
        """See `ChatEvents`."""
        if self._had_session:
            super().reconnecting(delay_s)

    def gave_up(self, refusal: Refused) -> None:
        """See `ChatEvents`."""
        super().gave_up(refusal)
        self.end(ExitCode.REFUSED, f"refused by {self._place}: {refusal.text}")


class PlainParticipant(Participant, PlainScreen):
    """Someone, or a script, with plain lines."""

    def __init__(self, reactor: Any, chosen: argparse.Namespace) -> None:
        Participant.__init__(self, reactor, chosen)
        PlainScreen.__init__(self, self.lines.show)
        self.taker = Commands(self.client, self, reactor, self.lines.finish)


class JsonParticipant(Participant, JsonEvents):
    """A program, with one JSON object a line."""

    def __init__(self, reactor: Any, chosen: argparse.Namespace) -> None:
        Participant.__init__(self, reactor, chosen)
        JsonEvents.__init__(self, self.lines.show)
        self.taker = JsonRequests(self.client, self, self.lines.finish)

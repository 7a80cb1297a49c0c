"""One run of `chatproto-connect` on a whole terminal."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogBeginner
from zope.interface import implementer

from chatproto.client.address import endpoint_at, place_of
from chatproto.client.client import ChatClient
from chatproto.client.ends import Ended, ExitCode, end_of
from chatproto.client.login import Credentials, log_in
from chatproto.client.outcomes import Refused
from chatproto.client.terminal.desk import Desk, Line
from chatproto.client.terminal.display import Display
from chatproto.client.terminal.doing import Doing
from chatproto.client.terminal.hearing import Hearing
from chatproto.client.terminal.keys import Keys
from chatproto.client.terminal.leftoff import LeftOff, state_path
from chatproto.client.terminal.picture import draw
from chatproto.wire.messages import Welcome

__all__ = ["FullScreen"]

PING_INTERVAL_S = 10.0
SLOW_CONNECT_S = 1.0
LEAVE_TIMEOUT_S = 2.0


class FullScreen(Hearing):
    """Who takes part, at a terminal."""

    def __init__(self, reactor: Any, chosen: argparse.Namespace) -> None:
        self._reactor = reactor
        self._place = place_of(chosen.address)
        self._rooms: list[str] = chosen.room or [""]
        self._credentials: Credentials | None = chosen.credentials
        self._ended: Ended | None = None
        self.desk = Desk(self._place, chosen.nick, reactor)
        self.desk.bell = not chosen.no_bell
        super().__init__(self.desk)
        self.client = ChatClient(
            endpoint_at(reactor, chosen.address),
            chosen.nick,
            self,
            clock=reactor,
            leave_timeout_s=LEAVE_TIMEOUT_S,
        )
        self._left_off = LeftOff(state_path(), self._place)
        self.doing = Doing(self.desk, self.client, lambda room: self._left_off.seen(room, self.desk.epoch))
        self.keys = Keys(self.desk, self.doing)
        self._display = Display(
            reactor,
            sys.stdin,
            sys.stdout,
            lambda columns, rows: draw(self.desk, columns, rows),
            self.keys.press,
            self._gone,
        )
        self.keys.redraw = self._display.redraw
        self.desk.watch(self._display.changed, self._display.ring)

    async def take_part(self) -> Ended:
        """Take part until one has had enough. The terminal is as it was, when this returns."""
        slowly = self._reactor.callLater(SLOW_CONNECT_S, self._say_connecting)
        self.client.start()
        try:
            await self.client.when_connected(max_attempts=1)
            await log_in(self.client, self._credentials, self)
        except Exception as error:
            return self._ended or end_of(error, self._place)
        finally:
            if slowly.active():
                slowly.cancel()
        faults = _Faults()
        globalLogBeginner.beginLoggingTo([faults], redirectStandardIO=False, discardBuffer=True)
        self._display.start()
        watch = LoopingCall(self._look)
        watch.clock = self._reactor
        watch.start(PING_INTERVAL_S)
        countdown = LoopingCall(self._count_down)
        countdown.clock = self._reactor
        countdown.start(1.0)
        try:
            self.doing.begin(self._rooms)
            ended = await self.desk.finished
        finally:
            watch.stop()
            countdown.stop()
            self._display.stop()
        self._left_off.save(self.desk.seen(), self.desk.epoch)
        await self.client.stop()
        if faults.first:
            print(faults.first, file=sys.stderr)
        return self._ended or ended

    def end(self, code: int, sentence: str = "") -> Deferred[None]:
        """Come to an end soon."""
        self._ended = self._ended or Ended(code, sentence)
        self.desk.finish(self._ended)
        return self.client.stop()

    def _gone(self) -> None:
        self.end(128 + signal.SIGHUP)

    def connected(self, message: Welcome) -> None:
        """See `ChatEvents`."""
        super().connected(message)
        self._look()

    def disconnected(self, reason: str) -> None:
        """See `ChatEvents`."""
        if self.desk.line is Line.CONNECTING and not self.desk.epoch and not self._asks():
            # Who does not even open a session is not asked a second time.
            self.end(ExitCode.NO_CONNECTION, f"no session with {self._place}: {reason}")
        else:
            super().disconnected(reason)

    def gave_up(self, refusal: Refused) -> None:
        """See `ChatEvents`."""
        self.doing.gave_up(refusal)

    def _asks(self) -> bool:
        """Whether it is oneself who keeps the session from being opened, by thinking about a nickname."""
        return self.desk.question is not None

    def _say_connecting(self) -> None:
        print(f"connecting to {self._place} …", file=sys.stderr)

    def _look(self) -> None:
        if self.client.open:
            self.client.ping().addCallbacks(self._answered, lambda failure: None)

    def _answered(self, seconds: float) -> None:
        self.desk.round_trip_s = seconds
        self.desk.changed()

    def _count_down(self) -> None:
        if self.desk.retry_at_s is not None:
            self.desk.changed()


@implementer(ILogObserver)
class _Faults:
    """Keeps the first fault of the program, which must not be printed into the screen."""

    def __init__(self) -> None:
        self.first = ""

    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level")
        if level is not None and level >= LogLevel.error and not self.first:
            failure = event.get("log_failure")
            self.first = failure.getTraceback() if failure is not None else formatEvent(event)

"""`chatproto-connect`: takes part in a chat from a terminal, a script or a pipe, in plain lines."""

from __future__ import annotations

import argparse
import os
import sys
from collections import deque
from collections.abc import Sequence
from typing import Any, NoReturn, cast

from twisted.internet import stdio
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import react
from twisted.python.failure import Failure
from zope.interface import implementer

from chatproto.client.address import DEFAULT_PORT, Address, endpoint_at, parse_address, place_of
from chatproto.client.client import ChatClient
from chatproto.client.commands import Commands
from chatproto.client.outcomes import CannotConnect, Disconnected, Refused
from chatproto.client.plain import PlainScreen, tame

__all__ = ["main", "options"]

MAX_LINE_BYTES = 16_384
"""Fits into a frame even if each byte becomes a U+FFFD; a server takes a quarter of it by default."""
MAX_LINES_AHEAD = 100
"""Lines read before those in front of them are done; what comes then stays where it is."""


def address(text: str) -> Address:
    """As `parse_address`, but raises ArgumentTypeError."""
    try:
        return parse_address(text)
    except ValueError as refusal:
        raise argparse.ArgumentTypeError(str(refusal)) from None


def options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line. Ends the process with code 2 and a sentence where it makes no sense."""
    parser = argparse.ArgumentParser(
        prog="chatproto-connect",
        description="Take part in a chat. Lines from standard input are said; /help shows the commands.",
    )
    parser.add_argument(
        "address",
        type=address,
        metavar="HOST[:PORT]",
        help=f"the server, port {DEFAULT_PORT} by default; or ws://HOST[:PORT]/chat, or wss:// with TLS",
    )
    parser.add_argument("--nick", required=True, metavar="NAME", help="the nickname to have")
    parser.add_argument(
        "--room", action="append", metavar="ROOM", help="a room to enter; may be given several times"
    )
    return parser.parse_args(argv)


@implementer(IHalfCloseableProtocol)
class _Terminal(Protocol):
    """Standard input and output: lines in, done one after the other, and text out."""

    def __init__(self) -> None:
        self.finished: Deferred[None] = Deferred()
        """Fires when there is nothing more to do: at the end of the input, on /quit, when nobody reads."""
        self.flushed: Deferred[None] = Deferred()
        """Fires after `close`, when everything is written or cannot be."""
        self._client: ChatClient | None = None
        self._commands: Commands | None = None
        self._begun = b""  # of a line, one byte more than it may have at most
        self._lines: deque[bytes] = deque()
        self._paused = False
        self._working = False
        self._input_is_over = False
        self._is_over = False

    def connectionMade(self) -> None:
        """Read nothing until there is somebody to say it to."""
        self._pause()

    def begin(self, client: ChatClient, commands: Commands) -> None:
        """Read lines, and do what they say."""
        self._client, self._commands = client, commands
        stdio: Any = self.transport
        stdio.registerProducer(client, True)  # who reads slowly what is shown slows down what comes
        self._resume()

    def show(self, text: str) -> None:
        """Write *text*."""
        if self.transport is not None:
            self.transport.write(text.encode())

    def finish(self) -> None:
        """There is nothing more to do."""
        if not self._is_over:
            self._is_over = True
            self.finished.callback(None)

    def close(self) -> Deferred[None]:
        """Write what is to be written, and then no more; returns `flushed`."""
        if self.transport is not None:
            stdio: Any = self.transport
            stdio.unregisterProducer()
            stdio.loseConnection()
        return self.flushed

    def dataReceived(self, data: bytes) -> None:
        """Take input in, in any cut."""
        *lines, begun = (self._begun + data).split(b"\n")
        self._begun = begun[: MAX_LINE_BYTES + 1]
        self._take(lines)

    def _take(self, lines: list[bytes]) -> None:
        assert self._client is not None
        if b"/quit" in lines and not self._client.open:
            self.finish()  # what is to be said before that has no end in sight
            return
        self._lines.extend(lines)
        if len(self._lines) >= MAX_LINES_AHEAD:
            self._pause()
        if not self._working:
            self._working = True
            Deferred.fromCoroutine(self._work()).addErrback(self._broke)

    async def _work(self) -> None:
        assert self._commands is not None
        while self._lines and not self._is_over:
            line = self._lines.popleft()
            if len(self._lines) < MAX_LINES_AHEAD // 2:
                self._resume()
            if len(line) > MAX_LINE_BYTES:
                self._commands.fail(f"a line may have {MAX_LINE_BYTES:,} bytes, and this one was not said")
            else:
                await self._commands.take(line.decode(errors="replace").removesuffix("\r"))
        self._working = False
        if self._input_is_over:
            self.finish()

    def _broke(self, failure: Failure) -> None:
        if not self._is_over:
            self._is_over = True
            self.finished.errback(failure)

    def _pause(self) -> None:
        if not self._paused and not self._input_is_over:
            self._paused = True
            stdio: Any = self.transport
            stdio.pauseProducing()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            stdio: Any = self.transport
            stdio.resumeProducing()

    def readConnectionLost(self) -> None:
        """The end of the input; the last line may lack its newline (IHalfCloseableProtocol)."""
        self._input_is_over = True
        begun, self._begun = self._begun, b""
        if begun:
            self._take([begun])
        if not self._working:
            self.finish()

    def writeConnectionLost(self) -> None:
        """Nobody reads what is shown (IHalfCloseableProtocol)."""
        self.connectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Everything is written, or nobody reads it."""
        self.transport = None
        self.finish()
        if not self.flushed.called:
            self.flushed.callback(None)


class _Participant(PlainScreen):
    """One run of the program: who takes part, and what they see."""

    def __init__(self, reactor: Any, chosen: argparse.Namespace) -> None:
        self.terminal = _Terminal()
        super().__init__(self.terminal.show)
        self.place = place_of(chosen.address)
        self.client = ChatClient(endpoint_at(reactor, chosen.address), chosen.nick, self, clock=reactor)
        self.commands = Commands(self.client, self, reactor, self.terminal.finish)
        self._rooms: list[str] = chosen.room or [""]
        self._end = ""

    async def take_part(self) -> str:
        """Take part until there is nothing more to do; why that was sooner than it should, or nothing."""
        self.client.start()
        try:
            await self.client.when_connected(max_attempts=1)
            for room in self._rooms:
                await self.commands.enter(room)
        except CancelledError:
            return ""
        except (CannotConnect, ConnectError, DNSLookupError) as error:
            return f"no connection to {self.place}: {str(error).rstrip('.')}"
        except Refused as refusal:
            return f"refused by {self.place}: {refusal.text}"
        except (Disconnected, ValueError) as error:
            return self._end or str(error)
        self.terminal.begin(self.client, self.commands)
        await self.terminal.finished
        return self._end

    def disconnected(self, reason: str) -> None:
        """See `ChatEvents`."""
        if self._was_connected:
            super().disconnected(reason)
        else:
            # Who does not even open a session is not asked a second time.
            self._end = f"no session with {self.place}: {reason}"
            self.client.stop()

    def reconnecting(self, delay_s: float) -> None:
        """See `ChatEvents`."""
        if self._was_connected:
            super().reconnecting(delay_s)

    def gave_up(self, refusal: Refused) -> None:
        """See `ChatEvents`."""
        self._end = f"refused by {self.place}: {refusal.text}"
        self.terminal.finish()


async def run(reactor: Any, chosen: argparse.Namespace) -> None:
    """Take part, and clean up. Fails with SystemExit where something went wrong: 2 for a URL that is none."""
    try:
        participant = _Participant(reactor, chosen)
    except ValueError as error:
        print(f"chatproto-connect: {tame(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None
    # Copies, because what is closed at the end must not be the process's own.
    cast(Any, stdio.StandardIO)(participant.terminal, stdin=os.dup(0), stdout=os.dup(1), reactor=reactor)
    reactor.addSystemEventTrigger("before", "shutdown", participant.client.stop)
    complaint = await participant.take_part()
    await participant.client.stop()
    await participant.terminal.close()
    failure = participant.commands.failure
    if not complaint and failure and not os.isatty(0):
        complaint = f"not everything was done: {failure}"
    if complaint:
        print(f"chatproto-connect: {tame(complaint)}", file=sys.stderr)
        raise SystemExit(1)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The console script. Exit codes: 0 fine, 1 no connection or refused, 2 a wrong command line."""
    chosen = options(argv)
    were_blocking = [fd for fd in (0, 1, 2) if os.get_blocking(fd)]
    try:
        react(run, (chosen,))
    finally:
        # They are shared with the shell and with whatever else writes there.
        for fd in were_blocking:
            os.set_blocking(fd, True)


if __name__ == "__main__":
    main()

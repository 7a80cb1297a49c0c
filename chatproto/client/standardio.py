"""Standard input and output of a program that takes lines."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol as StreamProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from chatproto.client.client import ChatClient

__all__ = ["MAX_LINE_BYTES", "Lines", "Taker"]

MAX_LINE_BYTES = 16_384
"""Fits into a frame even if each byte becomes a U+FFFD; a server takes a quarter of it by default."""
MAX_LINES_AHEAD = 100
"""Lines read before those in front of them are done; what comes then stays where it is."""


class Taker(Protocol):
    """What does what the lines say."""

    async def take(self, line: str) -> None:
        """Do what *line* says; the next one waits until this returns."""

    async def settle(self) -> None:
        """Return when everything is done that was begun."""

    def fail(self, why: str) -> None:
        """Say that something came to nothing, and why."""

    def is_quit(self, line: bytes) -> bool:
        """Whether *line* ends the program."""


@implementer(IHalfCloseableProtocol)
class Lines(StreamProtocol):
    """Lines in, done one after the other, and text out."""

    def __init__(self) -> None:
        self.finished: Deferred[None] = Deferred()
        """Fires when there is nothing more to do: at the end of the input, on quit, when nobody reads."""
        self.flushed: Deferred[None] = Deferred()
        """Fires after `close`, when everything is written or cannot be."""
        self._client: ChatClient | None = None
        self._taker: Taker | None = None
        self._begun = b""  # of a line, one byte more than it may have at most
        self._lines: deque[bytes] = deque()
        self._paused = False
        self._working = False
        self._input_is_over = False
        self._is_over = False

    def connectionMade(self) -> None:
        """Read nothing until there is somebody to say it to."""
        self._pause()

    def begin(self, client: ChatClient, taker: Taker) -> None:
        """Read lines, and have *taker* do what they say."""
        self._client, self._taker = client, taker
        stdio: Any = self.transport
        if stdio is not None:
            stdio.registerProducer(client, True)  # who reads slowly what is shown slows down what comes
            self._resume()

    def show(self, text: str) -> None:
        """Write *text*."""
        if self.transport is not None:
            self.transport.write(text.encode(errors="replace"))

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
        assert self._taker is not None
        if not self._client.open and any(map(self._taker.is_quit, lines)):
            self.finish()  # what is to be said before that has no end in sight
            return
        self._lines.extend(lines)
        if len(self._lines) >= MAX_LINES_AHEAD:
            self._pause()
        if not self._working:
            self._working = True
            Deferred.fromCoroutine(self._work()).addErrback(self._broke)

    async def _work(self) -> None:
        assert self._taker is not None
        while self._lines and not self._is_over:
            line = self._lines.popleft()
            if len(self._lines) < MAX_LINES_AHEAD // 2:
                self._resume()
            if len(line) > MAX_LINE_BYTES:
                self._taker.fail(f"a line may have {MAX_LINE_BYTES:,} bytes, and this one was not said")
            else:
                await self._taker.take(line.decode(errors="replace").removesuffix("\r"))
        self._working = False
        if self._input_is_over:
            await self._taker.settle()
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
            if stdio is not None:
                stdio.resumeProducing()

    def readConnectionLost(self) -> None:
        """The end of the input; the last line may lack its newline (IHalfCloseableProtocol)."""
        self._input_is_over = True
        begun, self._begun = self._begun, b""
        if self._taker is None:
            self.finish()
        elif begun or not self._working:
            self._take([begun] if begun else [])

    def writeConnectionLost(self) -> None:
        """Nobody reads what is shown (IHalfCloseableProtocol)."""
        self.connectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Everything is written, or nobody reads it."""
        self.transport = None
        self.finish()
        if not self.flushed.called:
            self.flushed.callback(None)

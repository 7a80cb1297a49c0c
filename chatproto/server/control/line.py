"""One connection over the control socket: a request a line, each answered before the next is taken up."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IPushProducer, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from chatproto.control.lines import (
    MAX_REQUEST_BYTES,
    VERSION,
    Lines,
    NotALine,
    line_of,
    object_of,
    peer_uid,
)
from chatproto.server.control.rows import Row
from chatproto.version import __version__

if TYPE_CHECKING:
    from chatproto.server.control.trace import Watcher

__all__ = ["Answer", "ControlFactory", "Live", "NotDone"]

_log = Logger(namespace="chatproto.server.control")

MOST_CONNECTIONS = 16

IDLE_S = 60.0
"""In which somebody who is connected asks for something, or reads what they asked for."""

ROWS_PER_TURN = 50
"""Looked at in one turn of the reactor, in which everybody who talks waits."""

LOOK_EVERY_S = 1.0
"""How often one looks whether somebody is still there who has shut their side, and is told what goes on."""

CLOSE_TIMEOUT_S = 1.0
"""For the last words to be read."""


class NotDone(Exception):
    """It was asked for and is not done; the text is one sentence."""


class Live(Protocol):
    """Something that goes on until it is stopped, or ends by itself."""

    def stop(self) -> None:
        """Nobody wants it any more; harmless if it is over."""


class Answer:
    """What comes of a request: *rows*, some in each turn of the reactor, and then *done*.

    *done* is the last line, which may take its time, or something that goes on: it is begun with who asks.
    """

    def __init__(
        self,
        done: Row | Deferred[Row] | Callable[[Watcher], Live],
        rows: Iterator[Row | None] | None = None,
    ) -> None:
        self.rows: Iterator[Row | None] = iter(()) if rows is None else rows
        self.done = done


@implementer(IPushProducer, IHalfCloseableProtocol)
class _ControlConnection(TwistedProtocol):
    """See the module. It produces what its transport takes, and no more than that."""

    def __init__(self, factory: ControlFactory) -> None:
        self._factory = factory
        self._clock = factory.clock
        self._lines = Lines(MAX_REQUEST_BYTES)
        self._requests: list[bytes] = []
        self._answer: Answer | None = None
        self._live: Live | None = None
        self._by = ""
        self._input_is_over = False
        self._next: IDelayedCall | None = None
        self._deadline: IDelayedCall | None = None
        self.is_full = False

    def connectionMade(self) -> None:
        """See who it is, and say what is spoken here."""
        assert self.transport is not None
        self._factory.connections.add(self)
        uid = peer_uid(self.transport.socket)  # type: ignore[attr-defined]
        self._by = f"control:{uid}"
        if uid not in (0, os.geteuid()):
            _log.warn("user {uid} is not let in at the control socket", uid=uid)
            self._refuse_all("the control socket is only for the server's own user and root")
        elif len(self._factory.connections) > MOST_CONNECTIONS:
            self._refuse_all(f"there are {MOST_CONNECTIONS} connections to the control socket already")
        else:
            self.transport.registerProducer(self, True)  # type: ignore[attr-defined]
            self._write({"control": "chatproto", "version": VERSION, "server": __version__})
            self._wait_for(IDLE_S)

    def dataReceived(self, data: bytes) -> None:
        """Take requests in, in any cut."""
        if self._input_is_over:
            return
        try:
            self._requests += self._lines.receive(data)
        except NotALine as refusal:
            self._refuse_all(str(refusal))
            return
        if sum(map(len, self._requests)) + len(self._requests) > 2 * MAX_REQUEST_BYTES:
            self._refuse_all("that is too much at once")
            return
        self._take_up()

    def readConnectionLost(self) -> None:
        """Nothing more is asked for; what was is answered (IHalfCloseableProtocol)."""
        if not self._input_is_over:
            self._input_is_over = True
            self._take_up()
            if self._live is not None:
                self._look_for_peer()

    def writeConnectionLost(self) -> None:
        """Nothing more can be said (IHalfCloseableProtocol)."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nobody is there any more."""
        self._factory.connections.discard(self)
        self._stop()
        self.transport = None
        self._factory.connection_gone()

    # --- what is answered ---------------------------------------------------------------------------------

    def _take_up(self) -> None:
        """Answer the next request, when the last is answered and that was read."""
        if self._answer is not None or self._next is not None or self.is_full:
            return
        if self._requests:
            line = self._requests.pop(0)
            self._wait_for(IDLE_S)
            try:
                self._answer = self._factory.answer(object_of(line), self._by)
            except (NotALine, NotDone) as refusal:
                self._write({"refused": str(refusal)})
                self._finished()
            except Exception:
                self._failed(Failure())
                self._finished()
            else:
                self._go_on()
        elif self._input_is_over:
            self._close(IDLE_S)

    def _go_on(self) -> None:
        """Send some more of the answer, if the peer reads it."""
        self._next = None
        answer = self._answer
        if answer is None or self.is_full or self.transport is None:
            return
        try:
            looked_at = list(islice(answer.rows, ROWS_PER_TURN))
        except Exception:
            self._failed(Failure())
            self._finished()
            return
        self.give([row for row in looked_at if row is not None])
        if looked_at:
            self._wait_for(IDLE_S)
            if not self.is_full:
                self._next = self._clock.callLater(0, self._go_on)
        elif isinstance(answer.done, dict):
            self._write({"done": answer.done})
            self._finished()
        else:
            self._wait_for_ever()
            if isinstance(answer.done, Deferred):
                answer.done.addCallbacks(self._was_done, self._was_not_done)
            else:
                self._live = answer.done(self)
                if self._input_is_over:
                    self._wait_for(LOOK_EVERY_S)

    def _was_done(self, done: Row) -> None:
        if self._answer is not None:  # else it is over meanwhile
            self._write({"done": done})
            self._finished()

    def _was_not_done(self, failure: Failure) -> None:
        if self._answer is not None:
            if isinstance(failure.value, NotDone):
                self._write({"refused": str(failure.value)})
            else:
                self._failed(failure)
            self._finished()

    def _failed(self, failure: Failure) -> None:
        _log.failure("what was asked for over the control socket could not be answered", failure)
        self._write({"refused": "that went wrong; the server's log says how"})

    def _finished(self) -> None:
        """The answer is out: the next, but not at once."""
        self._answer = self._live = None
        self._wait_for(IDLE_S)
        self._next = self._clock.callLater(0, self._take_up_later)

    def _take_up_later(self) -> None:
        self._next = None
        self._take_up()

    # --- for what goes on ---------------------------------------------------------------------------------

    def give(self, rows: list[Row]) -> None:
        """Send rows."""
        if rows and self.transport is not None:
            self.transport.write(b"".join(line_of({"row": row}) for row in rows))

    def finish(self, sentence: str) -> None:
        """It has ended by itself."""
        self._was_done({"text": sentence})

    # --- the transport ------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """The peer does not read (IPushProducer)."""
        self.is_full = True

    def resumeProducing(self) -> None:
        """It does (IPushProducer)."""
        self.is_full = False
        # Else it is something that takes its time.
        if self._deadline is not None and self._next is None and self._live is None:
            self._wait_for(IDLE_S)
            go_on = self._take_up_later if self._answer is None else self._go_on
            self._next = self._clock.callLater(0, go_on)

    def stopProducing(self) -> None:
        """It is gone (IProducer), as `connectionLost` says too."""

    def _write(self, found: Row) -> None:
        assert self.transport is not None
        self.transport.write(line_of(found))

    def _refuse_all(self, sentence: str) -> None:
        self._write({"refused": sentence})
        self._close(CLOSE_TIMEOUT_S)

    def _close(self, timeout_s: float) -> None:
        assert self.transport is not None
        self._stop()
        self._input_is_over = True
        self._requests = []
        self.transport.unregisterProducer()  # type: ignore[attr-defined]
        self.transport.loseConnection()
        self._wait_for(timeout_s)

    def end(self, sentence: str) -> None:
        """The server has ended: say so, unless that was waited for and is said already."""
        if self._answer is not None:
            self._write({"refused": sentence})
        self._close(CLOSE_TIMEOUT_S)

    def _stop(self) -> None:
        live, self._live, self._answer = self._live, None, None
        if live is not None:
            live.stop()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._wait_for_ever()

    def _wait_for(self, timeout_s: float) -> None:
        if self._deadline is not None:
            self._deadline.reset(timeout_s)
        else:
            self._deadline = self._clock.callLater(timeout_s, self._waited_too_long)

    def _wait_for_ever(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _waited_too_long(self) -> None:
        self._deadline = None
        if self._live is not None:
            self._look_for_peer()
        elif self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    def _look_for_peer(self) -> None:
        """See whether who has shut their side is there at all: the reactor does not say when they go."""
        assert self.transport is not None
        if _has_hung_up(self.transport.socket):  # type: ignore[attr-defined]
            self.transport.abortConnection()  # type: ignore[attr-defined]
        else:
            self._wait_for(LOOK_EVERY_S)


def _has_hung_up(connected: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connected, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


class ControlFactory(Factory[_ControlConnection]):
    """Lets those in who may ask: root, and whoever the server runs as. *answer* is what a request comes to.

    *answer* is given the request, and who asks as the audit log has it. It raises NotDone.
    """

    noisy = False

    def __init__(self, clock: IReactorTime, answer: Callable[[dict[str, Any], str], Answer]) -> None:
        self.clock = clock
        self.answer = answer
        self.connections: set[_ControlConnection] = set()
        self._emptied: Deferred[None] | None = None

    def buildProtocol(self, addr: object) -> _ControlConnection:
        """One more."""
        return _ControlConnection(self)

    def logPrefix(self) -> str:
        """As what Twisted's log has it."""
        return "control socket"

    def close(self) -> Deferred[None]:
        """Tell everybody that the server has ended. Fires when they are gone, within a second."""
        emptied: Deferred[None] = Deferred()
        self._emptied = emptied
        for connection in list(self.connections):
            connection.end("the server has ended")
        self.connection_gone()
        return emptied

    def connection_gone(self) -> None:
        """One less."""
        if not self.connections and self._emptied is not None:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

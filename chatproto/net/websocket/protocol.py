"""The Twisted protocol under a WebSocket: bytes in, pausing, liveness, and the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
    ITransport,
)
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from chatproto.net.sendqueue import SendQueue
from chatproto.net.sockets import carrier_socket, plain_socket, tune
from chatproto.net.websocket.interfaces import WebSocketProtocol, ended
from chatproto.net.websocket.passage import BEHIND, Passage
from chatproto.wire.closing import CloseCode
from chatproto.wire.connection import End, State, WebSocketConnection
from chatproto.wire.deflate import Deflate
from chatproto.wire.handshake import Request
from chatproto.wire.messages import Side

if TYPE_CHECKING:
    from chatproto.net.websocket.connections import Connections

__all__ = ["WireProtocol"]

# Why nothing is read from the peer, as bits, beside BEHIND.
ASKED = 1  # the application wants it so
_FULL = 2  # the peer does not take what it is sent
_UNDECIDED = 8  # much has come behind an opening handshake that is not decided on

_log = Logger(namespace="chatproto.net.websocket")


@implementer(IProtocol, IHalfCloseableProtocol)
class WireProtocol(Passage):
    """What the transport below a WebSocket calls; `WebSocketTransport` adds what its application does."""

    __slots__ = (
        "__weakref__",
        "_has_input",
        "_input_has_ended",
        "_is_broken",
        "_is_ending",
        "_lost",
        "_producer",
        "_progress_bytes",
        "_transport",
        "_was_behind",
        "deadline_tick",
        "request",
        "subprotocol",
    )

    def __init__(self, connections: Connections, side: Side) -> None:
        limits = connections.limits
        self._connections = connections
        self._transport: ITransport | None = None
        self._connection = WebSocketConnection(
            side, self._write, limits.max_message_bytes, limits.max_frame_bytes or None, defers_ending=True
        )
        self._high_water_bytes = limits.max_queued_bytes // 2
        self._has_input = True  # the peer has not shut its side
        self._input_has_ended = False  # and the application has been told
        self._is_ending = False  # there is a deadline for that
        self._is_broken = False  # and for that
        self._lost: Failure | None = None  # what the transport below has ended with
        self._producer: IPushProducer | None = None
        self._progress_bytes = 0  # how far the peer was at the last look
        self._was_behind = False  # and whether something had not reached it
        self.deadline_tick = 0
        self.request: Request | None = None
        """What the client asked for; None in a client."""
        self.subprotocol: str | None = None
        """What was agreed on."""

    # --- for the opening ----------------------------------------------------------------------------------

    def makeConnection(self, transport: ITransport) -> None:
        """There is a transport (IProtocol)."""
        self._transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        """Begin with the opening handshake (IProtocol)."""
        connections, transport = self._connections, self._transport
        assert transport is not None
        tune(transport, connections.limits.stall_timeout_s)
        self.queue = SendQueue(
            transport,
            self,
            connections.turn,
            None,
            connections.limits.max_queued_bytes,
            plain_socket(transport),
            carrier_socket(transport),
        )
        connections.add(self)
        if self.opening is not None:
            self.opening.begin()

    @property
    def is_secure(self) -> bool:
        """Whether the peer speaks TLS with this side."""
        return ISSLTransport.providedBy(self._transport)

    @property
    def is_handshaking(self) -> bool:
        """Whether the opening handshake is not over, and can still succeed."""
        return (
            self._connection.state is State.HANDSHAKING and self._transport is not None and not self._silenced
        )

    def hold(self) -> None:
        """Read nothing more until it is decided whether there will be a WebSocket."""
        self._pause(_UNDECIDED)

    def refuse(self, answer: bytes) -> None:
        """The opening handshake failed: send *answer*, and close (a server)."""
        self.opening = None
        self._connection.refused()
        self.queue.write(answer)
        self._begin_closing()

    def open(
        self,
        subprotocol: str | None,
        deflate: Deflate | None,
        content: Callable[[Any], str | bytes] | None,
        rest: bytes,
        max_message_bytes: int | None = None,
    ) -> None:
        """The opening handshake is over, with what was agreed on; *rest* came behind it."""
        application = self._application
        assert application is not None
        self.opening = None
        if max_message_bytes is not None:
            self._connection.max_message_bytes = max_message_bytes
        self._connection.accepted(deflate)
        self._inflates = deflate is not None
        self._sends_plainly = deflate is None and self._connection.side is Side.SERVER
        self.subprotocol = subprotocol
        self.queue.form = self._connection.shared_form(content)
        self._content = content
        self._connections.heartbeat(self)
        self._resume(_UNDECIDED)
        if self._paused and self._transport is not None:
            self._transport.pauseProducing()  # type: ignore[attr-defined]
        try:
            application.negotiationFinished()
        except Exception:
            self._application_raised("negotiationFinished")
        if rest:
            self.dataReceived(rest)

    def _write(self, data: bytes) -> None:
        self.queue.write(data)

    # --- from the transport -------------------------------------------------------------------------------

    def _application_raised(self, where: str) -> None:
        """It is not the peer's fault, but there is nobody any more to talk to."""
        _log.failure("the application of a WebSocket raised: {where}", where=where)
        self._silenced = True
        if self._connection.state is State.OPEN:  # else it ends as it is going to
            self._connection.fail(CloseCode.INTERNAL_ERROR, "the application failed")
            self._begin_closing()

    def _peer_ended(self) -> None:
        """The peer has ended it, and what came before that is delivered, or waits for its turn."""
        ending = self._connection.ending
        if ending is not None and not (self._pending or self._paused or self._input_has_ended):
            self._end_input(ending)

    def _own_method(self, name: str) -> Callable[..., object] | None:
        """A method that the application need not have; None where it has none of its own.

        What those of `WebSocketProtocol` do is done without them: they only work where its
        `negotiationStarted` was called.
        """
        method: Callable[..., object] | None = getattr(self._application, name, None)
        is_own = getattr(method, "__func__", None) is not getattr(WebSocketProtocol, name)
        return method if is_own else None

    def _end_input(self, end: End) -> None:
        """Nothing more comes, and *end* is why: the application may have last words, and closes then."""
        told = self._own_method("inputEnded")
        if told is not None and not (self._silenced or self._input_has_ended):
            self._input_has_ended = True
            self._connections.deadlines.set(self, self._connections.limits.stall_timeout_s)
            try:
                told(end)
            except Exception:
                self._application_raised("inputEnded")
            return
        self._connection.conclude()
        self._begin_closing()

    # --- pausing ------------------------------------------------------------------------------------------

    def _pause(self, why: int) -> None:
        if self._lost is not None and why != BEHIND:
            return  # what had come is delivered, and it is over
        if not self._paused and self._transport is not None:
            self._transport.pauseProducing()  # type: ignore[attr-defined]
        self._paused |= why

    def _resume(self, why: int) -> None:
        if not self._paused & why:
            return
        self._paused &= ~why
        if self._paused or self._transport is None:
            return
        if self._pending or self._unread or (self._connection.ending and not self._input_has_ended):
            # Whoever resumes may be in the middle of something: what waits is delivered in another turn.
            self._paused = BEHIND
            self._connections.clock.callLater(0, self._go_on)
        else:
            self._read_on()

    def _go_on(self) -> None:
        """Another turn for what has come, and has not been delivered."""
        if not self._paused & BEHIND:
            return
        self._paused &= ~BEHIND
        if not self._paused:
            self._work()
            if not self._paused:
                self._read_on()
        if self._lost is not None:
            self._end(self._lost)

    def _read_on(self) -> None:
        if self._has_input and self._transport is not None:
            self._transport.resumeProducing()  # type: ignore[attr-defined]

    def _fill(self) -> None:
        """Much waits for the peer: see whether it is too much."""
        queue = self.queue
        queue.flush()  # a burst within one turn is no slow reader
        if queue.queued_bytes <= self._high_water_bytes or self._connection.state is not State.OPEN:
            return
        if self._filled:
            if queue.queued_bytes > queue.max_queued_bytes:
                self.breakConnection(f"more than {queue.max_queued_bytes} bytes wait for it")
            return
        self._filled = True
        self._pause(_FULL)
        queue.notify()
        self._tell_of_the_queue("pauseProducing", "sendQueueFilled")

    def queueDrained(self) -> None:
        """Nothing waits any more (SendQueue's owner)."""
        self._filled = False
        self._resume(_FULL)
        if self._connection.state is State.OPEN:
            self._tell_of_the_queue("sendQueueDrained", "resumeProducing")

    def _tell_of_the_queue(self, *names: str) -> None:
        """Tell the application, or its producer, whoever has a method of that name."""
        is_filled = self._filled
        for name in names:
            listener = self._producer if name.endswith("Producing") else self._application
            told = getattr(listener, name, None)
            # Who is told that it is drained may fill it again, which the others then know already.
            if told is not None and self._filled is is_filled:
                try:
                    told()
                except Exception:
                    self._application_raised(name)

    def queueStalled(self) -> None:
        """The peer takes nothing (SendQueue's owner)."""
        if self._is_ending:
            return  # there is a deadline, and until then the last words may still be taken
        stalled = self._own_method("sendQueueStalled")
        if stalled is None or self._connection.state is not State.OPEN:
            self.breakConnection("the peer takes nothing any more")
            return
        try:
            stalled()
        except Exception:
            self._application_raised("sendQueueStalled")

    def queueBroken(self) -> None:
        """The peer is gone (SendQueue's owner). What it sent before is delivered, for so long at most."""
        if self.opening is None and not self._is_ending:
            self._is_broken = True
            self._connections.deadlines.set(self, self._connections.limits.close_timeout_s)

    # --- liveness -----------------------------------------------------------------------------------------

    def deadlinePassed(self) -> None:
        """The peer had the time for its handshake, its pong, or its part of the closing (Deadlines)."""
        if self.opening is not None:
            self.opening.timed_out()
        elif self._is_broken or self._connection.state is not State.OPEN:
            self.abortConnection()
        elif self._connection.ending is not None and self._input_has_ended:
            self._end_input(self._connection.ending)
        else:
            self._look_for_life()

    def _look_for_life(self) -> None:
        """Ping, or see whether anything came since the last ping."""
        connections, queue = self._connections, self.queue
        limits, clock = connections.limits, connections.clock
        in_s = limits.pong_timeout_s
        was_behind, self._was_behind = self._was_behind, queue.undelivered_bytes > 0
        had_bytes, self._progress_bytes = self._progress_bytes, queue.delivered_bytes
        # On a slow line the ping may still be on its way, or have arrived just now.
        is_slow = (was_behind or self._was_behind) and had_bytes != self._progress_bytes
        if self._ping is None:
            if not queue.blocked:  # else it takes what waits, or the queue says that it has stalled
                self._ping = connections.ping_payload(), clock.seconds()
                self._heard = False
                self._connection.ping(self._ping[0])
        elif self._heard:
            in_s = max(0.0, self._ping[1] + limits.ping_interval_s - clock.seconds())
            self._ping = None
        elif not (self._paused or queue.blocked or is_slow):
            # The pong may be there already, and this process have stood still. It is read in this turn.
            clock.callLater(0, self._declare_dead, self._ping)
            return
        # else: what is not read can be no pong, and a peer that takes nothing is found by the queue, which
        # gives it more time
        connections.deadlines.set(self, in_s)

    def _declare_dead(self, ping: tuple[bytes, float]) -> None:
        """Nothing came since *ping*, unless something has come in the last turn."""
        connection = self._connection
        is_over = self._transport is None or connection.state is not State.OPEN
        if is_over or self._ping is not ping or connection.ending is not None:
            return
        if self._heard:
            self._look_for_life()
            return
        reason = f"no pong within {self._connections.limits.pong_timeout_s:g} s"
        connection.ending = End(CloseCode.INTERNAL_ERROR, reason, False)
        self._end_input(connection.ending)

    # --- the end ------------------------------------------------------------------------------------------

    def loseConnection(self, code: int | None = CloseCode.NORMAL, reason: str = "") -> None:
        """Close with *code* and *reason* (at most 123 bytes of UTF-8) once everything is sent.

        Raises ValueError for a code that never travels and a reason that is too long. No message is delivered
        from here on. Before `negotiationFinished` there is nothing to close: the connection is dropped.
        """
        connection = self._connection
        if connection.state is State.HANDSHAKING:
            self.abortConnection()
            return
        was_open = connection.state is State.OPEN
        connection.close(code, reason)
        self._silenced = True
        if was_open:
            self._begin_closing()

    def abortConnection(self) -> None:
        """Drop the connection at once, without a word."""
        self._silenced = True
        self._pending = self._unread = None
        if self._transport is not None:
            self._transport.abortConnection()  # type: ignore[attr-defined]

    def breakConnection(self, reason: str, code: int = CloseCode.POLICY) -> None:
        """Drop a connection whose peer takes nothing; `connectionLost` is told *code* and *reason*."""
        self._connection.fail(code, reason)
        self.abortConnection()

    def _begin_closing(self) -> None:
        """The connection is closing, or even over: see it to its end, within `close_timeout_s`."""
        if self._transport is None:
            return
        if not self._is_ending:
            self._is_ending = True
            self._connections.deadlines.set(self, self._connections.limits.close_timeout_s)
        if self._paused & ~BEHIND:
            # What comes is read, and thrown away but for the close frame: to close a socket with unread input
            # would reset the connection, and take the last words from the peer.
            self._paused &= BEHIND
            if not self._paused:
                self._read_on()
                if self._pending or self._unread:
                    self._work()
        if self._connection.is_over:
            self.queue.close()

    def queueFlushed(self) -> None:
        """The last byte is sent (SendQueue's owner)."""
        transport = self._transport
        if transport is None:
            return
        if self._connection.side is Side.CLIENT and self._connection.end.is_clean and self._has_input:
            return  # the server drops the connection first (RFC 6455, section 7.1.1)
        if self._has_input and ITCPTransport.providedBy(transport) and not self.is_secure:
            transport.loseWriteConnection()
        else:
            transport.loseConnection()

    def readConnectionLost(self) -> None:
        """The peer sends nothing more (IHalfCloseableProtocol), which no WebSocket can live with."""
        self._has_input = False
        transport = self._transport
        if transport is None:
            return
        connection = self._connection
        if (connection.is_over and len(self.queue)) or (connection.ending and not connection.is_over):
            return  # the rest goes out first, the application's last words too; there is a deadline
        transport.unregisterProducer()  # type: ignore[attr-defined]
        self.queue.discard()
        self._begin_closing()
        transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """The end of the output is sent (IHalfCloseableProtocol)."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The transport is gone, whichever way (IProtocol).

        What had come is still delivered, turn by turn; the application then hears of the end.
        """
        self._transport = None
        self._lost = reason
        self.queue.discard()
        self._connection.output_lost()
        self._connections.deadlines.clear(self)
        self._paused &= BEHIND
        if not self._paused:
            self._work()
        self._end(reason)

    def _end(self, reason: Failure) -> None:
        """There is no transport any more: tell everybody, if nothing waits to be delivered."""
        if self._paused & BEHIND:
            return
        connection, connections = self._connection, self._connections
        connection.lost()
        opening, self.opening = self.opening, None
        self._producer, producer = None, self._producer
        application, self._application = self._application, None
        if opening is not None:
            opening.lost(reason)
        try:
            if producer is not None:
                producer.stopProducing()
        except Exception:
            _log.failure("the producer of a WebSocket raised: stopProducing")
        try:
            if application is not None:
                application.connectionLost(Failure(ended(connection.end, reason)))
        except Exception:
            _log.failure("the application of a WebSocket raised: connectionLost")
        connections.remove(self)

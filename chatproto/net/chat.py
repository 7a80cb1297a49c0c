"""What the faces of the chat share: a session, its send queue, and the way to a clean end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.error import TCPTimedOutError, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, ISSLTransport, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from chatproto.net.sendqueue import SendQueue
from chatproto.net.sockets import VANISHED_MS, carrier_socket, plain_socket
from chatproto.rooms.session import Session
from chatproto.wire.messages import Message
from chatproto.wire.prepared import Prepared

if TYPE_CHECKING:
    from chatproto.net.factory import ChatFactory

__all__ = ["ChatProtocol"]


@implementer(IHalfCloseableProtocol)
class ChatProtocol(Protocol):
    """A person's connection: the session's outlet on one side, a Twisted protocol on the other.

    A face sets `form`, which makes bytes of a message, and implements `dataReceived`.
    """

    form: Callable[[Message], bytes]
    session: Session
    publish: Callable[[Prepared], bool]
    drop: Callable[[], dict[Any, int]]
    notify: Callable[[], None]

    def __init__(self, factory: ChatFactory) -> None:
        self.factory = factory
        self._input_is_over = False
        self._flushed = False
        self._only_reads = False
        self._closing: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Begin the session."""
        assert self.transport is not None
        factory = self.factory
        self.queue = SendQueue(
            self.transport,
            self,
            factory.turn,
            self.form,
            factory.hub.limits.max_queued_bytes,
            plain_socket(self.transport),
            carrier_socket(self.transport),
        )
        # The hub calls the queue itself, without a Python call between.
        self.publish = self.queue.publish
        self.drop = self.queue.drop
        self.notify = self.queue.notify
        self.session = factory.hub.connect(self)
        factory.connections.add(self)

    # --- the session's outlet -----------------------------------------------------------------------------

    @property
    def queued_bytes(self) -> int:
        """See `chatproto.rooms.outlet.Outlet`."""
        return self.queue.queued_bytes

    @property
    def max_queued_bytes(self) -> int:
        """See `chatproto.rooms.outlet.Outlet`."""
        return self.queue.max_queued_bytes

    def send(self, message: Message) -> None:
        """See `chatproto.rooms.outlet.Outlet`."""
        self.queue.write(self.form(message))

    def pause(self) -> None:
        """Stop reading."""
        if self.transport is not None and not self._input_is_over:
            self.transport.pauseProducing()  # type: ignore[attr-defined]

    def resume(self) -> None:
        """Read again."""
        if self.transport is not None and not self._input_is_over:
            self.transport.resumeProducing()  # type: ignore[attr-defined]

    def finish(self) -> None:
        """Close once everything is sent, or when that takes too long."""
        if self.transport is None or self._closing is not None:
            return
        self._closing = self.factory.hub.clock.callLater(
            self.factory.hub.limits.close_timeout_s, self._close_timed_out
        )
        # What still comes is read and thrown away: closing a socket with unread input would reset the
        # connection, and take the last words from the peer.
        self.resume()
        self.queue.close()

    # --- the queue's owner --------------------------------------------------------------------------------

    def queueDrained(self) -> None:
        """Nothing waits any more."""
        self.session.drained()

    def queueStalled(self) -> None:
        """The peer takes nothing."""
        self.session.stalled()

    def queueFlushed(self) -> None:
        """The last byte is sent."""
        self._flushed = True
        transport = self.transport
        if transport is None:
            return
        if (
            not self._input_is_over
            and ITCPTransport.providedBy(transport)
            and not ISSLTransport.providedBy(transport)
        ):
            transport.loseWriteConnection()
        else:
            transport.loseConnection()

    def _close_timed_out(self) -> None:
        if self.transport is not None:
            if self._only_reads:
                self.transport.loseConnection()
            else:
                # Not everything is sent, the end of the output included, or TLS waits for the peer's goodbye.
                self.transport.abortConnection()  # type: ignore[attr-defined]

    # --- Twisted ------------------------------------------------------------------------------------------

    def readConnectionLost(self) -> None:
        """The peer sends nothing more, but may still read (IHalfCloseableProtocol)."""
        self._input_is_over = True
        if self._flushed and self.transport is not None:
            self.transport.loseConnection()
        else:
            self.session.finish_input()

    def writeConnectionLost(self) -> None:
        """The end of the output is sent (IHalfCloseableProtocol)."""
        self._only_reads = True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, whichever way."""
        self.transport = None
        self.queue.discard()
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        self.factory.connections.discard(self)
        # Twisted keeps to itself why the kernel gave a connection up, so its silence has to tell.
        has_vanished = self.queue.peer_silence_ms >= VANISHED_MS
        timed_out = has_vanished or reason.check(TimeoutError, TCPTimedOutError)
        self.session.lost("timeout" if timed_out else "closed")

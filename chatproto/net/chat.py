"""What the faces on a plain stream share: how the connection begins, and the way to a clean end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, ISSLTransport, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from chatproto.net.face import Face
from chatproto.net.sendqueue import SendQueue
from chatproto.net.sockets import carrier_socket, plain_socket

if TYPE_CHECKING:
    from chatproto.net.factory import ChatFactory

__all__ = ["ChatProtocol"]


@implementer(IHalfCloseableProtocol)
class ChatProtocol(Face, Protocol):
    """A person's connection over a stream: a protocol of Twisted's. Subclasses implement `dataReceived`."""

    def __init__(self, factory: ChatFactory) -> None:
        super().__init__(factory.hub, factory.connections)
        self.factory = factory
        self._input_is_over = False
        self._flushed = False
        self._only_reads = False
        self._closing: IDelayedCall | None = None
        self._breaking: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Begin the session."""
        assert self.transport is not None
        queue = SendQueue(
            self.transport,
            self,
            self.factory.turn,
            self.form,
            self.hub.limits.max_queued_bytes,
            plain_socket(self.transport),
            carrier_socket(self.transport),
        )
        self.begin(queue)

    # --- the session's outlet -----------------------------------------------------------------------------

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
        self._closing = self.hub.clock.callLater(self.hub.limits.close_timeout_s, self._close_timed_out)
        # What still comes is read and thrown away: closing a socket with unread input would reset the
        # connection, and take the last words from the peer.
        self.resume()
        self.queue.close()

    def cut(self) -> None:
        """Drop the connection at once."""
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    # --- the queue's owner --------------------------------------------------------------------------------

    def queueDrained(self) -> None:
        """Nothing waits any more."""
        self.session.drained()

    def queueStalled(self) -> None:
        """The peer takes nothing."""
        self.session.stalled()

    def queueBroken(self) -> None:
        """The peer is gone. What it said before takes effect, but nobody waits for what would take long."""
        self._breaking = self.hub.clock.callLater(self.hub.limits.close_timeout_s, self.cut)

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
        for deadline in (self._closing, self._breaking):
            if deadline is not None and deadline.active():
                deadline.cancel()
        self.end(reason.value)

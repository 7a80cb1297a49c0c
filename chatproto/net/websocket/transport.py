"""One WebSocket connection as its application has it: what it sends by, and how many are sent to at once."""

from __future__ import annotations

from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.logger import Logger

from chatproto.net.websocket.interfaces import Application
from chatproto.net.websocket.protocol import ASKED, WireProtocol
from chatproto.wire.connection import State
from chatproto.wire.http import Refusal
from chatproto.wire.messages import Side

__all__ = ["WebSocketTransport"]

_log = Logger(namespace="chatproto.net.websocket")


class WebSocketTransport(WireProtocol):
    """What an application sends by; `negotiationStarted` is given it.

    It has the methods of `twisted.web.websocket.WebSocketTransport`. Sending is without effect once the
    connection is closing, and raises RuntimeError before `negotiationFinished`.

    What waits for the peer is bounded by `max_queued_bytes`. Past half of that the application is told
    (`sendQueueFilled`, or its producer is paused) and nothing more is read from the peer until all of it is
    out; past the whole the connection is broken as too slow.
    """

    __slots__ = ()

    def start(self, application: Application) -> bool:
        """There is an *application*, which hears of everything from here on. False if it wants none of it.

        A client is told what its application raises, a server's is logged and the request refused.
        """
        self._application = application
        try:
            application.negotiationStarted(self)
        except Exception:
            if self._connection.side is Side.CLIENT:
                self.abortConnection()
                raise
            _log.failure("the application of a WebSocket raised: negotiationStarted")
            self.refuse(Refusal(500).encode())
        return self.is_handshaking

    # --- for the application: sending ---------------------------------------------------------------------

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping, with at most 125 bytes; the answer goes to `pongReceived`."""
        self._connection.ping(payload)
        if self.queue.queued_bytes > self._high_water_bytes:
            self._fill()

    @property
    def queued_bytes(self) -> int:
        """What waits for the peer, with a fixed cost for each message."""
        return self.queue.queued_bytes

    def attachProducer(self, producer: IPushProducer) -> None:
        """Have *producer* paused while the send queue is more than half full.

        Raises RuntimeError where there is one already.
        """
        if self._producer is not None:
            raise RuntimeError(f"{self._producer!r} is attached already")
        if self._transport is None:
            producer.stopProducing()
            return
        self._producer = producer
        if self._filled:
            producer.pauseProducing()

    def detachProducer(self) -> None:
        """Forget the producer."""
        self._producer = None

    # --- for the application: reading, facts -----------------------------------------------------

    def pauseProducing(self) -> None:
        """Read nothing more from the peer for now, and deliver nothing; before it is open, from then on.

        Not for long: what is not read can be no pong, so the peer is taken to be alive meanwhile. Where the
        connection is lost all the same, what had come is delivered before `connectionLost`.
        """
        if self._connection.state is State.OPEN:
            self._pause(ASKED)
        elif self.is_handshaking:
            self._paused |= ASKED  # the rest of the handshake is read all the same

    def resumeProducing(self) -> None:
        """Read again; what had come before is delivered first, but not at once."""
        self._resume(ASKED)

    def getPeer(self) -> IAddress | None:
        """The address of the peer; None once the connection is gone."""
        return None if self._transport is None else self._transport.getPeer()

    def getHost(self) -> IAddress | None:
        """The address of this side; None once the connection is gone."""
        return None if self._transport is None else self._transport.getHost()

"""One WebSocket connection as its application has it: what it sends by, and how many are sent to at once."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.logger import Logger

from chatproto.net.websocket.interfaces import Application
from chatproto.net.websocket.protocol import ASKED, WireProtocol
from chatproto.wire.connection import State
from chatproto.wire.http import Refusal
from chatproto.wire.messages import Side
from chatproto.wire.prepared import Prepared

__all__ = ["WebSocketTransport", "broadcast"]

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

    def sendTextMessage(self, text: str) -> None:
        """Send a text message. Raises UnicodeEncodeError for half a surrogate pair."""
        if not isinstance(text, str):
            raise TypeError(f"a text message is a str, not {type(text).__name__}")
        self._connection.send(text)
        if self.queue.queued_bytes > self._high_water_bytes:
            self._fill()

    def sendBytesMessage(self, data: bytes | bytearray | memoryview) -> None:
        """Send a binary message. Bytes are not copied; what can change is."""
        if isinstance(data, str):
            raise TypeError("a binary message is bytes, not str")
        self._connection.send(data)
        if self.queue.queued_bytes > self._high_water_bytes:
            self._fill()

    def send(self, message: Prepared) -> None:
        """Send what many are sent; it is encoded, and compressed, once for all of a class (`broadcast`)."""
        queue, connection = self.queue, self._connection
        if connection.state is not State.OPEN:
            connection.send(message.source)  # which is without effect, or too early
        elif queue.form is not None:
            queue.write(message.encoded(queue.form))
        else:
            connection.send(message.source if self._content is None else self._content(message.source))
        if queue.queued_bytes > self._high_water_bytes:
            self._fill()

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


def broadcast(transports: Iterable[WebSocketTransport], message: Prepared | str | bytes) -> None:
    """Send *message* to all of *transports*; it is encoded once for each class of them, and compressed once.

    It waits for nobody: it goes out at the end of the reactor's turn, and a connection that takes too little
    of it is broken as too slow, by itself. One whose opening handshake is not over is left out.
    """
    prepared = message if isinstance(message, Prepared) else Prepared(message)
    for transport in list(transports):
        if transport.is_open:
            transport.send(prepared)

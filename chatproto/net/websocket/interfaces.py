"""What the layer and an application say to each other: the names of `twisted.web.websocket`, and more."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from chatproto.wire.connection import End
from chatproto.wire.handshake import Request
from chatproto.wire.http import Refusal

if TYPE_CHECKING:
    from chatproto.net.websocket.transport import WebSocketTransport

__all__ = [
    "Acceptable",
    "Accepted",
    "Application",
    "ClientFactory",
    "ConnectionBroken",
    "ConnectionClosed",
    "Opening",
    "Refused",
    "ServerFactory",
    "WebSocketProtocol",
    "ended",
]


class Application(Protocol):
    """One connection's application, as `twisted.web.websocket.WebSocketProtocol` has it.

    What `WebSocketProtocol` has beyond that is called where it is there.
    """

    def negotiationStarted(self, transport: WebSocketTransport) -> None:
        """There is a connection; nothing can be sent yet."""

    def negotiationFinished(self) -> None:
        """The opening handshake is over: messages may be sent, and will come."""

    def textMessageReceived(self, message: str) -> None:
        """A text message came."""

    def bytesMessageReceived(self, data: bytes) -> None:
        """A binary message came."""

    def pongReceived(self, payload: bytes) -> None:
        """An answer to a `ping` came, or a pong that nobody asked for; those to the layer's own do not."""

    def connectionLost(self, reason: Failure) -> None:
        """It is over; `reason.value` is a `ConnectionClosed` or a `ConnectionBroken`. Called once."""


class WebSocketProtocol:
    """An application that does nothing, to begin with; override what is of interest."""

    transport: WebSocketTransport

    def negotiationStarted(self, transport: WebSocketTransport) -> None:
        """There is a connection; nothing can be sent yet."""
        self.transport = transport

    def negotiationFinished(self) -> None:
        """The opening handshake is over: messages may be sent, and will come."""

    def textMessageReceived(self, message: str) -> None:
        """A text message came."""

    def bytesMessageReceived(self, data: bytes) -> None:
        """A binary message came."""

    def pongReceived(self, payload: bytes) -> None:
        """An answer to a `ping` came, or a pong that nobody asked for; those to the layer's own do not."""

    def sendQueueFilled(self) -> None:
        """More than half of `max_queued_bytes` waits for the peer: time to send less, until it is drained.

        Past `max_queued_bytes` the connection is broken as too slow.
        """

    def sendQueueDrained(self) -> None:
        """After `sendQueueFilled`: nothing waits any more."""

    def sendQueueStalled(self) -> None:
        """The peer has taken nothing for `stall_timeout_s`. The connection is broken, unless overridden."""
        self.transport.breakConnection("the peer takes nothing any more")

    def inputEnded(self, end: End) -> None:
        """Nothing more comes, and last words may be said. Closes the connection, as `loseConnection` does.

        `end.code` and `end.reason` are those of the peer's close frame where `end.is_clean`, and else what
        the connection is going to be failed with: 1002, 1007 or 1009 for a fault of the peer's, 1011 where no
        pong came. Override it to close later; the code that goes out stays the one that this calls for.
        """
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        """It is over; `reason.value` is a `ConnectionClosed` or a `ConnectionBroken`. Called once."""


class _Ended(Exception):
    """A connection that ended: `code` and `reason` as in `chatproto.wire.connection.End`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.code} {self.reason}".rstrip()


class ConnectionClosed(_Ended, ConnectionDone):
    """The closing handshake was completed: `code` and `reason` are the peer's (1005 where it gave none)."""


class ConnectionBroken(_Ended, ConnectionLost):
    """It ended without a closing handshake.

    `code` is 1006 where it was just gone, and else the one that this side failed it with: 1002, 1007 and 1009
    for faults of the peer's, 1008 where it was too slow, 1011 where no pong came or the application raised.
    """


def ended(end: End, reason: Failure) -> ConnectionClosed | ConnectionBroken:
    """What `connectionLost` is told of *end*; *reason* is that of the transport below."""
    if end.is_clean:
        return ConnectionClosed(end.code, end.reason)
    broken = ConnectionBroken(end.code, end.reason)
    broken.__cause__ = reason.value
    return broken


class Refused(Exception):
    """Raised by a server's `buildProtocol`: there will be no WebSocket.

    *status* is that of the HTTP answer, *body* its text, *headers* go with it.

    Raises ValueError for what is no answer.
    """

    def __init__(self, status: int = 403, body: str = "", headers: Sequence[tuple[str, str]] = ()) -> None:
        self.refusal = Refusal(status, body, tuple(headers))
        super().__init__(f"{status} {body}".strip())


@dataclass(frozen=True, slots=True)
class Accepted:
    """Returned by a server's `buildProtocol` where there is more to say than which *protocol* it is.

    *subprotocol* is one of `request.subprotocols`, *headers* go with the answer. *content* makes a str or
    bytes of what a `PreparedMessage` holds, where that is something else. *max_message_bytes* is this
    connection's own bound, where it is not the one of the limits.
    """

    protocol: Application
    subprotocol: str | None = None
    headers: Sequence[tuple[str, str]] = ()
    content: Callable[[Any], str | bytes] | None = None
    max_message_bytes: int | None = None


Acceptable = Application | Accepted | None
"""What a server's `buildProtocol` comes to; None refuses with 403."""


class ServerFactory(Protocol):
    """What a server asks for each request."""

    def buildProtocol(self, request: Request) -> Acceptable | Deferred[Any] | Coroutine[Any, Any, Acceptable]:
        """The application for *request*, now or later. May raise `Refused`."""


class ClientFactory(Protocol):
    """What a client asks for each connection."""

    def buildProtocol(self, url: str) -> Application:
        """The application for the connection to *url*."""


class Opening(Protocol):
    """The opening handshake of one connection, which is forgotten when that is over."""

    def begin(self) -> None:
        """There is a transport."""

    def receive(self, data: bytes) -> None:
        """Bytes came."""

    def timed_out(self) -> None:
        """The peer took too long for its part."""

    def lost(self, reason: Failure) -> None:
        """The transport is gone."""

"""What carries the client over WebSocket: an endpoint whose stream is frames, one in each message.

So the client itself needs to know of no difference (docs/protocol.md, section 4, `chat.v1.bin`).
"""

from __future__ import annotations

import re
from typing import Any

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.python.failure import Failure
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from chatproto.client.outcomes import CannotConnect
from chatproto.limits import WebSocketLimits
from chatproto.websocket import (
    ConnectionBroken,
    HandshakeFailed,
    WebSocketClientEndpoint,
    WebSocketProtocol,
)

__all__ = ["WebSocketChatEndpoint"]

SUBPROTOCOL = "chat.v1.bin"

LENGTH_BYTES = 4
"""What a frame has in front, and a message has not."""

MOST_BYTES = 2**24 - 1
"""The most that the protocol allows for a frame; the client has a bound of its own."""

LIMITS = WebSocketLimits(
    max_message_bytes=MOST_BYTES,
    max_queued_bytes=2**40,  # the client bounds what waits by what is not acknowledged
    ping_interval_s=0,  # and has pings of its own
)

MOST_RETRY_S = 3_600
"""However long a server wants not to be asked."""

_SECONDS = re.compile(r"[0-9]{1,9}")

MOST_SHOWN_CHARS = 200
"""Of what a server says about a refusal."""


@implementer(IStreamClientEndpoint)
class WebSocketChatEndpoint:
    """The chat behind *url*, `ws://` or `wss://`, as an endpoint for `ChatClient`.

    The certificate is checked as *tls_policy* has it, by default against those that the system trusts.
    `connect` fails with `CannotConnect` where there is a server and no chat. Raises ValueError, with one
    sentence, for what is no URL of a WebSocket.
    """

    def __init__(self, reactor: Any, url: str, tls_policy: IPolicyForHTTPS | None = None) -> None:
        self._endpoint = WebSocketClientEndpoint.new(
            reactor, url, tls_policy, limits=LIMITS, subprotocols=[SUBPROTOCOL]
        )

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Open a WebSocket, and let the protocol that *protocolFactory* builds speak frames on it."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        try:
            stream: _Stream = await self._endpoint.connect(_Streams(factory))
        except (HandshakeFailed, SSL.Error, VerificationError, ConnectionClosed, TimeoutError) as error:
            raise CannotConnect(_sentence(error), _retry_s(error)) from error
        if stream.protocol is None:
            stream.loseConnection()
            raise CannotConnect(f"there is a WebSocket, and no chat: it does not speak {SUBPROTOCOL}")
        return stream.protocol


class _Streams:
    """Makes the stream for a connection (ClientFactory)."""

    def __init__(self, factory: IProtocolFactory) -> None:
        self._factory = factory

    def buildProtocol(self, url: str) -> _Stream:
        return _Stream(self._factory)


@implementer(ITransport, IPushProducer)
class _Stream(WebSocketProtocol):
    """Frames to the protocol that it is the transport of, messages to the other side."""

    def __init__(self, factory: IProtocolFactory) -> None:
        self.protocol: IProtocol | None = None
        self._factory = factory

    # --- an application of the layer ------------------------------------------------------------------------

    def negotiationFinished(self) -> None:
        """The WebSocket is open; whether it is the chat's, the subprotocol says."""
        if self.transport.subprotocol == SUBPROTOCOL:
            self.protocol = self._factory.buildProtocol(self.transport.getPeer())  # type: ignore[arg-type]
            assert self.protocol is not None
            self.protocol.makeConnection(self)

    def bytesMessageReceived(self, data: bytes) -> None:
        """A frame came, without its length."""
        if self.protocol is not None:
            self.protocol.dataReceived(len(data).to_bytes(LENGTH_BYTES, "big") + data)

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone."""
        protocol, self.protocol = self.protocol, None
        if protocol is None:
            return
        error = reason.value
        if isinstance(error, ConnectionBroken):
            cause = error.__cause__
            reason = Failure(ConnectionLost(error.reason) if error.reason or cause is None else cause)
        protocol.connectionLost(reason)

    # --- the protocol's transport ---------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send one frame."""
        assert int.from_bytes(data[:LENGTH_BYTES], "big") == len(data) - LENGTH_BYTES
        self.transport.sendBytesMessage(data[LENGTH_BYTES:])

    def writeSequence(self, data: Any) -> None:
        """Send frames, one after the other."""
        for frame in data:
            self.write(frame)

    def loseConnection(self) -> None:
        """Close politely."""
        self.transport.loseConnection()

    def abortConnection(self) -> None:
        """Close at once."""
        self.transport.abortConnection()

    def pauseProducing(self) -> None:
        """Read nothing."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read again."""
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """Nothing is wanted any more."""
        self.transport.loseConnection()

    def getPeer(self) -> IAddress | None:  # type: ignore[override]
        """The address of the server; None once the connection is gone."""
        return self.transport.getPeer()

    def getHost(self) -> IAddress | None:  # type: ignore[override]
        """The address of this side; None once the connection is gone."""
        return self.transport.getHost()


def _retry_s(error: Exception) -> float:
    """For how long the server wants no other attempt, where it says so in seconds."""
    said = error.headers.get("Retry-After", "") if isinstance(error, HandshakeFailed) else ""
    return float(min(int(said), MOST_RETRY_S)) if _SECONDS.fullmatch(said) else 0.0


def _sentence(error: Exception) -> str:
    """Why there is no WebSocket."""
    if isinstance(error, HandshakeFailed):
        if error.status in (0, 101):
            return f"there is no WebSocket: {error}"
        said = error.body.decode(errors="replace").strip().partition("\n")[0]
        return f"{error}: {said[:MOST_SHOWN_CHARS]}" if said and said[0] != "<" else str(error)
    if isinstance(error, VerificationError):
        return "its certificate is another server's"
    if isinstance(error, SSL.Error):
        reasons = [entry[-1] for entry in error.args[0]] if error.args and error.args[0] else []
        if "certificate verify failed" in reasons:
            return "its certificate is not trusted"
        return f"TLS failed: {', '.join(reasons) or 'the server closed the connection'}"
    if isinstance(error, ConnectionClosed):
        return "the server closed the connection without an answer"
    return str(error)

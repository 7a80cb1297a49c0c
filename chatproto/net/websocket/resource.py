"""WebSockets within a site of twisted.web."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, ITransport
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from chatproto.limits import WebSocketLimits
from chatproto.net.websocket.accepting import Acceptor, Agreement
from chatproto.net.websocket.connections import Connections
from chatproto.net.websocket.interfaces import ServerFactory
from chatproto.net.websocket.transport import WebSocketTransport
from chatproto.wire.closing import CloseCode
from chatproto.wire.deflate import Deflate
from chatproto.wire.headers import Headers
from chatproto.wire.http import Head, Refusal
from chatproto.wire.messages import Side

__all__ = ["WebSocketResource"]


class WebSocketResource(Resource):
    """A place in a site where WebSockets are opened; the arguments are those of `WebSocketFactory`.

    Behind the opening handshake the connection is this layer's alone: twisted.web has no part in it. Paths
    below its own are its as well; `request.path` tells.
    """

    isLeaf = True

    def __init__(
        self,
        factory: ServerFactory,
        *,
        limits: WebSocketLimits | None = None,
        origins: Collection[str] = (),
        deflate: Deflate | None = None,
        reactor: Any = None,
    ) -> None:
        super().__init__()
        if reactor is None:
            from twisted.internet import reactor
        clock: IReactorTime = reactor
        self.connections = Connections(clock, limits or WebSocketLimits())
        self._acceptor = Acceptor(factory, self.connections, origins, deflate)

    def shut_down(self, code: int = CloseCode.GOING_AWAY, reason: str = "") -> Deferred[None]:
        """Close all connections, and refuse new ones with 503; fires when the last one is gone."""
        return self.connections.shut_down(code, reason)

    def render(self, request: Request) -> int:
        """Answer an opening handshake, whatever its method is."""
        if not isinstance(request.channel, HTTPChannel):
            _respond(request, Refusal(505, "A WebSocket is opened with HTTP/1.1.\n"))
            return NOT_DONE_YET
        fields = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, values in request.requestHeaders.getAllRawHeaders()
            for value in values
        ]
        head = Head(request.method.decode("latin-1"), request.uri.decode("latin-1"), Headers(fields))
        checked = self._acceptor.check(head, request.getClientAddress(), request.isSecure(), 1)
        if isinstance(checked, Refusal):
            _respond(request, checked)
            return NOT_DONE_YET
        deciding = self._acceptor.decide(checked)

        def gone(_: Failure) -> None:
            deciding.cancel()

        request.notifyFinish().addErrback(gone)
        deciding.addCallback(self._decided, request)
        return NOT_DONE_YET

    def _decided(self, outcome: Agreement | Refusal, request: Request) -> None:
        channel = request.channel
        if channel is None or channel.transport is None:
            return  # the client is gone
        if isinstance(outcome, Refusal):
            _respond(request, outcome)
            return
        transport = WebSocketTransport(self.connections, Side.SERVER)
        transport.request = outcome.request
        begun = _take_over(channel, transport)
        if transport.start(outcome.accepted.protocol):
            outcome.open(transport, begun)
            # An earlier answer of the site may still be on its way out.
            transport.queue.follow()


def _take_over(channel: HTTPChannel, transport: WebSocketTransport) -> bytes:
    """Let *transport* have the connection of *channel*; what the channel had read behind the request.

    Twisted's own layer does it with `_protocolUpgradeForWebsockets`, which leaves the channel's producer, its
    timer and what it has read where they are.
    """
    below: ITransport | None = channel.transport
    assert below is not None
    begun = b"".join(channel._dataBuffer)
    channel._dataBuffer = []
    channel.setTimeout(None)
    below.unregisterProducer()  # type: ignore[attr-defined]
    # The channel may be in the middle of its own `dataReceived`, and goes on with the rest in raw mode.
    channel.dataReceived = channel.rawDataReceived = transport.dataReceived  # type: ignore[method-assign]
    channel.connectionLost = transport.connectionLost  # type: ignore[method-assign]
    # The request and its headers would stay as long as the connection.
    channel.requests = []
    transport.makeConnection(below)
    # The channel stops reading while much is read ahead, or while an earlier answer is going out.
    below.resumeProducing()  # type: ignore[attr-defined]
    return begun


def _respond(request: Request, refusal: Refusal) -> None:
    request.setResponseCode(refusal.status)
    for name, value in refusal.headers:
        request.responseHeaders.addRawHeader(name.encode(), value.encode())
    if refusal.body:
        if not request.responseHeaders.hasHeader(b"content-type"):
            request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        request.write(refusal.body.encode(errors="replace"))
    else:
        request.setHeader(b"content-length", b"0")
    request.finish()

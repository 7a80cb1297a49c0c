"""WebSockets within a site of twisted.web."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, ITransport
from twisted.python.failure import Failure
from twisted.web.http import NO_BODY_CODES, HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from chatproto.limits import WebSocketLimits
from chatproto.net.sendqueue import Turn
from chatproto.net.websocket.accepting import Acceptor, Agreement
from chatproto.net.websocket.connections import Connections
from chatproto.net.websocket.interfaces import ServerFactory
from chatproto.net.websocket.transport import WebSocketTransport
from chatproto.wire.closing import CloseCode
from chatproto.wire.deflate import Deflate
from chatproto.wire.handshake import Request as HandshakeRequest
from chatproto.wire.headers import Headers
from chatproto.wire.http import Head, HeadReader, Refusal, parse_request
from chatproto.wire.messages import Side

__all__ = ["WebSocketResource"]


class WebSocketResource(Resource):
    """A place in a site where WebSockets are opened; the arguments are those of `WebSocketFactory`.

    With *turn* they are flushed together with others. Behind the opening handshake the connection is this
    layer's alone: twisted.web has no part in it. Paths below its own are its as well; `request.path` tells.
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
        turn: Turn | None = None,
    ) -> None:
        super().__init__()
        if reactor is None:
            from twisted.internet import reactor
        clock: IReactorTime = reactor
        self.connections = Connections(clock, limits or WebSocketLimits(), turn)
        self._acceptor = Acceptor(factory, self.connections, origins, deflate)

    def renew(self, limits: WebSocketLimits, origins: Collection[str]) -> None:
        """Go by these from now on. What is bounded from a connection's beginning stays as it was for it."""
        self.connections.limits = limits
        self._acceptor.origins = tuple(origins)

    def shut_down(self, code: int = CloseCode.GOING_AWAY, reason: str = "") -> Deferred[None]:
        """Close all connections, and refuse new ones with 503; fires when the last one is gone."""
        return self.connections.shut_down(code, reason)

    def read(self, begun: bytes) -> tuple[Head, bytes] | None:
        """The whole head of a request that *begun* begins with, and what is behind it, to open `straight`."""
        limits = self.connections.limits
        reader = HeadReader(limits.max_handshake_bytes, limits.max_headers)
        head = reader.receive(begun)
        parsed = None if head is None else parse_request(head)
        return (parsed, reader.rest) if isinstance(parsed, Head) else None

    def straight(self, head: Head, rest: bytes, peer: object, is_secure: bool) -> WebSocketTransport | None:
        """What has the connection that begins with *head*, where twisted.web has no part in it yet.

        None where it has to be asked, because it is no handshake, it is refused, or it takes time to decide.
        Once it is connected, give it an empty read.
        """
        request = self._acceptor.check(head, peer, is_secure)
        if isinstance(request, Refusal):
            return None
        deciding = self._acceptor.decide(request)
        if not isinstance(deciding, Agreement):
            if isinstance(deciding, Deferred):
                self._acceptor.abandon(deciding, request)
            return None
        transport = WebSocketTransport(self.connections, Side.SERVER)
        transport.request = request
        transport.opening = _Decided(transport, deciding, rest)
        return transport

    def render(self, request: Request) -> int:
        """Answer an opening handshake, whatever its method is."""
        if not isinstance(request.channel, HTTPChannel) or request.clientproto != b"HTTP/1.1":
            _respond(request, Refusal(505, "A WebSocket is opened with HTTP/1.1.\n"))
            return NOT_DONE_YET
        fields = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, values in request.requestHeaders.getAllRawHeaders()
            for value in values
        ]
        head = Head(request.method.decode("latin-1"), request.uri.decode("latin-1"), Headers(fields))
        limits = self.connections.limits
        n_bytes = sum(len(name) + len(value) + 4 for name, value in fields)  # with colon, blank and CRLF
        checked: HandshakeRequest | Refusal
        if len(fields) > limits.max_headers or n_bytes + len(request.uri) > limits.max_handshake_bytes:
            # The site has read it all, within its own limits. But these are to hold however one comes.
            checked = Refusal(431, "The request's head is too large.\n")
        else:
            checked = self._acceptor.check(head, request.getClientAddress(), request.isSecure())
        if isinstance(checked, Refusal):
            _respond(request, checked)
            return NOT_DONE_YET
        deciding = self._acceptor.decide(checked)
        if not isinstance(deciding, Deferred):
            self._decided(deciding, request)
            return NOT_DONE_YET

        def gone(_: Failure) -> None:
            self._acceptor.abandon(deciding, checked)

        request.notifyFinish().addErrback(gone)
        deciding.addCallback(self._decided, request)
        return NOT_DONE_YET

    def _decided(self, outcome: Agreement | Refusal, request: Request) -> None:
        channel = request.channel
        is_gone = channel is None or channel.transport is None
        if isinstance(outcome, Refusal):
            if not is_gone:
                _respond(request, outcome)
            return
        if is_gone:
            self.connections.give_place(outcome.request)
            return
        transport = WebSocketTransport(self.connections, Side.SERVER)
        transport.request = outcome.request
        begun = _take_over(channel, transport)
        # An earlier answer of the site may still be on its way out, and a large message does not wait for the
        # end of the turn.
        if transport.start(outcome.accepted.protocol):
            outcome.open(transport, begun, is_first=False)
        else:
            transport.queue.follow()


class _Decided:
    """An opening handshake of which nothing is left but the answer."""

    def __init__(self, transport: WebSocketTransport, agreement: Agreement, rest: bytes) -> None:
        self._transport = transport
        self._agreement = agreement
        self._rest = rest

    def begin(self) -> None:
        """There is a transport."""

    def receive(self, data: bytes) -> None:
        """The connection is ready for the answer; *data* was read before."""
        if self._transport.start(self._agreement.accepted.protocol):
            self._agreement.open(self._transport, self._rest)

    def timed_out(self) -> None:
        """Nobody is waited for."""

    def lost(self, reason: Failure) -> None:
        """The client is gone."""


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
    channel.taken_over_by = transport  # type: ignore[attr-defined]  # for a channel that has to know
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
    body = refusal.body.encode(errors="replace")
    if body and not request.responseHeaders.hasHeader(b"content-type"):
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
    if refusal.status not in NO_BODY_CODES:
        # Without it twisted.web would send chunks, which some clients of WebSockets do not read.
        request.setHeader(b"content-length", str(len(body)).encode())
    if body:
        request.write(body)
    request.finish()

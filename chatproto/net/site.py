"""What the port answers over HTTP."""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files
from io import BytesIO
from pathlib import PurePath
from urllib.parse import quote

from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, ISSLTransport, ITransport
from twisted.protocols.basic import LineReceiver
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from zope.interface import implementer

from chatproto.net.admission import Place, TurnedAway
from chatproto.net.peers import TrustedPeers
from chatproto.net.resource import ChatResource
from chatproto.net.websocket.transport import WebSocketTransport

__all__ = ["BodilessRequest", "ChatSite", "PageResource", "SiteChannel"]


_HEADERS = (
    # Nothing but what is here: no inline script or style, no other host, in nobody's frame, and nothing that
    # would make HTML of a text.
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        b"require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),  # for browsers that do not know frame-ancestors
    (b"referrer-policy", b"no-referrer"),
)

_CONTENT_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}

_METHODS = (b"GET", b"HEAD")

_CHAT = (b"GET /chat ", b"GET /chat?")
"""What an opening handshake of the chat begins with, as clients have it that were told the path as it is."""

CLOSING_S = 5.0
"""What a browser has to take the rest of an answer when the server goes."""


class _Static(Resource):
    """One thing that never changes. Whoever has it asks whether it is current, and is told so by its ETag."""

    def __init__(self, body: bytes, content_type: bytes, *, status: int = 200, shared: bool = False) -> None:
        super().__init__()
        self._body = body
        self._type = content_type
        self._status = status
        self._shared = shared
        self._etag = b'"' + sha256(body).hexdigest()[:32].encode() + b'"'

    def getChild(self, path: bytes, request: Request) -> Resource:
        """There is nothing below."""
        return _NOTHING_HERE

    def render(self, request: Request) -> bytes:
        """Answer GET and HEAD."""
        for name, value in _HEADERS:
            request.setHeader(name, value)
        if request.method not in _METHODS:
            request.setResponseCode(405)
            request.setHeader(b"allow", b", ".join(_METHODS))
            return _text(request, b"Only GET and HEAD are of use here.\n")
        if self._status == 200 and _wants_websocket(request):
            return _NOTHING_HERE.render(request)  # which says where there is one
        if self._shared:
            # A page from anywhere may load it as a module; what it may open, the chat's origins decide.
            request.setHeader(b"access-control-allow-origin", b"*")
        request.setHeader(
            b"cross-origin-resource-policy", b"cross-origin" if self._shared else b"same-origin"
        )
        request.setHeader(b"cache-control", b"no-cache")  # kept, but never used without asking
        request.setResponseCode(self._status)
        if self._status == 200:
            request.setHeader(b"etag", self._etag)
            if self._is_what_they_have(request):
                request.setResponseCode(304)
                return b""
        return _sent(request, self._body, self._type)

    def _is_what_they_have(self, request: Request) -> bool:
        """By If-None-Match (RFC 9110, section 13.1.2), which compares weakly: a proxy may compress."""
        fields = request.requestHeaders.getRawHeaders(b"if-none-match") or []
        named = [tag.strip().removeprefix(b"W/") for tag in b",".join(fields).split(b",")]
        return self._etag in named or b"*" in named


def _wants_websocket(request: Request) -> bool:
    fields = request.requestHeaders.getRawHeaders(b"upgrade") or []
    return any(b"websocket" in field.lower() for field in fields)


def _text(request: Request, text: bytes) -> bytes:
    return _sent(request, text, b"text/plain; charset=utf-8")


def _sent(request: Request, body: bytes, content_type: bytes) -> bytes:
    """What `render` returns to send *body*, or with HEAD all but that."""
    request.setHeader(b"content-type", content_type)
    if request.method != b"HEAD":
        return body
    request.setHeader(b"content-length", b"%d" % len(body))
    return b""


_NOTHING_HERE = _Static(
    b"There is no page here. The chat's page is at / and its WebSocket at /chat, or below where they are "
    b"mounted; nc, telnet and chatproto-connect talk to this host and port.\n",
    b"text/plain; charset=utf-8",
    status=404,
)


class PageResource(Resource):
    """The web page of *chat*, and the chat itself: `putChild(b"talk", PageResource(chat))`.

    The page is then at `/talk/`, its WebSocket at `/talk/chat`, and everything between them is relative, so
    that a proxy may put a prefix before it. It may be the root of a site as well.
    """

    def __init__(self, chat: ChatResource) -> None:
        super().__init__()
        for file in files("chatproto.page").iterdir():
            content_type = _CONTENT_TYPES.get(PurePath(file.name).suffix)
            if content_type is not None:
                name = b"" if file.name == "index.html" else file.name.encode()
                shared = file.name == "chat.js"
                self.putChild(name, _Static(file.read_bytes(), content_type, shared=shared))
        self.putChild(b"chat", chat)

    def getChild(self, path: bytes, request: Request) -> Resource:
        """There is nothing else."""
        return _NOTHING_HERE

    def render(self, request: Request) -> bytes:
        """Send whoever left out the slash to the page, for its links are relative."""
        if request.method not in _METHODS or not request.prepath:
            return _NOTHING_HERE.render(request)
        request.setResponseCode(308)
        request.setHeader(b"location", quote(request.prepath[-1], safe=b"").encode() + b"/")
        return _text(request, b"The page is one slash further.\n")


class BodilessRequest(Request):
    """A request whose body is thrown away: Twisted would keep it in a file, however long it is."""

    def getClientAddress(self) -> IAddress:
        """Whom it comes from, as far as proxies that are trusted say so."""
        peer: IAddress = super().getClientAddress()
        trusted: TrustedPeers | None = getattr(self.site, "trusted_peers", None)
        forwarded = self.requestHeaders.getRawHeaders(b"x-forwarded-for")
        if trusted is None or forwarded is None:
            return peer
        return trusted.speaks_for(peer, [value.decode("latin-1") for value in forwarded])

    def gotLength(self, length: int | None) -> None:
        """The headers are there."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """A part of the body is there."""


@implementer(IHalfCloseableProtocol)
class SiteChannel(HTTPChannel):
    """One HTTP connection.

    Each of its requests must be complete within `timeOut`, however it trickles in, and none is taken up while
    the answers to those before it wait to be read.
    """

    place: Place | None = None
    """That of the connection among those that are let in, if it came through a front."""

    taken_over_by: WebSocketTransport | None = None
    """The WebSocket that the connection has become."""

    def dataReceived(self, data: bytes) -> None:
        """Take a part of a request in; unlike its parent without giving it more time for that."""
        LineReceiver.dataReceived(self, data)

    def requestDone(self, request: Request) -> None:
        """An answer is complete. After the last TLS waits for the peer to end it too; here not for long."""
        if not self.persistent:
            self.setTimeout(self._savedTimeOut)
        super().requestDone(request)

    def pauseProducing(self) -> None:
        """The peer does not read. Twisted would still answer all requests that came in one piece."""
        self.paused = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """The peer reads."""
        self.paused = False
        super().resumeProducing()
        if self.transport is not None:
            LineReceiver.dataReceived(self, b"")

    def close(self) -> None:
        """The server goes away: what is answered already still goes out. A WebSocket is told otherwise."""
        if self.taken_over_by is None and self.transport is not None and self._abortingCall is None:
            self._abortingCall = self.callLater(CLOSING_S, self.forceAbortClient)
            self.loseConnection()

    def readConnectionLost(self) -> None:
        """The peer sends nothing more (IHalfCloseableProtocol)."""
        if self.taken_over_by is not None:
            self.taken_over_by.readConnectionLost()
        elif self.transport is not None:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Nothing more can be sent (IHalfCloseableProtocol)."""


class ChatSite(Site):
    """The site behind the one port: the page at `/`, and the chat over WebSocket at `/chat`.

    *trusted_peers* are proxies that are believed whom a request comes from.
    """

    noisy = False
    protocol = SiteChannel  # type: ignore[assignment]  # without HTTP/2, which is negotiated in TLS

    def __init__(self, chat: ChatResource, trusted_peers: TrustedPeers | None = None) -> None:
        self.trusted_peers = trusted_peers
        self._chat = chat
        super().__init__(
            PageResource(chat),
            requestFactory=BodilessRequest,
            reactor=chat.hub.clock,
            timeout=chat.hub.limits.join_timeout_s,
        )

    def straight(
        self, begun: bytes, below: ITransport, place: Place
    ) -> WebSocketTransport | TurnedAway | None:
        """What has the connection *below* from its first bytes on, without twisted.web, or why it may not be.

        That is for an opening handshake of the chat that came in one piece and is in order: a channel and a
        request for it would cost more than all the rest. None where a channel is to answer.
        """
        read = self._chat.read(begun) if begun.startswith(_CHAT) else None
        if read is None:
            return None
        head, rest = read
        peer: IAddress = below.getPeer()
        forwarded = head.headers.all("x-forwarded-for")
        if forwarded and self.trusted_peers is not None:
            peer = self.trusted_peers.speaks_for(peer, forwarded)
        return self._chat.straight(head, rest, peer, ISSLTransport.providedBy(below), place)

"""What the port answers over HTTP."""

from __future__ import annotations

from io import BytesIO

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.protocols.basic import LineReceiver
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from zope.interface import implementer

from chatproto.net.resource import ChatResource
from chatproto.net.websocket.transport import WebSocketTransport

__all__ = ["ChatSite", "SiteChannel"]


class _NothingHere(Resource):
    """Every path but those that are put into it: this server has no page."""

    def getChild(self, path: bytes, request: Request) -> Resource:
        """There is nothing below either."""
        return _NothingHere()

    def render(self, request: Request) -> bytes:
        """Say how to connect instead."""
        request.setResponseCode(404)
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        return (
            b"There is no page here. Talk with nc, telnet or chatproto-connect to this host and port, "
            b"or open a WebSocket at /chat.\n"
        )


class _BodilessRequest(Request):
    """A request whose body is thrown away: Twisted would keep it in a file, however long it is."""

    def gotLength(self, length: int | None) -> None:
        """The headers are there."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """A part of the body is there."""


@implementer(IHalfCloseableProtocol)
class SiteChannel(HTTPChannel):
    """One HTTP connection. Each of its requests must be complete within `timeOut`, however it trickles in."""

    taken_over_by: WebSocketTransport | None = None
    """The WebSocket that the connection has become."""

    def dataReceived(self, data: bytes) -> None:
        """Take a part of a request in; unlike its parent without giving it more time for that."""
        LineReceiver.dataReceived(self, data)

    def close(self) -> None:
        """The server goes away, and a request with it; a WebSocket is told otherwise."""
        if self.taken_over_by is None and self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    def readConnectionLost(self) -> None:
        """The peer sends nothing more (IHalfCloseableProtocol)."""
        if self.taken_over_by is not None:
            self.taken_over_by.readConnectionLost()
        elif self.transport is not None:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Nothing more can be sent (IHalfCloseableProtocol)."""


class ChatSite(Site):
    """The site behind the one port: the chat over WebSocket at `/chat`, and nothing else."""

    noisy = False
    protocol = SiteChannel  # type: ignore[assignment]  # without HTTP/2, which is negotiated in TLS

    def __init__(self, chat: ChatResource) -> None:
        root = _NothingHere()
        root.putChild(b"chat", chat)
        super().__init__(
            root,
            requestFactory=_BodilessRequest,
            reactor=chat.hub.clock,
            timeout=chat.hub.limits.join_timeout_s,
        )

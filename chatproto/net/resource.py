"""The chat as a place in a site of twisted.web, where WebSockets are opened."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.web.pages import notFound
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request as HttpRequest

from chatproto.limits import Limits, WebSocketLimits
from chatproto.net.admission import Admission, Place, TurnedAway
from chatproto.net.face import Face
from chatproto.net.sendqueue import Turn
from chatproto.net.webchat import BinFace, JsonFace, SocketFace
from chatproto.net.websocket.interfaces import Accepted, Refused
from chatproto.net.websocket.resource import WebSocketResource
from chatproto.net.websocket.transport import WebSocketTransport
from chatproto.rooms.hub import Hub
from chatproto.wire.deflate import Deflate
from chatproto.wire.handshake import Request
from chatproto.wire.http import Head

__all__ = ["ChatResource"]

_FACES: dict[str, type[BinFace] | type[JsonFace]] = {face.subprotocol: face for face in (BinFace, JsonFace)}


class ChatResource(Resource):
    """The chat of *hub* over WebSocket, for a site of one's own (HTTP or HTTPS): `putChild(b"chat", ...)`.

    Pages of the same host may open it, and those of *origins* (`"*"`: all). *deflate* turns compression on;
    the server then never takes over a context, so that one compressed message serves everybody. With
    *admission* the connections have been let in before, and with *turn* they are flushed with others.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        origins: Collection[str] = (),
        deflate: Deflate | None = None,
        admission: Admission | None = None,
        turn: Turn | None = None,
    ) -> None:
        super().__init__()
        self.hub = hub
        self.admission = admission or Admission(hub)
        self._gives_places = admission is None
        self.faces: set[Face] = set()
        if deflate is not None:
            # What waits for someone may be dropped, so that nothing may build on it.
            deflate = replace(deflate, server_no_context_takeover=True)
        self._sockets = WebSocketResource(
            self,
            limits=_socket_limits(hub.limits),
            origins=origins,
            deflate=deflate,
            reactor=hub.clock,
            turn=turn,
        )

    @property
    def turn(self) -> Turn:
        """What flushes the queues of those who came in here."""
        return self._sockets.connections.turn

    def renew(self, origins: Collection[str]) -> None:
        """Let pages of *origins* in from now on, and go by the limits that the hub has now."""
        self._sockets.renew(_socket_limits(self.hub.limits), origins)

    def getChild(self, path: bytes, request: HttpRequest) -> IResource:
        """There is nothing below."""
        return notFound()

    def render(self, request: HttpRequest) -> int | bytes:
        """Answer an opening handshake, whatever its method is."""
        peer = request.getClientAddress()
        place: Place | None = getattr(request.channel, "place", None)
        if self._gives_places:
            refusal = self.admission.refusal(peer)
        else:
            # A proxy's connection is its client's, as soon as one knows who that is.
            refusal = None if place is None else place.move(peer)
        if refusal is not None:
            request.setResponseCode(refusal.http_status)
            request.setHeader(b"retry-after", b"%d" % refusal.retry_s)
            request.setHeader(b"content-type", b"text/plain; charset=utf-8")
            return f"{refusal.text.capitalize()}.\n".encode()
        return self._sockets.render(request)

    def read(self, begun: bytes) -> tuple[Head, bytes] | None:
        """The whole head of a request that *begun* begins with, and what is behind it, to open `straight`."""
        return self._sockets.read(begun)

    def straight(
        self, head: Head, rest: bytes, peer: IAddress, is_secure: bool, place: Place
    ) -> WebSocketTransport | TurnedAway | None:
        """What has the connection that begins with *head*, without twisted.web, or why it is not let in.

        None where `render` is to answer. The connection is that of *place*, and *peer* who is behind it.
        """
        return place.move(peer) or self._sockets.straight(head, rest, peer, is_secure)

    def buildProtocol(self, request: Request) -> Accepted:
        """The face for a client, as it wants to speak (ServerFactory)."""
        offered = request.subprotocols
        chosen = next((name for name in offered if name in _FACES), None)
        if offered and chosen is None:
            raise Refused(400, f"The subprotocols here are {' and '.join(_FACES)}.\n")
        face = JsonFace if chosen is None else _FACES[chosen]
        max_message_bytes = face.max_message_bytes(self.hub.limits.max_frame_bytes)
        application: SocketFace = face(self.hub, self.faces)
        application.peer = request.peer
        application.is_page = request.origin is not None
        if self._gives_places:
            application.take_place = partial(self.admission.take, request.peer)
        return Accepted(application, chosen, content=face.content, max_message_bytes=max_message_bytes)

    def shut_down(self, retry_ms: int = 1_000, text: str = "the server is shutting down") -> Deferred[None]:
        """Say `goodbye` to everybody who came in here, end their sessions, and let nobody in any more.

        Fires when the last connection is gone: each may take `close_timeout_s` to take the rest. *retry_ms*
        is when clients should come back.
        """
        self.hub.shut_down([face.session for face in self.faces], retry_ms, text)
        return self._sockets.shut_down()


def _socket_limits(limits: Limits) -> WebSocketLimits:
    """The layer's bounds that are the chat's."""
    return WebSocketLimits(
        max_message_bytes=limits.max_frame_bytes,
        max_queued_bytes=limits.max_queued_bytes,
        handshake_timeout_s=limits.join_timeout_s,
        ping_interval_s=limits.ping_interval_s,
        pong_timeout_s=limits.pong_timeout_s,
        stall_timeout_s=limits.lag_timeout_s,
        close_timeout_s=limits.close_timeout_s,
    )

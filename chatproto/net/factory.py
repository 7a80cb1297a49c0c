"""The factory: holds the hub and makes each connection, with its send queue."""

from __future__ import annotations

from collections.abc import Collection

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from chatproto.net.face import Face
from chatproto.net.front import Front
from chatproto.net.resource import ChatResource
from chatproto.net.sendqueue import Turn
from chatproto.net.site import ChatSite
from chatproto.rooms.hub import Hub
from chatproto.rooms.names import parse_nick
from chatproto.wire.deflate import Deflate

__all__ = ["ChatFactory"]


class ChatFactory(Factory):
    """The chat for any stream endpoint of any reactor, within any application.

    Several factories may share a hub; each has its own connections and can be shut down by itself. *origins*
    and *deflate* are for WebSockets, as `ChatResource` has them.
    """

    noisy = False

    def __init__(self, hub: Hub, *, origins: Collection[str] = (), deflate: Deflate | None = None) -> None:
        self.hub = hub
        self.turn = Turn(hub.clock, hub.limits.lag_timeout_s)
        chat = ChatResource(hub, origins=origins, deflate=deflate)
        self.site = ChatSite(chat)
        self.connections: set[Face] = chat.faces  # those that come over HTTP, and all others
        self.fronts: set[Front] = set()
        self._waiting_for_empty: list[Deferred[None]] = []

    def startFactory(self) -> None:
        """The first port listens: load what the first name outside ASCII would otherwise wait for."""
        parse_nick("é")

    def buildProtocol(self, addr: IAddress | None) -> Front:
        """A connection that finds out by itself what is spoken."""
        return Front(self)

    def shut_down(self, retry_ms: int = 1_000, text: str = "the server is shutting down") -> Deferred[None]:
        """Say `goodbye` to everybody who came through this factory and end their sessions.

        Fires when the last connection is gone: each may take `close_timeout_s` to take the rest. *retry_ms*
        is when clients should come back. Stop listening first, or there will be new ones.
        """
        self.hub.shut_down([connection.session for connection in self.connections], retry_ms, text)
        for front in list(self.fronts):
            front.close()
        emptied: Deferred[None] = Deferred()
        self._waiting_for_empty.append(emptied)
        self.connection_gone()
        return emptied

    def connection_gone(self) -> None:
        """One connection less; those who wait for the last are told."""
        if not self.connections and not self.fronts:
            waiting, self._waiting_for_empty = self._waiting_for_empty, []
            for emptied in waiting:
                emptied.callback(None)

"""The factory: holds the hub and makes each connection, with its send queue."""

from __future__ import annotations

from collections.abc import Collection
from datetime import tzinfo

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol

from chatproto.net.admission import Admission
from chatproto.net.crowding import Crowding
from chatproto.net.draining import Draining
from chatproto.net.face import Face
from chatproto.net.front import Front
from chatproto.net.lineform import LineForm
from chatproto.net.peers import TrustedPeers
from chatproto.net.resource import ChatResource
from chatproto.net.sendqueue import Turn
from chatproto.net.site import ChatSite
from chatproto.rooms.hub import Hub
from chatproto.rooms.names import parse_nick
from chatproto.wire.deflate import Deflate

__all__ = ["ChatFactory"]

GOING = "the server is shutting down"


class _Unwanted(Protocol):
    """Closes its connection, before any handshake of TLS; None instead is an error in Twisted's TLS."""

    def connectionMade(self) -> None:
        """That was all."""
        assert self.transport is not None
        self.transport.abortConnection()  # type: ignore[attr-defined]


class ChatFactory(Factory):
    """The chat for any stream endpoint of any reactor, within any application.

    Several factories may share a hub; each has its own connections and can be shut down by itself. *origins*
    and *deflate* are for WebSockets, as `ChatResource` has them. *zone* is that of the times that people with
    `nc` and `telnet` see, None: the system's. *trusted_peers* are proxies that are believed in whom a request
    over HTTP comes from.
    """

    noisy = False

    def __init__(
        self,
        hub: Hub,
        *,
        origins: Collection[str] = (),
        deflate: Deflate | None = None,
        zone: tzinfo | None = None,
        trusted_peers: TrustedPeers | None = None,
    ) -> None:
        self.hub = hub
        self.line_form = LineForm(hub.now_ms, zone)  # one for all, so that a line is made once for all
        self.turn = Turn(hub.clock, hub.limits.lag_timeout_s)
        self.admission = Admission(hub, trusted_peers)
        chat = ChatResource(hub, origins=origins, deflate=deflate, admission=self.admission, turn=self.turn)
        self.site = ChatSite(chat, trusted_peers)
        self._chat = chat
        self.connections: set[Face] = chat.faces  # those that come over HTTP, and all others
        self.fronts: set[Front] = set()
        self._crowding = Crowding(hub, self.turn, self.connections)
        self._waiting_for_empty: list[Deferred[None]] = []

    def renew(self, origins: Collection[str]) -> None:
        """Let pages of *origins* in from now on, and go by the limits that the hub has now."""
        self._chat.renew(origins)
        self._crowding.renew()
        self.site.timeOut = self.hub.limits.join_timeout_s

    @property
    def faces(self) -> set[Face]:
        """Everybody who came through this factory."""
        return self.connections

    def startFactory(self) -> None:
        """The first port listens: load what the first name outside ASCII would otherwise wait for."""
        parse_nick("é")

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """A connection that finds out by itself what is spoken; in a flood, one that is over at once."""
        turned_away = self.admission.refusal(addr)
        if turned_away is None:
            return Front(self)
        return Front(self, turned_away) if self.admission.may_explain() else _Unwanted()

    def drain(self, timeout_s: float | None = None, text: str = GOING) -> Draining:
        """Let what was said be answered, then `shut_down`; be done within *timeout_s* (`drain_timeout_s`).

        Those who go are told to come back one after the other, from `return_delay_s` on and not more than
        `max_returns_per_s`. Stop listening first, or there will be new ones.
        """
        return Draining(self, self.hub.limits.drain_timeout_s if timeout_s is None else timeout_s, text)

    def shut_down(self, retry_ms: int = 1_000, text: str = GOING, *, spread_ms: int = 0) -> Deferred[None]:
        """Say `goodbye` to everybody who came through this factory and end their sessions.

        Fires when the last connection is gone: each may take `close_timeout_s` to take the rest. *retry_ms*
        is when clients should come back, the last of them *spread_ms* later. Stop listening first, or there
        will be new ones.
        """
        sessions = [connection.session for connection in self.connections]
        self.hub.shut_down(sessions, retry_ms, text, spread_ms=spread_ms)
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

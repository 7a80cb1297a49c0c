"""Two peers that are connected, with a wire between them that can be looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from interop.kinds import Kind, Pairing
from interop.peer import End, Peer
from interop.wiretap import Direction, Wire


class Running:
    """The peers that run, each started when it is first needed."""

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}

    def __getitem__(self, kind: Kind) -> Peer:
        peer = self._peers.get(kind.name)
        if peer is None or peer.has_ended:
            peer = self._peers[kind.name] = kind.start()
        return peer

    def close(self) -> None:
        """End all of them."""
        for peer in self._peers.values():
            peer.close()


@dataclass(frozen=True, slots=True)
class Conversation:
    """A connection: both its ends, and the wire between them."""

    pairing: Pairing
    client: End
    server: End
    wire: Wire

    @property
    def directions(self) -> tuple[tuple[End, End], tuple[End, End]]:
        """Who sends and who receives: the client first, then the server."""
        return (self.client, self.server), (self.server, self.client)

    @property
    def layer_side(self) -> Direction:
        """Which side is the layer."""
        return "server" if self.pairing.peer is self.pairing.client else "client"

    @property
    def peer_side(self) -> Direction:
        """Which side is the peer."""
        return "client" if self.layer_side == "server" else "server"

    @property
    def layer(self) -> End:
        """The layer's end."""
        return self.server if self.layer_side == "server" else self.client

    @property
    def peer(self) -> End:
        """The peer's end."""
        return self.client if self.layer_side == "server" else self.server


class Meeting:
    """Lets peers meet."""

    def __init__(self, running: Running) -> None:
        self._running = running

    @contextmanager
    def met(
        self, pairing: Pairing, *, client: dict[str, Any] | None = None, server: dict[str, Any] | None = None
    ) -> Iterator[Conversation]:
        """A client that has said that it wants to connect, and a server; with their terms."""
        client_peer, server_peer = self._running[pairing.client], self._running[pairing.server]
        origin = {"origins": [client_peer.origin]} if client_peer.origin else {}
        server_end = server_peer.listen(**{**origin, **(server or {})})
        with Wire(server_end.port) as wire:
            url = f"wss://localhost:{wire.port}/" if (client or {}).get("tls") else wire.url
            client_end = client_peer.connect(url, **(client or {}))
            yield Conversation(pairing, client_end, server_end, wire)
        server_end.forget()
        client_end.forget()

    @contextmanager
    def visited(self, pairing: Pairing) -> Iterator[End]:
        """The server's end of a WebSocket that its own page opens, which a browser was told to show."""
        server_end = self._running[pairing.server].listen()
        client_end = self._running[pairing.client].visit(f"http://127.0.0.1:{server_end.port}/page")
        yield server_end
        server_end.forget()
        client_end.forget()

    def origin(self, kind: Kind) -> str:
        """What a peer says of itself in `Origin`."""
        return self._running[kind].origin

    @contextmanager
    def talking(
        self,
        pairing: Pairing,
        deflate: dict[str, Any] | None = None,
        tls: tuple[str, str] | None = None,
    ) -> Iterator[Conversation]:
        """A connection that is open, with these terms for compression and TLS on both sides."""
        terms: dict[str, Any] = {"deflate": deflate, "tls": tls}
        with self.met(pairing, client=terms, server=terms) as conversation:
            conversation.client.expect("open")
            conversation.server.expect("open")
            yield conversation

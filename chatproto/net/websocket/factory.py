"""WebSockets on any stream endpoint, without twisted.web."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from chatproto.limits import WebSocketLimits
from chatproto.net.websocket.accepting import Acceptor, Agreement
from chatproto.net.websocket.connections import Connections
from chatproto.net.websocket.interfaces import ServerFactory
from chatproto.net.websocket.transport import WebSocketTransport
from chatproto.wire.closing import CloseCode
from chatproto.wire.deflate import Deflate
from chatproto.wire.http import HeadReader, Refusal, parse_request
from chatproto.wire.messages import Side

__all__ = ["WebSocketFactory"]


class WebSocketFactory(Factory):
    """A server of WebSockets, for any endpoint: *factory* says for each request what its application is.

    *origins* are those whose pages may open a WebSocket here, beside this server's own (`"*"`: all).
    *deflate* turns compression on. *reactor* is an `IReactorTime`; None for the one that runs.
    """

    noisy = False

    def __init__(
        self,
        factory: ServerFactory,
        *,
        limits: WebSocketLimits | None = None,
        origins: Collection[str] = (),
        deflate: Deflate | None = None,
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        clock: IReactorTime = reactor
        self.connections = Connections(clock, limits or WebSocketLimits())
        self._acceptor = Acceptor(factory, self.connections, origins, deflate)

    def buildProtocol(self, addr: IAddress | None) -> WebSocketTransport:  # type: ignore[override]
        """A connection that begins with its opening handshake."""
        transport = WebSocketTransport(self.connections, Side.SERVER)
        transport.opening = _ServerOpening(transport, self._acceptor)
        return transport

    def shut_down(self, code: int = CloseCode.GOING_AWAY, reason: str = "") -> Deferred[None]:
        """Close all connections, and refuse new ones; fires when the last one is gone.

        Stop listening first, or clients that come back are refused with 503.
        """
        return self.connections.shut_down(code, reason)


class _ServerOpening:
    """Reads a client's opening handshake, has it decided on, and answers."""

    def __init__(self, transport: WebSocketTransport, acceptor: Acceptor) -> None:
        limits = acceptor.connections.limits
        self._transport = transport
        self._acceptor = acceptor
        self._reader: HeadReader | None = HeadReader(limits.max_handshake_bytes, limits.max_headers)
        self._deciding: Deferred[Agreement | Refusal] | None = None
        self._rest = b""

    def begin(self) -> None:
        """There is a transport: the client has so much time."""
        connections = self._acceptor.connections
        connections.deadlines.set(self._transport, connections.limits.handshake_timeout_s)

    def receive(self, data: bytes) -> None:
        """A part of the handshake, or what comes behind it before it is decided on."""
        reader = self._reader
        if reader is None:
            self._rest += data
            if len(self._rest) > self._acceptor.connections.limits.max_handshake_bytes:
                self._transport.hold()
            return
        head = reader.receive(data)
        if reader.fault is not None:
            self._transport.refuse(reader.fault.encode())
        elif head is not None:
            self._reader, self._rest = None, reader.rest
            self._ask(head)

    def _ask(self, head: bytes) -> None:
        transport, connections = self._transport, self._acceptor.connections
        parsed = parse_request(head)
        request = (
            parsed
            if isinstance(parsed, Refusal)
            else self._acceptor.check(parsed, transport.getPeer(), transport.is_secure)
        )
        if isinstance(request, Refusal):
            transport.refuse(request.encode())
            return
        # From here on it is the application that takes its time.
        connections.deadlines.clear(transport)
        transport.request = request
        outcome = self._acceptor.decide(request)
        if isinstance(outcome, Deferred):
            self._deciding = outcome
            outcome.addCallback(self._decided)
        else:
            self._decided(outcome)

    def _decided(self, outcome: Agreement | Refusal) -> None:
        self._deciding = None
        transport = self._transport
        if not transport.is_handshaking:
            return
        if isinstance(outcome, Refusal):
            transport.refuse(outcome.encode())
        elif transport.start(outcome.accepted.protocol):
            outcome.open(transport, self._rest)

    def timed_out(self) -> None:
        """The client took too long."""
        self._transport.refuse(Refusal(408).encode())

    def lost(self, reason: Failure) -> None:
        """The client is gone; nobody needs the decision."""
        if self._deciding is not None and self._transport.request is not None:
            self._acceptor.abandon(self._deciding, self._transport.request)

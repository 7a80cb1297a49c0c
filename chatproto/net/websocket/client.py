"""WebSockets to other servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.web.client import BrowserLikePolicyForHTTPS
from twisted.web.iweb import IPolicyForHTTPS

from chatproto.limits import WebSocketLimits
from chatproto.net.websocket.address import parse_url
from chatproto.net.websocket.connections import Connections
from chatproto.net.websocket.interfaces import Application, ClientFactory
from chatproto.net.websocket.transport import WebSocketTransport
from chatproto.wire.body import BodyReader
from chatproto.wire.closing import CloseCode
from chatproto.wire.deflate import Deflate
from chatproto.wire.handshake import ClientHandshake, HandshakeFailed
from chatproto.wire.messages import Side

__all__ = ["WebSocketClientEndpoint"]

MAX_BODY_BYTES = 65_536
"""So much of a refusal's body is read."""


A = TypeVar("A", bound=Application)


class WebSocketClientEndpoint:
    """A server of WebSockets at *url*, reached through *endpoint*.

    *subprotocols* are offered in that order, *deflate* is what this side wants of permessage-deflate (None:
    nothing), *headers* go with each opening handshake. Raises ValueError, with one sentence, for what is no
    URL of a WebSocket, and for what cannot be sent.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        url: str,
        *,
        limits: WebSocketLimits | None = None,
        subprotocols: Sequence[str] = (),
        deflate: Deflate | None = None,
        headers: Sequence[tuple[str, str]] = (),
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        clock: IReactorTime = reactor
        self.url = url
        self.limits = limits or WebSocketLimits()
        self.connections = Connections(clock, self.limits)
        self._endpoint = endpoint
        self._address = parse_url(url)
        self._subprotocols = tuple(subprotocols)
        self._deflate = deflate
        self._headers = tuple(headers)
        self._handshake()  # what is wrong is said now

    @classmethod
    def new(
        cls,
        reactor: Any,
        url: str,
        tlsPolicy: IPolicyForHTTPS | None = None,
        connectTimeout: float | None = None,
        bindAddress: bytes | None = None,
        *,
        limits: WebSocketLimits | None = None,
        subprotocols: Sequence[str] = (),
        deflate: Deflate | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> WebSocketClientEndpoint:
        """The server that *url* names, `ws://` or `wss://`.

        The certificate is checked as *tlsPolicy* has it, by default against those that the system trusts.
        *connectTimeout* is in seconds (None: 30), *bindAddress* is an address of this side.
        """
        address = parse_url(url)
        host, port = address.host, address.port
        endpoint: IStreamClientEndpoint = HostnameEndpoint(
            reactor, host, port, 30.0 if connectTimeout is None else connectTimeout, bindAddress
        )
        if address.is_secure:
            policy = tlsPolicy or BrowserLikePolicyForHTTPS()
            endpoint = wrapClientTLS(policy.creatorForNetloc(host.encode(), port), endpoint)
        return cls(
            endpoint,
            url,
            limits=limits,
            subprotocols=subprotocols,
            deflate=deflate,
            headers=headers,
            reactor=reactor,
        )

    async def connect(self, factory: ClientFactory) -> Any:
        """Open a WebSocket: the protocol that *factory* made, once `negotiationFinished` was called.

        Raises HandshakeFailed where the server refuses or answers nonsense, TimeoutError where it is silent
        for `handshake_timeout_s`, what the endpoint raises where there is no connection, and what the
        protocol's `negotiationStarted` does.
        """
        application = factory.buildProtocol(self.url)
        opened: Deferred[Application] = Deferred(lambda _: transport.abortConnection())
        transport = WebSocketTransport(self.connections, Side.CLIENT)
        transport.opening = _ClientOpening(
            transport, self.connections, self._handshake(), application, opened
        )
        await self._endpoint.connect(_Once(transport))
        return await opened

    def shut_down(self, code: int = CloseCode.GOING_AWAY, reason: str = "") -> Deferred[None]:
        """Close all connections that were opened; fires when the last one is gone."""
        return self.connections.shut_down(code, reason)

    def _handshake(self) -> ClientHandshake:
        return ClientHandshake(
            self._address.authority,
            self._address.target,
            subprotocols=self._subprotocols,
            deflate=self._deflate,
            headers=self._headers,
            max_bytes=self.limits.max_handshake_bytes,
            max_headers=self.limits.max_headers,
        )


class _Once(Factory):
    """Gives one connection its protocol."""

    noisy = False

    def __init__(self, transport: WebSocketTransport) -> None:
        self._transport = transport

    def buildProtocol(self, addr: IAddress | None) -> WebSocketTransport:  # type: ignore[override]
        return self._transport


class _ClientOpening:
    """Sends an opening handshake and judges the answer."""

    def __init__(
        self,
        transport: WebSocketTransport,
        connections: Connections,
        handshake: ClientHandshake,
        application: Application,
        opened: Deferred[Any],
    ) -> None:
        self._transport = transport
        self._connections = connections
        self._handshake = handshake
        self._application = application
        self._opened = opened
        self._refused: HandshakeFailed | None = None
        self._body: BodyReader | None = None  # of the refusal

    def begin(self) -> None:
        """There is a connection: the server has so much time."""
        transport, connections = self._transport, self._connections
        connections.deadlines.set(transport, connections.limits.handshake_timeout_s)
        try:
            is_wanted = transport.start(self._application)
        except Exception:
            self._give_up(Failure())
            return
        if is_wanted:
            transport.queue.write(self._handshake.request)

    def receive(self, data: bytes) -> None:
        """A part of the answer."""
        if self._body is not None:
            self._read_body(self._body, data)
            return
        transport = self._transport
        try:
            answer = self._handshake.receive(data)
        except HandshakeFailed as refused:
            self._refused = refused
            self._body = BodyReader(refused.status, refused.headers, MAX_BODY_BYTES)
            self._read_body(self._body, refused.body)
            return
        if answer is not None and transport.is_handshaking:
            transport.open(answer.subprotocol, answer.deflate, None, self._handshake.rest)
            if not self._opened.called:  # cancelled in the middle of it
                self._opened.callback(self._application)

    def _read_body(self, reader: BodyReader, data: bytes) -> None:
        """Fail as soon as the refusal is complete."""
        reader.receive(data)
        if reader.is_over:
            self._fail()

    def _fail(self) -> None:
        """The server has refused, and nothing more of its answer is waited for."""
        refused, reader = self._refused, self._body
        assert refused is not None
        assert reader is not None
        refused.body = reader.body
        self._transport.abortConnection()
        self._give_up(refused)

    def _give_up(self, error: BaseException | Failure) -> None:
        if not self._opened.called:
            self._opened.errback(error)

    def timed_out(self) -> None:
        """The server took too long."""
        if self._refused is not None:
            self._fail()
            return
        limit_s = self._connections.limits.handshake_timeout_s
        self._transport.abortConnection()
        self._give_up(TimeoutError(f"the server did not answer the opening handshake within {limit_s:g} s"))

    def lost(self, reason: Failure) -> None:
        """The connection is gone."""
        if self._refused is not None:
            self._fail()
        else:
            self._give_up(reason)

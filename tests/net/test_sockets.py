"""Which transports have a socket that may be written to, and what is asked of the socket."""

from __future__ import annotations

import socket
from typing import Any

from net.certificate import server_context
from net.loopback import DIRECT, KINDS, LoopbackCase, reactor
from twisted.internet.abstract import FileDescriptor
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from chatproto.net.sockets import carrier_socket, plain_socket, tune

LAG_TIMEOUT_S = 45.0


class Quiet(Protocol):
    """A connection that does nothing."""

    is_lost = False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_lost = True


class SocketsCase(LoopbackCase):
    async def transport(self, kind: str) -> Any:
        """The server's transport of a connection of a kind."""

        class Quiets(Factory):
            noisy = False

            def buildProtocol(self, addr: IAddress | None) -> Protocol:
                return made

        made = Quiet()
        end = self.connect(await self.listen(Quiets(), kind), kind)
        await self.shake_hands(end)
        await self.until(lambda: made.connected)

        async def be_gone() -> None:
            transport: Any = made.transport
            transport.abortConnection()
            await self.until(lambda: made.is_lost)

        self.addCleanup(be_gone)
        return made.transport


class PlainSocket(SocketsCase):
    async def test_a_plain_tcp_or_unix_connection_has_one(self) -> None:
        for kind in DIRECT:
            transport = await self.transport(kind)
            plain = plain_socket(transport)
            assert plain is transport.getHandle(), kind

    async def test_what_lies_under_tls_or_a_wrapper_is_not_to_be_written_to(self) -> None:
        for kind in set(KINDS) - set(DIRECT):
            assert plain_socket(await self.transport(kind)) is None, kind

    async def test_a_connection_that_has_started_tls_has_none_any_more(self) -> None:
        transport = await self.transport("tcp")
        assert plain_socket(transport) is not None
        transport.startTLS(server_context())
        assert plain_socket(transport) is None

    async def test_what_is_no_socket_has_none(self) -> None:
        assert plain_socket(StringTransport()) is None
        assert plain_socket(FileDescriptor(reactor)) is None

    async def test_a_socket_that_is_no_stream_is_not_taken(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            transport = await self.transport("tcp")
            self.patch(transport, "getHandle", lambda: datagrams)
            assert plain_socket(transport) is None


class CarrierSocket(SocketsCase):
    async def test_every_kind_has_one_at_the_bottom(self) -> None:
        for kind in KINDS:
            carrier = carrier_socket(await self.transport(kind))
            assert carrier is not None
            assert carrier.type == socket.SOCK_STREAM

    async def test_what_is_in_memory_has_none(self) -> None:
        assert carrier_socket(StringTransport()) is None


class Tune(SocketsCase):
    async def test_small_writes_are_sent_at_once_and_vanished_peers_found_within_a_minute(self) -> None:
        for kind in set(KINDS) - {"unix"}:
            transport = await self.transport(kind)
            tune(transport, LAG_TIMEOUT_S)
            carrier = carrier_socket(transport)
            assert carrier is not None

            def option(name: int, level: int = socket.IPPROTO_TCP, carrier: socket.socket = carrier) -> int:
                return carrier.getsockopt(level, name)

            assert option(socket.TCP_NODELAY), kind
            assert option(socket.SO_KEEPALIVE, socket.SOL_SOCKET), kind
            found_s = option(socket.TCP_KEEPIDLE) + option(socket.TCP_KEEPINTVL) * option(socket.TCP_KEEPCNT)
            assert found_s <= 60, kind
            assert option(socket.TCP_USER_TIMEOUT) <= 60_000, kind

    async def test_the_kernel_gives_a_peer_that_takes_nothing_more_time_than_the_chat(self) -> None:
        for lag_timeout_s in (0.001, 45.0, 300.5, 1_000_000.0):
            transport = await self.transport("tcp")
            tune(transport, lag_timeout_s)
            given_ms = transport.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            assert given_ms > lag_timeout_s * 1_000

    async def test_a_unix_connection_has_nothing_to_tune(self) -> None:
        tune(await self.transport("unix"), LAG_TIMEOUT_S)
        assert self.flushLoggedErrors() == []

    async def test_an_ipv6_connection_is_tuned_too(self) -> None:
        made = Quiet()
        factory = Factory.forProtocol(lambda: made)
        factory.noisy = False
        try:
            port = await serverFromString(reactor, "tcp6:0:interface=\\:\\:1").listen(factory)
        except OSError:
            self.skipTest("there is no IPv6 here")
        self.addCleanup(port.stopListening)
        with socket.create_connection(("::1", port.getHost().port)):
            await self.until(lambda: made.connected)
            transport: Any = made.transport
            tune(transport, LAG_TIMEOUT_S)
            assert transport.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
        await self.until(lambda: made.is_lost)

    async def test_what_is_no_tcp_is_left_alone(self) -> None:
        tune(StringTransport(), LAG_TIMEOUT_S)

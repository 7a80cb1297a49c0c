"""Sockets that the reactor watches as one are told the same as those that it watches itself."""

from __future__ import annotations

import gc
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import weakref
from collections.abc import Callable
from fcntl import ioctl
from typing import Any

import pytest
from live import PATIENCE_S
from net.certificate import server_context
from net.loopback import End, LoopbackCase, reactor
from net.test_reactors import INSTALL
from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IReactorTCP
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from zope.interface import implementer

from chatproto.net.gathering import Gathered, GatheringReactor, gathering

if not sys.platform.startswith("linux"):
    pytest.skip("epoll is Linux's", allow_module_level=True)

FIONREAD = 0x541B
MUCH = b"x" * 10_000_000


class Mishap(Exception):
    """What an application raises."""


class Peer(Protocol):
    """One connection of the server's: what it was told, and what it does then."""

    transport: Any

    def __init__(self) -> None:
        self.told: list[object] = []
        self.act: Callable[[], object] = lambda: None
        self.act_lost: Callable[[], object] = lambda: None

    def dataReceived(self, data: bytes) -> None:
        self.told.append(data)
        self.act()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.told.append(reason.type)
        self.act_lost()

    @property
    def data(self) -> bytes:
        """All that came."""
        return b"".join(told for told in self.told if isinstance(told, bytes))


@implementer(IHalfCloseableProtocol)
class HalfClosing(Peer):
    """One that goes on when the other side has said all."""

    def readConnectionLost(self) -> None:
        self.told.append("end of input")
        self.act()

    def writeConnectionLost(self) -> None:
        self.told.append("end of output")


def watched() -> set[Any]:
    """What the reactor itself watches of sockets, or instead of them."""
    return {reader for reader in reactor.getReaders() if isinstance(reader, FileDescriptor | Gathered)}


class ByTheReactor(LoopbackCase):
    """So it is with Twisted alone."""

    kind = "tcp"

    async def pair(self, made: type[Peer] = Peer, kind: str = "") -> tuple[Any, End]:
        """A connection: what the server has of it, and the test's end."""
        kind = kind or self.kind
        peer = made()

        class Peers(Factory):
            noisy = False

            def buildProtocol(self, addr: IAddress | None) -> Protocol:
                return peer

        end = self.connect(await self.listen(Peers(), kind), kind)
        await self.shake_hands(end)
        await self.until(lambda: peer.connected)

        async def be_gone() -> None:
            peer.transport.abortConnection()
            await self.until(lambda: isinstance(peer.told[-1:][0] if peer.told else "", type))

        self.addCleanup(be_gone)
        return peer, end

    async def until_told(self, peer: Peer, *told: object) -> None:
        await self.until(lambda: len(peer.told) >= len(told), f"only {peer.told}")
        assert peer.told == [*told]

    async def until_data(self, peer: Peer, data: bytes) -> None:
        await self.until(lambda: len(peer.data) >= len(data))
        assert peer.data == data

    async def test_bytes_come_and_go_in_order(self) -> None:
        for kind in ("tcp", "unix", "tls", "wrapped", "haproxy"):
            peer, end = await self.pair(kind=kind)
            text = bytes(range(256)) * 100
            for cut in range(0, len(text), 6_400):
                end.send(text[cut : cut + 6_400])
            await self.until_data(peer, text)
            peer.transport.write(MUCH)
            peer.transport.loseConnection()
            assert await self.until_end(end) == MUCH, kind

    async def test_tls_may_begin_in_the_midst(self) -> None:
        peer, end = await self.pair()
        peer.act = lambda: peer.transport.TLS or peer.transport.startTLS(server_context())
        end.send(b"STARTTLS")
        await self.until_told(peer, b"STARTTLS")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        end.socket = context.wrap_socket(end.socket, do_handshake_on_connect=False)
        await self.shake_hands(end)
        end.send(b"secret")
        await self.until_told(peer, b"STARTTLS", b"secret")
        peer.transport.write(b"secret too")
        await self.until_received(end, b"secret too")

    async def test_the_end_of_input_ends_a_connection(self) -> None:
        peer, end = await self.pair()
        end.send(b"bye")
        end.end_input()
        await self.until_told(peer, b"bye", ConnectionDone)

    async def test_half_a_connection_may_end(self) -> None:
        peer, end = await self.pair(HalfClosing)
        end.send(b"the question")
        end.end_input()
        await self.until_told(peer, b"the question", "end of input")
        peer.transport.write(b"the answer")
        await self.until_received(end, b"the answer")
        await self.turns(5)
        assert peer.told == [b"the question", "end of input"]
        peer.transport.loseConnection()
        assert await self.until_end(end) == b"the answer"

    async def test_the_other_half_may_end_first(self) -> None:
        peer, end = await self.pair(HalfClosing)
        peer.transport.write(b"all")
        peer.transport.loseWriteConnection()
        assert await self.until_end(end) == b"all"
        end.send(b"heard")
        await self.until_told(peer, "end of output", b"heard")
        end.end_input()
        await self.until_told(peer, "end of output", b"heard", "end of input")

    async def test_what_the_end_of_input_raises_ends_the_connection(self) -> None:
        peer, end = await self.pair(HalfClosing)

        def fail() -> None:
            raise Mishap

        peer.act = fail
        end.end_input()
        await self.until_told(peer, "end of input", Mishap)
        assert len(self.flushLoggedErrors(Mishap)) == 1

    async def test_a_reset_is_a_loss(self) -> None:
        peer, end = await self.pair(kind="tcp")
        end.reset()
        await self.until_told(peer, ConnectionLost)

    async def test_a_reset_of_a_connection_that_is_not_read_is_a_loss(self) -> None:
        peer, end = await self.pair()
        peer.transport.pauseProducing()
        peer.transport.write(MUCH)
        await self.turns()
        end.reset()
        await self.until_told(peer, ConnectionLost)

    async def test_what_came_before_a_reset_is_read_though_much_waits_to_be_written(self) -> None:
        peer, end = await self.pair()
        peer.transport.write(MUCH)
        await self.turns(5)
        end.send(b"last words")
        end.reset()
        await self.until_told(peer, b"last words", ConnectionLost)

    async def test_an_exception_ends_its_own_connection_alone(self) -> None:
        peer, end = await self.pair()
        other, other_end = await self.pair()

        def fail() -> None:
            raise Mishap

        peer.act = fail
        end.send(b"1")
        other_end.send(b"2")
        await self.until_told(peer, b"1", Mishap)
        await self.until_told(other, b"2")
        assert await self.until_end(end) == b""
        other_end.send(b"3")
        await self.until_told(other, b"2", b"3")
        assert len(self.flushLoggedErrors(Mishap)) == 1

    async def test_an_exception_about_the_end_is_logged_and_harms_nobody(self) -> None:
        peer, end = await self.pair()
        other, other_end = await self.pair()

        def fail() -> None:
            raise Mishap

        peer.act_lost = fail
        end.close()
        other_end.send(b"2")
        await self.until_told(peer, ConnectionDone)
        await self.until_told(other, b"2")
        assert len(self.flushLoggedErrors(Mishap)) == 1

    async def test_an_interrupt_is_taken_for_an_exception_of_the_connection(self) -> None:
        peer, end = await self.pair()
        other, other_end = await self.pair()

        def interrupt() -> None:
            raise KeyboardInterrupt

        peer.act = interrupt
        end.send(b"1")
        other_end.send(b"2")
        await self.until_told(peer, b"1", KeyboardInterrupt)
        await self.until_told(other, b"2")
        assert len(self.flushLoggedErrors(KeyboardInterrupt)) == 1

    async def test_one_that_is_paused_is_told_nothing_until_it_goes_on(self) -> None:
        peer, end = await self.pair()
        peer.transport.pauseProducing()
        end.send(b"1")
        await self.turns(5)
        assert peer.told == []
        peer.transport.resumeProducing()
        await self.until_told(peer, b"1")

    async def test_one_that_pauses_itself_goes_on_where_it_was(self) -> None:
        peer, end = await self.pair()
        peer.act = lambda: peer.transport.pauseProducing()
        end.send(b"1")
        await self.until_told(peer, b"1")
        end.send(b"2")
        await self.turns(5)
        assert peer.told == [b"1"]
        peer.transport.resumeProducing()
        await self.until_told(peer, b"1", b"2")

    async def test_one_that_is_aborted_is_told_of_its_end_alone(self) -> None:
        peer, end = await self.pair()

        def abort() -> None:
            end.send(b"2")
            peer.transport.abortConnection()
            peer.transport.resumeProducing()

        peer.act = abort
        end.send(b"1")
        await self.until_told(peer, b"1", ConnectionAborted)

    async def test_those_who_come_at_once_are_all_let_in(self) -> None:
        made = list[Peer]()

        class Peers(Factory):
            noisy = False

            def buildProtocol(self, addr: IAddress | None) -> Protocol:
                made.append(Peer())
                return made[-1]

        port = await self.listen(Peers())
        ends = [self.connect(port) for _ in range(40)]
        for number, end in enumerate(ends):
            end.send(b"%d" % number)
        await self.until(lambda: len(made) == 40 and all(peer.told for peer in made))
        assert sorted(peer.data for peer in made) == sorted(b"%d" % number for number in range(40))
        for end in ends:
            end.close()
        await self.until(lambda: all(peer.told[-1] is ConnectionDone for peer in made))

    async def test_nothing_is_left_of_one_that_has_ended(self) -> None:
        peer, end = await self.pair()
        transport = weakref.ref(peer.transport)
        end.close()
        await self.until_told(peer, ConnectionDone)
        peer.transport = None
        await self.turns()
        gc.collect()
        assert transport() is None
        peer.transport = Gone()

    async def test_a_small_buffer_that_is_asked_for_is_kept_to(self) -> None:
        peer, end = await self.pair()
        peer.transport.pauseProducing()
        peer.transport.bufferSize = 4
        peer.transport.resumeProducing()
        end.send(b"1234567")
        await self.until_told(peer, b"1234", b"567")


class Gone:
    """The transport of one that has ended."""

    def abortConnection(self) -> None:
        """Without effect."""


class ByTheReactorOverUnixSockets(ByTheReactor):
    """So it is with Twisted alone."""

    kind = "unix"


class Together(ByTheReactor):
    """So it is gathered, and what several have to do with each other then."""

    def setUp(self) -> None:
        self.listening = gathering(reactor)

    async def test_the_reactor_watches_nothing_but_one_descriptor(self) -> None:
        peers = [await self.pair(kind=kind) for kind in ("tcp", "unix", "tls")]
        assert [type(reader) for reader in watched()] == [Gathered]
        peers[0][0].transport.write(MUCH)
        assert reactor.getWriters() == []
        assert [type(reader) for reader in watched()] == [Gathered]

    async def test_the_reactor_watches_nothing_when_the_last_is_gone(self) -> None:
        peer, end = await self.pair()
        await peer.transport.server.stopListening()
        assert watched()
        end.close()
        await self.until_told(peer, ConnectionDone)
        assert watched() == set()

    async def test_a_message_of_64_kib_with_its_header_is_one_read(self) -> None:
        peer, end = await self.pair(kind="tcp")
        peer.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_000_000)
        end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1_000_000)
        peer.transport.pauseProducing()
        text = os.urandom(65_536 + 14)
        end.send(text)
        there = peer.transport.getHandle()
        await self.until(lambda: struct.unpack("i", ioctl(there, FIONREAD, b"\0" * 4))[0] == len(text))
        peer.transport.resumeProducing()
        await self.until_told(peer, text)

    async def test_who_is_paused_by_another_of_the_same_turn_is_told_nothing(self) -> None:
        first, first_end = await self.pair()
        second, second_end = await self.pair()
        first.act = lambda: second.transport.pauseProducing()
        first_end.send(b"1")
        second_end.send(b"2")
        await self.until_told(first, b"1")
        await self.turns(5)
        assert second.told == []
        second.transport.resumeProducing()
        await self.until_told(second, b"2")

    async def test_who_is_paused_by_another_is_told_nothing_though_it_has_something_to_write(self) -> None:
        first, first_end = await self.pair()
        second, second_end = await self.pair()
        first.act = lambda: second.transport.pauseProducing()
        second.act = lambda: first.transport.pauseProducing()
        for peer in (first, second):
            peer.transport.write(MUCH)
        await self.turns(5)
        first_end.send(b"1")
        second_end.send(b"2")
        await self.turns(5)  # the kernel says which of them is the first
        assert first.told + second.told in ([b"1"], [b"2"])
        first.transport.resumeProducing()
        second.transport.resumeProducing()
        await self.until(lambda: first.told == [b"1"] and second.told == [b"2"])

    async def test_who_is_paused_and_resumed_by_another_loses_nothing(self) -> None:
        first, first_end = await self.pair()
        second, second_end = await self.pair()

        def pause_and_resume() -> None:
            second.transport.pauseProducing()
            second.transport.resumeProducing()

        first.act = pause_and_resume
        first_end.send(b"1")
        second_end.send(b"2")
        await self.until_told(first, b"1")
        await self.until_told(second, b"2")

    async def test_who_is_aborted_by_another_of_the_same_turn_is_told_of_its_end_alone(self) -> None:
        first, first_end = await self.pair()
        second, second_end = await self.pair()
        first.act = lambda: second.transport.abortConnection()
        first_end.send(b"1")
        second_end.send(b"2")
        await self.until_told(first, b"1")
        await self.until_told(second, ConnectionAborted)

    async def test_who_is_closed_by_another_of_the_same_turn_is_told_of_its_end_alone(self) -> None:
        first, first_end = await self.pair()
        second, second_end = await self.pair()
        first.act = lambda: second.transport.loseConnection()
        first_end.send(b"1")
        second_end.send(b"2")
        await self.until_told(first, b"1")
        await self.until_told(second, ConnectionDone)

    async def test_tls_of_an_endpoint_is_gathered_too(self) -> None:
        port = self.listening.listenSSL(0, Factory.forProtocol(Peer), server_context(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        assert [type(reader) for reader in watched()] == [Gathered]

    async def test_a_port_that_is_open_already_is_gathered_too(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as opened:
            opened.setblocking(False)
            port = self.listening.adoptStreamPort(opened.fileno(), socket.AF_INET, Factory.forProtocol(Peer))
        self.addCleanup(port.stopListening)
        assert [type(reader) for reader in watched()] == [Gathered]

    async def test_it_is_the_reactor_in_all_else(self) -> None:
        gathered: Any = self.listening
        assert gathered.seconds == reactor.seconds
        assert not hasattr(gathered, "seconds_ago")
        assert IReactorTCP.providedBy(gathered)


class TogetherOverUnixSockets(Together):
    """The same, read by Twisted's own `doRead`."""

    kind = "unix"


def test_what_is_no_reactor_of_sockets_is_left_alone() -> None:
    for other in (Clock(), MemoryReactorClock()):
        assert gathering(other) is other
    assert isinstance(gathering(reactor), GatheringReactor)


PROGRAM = """
{install}
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from chatproto.net.gathering import gathering

class Echo(Protocol):
    def dataReceived(self, data):
        self.transport.write(data)
        if data == b"stop":
            reactor.stop()

    def connectionLost(self, reason):
        print(reason.type.__name__, flush=True)

endpoint = serverFromString(gathering(reactor), "tcp:0:interface=127.0.0.1")
endpoint.listen(Factory.forProtocol(Echo)).addCallback(lambda port: print(port.getHost().port, flush=True))
reactor.run()
"""


@pytest.mark.parametrize("name", INSTALL)
def test_every_reactor_watches_it_and_ends_all_when_it_ends(name: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(install=INSTALL[name])], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            address = ("127.0.0.1", int(process.stdout.readline()))
            ends = [socket.create_connection(address, PATIENCE_S) for _ in range(3)]
            for end in ends:
                end.sendall(b"hello")
                assert end.recv(5) == b"hello"
            ends[0].sendall(b"stop")
            for end in ends:
                received = b""
                while data := end.recv(100):
                    received += data
                end.close()
            assert process.stdout.read() == "ConnectionLost\n" * 3
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.send_signal(signal.SIGKILL)

"""Real sockets on the real reactor, and the time in the test's hand."""

from __future__ import annotations

import socket
import ssl
import tempfile
import time
from collections.abc import Callable
from typing import Any, cast

from live import PATIENCE_S
from net.certificate import server_context
from twisted.internet import reactor as the_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock, deferLater
from twisted.protocols.policies import WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import TestCase

from chatproto.net.prompttls import PromptTLSFactory
from chatproto.wire.chat import FrameDecoder
from chatproto.wire.messages import Message, Side

reactor = cast(Any, the_reactor)

CHUNK_BYTES = 2**16

KINDS = ("tcp", "unix", "tls", "prompt tls", "wrapped", "haproxy")
"""The ways in which a connection may come."""

DIRECT = ("tcp", "unix")
"""Those whose socket may be written to."""


class TurnClock(Clock):
    """A clock that the test moves, but what is due at once happens in the real reactor's next turn."""

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> IDelayedCall:
        if delay == 0:
            return cast(IDelayedCall, reactor.callLater(0, callable, *args, **kw))
        return super().callLater(delay, callable, *args, **kw)


def messages(received: bytes | bytearray) -> list[Message]:
    """The messages in what came."""
    decoder = FrameDecoder(Side.CLIENT, 2**24 - 1)
    found = decoder.receive(bytes(received))
    assert decoder.fault is None
    return found


class End:
    """The other end of a connection: a plain socket that does only what the test tells it to."""

    def __init__(self, plain: socket.socket) -> None:
        plain.setblocking(False)
        if plain.family != socket.AF_UNIX:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = plain
        self.received = bytearray()
        self.at_end = False
        self.was_reset = False

    def send(self, data: bytes) -> None:
        """Send what must fit into the kernel's buffer."""
        assert self.socket.send(data) == len(data)

    def read(self, most_bytes: int = CHUNK_BYTES) -> int:
        """Take what is there, at most so much; how much it was."""
        taken = 0
        while taken < most_bytes and not self.at_end:
            try:
                data = self.socket.recv(min(CHUNK_BYTES, most_bytes - taken))
            except (BlockingIOError, ssl.SSLWantReadError):
                break
            except ConnectionResetError:
                self.was_reset = self.at_end = True
                break
            self.at_end = not data
            self.received += data
            taken += len(data)
        return taken

    def end_input(self) -> None:
        """Send nothing more, but still read."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close, with a reset if something was not read."""
        self.socket.close()

    def reset(self) -> None:
        """End the connection with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()


def _tcp_pair(send_buffer_bytes: int, receive_buffer_bytes: int) -> tuple[socket.socket, socket.socket]:
    with socket.socket() as listening:
        if send_buffer_bytes:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        theirs = socket.socket()
        if receive_buffer_bytes:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        theirs.connect(listening.getsockname())
        ours, _ = listening.accept()
    return ours, theirs


def _unix_pair(send_buffer_bytes: int, receive_buffer_bytes: int) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    if send_buffer_bytes:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
    return ours, theirs


PAIRS = {"tcp": _tcp_pair, "unix": _unix_pair}


class LoopbackCase(TestCase):
    """A test on the real reactor, which trial checks for sockets and timers that are left."""

    timeout = 3 * PATIENCE_S
    listening: Any = reactor
    """What ports are made with: the reactor, or what stands in front of it."""

    def turns(self, count: int = 2) -> Deferred[None]:
        """Let the reactor go round."""

        async def go_round() -> None:
            for _ in range(count):
                await deferLater(reactor, 0)

        return Deferred.fromCoroutine(go_round())

    async def until(self, holds: Callable[[], object], what: str = "") -> None:
        """Wait, with the reactor going round, until something holds."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline_s, what or "it did not come to hold"
            await deferLater(reactor, 0.001)

    async def until_end(self, end: End) -> bytes:
        """Read until the other side closes: everything that came."""

        def is_over() -> bool:
            end.read()
            return end.at_end

        await self.until(is_over, f"still open after {bytes(end.received[-500:])!r}")
        return bytes(end.received)

    async def until_received(self, end: End, data: bytes) -> None:
        """Read until *data* is in what came."""

        def has_come() -> bool:
            end.read()
            return data in end.received

        await self.until(has_come, f"{data!r} is not in {bytes(end.received[-500:])!r}")

    async def listen(self, factory: Factory, kind: str = "tcp") -> IListeningPort:
        """Listen in one of `KINDS` until the test is over."""
        endpoint = "tcp:0:interface=127.0.0.1"
        wrapped: Any = factory
        if kind == "unix":
            folder = tempfile.TemporaryDirectory(prefix="chatproto-test-")
            self.addCleanup(folder.cleanup)
            endpoint = f"unix:{folder.name}/socket"
        elif kind == "haproxy":
            endpoint = f"haproxy:{endpoint}"
        elif kind == "tls":
            wrapped = TLSMemoryBIOFactory(server_context(), False, factory)
        elif kind == "prompt tls":
            wrapped = PromptTLSFactory(server_context(), False, factory)
        elif kind == "wrapped":
            wrapped = WrappingFactory(factory)
        port: IListeningPort = await serverFromString(self.listening, endpoint).listen(wrapped)
        self.addCleanup(port.stopListening)
        return port

    def connect(self, port: IListeningPort, kind: str = "tcp", *, receive_buffer_bytes: int = 0) -> End:
        """A socket of the test's, connected to *port* in the way of *kind*; TLS is still to be opened."""
        address: Any = port.getHost()
        plain = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
        if receive_buffer_bytes:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        plain.connect(address.name if kind == "unix" else ("127.0.0.1", address.port))
        if kind in ("tls", "prompt tls"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            plain.setblocking(False)
            plain = context.wrap_socket(plain, do_handshake_on_connect=False)
        end = End(plain)
        if kind == "haproxy":
            end.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 2222\r\n")
        self.addCleanup(end.close)
        return end

    async def shake_hands(self, end: End) -> None:
        """Open the TLS of *end*; nothing to do for another kind."""
        secured = end.socket
        if not isinstance(secured, ssl.SSLSocket):
            return

        def is_open() -> bool:
            try:
                secured.do_handshake()
            except ssl.SSLWantReadError:
                return False
            return True

        await self.until(is_open)

"""Servers of WebSockets in processes of their own, and a client that says what it wants, right or wrong.

Nothing of the engine's is in the client.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import time
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path
from types import TracebackType
from typing import Self

from faults.watching import assert_log_is_clean
from live import PATIENCE_S, Server, eventually

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

KEY = b"\x37\xfa\x21\x3d"
HEADERS = (
    b"Host: localhost\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
)
REQUEST = b"GET / HTTP/1.1\r\n" + HEADERS
"""An opening handshake without the blank line at its end."""

ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
OFFER = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"


SIOCOUTQ = 0x5411  # of Linux

LISTEN = ("--listen", "tcp:0:interface=127.0.0.1:backlog=1024")


class WebSocketServer(Server):
    """A server that has served one peer; `fresh_bytes` is its resident memory then.

    So what a test does not give back counts in the next one's figures.
    """

    def __init__(self, command: list[str]) -> None:
        super().__init__(command=command)
        with Peer(self) as first:
            first.echoed(b"hello")
            first.round_trip_s()
            self.quiet_descriptors = self.descriptors() - 1
        self.await_quiet()
        self.fresh_bytes = self.rss_bytes()

    def assert_well(self) -> None:
        """It serves a newcomer, and nothing went wrong in it that it had to log."""
        with Peer(self) as newcomer:
            newcomer.echoed(b"is anybody there? " * 20)
            newcomer.round_trip_s()
        assert_log_is_clean(self)

    def await_quiet(self) -> None:
        """Nobody is connected any more."""
        eventually(lambda: self.descriptors() == self.quiet_descriptors, "there is somebody left")

    def in_use(self) -> Iterator[Self]:
        """Itself, for a test. After it nobody is connected, and a newcomer is served."""
        yield self
        self.await_quiet()
        self.assert_well()


class EchoServer(WebSocketServer):
    """`examples/echo_server.py` with *options*."""

    def __init__(self, *options: str) -> None:
        script = Path(__file__).parents[2] / "examples" / "echo_server.py"
        super().__init__([sys.executable, str(script), *LISTEN, *options])


PUSHING = [sys.executable, str(Path(__file__).with_name("pushing_server.py"))]
"""Runs `pushing_server.py` beside this file."""


class PushingServer(WebSocketServer):
    """`pushing_server.py` with *options*."""

    def __init__(self, *options: str) -> None:
        super().__init__([*PUSHING, *options])

    def ends(self, path: str) -> list[str]:
        """How the connections to *path* ended."""
        return ends(self, path)

    def await_end(self, path: str, n_before: int) -> str:
        """How the next connection to *path* ended, after *n_before*."""
        eventually(lambda: len(self.ends(path)) > n_before, f"a connection to {path} has ended")
        return self.ends(path)[n_before]


def ends(server: Server, path: str) -> list[str]:
    """How the connections to *path* ended, as `pushing_server.py` has it in its log."""
    mark = f"{path} ended: "
    return [line.removeprefix(mark) for line in server.log().splitlines() if line.startswith(mark)]


def deflated(payload: bytes) -> bytes:
    """*payload* as permessage-deflate has it, on its own."""
    return deflated_part(payload).removesuffix(b"\0\0\xff\xff")


def deflated_part(payload: bytes) -> bytes:
    """The same for a part of a message: any number of them in a row, and `deflated` at the end, are one."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return stream.compress(payload) + stream.flush(zlib.Z_FULL_FLUSH)


def header(opcode: int, length: int, *, fin: bool = True, rsv1: bool = False) -> bytes:
    """The header of a client's frame, its key included."""
    first = opcode | (0x80 if fin else 0) | (0x40 if rsv1 else 0)
    if length < 126:
        return struct.pack(">BB", first, 0x80 | length) + KEY
    if length < 2**16:
        return struct.pack(">BBH", first, 0xFE, length) + KEY
    return struct.pack(">BBQ", first, 0xFF, length) + KEY


def masked(payload: bytes) -> bytes:
    """*payload* as it travels."""
    size = len(payload)
    key = (KEY * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv1: bool = False) -> bytes:
    """A client's frame."""
    return header(opcode, len(payload), fin=fin, rsv1=rsv1) + masked(payload)


@dataclass(frozen=True, slots=True)
class Received:
    """A frame of the server's."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv1: bool = False

    @property
    def code(self) -> int:
        """The code of a close frame; 1005 where it has none."""
        return struct.unpack_from(">H", self.payload)[0] if self.payload else 1005


def inflated(received: Received) -> bytes:
    """The payload of a message of the server's in one frame, compressed or not."""
    if not received.rsv1:
        return received.payload
    return zlib.decompressobj(-15).decompress(received.payload + b"\0\0\xff\xff")


class Peer:
    """One connection to *server*, its opening handshake done. It blocks, for `PATIENCE_S` at most.

    `deflates` is whether permessage-deflate was agreed on, which *deflate* asks for.
    """

    def __init__(
        self, server: Server, path: str = "/", *, deflate: bool = False, receive_buffer_bytes: int = 0
    ) -> None:
        self.socket = server.raw(receive_buffer_bytes=receive_buffer_bytes)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.at_end = False
        self._unread = bytearray()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\n".encode() + HEADERS + (OFFER if deflate else b"") + b"\r\n"
        )
        while b"\r\n\r\n" not in self._unread:
            assert self._read(), bytes(self._unread)
        head, _, rest = bytes(self._unread).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert ACCEPT in head, head
        self.deflates = b"permessage-deflate" in head
        assert self.deflates is deflate, head
        self._unread = bytearray(rest)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, opcode: int, payload: bytes = b"", *, fin: bool = True, rsv1: bool = False) -> None:
        """Send a frame."""
        self.socket.sendall(frame(opcode, payload, fin=fin, rsv1=rsv1))

    def _read(self) -> bool:
        try:
            data = self.socket.recv(2**18)
        except ConnectionError:
            data = b""
        self.at_end = not data
        self._unread += data
        return not self.at_end

    def receive(self) -> Received | None:
        """The next frame; None where the connection ends. Pings are answered, and passed over."""
        while True:
            received = self._next()
            if received is None or received.opcode != PING:
                return received
            self.send(PONG, received.payload)

    def _next(self) -> Received | None:
        while True:
            unread = self._unread
            size, length = 2, 0
            if len(unread) >= 2:
                length = unread[1]
                assert length < 128, "the server masks"
                if length == 126:
                    size = 4
                    length = int.from_bytes(unread[2:4], "big")
                elif length == 127:
                    size = 10
                    length = int.from_bytes(unread[2:10], "big")
            if len(unread) >= 2 and len(unread) >= size + length:
                payload = bytes(unread[size : size + length])
                first = unread[0]
                del unread[: size + length]
                return Received(first & 15, payload, bool(first & 0x80), bool(first & 0x40))
            if not self._read():
                return None

    def frames(self) -> Iterator[Received]:
        """All that come until the connection ends."""
        while (received := self.receive()) is not None:
            yield received

    def closed(self) -> Received:
        """The close frame with which the connection ends."""
        *_, last = self.frames()
        assert last.opcode == CLOSE, last
        return last

    def await_taken(self) -> None:
        """The server's kernel has all that was sent."""
        eventually(lambda: not array("i", ioctl(self.socket, SIOCOUTQ, b"\0" * 4))[0], "it takes no more")

    def reset(self) -> None:
        """Be gone as a crash is, if not gone already: the other side gets a reset."""
        if self.socket.fileno() >= 0:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.socket.close()

    def round_trip_s(self, payload: bytes = b"are you there?") -> float:
        """From a ping to its pong, while nothing else comes."""
        began_s = time.perf_counter()
        self.send(PING, payload)
        assert self.receive() == Received(PONG, payload)
        return time.perf_counter() - began_s

    def echoed(self, text: bytes) -> None:
        """The server still echoes."""
        self.send(TEXT, text)
        assert self.receive() == Received(TEXT, text)

    def send_unread(self, data: bytes, most_bytes: int, quiet_s: float = 0.5) -> int:
        """Send *data* again and again, reading nothing, until nothing is taken for a while; how much it was.

        Ends early where the server ends the connection.
        """
        self.socket.setblocking(False)
        view, sent, last_s = memoryview(data), 0, time.monotonic()
        with contextlib.suppress(ConnectionError):
            while sent < most_bytes and time.monotonic() - last_s < quiet_s:
                try:
                    sent += self.socket.send(view[sent % len(data) :])
                    last_s = time.monotonic()
                except BlockingIOError:
                    time.sleep(0.005)
        self.socket.settimeout(PATIENCE_S)
        return sent


def closing_frame(peer: Peer) -> Received:
    """The server's close frame; the connection stays."""
    while (received := peer.receive()) is not None:
        if received.opcode == CLOSE:
            return received
    raise AssertionError("it ended without a close frame")


def read_to_end(plain: socket.socket) -> bytes:
    """What comes until the server closes, with a reset or without."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while data := plain.recv(2**16):
            received += data
    return received

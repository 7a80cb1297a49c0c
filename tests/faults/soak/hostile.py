"""What every hostile peer of a soak is made of: a rate, a socket that does just what it is told, an end."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import ClassVar

from faults.soak.forms import proxy_header
from faults.websocket_peer import HEADERS, OFFER

__all__ = ["ANSWERED", "ENDED", "JSON_SOCKET", "OPEN", "SOCKET", "TURNED_AWAY", "Hostile", "Target", "Wire"]

ENDED, ANSWERED, TURNED_AWAY, OPEN = "ended", "answered", "turned away", "still open"
"""How an attack ends: the server ended the connection, or answered until the peer had enough, or did not let
it in; or the connection is open though it should not be."""

_REQUEST = b"GET /chat HTTP/1.1\r\n" + HEADERS
SOCKET = _REQUEST + b"Sec-WebSocket-Protocol: chat.v1.bin\r\n\r\n"
JSON_SOCKET = _REQUEST + OFFER + b"Sec-WebSocket-Protocol: chat.v1.json\r\n\r\n"
"""Opening handshakes; the second one offers compression."""


@dataclass(frozen=True)
class Target:
    """The ports of the server, and the rooms in which well-behaved people are."""

    tcp_port: int
    tls_port: int
    proxied_port: int
    rooms: tuple[str, ...]


class Wire:
    """A socket, which is read only when it is told to."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        """Send all of it. Raises ConnectionError where the server has ended it."""
        await self._loop.sock_sendall(self.socket, data)

    async def receive(self) -> bytes:
        """What comes next; nothing where the server has ended it."""
        with suppress(ConnectionError):
            return await self._loop.sock_recv(self.socket, 2**18)
        return b""

    async def is_ended(self, within_s: float) -> bool:
        """Take in what comes, until the server ends the connection or it took too long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while await self.receive():
                    pass
                return True
        return False

    def finish(self) -> None:
        """Send nothing more, but go on reading."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Be gone as a crash is."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()


class Hostile:
    """One kind of peer. `per_s` attacks are begun in a second, unless so many go on `at_once`."""

    what: ClassVar[str]
    per_s: ClassVar[float]
    at_once: ClassVar[int] = 50
    ends: ClassVar[frozenset[str]] = frozenset({ENDED})
    """How an attack may end."""

    def __init__(self, target: Target, chance: random.Random) -> None:
        self.target = target
        self.chance = chance

    async def attack(self) -> str:
        """Attack once; how it ended. A ConnectionError is an end by the server."""
        raise NotImplementedError

    def address(self) -> str:
        """Somewhere on the Internet."""
        return f"203.0.113.{self.chance.randrange(1, 255)}"

    def nick(self, word: str) -> str:
        """A name that nobody has."""
        return f"{word}{self.chance.getrandbits(48):x}"

    @asynccontextmanager
    async def wire(self, port: int = 0, *, receive_buffer_bytes: int = 0) -> AsyncIterator[Wire]:
        """A connection to a port, the plain one unless told, from another address of this machine."""
        plain = socket.socket()
        plain.setblocking(False)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer_bytes:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        try:
            plain.bind((f"127.0.0.{self.chance.randrange(2, 255)}", 0))
            await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", port or self.target.tcp_port))
            yield Wire(plain)
        finally:
            plain.close()

    @asynccontextmanager
    async def wire_from(self, address: str, *, receive_buffer_bytes: int = 0) -> AsyncIterator[Wire]:
        """A connection that a proxy says to come from an address, which counts for the limits."""
        async with self.wire(self.target.proxied_port, receive_buffer_bytes=receive_buffer_bytes) as wire:
            await wire.send(proxy_header(address))
            yield wire

    async def dribble(self, wire: Wire, data: Iterator[bytes], for_s: float) -> str:
        """Send a byte a second, and read; how that ended."""
        with suppress(ConnectionError):
            for byte in data:
                await wire.send(byte)
                if await wire.is_ended(1.0):
                    return ENDED
                for_s -= 1
                if for_s < 0:
                    return OPEN
            return OPEN
        return ENDED

    async def pour(self, wire: Wire, pieces: Iterator[bytes], every_s: float, for_s: float) -> str:
        """Send a piece each time, as soon as the server takes it, and throw away what comes; how it ended."""
        reading = asyncio.create_task(wire.is_ended(for_s))
        try:
            with suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(for_s):
                    for piece in pieces:
                        await wire.send(piece)
                        await asyncio.sleep(every_s)
            return ENDED if await reading else ANSWERED
        finally:
            reading.cancel()

"""What the tests tell a peer, and what it tells them: a JSON object on each line of its standard streams.

Commands have a `do`: `listen` and `connect` begin a conversation and name it (`of`); `send`, `ping` and
`close` go on with it, `forget` ends it. Events have an `event`: `listening`, `open`, `refused`, `text`,
`binary`, `pong`, `closed`, and `failed` for a defect. Bytes are in base64. Who listens has one conversation.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Terms:
    """What one side wants of a connection. The parameters of *deflate* are as in `chatproto.wire.deflate`."""

    deflate: dict[str, Any] | None = None
    subprotocols: list[str] = field(default_factory=list)
    refusal: tuple[int, str] | None = None
    """Status and body for whoever wants to connect."""
    origins: list[str] = field(default_factory=list)
    """Whose pages a server admits beside its own."""
    tls: tuple[str, str] | None = None
    """The paths of the server's certificate, which the client is to trust, and of its key."""

    def context(self, *, is_server: bool) -> ssl.SSLContext | None:
        """What asyncio takes for TLS."""
        if self.tls is None:
            return None
        certificate, key = self.tls
        if not is_server:
            return ssl.create_default_context(cafile=certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context

    @property
    def window_bits(self) -> dict[str, Any]:
        """The windows that are not the usual ones, in bits."""
        return {name: bits for name, bits in (self.deflate or {}).items() if name.endswith("_bits")}

    @property
    def no_takeovers(self) -> dict[str, Any]:
        """Which sides are to forget what they sent before."""
        names = ("server_no_context_takeover", "client_no_context_takeover")
        return {name: bool((self.deflate or {}).get(name)) for name in names}


class Connection(Protocol):
    """One side of an open WebSocket."""

    async def send(self, pieces: Sequence[str | bytes]) -> None:
        """Send one message, in as many fragments as there are pieces; they are all str, or all bytes."""

    async def ping(self, payload: bytes) -> None:
        """Send a ping."""

    async def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake."""


class Report:
    """Tells the tests about one conversation."""

    def __init__(self, of: int) -> None:
        self.of = of
        self.connection: Connection | None = None
        self.stop: Callable[[], Awaitable[None]] | None = None

    def opened(self, connection: Connection, subprotocol: str | None) -> None:
        self.connection = connection
        self._tell("open", subprotocol=subprotocol)

    def refused(self, status: int, body: str | None) -> None:
        """*body* is None where the peer does not give it to applications."""
        self._tell("refused", status=status, body=body)

    def message(self, data: str | bytes | bytearray) -> None:
        if isinstance(data, str):
            self._tell("text", data=data)
        else:
            self._tell("binary", data=base64.b64encode(data).decode())

    def pong(self, payload: bytes) -> None:
        self._tell("pong", payload=base64.b64encode(payload).decode())

    def closed(self, code: int | None, reason: str | None, is_clean: bool | None = None) -> None:
        """Each is None where the peer does not give it to applications."""
        self._tell("closed", code=code, reason=reason, is_clean=is_clean)

    def listening(self, port: int) -> None:
        self._tell("listening", port=port)

    def failed(self) -> None:
        """A defect; the test that waits for something else shows it."""
        self._tell("failed", traceback=traceback.format_exc())

    def _tell(self, event: str, **what: object) -> None:
        print(json.dumps({"of": self.of, "event": event, **what}), flush=True)


class Peer(Protocol):
    """What a program of this folder makes of one WebSocket library."""

    async def listen(self, terms: Terms, report: Report) -> tuple[int, Callable[[], Awaitable[None]]]:
        """Listen on a free port of 127.0.0.1; the port, and what ends that."""

    async def connect(self, url: str, terms: Terms, report: Report) -> None:
        """Connect, and report `open` or `refused`."""


class Conversations:
    """Carries out commands, one after the other."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._reports: dict[int, Report] = {}

    async def perform(self, line: bytes) -> None:
        """Carry out one command."""
        command = json.loads(line)
        of = command["of"]
        report = self._reports.setdefault(of, Report(of))
        try:
            await self._perform(command, report)
        except Exception:
            report.failed()

    async def _perform(self, command: dict[str, Any], report: Report) -> None:
        match command:
            case {"do": "listen", "terms": terms}:
                port, report.stop = await self._peer.listen(Terms(**terms), report)
                report.listening(port)
            case {"do": "connect", "url": url, "terms": terms}:
                await self._peer.connect(url, Terms(**terms), report)
            case {"do": "forget"}:
                del self._reports[report.of]
                if report.stop is not None:
                    await report.stop()
            case _:
                assert report.connection is not None, "there is no connection"
                await _go_on(command, report.connection)


async def _go_on(command: dict[str, Any], connection: Connection) -> None:
    match command:
        case {"do": "send", "text": pieces}:
            await connection.send(pieces)
        case {"do": "send", "binary": pieces}:
            await connection.send([base64.b64decode(piece) for piece in pieces])
        case {"do": "ping", "payload": payload}:
            await connection.ping(base64.b64decode(payload))
        case {"do": "close", "code": code, "reason": reason}:
            await connection.close(code, reason)
        case _:
            raise ValueError(f"unknown: {command}")


def run(peer: Peer) -> None:
    """Carry out what standard input says, on asyncio, until it ends."""
    asyncio.run(_run(peer))


async def _run(peer: Peer) -> None:
    commands = asyncio.StreamReader(limit=2**26)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    conversations = Conversations(peer)
    while line := await commands.readline():
        await conversations.perform(line)

"""The library `wsproto`, which has no sockets of its own: here it is between asyncio's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from interop.peers.commands import Report, Terms, run
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate


class _Socket:
    def __init__(
        self,
        side: ConnectionType,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        terms: Terms,
        report: Report,
    ) -> None:
        self._reader, self._writer = streams
        self._terms = terms
        self._report = report
        self._side = side
        self._wsproto = WSConnection(side)
        self._pieces: list[str | bytes] = []
        self._refusal: tuple[int, bytes] | None = None
        self._is_closed = False

    def open(self, url: str) -> None:
        parts = urlsplit(url)
        self._write(
            Request(
                host=parts.netloc,
                target=parts.path,
                subprotocols=self._terms.subprotocols,
                extensions=self._extensions(),
            )
        )

    async def receive(self) -> None:
        """Report what comes, until the end."""
        while data := await self._reader.read(2**16):
            self._wsproto.receive_data(data)
            for event in self._wsproto.events():
                self._happened(event)
            await self._writer.drain()
            if self._is_closed and self._side is ConnectionType.SERVER:
                break  # the server is the first to close (RFC 6455, section 7.1.1)
        self._writer.close()
        if not self._is_closed and self._refusal is None:
            self._report.closed(1006, None)

    def _happened(self, event: Event) -> None:
        match event:
            case Request():
                self._answer(event)
            case AcceptConnection():
                self._report.opened(self, event.subprotocol)
            case RejectConnection():
                self._refusal = (event.status_code, b"")
            case RejectData():
                assert self._refusal is not None
                status, body = self._refusal
                self._refusal = (status, body + event.data)
                if event.body_finished:
                    self._report.refused(status, (body + event.data).decode())
            case TextMessage() | BytesMessage():
                self._received(event)
            case Ping():
                self._write(event.response())
            case Pong():
                self._report.pong(bytes(event.payload))
            case CloseConnection():
                if self._wsproto.state.name != "CLOSED":
                    self._write(event.response())
                self._is_closed = True
                self._report.closed(event.code, event.reason or "")

    def _answer(self, request: Request) -> None:
        if self._terms.refusal is not None:
            status, body = self._terms.refusal
            data = body.encode()
            headers = [(b"Content-Length", str(len(data)).encode())]
            self._write(RejectConnection(status_code=status, headers=headers, has_body=True))
            self._write(RejectData(data=data))
            self._is_closed = True  # there was no WebSocket, so its end is no event
            return
        chosen = next((name for name in self._terms.subprotocols if name in request.subprotocols), None)
        self._write(AcceptConnection(subprotocol=chosen, extensions=list(self._extensions())))
        self._report.opened(self, chosen)

    def _received(self, piece: TextMessage | BytesMessage) -> None:
        self._pieces.append(piece.data if isinstance(piece, TextMessage) else bytes(piece.data))
        if piece.message_finished:
            pieces, self._pieces = self._pieces, []
            if isinstance(piece, TextMessage):
                self._report.message("".join(map(str, pieces)))
            else:
                self._report.message(b"".join(piece for piece in pieces if isinstance(piece, bytes)))

    def _extensions(self) -> list[PerMessageDeflate]:
        if self._terms.deflate is None:
            return []
        return [PerMessageDeflate(**self._terms.no_takeovers, **self._terms.window_bits)]

    def _write(self, event: Event) -> None:
        self._writer.write(self._wsproto.send(event))

    async def send(self, pieces: Sequence[str | bytes]) -> None:
        for i, piece in enumerate(pieces, start=1):
            is_last = i == len(pieces)
            if isinstance(piece, str):
                self._write(TextMessage(data=piece, message_finished=is_last))
            else:
                self._write(BytesMessage(data=piece, message_finished=is_last))
        await self._writer.drain()

    async def ping(self, payload: bytes) -> None:
        self._write(Ping(payload=payload))

    async def close(self, code: int, reason: str) -> None:
        self._write(CloseConnection(code=code, reason=reason))


class Wsproto:
    """A blocking write here and there would be enough, but the commands come on asyncio."""

    def __init__(self) -> None:
        self._receiving: set[asyncio.Task[None]] = set()

    async def listen(self, terms: Terms, report: Report) -> tuple[int, Callable[[], Awaitable[None]]]:
        """Listen on a free port."""

        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _Socket(ConnectionType.SERVER, (reader, writer), terms, report).receive()

        server = await asyncio.start_server(converse, "127.0.0.1", 0, ssl=terms.context(is_server=True))

        async def stop() -> None:
            server.close()

        return server.sockets[0].getsockname()[1], stop

    async def connect(self, url: str, terms: Terms, report: Report) -> None:
        """Connect; what comes says how it went."""
        parts = urlsplit(url)
        streams = await asyncio.open_connection(
            parts.hostname, parts.port, ssl=terms.context(is_server=False)
        )
        socket = _Socket(ConnectionType.CLIENT, streams, terms, report)
        socket.open(url)
        self._receiving.add(asyncio.create_task(socket.receive()))


if __name__ == "__main__":
    run(Wsproto())

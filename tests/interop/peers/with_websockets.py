"""The library `websockets`, or with the argument `picows` what picows offers in its place."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import picows.websockets
import websockets.asyncio.client
import websockets.asyncio.server
from interop.peers.commands import Report, Terms, run
from websockets.extensions import permessage_deflate
from websockets.typing import Subprotocol

_CLOSED = (websockets.ConnectionClosed, picows.websockets.ConnectionClosed)
_UNBOUNDED: dict[str, Any] = {"max_size": None, "ping_interval": None}


class _Open:
    def __init__(self, connection: Any, report: Report) -> None:
        self._connection = connection
        self._report = report
        self._pings: set[asyncio.Task[None]] = set()

    async def receive(self) -> None:
        """Report what comes, until the end."""
        try:
            while True:
                self._report.message(await self._connection.recv())
        except _CLOSED:
            self._report.closed(self._connection.close_code, self._connection.close_reason)

    async def send(self, pieces: Sequence[str | bytes]) -> None:
        with suppress(*_CLOSED):  # then `receive` reports it
            await self._connection.send(pieces[0] if len(pieces) == 1 else pieces)

    async def ping(self, payload: bytes) -> None:
        pong = await self._connection.ping(payload)

        async def wait() -> None:
            await pong
            self._report.pong(payload)

        self._pings.add(asyncio.create_task(wait()))

    async def close(self, code: int, reason: str) -> None:
        await self._connection.close(code, reason)


class Websockets:
    """The two libraries, which have one interface."""

    def __init__(self, connect: Any, serve: Any) -> None:
        self._connect = connect
        self._serve = serve
        self._receiving: set[asyncio.Task[None]] = set()

    async def listen(self, terms: Terms, report: Report) -> tuple[int, Callable[[], Awaitable[None]]]:
        """Listen on a free port."""

        async def converse(connection: Any) -> None:
            opened = _Open(connection, report)
            report.opened(opened, connection.subprotocol)
            await opened.receive()

        def choose(connection: Any, offered: Sequence[str]) -> Any:
            return next((name for name in terms.subprotocols if name in offered), None)

        def refuse(connection: Any, request: object) -> Any:
            if terms.refusal is None:
                return None
            status, body = terms.refusal
            return connection.respond(HTTPStatus(status), body)

        server = await self._serve(
            converse,
            "127.0.0.1",
            0,
            subprotocols=[Subprotocol(name) for name in terms.subprotocols] or None,
            select_subprotocol=choose,
            process_request=refuse,
            ssl=terms.context(is_server=True),
            **self.compression(terms, is_server=True),
            **_UNBOUNDED,
        )

        async def stop() -> None:
            server.close()

        return server.sockets[0].getsockname()[1], stop

    async def connect(self, url: str, terms: Terms, report: Report) -> None:
        """Connect, and report how it went."""
        try:
            connection = await self._connect(
                url,
                subprotocols=[Subprotocol(name) for name in terms.subprotocols] or None,
                proxy=None,
                ssl=terms.context(is_server=False),
                **self.compression(terms, is_server=False),
                **_UNBOUNDED,
            )
        except (websockets.InvalidStatus, picows.websockets.InvalidStatus) as error:
            body = bytes(error.response.body or b"").decode()
            report.refused(error.response.status_code, body or None)
            return
        opened = _Open(connection, report)
        report.opened(opened, connection.subprotocol)
        self._receiving.add(asyncio.create_task(opened.receive()))

    def compression(self, terms: Terms, is_server: bool) -> dict[str, Any]:
        """The options that say whether messages are compressed, and how."""
        if terms.deflate is None:
            return {"compression": None}
        if self._connect is picows.websockets.connect:
            return {"compression": "deflate"}
        extension = (
            permessage_deflate.ServerPerMessageDeflateFactory
            if is_server
            else permessage_deflate.ClientPerMessageDeflateFactory
        )
        return {"compression": None, "extensions": [extension(**terms.no_takeovers, **terms.window_bits)]}


if __name__ == "__main__":
    if sys.argv[1:] == ["picows"]:
        run(Websockets(picows.websockets.connect, picows.websockets.serve))
    else:
        run(Websockets(websockets.asyncio.client.connect, websockets.asyncio.server.serve))

"""The library `aiohttp`. It sends no fragments, and tells nobody the reason that it was closed for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, WSServerHandshakeError, web
from interop.peers.commands import Report, Terms, run


class _Open:
    def __init__(self, socket: ClientWebSocketResponse | web.WebSocketResponse, report: Report) -> None:
        self._socket = socket
        self._report = report
        self._has_closed = asyncio.Event()

    async def receive(self) -> None:
        """Report what comes, until the end."""
        while True:
            match await self._socket.receive():
                case (WSMsgType.TEXT | WSMsgType.BINARY, data, _):
                    self._report.message(data)
                case (WSMsgType.PING, payload, _):
                    await self._socket.pong(payload)
                case (WSMsgType.PONG, payload, _):
                    self._report.pong(bytes(payload))
                case (WSMsgType.CLOSE, code, reason):
                    self._report.closed(code, reason)
                    return
                case (WSMsgType.CLOSING, _, _):
                    # To receive once more would close with another code.
                    await self._has_closed.wait()
            if self._socket.closed:
                self._report.closed(None if self._is_ignorant else self._socket.close_code, None)
                return

    @property
    def _is_ignorant(self) -> bool:
        """A server that closes takes 1000 for the answer, without looking at it, if it was receiving."""
        return self._has_closed.is_set() and isinstance(self._socket, web.WebSocketResponse)

    async def send(self, pieces: Sequence[str | bytes]) -> None:
        (message,) = pieces
        if isinstance(message, str):
            await self._socket.send_str(message)
        else:
            await self._socket.send_bytes(message)

    async def ping(self, payload: bytes) -> None:
        await self._socket.ping(payload)

    async def close(self, code: int, reason: str) -> None:
        await self._socket.close(code=code, message=reason.encode())
        self._has_closed.set()


class Aiohttp:
    """Its compression is on or off; the other side says how."""

    def __init__(self) -> None:
        self._receiving: set[asyncio.Task[None]] = set()

    async def listen(self, terms: Terms, report: Report) -> tuple[int, Callable[[], Awaitable[None]]]:
        """Listen on a free port."""

        async def answer(request: web.Request) -> web.StreamResponse:
            if terms.refusal is not None:
                status, body = terms.refusal
                return web.Response(status=status, text=body)
            socket = web.WebSocketResponse(
                protocols=terms.subprotocols,
                compress=terms.deflate is not None,
                autoping=False,
                max_msg_size=0,
            )
            await socket.prepare(request)
            opened = _Open(socket, report)
            report.opened(opened, socket.ws_protocol)
            await opened.receive()
            return socket

        application = web.Application()
        application.router.add_get("/", answer)
        runner = web.AppRunner(application, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=terms.context(is_server=True)).start()
        return runner.addresses[0][1], runner.cleanup

    async def connect(self, url: str, terms: Terms, report: Report) -> None:
        """Connect, and report how it went."""
        session = ClientSession()
        try:
            socket = await session.ws_connect(
                url,
                ssl=terms.context(is_server=False) or True,
                protocols=terms.subprotocols,
                compress=15 if terms.deflate is not None else 0,
                autoping=False,
                max_msg_size=0,
            )
        except WSServerHandshakeError as error:
            await session.close()
            report.refused(error.status, None)
            return
        opened = _Open(socket, report)
        report.opened(opened, socket.protocol)

        async def receive() -> None:
            async with session:
                await opened.receive()

        self._receiving.add(asyncio.create_task(receive()))


if __name__ == "__main__":
    run(Aiohttp())

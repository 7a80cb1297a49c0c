"""The library `picows` in its own interface: frames, without compression."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import chain, repeat

from interop.peers.commands import Report, Terms, run
from picows import (
    WSFrame,
    WSInvalidStatusError,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_connect,
    ws_create_server,
)

_SUBPROTOCOL = "Sec-WebSocket-Protocol"
_MAX_FRAME_BYTES = 2**24


class _Open(WSListener):
    def __init__(self, report: Report, subprotocol: str | None) -> None:
        self._report = report
        self._subprotocol = subprotocol
        self._begun = bytearray()
        self._is_text = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._report.opened(self, self._subprotocol)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        match frame.msg_type:
            case WSMsgType.PONG:
                self._report.pong(frame.get_payload_as_bytes())
            case WSMsgType.CLOSE:
                transport.send_close(frame.get_close_code(), frame.get_close_message())
                transport.disconnect()
            case WSMsgType.TEXT | WSMsgType.BINARY | WSMsgType.CONTINUATION as kind:
                if kind is not WSMsgType.CONTINUATION:
                    self._is_text = kind is WSMsgType.TEXT
                self._begun += frame.get_payload_as_bytes()
                if frame.fin:
                    message = bytes(self._begun)
                    self._begun.clear()
                    self._report.message(message.decode() if self._is_text else message)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        received = transport.close_handshake.recv
        if received is None:
            self._report.closed(1006, None)
        else:
            self._report.closed(int(received.code), received.reason)  # type: ignore[call-overload]

    async def send(self, pieces: Sequence[str | bytes]) -> None:
        first = WSMsgType.TEXT if isinstance(pieces[0], str) else WSMsgType.BINARY
        for i, (kind, piece) in enumerate(
            zip(chain([first], repeat(WSMsgType.CONTINUATION)), pieces, strict=False), start=1
        ):
            self._transport.send(kind, piece, fin=i == len(pieces))

    async def ping(self, payload: bytes) -> None:
        self._transport.send_ping(payload)

    async def close(self, code: int, reason: str) -> None:
        self._transport.send_close(code, reason.encode())  # type: ignore[arg-type]


class Picows:
    """Does by itself what the library leaves to the application: subprotocols, and the answer to a close."""

    async def listen(self, terms: Terms, report: Report) -> tuple[int, Callable[[], Awaitable[None]]]:
        """Listen on a free port."""

        def answer(request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
            if terms.refusal is not None:
                status, body = terms.refusal
                refusal = WSUpgradeResponse.create_error_response(status, body.encode())
                return WSUpgradeResponseWithListener(refusal, None)
            offered = [name.strip() for name in request.headers.get(_SUBPROTOCOL, "").split(",")]
            chosen = next((name for name in terms.subprotocols if name in offered), None)
            headers = [] if chosen is None else [(_SUBPROTOCOL, chosen)]
            response = WSUpgradeResponse.create_101_response(headers)
            return WSUpgradeResponseWithListener(response, _Open(report, chosen))

        server = await ws_create_server(
            answer,
            "127.0.0.1",
            0,
            ssl=terms.context(is_server=True),
            max_frame_size=_MAX_FRAME_BYTES,
        )

        async def stop() -> None:
            server.close()

        return server.sockets[0].getsockname()[1], stop

    async def connect(self, url: str, terms: Terms, report: Report) -> None:
        """Connect, and report how it went."""
        offer = [(_SUBPROTOCOL, ", ".join(terms.subprotocols))] if terms.subprotocols else []

        def open(request: WSUpgradeRequest, response: WSUpgradeResponse) -> WSListener:
            return _Open(report, response.headers.get(_SUBPROTOCOL))

        try:
            await ws_connect(
                open,
                url,
                ssl_context=terms.context(is_server=False),
                extra_headers=offer,
                max_frame_size=_MAX_FRAME_BYTES,
            )
        except WSInvalidStatusError as error:
            status = 0 if error.response is None else error.response.status
            report.refused(status, (error.raw_body or b"").decode())


if __name__ == "__main__":
    run(Picows())

"""Echo and broadcast on picows: `with_picows.py echo|broadcast PORT`."""

from __future__ import annotations

import asyncio
import sys

from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

task, port = sys.argv[1:]
transports: set[WSTransport] = set()


class Listener(WSListener):
    """Sends everything back, or to everybody."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        """One more."""
        transports.add(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Send it back, or to all."""
        if frame.msg_type == WSMsgType.BINARY:
            payload = frame.get_payload_as_bytes()
            if task == "echo":
                transport.send(WSMsgType.BINARY, payload)
            else:
                for other in transports:
                    other.send(WSMsgType.BINARY, payload)
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """One less."""
        transports.discard(transport)


def welcome(request: WSUpgradeRequest) -> Listener:
    return Listener()


async def main() -> None:
    server = await ws_create_server(
        welcome, "127.0.0.1", int(port), backlog=4096, max_frame_size=32 * 1024 * 1024
    )
    await server.serve_forever()


asyncio.run(main())

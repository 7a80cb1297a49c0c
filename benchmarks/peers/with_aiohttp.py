"""Echo and broadcast on aiohttp: `with_aiohttp.py echo|broadcast PORT [deflate]`."""

from __future__ import annotations

import sys

from aiohttp import WSMsgType, web

task, port, *more = sys.argv[1:]
sockets: set[web.WebSocketResponse] = set()


async def chat(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(max_msg_size=0, compress=bool(more))
    await socket.prepare(request)
    sockets.add(socket)
    try:
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                if task == "echo":
                    await socket.send_bytes(message.data)
                else:
                    for other in list(sockets):
                        await other.send_bytes(message.data)
    finally:
        sockets.discard(socket)
    return socket


application = web.Application()
application.router.add_get("/chat", chat)
web.run_app(application, host="127.0.0.1", port=int(port), backlog=4096, print=None, access_log=None)

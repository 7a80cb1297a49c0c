"""Echo and broadcast on `websockets`: `with_websockets.py echo|broadcast PORT [deflate]`."""

from __future__ import annotations

import asyncio
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve

task, port, *more = sys.argv[1:]
connections: set[ServerConnection] = set()


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def to_all(connection: ServerConnection) -> None:
    connections.add(connection)
    try:
        async for message in connection:
            broadcast(connections, message)
    finally:
        connections.discard(connection)


async def main() -> None:
    async with serve(
        echo if task == "echo" else to_all,
        "127.0.0.1",
        int(port),
        backlog=4096,
        compression="deflate" if more else None,
        max_size=None,
    ) as server:
        await server.serve_forever()


asyncio.run(main())

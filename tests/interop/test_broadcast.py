"""One message for many connections with permessage-deflate, whose clients nobody here wrote."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import PATIENCE_S, Server
from websockets.asyncio.client import ClientConnection, connect

CONNECTIONS = 1_000
LONG_S = 5 * PATIENCE_S
"""How long it is waited for so many."""
MESSAGE = "one message that is worth compressing, " * 100


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Room for them, in this process and those that it starts."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(before[1], 2 * CONNECTIONS + 500), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("many_descriptors")
def test_a_broadcast_to_a_thousand_connections_is_compressed_once() -> None:
    with Server(command=[sys.executable, str(Path(__file__).with_name("broadcast_server.py"))]) as server:
        asyncio.run(asyncio.wait_for(_take_part(f"ws://127.0.0.1:{server.port}/"), LONG_S))


async def _take_part(url: str) -> None:
    clients = await asyncio.gather(*(_joined(url) for _ in range(CONNECTIONS)))
    assert {client.response.headers["Sec-WebSocket-Extensions"] for client in clients if client.response} == {
        "permessage-deflate; server_no_context_takeover"
    }
    await clients[0].send(MESSAGE)
    for client in clients:
        assert await client.recv() == MESSAGE
    await clients[0].send("count")
    assert await clients[0].recv() == "1"
    await asyncio.gather(*(client.close() for client in clients))


async def _joined(url: str) -> ClientConnection:
    return await connect(url, proxy=None, ping_interval=None, open_timeout=LONG_S)

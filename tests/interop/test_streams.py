"""Much that goes both ways at once, between the echo examples and `websockets`."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from live import PATIENCE_S, Server
from websockets.sync.client import connect
from websockets.sync.connection import Connection
from websockets.sync.server import ServerConnection, serve

EXAMPLES = Path(__file__).parents[2] / "examples"
LISTEN = ("--listen", "tcp:0:interface=127.0.0.1")

MESSAGES = 100
# Each is its own, half of it can be compressed, and together they are more than all buffers hold.
SIZES = (0, 1, 125, 126, 4_000, 65_535, 65_536, 200_000)


def _message(i: int) -> bytes:
    return random.Random(i).randbytes(SIZES[i % len(SIZES)] // 2) * 2


def _echoed(connection: Connection) -> None:
    """Send everything, and read it meanwhile."""

    def send() -> None:
        for i in range(MESSAGES):
            connection.send(_message(i))

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    for i in range(MESSAGES):
        is_same = connection.recv(PATIENCE_S) == _message(i)
        assert is_same, i
    sending.join(PATIENCE_S)


@pytest.mark.parametrize(
    ("options", "compression"),
    [((), None), ((), "deflate"), (("--resource",), None)],
    ids=["factory", "factory-deflate", "resource"],
)
def test_the_echo_server_sends_back_a_stream_in_order(
    options: tuple[str, ...], compression: str | None
) -> None:
    deflate = ["--deflate"] if compression else []
    command = [sys.executable, str(EXAMPLES / "echo_server.py"), *LISTEN, *options, *deflate]
    url = "ws://127.0.0.1:{}/"
    with (
        Server(command=command) as server,
        connect(
            url.format(server.port),
            compression=compression,
            proxy=None,
            ping_interval=None,
            open_timeout=PATIENCE_S,
        ) as connection,
    ):
        _echoed(connection)


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_the_echo_client_sends_back_a_stream_in_order(compression: str | None) -> None:
    faults: list[BaseException] = []

    def converse(connection: Connection) -> None:
        try:
            _echoed(connection)
        except BaseException as fault:
            faults.append(fault)

    with _served(converse, compression) as port:
        deflate = ["--deflate"] if compression else []
        command = [sys.executable, str(EXAMPLES / "echo_client.py"), f"ws://127.0.0.1:{port}/", *deflate]
        done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False)
    assert faults == []
    assert (done.returncode, done.stdout, done.stderr) == (0, "closed: 1000\n", "")


@contextmanager
def _served(converse: Callable[[ServerConnection], None], compression: str | None) -> Iterator[int]:
    with serve(
        converse, "127.0.0.1", 0, compression=compression, ping_interval=None, open_timeout=PATIENCE_S
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.socket.getsockname()[1]
        server.shutdown()

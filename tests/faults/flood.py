"""A peer that sends one thing again and again as fast as it can, and reads whatever it gets.

    python flood.py PORT KIND

It prints a line as soon as it floods, and stops when it is stopped.
"""

from __future__ import annotations

import random
import select
import socket
import sys
from collections.abc import Callable

from faults.websocket_peer import (
    BINARY,
    CONTINUATION,
    OFFER,
    PING,
    PONG,
    REQUEST,
    TEXT,
    deflated,
    frame,
)

LIMIT_BYTES = 2**20
"""What a message may have by default."""


def _small(count: int) -> bytes:
    return b"".join(frame(TEXT, b"%d" % number) for number in range(count))


def _fragments(payload: bytes) -> bytes:
    some = frame(CONTINUATION, payload, fin=False) * 1_000_000
    return frame(TEXT, payload, fin=False) + some + frame(CONTINUATION, payload)


def _compressed_fragments() -> bytes:
    block = b"\x00\x05\x00\xfa\xffhello"  # without compression
    fragments = [frame(CONTINUATION, bytes([byte]), fin=False) for byte in block]
    first = frame(TEXT, block[:1], fin=False, rsv1=True) + b"".join(fragments[1:])
    return first + b"".join(fragments) * 99_999 + frame(CONTINUATION, b"\x00")


def _slow(size: int) -> bytes:
    """Of six different bytes: whoever looks for what was there before finds too much."""
    return bytes(random.Random(1).choices(range(6), k=size))


KINDS: dict[str, tuple[bool, Callable[[], bytes]]] = {
    "pings": (False, lambda: frame(PING) * 20_000),
    "pings of 125 bytes": (False, lambda: frame(PING, bytes(125)) * 2_000),
    "small texts": (False, lambda: _small(20_000)),
    "texts to the limit": (False, lambda: frame(TEXT, "é".encode() * (LIMIT_BYTES // 2))),
    "one-byte fragments": (False, lambda: _fragments(b"x")),
    "empty fragments": (False, lambda: _fragments(b"")),
    "small compressed texts": (True, lambda: frame(TEXT, deflated(b"hello" * 20), rsv1=True) * 5_000),
    "bombs to the limit": (True, lambda: frame(BINARY, deflated(bytes(LIMIT_BYTES)), rsv1=True) * 100),
    "what compresses slowly": (True, lambda: frame(BINARY, _slow(LIMIT_BYTES))),
    "compressed one-byte fragments": (True, _compressed_fragments),
    "pongs": (False, lambda: frame(PONG) * 20_000),
}
"""Whether compression is wanted, and what is sent."""


def main(port: int, kind: str) -> None:
    """Flood the server at *port*."""
    compressed, make = KINDS[kind]
    data = memoryview(make())
    with socket.create_connection(("127.0.0.1", port)) as plain:
        plain.sendall(REQUEST + (OFFER if compressed else b"") + b"\r\n")
        assert plain.recv(2**16).startswith(b"HTTP/1.1 101 ")
        plain.setblocking(False)
        sent = 0
        print("it floods", flush=True)
        while True:
            readable, writable, _ = select.select([plain], [plain], [])
            if readable and not plain.recv(2**20):
                sys.exit("the server has ended it")
            if writable:
                sent = (sent + plain.send(data[sent:])) % len(data)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])

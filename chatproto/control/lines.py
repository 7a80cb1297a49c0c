"""What travels on the control socket: one JSON object a line, in both directions (docs/control.md)."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

__all__ = [
    "DEFAULT_PATH",
    "MAX_ANSWER_BYTES",
    "MAX_REQUEST_BYTES",
    "VERSION",
    "Lines",
    "NotALine",
    "address_of",
    "line_of",
    "object_of",
    "peer_uid",
]

VERSION = 1
"""Of what is asked and answered; both sides have the same."""

DEFAULT_PATH = "chat.ctl"
"""In the folder where a server runs."""

MAX_REQUEST_BYTES = 16_384
"""Of one line to the server."""

MAX_ANSWER_BYTES = 1_048_576
"""Of one line from the server."""

_MAX_ADDRESS_BYTES = 107
"""Of the address of a Unix socket (unix(7))."""


class NotALine(ValueError):
    """It is no line of this protocol; the text is a sentence."""


class Lines:
    """Takes lines of at most *max_bytes* out of bytes, in any cut."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rest = b""

    def receive(self, data: bytes) -> list[bytes]:
        """The lines that are complete by now. Raises NotALine for one that is too long."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if any(len(line) > self._max_bytes for line in (*lines, self._rest)):
            raise NotALine(f"a line has at most {self._max_bytes:,} bytes")
        return lines


def line_of(found: Mapping[str, Any]) -> bytes:
    """*found* as a line. It is ASCII: nothing in it ends a line or acts on a terminal."""
    return f"{json.dumps(found, separators=(',', ':'))}\n".encode()


def object_of(line: bytes) -> dict[str, Any]:
    """The object that *line* is. Raises NotALine."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise NotALine("a line is one JSON object") from None
    if not isinstance(found, dict):
        raise NotALine("a line is one JSON object")
    return found


def address_of(path: str, folder: int) -> str:
    """*path* as the address of a Unix socket, which is short; *folder* is a descriptor of the folder."""
    is_short = len(os.fsencode(path)) <= _MAX_ADDRESS_BYTES
    return path if is_short else f"/proc/self/fd/{folder}/{os.path.basename(path)}"


def peer_uid(connected: socket.socket) -> int:
    """As whom the other side runs, or ran when it began to listen (unix(7), SO_PEERCRED)."""
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("i2I"))
    _, uid, _ = struct.unpack("i2I", credentials)
    return int(uid)

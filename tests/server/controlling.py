"""Whoever runs a server: by hand over its control socket, and with `chatproto-ctl`."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from live import PATIENCE_S, Server, unix_socket

PROGRAM = str(Path(sys.executable).parent / "chatproto-ctl")


def socket_of(server: Server) -> Path:
    """Where a server has its control socket unless told otherwise."""
    return Path(server.folder.name) / "chat.ctl"


@dataclass
class Ended:
    """A run of the program that is over."""

    code: int
    output: str
    errors: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What was printed, as JSON."""
        return [json.loads(line) for line in self.output.splitlines()]


def ctl(server: Server | Path, *arguments: str) -> Ended:
    """Run the program for a server, or for a socket."""
    path = socket_of(server) if isinstance(server, Server) else server
    done = subprocess.run(
        [PROGRAM, "--socket", str(path), *arguments], capture_output=True, text=True, timeout=PATIENCE_S
    )
    return Ended(done.returncode, done.stdout, done.stderr)


class Control:
    """A connection to the control socket, which has heard the greeting."""

    def __init__(self, place: Server | Path, *, receive_buffer_bytes: int = 0) -> None:
        path = socket_of(place) if isinstance(place, Server) else place
        self.socket = unix_socket(path)
        if receive_buffer_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self._file = self.socket.makefile("rb")
        self.greeting = self.line()

    def send(self, **request: Any) -> None:
        """Ask for something."""
        self.socket.sendall(json.dumps(request).encode() + b"\n")

    def line(self) -> dict[str, Any]:
        """The next line; empty at the end."""
        try:
            line = self._file.readline()
        except ConnectionResetError:
            line = b""
        found: dict[str, Any] = json.loads(line) if line else {}
        return found

    def row(self) -> dict[str, Any]:
        """The next line, which is a row."""
        found: dict[str, Any] = self.line()["row"]
        return found

    def ask(self, **request: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The rows of the answer, and its last line."""
        self.send(**request)
        rows = []
        while "row" in (line := self.line()):
            rows.append(line["row"])
        return rows, line

    def refusal(self, **request: Any) -> str:
        """Why it is not done."""
        rows, last = self.ask(**request)
        assert rows == []
        return str(last["refused"])

    def close(self) -> None:
        """Go away."""
        self._file.close()
        self.socket.close()

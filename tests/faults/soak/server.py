"""The server of a soak: as an operator would run it, with nearly all limits as they come."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from live import Server, eventually
from server.connecting import LOOPBACK, TWISTD, live_directory, ports

from chatproto.history.__main__ import import_lines

__all__ = ["ACCOUNT", "ARCHIVE", "SoakServer"]

ARCHIVE = "archive"
"""A room in which much was said before, for those who ask for all that there is."""

N_ARCHIVED = 20_000

ACCOUNT = "root"
"""Somebody has it, with a password that nobody guesses."""

FEW_IN_MEMORY = ("--max-room-log-messages", "200", "--max-rooms", "500", "--max-log-bytes", str(2**24))
"""What the server remembers beside the file is full before memory is looked at, however short the soak."""


class SoakServer(Server):
    """Reached over TCP, over TLS, and behind a proxy that is believed; `status_port` has the metrics.

    `history` is the file with everything that was said. *program* is the server if it is to be another.
    """

    def __init__(self, *options: str, program: Sequence[str] = (TWISTD, "-n", "--pidfile=", "chat")) -> None:
        self._kept = tempfile.TemporaryDirectory(prefix="chatproto-soak-")
        folder = Path(self._kept.name)
        self.history = folder / "chat.sqlite"
        import_lines(str(self.history), map(json.dumps, _archived()))
        accounts = folder / "accounts"
        subprocess.run(
            [sys.executable, "-m", "chatproto.accounts", str(accounts), "add", ACCOUNT],
            input="nobody guesses this\n",
            text=True,
            check=True,
            capture_output=True,
        )
        listen = (LOOPBACK, f"tls:{live_directory(folder)}:{LOOPBACK}", f"haproxy:{LOOPBACK}")
        places = [word for place in listen for word in ("--listen", place)]
        kept = ("--history", str(self.history), "--accounts", str(accounts), *FEW_IN_MEMORY)
        more = ("--deflate", "--status", LOOPBACK)
        super().__init__(command=[*program, *places, *kept, *more, *options])
        self.tcp_port, self.tls_port, self.proxied_port = ports(self, len(listen))
        eventually(lambda: "/readyz are at" in self.log(), "the metrics are somewhere")
        found = re.search(r"/readyz are at (\S+)", self.log())
        assert found
        self.status_port = urlsplit(found[1]).port or 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._kept.cleanup()


def _archived() -> Iterator[dict[str, Any]]:
    """What `python -m chatproto.history import` takes."""
    yield {"history": "chatproto", "version": 1, "epoch": 1}
    for number in range(N_ARCHIVED):
        text = f"somebody says {number} ".ljust(100, "x")
        yield {"room": ARCHIVE, "seq": number + 1, "time": 1, "nick": "somebody", "text": text}

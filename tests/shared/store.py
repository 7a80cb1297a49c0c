"""A real store in a process of its own, and logs on it whose reactor the test turns by hand."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import hiredis
import pytest
from live import PATIENCE_S, free_port, patiently
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.python.failure import Failure

from chatproto.limits import HistoryLimits, Limits
from chatproto.shared.address import parse_store
from chatproto.shared.log import SharedLog
from chatproto.shared.store import Store as SharedStore

__all__ = ["PumpedSharedLog", "Sentinel", "Store", "needs_store"]

T = TypeVar("T")

PROGRAM = os.environ.get("CHATPROTO_STORE_PROGRAM", "redis-server")
"""What is started as the store, and as its Sentinel: any Redis or Valkey server."""

needs_store = pytest.mark.skipif(shutil.which(PROGRAM) is None, reason=f"{PROGRAM} is not installed")


class Store:
    """A store, without anything on disk unless *options* say so; `port` and `path` are where it is."""

    def __init__(self, *options: str, port: int = 0) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="chatproto-store-")
        self.options = options
        self.port = port or free_port()
        self.path = str(Path(self.folder.name) / "redis.sock")
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return self._launch(
            *(PROGRAM, "--bind", "127.0.0.1", "--port", str(self.port)),
            *("--unixsocket", self.path, "--dir", self.folder.name, "--save", "", *self.options),
        )

    def _launch(self, *command: str) -> subprocess.Popen[bytes]:
        with (Path(self.folder.name) / "log").open("ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        for _ in patiently(0.005):
            try:
                if not str(self.ask("PING")).startswith("LOADING"):
                    return process
            except OSError:
                assert process.poll() is None, self.log()
        process.kill()
        process.wait()
        raise AssertionError(f"the store does not answer: {self.log()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self.folder.cleanup()

    @property
    def url(self) -> str:
        """Over TCP."""
        return f"redis://127.0.0.1:{self.port}/0"

    def log(self) -> str:
        """What it wrote so far."""
        return (Path(self.folder.name) / "log").read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Have it there again, with what it kept on the disk."""
        self.process = self._start()

    def ask(self, *words: str | int) -> Any:
        """The answer to a command."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as plain:
            pack: Any = hiredis.pack_command
            plain.sendall(pack(words))
            reader = hiredis.Reader(encoding="utf-8")
            while (reply := reader.gets()) is False:
                data = plain.recv(2**16)
                if not data:
                    raise ConnectionError("the store has closed")
                reader.feed(data)
            return reply


class Sentinel(Store):
    """A Sentinel, which puts another store in the place of *master* when that is gone for a second."""

    def __init__(self, master: Store) -> None:
        self._master = master
        super().__init__()

    def _start(self) -> subprocess.Popen[bytes]:
        file = Path(self.folder.name) / "sentinel.conf"
        file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder.name}\n"
            f"sentinel monitor chat 127.0.0.1 {self._master.port} 1\n"
            "sentinel down-after-milliseconds chat 1000\nsentinel failover-timeout chat 5000\n"
        )
        return self._launch(PROGRAM, str(file), "--sentinel")

    @property
    def url(self) -> str:
        """Of the store that it knows."""
        return f"redis+sentinel://127.0.0.1:1,127.0.0.1:{self.port}/chat/0"


class PumpedSharedLog(SharedLog):
    """A `SharedLog` with a reactor of its own, which runs while something is waited for."""

    def __init__(
        self,
        url: str,
        limits: Limits | None = None,
        history: HistoryLimits | None = None,
        reactor: Any = None,
    ) -> None:
        self.reactor = EPollReactor() if reactor is None else reactor
        self.store = SharedStore(parse_store(url), self.reactor)
        super().__init__(self.store, self.reactor, limits, history)
        self.open()

    def until(self, holds: Callable[[], object], what: str = "") -> None:
        """Turn the reactor until something holds."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not holds():
            self.reactor.iterate(0.01)
            assert time.monotonic() < deadline_s, what or "it did not come to hold"

    def for_s(self, seconds: float) -> None:
        """Turn the reactor for a while."""
        until_s = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > until_s)

    def wait(self, given: Deferred[T]) -> T:
        """The answer."""
        outcome: list[T | Failure] = []
        given.addBoth(outcome.append)
        self.until(lambda: outcome, "no answer")
        [result] = outcome
        if isinstance(result, Failure):
            result.raiseException()
        return result

    def known(self, room: str) -> tuple[int, int]:
        """Prepare a room; its bounds."""
        while (preparing := self.prepare(room)) is not None:
            self.wait(preparing)
        return self.bounds(room)

    def say(self, room: str, text: str, *, nick: str = "ann", id: int = 0, sender: int = 1) -> int:
        """Append and wait; the number."""
        return self.wait(self.append(room, nick, nick.lower(), id, text, sender)).seq

    def texts(self, room: str) -> list[tuple[int, str]]:
        """All that is kept of a room."""
        first, last = self.known(room)
        found: list[tuple[int, str]] = []
        while first <= last:
            read = self.read(room, first, last, 100_000)
            chats = self.wait(read) if isinstance(read, Deferred) else read
            found += [(chat.seq, chat.text) for chat in chats]
            first = chats[-1].seq + 1
        return found

    def close_now(self) -> None:
        """Close and wait."""
        self.wait(self.close())
        self.reactor.iterate(0)

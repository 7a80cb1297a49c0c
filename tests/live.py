"""A real server in a process of its own, and blocking clients for it."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from forms import Form, Frames

from chatproto.wire.messages import End, Join, Message

PATIENCE_S = 30.0
"""How long a test waits for what must come; it says nothing about speed."""

M = TypeVar("M", bound=Message)


def at_any_pace(options: Sequence[str]) -> list[str]:
    """Options beside *options*: a test says and reads more than a person can, if it does not test that."""
    limits = ("--max-messages-per-s", "--max-history-reads-per-s")
    return [word for limit in limits if limit not in options for word in (limit, "0")]


class Server:
    """`twistd -n chat` on a port of its own, or another program that prints the same line."""

    def __init__(self, *options: str, command: list[str] | None = None) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="chatproto-test-")
        twistd = Path(sys.executable).parent / "twistd"
        listen = () if "--listen" in options else ("--listen", "tcp:0:interface=127.0.0.1:backlog=1024")
        pace = at_any_pace(options)
        self.command = command or [str(twistd), "-n", "--pidfile=", "chat", *listen, *pace, *options]
        self.log_path = Path(self.folder.name) / "log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder.name,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        try:
            self.port = self._wait_for_port()
        except BaseException:  # nobody else would end it
            self.process.kill()
            self.process.wait()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if kind is not None:
            print(self.log()[-4_000:])
        self.folder.cleanup()

    def _wait_for_port(self) -> int:
        for _ in patiently():
            found = re.search(r"listening on \S+ port (\d+)", self.log())
            if found and self._has_handlers():
                return int(found[1])
            if self.process.poll() is not None:
                break
        raise AssertionError(f"the server did not start:\n{self.log()}")

    def _has_handlers(self) -> bool:
        """Whether its reactor runs: before that, a SIGTERM would kill it."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (caught,) = re.findall(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)
        return bool(int(caught, 16) & 1 << signal.SIGTERM - 1)

    def log(self) -> str:
        """What it printed so far."""
        return self.log_path.read_text(errors="replace")

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def rss_bytes(self) -> int:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_s(self) -> float:
        """CPU time used so far."""
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0]) / 1e9

    def descriptors(self) -> int:
        """Open file descriptors."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def connect(self) -> Framed:
        """A client that has said nothing yet."""
        return Framed(self.port)

    def join(self, nick: str, room: str = "", limit: int = 0) -> Framed:
        """A client that is in a room and has its replay."""
        client = self.connect()
        client.send(Join(nick, room, 0, 0, limit))
        client.until(End)
        return client

    def raw(self, *, receive_buffer_bytes: int = 0) -> socket.socket:
        """A socket that is connected, with a small receive buffer if wanted."""
        plain = socket.socket()
        if receive_buffer_bytes:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        plain.settimeout(PATIENCE_S)
        plain.connect(("127.0.0.1", self.port))
        return plain


class Framed:
    """A blocking client; it speaks frames, unless *form* is another. `received` has all that came, in order.

    *port* may also be a socket that is connected, of any kind.
    """

    def __init__(self, port: int | socket.socket, form: Form | None = None) -> None:
        self.form: Form = form or Frames()
        if isinstance(port, int):
            port = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.socket = port
        self.received: list[Message] = []
        self.at_end = False
        self._seen = 0
        self._flush()

    def send(self, *messages: Message) -> None:
        """Send messages in one go."""
        self.form.say(*messages)
        self._flush()

    def until(self, kind: type[M], fits: Callable[[M], bool] = lambda message: True) -> M:
        """The next message of a kind that fits; what came before it is only in `received`."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            while self._seen < len(self.received):
                message = self.received[self._seen]
                self._seen += 1
                if isinstance(message, kind) and fits(message):
                    return message
            if self.at_end or time.monotonic() > deadline_s:
                raise AssertionError(f"no such {kind.__name__}; the last that came: {self.received[-5:]}")
            self.receive()

    def gather(self, holds: Callable[[], bool], what: str) -> None:
        """Receive until something holds of what came."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not holds():
            if self.at_end or time.monotonic() > deadline_s:
                raise AssertionError(f"not yet: {what}; the last that came: {self.received[-5:]}")
            self.receive()

    def until_closed(self) -> list[Message]:
        """Everything that comes until the server closes."""
        before = len(self.received)
        while not self.at_end:
            self.receive()
        return self.received[before:]

    def drain(self) -> None:
        """Take in what is there now, without waiting."""
        while not self.at_end and select.select([self.socket], [], [], 0)[0]:
            self.receive()

    def of(self, kind: type[M]) -> list[M]:
        """Of what came, the messages of one kind."""
        return [message for message in self.received if isinstance(message, kind)]

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def reset(self) -> None:
        """End the connection with a reset, as a crash or a cable does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def receive(self, n_bytes: int = 2**16) -> None:
        """Take in what comes next, so many bytes of it at most."""
        try:
            data = self.socket.recv(n_bytes)
        except (ConnectionResetError, ssl.SSLError):
            data = b""
        self.at_end = not data
        self.received += self.form.receive(data)
        if not self.at_end:
            with suppress(ConnectionError):  # what is answered by itself; the end comes when it is read
                self._flush()

    def _flush(self) -> None:
        output = self.form.output()
        if output:
            self.socket.sendall(output)


def ended(folder: Path, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """What a program that ends by itself said, run in *folder*; *options* are those of `subprocess.run`."""
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False, **options
    )


def unix_socket(path: Path) -> socket.socket:
    """A Unix socket that is connected."""
    plain = socket.socket(socket.AF_UNIX)
    plain.settimeout(PATIENCE_S)
    plain.connect(str(path))
    return plain


_kept: list[socket.socket] = []


def free_port() -> int:
    """A port of loopback for a program to listen on, which no other gets while this process runs.

    It stays bound here: who listens there sets SO_REUSEADDR, and neither who wants any port nor who connects
    from one is given it.
    """
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    plain.bind(("127.0.0.1", 0))
    _kept.append(plain)
    port: int = plain.getsockname()[1]
    return port


def listens(place: int | Path) -> bool:
    """Whether somebody listens at a port of loopback, or at a Unix socket."""
    try:
        if isinstance(place, int):
            socket.create_connection(("127.0.0.1", place), timeout=PATIENCE_S).close()
        else:
            unix_socket(place).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except ConnectionError:
        return True  # until a moment ago: who waited to be taken up is reset when the listener goes
    return True


def patiently(every_s: float = 0.02) -> Iterator[None]:
    """For waiting in a loop: comes round until it has taken too long."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        yield
        time.sleep(every_s)


def eventually(holds: Callable[[], bool], what: str = "") -> None:
    """Wait until something holds."""
    for _ in patiently():
        if holds():
            return
    raise AssertionError(what or "it did not come to hold")

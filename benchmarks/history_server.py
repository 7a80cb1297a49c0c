"""The durable history seen from outside: through `twistd chat` and a socket. A part of history.py."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chatproto.wire.chat import FrameDecoder, encode_frame
from chatproto.wire.messages import Chat, End, Error, History, Join, Message, Search, Side

__all__ = ["HOST", "PATIENCE_S", "Load", "Served", "Visitor", "build_load", "load", "serving"]

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Served:
    """A server that is there."""

    pid: int
    port: int

    def rss_bytes(self) -> int:
        """Its resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def serving(history: str, *options: str) -> Iterator[Served]:
    """`twistd chat` with its history in that file, in that store, or in `memory`."""
    twistd = str(Path(sys.executable).with_name("twistd"))
    listen = () if "--listen" in options else ("--listen", f"tcp:0:interface={HOST}")
    pace = ("--max-messages-per-s", "0", "--max-history-reads-per-s", "0")
    command = [twistd, "-n", "--pidfile=", "chat", *listen, *pace, "--history", history, *options]
    with tempfile.TemporaryDirectory(prefix="chatproto-benchmark-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            yield Served(process.pid, _port(process, log))
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            finally:
                process.kill()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s and process.poll() is None:
        found = re.search(r"listening on \S+ port (\d+)", log.read_text())
        if found:
            return int(found[1])
        time.sleep(0.02)
    sys.exit(f"the server did not start:\n{log.read_text()[-2000:]}")


@contextmanager
def build_load() -> Iterator[Path]:
    """The load generator, compiled, as long as it is needed."""
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        sys.exit(f"there is no C compiler {compiler!r}; set CC")
    with tempfile.TemporaryDirectory(prefix="chatproto-benchmark-") as folder:
        program = Path(folder) / "load"
        subprocess.run([compiler, "-std=c11", "-O2", "-o", str(program), str(HERE / "load.c")], check=True)
        yield program


@dataclass(frozen=True)
class Load:
    """What was measured: acknowledged messages a second, CPU of the server for each, times to be seen."""

    rate: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    server_share: float


def load(program: Path, served: Served, clients: int, window: int, seconds: float, senders: int = 0) -> Load:
    """Everybody, or so many *senders*, speak in one room, with so many messages in flight each; so all but
    the speaker get each."""
    command = [
        str(program),
        f"--clients={clients}",
        f"--senders={senders or clients}",
        f"--window={window}",
        "--bytes=64",
        "--warmup=0.5",
        f"--seconds={seconds}",
        f"--limit-s={seconds + 60}",
        f"--server-pid={served.pid}",
        f"{HOST}:{served.port}",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the load, {clients} clients: {done.stderr.strip()}")
    figures = json.loads(done.stdout)
    messages = figures["deliveries"] / (clients - 1)
    return Load(
        messages / figures["wall_s"],
        figures["server_cpu_s"] * 1e6 / messages,
        figures["p50_ms"],
        figures["p99_ms"],
        figures["server_cpu_s"] / figures["wall_s"],
    )


class Visitor:
    """Someone who joins, scrolls back and searches, one after the other."""

    def __init__(self, port: int, nick: str) -> None:
        self._nick = nick
        self._socket = socket.create_connection((HOST, port), timeout=PATIENCE_S)
        self._decoder = FrameDecoder(Side.CLIENT, 2**24 - 1)

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        # Gone at once, so that the nickname is free again.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _ask(self, question: Message) -> list[Chat]:
        self._socket.sendall(encode_frame(question))
        found: list[Chat] = []
        while data := self._socket.recv(2**18):
            for message in self._decoder.receive(data):
                if isinstance(message, Chat):
                    found.append(message)
                elif isinstance(message, End):
                    return found
                elif isinstance(message, Error):
                    sys.exit(f"the server says: {message.text}")
        sys.exit("the server closed the connection")

    def join(self, room: str) -> int:
        """Enter a room and read its newest messages; the newest number."""
        chats = self._ask(Join(self._nick, room, 0, 0, 100))
        return chats[-1].seq if chats else 0

    def scroll(self, room: str, newest: int, pages: int, source: random.Random) -> None:
        """Read pages of a hundred messages from anywhere in the room."""
        for _ in range(pages):
            self._ask(History(room, source.randint(1, newest + 1), 100))

    def search(self, room: str, words: str) -> int:
        """Search for words; how many messages were found."""
        return len(self._ask(Search(room, words, 50)))

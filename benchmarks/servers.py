"""Servers as processes of their own, each on one core, and what they take of the machine."""

from __future__ import annotations

import dataclasses
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["HOST", "Failed", "Program", "Served", "chat_program", "on_core", "serving"]

HOST = "127.0.0.1"
_READY_S = 30.0
_STOP_S = 10.0


class Failed(Exception):
    """Something could not be measured: one sentence."""


@dataclasses.dataclass(frozen=True)
class Program:
    """What is measured. In *command*, `{port}` becomes the port that it listens on."""

    name: str
    command: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Served:
    """A server that takes connections."""

    pid: int
    port: int

    def rss_bytes(self) -> int:
        """Its resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()


def chat_program(name: str, *options: str, listen: str = "tcp:{port}", history: str = "memory") -> Program:
    """`twistd chat`, which slows down nobody who is to load it. The working directory is an empty one."""
    # The twistd of a virtualenv stands beside its link to the interpreter: the link must not be resolved.
    twistd = str(Path(sys.executable).parent / "twistd")
    endpoint = f"{listen}:interface={HOST}:backlog=4096"
    pace = [f"--max-{what}-per-s=0" for what in ("messages", "history-reads", "arrivals")]
    command = (sys.executable, twistd, "-n", "--pidfile=", "chat", "--listen", endpoint, "--history", history)
    return Program(name, (*command, *pace, *options))


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Have the processes that are started inside run on *core* alone, their threads too."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def _takes_connections(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    # Without a goodbye: with thousands of connections that may take long, and nobody listens any more.
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        process.send_signal(number)
        try:
            process.wait(_STOP_S if number is signal.SIGKILL else 0.5)
        except subprocess.TimeoutExpired:
            continue
        return


@contextmanager
def serving(program: Program, core: int | None) -> Iterator[Served]:
    """Run *program* until the block is left, come what may. Raises Failed if it does not start."""
    port = _free_port()
    command = [part.replace("{port}", str(port)) for part in program.command]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, tempfile.TemporaryFile() as log:
        with on_core(core):
            try:
                process = subprocess.Popen(
                    command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
                )
            except OSError as error:
                raise Failed(f"{program.name} cannot be started: {error}.") from None
        try:
            until_s = time.monotonic() + _READY_S
            while not _takes_connections(port):
                if process.poll() is not None or time.monotonic() > until_s:
                    log.seek(0)
                    said = re.sub(r"\s+", " ", log.read().decode(errors="replace")[-300:])
                    raise Failed(f"{program.name} did not start: {said}")
                time.sleep(0.05)
            yield Served(process.pid, port)
        finally:
            _stop(process)

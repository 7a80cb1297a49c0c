"""Before anybody is told of a message the kernel was asked to bring it to the disk, and said that it did.

A killed process loses nothing that was only written; a machine without power does. So here one looks at the
system calls.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from live import PATIENCE_S, Server, eventually

from chatproto.wire.chat import encode_frame
from chatproto.wire.messages import Ack, Chat, Say

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace"),
]

PROGRAM = Path(__file__).with_name("history_defects.py")
TWISTD = Path(sys.executable).with_name("twistd")
OPTIONS = ("--listen", "tcp:0:interface=127.0.0.1", "--history")

CALLS = "pwrite64,write,writev,sendto,sendmsg,fsync,fdatasync"
MESSAGES = 30

_LINE = re.compile(r"\d+ +(?P<name>\w+)\((?P<file>\d+<[^>]*>)?(?P<rest>.*)")
_RESUMED = re.compile(r"(?P<thread>\d+) +<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)")


def hex_of(data: bytes) -> str:
    """As strace shows it."""
    return "".join(f"\\x{byte:02x}" for byte in data)


class Witness:
    """Reads what strace wrote down, in its order. Raises AssertionError for a promise that came too early."""

    def __init__(self, text: str) -> None:
        self.syncs = 0
        self.told = 0
        self._is_dirty = False
        self._was_written = False
        self._syncing: dict[str, bool] = {}
        for line in text.splitlines():
            self._see(line)

    def _see(self, line: str) -> None:
        thread = line.split(maxsplit=1)[0]
        resumed = _RESUMED.match(line)
        if resumed:
            if self._syncing.pop(thread, False) and resumed["rest"].endswith("= 0"):
                self._has_synced()
            return
        call = _LINE.match(line)
        if call is None:
            return
        name, file, rest = call["name"], call["file"] or "", call["rest"]
        if file.endswith("-wal>"):
            if name == "pwrite64":
                self._is_dirty = self._was_written = True
            elif name in ("fsync", "fdatasync"):
                if "unfinished" in rest:
                    self._syncing[thread] = True
                elif rest.endswith("= 0"):
                    self._has_synced()
        elif any(mark in rest for mark in PROMISES):
            self.told += 1
            assert self._was_written, f"nothing was written before {line}"
            assert not self._is_dirty, f"what was written is not on the disk yet, and here it is told: {line}"

    def _has_synced(self) -> None:
        self.syncs += 1
        self._is_dirty = False


PROMISES: Sequence[str] = [
    hex_of(encode_frame(message)[:5]) for message in (Ack(1, 1, 1), Chat("lobby", 1, 1, "ann", "text 10"))
]
"""How the frames begin with which people are told of a message."""


def watch(folder: Path, command: Iterable[str]) -> Witness:
    trace, said = folder / "trace", folder / "said"
    with Server(command=[*command, *OPTIONS, str(folder / "chat.sqlite")]) as server:
        ann, bob = server.join("ann"), server.join("bob")
        strace = ["strace", "-f", "-y", "-x", "-s", "64", "-o", str(trace), "-e", f"trace={CALLS}"]
        with said.open("wb") as output:
            tracing = subprocess.Popen([*strace, "-p", str(server.process.pid)], stderr=output)
        eventually(lambda: "attached" in said.read_text(), "strace does not attach")
        for number in range(10, 10 + MESSAGES):  # texts of one length
            ann.send(Say(number, "lobby", f"text {number}"))
            ann.until(Ack)
            bob.until(Chat)
        tracing.send_signal(signal.SIGINT)
        tracing.wait(PATIENCE_S)
    return Witness(trace.read_text(errors="replace"))


@pytest.fixture(autouse=True, scope="module")
def may_trace() -> None:
    if subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode:
        pytest.skip("nothing may be traced here")


def test_what_is_told_is_on_the_disk(tmp_path: Path) -> None:
    witness = watch(tmp_path, [str(TWISTD), "-n", "--pidfile=", "chat"])
    assert witness.told >= 2 * MESSAGES
    assert witness.syncs >= MESSAGES


def test_a_server_that_does_not_wait_for_the_disk_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="is not on the disk yet"):
        watch(tmp_path, [sys.executable, str(PROGRAM), "does_not_wait_for_the_disk"])

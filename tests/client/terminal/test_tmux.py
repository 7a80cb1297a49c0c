"""chatproto-connect inside tmux: a terminal of another make, that takes one emoji for what it is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import Server, eventually, patiently

from chatproto.wire.messages import Ack, Chat, Say

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux"),
]

EMOJI = "family 👩‍👩‍👧 heart ❤️ flag 🇩🇪 tone 👍🏽 done"


class Tmux:
    """One pane with a program in it."""

    def __init__(self, command: list[str], columns: int = 100, rows: int = 16) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="chatproto-test-")
        self._socket = str(Path(self._folder.name) / "tmux")
        self.run("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows), *command)
        self._program_id = int(self.run("display-message", "-p", "#{pane_pid}"))

    def run(self, *arguments: str) -> str:
        return subprocess.run(
            ["tmux", "-u", "-S", self._socket, *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
            env={
                "PATH": "/usr/bin:/bin",
                "LANG": "C.UTF-8",
                "XDG_STATE_HOME": self._folder.name,
                "HOME": "/",
            },
        ).stdout

    @property
    def rows(self) -> list[str]:
        return self.run("capture-pane", "-p").splitlines()

    def ends(self, count: int) -> list[int]:
        """The column of what stands last in each of the first *count* rows, by tmux's own reckoning."""
        columns = []
        self.run("copy-mode")
        self.run("send-keys", "-X", "top-line")
        for _ in range(count):
            self.run("send-keys", "-X", "end-of-line")
            columns.append(int(self.run("display-message", "-p", "#{copy_cursor_x}")))
            self.run("send-keys", "-X", "cursor-down")
        self.run("send-keys", "-X", "cancel")
        return columns

    def shows(self, text: str) -> None:
        for _ in patiently(0.1):
            if any(text in row for row in self.rows):
                return
        raise AssertionError("\n".join(self.rows))

    def type(self, *keys: str) -> None:
        self.run("send-keys", *keys)

    def close(self) -> None:
        self.run("kill-server")
        eventually(lambda: not self._program_runs(), "the program did not end with its terminal")
        self._folder.cleanup()  # where the program has written, as it ended, what it keeps

    def _program_runs(self) -> bool:
        try:
            status = Path(f"/proc/{self._program_id}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return re.search(r"^State:\s*[ZX]", status, re.MULTILINE) is None


@pytest.fixture
def tmux(server: Server) -> Iterator[Tmux]:
    place = f"127.0.0.1:{server.port}"
    pane = Tmux([sys.executable, "-m", "chatproto.client.connect", place, "--nick", "ann"])
    pane.shows("this is lobby")
    yield pane
    pane.close()


def test_emoji_leave_the_columns_straight(server: Server, tmux: Tmux) -> None:
    bob = server.join("bob")
    long = " ".join([EMOJI] * 5)
    for number, text in enumerate([EMOJI, "漢字 한국어", long, "plain"], start=1):
        bob.send(Say(number, "", text))
    bob.until(Ack, lambda ack: ack.id == 4)
    tmux.shows("plain")
    rows = tmux.rows
    ends = tmux.ends(len(rows) - 2)
    empty = [end for row, end in zip(rows, ends, strict=False) if row.endswith("│")]
    assert len(empty) > 8
    assert len(set(empty)) == 1, list(zip(rows, ends, strict=False))
    # And nothing of it is hidden: the terminal was asked how wide it shows each of them.
    shown = " ".join(row.partition("│ ")[2].rpartition("│")[0].strip() for row in rows)
    assert long in shown


def test_a_paste_is_one_message(server: Server, tmux: Tmux) -> None:
    bob = server.join("bob")
    tmux.run("set-buffer", "one\n\ttwo\nthree\n")
    tmux.run("paste-buffer", "-p")
    tmux.shows("three")
    tmux.type("Enter")
    assert bob.until(Chat).text == "one\n\ttwo\nthree"


def test_typing_resizing_and_leaving(server: Server, tmux: Tmux) -> None:
    bob = server.join("bob")
    tmux.type("half a sen")
    bob.send(Say(1, "", "meanwhile"))
    bob.until(Ack)
    tmux.shows("meanwhile")
    tmux.run("resize-window", "-x", "50", "-y", "8")
    tmux.shows("bob: meanwhile")
    tmux.type("tence", "Enter")
    assert bob.until(Chat).text == "half a sentence"
    tmux.type("M-x", "F1")
    tmux.shows("help")
    tmux.type("Escape")
    tmux.shows("half a sentence")

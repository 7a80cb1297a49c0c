"""A history that breaks while nobody speaks: the server notices, says so where it is asked, and recovers."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from faults.history_disk import small_disk, unwritable
from live import Server, eventually
from server.asking import ask

from chatproto.history import threads
from chatproto.wire.messages import Ack, Chat, Say

NO_MORE = "the history cannot be kept, "
AGAIN = "the history can be kept again"


class Idle:
    """A server with one message in the history at *path*, where nobody speaks any more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.server = Server("--history", str(path), "--history-lock-timeout-s", "0.1")
        ann = self.server.join("ann")
        ann.send(Say(1, "", "before"))
        ann.until(Ack)
        ann.close()
        assert ask(self.server.port, "/readyz").status == 200

    def is_noticed(self, reason: str) -> None:
        """Without anybody's help; the log has it, and who asks is told."""
        eventually(lambda: NO_MORE + reason in self.server.log(), "it is not noticed")
        answer = ask(self.server.port, "/readyz")
        assert answer.status == 503
        assert reason in answer.body

    def is_mended(self) -> None:
        """That is noticed too, and nothing is lost."""
        eventually(lambda: ask(self.server.port, "/readyz").status == 200, "it does not recover")
        eventually(lambda: AGAIN in self.server.log())
        ann = self.server.join("ann", limit=10)
        ann.send(Say(2, "", "after"))
        ann.until(Ack)
        assert [chat.text for chat in ann.of(Chat)] == ["before"]
        ann.close()
        self.server.stop()
        with closing(sqlite3.connect(self.path)) as file:
            assert file.execute("SELECT text FROM messages").fetchall() == [("before",), ("after",)]
        assert "Traceback" not in self.server.log()


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[Idle]:
    (tmp_path / "folder").mkdir()
    idle = Idle(tmp_path / "folder" / "chat.sqlite")
    with idle.server:
        yield idle


def test_a_file_that_is_removed_is_said_and_written_back(idle: Idle) -> None:
    for ending in ("", "-wal", "-shm"):
        os.unlink(f"{idle.path}{ending}")
    eventually(lambda: f"{NO_MORE}its file is gone" in idle.server.log(), "it is not noticed")
    idle.is_mended()


def test_a_folder_that_is_moved_away_and_back(idle: Idle) -> None:
    away = idle.path.parent.with_name("away")
    idle.path.parent.rename(away)
    idle.is_noticed("its file is gone")
    away.rename(idle.path.parent)
    idle.is_mended()


def test_another_file_in_its_place_is_left_alone_until_the_right_one_is_back(
    idle: Idle, tmp_path: Path
) -> None:
    for ending in ("", "-wal", "-shm"):
        os.rename(f"{idle.path}{ending}", tmp_path / f"away{ending}")
    idle.path.write_text("something else")
    eventually(lambda: "another file stands in its place" in idle.server.log(), "it is not noticed")
    assert ask(idle.server.port, "/readyz").status == 503
    assert idle.path.read_text() == "something else"
    idle.path.unlink()
    for ending in ("", "-wal", "-shm"):
        os.rename(tmp_path / f"away{ending}", f"{idle.path}{ending}")
    idle.is_mended()


@pytest.mark.system
@pytest.mark.skipif(shutil.which("chattr") is None, reason="there is no chattr")
def test_a_file_that_becomes_unwritable(idle: Idle) -> None:
    with unwritable(str(idle.path), f"{idle.path}-wal"):
        idle.is_noticed("it cannot be written to")
    idle.is_mended()


@pytest.mark.system
@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount")
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4) as disk:
        idle = Idle(disk.folder / "chat.sqlite")
        with idle.server:
            disk.fill()
            idle.is_noticed("the disk is full")
            disk.free()
            idle.is_mended()


def test_what_no_look_shows_is_found_by_writing_now_and_then(tmp_path: Path) -> None:
    # The same server that tries it more often.
    often = (
        "import sys; from twisted.scripts.twistd import run; from chatproto.history import threads\n"
        f"assert threads.TRIAL_S == {threads.TRIAL_S}\n"
        "threads.TRIAL_S = 0.1; run()\n"
    )
    path = tmp_path / "chat.sqlite"
    options = ["-n", "--pidfile=", "chat", "--listen", "tcp:0:interface=127.0.0.1"]
    history = ["--history", str(path), "--history-lock-timeout-s", "0.1"]
    with Server(command=[sys.executable, "-c", often, *options, *history]) as server:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            eventually(lambda: f"{NO_MORE}another program has locked it" in server.log(), "it is not noticed")
            assert ask(server.port, "/readyz").status == 503
        eventually(lambda: ask(server.port, "/readyz").status == 200, "it does not recover")

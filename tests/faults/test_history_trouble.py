"""A history that cannot be written to: that is said, nobody sees what is not kept, and it recovers."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from faults.history_disk import small_disk, unwritable
from live import Server, eventually

from chatproto.history import __main__ as history
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Ack, Chat, End, Error, Join, Message, Ping, Pong, Say, Search, Tell, Told

OPTIONS = ("--history-lock-timeout-s", "0.1", "--max-room-log-messages", "0")
"""Nothing stays in memory, so what is read is in the file."""

NO_MORE = "the history cannot be kept"
AGAIN = "the history can be kept again"


class Scene:
    """A server whose history is at *path*, ann who speaks and bob who listens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(exist_ok=True)
        self.kept: list[str] = []
        self._ids = itertools.count(1_000)
        self._tokens = itertools.count(1)
        self.start()

    def start(self) -> None:
        """The server begins, or begins again."""
        self.server = Server("--history", str(self.path), *OPTIONS)
        self.ann, self.bob = self.server.join("ann"), self.server.join("bob", limit=65_535)

    def stop(self) -> None:
        """The server ends."""
        for client in (self.ann, self.bob):
            client.close()
        self.server.stop()
        self.server.__exit__(None, None, None)

    def answer(self, text: str, id: int = 0) -> Ack | Error:
        """What comes of saying something."""
        id = id or next(self._ids)
        self.ann.send(Say(id, "lobby", text))
        answer = self.ann.until(Message, lambda answer: isinstance(answer, Ack | Error) and answer.id == id)
        assert isinstance(answer, Ack | Error)
        return answer

    def was_kept(self, text: str, ack: Ack) -> None:
        """It has the next number, and bob sees it."""
        self.kept.append(text)
        assert ack.seq == len(self.kept), "a hole, or a number twice"
        assert self.bob.until(Chat) == Chat("lobby", ack.seq, ack.time, "ann", text)

    def say(self, text: str, id: int = 0) -> None:
        """What must be kept."""
        answer = self.answer(text, id)
        assert isinstance(answer, Ack), answer
        self.was_kept(text, answer)

    def is_refused(self, text: str, id: int) -> str:
        """What cannot be kept, and bob does not see."""
        answer = self.answer(text, id)
        assert isinstance(answer, Error)
        assert answer.code == ErrorCode.NOT_STORED
        assert answer.text.startswith(NO_MORE)
        assert answer.text.endswith("nobody saw it")
        token = next(self._tokens)
        self.bob.send(Ping(token))
        self.bob.until(Pong, lambda pong: pong.token == token)
        assert len(self.bob.of(Chat)) == len(self.kept)
        return answer.text

    def goes_on(self) -> None:
        """Everything works that needs no writing."""
        newcomer = self.server.join("newcomer", limit=65_535)
        assert [chat.text for chat in newcomer.of(Chat)] == self.kept
        newcomer.send(Search("lobby", "before", 10))
        newcomer.until(Chat, lambda chat: chat.text == "before")
        newcomer.send(Tell(1, "bob", "psst"))
        newcomer.until(Ack)
        assert self.bob.until(Told).text == "psst"
        newcomer.close()

    def recovers(self) -> None:
        """It says so, though nobody speaks."""
        log = self.server.log
        assert NO_MORE in log()
        eventually(lambda: log().rfind(AGAIN) > log().rfind(NO_MORE), "it does not recover")

    def check(self) -> None:
        """Everybody saw what was acknowledged, and it is there, after a restart too."""
        assert [chat.text for chat in self.bob.of(Chat)] == self.kept
        self._find()
        assert "Traceback" not in self.server.log()
        self.stop()
        self.start()
        self._find()
        self.stop()
        messages, _, troubles = history.check(str(self.path))
        assert (messages, troubles) == (len(self.kept), [])

    def _find(self) -> None:
        found = self.server.join("finder", limit=65_535)
        assert [(chat.seq, chat.text) for chat in found.of(Chat)] == list(enumerate(self.kept, 1))
        found.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path / "folder" / "chat.sqlite")
    scene.say("before")
    yield scene
    scene.server.__exit__(None, None, None)


@pytest.mark.system
@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount")
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4) as disk:
        scene = Scene(disk.folder / "chat.sqlite")
        scene.say("before")
        disk.fill()
        while isinstance(answer := scene.answer("x" * 4_000), Ack):  # there is space in the last page
            scene.was_kept("x" * 4_000, answer)
        for _ in range(3):
            assert "the disk is full" in scene.is_refused("y" * 4_000, 7)
        scene.goes_on()
        disk.free()
        scene.recovers()
        scene.say("y" * 4_000, 7)
        scene.check()


@pytest.mark.system
@pytest.mark.skipif(shutil.which("chattr") is None, reason="there is no chattr")
def test_a_file_that_becomes_unwritable(scene: Scene) -> None:
    with unwritable(str(scene.path), f"{scene.path}-wal"):
        scene.is_refused("lost", 7)
        for _ in range(3):
            assert "it cannot be written to" in scene.is_refused("lost", 7)
        scene.goes_on()
    scene.recovers()
    scene.say("kept", 7)
    scene.check()


def test_a_file_that_another_program_locks(scene: Scene) -> None:
    with closing(sqlite3.connect(scene.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            assert "another program has locked it" in scene.is_refused("lost", 7)
        scene.goes_on()
        other.execute("ROLLBACK")
    scene.recovers()
    scene.say("kept", 7)
    scene.check()


@pytest.mark.parametrize("endings", [("", "-wal", "-shm"), ("",), ("-wal",)], ids="+".join)
def test_a_file_that_is_removed_is_there_again_with_the_next_message(
    scene: Scene, endings: tuple[str, ...]
) -> None:
    scene.say("before it too")
    for ending in endings:
        os.unlink(f"{scene.path}{ending}")
    scene.say("after")
    assert scene.path.exists()
    scene.goes_on()
    scene.say("and again")
    scene.check()


def test_a_folder_that_is_moved_away_and_back(scene: Scene) -> None:
    away = scene.path.parent.with_name("away")
    scene.path.parent.rename(away)
    for _ in range(3):
        assert "its file is gone" in scene.is_refused("lost", 7)
    away.rename(scene.path.parent)
    scene.recovers()
    scene.say("kept", 7)
    scene.goes_on()
    scene.check()


def test_another_file_in_its_place_is_left_alone(scene: Scene, tmp_path: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        os.rename(f"{scene.path}{ending}", tmp_path / f"away{ending}")
    scene.path.write_text("something else")
    assert "another file stands in its place" in scene.is_refused("lost", 7)
    assert scene.path.read_text() == "something else"
    scene.path.unlink()
    for ending in ("", "-wal", "-shm"):
        os.rename(tmp_path / f"away{ending}", f"{scene.path}{ending}")
    scene.recovers()
    scene.say("kept", 7)
    scene.check()


def test_a_file_that_is_damaged_and_mended(scene: Scene) -> None:
    for _ in range(100):
        scene.say("x" * 1_000)
    # Begun anew, there is an empty write-ahead log, and nothing in any cache.
    scene.stop()
    scene.server = Server("--history", str(scene.path), *OPTIONS)
    scene.ann = scene.server.connect()
    content = scene.path.read_bytes()
    scene.ann.send(Join("ann", "", 0, 0, 0))
    scene.ann.until(End)
    scene.bob = scene.server.join("bob", limit=65_535)
    with scene.path.open("r+b") as file:
        file.seek(4_096)
        file.write(b"\xa5" * (len(content) - 4_096))
    for _ in range(3):
        assert "it is damaged" in scene.is_refused("lost", 7)
    with scene.path.open("r+b") as file:
        file.write(content)
    scene.recovers()
    scene.say("kept", 7)
    scene.goes_on()
    scene.check()

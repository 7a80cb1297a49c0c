"""A durable log whose disk, file or neighbours fail: what is not kept nobody sees, and it recovers."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from history.disk import no_file_larger_than
from rooms.outlets import Failures
from rooms.pumped import PumpedLog

from chatproto.history import threads
from chatproto.history import writer as writing
from chatproto.limits import HistoryLimits, Limits
from chatproto.rooms.log import NotStored
from chatproto.wire.messages import Chat

REFUSAL = r"^the history cannot be kept, [a-z][^.\n]*; nobody saw it$"


class Witness:
    """A log and everyone who is told what it keeps."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[Chat] = []
        self.acknowledged = 0
        self.log = self.open()

    def open(self) -> PumpedLog:
        # Nothing stays in memory, so what is read is what is in the file.
        limits = Limits(max_room_log_messages=0)
        log = PumpedLog(self.path, limits, HistoryLimits(history_lock_timeout_s=0.05))
        log.start(lambda chat, sender: self.heard.append(chat))
        return log

    def say(self, text: str = "x", id: int = 0) -> None:
        """What must be kept."""
        receipt = self.log.say("a", text, id=id)
        self.acknowledged += 1
        assert receipt.seq == self.acknowledged, "a hole, or a number twice"

    def say_without_end(self, text: str) -> None:
        """Until it is not kept."""
        while True:
            self.say(text)

    def is_refused(self, text: str = "x", id: int = 0) -> str:
        """What cannot be kept; nobody is told of it."""
        heard = len(self.heard)
        with pytest.raises(NotStored, match=REFUSAL) as refused:
            self.log.say("a", text, id=id)
        assert len(self.heard) == heard
        return str(refused.value)

    def until_kept(self) -> None:
        """Wait until it has recovered by itself."""
        self.log.pump.until(lambda: not self.log.trouble, "it does not recover")

    def check(self) -> None:
        """Everything that was acknowledged was told and is there, also after a restart, and all is well."""
        told = [(chat.seq, chat.text) for chat in self.heard]
        assert [seq for seq, _ in told] == list(range(1, self.acknowledged + 1))
        assert [(chat.seq, chat.text) for chat in self.log.all("a")] == told
        assert [(chat.seq, chat.text) for chat in self.again().all("a")] == told
        self.log.close_now()
        with closing(sqlite3.connect(self.path)) as file:
            assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    def again(self) -> PumpedLog:
        self.log.close_now()
        self.log = self.open()
        return self.log


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    (tmp_path / "folder").mkdir()
    witness = Witness(tmp_path / "folder" / "history.sqlite")
    witness.say("before")
    yield witness
    witness.log.close_now()


class TestDisk:
    def test_a_write_that_fails_is_refused_and_the_next_one_kept(self, witness: Witness) -> None:
        with no_file_larger_than(os.path.getsize(f"{witness.path}-wal")):
            assert "the disk fails" in witness.is_refused("lost", id=7)
            assert "the disk fails" in witness.is_refused("lost")
            assert witness.log.trouble.startswith("the disk fails")
        witness.say("after", id=7)
        assert witness.log.trouble == ""
        witness.check()

    def test_it_recovers_though_nobody_speaks(self, witness: Witness) -> None:
        with no_file_larger_than(os.path.getsize(f"{witness.path}-wal")):
            witness.is_refused()
        witness.until_kept()
        witness.say("after")
        witness.check()

    def test_what_is_there_can_be_read_meanwhile(self, witness: Witness) -> None:
        with no_file_larger_than(os.path.getsize(f"{witness.path}-wal")):
            witness.is_refused()
            assert [chat.text for chat in witness.log.all("a")] == ["before"]
            assert list(witness.log.answer(witness.log.search("a", ["before"], 1)).seqs) == [1]

    def test_all_that_would_have_been_one_commit_is_refused(self, witness: Witness) -> None:
        log = witness.log
        with no_file_larger_than(os.path.getsize(f"{witness.path}-wal")):
            answers = [log.append("ab"[n % 2], "ann", "ann", n, "x", 1) for n in range(100)]
            for answer in answers:
                with pytest.raises(NotStored, match=REFUSAL):
                    log.wait(answer)
        witness.say("after", id=50)
        assert log.say("b").seq == 1
        witness.heard = [chat for chat in witness.heard if chat.room == "a"]
        witness.check()

    def test_it_closes_though_nothing_can_be_written(self, witness: Witness) -> None:
        with no_file_larger_than(os.path.getsize(f"{witness.path}-wal")):
            answer = witness.log.append("a", "ann", "ann", 0, "x", 1)
            witness.log.close_now()
            with pytest.raises(NotStored, match=REFUSAL):
                witness.log.wait(answer)
        witness.again()
        witness.check()


@pytest.mark.system
@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount")
class TestFileSystem:
    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        folder = tmp_path / "small"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("nothing can be mounted here")
        yield folder
        subprocess.run(["umount", "-l", str(folder)], check=True)

    def test_a_full_disk_is_said_and_what_is_freed_is_used(self, small_disk: Path) -> None:
        witness = Witness(small_disk / "history.sqlite")
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(400_000))
        with pytest.raises(NotStored, match="the disk is full"):
            witness.say_without_end("x" * 4_000)
        assert witness.log.trouble == "the disk is full"
        witness.is_refused("y" * 4_000)
        ballast.unlink()
        witness.until_kept()
        witness.say("after")
        witness.check()

    def test_a_disk_that_is_full_again_and_again_loses_nothing(self, small_disk: Path) -> None:
        witness = Witness(small_disk / "history.sqlite")
        ballast = small_disk / "ballast"
        refused = 0
        for number in range(120):
            if number % 10 == 0:
                free_bytes = shutil.disk_usage(small_disk).free
                ballast.write_bytes(bytes(free_bytes // 4_096 * 4_096))
            elif number % 10 == 5:
                ballast.unlink()
            try:
                witness.say("x" * 300, id=number + 1)
            except NotStored:
                refused += 1
        ballast.unlink(missing_ok=True)
        assert refused
        witness.check()


@pytest.mark.system
@pytest.mark.skipif(shutil.which("chattr") is None, reason="there is no chattr")
class TestUnwritableFile:
    """Made so while it is open, which nothing but an attribute of the file system can do."""

    @pytest.fixture
    def unwritable(self, witness: Witness) -> Iterator[Callable[[bool], None]]:
        def make(is_unwritable: bool) -> None:
            paths = [str(witness.path), *map(str, witness.path.parent.glob("*-wal"))]
            subprocess.run(["chattr", "+i" if is_unwritable else "-i", *paths], check=True)

        try:
            make(True)
            make(False)
        except subprocess.CalledProcessError:
            pytest.skip("this file system has no such attribute, or one may not set it")
        yield make
        make(False)

    def test_a_file_that_becomes_unwritable_is_said(
        self, witness: Witness, unwritable: Callable[[bool], None]
    ) -> None:
        unwritable(True)
        for _ in range(3):
            witness.is_refused(id=7)
        assert witness.log.trouble == "it cannot be written to"
        assert [chat.text for chat in witness.log.all("a")] == ["before"]
        unwritable(False)
        witness.until_kept()
        witness.say("after", id=7)
        witness.check()


class TestLocks:
    def test_what_another_program_locks_is_refused_after_a_while(self, witness: Witness) -> None:
        with closing(sqlite3.connect(witness.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert "another program has locked it" in witness.is_refused(id=7)
            other.execute("ROLLBACK")
        witness.until_kept()
        witness.say("after", id=7)
        witness.check()

    def test_a_program_in_another_process_may_read_it_all_the_time(self, witness: Witness) -> None:
        with closing(sqlite3.connect(witness.path, isolation_level=None)) as other:
            other.execute("BEGIN")
            assert other.execute("SELECT count(*) FROM messages").fetchone() == (1,)
            for _ in range(50):
                witness.say()
            assert other.execute("SELECT count(*) FROM messages").fetchone() == (1,)
            other.execute("ROLLBACK")
        witness.check()


def move(source: Path, target: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        if Path(f"{source}{ending}").exists():
            os.rename(f"{source}{ending}", f"{target}{ending}")


def remove(path: Path, *endings: str) -> None:
    for ending in endings:
        os.unlink(f"{path}{ending}")


class TestRemovedFile:
    @pytest.mark.parametrize(
        "endings", [("", "-wal", "-shm"), ("",), ("", "-wal"), ("-wal",), ("-wal", "-shm")], ids="+".join
    )
    def test_a_file_that_is_removed_is_written_anew(self, witness: Witness, endings: tuple[str, ...]) -> None:
        for _ in range(20):
            witness.say()
        remove(witness.path, *endings)
        for _ in range(20):
            witness.say("after")
        assert witness.path.exists()
        assert sorted(os.listdir(witness.path.parent)) == [
            f"history.sqlite{ending}" for ending in ("", "-lock", "-shm", "-wal")
        ]
        witness.check()

    def test_ids_and_words_are_in_it_too(self, witness: Witness) -> None:
        witness.say("fish", id=7)
        remove(witness.path, "", "-wal", "-shm")
        log = witness.log
        assert log.say("a", "fish", id=7).seq == 2
        witness.say("fish")
        log.look("a")
        assert list(log.answer(log.search("a", ["fish"], 9)).seqs) == [2, 3]
        witness.check()

    def test_it_is_written_anew_though_nobody_speaks(self, witness: Witness) -> None:
        folder = witness.path.parent
        away = folder.with_name("away")
        folder.rename(away)
        witness.is_refused()
        assert witness.log.trouble == "its file is gone"
        folder.mkdir()
        witness.until_kept()
        witness.say("after")
        witness.check()

    def test_a_file_that_comes_back_is_used_again(self, witness: Witness) -> None:
        away = witness.path.parent.with_name("away")
        witness.path.parent.rename(away)
        witness.is_refused()
        away.rename(witness.path.parent)
        witness.until_kept()
        witness.say("after")
        witness.check()

    def test_another_file_in_its_place_is_not_touched(self, witness: Witness, tmp_path: Path) -> None:
        away = tmp_path / "away.sqlite"
        move(witness.path, away)
        witness.path.write_text("something else")
        assert "another file stands in its place" in witness.is_refused()
        assert witness.path.read_text() == "something else"
        witness.path.unlink()
        move(away, witness.path)
        witness.until_kept()
        witness.say("after")
        witness.check()

    def test_another_history_in_its_place_is_not_written_to(self, witness: Witness, tmp_path: Path) -> None:
        other_path, away = tmp_path / "other.sqlite", tmp_path / "away.sqlite"
        other = PumpedLog(other_path)
        other.say("a", "of another")
        other.close_now()
        move(witness.path, away)
        other_path.rename(witness.path)
        before = witness.path.read_bytes()
        witness.is_refused()
        witness.log.close_now()
        assert witness.path.read_bytes() == before
        witness.path.unlink()
        move(away, witness.path)
        witness.log = witness.open()
        witness.say("after")
        assert [chat.text for chat in witness.log.all("a")] == ["before", "after"]

    def test_a_backup_that_is_copied_over_it_is_not_written_to(
        self, witness: Witness, tmp_path: Path
    ) -> None:
        """Its numbers would be used twice."""
        copy = tmp_path / "copy"
        with closing(sqlite3.connect(copy)) as target, closing(sqlite3.connect(witness.path)) as source:
            source.backup(target)
        witness.say()
        remove(witness.path, "-wal", "-shm")
        copied = copy.read_bytes()
        with open(witness.path, "r+b") as file:
            file.write(copied)
            file.truncate(len(copied))
        try:
            witness.say("after")
        except NotStored:
            return
        witness.check()

    def test_a_file_that_goes_during_the_commit_leaves_nothing_of_it_behind(
        self, witness: Witness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is removed when everything was written, and cannot be written anew just then."""
        folder = witness.path.parent
        away = folder.with_name("away")
        writer = witness.log._writings.writer
        check_place = writer._check_place
        checks: list[int] = []

        def check_and_remove() -> None:
            checks.append(1)
            if len(checks) == 2:
                folder.rename(away)
            check_place()

        monkeypatch.setattr(writing, "CHECK_S", -1.0)  # else not before a commit where it just looked
        monkeypatch.setattr(writer, "_check_place", check_and_remove)
        witness.is_refused("lost", id=7)
        monkeypatch.undo()
        away.rename(folder)
        witness.until_kept()
        witness.say("after", id=7)
        witness.check()

    def test_a_file_that_goes_during_the_commit_is_written_anew_with_it(
        self, witness: Witness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        writer = witness.log._writings.writer
        check_place = writer._check_place
        checks: list[int] = []

        def check_and_remove() -> None:
            checks.append(1)
            if len(checks) == 2:
                remove(witness.path, "", "-wal", "-shm")
            check_place()

        monkeypatch.setattr(writing, "CHECK_S", -1.0)  # else not before a commit where it just looked
        monkeypatch.setattr(writer, "_check_place", check_and_remove)
        witness.say("during", id=7)
        monkeypatch.undo()
        witness.say("after")
        witness.check()


class TestDamage:
    def damage(self, path: Path) -> None:
        """Overwrite everything but the header, while it is open."""
        with open(path, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(4_096)
            file.write(b"\xa5" * (size - 4_096))

    def test_a_damaged_file_is_said_and_nobody_sees_what_is_not_kept(self, witness: Witness) -> None:
        for number in range(300):
            witness.log.append("a", "ann", "ann", number + 1, "x" * 1_000, 1)
        witness.log.settle()
        witness.again()
        # With an empty write-ahead log, and nothing in any cache.
        self.damage(witness.path)
        assert "it is damaged" in witness.is_refused()
        assert witness.log.trouble == "it is damaged"
        witness.is_refused()


class TestUnknown:
    def test_an_error_in_the_program_refuses_what_it_hits_and_no_more(
        self, witness: Witness, monkeypatch: pytest.MonkeyPatch, failures: Failures
    ) -> None:
        def fail(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(witness.log._writings.writer, "_keep", fail)
        answers = [witness.log.append("a", "ann", "ann", 0, "x", 1) for _ in range(3)]
        for answer in answers:
            with pytest.raises(NotStored, match=r"^[a-z][^.]*$"):
                witness.log.wait(answer)
        monkeypatch.undo()
        assert set(failures.take()) == {"ZeroDivisionError"}
        witness.say("after")
        witness.check()

    def test_an_error_in_the_upkeep_stops_nothing(
        self, witness: Witness, monkeypatch: pytest.MonkeyPatch, failures: Failures
    ) -> None:
        def fail(*_: object) -> bool:
            raise ZeroDivisionError

        monkeypatch.setattr(threads, "IDLE_S", 0.02)
        monkeypatch.setattr(witness.log._writings.upkeep, "step", fail)
        for _ in range(3):
            witness.say()
        witness.log.pump.until(lambda: witness.log.trouble)
        monkeypatch.undo()
        witness.until_kept()
        assert set(failures.take()) == {"ZeroDivisionError"}
        witness.check()

"""What a durable log refuses is not in the file, not even in what SQLite finds there after a crash.

And only what is not kept is refused: not what was kept before and is said again.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from history.disk import no_file_larger_than
from rooms.pumped import PumpedLog

from chatproto.history import threads
from chatproto.limits import HistoryLimits, Limits
from chatproto.rooms.log import NotStored

FRAME_BYTES = 4_096 + 24
"""Of the write-ahead log: a page of the file and its head."""

INDEXED_FRAMES = 4_062
"""Of the write-ahead log; for the next ones its index has to grow."""

TEXT = "x" * 4_000


@contextmanager
def opened(path: Path) -> Iterator[PumpedLog]:
    log = PumpedLog(path, Limits(max_room_log_messages=0), HistoryLimits(history_lock_timeout_s=0.05))
    log.start(lambda chat, sender: None)
    yield log
    log.close_now()


def copy_as_after_a_crash(path: Path, folder: Path) -> Path:
    """What is on the disk if the process is killed now; without the index of the write-ahead log."""
    folder.mkdir(exist_ok=True)
    for ending in ("", "-wal"):
        shutil.copyfile(f"{path}{ending}", folder / f"{path.name}{ending}")
    return folder / path.name


def texts_in(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as file:
        return [text for (text,) in file.execute("SELECT text FROM messages ORDER BY place")]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("there is no mount")
    command = ["mount", "-t", "tmpfs", "-o", "size=40m", "none", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def say_without_end(log: PumpedLog) -> None:
    while True:
        log.say("a", TEXT)


def grow_and_begin_anew(path: Path) -> None:
    """Leave a long write-ahead log, of which only the beginning is still of use."""
    with opened(path) as log:
        log.say("a", TEXT)
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM messages").fetchone()
            # As long as it can read what is there now, the log cannot begin anew.
            while os.path.getsize(f"{path}-wal") < (INDEXED_FRAMES + 200) * FRAME_BYTES:
                log.say("a", TEXT)
        log.say("a", TEXT)  # now all of it is in the file
        log.say("a", TEXT)  # and this is where it begins anew
        copy_as_after_a_crash(path, path.parent / "crashed")


@pytest.mark.system
def test_what_was_refused_does_not_come_to_light_after_a_crash(tmp_path: Path, small_disk: Path) -> None:
    """All of it was written, and then there was no space for its place in the index of what was written."""
    grow_and_begin_anew(tmp_path / "history.sqlite")
    path = copy_as_after_a_crash(tmp_path / "crashed" / "history.sqlite", small_disk)
    with opened(path) as log:
        log.say("a", "before")
        free_bytes = shutil.disk_usage(small_disk).free
        (small_disk / "ballast").write_bytes(bytes(free_bytes))
        wal_bytes = os.path.getsize(f"{path}-wal")
        acknowledged = 0
        refused = ""
        while not refused:
            try:
                log.say("a", f"{acknowledged} {TEXT}", id=acknowledged + 1)
                acknowledged += 1
            except NotStored as refusal:
                refused = str(refusal)
        assert os.path.getsize(f"{path}-wal") == wal_bytes, "it was refused for another reason"
        assert acknowledged > 100
        found = texts_in(copy_as_after_a_crash(path, tmp_path / "after"))
        assert found[-1] == f"{acknowledged - 1} {TEXT}", f"{refused}, and it is there"
        (small_disk / "ballast").unlink()
        log.pump.until(lambda: not log.trouble, "it does not recover")
        assert log.say("a", "after", id=acknowledged + 1).seq == len(found) + 1
    assert texts_in(path) == [*found, "after"]


class TestSaidAgain:
    def test_what_was_kept_has_its_receipt_though_nothing_can_be_kept(self, tmp_path: Path) -> None:
        path = tmp_path / "history.sqlite"
        with opened(path) as log:
            receipt = log.say("a", "kept", id=7)
            with no_file_larger_than(os.path.getsize(f"{path}-wal")):
                answers = [log.append("a", "ann", "ann", id, "x", 1) for id in (6, 7, 8)]
                with pytest.raises(NotStored):
                    log.wait(answers[0])
                assert log.wait(answers[1]) == receipt
                with pytest.raises(NotStored):
                    log.wait(answers[2])
                assert log.say("a", "kept", id=7) == receipt
                assert log.trouble

    def test_it_has_after_a_restart_too(self, tmp_path: Path) -> None:
        path = tmp_path / "history.sqlite"
        with opened(path) as log:
            receipt = log.say("a", "kept", id=7)
        with opened(path) as log, closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(NotStored):
                log.say("a", "x", id=6)
            assert log.say("a", "kept", id=7) == receipt
            other.execute("ROLLBACK")


@pytest.mark.system
def test_it_does_not_take_itself_to_have_recovered_while_the_disk_is_full(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "IDLE_S", 0.02)
    path = small_disk / "history.sqlite"
    with opened(path) as log:
        log.say("a", "before")
        (small_disk / "ballast").write_bytes(bytes(shutil.disk_usage(small_disk).free))
        with pytest.raises(NotStored):
            say_without_end(log)
        for _ in range(10):
            log.pump.step(0.02)
            assert log.trouble == "the disk is full"
        (small_disk / "ballast").unlink()
        log.pump.until(lambda: not log.trouble, "it does not recover")

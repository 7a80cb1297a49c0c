"""Opening the file of a history: what is no history is refused in one sentence and stays as it is."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from rooms.pumped import PumpedLog

from chatproto.history import file
from chatproto.history.file import (
    APPLICATION_ID,
    SCHEMA_VERSION,
    HistoryUnusable,
    migrate,
    place_of,
)
from chatproto.limits import HistoryLimits

SENTENCE = r"^the history cannot be used, [^.\n]*: [^ ]*$"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite"


def refusal(path: Path) -> str:
    """Why the file is refused; nothing about it changes."""
    before = snapshot(path.parent)
    with pytest.raises(HistoryUnusable, match=SENTENCE) as refused:
        PumpedLog(path)
    assert snapshot(path.parent) == before
    assert str(path) in str(refused.value)
    return str(refused.value)


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """What lies in a folder, but for locks."""
    return {
        found.name: found.read_bytes() if found.is_file() else None
        for found in folder.iterdir()
        if not found.name.endswith("-lock")
    }


def say_in(path: Path, *texts: str) -> None:
    log = PumpedLog(path)
    for text in texts:
        log.say("a", text)
    log.close_now()


def a_text(path: Path) -> None:
    path.write_text("dear diary, " * 100)


def a_short_text(path: Path) -> None:
    path.write_text("dear diary")


def a_truncated_header(path: Path) -> None:
    say_in(path)
    path.write_bytes(path.read_bytes()[:99])


def a_folder(path: Path) -> None:
    path.mkdir()


def a_socket(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(path))


def anothers_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE messages (place INTEGER PRIMARY KEY)")


def anothers_database_in_use(path: Path) -> None:
    """With a write-ahead log beside it that nobody may touch."""
    program = (
        "import os, sqlite3, sys; other = sqlite3.connect(sys.argv[1]);"
        "other.execute('PRAGMA journal_mode = WAL'); other.execute('CREATE TABLE t (a)'); other.commit();"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    assert Path(f"{path}-wal").stat().st_size


def a_newer_history(path: Path) -> None:
    say_in(path, "x")
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def nothing_behind_the_header(path: Path) -> None:
    say_in(path, "x")
    path.write_bytes(path.read_bytes()[:100] + bytes(3_996))


def noise_behind_the_header(path: Path) -> None:
    say_in(path, "x")
    data = path.read_bytes()
    path.write_bytes(data[:100] + b"\xa5" * (len(data) - 100))


def a_link_to_nowhere(path: Path) -> None:
    path.symlink_to(path.parent / "missing" / "history.sqlite")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (a_text, "it is not an SQLite database"),
        (a_short_text, "it is not an SQLite database"),
        (a_truncated_header, "it is not an SQLite database"),
        (a_folder, "it is no file"),
        (a_socket, "it is no file"),
        (anothers_database, "it belongs to another program"),
        (anothers_database_in_use, "it belongs to another program"),
        (a_newer_history, "a newer version of this program made it"),
        (nothing_behind_the_header, "it is damaged"),
        (noise_behind_the_header, "it is damaged"),
        (a_link_to_nowhere, "no such file or directory"),
    ],
)
def test_what_is_no_history_is_refused_and_left_as_it_is(
    path: Path, make: Callable[[Path], None], reason: str
) -> None:
    make(path)
    assert f", {reason}: " in refusal(path)


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "history.sqlite"
    with pytest.raises(HistoryUnusable, match="no such file or directory"):
        PumpedLog(missing)
    assert not missing.parent.exists()


def test_nothing_lies_beside_what_is_refused(path: Path) -> None:
    a_text(path)
    refusal(path)
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_an_empty_file_becomes_a_history(path: Path) -> None:
    path.touch()
    say_in(path, "x")
    assert path.stat().st_size


def test_a_new_history_is_private(path: Path) -> None:
    log = PumpedLog(path)
    log.say("a")
    assert [found.stat().st_mode & 0o077 for found in path.parent.iterdir()] == [0] * 4
    log.close_now()


def test_a_history_says_whose_it_is(path: Path) -> None:
    say_in(path)
    header = path.read_bytes()[:100]
    assert (header[60:64], header[68:72]) == (SCHEMA_VERSION.to_bytes(4, "big"), b"Chat")
    assert int.from_bytes(b"Chat", "big") == APPLICATION_ID


def test_a_comparison_form_is_kept_where_it_is_another_than_the_nickname(path: Path) -> None:
    log = PumpedLog(path)
    for nick in ("ann", "Ann"):
        log.wait(log.append("a", nick, "ann", 0, "x", 1))
    log.close_now()
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT nick, key FROM messages ORDER BY place").fetchall()
    assert rows == [("ann", None), ("Ann", "ann")]


def test_only_one_server_at_a_time_writes_to_a_history(path: Path) -> None:
    log = PumpedLog(path)
    log.say("a")
    with pytest.raises(HistoryUnusable, match="another server is writing to it"):
        PumpedLog(path)
    assert log.say("a").seq == 2
    log.close_now()
    again = PumpedLog(path)
    assert again.say("a").seq == 3
    again.close_now()


def test_a_server_that_was_killed_leaves_no_lock(path: Path) -> None:
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[2]); from rooms.pumped import PumpedLog;"
        "log = PumpedLog(sys.argv[1]); log.say('a'); os._exit(9)"
    )
    tests = str(Path(__file__).parents[1])
    subprocess.run([sys.executable, "-c", program, str(path), tests], check=False)
    say_in(path, "x")
    log = PumpedLog(path)
    assert [chat.seq for chat in log.all("a")] == [1, 2]
    log.close_now()


def test_a_history_that_another_program_has_locked_is_refused_after_a_while(path: Path) -> None:
    say_in(path, "x")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(HistoryUnusable, match="another program has locked it"):
            PumpedLog(path, history=HistoryLimits(history_lock_timeout_s=0.05))


class TestMigration:
    """An older schema: before there was an index of words."""

    def make(self, path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as old:
            migrate(old, 1)
            old.execute("INSERT INTO rooms VALUES (1, 'a', 0), (2, 'b', 5)")
            old.executemany(
                "INSERT INTO messages VALUES (?, ?, 'ann', ?, NULL, 0)",
                [
                    (place_of(1, 1), 10, "red fish"),
                    (place_of(1, 2), 20, "größe"),
                    (place_of(2, 6), 30, "one fish"),
                ],
            )
            assert old.execute("PRAGMA user_version").fetchone() == (1,)
            assert "words" not in {name for (name,) in old.execute("SELECT name FROM sqlite_master")}

    def test_it_is_brought_up_to_date_with_what_is_in_it(self, path: Path) -> None:
        self.make(path)
        log = PumpedLog(path)
        assert (log.look("a"), log.look("b")) == ((1, 2), (6, 6))
        for room, word, seqs in (("a", "fish", [1]), ("a", "grosse", [2]), ("b", "fish", [6])):
            assert list(log.answer(log.search(room, [word], 9)).seqs) == seqs
        assert log.say("b", "two fish").seq == 7
        log.close_now()
        again = PumpedLog(path)
        assert again.look("b") == (6, 7)
        assert list(again.answer(again.search("b", ["fish"], 9)).seqs) == [6, 7]
        again.close_now()

    def test_it_is_brought_up_to_date_at_once_or_not_at_all(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.make(path)
        before = self.contents(path)

        def fail(connection: sqlite3.Connection) -> None:
            connection.execute("CREATE TABLE half (done)")
            raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(file, "_STEPS", (*file._STEPS, fail))
        monkeypatch.setattr(file, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
        with pytest.raises(HistoryUnusable, match="disk I/O error"):
            PumpedLog(path)
        assert self.contents(path) == before

    def contents(self, path: Path) -> list[str]:
        with closing(sqlite3.connect(path)) as file:
            return list(file.iterdump())


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that can be made read-only with `mount`, as chmod does not keep root from anything."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.system
@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount")
class TestReadOnly:
    def test_a_history_on_a_file_system_that_cannot_be_written_to_is_refused(self, read_only: Path) -> None:
        path = read_only / "history.sqlite"
        say_in(path, "x")
        subprocess.run(["mount", "-o", "remount,ro", str(read_only)], check=True)
        assert "read-only file system" in refusal(path)

    def test_nor_can_a_new_one_be_made_there(self, read_only: Path) -> None:
        subprocess.run(["mount", "-o", "remount,ro", str(read_only)], check=True)
        assert "read-only file system" in refusal(read_only / "new.sqlite")

    def test_a_file_that_cannot_be_written_to_is_refused(self, read_only: Path, tmp_path: Path) -> None:
        # Only the file itself is on a read-only file system; its folder, and so its lock, is not.
        source = read_only / "history.sqlite"
        say_in(source, "x")
        target = tmp_path / "history.sqlite"
        target.touch()
        subprocess.run(["mount", "--bind", str(source), str(target)], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", str(target)], check=True)
            with pytest.raises(HistoryUnusable, match=SENTENCE):
                PumpedLog(target)
        finally:
            subprocess.run(["umount", "-l", str(target)], check=True)
        assert os.path.getsize(target) == 0

"""What an operator removes from a history is not in its file any more, nor beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from rooms.pumped import PumpedLog

from chatproto.history.__main__ import check
from chatproto.history.file import connect_reader
from chatproto.history.wiping import WIPE_BYTES
from chatproto.limits import Limits
from chatproto.rooms.log import REMOVED

SECRETS = ("xyzzyplugh", "qwertzuiop")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite"


@pytest.fixture
def log(path: Path) -> Iterator[PumpedLog]:
    log = PumpedLog(path)
    yield log
    log.close_now()


def say_secrets(log: PumpedLog) -> int:
    """Something that must go, among much that stays; its number."""
    for number in range(300):
        log.append("a", "ann", "ann", 0, f"harmless {number} words{number % 7}", 1)
    seq = log.say("a", f"the password is {' '.join(SECRETS)}, " + "x" * 3_000).seq
    for number in range(300):
        log.append("a", "ann", "ann", 0, f"later {number} words{number % 7}", 1)
    log.settle()
    return seq


def left_in(folder: Path) -> set[str]:
    """Which of the secrets are in any file of a folder, in any case."""
    contents = b"".join(file.read_bytes() for file in folder.iterdir()).lower()
    return {secret for secret in SECRETS if secret.encode() in contents}


def unwiped_bytes(path: Path) -> int:
    with closing(connect_reader(str(path))) as reader:
        number: int = reader.execute("SELECT unmerged_bytes FROM about").fetchone()[0]
        return number


def test_nothing_of_it_is_left_in_any_file_after_a_while(log: PumpedLog, path: Path) -> None:
    seq = say_secrets(log)
    assert left_in(path.parent) == set(SECRETS)
    assert log.wait(log.remove("a", seq))
    log.pump.until(lambda: unwiped_bytes(path) < WIPE_BYTES and not left_in(path.parent), "it is still there")
    assert log.all("a")[seq - 1].text == REMOVED
    assert check(str(path))[2] == []


def test_what_a_crash_left_undone_is_done_after_the_next_start(path: Path, tmp_path: Path) -> None:
    log = PumpedLog(path)
    seq = say_secrets(log)
    log._writings.upkeep._tasks.clear()  # as if it had died before it came to that
    log.wait(log.remove("a", seq))
    log.close_now()
    assert unwiped_bytes(path) >= WIPE_BYTES
    assert left_in(path.parent)
    again = PumpedLog(path)
    again.pump.until(lambda: unwiped_bytes(path) < WIPE_BYTES and not left_in(path.parent), "still there")
    again.close_now()


def test_what_is_said_meanwhile_is_kept_and_found(log: PumpedLog, path: Path) -> None:
    seq = say_secrets(log)
    removed = log.remove("a", seq)
    for number in range(300):
        log.append("a", "ann", "ann", 0, f"meanwhile {number}", 1)
    assert log.wait(removed)
    log.settle()
    log.pump.until(lambda: unwiped_bytes(path) < WIPE_BYTES and not left_in(path.parent), "it is still there")
    found = log.answer(log.search("a", ["meanwhile"], 1_000))
    assert len(found.seqs) == 300
    assert [chat.seq for chat in log.all("a")] == list(range(1, 902))
    assert check(str(path))[2] == []


def test_someone_who_reads_from_the_file_and_not_from_memory_sees_nothing_of_it(path: Path) -> None:
    log = PumpedLog(path, Limits(max_room_log_messages=0))
    seq = say_secrets(log)
    assert log.wait(log.remove("a", seq))
    assert [chat.text for chat in log.answer(log.read("a", seq, seq, 1))] == [REMOVED]
    log.close_now()

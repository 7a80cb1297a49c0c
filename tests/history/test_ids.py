"""Which messages the durable log recognises when they come again."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rooms.pumped import PumpedLog

from chatproto.history import ids, threads
from chatproto.limits import HistoryLimits
from chatproto.rooms.log import Receipt

WINDOW_S = 60.0


class Desk:
    """A log that is opened again and again, and how much of its ids stays in memory."""

    def __init__(self, path: Path, **bounds: float) -> None:
        self.path = path
        self.now_s = 1_000.0
        self.bounds = {"remember_ids_s": WINDOW_S, **bounds}
        self.log = self.open()

    def open(self) -> PumpedLog:
        history = HistoryLimits(**self.bounds)  # type: ignore[arg-type]
        self.log = PumpedLog(self.path, None, history, lambda: self.now_s)
        return self.log

    def open_again(self) -> PumpedLog:
        self.log.close_now()
        return self.open()

    def say(self, id: int, key: str = "ann", room: str = "a") -> Receipt:
        return self.log.wait(self.log.append(room, key, key, id, f"{key} {id}", 1))

    def ask(self, question: str) -> int:
        """A number that stands in the file."""
        with closing(sqlite3.connect(self.path)) as file:
            [number] = file.execute(question).fetchone()
        assert isinstance(number, int)
        return number

    def until_in_index(self, number: int) -> None:
        self.log.pump.until(lambda: self.ask("SELECT count(*) FROM said") >= number)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(threads, "IDLE_S", 0.01)
    desk = Desk(tmp_path / "history")
    yield desk
    desk.log.close_now()


@pytest.fixture(params=[0, 3, 1_000])
def in_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """So many ids stay in memory until their index is written."""
    most: int = request.param
    monkeypatch.setattr(ids, "MOST_IN_MEMORY", most)
    return most


IDS = [5, 1, 2**53 - 1, 4, 3, 900, 901, 902, 2]


def test_ids_are_known_in_whatever_order_they_come(desk: Desk, in_memory: int) -> None:
    receipts = {id: desk.say(id) for id in IDS}
    assert sorted(receipt.seq for receipt in receipts.values()) == list(range(1, 10))
    for _ in range(2):
        assert {id: desk.say(id) for id in reversed(IDS)} == receipts
        assert desk.say(6, key="bob", room="b").seq == 1
        desk.open_again()


def test_many_at_once_are_told_apart(desk: Desk, in_memory: int) -> None:
    said = [("ann", 3), ("bob", 3), ("ann", 1), ("ann", 3), ("ann", 2), ("bob", 3), ("ann", 0), ("ann", 0)]
    for _ in range(2):
        waiting = [desk.log.append("a", key, key, id, "x", 1) for key, id in said]
        seqs = [desk.log.wait(answer).seq for answer in waiting]
        assert seqs[3] == seqs[0]
        assert seqs[5] == seqs[1]
        assert seqs[:6] == [1, 2, 3, 1, 4, 2]
        desk.open_again()
    assert desk.log.look("a") == (1, 8)


def test_the_index_is_written_when_enough_have_gathered(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "MOST_IN_MEMORY", 2_500)
    known = desk.log._writings.writer.ids
    for begin in range(1, 6_000, 500):
        for id in range(begin, begin + 500):
            desk.log.append("a", "ann", "ann", id, "x", 1)
        desk.log.settle()
        desk.now_s += 1
    desk.until_in_index(2_500)
    desk.log.pump.until(lambda: not known.is_due)
    assert len(known._newest) <= 2_500
    assert desk.say(1).seq == 1
    assert desk.say(6_000).seq == 6_000


def test_what_is_in_the_index_is_not_read_again_at_the_next_start(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "MOST_MESSAGES", 50)
    desk.say(1)
    for _ in range(100):
        desk.now_s += 0.1
        desk.say(0)
    desk.log.pump.until(lambda: desk.ask("SELECT ids_ms FROM about") > 1_000_000)
    desk.open_again()
    assert desk.log._writings.writer.ids._newest == {}
    assert desk.say(1).seq == 1


def test_an_id_of_a_message_that_was_removed_is_known(tmp_path: Path, in_memory: int) -> None:
    desk = Desk(tmp_path / "history", max_history_room_messages=1)
    receipts = [desk.say(id) for id in range(1, 6)]
    desk.log.pump.until(lambda: desk.log.look("a") == (5, 5))
    for _ in range(2):
        assert [desk.say(id) for id in range(1, 6)] == receipts
        desk.open_again()
    desk.log.close_now()


def test_an_id_that_was_known_too_long_is_a_new_one(desk: Desk, in_memory: int) -> None:
    first = desk.say(7)
    desk.now_s += WINDOW_S
    assert desk.say(7) == first
    desk.now_s += 0.001
    second = desk.say(7)
    assert second.seq == 2
    desk.open_again()
    assert desk.say(7) == second


def test_what_was_not_kept_is_not_known(desk: Desk, in_memory: int) -> None:
    desk.say(1)
    with closing(sqlite3.connect(desk.path, isolation_level=None)) as other:
        desk.log._writings.writer.connection.execute("PRAGMA busy_timeout = 10")
        other.execute("BEGIN IMMEDIATE")
        answer = desk.log.append("a", "ann", "ann", 2, "x", 1)
        with pytest.raises(Exception, match="another program has locked it"):
            desk.log.wait(answer)
        other.execute("ROLLBACK")
    assert desk.say(2).seq == 2


def test_an_index_that_was_half_written_when_the_server_was_killed_loses_and_doubles_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "MOST_IN_MEMORY", 6)
    monkeypatch.setattr(ids, "STEP_IDS", 2)
    killed: list[Path] = []
    were_written = ids.KnownIds.were_written

    def copy_and_go_on(known: ids.KnownIds, rows: list[ids.SaidRow]) -> None:
        # What a kill would leave at this moment, in the thread that writes.
        killed.append(desk.path.with_name(f"killed{len(killed)}"))
        for ending in ("", "-wal"):
            shutil.copy(f"{desk.path}{ending}", f"{killed[-1]}{ending}")
        were_written(known, rows)

    monkeypatch.setattr(ids.KnownIds, "were_written", copy_and_go_on)
    said = [(key, id) for id in (7, 1, 2**53 - 1, 3, 900, 2) for key in ("ann", "bob")]
    receipts = {(key, id): desk.say(id, key) for key, id in said}
    desk.until_in_index(6)
    monkeypatch.undo()
    assert len(killed) > 2
    for path in killed:
        left = Desk(path)
        n_kept = left.ask("SELECT count(*) FROM messages")
        for n_known in (n_kept, len(said)):
            assert {(key, id): left.say(id, key) for key, id in said[:n_known]} == {
                handle: receipts[handle] for handle in said[:n_known]
            }
            left.open_again()
        left.log.close_now()


STEPS = st.lists(
    st.tuples(st.sampled_from(["ann", "bob"]), st.integers(0, 8))
    | st.sampled_from(["restart", "wait", "wait long", "pump"]),
    max_size=40,
)


@pytest.mark.parametrize("keep", [0, 2])
def test_what_is_known_is_what_a_list_of_all_would_tell(
    tmp_path_factory: pytest.TempPathFactory, in_memory: int, keep: int
) -> None:
    @settings(max_examples=15)
    @given(STEPS)
    def check(steps: list[tuple[str, int] | str]) -> None:
        desk = Desk(tmp_path_factory.mktemp("ids") / "history", max_history_room_messages=keep)
        known: dict[tuple[str, int], Receipt] = {}
        said = 0
        for step in steps:
            if step == "restart":
                desk.open_again()
            elif step == "pump":
                desk.log.pump.step(0.002)
            elif isinstance(step, str):
                desk.now_s += 45 if step == "wait" else 200
            else:
                key, id = step
                receipt = desk.say(id, key)
                expected = known.get((key, id)) if id else None
                if expected is not None and expected.time_ms >= (desk.now_s - WINDOW_S) * 1_000:
                    assert receipt == expected
                else:
                    said += 1
                    assert receipt == Receipt(said, int(desk.now_s * 1_000))
                    known[key, id] = receipt
        desk.log.close_now()

    check()


def test_what_was_to_be_written_when_the_file_was_opened_anew_is_not_taken_for_written(desk: Desk) -> None:
    for id in range(1, 5):
        desk.say(id)
    desk.log.close_now()
    with closing(sqlite3.connect(desk.path)) as file:
        known = ids.KnownIds(int(WINDOW_S * 1_000))
        known.load(file)
        rows = known.next_rows()
        known.load(file)
        known.write(file, rows)
        known.were_written(rows)
        assert [known.written_ms] == [*file.execute("SELECT ids_ms FROM about").fetchone()]
        assert not known.is_due

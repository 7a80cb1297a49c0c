"""Old messages go, in small steps, and their space is given back."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from rooms.pumped import PATIENCE_S, PumpedLog
from twisted.internet.defer import Deferred

from chatproto.history import ids, threads, upkeep
from chatproto.history.upkeep import STEP_MESSAGES, Upkeep
from chatproto.limits import HistoryLimits, Limits


class History:
    """A file, and the log that is open on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now_s = 1_000.0
        self.log = self.open()

    def open(self, limits: Limits | None = None, **bounds: float) -> PumpedLog:
        history = HistoryLimits(**bounds)  # type: ignore[arg-type]
        self.log = PumpedLog(self.path, limits, history, lambda: self.now_s)
        return self.log

    def open_again(self, limits: Limits | None = None, **bounds: float) -> PumpedLog:
        self.log.close_now()
        return self.open(limits, **bounds)

    def fill(self, room: str, count: int, text: str = "text") -> None:
        waiting: list[Deferred[object]] = []
        for number in range(count):
            waiting.append(self.log.append(room, "ann", "ann", 0, f"{text} {number}", 1))  # type: ignore[arg-type]
        for answer in waiting:
            self.log.wait(answer)

    def ask(self, question: str) -> list[tuple[int]]:
        """What stands in the file."""
        with closing(sqlite3.connect(self.path)) as file:
            return file.execute(question).fetchall()

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until the upkeep has come to something."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline_s, "the upkeep does not do that"
            self.log.pump.step(0.01)

    def seqs(self, room: str) -> list[int]:
        return [chat.seq for chat in self.log.all(room)]

    def found(self, room: str, word: str) -> list[int]:
        self.log.look(room)
        return list(self.log.answer(self.log.search(room, [word], 10_000)).seqs)

    def size_bytes(self) -> int:
        with closing(sqlite3.connect(self.path)) as file:
            file.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return self.path.stat().st_size


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[History]:
    monkeypatch.setattr(threads, "IDLE_S", 0.02)
    history = History(tmp_path / "history.sqlite")
    yield history
    history.log.close_now()


MEMORY = pytest.mark.parametrize("limits", [Limits(), Limits(max_room_log_messages=0)], ids=["", "none"])


class TestNumber:
    @MEMORY
    def test_each_room_keeps_its_newest(self, history: History, limits: Limits) -> None:
        history.open_again(limits, max_history_room_messages=10)
        history.fill("quiet", 5)
        history.fill("loud", 600)
        history.until(lambda: history.log.look("loud") == (591, 600))
        assert history.seqs("loud") == history.found("loud", "text") == list(range(591, 601))
        assert history.seqs("quiet") == [1, 2, 3, 4, 5]
        assert history.log.say("loud").seq == 601
        history.open_again(limits)
        assert history.log.look("loud")[1] == 601

    @MEMORY
    def test_a_bound_that_was_larger_before_holds_though_nobody_speaks(
        self, history: History, limits: Limits
    ) -> None:
        for number in range(70):
            history.fill(f"room {number}", 20)
        history.open_again(limits, max_history_room_messages=5)
        history.until(lambda: history.ask("SELECT count(*) FROM messages") == [(350,)])
        assert all(history.log.look(f"room {number}") == (16, 20) for number in range(70))

    def test_many_rooms_are_kept_small_at_once(self, history: History) -> None:
        history.open_again(max_history_room_messages=2)
        for _ in range(5):
            for number in range(200):
                history.log.append(f"room {number}", "ann", "ann", 0, "x", 1)
        history.log.settle()
        history.until(lambda: history.ask("SELECT count(*) FROM messages") == [(400,)])
        assert all(history.log.look(f"room {number}") == (4, 5) for number in range(200))

    def test_it_goes_in_small_steps(self, history: History, monkeypatch: pytest.MonkeyPatch) -> None:
        history.fill("a", 2_000)
        steps: list[int] = []
        remove_rows = Upkeep._remove_rows

        def count_and_remove(
            upkeep: Upkeep, connection: sqlite3.Connection, rows: list[upkeep.Row]
        ) -> dict[str, int]:
            steps.append(len(rows))
            return remove_rows(upkeep, connection, rows)

        monkeypatch.setattr(Upkeep, "_remove_rows", count_and_remove)
        history.open_again(max_history_room_messages=1)
        history.until(lambda: history.log.look("a") == (2_000, 2_000))
        assert max(steps) <= STEP_MESSAGES
        assert sum(steps) == 1_999

    def test_more_goes_in_one_step_where_more_is_said(self, history: History) -> None:
        """Or the removing would never keep up."""
        history.open_again(max_history_room_messages=10)
        for _ in range(5):
            history.fill("a", 2_000)
        history.until(lambda: history.log.look("a") == (9_991, 10_000))


class TestAge:
    def test_what_is_too_old_goes_though_nobody_speaks(self, history: History) -> None:
        history.open_again(max_history_age_s=60.0)
        history.fill("a", 5)
        history.now_s += 30
        history.fill("a", 3)
        history.fill("b", 2)
        history.now_s += 31
        history.until(lambda: history.log.look("a") == (6, 8))
        assert (history.seqs("a"), history.seqs("b")) == ([6, 7, 8], [1, 2])
        history.now_s += 30
        history.until(lambda: history.log.look("a") == (9, 8) and history.log.look("b") == (3, 2))
        assert history.seqs("a") == []

    def test_numbers_and_time_go_on_when_all_is_gone(self, history: History) -> None:
        history.open_again(max_history_age_s=60.0)
        history.fill("a", 5)
        history.now_s += 3_600
        history.until(lambda: history.ask("SELECT count(*) FROM messages") == [(0,)])
        history.now_s = 500.0
        log = history.open_again(max_history_age_s=60.0)
        assert log.look("a") == (6, 5)
        receipt = log.say("a")
        assert (receipt.seq, receipt.time_ms) == (6, 1_000_000)


class TestSpace:
    def test_the_file_stays_below_its_size(self, history: History) -> None:
        most_bytes = 1_000_000
        history.open_again(max_history_bytes=most_bytes)
        for _ in range(12):
            history.fill("a", 500, "some words that take space " * 10)
            history.fill("b", 50, "others " * 10)
        history.until(lambda: history.size_bytes() <= most_bytes)
        oldest, newest = history.log.look("a")
        assert newest == 6_000
        assert 1 < oldest < 5_500, "as much as fits is kept"
        assert history.seqs("a") == list(range(oldest, newest + 1))
        assert history.found("a", "space") == list(range(oldest, newest + 1))

    def test_space_is_given_back(self, history: History) -> None:
        history.fill("a", 3_000, "some words that take space " * 20)
        history.open_again(max_history_room_messages=10)
        large_bytes = history.size_bytes()
        history.until(lambda: history.size_bytes() < large_bytes / 4)
        assert history.seqs("a") == history.found("a", "words") == list(range(2_991, 3_001))

    def test_the_index_of_words_forgets_what_is_gone(self, history: History) -> None:
        def index_bytes() -> int:
            return history.ask("SELECT sum(length(block)) FROM words_data")[0][0]

        for number in range(20):
            history.fill("a", 100, " ".join(f"word{number}x{other}" for other in range(50)))
        large_bytes = index_bytes()
        history.open_again(max_history_room_messages=10)
        history.until(lambda: history.log.look("a") == (1_991, 2_000))
        history.until(lambda: index_bytes() < large_bytes / 4)
        assert history.found("a", "word0x0") == []
        assert history.found("a", "word19x0") == list(range(1_991, 2_001))

    def test_a_size_that_nothing_fits_into_is_no_end_of_it(
        self, history: History, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        history.open_again(max_history_bytes=1)
        history.fill("a", 100)
        history.until(lambda: history.log.look("a") == (101, 100))
        step = Upkeep.step
        is_rest: list[bool] = []

        def watched(upkeep: Upkeep) -> bool:
            is_rest.append(not step(upkeep))
            return not is_rest[-1]

        monkeypatch.setattr(Upkeep, "step", watched)
        history.until(lambda: any(is_rest))  # and does not go on trying
        assert history.log.say("a").seq == 101
        assert history.log.trouble == ""

    def test_ids_make_room_with_their_messages(self, history: History) -> None:
        """Or, where much is said, they alone would fill what the history may take."""
        most_bytes = 1_000_000
        history.open_again(max_history_bytes=most_bytes)
        for begin in range(1, 30_000, 1_000):
            for id in range(begin, begin + 1_000):
                history.log.append("a", f"nick{id % 10}", f"nick{id % 10}", id, "x", 1)
            history.log.settle()
            history.now_s += 1
        history.until(lambda: history.size_bytes() <= most_bytes)
        oldest, newest = history.log.look("a")
        assert newest == 30_000
        assert newest - oldest > 3_000, "messages are kept, not only ids"
        assert history.log.say("a", id=30_000, nick="nick0").seq == 30_000
        assert history.ask("SELECT count(*) FROM said")[0][0] < 2 * (newest - oldest)


class TestIds:
    def test_ids_that_are_known_no_longer_go(self, history: History, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ids, "MOST_IN_MEMORY", 0)
        history.open_again(remember_ids_s=60.0)
        for id in range(1, 1_500):
            history.log.append("a", "ann", "ann", id, "x", 1)
        history.log.settle()
        history.now_s += 30
        history.log.say("a", id=2_000)
        history.until(lambda: history.ask("SELECT count(*) FROM said") == [(1_500,)])
        for until_s, left in ((1_089, 1), (1_200, 0)):
            # They are looked through now and then, not all the time.
            while history.now_s < until_s:
                history.now_s += 5
                history.log.pump.step(0.02)
            history.until(lambda left=left: history.ask("SELECT count(*) FROM said") == [(left,)])  # type: ignore[misc]


def test_people_are_served_meanwhile(history: History) -> None:
    history.fill("a", 5_000, "some words " * 5)
    history.open_again(max_history_room_messages=10)
    for number in range(5_001, 5_021):
        assert history.log.say("a").seq == number
    oldest, _ = history.log.look("a")
    assert history.seqs("a")[-1] == 5_020
    history.until(lambda: history.log.look("a") == (5_011, 5_020))
    assert oldest <= 5_011

"""The durable log: `RoomLog`'s contract, what a restart keeps, and what is in memory."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from live import eventually
from rooms.logcontract import RoomLogContract
from rooms.outlets import Broken, Failures
from rooms.pumped import PATIENCE_S, PumpedLog
from twisted.internet.defer import Deferred

from chatproto.history import log as sqlite_log
from chatproto.history.batch import Said
from chatproto.history.file import MOST_SEQ
from chatproto.history.threads import Readings
from chatproto.history.writer import Committed, Writer
from chatproto.limits import HistoryLimits, Limits
from chatproto.rooms.log import REMOVED, NotStored, RoomLog
from chatproto.wire.messages import Chat


class TestSqliteLog(RoomLogContract):
    examples = 20

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> Iterator[None]:
        self.logs: list[PumpedLog] = []
        self.paths = (tmp_path / f"{number}.sqlite" for number in count())
        yield
        for log in self.logs:
            log.close_now()

    def make_log(self) -> RoomLog:
        log = PumpedLog(next(self.paths), wall_clock=lambda: self.now_s)
        self.logs.append(log)
        return log

    def settle(self) -> None:
        for log in self.logs:
            log.settle()

    def close(self, log: RoomLog) -> None:
        assert isinstance(log, PumpedLog)
        log.close_now()
        self.logs.remove(log)


class TestSqliteLogOfLittleMemory(TestSqliteLog):
    """Nothing of what was said stays in memory, so that everything is read from the file."""

    def make_log(self) -> RoomLog:
        limits = Limits(max_room_log_messages=0, max_rooms=1)
        log = PumpedLog(next(self.paths), limits, HistoryLimits(), lambda: self.now_s)
        self.logs.append(log)
        return log


class Place:
    """A file for a history, and the logs that the test opens on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now_s = 1_000.0
        self.logs: list[PumpedLog] = []

    def open(self, limits: Limits | None = None, **history: float) -> PumpedLog:
        bounds = HistoryLimits(**history)  # type: ignore[arg-type]
        log = PumpedLog(self.path, limits, bounds, lambda: self.now_s)
        self.logs.append(log)
        return log

    def open_again(self, limits: Limits | None = None, **history: float) -> PumpedLog:
        """As after the end of the server."""
        self.close()
        return self.open(limits, **history)

    def close(self) -> None:
        for log in self.logs:
            log.close_now()

    def open_files(self) -> list[str]:
        """What this process has open in the folder."""
        found = []
        for descriptor in os.listdir("/proc/self/fd"):
            with suppress(FileNotFoundError):  # it was for listing them, or another's
                found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        return [path for path in found if path.startswith(str(self.path.parent))]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While someone else is writing."""
        other = sqlite3.connect(self.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
        other.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "history.sqlite")
    yield place
    place.close()


def texts(chats: list[Chat]) -> list[tuple[int, str]]:
    return [(chat.seq, chat.text) for chat in chats]


class TestRestart:
    def test_everything_is_there_again(self, place: Place) -> None:
        log = place.open()
        for number in range(1, 6):
            log.say("a", f"text {number}")
        log.say("b", "größe")
        before = log.all("a"), log.all("b"), log.epoch
        again = place.open_again()
        assert (again.all("a"), again.all("b"), again.epoch) == before
        assert texts(again.all("a")) == [(number, f"text {number}") for number in range(1, 6)]

    def test_numbers_go_on(self, place: Place) -> None:
        assert [place.open().say("a").seq for _ in range(1)] == [1]
        log = place.open_again()
        assert [log.say("a").seq, log.say("b").seq, log.say("a").seq] == [2, 1, 3]

    def test_what_is_sent_again_is_recognised(self, place: Place) -> None:
        first = place.open().say("a", "hi", id=7)
        log = place.open_again()
        others = [log.append("a", "ann", "ann", id, "hi", 1) for id in (6, 7, 8, 7)]
        assert [log.wait(answer) for answer in others][1::2] == [first, first]
        assert texts(log.all("a")) == [(1, "hi"), (2, "hi"), (3, "hi")]

    def test_it_is_recognised_for_so_long_and_no_longer(self, place: Place) -> None:
        log = place.open(remember_ids_s=60.0)
        first = log.say("a", id=7)
        place.now_s += 60
        assert log.say("a", id=7) == first
        place.now_s += 0.001
        again = log.say("a", id=7)
        assert again.seq == 2
        assert place.open_again(remember_ids_s=60.0).say("a", id=7) == again

    def test_time_does_not_go_back_over_a_restart(self, place: Place) -> None:
        place.open().say("a")
        place.now_s = 500.0
        assert place.open_again().say("b").time_ms == 1_000_000

    def test_what_is_found_is_found_again(self, place: Place) -> None:
        place.open().say("a", "Größe")
        log = place.open_again()
        log.look("a")
        assert list(log.answer(log.search("a", ["grosse"], 5)).seqs) == [1]

    def test_what_was_said_last_is_kept_when_it_closes(self, place: Place) -> None:
        log = place.open()
        heard: list[int] = []
        log.start(lambda chat, sender: heard.append(chat.seq))
        answers = [log.append("a", "ann", "ann", 0, "x", 1) for _ in range(1_000)]
        log.close_now()
        assert [log.wait(answer).seq for answer in answers] == heard == list(range(1, 1_001))
        assert len(place.open().all("a")) == 1_000


class TestCommits:
    def test_nobody_is_told_before_it_is_kept(self, place: Place) -> None:
        log = place.open()
        log.say("a")
        heard: list[int] = []
        log.start(lambda chat, sender: heard.append(chat.seq))
        with place.locked():
            answer = log.append("a", "ann", "ann", 0, "x", 1)
            for _ in range(10):
                log.pump.step(0.01)
            assert (heard, log.owed, log.bounds("a")) == ([], 1, (1, 1))
        assert log.wait(answer).seq == 2
        assert heard == [2]

    def test_what_is_said_during_a_commit_goes_into_the_next_one(self, place: Place) -> None:
        log = place.open()
        sizes: list[int] = []
        commit = log._writings.writer.commit

        def count_and_commit(batch: list[Said]) -> Committed:
            sizes.append(len(batch))
            return commit(batch)

        log._writings.writer.commit = count_and_commit  # type: ignore[method-assign]
        with place.locked():
            answers = [log.append("a", "ann", "ann", 0, "x", 1)]
            eventually(lambda: sizes == [1])
            answers += [log.append("ab"[n % 2], "ann", "ann", 0, "x", 1) for n in range(999)]
        for answer in answers:
            log.wait(answer)
        # All but a rest, which the statements that are kept ready do not fit.
        assert sizes[:2] == [1, 896]
        assert sum(sizes) == 1_000
        assert len(sizes) <= 4

    def test_each_room_has_its_order_and_no_holes_however_many_speak_at_once(self, place: Place) -> None:
        log = place.open()
        heard: list[tuple[str, int, str]] = []
        log.start(lambda chat, sender: heard.append((chat.room, chat.seq, chat.text)))
        said = [(f"room{number % 7}", f"text {number}") for number in range(3_000)]
        receipts = [
            log.wait(answer)
            for answer in [
                log.append(room, "ann", "ann", number, text, 1) for number, (room, text) in enumerate(said, 1)
            ]
        ]
        for name in {room for room, _ in said}:
            expected = list(enumerate((text for room, text in said if room == name), 1))
            assert [(seq, text) for room, seq, text in heard if room == name] == expected
            assert texts(log.all(name)) == expected
        assert [receipt.seq for receipt in receipts[:7]] == [1] * 7

    def test_it_is_written_so_that_a_crash_of_the_machine_loses_nothing(self, place: Place) -> None:
        connection = place.open()._writings.writer.connection
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)

    def test_what_sqlite_cannot_take_is_refused_alone(self, place: Place, failures: Failures) -> None:
        log = place.open()
        answers = [log.append("a", "ann", "ann", 0, text, 1) for text in ("one", "\ud800", "two")]
        with pytest.raises(NotStored, match=r"^[a-z][^.]*$"):
            log.wait(answers[1])
        assert [log.wait(answers[0]).seq, log.wait(answers[2]).seq] == [1, 2]
        assert failures.take() == ["UnicodeEncodeError"]
        assert log.trouble == ""

    def test_what_waits_to_be_kept_is_bounded(self, place: Place) -> None:
        log = place.open(max_unkept_bytes=10_000)
        log.look("a")
        with place.locked():
            answers = [log.append("a", "ann", "ann", 0, "x" * 1_000, 1) for _ in range(7)]
            with pytest.raises(NotStored, match=r"^[a-z][^.]*$"):
                log.append("a", "ann", "ann", 0, "x" * 1_000, 1)
        assert [log.wait(answer).seq for answer in answers] == list(range(1, 8))
        assert log.say("a", "x" * 1_000).seq == 8

    def test_one_who_is_told_and_raises_keeps_nobody_from_being_told(
        self, place: Place, failures: Failures
    ) -> None:
        log = place.open()
        heard: list[int] = []

        def kept(chat: Chat, sender: int) -> None:
            heard.append(chat.seq)
            raise Broken

        log.start(kept)
        assert [log.say("a").seq, log.say("a").seq] == heard == [1, 2]
        assert failures.take() == ["Broken", "Broken"]

    def test_a_large_commit_is_told_in_several_turns(self, place: Place) -> None:
        log = place.open()
        heard: list[int] = []
        log.start(lambda chat, sender: heard.append(chat.seq))
        with place.locked():
            for _ in range(1_000):
                log.append("a", "ann", "ann", 0, "x", 1)
        most = 0
        while len(heard) < 1_000:
            before = len(heard)
            log.pump.step(0.01)
            most = max(most, len(heard) - before)
        assert 1 <= most <= 256

    def test_numbers_that_are_used_up_are_not_used_again(self, place: Place) -> None:
        place.open().say("a")
        place.close()
        with closing(sqlite3.connect(place.path)) as other, other:
            other.execute("UPDATE rooms SET removed = ?", (MOST_SEQ - 1,))
        log = place.open()
        assert log.say("a").seq == MOST_SEQ
        with pytest.raises(NotStored, match=r"^[a-z][^.]*$"):
            log.say("a")
        assert log.say("b").seq == 1


class TestMemory:
    def test_the_newest_are_there_at_once(self, place: Place) -> None:
        log = place.open(Limits(max_room_log_messages=10))
        for _ in range(30):
            log.say("a")
        newest = log.read("a", 21, 30, 100_000)
        assert isinstance(newest, list)
        assert [chat.seq for chat in newest] == list(range(21, 31))
        older = log.read("a", 15, 30, 100_000)
        assert isinstance(older, Deferred)
        assert [chat.seq for chat in log.wait(older)] == list(range(15, 31))

    def test_of_a_room_that_is_prepared_the_newest_are_read_beforehand(self, place: Place) -> None:
        log = place.open()
        for _ in range(300):
            log.say("a", "x" * 500)
        log = place.open_again()
        assert log.look("a") == (1, 300)
        assert isinstance(log.read("a", 280, 300, 10**6), list)
        assert isinstance(log.read("a", 1, 300, 10**6), Deferred)
        log.settle()
        assert [chat.seq for chat in log.all("a")] == list(range(1, 301))

    def test_what_is_known_of_rooms_is_bounded(self, place: Place) -> None:
        log = place.open(Limits(max_rooms=10, max_log_bytes=50 * 401))
        for number in range(200):
            log.say(f"room {number}")
        log.enter("room 199")
        for number in range(100):
            log.look(f"room {number}")
        assert len(log._rooms) <= 11
        assert len(log._idle) <= 10
        assert log.bounds("room 199") == (1, 1)
        assert sum(room.recent.bytes for room in log._rooms.values()) <= 50 * 401

    def test_a_room_that_is_not_prepared_has_no_bounds(self, place: Place) -> None:
        log = place.open(Limits(max_rooms=1))
        for room in ("a", "b"):
            log.say(room)
        for ask in (log.bounds, log.enter, log.leave):
            with pytest.raises(LookupError):
                ask("a")
        assert log.look("a") == (1, 1)

    def test_many_may_wait_for_the_same_room(self, place: Place) -> None:
        place.open().say("a")
        log = place.open_again()
        waiting = [log.prepare("a") for _ in range(3)]
        assert None not in waiting
        log.settle()
        assert [deferred.called for deferred in waiting if deferred is not None] == [True] * 3

    def test_reading_does_not_wait_for_the_writer(self, place: Place) -> None:
        log = place.open(Limits(max_room_log_messages=2))
        for _ in range(10):
            log.say("a", "fish")
        with place.locked():
            answer = log.append("a", "ann", "ann", 0, "fish", 1)
            assert [chat.seq for chat in log.answer(log.read("a", 1, 9, 10**6))] == list(range(1, 10))
            assert list(log.answer(log.search("a", ["fish"], 3)).seqs) == [8, 9, 10]
            assert log.look("b") == (1, 0)
            assert not answer.called
        assert log.wait(answer).seq == 11

    @pytest.mark.parametrize("what", ["facts_of", "read", "pick"])
    def test_what_is_removed_while_it_is_being_read_is_given_to_nobody_after_that(
        self, place: Place, monkeypatch: pytest.MonkeyPatch, what: str
    ) -> None:
        place.open().say("a", "secret")
        log = place.open_again(Limits(max_room_log_messages=0))
        if what == "pick":
            log.look("a")
        was_read, may_answer = threading.Event(), threading.Event()
        asks = getattr(sqlite_log, what)

        def ask_slowly(*asked: Any) -> Any:
            found = asks(*asked)
            was_read.set()
            assert may_answer.wait(PATIENCE_S)
            return found

        monkeypatch.setattr(sqlite_log, what, ask_slowly)
        told: list[str] = []
        reading = {
            "facts_of": lambda: log.prepare("a"),
            "read": lambda: log.read("a", 1, 1, 100),
            "pick": lambda: log.pick("a", [1], 100),
        }[what]()
        assert isinstance(reading, Deferred)
        reading.addCallback(lambda found: told.append("read"))
        assert was_read.wait(PATIENCE_S)
        removing = log.remove("a", 1)
        removing.addCallback(lambda is_removed: told.append("removed"))
        for seq in (1, 2):  # what is committed with the removal may be told first, what comes later not
            assert log.wait(log.append("b", "ann", "ann", 0, "hi", 1)).seq == seq
        assert told == []
        may_answer.set()
        log.wait(removing)
        assert told == ["read", "removed"]
        assert [chat.text for chat in log.all("a")] == [REMOVED]

    def test_a_read_that_fails_is_tried_again_and_then_fails(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log = place.open(Limits(max_room_log_messages=0))
        log.say("a")
        tried: list[int] = []

        def fail(*_: object) -> None:
            tried.append(1)
            raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(sqlite_log, "read", fail)
        monkeypatch.setattr(sqlite_log, "facts_of", fail)
        with pytest.raises(sqlite3.OperationalError):
            log.answer(log.read("a", 1, 1, 100))
        assert len(tried) == 2
        preparing = log.prepare("elsewhere")
        assert preparing is not None
        with pytest.raises(sqlite3.OperationalError):
            log.wait(preparing)
        monkeypatch.undo()
        assert log.look("elsewhere") == (1, 0)
        assert len(log.all("a")) == 1


class TestClosing:
    def test_who_may_write_closes_the_file_last(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """If two closed it at the same moment, both might leave the write-ahead log to the other."""
        closed: list[str] = []
        close_reader, close_writer = Readings._close, Writer.close

        def reader_closes(readings: Readings) -> None:
            had_it_open = readings._connection is not None
            time.sleep(0.05)
            close_reader(readings)
            closed.extend(["reader"] * had_it_open)

        def writer_closes(writer: Writer) -> None:
            close_writer(writer)
            closed.append("writer")

        monkeypatch.setattr(Readings, "_close", reader_closes)
        monkeypatch.setattr(Writer, "close", writer_closes)
        log = place.open()
        log.say("a")
        log.look("b")
        log.answer(log.search("a", ["x"], 1))
        log.close_now()
        assert closed == ["reader", "reader", "writer"]

    def test_no_thread_and_no_open_file_is_left(self, place: Place) -> None:
        before = set(threading.enumerate())
        log = place.open()
        log.say("a")
        log.look("b")
        log.answer(log.search("a", ["x"], 1))
        own = [each for each in threading.enumerate() if "history" in each.name and each not in before]
        assert len(own) == 3
        assert place.open_files()
        log.close_now()
        assert [thread for thread in own if thread.is_alive()] == []
        assert place.open_files() == []
        assert [path.name for path in sorted(place.path.parent.iterdir())] == [
            "history.sqlite",
            "history.sqlite-lock",
        ]

    def test_nothing_is_kept_any_more(self, place: Place) -> None:
        log = place.open()
        log.say("a")
        closed = [log.close(), log.close()]
        with pytest.raises(NotStored, match=r"^[a-z][^.]*$"):
            log.append("a", "ann", "ann", 0, "x", 1)
        for deferred in closed:
            log.wait(deferred)
        with pytest.raises(RuntimeError):
            log.answer(log.search("a", ["x"], 1))
        with pytest.raises(RuntimeError):
            log.look("elsewhere")
        assert log.read("a", 1, 1, 100)
        log.is_closed = True
        assert place.open().look("a") == (1, 1)

    def test_what_was_asked_before_is_answered(self, place: Place) -> None:
        log = place.open(Limits(max_room_log_messages=0))
        log.say("a", "fish")
        reading, searching = log.read("a", 1, 1, 100), log.search("a", ["fish"], 1)
        log.close_now()
        assert len(log.answer(reading)) == 1
        assert list(log.answer(searching).seqs) == [1]

"""The shared log: `RoomLog`'s contract, and what several servers see of one store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import cycle
from typing import TypeVar

import pytest
from rooms.logcontract import RoomLogContract
from shared.store import PumpedSharedLog, Store, needs_store
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor

from chatproto.limits import Limits
from chatproto.rooms.log import REMOVED, RoomLog
from chatproto.shared.scripts import about_key

T = TypeVar("T")

pytestmark = [pytest.mark.system, needs_store]


class TestSharedLog(RoomLogContract):
    examples = 10
    limits = Limits()

    @pytest.fixture(autouse=True)
    def _store(self, store: Store) -> Iterator[None]:
        self.store = store
        self.databases = cycle(range(16))
        self.reactor = EPollReactor()
        self.logs: list[PumpedSharedLog] = []
        yield
        for log in self.logs:
            log.close_now()

    def make_log(self) -> RoomLog:
        url = f"redis+unix://{self.store.path}?db={next(self.databases)}"
        log = PumpedSharedLog(url, self.limits, reactor=self.reactor)
        log.until(lambda: log.store.is_open, "not open")
        log.store.ask(lambda reply: None, "FLUSHDB")
        log.until(lambda: log.epoch, "no epoch")
        self.logs.append(log)
        return log

    def settle(self) -> None:
        for log in self.logs:
            log.until(lambda log=log: not log.unkept_bytes)  # type: ignore[misc]

    def wait(self, given: Deferred[T]) -> T:
        [log, *_] = self.logs
        return log.wait(given)

    def close(self, log: RoomLog) -> None:
        assert isinstance(log, PumpedSharedLog)
        log.close_now()
        self.logs.remove(log)

    # What is otherwise with this log.

    def test_an_id_is_known_in_every_room(self, log: RoomLog) -> None:
        # All of a room is in one slot of a cluster, its ids too.
        assert self.say(log, "a", "hi", id=7) == self.say(log, "a", "hi", id=7)
        assert self.say(log, "b", "hi", id=7).seq == 1
        assert self.bounds(log, "b") == (1, 1)

    def test_time_is_the_wall_clocks_in_milliseconds(self, log: RoomLog) -> None:
        # The store's: servers may be of different minds.
        before_ms = time.time() * 1000
        assert before_ms - 1 <= self.say(log, "a", "hi").time_ms <= time.time() * 1000

    def test_time_never_goes_back_when_the_clock_is_set_back(self, log: RoomLog) -> None:
        first = self.say(log, "a", "hi")
        later_ms = first.time_ms + 60_000
        [shared] = self.logs
        shared.store.ask(lambda reply: None, "HSET", about_key("a"), "ms", later_ms)
        assert self.say(log, "a", "hi").time_ms == later_ms

    def test_what_is_removed_twice_is_removed(self, log: RoomLog) -> None:
        self.say(log, "a", "fish")
        assert [self.remove(log, "a", 1), self.remove(log, "a", 1)] == [True, True]
        assert self.texts(log, "a") == [(1, REMOVED)]

    def test_messages_with_all_words_are_found(self, log: RoomLog) -> None:
        with pytest.raises(NotImplementedError):
            self.find(log, "a", "fish")

    test_the_newest_are_found_and_that_there_are_more = None  # type: ignore[assignment]
    test_words_are_found_in_any_script = None  # type: ignore[assignment]
    test_what_was_not_told_yet_is_not_found = None  # type: ignore[assignment]
    test_a_search_finds_what_a_plain_look_finds = None  # type: ignore[assignment]
    test_what_is_removed_is_not_found_any_more = None  # type: ignore[assignment]


class TestSharedLogOfLittleMemory(TestSharedLog):
    """Nothing of what was said stays in memory, so that everything is read from the store."""

    limits = Limits(max_room_log_messages=0, max_rooms=1)

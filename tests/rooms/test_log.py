"""`RoomLog`'s contract, kept by the log in memory, and that log's bounds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rooms.logcontract import AMPLE_BYTES, RoomLogContract

from chatproto.limits import Limits
from chatproto.rooms.log import MemoryLog, NotStored, Receipt, Receipts, RoomLog
from chatproto.wire.messages import Chat

MESSAGE_BYTES = 401
"""What a text of one letter costs in memory, as the log counts."""


class TestMemoryLog(RoomLogContract):
    def make_log(self) -> RoomLog:
        return MemoryLog(Limits(), lambda: self.now_s)


def log_with(**limits: int) -> MemoryLog:
    return MemoryLog(Limits(**limits), lambda: 1.0)


def say(log: MemoryLog, room: str, text: str = "x", id: int = 0) -> Receipt:
    return log.append(room, "ann", "ann", id, text, 1)


def kept(log: MemoryLog, room: str) -> list[int]:
    """The numbers that can be read, in slices of one message."""
    found: list[int] = []
    first, last = log.bounds(room)
    while chats := log.read(room, first, last, 1):
        found += [chat.seq for chat in chats]
        first = found[-1] + 1
    return found


class TestOneRoom:
    def test_the_oldest_messages_go_past_the_number(self) -> None:
        log = log_with(max_room_log_messages=3)
        for _ in range(10):
            say(log, "a")
        assert log.bounds("a") == (8, 10)
        assert kept(log, "a") == [8, 9, 10]

    def test_a_range_that_is_gone_in_part_begins_later(self) -> None:
        log = log_with(max_room_log_messages=3)
        for _ in range(10):
            say(log, "a")
        assert [chat.seq for chat in log.read("a", 1, 9, AMPLE_BYTES)] == [8, 9]
        assert log.read("a", 1, 7, AMPLE_BYTES) == []

    def test_each_room_has_the_number_to_itself(self) -> None:
        log = log_with(max_room_log_messages=3)
        say(log, "quiet")
        for _ in range(10):
            say(log, "loud")
        assert kept(log, "quiet") == [1]

    def test_the_oldest_messages_go_past_the_bytes(self) -> None:
        log = log_with(max_room_log_bytes=10 * MESSAGE_BYTES)
        for _ in range(30):
            say(log, "a")
        assert kept(log, "a") == list(range(21, 31))
        say(log, "a", "y" * 5 * MESSAGE_BYTES)
        assert kept(log, "a")[-1] == 31
        assert len(kept(log, "a")) < 7

    def test_text_outside_ascii_counts_for_what_it_takes_in_memory(self) -> None:
        log = log_with(max_room_log_bytes=10_000)
        for _ in range(10):
            say(log, "a", "\U0001f600" * 1_000)
        assert len(kept(log, "a")) == 2

    @pytest.mark.parametrize("none", ["max_room_log_messages", "max_room_log_bytes", "max_log_bytes"])
    def test_a_bound_of_0_keeps_nothing_but_counts_on(self, none: str) -> None:
        log = log_with(**{none: 0})
        heard: list[int] = []
        log.start(lambda chat, sender: heard.append(chat.seq))
        assert [say(log, "a").seq for _ in range(3)] == [1, 2, 3]
        assert heard == [1, 2, 3]
        assert log.bounds("a") == (4, 3)
        assert log.read("a", 1, 3, AMPLE_BYTES) == []


class TestAllRooms:
    def test_the_room_silent_for_longest_loses_first(self) -> None:
        log = log_with(max_log_bytes=10 * MESSAGE_BYTES)
        for room in ("a", "b"):
            for _ in range(4):
                say(log, room)
        say(log, "a")  # now b is the silent one
        for _ in range(3):
            say(log, "c")
        assert (kept(log, "a"), kept(log, "b"), kept(log, "c")) == ([1, 2, 3, 4, 5], [3, 4], [1, 2, 3])

    def test_a_room_alone_loses_its_own_oldest(self) -> None:
        log = log_with(max_log_bytes=5 * MESSAGE_BYTES)
        for _ in range(9):
            say(log, "a")
        assert kept(log, "a") == [5, 6, 7, 8, 9]

    def test_what_a_forgotten_room_took_is_free_again(self) -> None:
        log = log_with(max_rooms=2, max_log_bytes=6 * MESSAGE_BYTES)
        for room in ("a", "b", "c", "d"):
            for _ in range(3):
                say(log, room)
        assert kept(log, "c") == kept(log, "d") == [1, 2, 3]

    def test_a_room_that_lost_everything_counts_on(self) -> None:
        log = log_with(max_log_bytes=2 * MESSAGE_BYTES)
        say(log, "a")
        for _ in range(5):
            say(log, "b")
        assert log.bounds("a") == (2, 1)
        assert say(log, "a").seq == 2


class TestForgettingRooms:
    def test_the_room_silent_for_longest_is_forgotten_past_the_number_of_rooms(self) -> None:
        log = log_with(max_rooms=2)
        for room in ("a", "b", "a", "c"):
            say(log, room)
        assert kept(log, "a") == [1, 2]
        assert kept(log, "b") == []
        assert kept(log, "c") == [1]

    def test_a_room_with_people_is_never_forgotten(self) -> None:
        log = log_with(max_rooms=2)
        log.enter("a")
        for room in ("a", "b", "c", "d"):
            say(log, room)
        assert kept(log, "a") == [1]

    def test_a_room_that_people_left_may_be_forgotten(self) -> None:
        log = log_with(max_rooms=2)
        log.enter("a")
        log.leave("a")
        for room in ("a", "b", "c"):
            say(log, room)
        assert kept(log, "a") == []

    def test_nothing_is_stored_in_a_new_room_when_all_are_in_use(self) -> None:
        log = log_with(max_rooms=2)
        heard: list[Chat] = []
        log.start(lambda chat, sender: heard.append(chat))
        for room in ("a", "b"):
            log.enter(room)
            say(log, room)
        with pytest.raises(NotStored, match=r"^[a-z][^.]*$"):
            say(log, "c", id=7)
        assert [chat.room for chat in heard] == ["a", "b"]
        log.leave("a")
        assert say(log, "c", id=7).seq == 1

    def test_a_forgotten_room_never_gives_a_number_twice(self) -> None:
        # The epoch stays, so whoever comes back with a number would take new messages for those they have.
        log = log_with(max_rooms=1)
        for _ in range(3):
            say(log, "a")
        say(log, "b")
        assert log.bounds("a") == (4, 3)
        assert log.read("a", 1, 3, AMPLE_BYTES) == []
        assert say(log, "a").seq == 4

    def test_a_new_room_begins_with_1_though_others_were_forgotten(self) -> None:
        log = log_with(max_rooms=1)
        assert [say(log, f"room {number}").seq for number in range(50)] == [1] * 50

    def test_what_is_known_of_forgotten_rooms_is_bounded(self) -> None:
        log = log_with(max_rooms=1)
        for number in range(100_000):
            say(log, f"room {number}")
        sizes = [len(value) for value in vars(log).values() if isinstance(value, dict | set)]
        assert max(sizes) <= 65_536


class TestIds:
    def test_only_so_many_are_remembered(self) -> None:
        log = log_with(max_remembered_ids=3)
        for id in (1, 2, 3, 4):
            say(log, "a", id=id)
        assert [say(log, "a", id=id).seq for id in (4, 3, 2)] == [4, 3, 2]
        assert say(log, "a", id=1).seq == 5  # forgotten, and said again

    def test_a_bound_of_0_remembers_none(self) -> None:
        log = log_with(max_remembered_ids=0)
        assert [say(log, "a", id=7).seq for _ in range(2)] == [1, 2]

    def test_what_is_not_stored_is_not_remembered(self) -> None:
        receipts = Receipts(2)
        assert receipts.find("ann", 7) is None
        receipts.add("ann", 7, Receipt(1, 2))
        assert receipts.find("ann", 7) == Receipt(1, 2)
        assert receipts.find("bob", 7) is None

    def test_the_id_0_is_neither_remembered_nor_found(self) -> None:
        receipts = Receipts(2)
        receipts.add("ann", 0, Receipt(1, 2))
        assert receipts.find("ann", 0) is None


class NaiveLog:
    """The same as `MemoryLog`, by the letter of its documentation: everything in one list."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.kept: list[Chat] = []
        self.newest: dict[str, int] = {}
        self.known: OrderedDict[int, int] = OrderedDict()
        self.spoken: dict[str, int] = {}  # when each remembered room was last spoken in
        self.in_use: set[str] = set()
        self.said = 0

    def say(self, room: str, text: str, id: int) -> int | None:
        if id in self.known:
            return self.known[id]
        if room not in self.spoken and len(self.spoken) >= self.limits.max_rooms:
            silent = [name for name in self.silent_first() if name not in self.in_use]
            if not silent:
                return None
            del self.spoken[silent[0]]
            self.kept = [chat for chat in self.kept if chat.room != silent[0]]
        self.said += 1
        self.spoken[room] = self.said
        seq = self.newest[room] = self.newest.get(room, 0) + 1
        self.kept.append(Chat(room, seq, 0, "", text))
        while len(self.of(room)) > self.limits.max_room_log_messages:
            self.kept.remove(self.of(room)[0])
        while self.bytes(lambda chat: chat.room == room) > self.limits.max_room_log_bytes:
            self.kept.remove(self.of(room)[0])
        while self.bytes(lambda chat: True) > self.limits.max_log_bytes:
            first = next(name for name in self.silent_first() if self.of(name))
            self.kept.remove(self.of(first)[0])
        if id:
            self.known[id] = seq
            while len(self.known) > self.limits.max_remembered_ids:
                self.known.popitem(last=False)
        return seq

    def silent_first(self) -> list[str]:
        return sorted(self.spoken, key=self.spoken.__getitem__)

    def of(self, room: str) -> list[Chat]:
        return [chat for chat in self.kept if chat.room == room]

    def bytes(self, counts: Callable[[Chat], bool]) -> int:
        return sum(400 + len(chat.text) for chat in self.kept if counts(chat))


NAMES = ["a", "b", "c", "d", "e"]
SAYS = st.tuples(st.just("say"), st.sampled_from(NAMES), st.integers(1, 900), st.integers(0, 6))
MOVES = st.tuples(st.sampled_from(["enter", "leave"]), st.sampled_from(NAMES), st.just(0), st.just(0))


@given(
    steps=st.lists(SAYS | SAYS | MOVES, max_size=60),
    max_rooms=st.integers(1, 4),
    max_room_log_messages=st.integers(0, 6),
    max_room_log_bytes=st.integers(0, 5_000),
    max_log_bytes=st.integers(0, 9_000),
    max_remembered_ids=st.integers(0, 4),
)
def test_the_log_in_memory_is_as_good_as_a_list(
    steps: list[tuple[str, str, int, int]], **bounds: int
) -> None:
    limits = replace(Limits(), **bounds)
    log, naive = MemoryLog(limits, lambda: 1.0), NaiveLog(limits)
    heard: list[Chat] = []
    log.start(lambda chat, sender: heard.append(chat))
    for what, room, length, id in steps:
        if what == "enter":
            log.enter(room)
            naive.in_use.add(room)
        elif what == "leave":
            log.leave(room)
            naive.in_use.discard(room)
        else:
            before = naive.said
            try:
                seq: int | None = log.append(room, "ann", "ann", id, "x" * length, 1).seq
            except NotStored:
                seq = None
            assert seq == naive.say(room, "x" * length, id)
            assert len(heard) == naive.said
            if naive.said > before:
                assert (heard[-1].room, heard[-1].seq, len(heard[-1].text)) == (room, seq, length)
        for name in NAMES:
            expected = [(chat.seq, chat.text) for chat in naive.of(name)]
            newest = naive.newest.get(name, 0)
            assert log.bounds(name) == (newest - len(expected) + 1, newest)
            assert [(chat.seq, chat.text) for chat in log.read(name, 0, 100, AMPLE_BYTES)] == expected

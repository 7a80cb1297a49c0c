"""What every `RoomLog` keeps, as tests: each form of log subclasses `RoomLogContract`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from chatproto.rooms.log import REMOVED, Receipt, RoomLog
from chatproto.rooms.words import searched_words, words_of
from chatproto.wire.messages import MAX_U64, Chat

T = TypeVar("T")

AMPLE_BYTES = 1_000_000
ROOMS = st.sampled_from(["lobby", "tea", "größe"])
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)


class Told:
    """Notes what a log tells, and what its bounds are at that moment."""

    def __init__(self, log: RoomLog) -> None:
        self._log = log
        self.kept: list[tuple[Chat, int]] = []
        self.newest_then: list[int] = []
        self.then: Callable[[Chat], object] = lambda chat: None

    def __call__(self, chat: Chat, sender: int) -> None:
        self.kept.append((chat, sender))
        self.newest_then.append(self._log.bounds(chat.room)[1])
        self.then(chat)

    def chats(self, room: str) -> list[Chat]:
        return [chat for chat, _ in self.kept if chat.room == room]


class RoomLogContract:
    """The tests. A subclass says how its log is made, and how its answers are waited for."""

    examples = 50
    """How often the properties are tried; fewer for a log that is slow to make."""

    now_s = 1_000.0
    """The wall clock of the logs; a test may turn it."""

    def make_log(self) -> RoomLog:
        """A new and empty log with ample limits, whose wall clock is `self.now_s`."""
        raise NotImplementedError

    def settle(self) -> None:
        """Let everything be answered that a log still owes; for logs that answer later."""

    def close(self, log: RoomLog) -> None:
        """Let go of a log."""

    def answer(self, given: T | Deferred[T]) -> T:
        """An answer that may have to be waited for."""
        return self.wait(given) if isinstance(given, Deferred) else given

    def wait(self, given: Deferred[T]) -> T:
        """Wait for an answer."""
        outcome: list[T | Failure] = []
        given.addBoth(outcome.append)
        if not outcome:
            self.settle()
        [result] = outcome
        if isinstance(result, Failure):
            result.raiseException()
        return result

    def say(
        self, log: RoomLog, room: str, text: str, *, nick: str = "ann", id: int = 0, sender: int = 1
    ) -> Receipt:
        """Append and wait."""
        return self.answer(log.append(room, nick, nick.lower(), id, text, sender))

    def fill(self, log: RoomLog, room: str, count: int) -> None:
        """Say *count* things."""
        for number in range(1, count + 1):
            self.say(log, room, f"text {number}")

    def bounds(self, log: RoomLog, room: str) -> tuple[int, int]:
        """Prepare a room and ask for its bounds."""
        while (preparing := log.prepare(room)) is not None:
            self.wait(preparing)
        return log.bounds(room)

    def find(self, log: RoomLog, room: str, query: str, limit: int = 100) -> tuple[list[int], bool]:
        """Search a room that is prepared; the numbers, and whether there may be more."""
        self.bounds(log, room)
        found = self.answer(log.search(room, searched_words(query), limit))
        return list(found.seqs), found.is_cut

    def read(self, log: RoomLog, room: str, first: int, last: int, max_bytes: int = AMPLE_BYTES) -> list[int]:
        """The numbers of what is read."""
        return [chat.seq for chat in self.answer(log.read(room, first, last, max_bytes))]

    @pytest.fixture
    def log(self) -> Iterator[RoomLog]:
        log = self.make_log()
        log.start(lambda chat, sender: None)
        yield log
        self.close(log)

    @pytest.fixture
    def told(self, log: RoomLog) -> Told:
        told = Told(log)
        log.start(told)
        return told

    # --- numbers --------------------------------------------------------------------------------------------

    def test_the_epoch_is_a_number_that_every_form_of_the_protocol_carries(self, log: RoomLog) -> None:
        assert 1 <= log.epoch <= MAX_U64

    def test_two_new_logs_have_different_epochs(self, log: RoomLog) -> None:
        other = self.make_log()
        assert other.epoch != log.epoch
        self.close(other)

    def test_each_room_counts_from_1_without_holes(self, log: RoomLog) -> None:
        seqs = [(room, self.say(log, room, "hi").seq) for room in ("a", "b", "a", "a", "b", "c", "a")]
        assert seqs == [("a", 1), ("b", 1), ("a", 2), ("a", 3), ("b", 2), ("c", 1), ("a", 4)]

    def test_what_is_said_at_once_by_many_is_numbered_in_the_order_of_the_calls(
        self, log: RoomLog, told: Told
    ) -> None:
        answers = [log.append("a", f"n{i}", f"n{i}", 0, f"text {i}", i) for i in range(20)]
        assert [self.answer(answer).seq for answer in answers] == list(range(1, 21))
        assert [chat.text for chat in told.chats("a")] == [f"text {i}" for i in range(20)]

    def test_an_empty_room_begins_with_1_and_has_nothing(self, log: RoomLog) -> None:
        assert self.bounds(log, "nowhere") == (1, 0)
        assert self.read(log, "nowhere", 1, 100) == []

    def test_bounds_are_the_oldest_kept_and_the_newest(self, log: RoomLog) -> None:
        self.fill(log, "a", 5)
        assert self.bounds(log, "a") == (1, 5)

    def test_a_room_that_is_prepared_can_be_entered_and_left(self, log: RoomLog) -> None:
        self.fill(log, "a", 3)
        for room, bounds in (("a", (1, 3)), ("b", (1, 0))):
            assert self.bounds(log, room) == bounds
            log.enter(room)
            assert log.prepare(room) is None
            assert self.say(log, room, "text").seq == bounds[1] + 1
            assert log.bounds(room) == (1, bounds[1] + 1)
            log.leave(room)
            assert self.bounds(log, room) == (1, bounds[1] + 1)

    def test_what_is_said_while_a_room_is_prepared_is_counted_when_it_is_told(
        self, log: RoomLog, told: Told
    ) -> None:
        appended = [log.append("a", "ann", "ann", 0, "text", 1)]
        preparing = [log.prepare("a"), log.prepare("a")]
        appended.append(log.append("a", "ann", "ann", 0, "text", 1))
        for prepared in preparing:
            if prepared is not None:
                self.wait(prepared)
        assert self.bounds(log, "a") == (1, len(told.kept))
        for answer in appended:
            self.answer(answer)
        assert self.bounds(log, "a") == (1, 2)
        assert told.newest_then == [1, 2]

    # --- telling --------------------------------------------------------------------------------------------

    def test_every_message_is_told_once_and_in_order(self, log: RoomLog, told: Told) -> None:
        for number, room in enumerate(["a", "b", "a", "a", "b"]):
            self.say(log, room, f"text {number}", nick=f"Ann{number}", sender=number)
        assert [(chat.room, chat.seq, chat.nick, chat.text, sender) for chat, sender in told.kept] == [
            ("a", 1, "Ann0", "text 0", 0),
            ("b", 1, "Ann1", "text 1", 1),
            ("a", 2, "Ann2", "text 2", 2),
            ("a", 3, "Ann3", "text 3", 3),
            ("b", 2, "Ann4", "text 4", 4),
        ]

    def test_a_message_is_told_before_its_receipt_is_there(self, log: RoomLog, told: Told) -> None:
        events: list[object] = []
        told.then = lambda chat: events.append(("kept", chat.seq))
        answers = []
        for number in range(3):
            answer = log.append("a", "ann", "ann", 0, f"text {number}", 1)
            if isinstance(answer, Deferred):
                answer.addCallback(lambda receipt: events.append(("receipt", receipt.seq)))
                answers.append(answer)
            else:
                events.append(("receipt", answer.seq))
        self.settle()
        for seq in (1, 2, 3):
            assert events.index(("kept", seq)) < events.index(("receipt", seq))

    def test_bounds_count_a_message_exactly_from_when_it_is_told(self, log: RoomLog, told: Told) -> None:
        # A join in between would else get it twice, or not at all.
        answers = [log.append("a", "ann", "ann", 0, "text", 1) for _ in range(5)]
        for answer in answers:
            self.answer(answer)
        assert told.newest_then == [1, 2, 3, 4, 5]

    def test_what_is_told_can_be_read_at_that_moment(self, log: RoomLog, told: Told) -> None:
        reads: list[Any] = []
        told.then = lambda chat: reads.append(log.read("a", chat.seq, chat.seq, AMPLE_BYTES))
        self.fill(log, "a", 3)
        assert [self.answer(read) for read in reads] == [[chat] for chat in told.chats("a")]

    def test_the_receipt_is_the_place_that_the_message_has(self, log: RoomLog, told: Told) -> None:
        receipt = self.say(log, "a", "hi")
        [chat] = self.answer(log.read("a", 1, 1, AMPLE_BYTES))
        assert (chat.seq, chat.time) == (receipt.seq, receipt.time_ms)
        assert told.chats("a") == [chat]

    # --- ids ------------------------------------------------------------------------------------------------

    def test_an_id_that_comes_again_has_the_same_receipt_and_nothing_is_kept(
        self, log: RoomLog, told: Told
    ) -> None:
        first = self.say(log, "a", "hi", id=7)
        self.now_s += 60
        self.say(log, "a", "something else", id=8)
        assert self.say(log, "a", "hi", id=7) == first
        assert [chat.text for chat in told.chats("a")] == ["hi", "something else"]
        assert self.read(log, "a", 1, 10) == [1, 2]

    def test_an_id_that_comes_again_before_the_first_is_answered_is_kept_once(
        self, log: RoomLog, told: Told
    ) -> None:
        answers = [log.append("a", "ann", "ann", 7, "hi", sender) for sender in (1, 2)]
        assert self.answer(answers[0]) == self.answer(answers[1])
        assert len(told.kept) == 1

    def test_an_id_is_known_in_every_room(self, log: RoomLog) -> None:
        assert self.say(log, "a", "hi", id=7) == self.say(log, "b", "hi", id=7)
        assert self.bounds(log, "b") == (1, 0)

    def test_ids_belong_to_the_comparison_form_of_a_nickname(self, log: RoomLog) -> None:
        first = self.say(log, "a", "hi", nick="Ann", id=7)
        assert self.say(log, "a", "hi", nick="ANN", id=7) == first
        assert self.say(log, "a", "hi", nick="bob", id=7) != first

    def test_the_id_0_is_none(self, log: RoomLog) -> None:
        assert [self.say(log, "a", "hi", id=0).seq for _ in range(3)] == [1, 2, 3]

    def test_the_largest_id_is_an_id(self, log: RoomLog) -> None:
        assert self.say(log, "a", "hi", id=MAX_U64) == self.say(log, "a", "hi", id=MAX_U64)

    # --- time -----------------------------------------------------------------------------------------------

    def test_time_is_the_wall_clocks_in_milliseconds(self, log: RoomLog) -> None:
        self.now_s = 1_700_000_000.5
        assert self.say(log, "a", "hi").time_ms == 1_700_000_000_500

    def test_time_never_goes_back_when_the_clock_is_set_back(self, log: RoomLog) -> None:
        times_ms = []
        for now_s in (1_000.0, 2_000.0, 500.0, 1_999.0, 2_001.0):
            self.now_s = now_s
            times_ms.append(self.say(log, "a", "hi").time_ms)
        assert times_ms == [1_000_000, 2_000_000, 2_000_000, 2_000_000, 2_001_000]

    # --- reading --------------------------------------------------------------------------------------------

    def test_what_is_read_is_what_was_said(self, log: RoomLog, told: Told) -> None:
        texts = ["plain", "größe ☕\nsecond\tline", "x" * 4_096, "\U0001f600" * 1_000]
        for text in texts:
            self.say(log, "größe", text, nick="Änn")
        chats = self.answer(log.read("größe", 1, 4, AMPLE_BYTES))
        assert [(chat.room, chat.seq, chat.nick, chat.text) for chat in chats] == [
            ("größe", seq, "Änn", text) for seq, text in enumerate(texts, 1)
        ]
        assert chats == told.chats("größe")

    @pytest.mark.parametrize(
        ("first", "last", "seqs"),
        [
            (1, 6, [1, 2, 3, 4, 5, 6]),
            (2, 4, [2, 3, 4]),
            (3, 3, [3]),
            (0, 2, [1, 2]),
            (5, 100, [5, 6]),
            (4, 3, []),
            (7, 100, []),
            (0, 0, []),
        ],
    )
    def test_a_range_is_read_with_both_its_ends(
        self, log: RoomLog, first: int, last: int, seqs: list[int]
    ) -> None:
        self.fill(log, "a", 6)
        assert self.read(log, "a", first, last) == seqs

    def test_rooms_do_not_mix(self, log: RoomLog) -> None:
        self.fill(log, "a", 3)
        self.fill(log, "b", 2)
        assert self.read(log, "b", 1, 10) == [1, 2]

    def test_a_slice_holds_about_as_many_bytes_as_were_asked_for(self, log: RoomLog) -> None:
        for _ in range(10):
            self.say(log, "a", "x" * 1_000)
        seqs = self.read(log, "a", 2, 10, 3_000)
        assert seqs == list(range(2, 2 + len(seqs)))
        assert 2 <= len(seqs) <= 4

    def test_a_slice_is_counted_in_bytes_of_utf_8(self, log: RoomLog) -> None:
        for _ in range(10):
            self.say(log, "a", "\U0001f600" * 1_000)
        assert len(self.read(log, "a", 1, 10, 8_000)) <= 3

    def test_short_messages_count_too(self, log: RoomLog) -> None:
        # They fill a send queue with what surrounds them.
        for _ in range(200):
            self.say(log, "a", "x")
        assert 1 < len(self.read(log, "a", 1, 200, 3_000)) <= 50

    def test_a_slice_has_at_least_one_message(self, log: RoomLog) -> None:
        self.say(log, "a", "x" * 4_000)
        self.say(log, "a", "x" * 4_000)
        assert self.read(log, "a", 1, 2, 1) == [1]
        assert self.read(log, "a", 2, 2, 0) == [2]

    # --- picking --------------------------------------------------------------------------------------------

    def pick(self, log: RoomLog, room: str, seqs: list[int], max_bytes: int = AMPLE_BYTES) -> list[int]:
        """The numbers of what is picked."""
        return [chat.seq for chat in self.answer(log.pick(room, seqs, max_bytes))]

    def test_some_messages_are_picked_out(self, log: RoomLog, told: Told) -> None:
        self.fill(log, "a", 6)
        self.fill(log, "b", 2)
        assert self.pick(log, "a", [2, 3, 6]) == [2, 3, 6]
        assert self.answer(log.pick("a", [4], AMPLE_BYTES)) == [told.chats("a")[3]]

    def test_what_is_not_there_cannot_be_picked(self, log: RoomLog) -> None:
        self.fill(log, "a", 3)
        assert self.pick(log, "a", [0, 2, 4, 100]) == [2]
        assert self.pick(log, "a", []) == []
        assert self.pick(log, "nowhere", [1]) == []

    def test_about_as_many_bytes_are_picked_as_were_asked_for(self, log: RoomLog) -> None:
        for _ in range(10):
            self.say(log, "a", "x" * 1_000)
        picked = self.pick(log, "a", [1, 3, 5, 7, 9], 3_000)
        assert picked == [1, 3, 5, 7, 9][: len(picked)]
        assert 2 <= len(picked) <= 4
        assert self.pick(log, "a", [4, 5], 0) == [4]

    # --- searching ------------------------------------------------------------------------------------------

    def test_messages_with_all_words_are_found(self, log: RoomLog) -> None:
        for text in ("Red fish", "blue fish", "fish, RED!", "red", "redfish", "fish red fish"):
            self.say(log, "a", text)
        self.say(log, "b", "red fish")
        assert self.find(log, "a", "red fish") == ([1, 3, 6], False)
        assert self.find(log, "b", "FISH") == ([1], False)
        assert self.find(log, "b", "green") == ([], False)
        assert self.find(log, "nowhere", "fish") == ([], False)

    def test_the_newest_are_found_and_that_there_are_more(self, log: RoomLog) -> None:
        for number in range(6):
            self.say(log, "a", "fish" if number % 2 else "fish and bird")
        assert self.find(log, "a", "fish", 2) == ([5, 6], True)
        assert self.find(log, "a", "bird", 3) == ([1, 3, 5], False)
        assert self.find(log, "a", "bird", 0) == ([], True)

    @pytest.mark.parametrize(
        ("text", "query"),
        [
            ("Größe", "GROSSE"),
            ("ÉCOLE d'été", "ecole ete"),
            ("Ёлка", "елка"),
            ("東京都に行く", "京都"),
            ("東京都に行く", "行"),
            ("한국어 검색", "국어"),
            ("हिन्दी में", "हिन्दी"),
            ("x" * 4_000, "x" * 4_000),
            ('quo"ted * ^ text:', 'ted"*'),
            ("AND OR NOT NEAR", "and or not near"),
            ("𞤀𞤁 new letters", "𞤀𞤁"),
            ("a\nb\tc", "b c"),
        ],
    )
    def test_words_are_found_in_any_script(self, log: RoomLog, text: str, query: str) -> None:
        self.say(log, "a", "something else")
        self.say(log, "a", text)
        self.say(log, "a", "y" * 4_000)
        assert self.find(log, "a", query) == ([2], False)

    def test_what_was_not_told_yet_is_not_found(self, log: RoomLog, told: Told) -> None:
        self.say(log, "a", "fish")
        answers = [log.append("a", "ann", "ann", 0, "fish", 1) for _ in range(5)]
        known = len(told.kept)
        found = self.answer(log.search("a", ["fish"], 100))
        assert list(found.seqs) == list(range(1, known + 1))
        for answer in answers:
            self.answer(answer)

    def test_a_search_finds_what_a_plain_look_finds(self) -> None:
        words = st.lists(st.sampled_from(["a", "B", "ä", "京", "京都", "x1", "c-d"]), min_size=1, max_size=4)

        @settings(max_examples=self.examples)
        @given(
            said=st.lists(st.tuples(ROOMS, words.map(" ".join)), max_size=30),
            room=ROOMS,
            query=words.map(" ".join),
            limit=st.integers(0, 10),
        )
        def check(said: list[tuple[str, str]], room: str, query: str, limit: int) -> None:
            log = self.make_log()
            log.start(lambda chat, sender: None)
            for where, text in said:
                self.say(log, where, text)
            there = enumerate((text for where, text in said if where == room), 1)
            wanted = set(searched_words(query))
            expected = [seq for seq, text in there if wanted <= set(words_of(text))]
            assert self.find(log, room, query, limit) == (
                expected[len(expected) - min(limit, len(expected)) :],
                len(expected) > limit,
            )
            self.close(log)

        check()

    # --- removing -------------------------------------------------------------------------------------------

    def remove(self, log: RoomLog, room: str, seq: int) -> bool:
        """Remove and wait."""
        return self.answer(log.remove(room, seq))

    def texts(self, log: RoomLog, room: str) -> list[tuple[int, str]]:
        """All that is kept of a room."""
        first, last = self.bounds(log, room)
        return [(chat.seq, chat.text) for chat in self.answer(log.read(room, first, last, AMPLE_BYTES))]

    def test_what_is_removed_leaves_its_number_and_who_said_it(self, log: RoomLog, told: Told) -> None:
        for room in ("a", "b"):
            self.fill(log, room, 3)
        assert self.remove(log, "a", 2)
        assert self.texts(log, "a") == [(1, "text 1"), (2, REMOVED), (3, "text 3")]
        assert self.texts(log, "b") == [(1, "text 1"), (2, "text 2"), (3, "text 3")]
        [chat] = self.answer(log.pick("a", [2], AMPLE_BYTES))
        assert (chat.nick, chat.time, chat.text) == ("ann", told.chats("a")[1].time, REMOVED)
        assert self.say(log, "a", "next").seq == 4
        assert len(told.chats("a")) == 4

    def test_what_is_removed_is_not_found_any_more(self, log: RoomLog) -> None:
        for text in ("red fish", "red bird", "red fish"):
            self.say(log, "a", text)
        assert self.remove(log, "a", 1)
        assert self.find(log, "a", "fish") == ([3], False)
        assert self.find(log, "a", "red") == ([2, 3], False)
        assert self.find(log, "a", "removed") == ([1], False)

    def test_what_is_not_kept_cannot_be_removed(self, log: RoomLog) -> None:
        self.fill(log, "a", 2)
        removed = [self.remove(log, "a", seq) for seq in (0, 3, MAX_U64)]
        assert removed == [False] * 3
        assert not self.remove(log, "nowhere", 1)
        assert self.texts(log, "a") == [(1, "text 1"), (2, "text 2")]

    def test_what_is_removed_twice_is_removed(self, log: RoomLog) -> None:
        self.say(log, "a", "fish")
        assert [self.remove(log, "a", 1), self.remove(log, "a", 1)] == [True, True]
        assert self.texts(log, "a") == [(1, REMOVED)]
        assert self.find(log, "a", "removed") == ([1], False)

    def test_what_is_removed_does_not_come_back_under_its_id(self, log: RoomLog, told: Told) -> None:
        receipt = self.say(log, "a", "fish", id=7)
        self.remove(log, "a", 1)
        assert self.say(log, "a", "fish", id=7) == receipt
        assert self.texts(log, "a") == [(1, REMOVED)]
        assert len(told.kept) == 1

    def test_what_was_just_said_can_be_removed(self, log: RoomLog) -> None:
        said = log.append("a", "ann", "ann", 0, "fish", 1)
        removed = log.remove("a", 1)
        self.answer(said)
        assert self.answer(removed)
        assert self.texts(log, "a") == [(1, REMOVED)]

    def test_what_is_removed_while_a_room_is_prepared_is_not_shown_there(self, log: RoomLog) -> None:
        self.fill(log, "a", 2)
        removed = log.remove("a", 1)
        preparing = log.prepare("a")
        if preparing is not None:
            self.wait(preparing)
        assert self.answer(removed)
        assert self.texts(log, "a") == [(1, REMOVED), (2, "text 2")]

    # --- any range ------------------------------------------------------------------------------------------

    def test_any_range_is_read_completely_in_slices_of_any_size(self) -> None:
        @settings(max_examples=self.examples)
        @given(
            said=st.lists(st.tuples(ROOMS, TEXTS), max_size=30),
            room=ROOMS,
            ends=st.tuples(st.integers(0, 32), st.integers(0, 32)),
            max_bytes=st.integers(0, 2_000),
        )
        def check(said: list[tuple[str, str]], room: str, ends: tuple[int, int], max_bytes: int) -> None:
            log = self.make_log()
            log.start(lambda chat, sender: None)
            for where, text in said:
                self.say(log, where, text)
            first, last = ends
            found: list[Chat] = []
            while chats := self.answer(log.read(room, first, last, max_bytes)):
                found += chats
                first = chats[-1].seq + 1
            expected = [(seq, text) for seq, text in enumerate((t for r, t in said if r == room), 1)]
            assert [(chat.seq, chat.text) for chat in found] == [
                (seq, text) for seq, text in expected if ends[0] <= seq <= last
            ]
            self.close(log)

        check()

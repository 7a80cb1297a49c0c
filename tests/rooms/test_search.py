"""Searching: which messages are found by which words, and how the answer reaches the one who asked."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rooms.outlets import AsyncLog, Broken, Failures

from chatproto.limits import Limits
from chatproto.rooms import log as log_module
from chatproto.rooms.log import MemoryLog, RoomLog
from chatproto.rooms.requests import MAX_SEARCHED_WORDS
from chatproto.rooms.words import indexed_text, searched_words, words_of
from chatproto.testing import ChatInMemory
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Chat, End, Ping, Pong, Say, Search


class TestWords:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", []),
            ("?! -- \n", []),
            ("Hello, World", ["hello", "world"]),
            ("a_b-c.d 42", ["a", "b", "c", "d", "42"]),
            ("naïve Größe", ["naive", "grosse"]),
            ("ÉCOLE", ["ecole"]),
            ("ΣΊΣΥΦΟΣ Σίσυφος", ["σισυφοσ", "σισυφοσ"]),
            ("ёлка", ["елка"]),
            ("ﬁne ½ ①", ["fine", "1", "2", "1"]),
            ("हिन्दी", ["हिन्दी"]),
            ("سَلام", ["سلام"]),
            ("e\u0301 K", ["e", "k"]),
            ("東京都", ["東", "京", "都", "東京", "京都"]),
            ("が か", ["が", "か"]),
            ("한국", ["한", "국", "한국"]),
            ("go東go", ["go", "東", "go"]),
        ],
    )
    def test_words_have_neither_case_nor_accents(self, text: str, words: list[str]) -> None:
        assert words_of(text) == words

    @pytest.mark.parametrize(
        ("query", "words"),
        [
            ("b a b", ["b", "a"]),
            ("東京都", ["東京", "京都"]),
            ("東", ["東"]),
            ("東東東", ["東東"]),
            ("GRÖSSE größe", ["grosse"]),
        ],
    )
    def test_of_signs_without_blanks_the_pairs_are_searched_for(self, query: str, words: list[str]) -> None:
        assert searched_words(query) == words

    @given(st.text(), st.integers(0, 20), st.integers(0, 20))
    def test_a_text_is_found_by_any_of_its_words(self, text: str, begin: int, length: int) -> None:
        parts = text.split()[begin : begin + length]
        assert set(searched_words(" ".join(parts))) <= set(words_of(text))

    @given(st.text())
    @example("Ꭰ")  # of Cherokee, the capital is the folded form
    def test_an_index_that_parts_at_ascii_finds_the_same_words(self, text: str) -> None:
        # As the index does it: case is folded of ASCII alone.
        folded = indexed_text(text).encode().lower().decode()
        parted = "".join(sign if sign.isalnum() or not sign.isascii() else " " for sign in folded)
        assert [word for word in parted.split(" ") if word] == words_of(text)

    @given(st.text())
    def test_words_are_words(self, text: str) -> None:
        for word in words_of(text):
            assert searched_words(word) == [word]


KINDS = ["at once", "fired", "later"]


class World:
    """Ann in a room where things were said, on a log of some kind."""

    def __init__(self, kind: str, limits: Limits) -> None:
        self.inner = MemoryLog(limits, lambda: 0.0)
        self.later = AsyncLog(self.inner, fired=kind == "fired") if kind != "at once" else None
        log: RoomLog = self.later or self.inner
        self.chat = ChatInMemory(limits, log)
        self.ann = self.chat.join("ann")
        self.settle()

    def settle(self) -> None:
        for _ in range(50):
            self.chat.pass_time()
            if self.later is not None:
                self.later.settle()

    def say(self, *texts: str) -> None:
        for text in texts:
            self.chat.hub.say("", "bot", text)
        self.settle()
        self.ann.forget()

    def search(self, query: str, limit: int = 100) -> tuple[list[int], End]:
        """What is found."""
        self.ann.ask(Search("", query, limit))
        self.settle()
        end = self.ann.received[-1]
        assert isinstance(end, End)
        seqs = [chat.seq for chat in self.ann.got(Chat)]
        self.ann.forget()
        return seqs, end


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param, Limits(max_queued_bytes=16_384))


class TestAnswers:
    def test_what_has_all_the_words_is_found_in_ascending_order(self, world: World) -> None:
        world.say("red fish", "blue fish", "Fish, RED", "red", "one fish")
        assert world.search("red fish") == ([1, 3], End("lobby", 1, 3, 0))

    def test_parts_of_words_are_not_found(self, world: World) -> None:
        world.say("fishing", "fish")
        assert world.search("fish") == ([2], End("lobby", 2, 2, 0))

    def test_nothing_is_found(self, world: World) -> None:
        world.say("red fish")
        assert world.search("green") == ([], End("lobby", 0, 0, 0))

    def test_the_newest_are_sent_and_that_there_are_older_ones(self, world: World) -> None:
        world.say(*["fish"] * 5)
        assert world.search("fish", 3) == ([3, 4, 5], End("lobby", 3, 5, 1))
        assert world.search("fish", 5) == ([1, 2, 3, 4, 5], End("lobby", 1, 5, 0))

    def test_a_limit_of_0_tells_whether_there_is_anything(self, world: World) -> None:
        world.say("fish")
        assert world.search("fish", 0) == ([], End("lobby", 0, 0, 1))
        assert world.search("bird", 0) == ([], End("lobby", 0, 0, 0))

    def test_other_rooms_are_not_searched(self, world: World) -> None:
        world.chat.hub.say("tea", "bot", "fish")
        world.say("fish")
        assert world.search("fish")[0] == [1]

    def test_a_long_answer_waits_for_who_reads_it(self, world: World) -> None:
        world.say(*[f"fish {'x' * 1_000}"] * 60)
        world.ann.stop_reading()
        world.ann.ask(Search("", "fish", 100), Ping(1))
        world.settle()
        assert world.ann.queued_bytes < 16_384
        world.ann.read()
        world.settle()
        assert [chat.seq for chat in world.ann.got(Chat)] == list(range(1, 61))
        assert world.ann.received[-2:] == [End("lobby", 1, 60, 0), Pong(1)]

    def test_what_falls_out_meanwhile_is_left_out(self) -> None:
        tight = World("at once", Limits(max_queued_bytes=16_384, max_room_log_messages=40))
        tight.say(*[f"fish {'x' * 1_000}"] * 40)
        tight.ann.stop_reading()
        tight.ann.ask(Search("", "fish", 100))
        tight.chat.pass_time()
        sent = len(tight.ann.got(Chat))
        for _ in range(39):
            tight.chat.hub.say("", "eve", "x")
        tight.ann.read()
        tight.settle()
        seqs = [chat.seq for chat in tight.ann.got(Chat) if chat.nick == "bot"]
        assert sent < len(seqs) < 40
        assert seqs[-1] == 40
        assert [end.last for end in tight.ann.got(End)] == [40]

    def test_only_rooms_that_one_is_in_are_searched(self, world: World) -> None:
        world.ann.ask(Search("tea", "fish", 10))
        assert world.ann.errors == [ErrorCode.NOT_IN_ROOM]

    @pytest.mark.parametrize("query", ["", " ", "?!", "\x00", "🐟"])
    def test_there_must_be_a_word_to_search_for(self, world: World, query: str) -> None:
        world.ann.ask(Search("", query, 10))
        assert world.ann.errors == [ErrorCode.BAD_TEXT]

    def test_only_so_many_words_are_searched_for(self, world: World) -> None:
        words = " ".join(f"w{number}" for number in range(MAX_SEARCHED_WORDS))
        world.say(words)
        assert world.search(words)[0] == [1]
        world.ann.ask(Search("", f"{words} more", 10))
        assert world.ann.errors == [ErrorCode.BAD_TEXT]

    def test_a_search_in_memory_that_takes_long_gives_up_and_says_so(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.say("fish", "fish")
        monkeypatch.setattr(log_module, "MAX_SEARCH_S", -1.0)
        assert world.search("fish") == ([2], End("lobby", 2, 2, 1))

    def test_one_who_searches_again_and_again_does_not_keep_others_waiting(self) -> None:
        chat = ChatInMemory()
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.ask(*[Search("", "fish", 10)] * 3, Say(0, "", "hi"))
        assert len(ann.got(End)) == 1 + 1  # of joining, and one answer; the rest is for later turns
        assert bob.chats == []
        chat.pass_time()
        assert len(ann.got(End)) == 1 + 3
        assert bob.chats == [("ann", "hi")]


class TestFaults:
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_search_that_fails_is_refused_and_the_session_goes_on(
        self, kind: str, failures: Failures, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise Broken

        world = World(kind, Limits())
        monkeypatch.setattr(world.inner, "search", fail)
        world.ann.ask(Search("", "fish", 10), Ping(1))
        world.settle()
        assert world.ann.errors == [ErrorCode.NOT_SUPPORTED]
        assert world.ann.got(Pong) == [Pong(1)]
        assert failures.take() == ["Broken"]

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_is_found_and_cannot_be_read_ends_the_session(
        self, kind: str, failures: Failures, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise Broken

        world = World(kind, Limits())
        world.say("fish")
        monkeypatch.setattr(world.inner, "pick", fail)
        world.ann.ask(Search("", "fish", 10))
        world.settle()
        assert world.ann.errors == [ErrorCode.TOO_SLOW]
        assert failures.take() == ["Broken"]

    def test_one_who_is_gone_gets_no_answer(self) -> None:
        world = World("later", Limits())
        world.say("fish")
        world.ann.ask(Search("", "fish", 10))
        world.ann.disconnect()
        world.settle()
        assert world.ann.received == []

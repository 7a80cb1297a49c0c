"""Replays: what a join asks for, what a slow reader missed, and what was said long ago; protocol, 3.2 and 5.

Everything here is tried on a log that answers at once, on one whose Deferreds have fired already, and on one
that answers when the test says so.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rooms.outlets import AsyncLog, Broken, Failures, Restless, assert_nothing_is_left, join
from twisted.internet.defer import Deferred

from chatproto.limits import Limits
from chatproto.rooms.log import MemoryLog, RoomLog
from chatproto.rooms.session import MAX_UNANSWERED
from chatproto.testing import ChatInMemory, Person
from chatproto.wire.chat import encode_frame
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import (
    Ack,
    Chat,
    End,
    History,
    Join,
    Joined,
    Lagged,
    Left,
    Message,
    Ping,
    Pong,
    Renamed,
    Roster,
    Say,
)

SMALL = Limits(max_queued_bytes=16_384, max_messages_per_s=0)
KIB = "x" * 1_000


class World:
    """A chat on a log of some kind."""

    def __init__(self, kind: str, limits: Limits) -> None:
        inner = MemoryLog(limits, lambda: 0.0)
        self.later = AsyncLog(inner, fired=kind == "fired") if kind != "at once" else None
        log: RoomLog = self.later or inner
        self.chat = ChatInMemory(limits, log)
        self.epoch = log.epoch

    def join(self, nick: str, room: str = "", **wanted: int) -> Person:
        person = self.chat.join(nick, room, **wanted)
        self.settle()
        return person

    def say(self, count: int, text: str = "", room: str = "") -> None:
        """Say something *count* times, from code."""
        for _ in range(count):
            answer = self.chat.hub.say(room, "bot", text or "x")
            self.settle_log()
            assert answer

    def settle_log(self) -> None:
        """Let the log answer, but let no turn pass."""
        if self.later is not None:
            self.later.settle()

    def settle(self) -> None:
        """Let everything happen that is to happen now."""
        for _ in range(200):
            self.settle_log()
            self.chat.pass_time()
            if not (self.later and self.later.owes):
                return
        raise AssertionError("it never ends")

    def read(self, person: Person) -> None:
        """Let someone read, until they have everything."""
        person.read()
        self.settle()


Worlds = Callable[[Limits], World]


@pytest.fixture(params=["at once", "fired", "later"])
def world_with(request: pytest.FixtureRequest) -> Worlds:
    return lambda limits: World(request.param, limits)


@pytest.fixture
def world(world_with: Worlds) -> World:
    """With a small queue for each person."""
    return world_with(SMALL)


def seqs(person: Person, room: str = "lobby") -> list[int]:
    return [chat.seq for chat in person.got(Chat) if chat.room == room]


def outline(person: Person) -> list[object]:
    """What came, with a run of chats as the pair of its first and last number."""
    shown: list[object] = []
    for message in person.received:
        if not isinstance(message, Chat):
            shown.append(message.type)
        elif shown and isinstance(shown[-1], tuple) and shown[-1][1] == message.seq - 1:
            shown[-1] = (shown[-1][0], message.seq)
        else:
            shown.append((message.seq, message.seq))
    return shown


# --- what a join asks for ----------------------------------------------------------------------------------


def naive_replay(kept: range, newest: int, own_epoch: int, join: Join) -> tuple[list[int], int]:
    """Rule 3.2, word by word: what is sent, and the status."""
    other_epoch = join.epoch != own_epoch and bool(join.epoch or join.after)
    if other_epoch or join.after > newest:
        asked, status = list(kept), 2
    elif join.after:
        asked = [seq for seq in range(join.after + 1, newest + 1) if seq in kept]
        wanted = newest - join.after
        status = 1 if wanted > min(len(asked), join.limit) else 0
    else:
        asked = list(kept)
        status = 1 if len(asked) > join.limit else 0
    return (asked[-join.limit :] if join.limit else []), status


@pytest.mark.parametrize("after", [0, 1, 2, 3, 4, 6, 7, 8, 9, 2**53 - 1])
@pytest.mark.parametrize("epoch", ["none", "own", "other"])
@pytest.mark.parametrize(("said", "keeps"), [(0, 5), (7, 100), (7, 7), (8, 5), (8, 1), (3, 0)])
def test_a_join_is_answered_as_the_protocol_says(said: int, keeps: int, epoch: str, after: int) -> None:
    for limit in (0, 1, 3, 5, 7, 8, 100, 65_535):
        world = World("at once", Limits(max_room_log_messages=keeps))
        world.say(said)
        epochs = {"none": 0, "own": world.epoch, "other": world.epoch % 1_000 + 1}
        wanted = Join("ann", "", epochs[epoch], after, limit)
        ann = world.chat.connect()
        ann.ask(wanted)
        kept = range(max(1, said - keeps + 1), said + 1)
        expected, status = naive_replay(kept, said, world.epoch, wanted)
        assert seqs(ann) == expected, wanted
        ends = (expected[0], expected[-1]) if expected else (0, 0)
        assert ann.got(End) == [End("lobby", *ends, status)], wanted
        assert [roster.last for roster in ann.got(Roster)] == [said]
        world.say(1)
        assert seqs(ann) == [*expected, said + 1]


class TestJoining:
    def test_a_replay_larger_than_the_queue_comes_completely(self, world: World) -> None:
        world.say(100, KIB)
        ann = world.join("ann", limit=100)
        assert outline(ann) == ["welcome", "roster", (1, 100), "end"]
        assert ann.got(End) == [End("lobby", 1, 100, 0)]

    def test_a_replay_never_fills_the_queue(self, world: World) -> None:
        # Or whatever else comes would be dropped: a word to this person alone would be refused.
        world.say(100, KIB)
        ann = world.chat.connect()
        ann.stop_reading()
        ann.ask(Join("ann", "", 0, 0, 100))
        world.settle()
        assert 0 < ann.queued_bytes <= SMALL.max_queued_bytes / 2
        bob = world.join("bob", "elsewhere")
        bob.tell("ann", "psst", id=7)
        assert len(bob.got(Ack)) == 1

    def test_what_is_said_during_a_replay_comes_once_and_after_it(self, world: World) -> None:
        world.say(40, KIB)
        ann, bob = world.chat.connect(), world.join("bob")
        ann.stop_reading()
        ann.ask(Join("ann", "", 0, 0, 100))
        for _ in range(10):
            world.settle_log()
            bob.say("live")
            world.settle_log()
            ann.read()
            ann.stop_reading()
            world.chat.pass_time()
        world.read(ann)
        assert outline(ann) == ["welcome", "roster", (1, 40), "end", (41, 50)]
        assert ann.got(End) == [End("lobby", 1, 40, 0)]

    def test_what_one_asks_next_waits_for_the_end_of_the_replay(self, world: World) -> None:
        world.say(40, KIB)
        ann = world.chat.connect()
        ann.ask(Join("ann", "", 0, 0, 100), Ping(1), Join("ann", "tea", 0, 0, 100), Ping(2))
        world.settle()
        assert outline(ann) == ["welcome", "roster", (1, 40), "end", "pong", "roster", "end", "pong"]

    def test_one_may_leave_the_room_after_the_replay_and_come_back(self, world: World) -> None:
        world.say(3)
        ann = world.join("ann", limit=2)
        ann.leave("lobby")
        ann.join("lobby", limit=1)
        world.settle()
        world.say(1)
        assert outline(ann) == ["welcome", "roster", (2, 3), "end", "roster", (3, 3), "end", (4, 4)]

    def test_one_who_goes_during_a_replay_leaves_nothing_behind(self, world: World) -> None:
        world.say(100, KIB)
        ann = world.chat.connect()
        ann.stop_reading()
        ann.ask(Join("ann", "", 0, 0, 100), Ping(1))
        ann.disconnect()
        world.settle()
        assert_nothing_is_left(world.chat.hub, world.chat.clock)

    @pytest.mark.parametrize("more", [[], [Ping(1)]], ids=["nothing more", "more"])
    def test_half_close_during_a_replay_lets_it_end(self, world: World, more: list[Message]) -> None:
        world.say(100, KIB)
        ann = world.chat.connect()
        ann.stop_reading()
        ann.ask(Join("ann", "", 0, 0, 100), *more)
        ann.session.finish_input()
        world.settle()
        assert ann.is_connected
        world.read(ann)
        assert outline(ann) == ["welcome", "roster", (1, 100), "end", *("pong" for _ in more)]
        assert not ann.is_connected

    def test_ones_own_of_former_times_is_replayed(self, world: World) -> None:
        ann = world.join("ann")
        ann.say("one")
        world.settle()
        ann.disconnect()
        again = world.join("ann", limit=10)
        again.say("two")
        world.settle()
        assert again.chats == [("ann", "one")]

    def test_a_promised_message_that_goes_from_the_log_ends_the_session(self, world_with: Worlds) -> None:
        world = world_with(Limits(max_queued_bytes=16_384, max_room_log_messages=30))
        world.say(30, KIB)
        ann, bob = world.chat.connect(), world.join("bob")
        ann.stop_reading()
        ann.ask(Join("ann", "", 0, 0, 30))
        world.settle()
        world.say(30, KIB)
        world.read(ann)
        assert ann.errors == [ErrorCode.TOO_SLOW]
        assert seqs(ann) == list(range(1, len(seqs(ann)) + 1))
        assert ann.got(End) == []
        assert not ann.is_connected
        assert bob.got(Left) == [Left("lobby", "ann", "too slow")]

    def test_what_came_and_went_during_the_replay_was_not_promised(self, world_with: Worlds) -> None:
        world = world_with(Limits(max_queued_bytes=16_384, max_room_log_messages=30))
        world.say(6, KIB)
        ann = world.chat.connect()
        ann.stop_reading()
        ann.ask(Join("ann", "", 0, 0, 6))
        world.settle()
        world.say(100)
        world.read(ann)
        assert outline(ann) == ["welcome", "roster", (1, 6), "end", "lagged", (77, 106)]
        assert ann.got(Lagged) == [Lagged("lobby", 77, 106)]


# --- slow readers -------------------------------------------------------------------------------------------


class TestLagging:
    def test_one_who_falls_behind_is_told_once_and_gets_everything_in_order(self, world: World) -> None:
        ann = world.join("ann")
        ann.forget()
        ann.stop_reading()
        world.say(100, KIB)
        assert ann.queued_bytes <= SMALL.max_queued_bytes
        world.read(ann)
        assert outline(ann) == ["lagged", (1, 100)]
        assert ann.got(Lagged) == [Lagged("lobby", 1, 100)]

    def test_what_was_read_before_is_not_sent_again(self, world: World) -> None:
        ann = world.join("ann")
        world.say(5)
        ann.stop_reading()
        world.say(100, KIB)
        world.read(ann)
        assert ann.got(Lagged) == [Lagged("lobby", 6, 105)]
        assert seqs(ann) == list(range(1, 106))

    def test_a_short_silence_is_no_lag(self, world: World) -> None:
        ann = world.join("ann")
        ann.stop_reading()
        world.say(10, KIB)
        world.read(ann)
        assert ann.got(Lagged) == []
        assert seqs(ann) == list(range(1, 11))

    def test_others_get_it_at_once(self, world: World) -> None:
        ann, bob = world.join("ann"), world.join("bob")
        ann.stop_reading()
        world.say(100, KIB)
        assert seqs(bob) == list(range(1, 101))
        assert bob.got(Lagged) == []

    def test_each_room_has_its_own_range(self, world: World) -> None:
        ann = world.join("ann", "a")
        ann.join("b")
        ann.join("c")
        world.settle()
        ann.forget()
        world.say(2, room="b")
        ann.stop_reading()
        for _ in range(30):
            world.say(1, KIB, "a")
            world.say(1, KIB, "b")
        world.read(ann)
        assert sorted(ann.got(Lagged), key=lambda lagged: lagged.room) == [
            Lagged("a", 1, 30),
            Lagged("b", 3, 32),
        ]
        assert seqs(ann, "a") == list(range(1, 31))
        assert seqs(ann, "b") == list(range(1, 33))
        world.say(1, room="c")
        assert seqs(ann, "c") == [1]

    def test_after_catching_up_it_goes_on_live(self, world: World) -> None:
        ann = world.join("ann")
        for _ in range(3):
            ann.stop_reading()
            world.say(50, KIB)
            world.read(ann)
            world.say(1)
        assert seqs(ann) == list(range(1, 154))
        assert ann.got(Lagged) == [
            Lagged("lobby", 1, 50),
            Lagged("lobby", 52, 101),
            Lagged("lobby", 103, 152),
        ]

    def test_what_is_said_while_one_catches_up_comes_once_and_in_order(self, world: World) -> None:
        ann, bob = world.join("ann"), world.join("bob")
        ann.stop_reading()
        world.say(60, KIB)
        for _ in range(30):
            ann.read()
            ann.stop_reading()
            world.chat.pass_time()
            bob.say("live")
            world.settle_log()
        world.read(ann)
        assert seqs(ann) == list(range(1, 91))
        assert len(ann.got(Lagged)) == 1

    def test_one_who_lags_again_while_catching_up_still_gets_everything_once(self, world: World) -> None:
        ann = world.join("ann", "a")
        ann.join("b")
        world.settle()
        ann.stop_reading()
        world.say(60, KIB, "a")
        for _ in range(4):
            ann.read()
            ann.stop_reading()
            world.settle()  # a slice of a is queued, and b is live
            world.say(20, KIB, "b")  # and throws it out again
            world.settle()
        world.read(ann)
        assert seqs(ann, "a") == list(range(1, 61))
        assert seqs(ann, "b") == list(range(1, 81))
        assert len([lagged for lagged in ann.got(Lagged) if lagged.room == "a"]) > 1

    def test_a_join_goes_on_where_it_was_when_another_room_floods_the_queue(self, world: World) -> None:
        world.say(40, KIB, "a")
        ann = world.join("ann", "b")
        ann.forget()
        ann.stop_reading()
        ann.join("a", limit=100)
        world.settle()
        world.say(30, KIB, "b")
        world.say(2, KIB, "a")
        world.read(ann)
        assert seqs(ann, "a") == list(range(1, 43))
        assert seqs(ann, "b") == list(range(1, 31))
        assert ann.got(End) == [End("a", 1, 40, 0)]
        end = ann.received.index(ann.got(End)[0])
        before = [
            message.seq for message in ann.received[:end] if isinstance(message, Chat) and message.room == "a"
        ]
        assert before == list(range(1, 41))

    def test_what_the_log_has_lost_is_the_gap_before_the_range(self, world_with: Worlds) -> None:
        world = world_with(Limits(max_queued_bytes=16_384, max_room_log_messages=20))
        ann = world.join("ann")
        world.say(3)
        ann.stop_reading()
        world.say(100, KIB)
        world.read(ann)
        assert ann.got(Lagged) == [Lagged("lobby", 84, 103)]
        assert seqs(ann) == [1, 2, 3, *range(84, 104)]
        assert ann.is_connected

    @pytest.mark.parametrize("nothing", ["max_room_log_messages", "max_log_bytes"])
    def test_a_log_that_keeps_nothing_leaves_a_gap_that_is_said(
        self, world_with: Worlds, nothing: str
    ) -> None:
        limits = {"max_queued_bytes": 16_384, nothing: 0}
        world = world_with(Limits(**limits))
        ann = world.join("ann")
        ann.forget()
        ann.stop_reading()
        world.say(50, KIB)
        world.read(ann)
        world.say(1)
        assert outline(ann) == ["lagged", (51, 51)]
        assert ann.got(Lagged) == [Lagged("lobby", 51, 50)]

    def test_a_promised_message_that_goes_from_the_log_ends_the_session(self, world_with: Worlds) -> None:
        world = world_with(Limits(max_queued_bytes=16_384, max_room_log_messages=50))
        ann, bob = world.join("ann"), world.join("bob")
        ann.stop_reading()
        world.say(50, KIB)
        ann.read()
        ann.stop_reading()
        world.settle()
        assert ann.got(Lagged) == []
        ann.read()
        ann.stop_reading()
        world.settle()
        assert ann.got(Lagged) == [Lagged("lobby", 1, 50)]
        world.say(60, KIB)
        world.read(ann)
        assert ann.errors == [ErrorCode.TOO_SLOW]
        assert not ann.is_connected
        assert seqs(ann) == list(range(1, len(seqs(ann)) + 1))
        assert bob.got(Left) == [Left("lobby", "ann", "too slow")]

    def test_a_promise_is_not_forgotten_by_lagging_again(self, world_with: Worlds) -> None:
        world = world_with(Limits(max_queued_bytes=16_384, max_room_log_messages=50))
        ann = world.join("ann", "a")
        ann.join("b")
        world.settle()
        ann.stop_reading()
        world.say(50, KIB, "a")
        ann.read()
        ann.stop_reading()
        world.settle()
        world.say(60, KIB, "a")  # 1 to 50 are promised, and gone
        world.say(30, KIB, "b")  # and what was queued of them is thrown out
        world.read(ann)
        assert ann.errors == [ErrorCode.TOO_SLOW]
        assert ann.got(Lagged) == [Lagged("a", 1, 50)]

    def test_one_who_leaves_while_behind_gets_no_more(self, world: World) -> None:
        ann = world.join("ann")
        ann.join("tea")
        world.settle()
        ann.forget()
        ann.stop_reading()
        world.say(50, KIB)
        ann.leave("lobby")
        ann.ask(Ping(1))
        world.read(ann)
        assert outline(ann) == ["pong"]
        world.say(1, room="tea")
        assert seqs(ann, "tea") == [1]

    def test_one_who_leaves_and_comes_back_while_behind(self, world: World) -> None:
        ann = world.join("ann")
        ann.forget()
        ann.stop_reading()
        world.say(50, KIB)
        ann.leave("lobby")
        ann.join("lobby", limit=3)
        world.settle_log()
        world.say(2)
        world.read(ann)
        assert outline(ann) == ["roster", (48, 50), "end", (51, 52)]

    def test_what_still_waited_from_before_one_left_does_not_hide_what_is_promised_now(
        self, world: World
    ) -> None:
        ann = world.join("ann", "a")
        ann.join("b")
        world.settle()
        world.say(5, room="a")
        ann.forget()
        ann.stop_reading()
        world.say(2, room="a")  # these wait
        ann.leave("a")
        ann.join("a", limit=7)  # and these too: 1 to 7
        world.settle()
        world.say(30, KIB, "b")  # all of that is thrown out
        world.read(ann)
        assert seqs(ann, "a") == [1, 2, 3, 4, 5, 6, 7]

    def test_what_still_waited_from_before_one_left_is_not_replayed(self, world: World) -> None:
        ann = world.join("ann", "a")
        ann.join("b")
        world.settle()
        ann.forget()
        ann.stop_reading()
        world.say(2, room="a")  # these wait
        ann.leave("a")
        world.say(2, room="a")
        ann.join("a")
        world.settle()
        world.say(30, KIB, "b")
        world.read(ann)
        world.say(1, room="a")
        assert seqs(ann, "a") == [5]
        assert [lagged.room for lagged in ann.got(Lagged)] == ["b"]

    def test_one_who_goes_while_behind_leaves_nothing_behind(self, world: World) -> None:
        ann = world.join("ann")
        ann.stop_reading()
        world.say(50, KIB)
        ann.disconnect()
        world.settle()
        assert_nothing_is_left(world.chat.hub, world.chat.clock)

    def test_a_person_who_asks_while_behind_is_answered(self, world: World) -> None:
        ann = world.join("ann")
        ann.stop_reading()
        world.say(50, KIB)
        ann.forget()
        ann.ask(Ping(1), History("", 0, 2), Ping(2))
        world.read(ann)
        assert ann.got(Pong) == [Pong(1), Pong(2)]
        assert sorted(seqs(ann)) == sorted([*range(1, 51), 49, 50])

    def test_a_message_larger_than_the_whole_queue_comes_all_the_same(self, world_with: Worlds) -> None:
        limits = Limits(
            max_queued_bytes=4_096, max_text_bytes=1_000, max_room_chars=1_000, max_nick_chars=1_000
        )
        world = world_with(limits)
        room, nick = "🍵" * 1_000, "é" * 1_000
        ann = world.join("ann", room)
        ann.stop_reading()
        for _ in range(3):
            world.chat.hub.say(room, nick, "x")
            world.settle_log()
        assert len(encode_frame(Chat(room, 1, 0, nick, "x"))) > limits.max_queued_bytes
        world.read(ann)
        assert seqs(ann, room) == [1, 2, 3]


class TestOwnWords:
    """Nobody is sent their own, however much is replayed."""

    def test_said_while_behind(self, world: World) -> None:
        ann, bob = world.join("ann"), world.join("bob")
        ann.stop_reading()
        world.say(40, KIB)
        ann.say("mine", id=7)
        world.settle_log()
        world.say(3)
        world.read(ann)
        assert seqs(ann) == [*range(1, 41), 42, 43, 44]
        assert ann.got(Ack)[0].seq == 41
        assert ("ann", "mine") in bob.chats

    def test_said_before_falling_behind_among_what_is_dropped(self, world: World) -> None:
        ann = world.join("ann")
        ann.stop_reading()
        for _ in range(3):
            world.say(2)
            ann.say("mine")
            world.settle_log()
        world.say(40, KIB)
        world.read(ann)
        assert seqs(ann) == [1, 2, 4, 5, 7, 8, *range(10, 50)]

    def test_passed_in_a_replay_that_has_to_begin_again(self, world: World) -> None:
        ann = world.join("ann", "a")
        ann.join("b")
        world.settle()
        ann.stop_reading()
        world.say(20, KIB, "a")
        ann.say("mine", "a")
        world.settle_log()
        world.say(20, KIB, "a")
        for _ in range(10):
            ann.read()
            ann.stop_reading()
            world.settle()
            world.say(20, KIB, "b")
            world.settle()
        world.read(ann)
        assert seqs(ann, "a") == [*range(1, 21), *range(22, 42)]

    def test_passed_in_a_replay_that_is_over_but_still_waits(self, world: World) -> None:
        ann = world.join("ann", "a")
        for room in ("b", "c"):
            ann.join(room)
        world.settle()
        ann.stop_reading()
        world.say(3, room="a")
        world.say(20, KIB, "b")  # throws out what waits of a
        ann.say("mine", "a")
        world.settle_log()
        world.say(2, room="a")
        ann.read()
        ann.stop_reading()
        world.settle()  # a is live again, and its replay waits
        world.say(20, KIB, "c")  # throws it out again
        world.read(ann)
        assert seqs(ann, "a") == [1, 2, 3, 5, 6]

    def test_said_during_the_replay_of_a_join(self, world: World) -> None:
        world.say(40, KIB)
        ann = world.chat.connect()
        ann.stop_reading()
        ann.ask(Join("ann", "", 0, 0, 100), Say(7, "", "mine"))
        world.settle()
        world.say(2)
        world.read(ann)
        world.say(1)
        assert seqs(ann) == [*range(1, 41), *(seq for seq in range(41, 45) if seq != ann.got(Ack)[0].seq)]

    def test_what_is_remembered_for_it_is_bounded(self, world_with: Worlds) -> None:
        world = world_with(Limits(max_queued_bytes=16_384, max_room_log_messages=50))
        ann = world.join("ann")
        ann.stop_reading()
        world.say(1)
        for _ in range(500):
            ann.say("mine")
            world.settle_log()
            world.say(1)
        member = ann.session.members["lobby"]
        assert len(member.own) <= 60

    def test_who_reads_has_nothing_remembered_for_it(self, world: World) -> None:
        ann, bob = world.join("ann"), world.join("bob")
        for _ in range(50):
            ann.say("mine")
            bob.say("hers")
            world.settle_log()
        assert len(ann.session.members["lobby"].own) == 0


class TestAnnouncements:
    def test_those_that_do_not_fit_are_replaced_by_a_roster(self) -> None:
        world = World("at once", Limits(max_queued_bytes=4_096, max_text_bytes=500))
        ann = world.join("ann")
        ann.forget()
        ann.stop_reading()
        for number in range(200):
            world.join(f"n{number}x").disconnect()
        stays = world.join("stays")
        assert ann.queued_bytes <= 4_096
        world.read(ann)
        roster = ann.received[-1]
        assert roster == Roster("lobby", 0, 2, ("ann", "stays"))
        stays.disconnect()
        assert ann.received[-1] == Left("lobby", "stays", "closed")

    def test_they_make_room_by_dropping_what_can_be_replayed(self, world: World) -> None:
        ann = world.join("ann")
        ann.forget()
        ann.stop_reading()
        world.say(15, "x" * 1_050)
        for number in range(20):
            world.join(f"n{number}x")
        assert ann.queued_bytes <= SMALL.max_queued_bytes
        world.read(ann)
        assert [joined.nick for joined in ann.got(Joined)] == [f"n{number}x" for number in range(20)]
        assert ann.got(Roster) == []
        assert ann.got(Lagged) == [Lagged("lobby", 1, 15)]
        assert seqs(ann) == list(range(1, 16))

    def test_a_rename_that_does_not_fit_is_replaced_by_the_rosters_of_all_shared_rooms(self) -> None:
        limits = Limits(max_queued_bytes=4_096, max_text_bytes=500, rename_interval_s=0)
        world = World("at once", limits)
        ann, bob = world.join("ann", "a"), world.join("bob", "a")
        for person in (ann, bob):
            person.join("b")
        ann.forget()
        ann.stop_reading()
        for number in range(400):
            bob.rename(f"bob{number}")
        world.read(ann)
        assert len(ann.got(Renamed)) < 400
        assert {(roster.room, roster.nicks) for roster in ann.got(Roster)} == {
            ("a", ("ann", "bob399")),
            ("b", ("ann", "bob399")),
        }

    def test_the_roster_comes_after_what_was_said(self, world_with: Worlds) -> None:
        world = world_with(Limits(max_queued_bytes=4_096, max_text_bytes=500))
        ann = world.join("ann")
        ann.forget()
        ann.stop_reading()
        world.say(20, "x" * 400)
        for number in range(200):
            world.join(f"n{number}x").disconnect()
        world.read(ann)
        assert seqs(ann) == list(range(1, 21))
        assert [roster.last for roster in ann.got(Roster)] == [20]
        assert isinstance(ann.received[-1], Roster)

    def test_one_who_left_that_room_gets_no_roster(self) -> None:
        world = World("at once", Limits(max_queued_bytes=4_096, max_text_bytes=500))
        ann = world.join("ann")
        ann.join("tea")
        ann.forget()
        ann.stop_reading()
        for number in range(200):
            world.join(f"n{number}x").disconnect()
        ann.read()
        chat, hub = world.chat, world.chat.hub
        hub.leave(ann.session, "lobby", "kicked")
        chat.pass_time()
        assert ann.got(Roster) == []


# --- what was said long ago ---------------------------------------------------------------------------------


class TestHistory:
    @pytest.mark.parametrize("limit", [0, 1, 3, 9, 100])
    @pytest.mark.parametrize("before", [0, 1, 2, 5, 9, 10, 2**53 - 1])
    @pytest.mark.parametrize(("said", "keeps"), [(0, 5), (9, 100), (9, 4), (3, 0)])
    def test_it_is_the_newest_so_many_older_than_a_number(
        self, said: int, keeps: int, before: int, limit: int
    ) -> None:
        world = World("at once", Limits(max_room_log_messages=keeps))
        world.say(said)
        ann = world.join("ann")
        ann.forget()
        ann.history("", before, limit)
        older = [seq for seq in range(max(1, said - keeps + 1), said + 1) if not before or seq < before]
        expected = older[-limit:] if limit else []
        assert seqs(ann) == expected
        ends = (expected[0], expected[-1]) if expected else (0, 0)
        assert ann.received[-1] == End("lobby", *ends, 1 if len(older) > len(expected) else 0)

    def test_much_of_it_comes_in_slices(self, world: World) -> None:
        world.say(100, KIB)
        ann = world.join("ann")
        ann.stop_reading()
        ann.history("", 0, 100)
        world.settle()
        assert 0 < ann.queued_bytes <= SMALL.max_queued_bytes / 2
        world.read(ann)
        assert seqs(ann) == list(range(1, 101))
        assert ann.got(End)[-1] == End("lobby", 1, 100, 0)

    def test_many_short_messages_come_in_slices_too(self) -> None:
        world = World("at once", Limits())
        world.say(5_000)
        ann = world.join("ann")
        ann.stop_reading()
        ann.history("", 0, 5_000)
        assert ann.queued_bytes < 200_000
        world.read(ann)
        assert len(seqs(ann)) == 5_000

    def test_ones_own_are_among_it(self, world: World) -> None:
        ann = world.join("ann")
        ann.say("mine")
        world.settle()
        ann.history()
        world.settle()
        assert ann.chats == [("ann", "mine")]

    def test_what_is_live_comes_meanwhile_and_what_follows_waits(self, world: World) -> None:
        world.say(60, KIB)
        ann = world.join("ann")
        ann.forget()
        ann.stop_reading()
        ann.ask(History("", 0, 100), Ping(1))
        world.settle()
        world.say(1, "live")
        world.read(ann)
        assert sorted(seqs(ann)) == list(range(1, 62))
        assert [message.type for message in ann.received if not isinstance(message, Chat)] == ["end", "pong"]

    def test_what_goes_from_the_log_meanwhile_is_missing_and_said_so(self, world_with: Worlds) -> None:
        world = world_with(Limits(max_queued_bytes=16_384, max_room_log_messages=30))
        world.say(30, KIB)
        ann = world.join("ann", limit=0)
        ann.forget()
        ann.stop_reading()
        ann.history("", 0, 30)
        world.settle()
        queued = ann.queued_bytes
        assert queued
        for _ in range(28):
            world.chat.hub.log.append("lobby", "ann", "ann", 0, "x", ann.session.id)  # not sent to ann
            world.settle_log()
        world.read(ann)
        assert ann.got(End)[0].status == 1
        assert ann.is_connected
        assert seqs(ann) == sorted(seqs(ann))
        assert seqs(ann)[-1] == 30

    def test_all_of_it_goes_from_the_log_meanwhile(self, world_with: Worlds) -> None:
        world = world_with(Limits(max_queued_bytes=16_384, max_room_log_messages=30))
        world.say(30, KIB)
        ann = world.join("ann", limit=0)
        ann.forget()
        ann.stop_reading()
        ann.history("", 0, 30)
        world.settle()
        for _ in range(60):
            world.chat.hub.log.append("lobby", "ann", "ann", 0, "x", ann.session.id)
            world.settle_log()
        world.read(ann)
        end = ann.received[-1]
        assert isinstance(end, End)
        assert (end.first, end.last, end.status) == (1, len(seqs(ann)), 1)

    def test_nothing_of_it_is_dropped_when_the_queue_is_full(self, world: World) -> None:
        world.say(5, KIB)
        ann = world.join("ann")
        ann.forget()
        ann.stop_reading()
        ann.history("", 0, 5)
        world.settle()
        world.say(50, KIB)
        world.read(ann)
        assert seqs(ann)[:3] == [1, 2, 3]
        assert sorted(seqs(ann)) == [*range(1, 56)]


# --- a log that answers later -------------------------------------------------------------------------------


class TestLater:
    """What only a log that answers later can show."""

    def setup_method(self) -> None:
        self.log = AsyncLog(MemoryLog(SMALL, lambda: 0.0))
        self.chat = ChatInMemory(SMALL, self.log)

    def say(self, count: int, text: str = "x") -> None:
        for _ in range(count):
            self.chat.hub.say("", "bot", text)
        while self.log.appends:
            self.log.step(self.log.appends)

    def test_the_ack_comes_after_everyone_has_it(self) -> None:
        ann, bob = self.chat.join("ann"), join(Restless, self.chat, "bob")
        acks_then: list[int] = []
        bob.on_publish = lambda message: acks_then.append(len(ann.got(Ack)))
        ann.say("hi", id=7)
        assert bob.chats == []
        self.log.step(self.log.appends)  # kept, and told
        assert bob.chats == [("ann", "hi")]
        assert ann.got(Ack) == []
        self.log.step(self.log.appends)
        assert ann.got(Ack) == [Ack(7, 1, 0)]
        assert acks_then == [0]

    def test_acks_come_in_the_order_of_what_was_said(self) -> None:
        ann = self.chat.join("ann")
        for id in (5, 6, 7):
            ann.say("hi", id=id)
        self.log.settle()
        assert [(ack.id, ack.seq) for ack in ann.got(Ack)] == [(5, 1), (6, 2), (7, 3)]

    def test_other_requests_do_not_wait_for_it(self) -> None:
        ann = self.chat.join("ann")
        ann.ask(Say(7, "", "hi"), Ping(1))
        assert ann.received[-1] == Pong(1)

    def test_one_person_keeps_only_so_much_of_the_log_busy(self) -> None:
        ann, bob = self.chat.join("ann"), self.chat.join("bob")
        for _ in range(20):
            ann.ask(*(Say(0, "", "hi") for _ in range(100)))
            self.chat.pass_time()
        assert len(self.log.appends) == MAX_UNANSWERED
        assert not ann.is_read_from
        bob.say("may I?")
        assert len(self.log.appends) == MAX_UNANSWERED + 1
        while self.log.owes:
            self.log.settle()
            self.chat.pass_time()
        assert len(bob.chats) == 2_000
        assert ann.is_read_from

    def test_one_who_is_gone_before_it_is_kept_has_said_it(self) -> None:
        ann, bob = self.chat.join("ann"), self.chat.join("bob")
        ann.say("hi", id=7)
        ann.disconnect()
        ann.forget()
        self.log.settle()
        assert bob.chats == [("ann", "hi")]
        assert ann.received == []

    def test_one_who_left_the_room_before_it_is_kept_gets_the_ack(self) -> None:
        ann, bob = self.chat.join("ann"), self.chat.join("bob")
        ann.say("hi", id=7)
        ann.leave("lobby")
        self.log.settle()
        assert bob.chats == [("ann", "hi")]
        assert [ack.seq for ack in ann.got(Ack)] == [1]

    def test_one_who_left_and_came_back_before_it_is_kept_does_not_get_it_back(self) -> None:
        ann, bob = self.chat.join("ann"), self.chat.join("bob")
        ann.say("hi", id=7)
        ann.leave("lobby")
        ann.join("lobby", limit=10)
        self.log.settle()
        bob.say("ho")
        self.log.settle()
        assert ann.chats == [("bob", "ho")]

    @pytest.mark.parametrize("steps", range(9))
    def test_between_the_replay_and_what_is_live_nothing_is_lost_or_doubled(self, steps: int) -> None:
        self.say(3)
        bob = self.chat.join("bob")
        ann = self.chat.join("ann", limit=10)
        for _ in range(4):
            bob.say("live")
        # Reads and appends overtake each other in every way.
        for number in range(16):
            waiting = self.log.reads if number < steps or not self.log.appends else self.log.appends
            if waiting:
                self.log.step(waiting)
        self.log.settle()
        assert outline(ann) == ["welcome", "roster", (1, 3), "end", (4, 7)]

    def test_one_read_is_under_way_at_a_time(self) -> None:
        self.say(60, KIB)
        ann = self.chat.join("ann", limit=100)
        for _ in range(5):
            ann.session.drained()
            self.chat.pass_time()
            assert len(self.log.reads) == 1

    def test_one_who_does_not_read_is_not_read_for_again_and_again(self) -> None:
        self.say(60, KIB)
        ann = self.chat.connect()
        ann.stop_reading()
        ann.ask(Join("ann", "", 0, 0, 100))
        self.log.settle()
        self.chat.pass_time()
        assert not self.log.owes
        ann.read()
        self.log.settle()
        self.chat.pass_time()
        self.log.settle()
        assert seqs(ann)

    @pytest.mark.parametrize("kind", ["raises", "fails", "fails later"])
    @pytest.mark.parametrize("question", ["join", "lag", "history"])
    def test_a_log_that_cannot_be_read_ends_the_session_cleanly(
        self, kind: str, question: str, failures: Failures
    ) -> None:
        class Unreadable(AsyncLog):
            def read(self, room: str, first: int, last: int, max_bytes: int) -> Deferred[list[Chat]]:
                if self.failing is not None and kind == "raises":
                    raise self.failing
                return super().read(room, first, last, max_bytes)

        log = Unreadable(MemoryLog(SMALL, lambda: 0.0), fired=kind != "fails later")
        chat = ChatInMemory(SMALL, log)
        ann, bob = chat.join("ann"), chat.join("bob")
        log.settle()
        if question == "lag":
            ann.stop_reading()
        for _ in range(40):
            chat.hub.say("", "bot", KIB)
            log.settle()
        log.failing = Broken()
        if question == "join":
            ann.leave("lobby")
            ann.join("", limit=10)
        elif question == "history":
            ann.history()
        ann.read()
        for _ in range(5):
            chat.pass_time()
            log.settle()
        assert ann.errors == [ErrorCode.TOO_SLOW]
        assert not ann.is_connected
        assert bob.got(Left)[-1] == Left("lobby", "ann", "error")
        assert failures.take() == ["Broken"]
        bob.disconnect()
        assert_nothing_is_left(chat.hub, chat.clock)

    def test_a_log_that_contradicts_itself_ends_the_session_instead_of_asking_for_ever(
        self, failures: Failures
    ) -> None:
        class Forgetful(MemoryLog):
            def read(self, room: str, first: int, last: int, max_bytes: int) -> list[Chat]:
                return []

        chat = ChatInMemory(log=Forgetful())
        chat.hub.say("", "bot", "x")
        ann = chat.join("ann", limit=1)
        assert not ann.is_connected
        assert failures.take() == ["RuntimeError"]

    def test_one_who_falls_further_behind_during_a_read_gets_everything_once(self) -> None:
        ann = self.chat.join("ann", "a")
        ann.join("lobby")
        ann.forget()
        ann.stop_reading()
        self.say(40, KIB)
        ann.read()
        ann.stop_reading()
        self.chat.pass_time()
        assert len(self.log.reads) == 1
        self.log.step(self.log.reads)  # found, and not yet given
        for _ in range(40):
            self.chat.hub.say("a", "bot", KIB)
            self.log.step(self.log.appends)
            self.log.step(self.log.appends)
        ann.read()
        for _ in range(50):
            self.log.settle()
            self.chat.pass_time()
        assert seqs(ann, "lobby") == list(range(1, 41))
        assert seqs(ann, "a") == list(range(1, 41))

    def test_what_waits_from_a_former_stay_does_not_move_the_replay_on(self) -> None:
        self.say(20)
        ann = self.chat.join("ann", "a")
        ann.join("lobby")
        ann.forget()
        ann.stop_reading()
        self.say(2)  # 21 and 22 wait
        ann.leave("lobby")
        ann.join("lobby", limit=22)
        assert self.log.reads  # and nothing of the replay is there yet
        for _ in range(30):
            self.chat.hub.say("a", "bot", KIB)
            self.log.step(self.log.appends)
            self.log.step(self.log.appends)
        ann.read()
        for _ in range(10):
            self.chat.pass_time()
            self.log.settle()
        assert seqs(ann) == list(range(1, 23))

    def test_what_waited_for_a_replay_goes_on_when_one_is_thrown_out_of_it(self) -> None:
        self.say(3)
        ann = self.chat.connect()
        ann.ask(Join("ann", "", 0, 0, 3), Ping(1))
        self.chat.hub.leave(ann.session, "lobby", "kicked")
        self.chat.pass_time()
        assert ann.got(Pong) == [Pong(1)]  # the log has still not answered

    def test_one_who_leaves_during_a_read_gets_nothing_of_it(self) -> None:
        self.say(3)
        op = self.chat
        ann = self.chat.join("ann", limit=3)
        op.hub.leave(ann.session, "lobby", "kicked")
        ann.forget()
        ann.ask(Ping(1))
        self.log.settle()
        self.chat.pass_time()
        assert ann.received == [Pong(1)]

    def test_one_who_leaves_during_a_read_and_comes_back_gets_what_they_ask_for_then(self) -> None:
        self.say(5)
        ann = self.chat.join("ann", limit=5)
        self.chat.hub.leave(ann.session, "lobby", "kicked")
        ann.forget()
        ann.join("lobby", limit=2)
        self.chat.pass_time()
        self.log.settle()
        self.chat.pass_time()
        assert outline(ann) == ["roster", (4, 5), "end"]


class TestOutletsThatAct:
    """The own outlet does something in the midst of a replay."""

    @pytest.mark.parametrize("act", ["end", "leave", "leave and come back"])
    @pytest.mark.parametrize("kind", [Roster, Lagged, End])
    @pytest.mark.parametrize("asked", ["join", "lag", "history"])
    def test_one_who_is_out_at_the_moment_of_an_answer(
        self, world: World, asked: str, kind: type[Message], act: str
    ) -> None:
        world.say(10)
        ann = join(Restless, world.chat, "ann", "elsewhere")
        if asked != "join":
            ann.join("")
            world.settle()
        ann.forget()
        acted: list[int] = []

        def be_out(message: Message) -> None:
            if isinstance(message, kind) and not acted:
                acted.append(1)
                if act == "end":
                    ann.disconnect()
                else:
                    world.chat.hub.leave(ann.session, "lobby", "kicked")
                if act == "leave and come back":
                    ann.join("lobby", limit=2)

        ann.on_send = be_out
        if asked == "join":
            ann.join("lobby", limit=5)
        elif asked == "history":
            ann.history("", 0, 5)
        else:
            ann.stop_reading()
            world.say(40, KIB)
        ann.ask(Ping(1))
        world.read(ann)
        if act != "end":
            assert ann.got(Pong) == [Pong(1)]
        if act == "leave and come back" and acted:
            newest = world.chat.hub.log.bounds("lobby")[1]
            assert ann.got(End)[-1] == End("lobby", newest - 1, newest, 1)
            world.say(1)
            assert seqs(ann)[-1] == newest + 1
        ann.disconnect()
        world.settle()
        assert_nothing_is_left(world.chat.hub, world.chat.clock)

    @pytest.mark.parametrize("kind", ["at once", "fired", "later"])
    @pytest.mark.parametrize("act", ["end", "leave", "lag", "ask"])
    def test_a_replay_stops_or_goes_on_as_it_should(self, kind: str, act: str) -> None:
        world = World(kind, SMALL)
        world.say(10)
        ann, bob = Restless(world.chat), world.join("bob")
        acted: list[int] = []

        def at_the_third(message: Message) -> None:
            if isinstance(message, Chat) and message.seq == 3 and not acted:
                acted.append(1)
                if act == "end":
                    ann.disconnect()
                elif act == "leave":
                    world.chat.hub.leave(ann.session, "lobby", "kicked")
                elif act == "lag":
                    ann.stop_reading()
                    for _ in range(30):
                        bob.say(KIB)
                else:
                    ann.ask(Ping(1))

        ann.on_publish = at_the_third
        ann.ask(Join("ann", "", 0, 0, 10))
        world.settle()
        world.read(ann)
        if act in ("end", "leave"):
            assert seqs(ann) == [1, 2, 3]
            assert ann.got(End) == []
        elif act == "lag":
            assert seqs(ann) == list(range(1, 41))
        else:
            assert outline(ann) == ["welcome", "roster", (1, 10), "end", "pong"]

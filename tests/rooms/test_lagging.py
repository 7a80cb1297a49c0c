"""What a slow reader missed comes when they read again; protocol, 5.

Everything here is tried on a log that answers at once, on one whose Deferreds have fired already, and on one
that answers when the test says so.
"""

from __future__ import annotations

import pytest
from rooms.outlets import assert_nothing_is_left
from rooms.worlds import KIB, SMALL, World, Worlds, outline, seqs

from chatproto.limits import Limits
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
    Ping,
    Pong,
    Renamed,
    Roster,
    Say,
)


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

    def test_one_for_whom_too_much_waits_in_all_misses_nothing_and_is_counted_by_that_limit(
        self, world: World
    ) -> None:
        ann = world.join("ann")
        ann.forget()
        ann.stop_reading()
        world.say(3)
        ann.session.shed()
        assert ann.queued_bytes == 0
        world.say(1)
        world.read(ann)
        assert outline(ann) == ["lagged", (1, 4)]
        limited_by = world.chat.hub.record.limited_by
        assert (limited_by["max_total_queued_bytes"], limited_by["max_queued_bytes"]) == (1, 0)

    def test_who_has_all_that_was_promised_is_told_of_what_is_lost_after_it(self, world_with: Worlds) -> None:
        world = world_with(Limits(max_queued_bytes=16_384, max_messages_per_s=0, max_room_log_messages=5))
        ann = world.join("ann")
        ann.stop_reading()
        world.say(30, KIB)
        ann.forget()
        ann.read()
        ann.stop_reading()
        world.settle()  # she is told of 26 to 30, and these wait
        world.say(20)
        world.read(ann)
        world.say(1)
        assert outline(ann)[-2:] == ["lagged", (46, 51)]
        assert [(lagged.first, lagged.last) for lagged in ann.got(Lagged)][-1] == (46, 50)

    def test_how_long_it_lasts_is_known_until_they_have_everything(self, world: World) -> None:
        ann = world.join("ann")
        ann.stop_reading()
        world.say(40, KIB)
        ann.read()
        ann.stop_reading()
        world.settle()  # what says so waits, and so does a part of it
        world.chat.pass_time(3.0)
        assert ann.session.lag_s == 3.0
        world.read(ann)
        assert ann.session.lag_s == 0.0

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

    def test_several_said_one_after_the_other_while_behind(self, world: World) -> None:
        ann = world.join("ann")
        ann.stop_reading()
        world.say(40, KIB)
        for _ in range(4):
            ann.say("mine")
            world.settle_log()
        world.say(1)
        world.read(ann)
        assert seqs(ann) == [*range(1, 41), 45]

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
        assert member.own is not None
        assert len(member.own) <= 60

    def test_who_reads_has_nothing_remembered_for_it(self, world: World) -> None:
        ann, bob = world.join("ann"), world.join("bob")
        for _ in range(50):
            ann.say("mine")
            bob.say("hers")
            world.settle_log()
        assert ann.session.members["lobby"].own is None


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

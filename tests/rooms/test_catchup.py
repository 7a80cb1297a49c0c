"""Replays: what a join asks for, and people who do something in the midst of one; protocol, 3.2.

Everything here is tried on a log that answers at once, on one whose Deferreds have fired already, and on one
that answers when the test says so.
"""

from __future__ import annotations

import pytest
from rooms.outlets import Restless, assert_nothing_is_left, join
from rooms.worlds import KIB, SMALL, World, Worlds, outline, seqs

from chatproto.limits import Limits
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Ack, Chat, End, Join, Lagged, Left, Message, Ping, Pong, Roster


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

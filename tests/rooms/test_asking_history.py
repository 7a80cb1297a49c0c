"""What was said long ago, for whoever asks for it; protocol, 3.2.

Everything here is tried on a log that answers at once, on one whose Deferreds have fired already, and on one
that answers when the test says so.
"""

from __future__ import annotations

import pytest
from rooms.worlds import KIB, SMALL, World, Worlds, seqs

from chatproto.limits import Limits
from chatproto.wire.messages import Chat, End, History, Ping


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

"""The send queue: bounded, shared, written once for each turn, exact whatever the socket takes."""

from __future__ import annotations

import fcntl
import gc
import random
import signal
import socket
import sys
import termios
import time
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from net.loopback import PAIRS
from net.queues import ENTRY_BYTES, MOST_BYTES, STALL_S, Buffer, InMemory, OnSocket, Owner, as_is, of_topic
from twisted.internet.testing import StringTransport

from chatproto.net.sendqueue import SendQueue, Turn
from chatproto.wire.prepared import Prepared

QUEUES: dict[str, Callable[[], InMemory | OnSocket]] = {"transport": InMemory, "socket": OnSocket}


def cost_bytes(*sizes: int) -> int:
    """What entries of these sizes count."""
    return sum(sizes) + ENTRY_BYTES * len(sizes)


class TestOneWriteForEachTurn:
    """On a packet socket each write is a packet of its own, so they can be counted."""

    def test_nothing_is_written_before_the_turn_ends(self) -> None:
        with OnSocket(socket.SOCK_SEQPACKET) as on:
            on.queue.write(b"one")
            on.queue.publish(of_topic(b"two"))
            assert on.packets() == []
            assert len(on.queue) == 2

    def test_everything_of_a_turn_is_one_write(self) -> None:
        with OnSocket(socket.SOCK_SEQPACKET) as on:
            for i in range(500):
                on.queue.write(b"w%d " % i)
                on.queue.publish(of_topic(b"p%d " % i))
            on.end_turn()
            assert on.packets() == [b"".join(b"w%d p%d " % (i, i) for i in range(500))]
            assert on.transport.pieces == []

    def test_two_turns_are_two_writes(self) -> None:
        with OnSocket(socket.SOCK_SEQPACKET) as on:
            on.queue.write(b"one")
            on.end_turn()
            on.queue.write(b"two")
            on.end_turn()
            assert on.packets() == [b"one", b"two"]

    def test_more_than_the_kernel_takes_at_once_needs_few_writes(self) -> None:
        with OnSocket(socket.SOCK_SEQPACKET) as on:
            for _ in range(1024 * 2 + 1):
                on.queue.write(b"x")
            on.end_turn()
            assert [len(packet) for packet in on.packets()] == [1024, 1024, 1]

    def test_each_queue_of_a_turn_gets_one_write(self) -> None:
        with OnSocket(socket.SOCK_SEQPACKET) as on:
            ends = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(5)]
            queues = [
                SendQueue(StringTransport(), Owner(), on.turn, as_is, MOST_BYTES, ours) for ours, _ in ends
            ]
            said = [Prepared(b"a"), Prepared(b"b")]
            for prepared in said:
                for queue in queues:
                    queue.publish(prepared)
            assert len(on.clock.getDelayedCalls()) == 1
            on.end_turn()
            for ours, theirs in ends:
                assert theirs.recv(100) == b"ab"
                theirs.setblocking(False)
                with pytest.raises(BlockingIOError):
                    theirs.recv(100)
                ours.close()
                theirs.close()

    def test_a_turn_with_nothing_to_do_costs_nothing(self) -> None:
        with OnSocket(socket.SOCK_SEQPACKET) as on:
            on.queue.write(b"one")
            on.end_turn()
            assert on.clock.getDelayedCalls() == []

    def test_a_transport_gets_one_write_too(self) -> None:
        buffer = Buffer()
        memory = InMemory(buffer)
        for i in range(500):
            memory.queue.write(b"%d " % i)
        assert buffer.pieces == []
        memory.end_turn()
        assert buffer.pieces == [b"".join(b"%d " % i for i in range(500))]

    def test_a_transport_gets_large_amounts_in_chunks_and_what_is_alone_as_it_is(self) -> None:
        buffer = Buffer(enough_bytes=10**9)
        memory = InMemory(buffer)
        large = b"x" * 200_000
        memory.queue.write(large)
        for _ in range(100):
            memory.queue.write(b"y" * 1_000)
        memory.end_turn()
        assert buffer.pieces[0] is large
        assert b"".join(buffer.pieces[1:]) == b"y" * 100_000
        assert all(len(piece) <= 65_536 + 1_000 for piece in buffer.pieces[1:])
        assert len(buffer.pieces) == 3


@pytest.mark.parametrize("queues", QUEUES.values(), ids=QUEUES)
class TestBound:
    """Past `max_queued_bytes` what many get is refused, what one gets is not."""

    @staticmethod
    def full(queues: Callable[..., Any], most_bytes: int = 10_000) -> Any:
        """A queue whose transport takes nothing any more."""
        ways = queues(max_queued_bytes=most_bytes)
        ways.queue.pauseProducing()
        return ways

    def test_publish_refuses_what_does_not_fit(self, queues: Callable[..., Any]) -> None:
        queue = self.full(queues).queue
        fit = 10_000 // cost_bytes(936)
        assert [queue.publish(of_topic(b"x" * 936)) for _ in range(fit + 3)] == [True] * fit + [False] * 3
        assert len(queue) == fit
        assert queue.queued_bytes == 10_000

    def test_the_bound_itself_is_allowed_and_one_byte_more_is_not(self, queues: Callable[..., Any]) -> None:
        queue = self.full(queues).queue
        assert not queue.publish(of_topic(b"x" * (10_000 - ENTRY_BYTES + 1)))
        assert queue.queued_bytes == len(queue) == 0
        assert queue.publish(of_topic(b"x" * (10_000 - ENTRY_BYTES)))
        assert queue.queued_bytes == 10_000

    def test_small_messages_count_what_they_cost_beside_their_bytes(self, queues: Callable[..., Any]) -> None:
        queue = self.full(queues).queue
        count = 0
        while queue.publish(of_topic(b"x")):
            count += 1
        assert count == 10_000 // cost_bytes(1)

    def test_write_is_never_refused(self, queues: Callable[..., Any]) -> None:
        queue = self.full(queues).queue
        for _ in range(100):
            queue.write(b"x" * 1_000)
        assert len(queue) == 100
        assert queue.queued_bytes == cost_bytes(*[1_000] * 100)
        assert not queue.publish(of_topic(b"x"))

    def test_a_burst_is_offered_to_what_takes_bytes_before_it_is_refused(
        self, queues: Callable[..., Any]
    ) -> None:
        ways = queues(max_queued_bytes=10_000)
        assert all(ways.queue.publish(of_topic(b"%05d" % i * 20)) for i in range(1_000))
        assert ways.queue.queued_bytes <= 10_000
        ways.end_turn()
        received = ways.drain() if isinstance(ways, OnSocket) else ways.sent()
        assert received == b"".join(b"%05d" % i * 20 for i in range(1_000))

    def test_what_is_larger_than_the_bound_is_refused_with_nothing_queued(
        self, queues: Callable[..., Any]
    ) -> None:
        ways = queues(max_queued_bytes=10_000)
        assert not ways.queue.publish(of_topic(b"x" * 10_000))
        assert ways.queue.queued_bytes == len(ways.queue) == 0

    def test_empty_bytes_are_taken_and_not_queued(self, queues: Callable[..., Any]) -> None:
        queue = self.full(queues).queue
        queue.write(b"")
        assert queue.publish(of_topic(b""))
        assert len(queue) == queue.queued_bytes == 0


@pytest.mark.parametrize("queues", QUEUES.values(), ids=QUEUES)
class TestDrop:
    @staticmethod
    def waiting(queues: Callable[..., Any]) -> Any:
        ways = queues()
        ways.queue.pauseProducing()
        return ways

    def test_what_has_a_topic_is_dropped_and_the_rest_goes_out_in_order(
        self, queues: Callable[..., Any]
    ) -> None:
        ways = self.waiting(queues)
        for i in range(1, 11):
            ways.queue.publish(of_topic(b"topic%d " % i, "lobby", i))
            ways.queue.write(b"own%d " % i)
            ways.queue.publish(Prepared(b"all%d " % i))
        ways.queue.drop()
        assert len(ways.queue) == 20
        ways.queue.resumeProducing()
        received = ways.drain() if isinstance(ways, OnSocket) else ways.sent()
        assert received == b"".join(b"own%d all%d " % (i, i) for i in range(1, 11))

    def test_gives_the_first_position_of_each_topic(self, queues: Callable[..., Any]) -> None:
        queue = self.waiting(queues).queue
        for topic, position in [("a", 7), ("b", 2), ("a", 8), ("b", 3), ("c", 2**53 - 1), ("a", 9)]:
            queue.publish(of_topic(b"x", topic, position))
        assert queue.drop() == {"a": 7, "b": 2, "c": 2**53 - 1}
        assert queue.drop() == {}

    def test_topics_that_are_equal_are_one(self, queues: Callable[..., Any]) -> None:
        queue = self.waiting(queues).queue
        for position in (5, 6):
            queue.publish(of_topic(b"x", "".join(["lob", "by"]), position))
        assert queue.drop() == {"lobby": 5}

    def test_what_is_dropped_counts_no_more(self, queues: Callable[..., Any]) -> None:
        queue = self.waiting(queues).queue
        queue.write(b"x" * 100)
        for i in range(100):
            queue.publish(of_topic(b"y" * 50, "lobby", i))
        queue.drop()
        assert queue.queued_bytes == cost_bytes(100)

    def test_an_empty_queue_drops_nothing(self, queues: Callable[..., Any]) -> None:
        assert queues().queue.drop() == {}

    def test_a_queue_goes_on_after_it(self, queues: Callable[..., Any]) -> None:
        ways = self.waiting(queues)
        for i in range(100):
            ways.queue.publish(of_topic(b"dropped", "lobby", i))
        ways.queue.drop()
        for i in range(100):
            ways.queue.publish(of_topic(b"%d " % i, "lobby", i))
        ways.queue.resumeProducing()
        received = ways.drain() if isinstance(ways, OnSocket) else ways.sent()
        assert received == b"".join(b"%d " % i for i in range(100))

    def test_a_topic_that_cannot_be_hashed_raises_and_harms_nothing(self, queues: Callable[..., Any]) -> None:
        ways = self.waiting(queues)
        ways.queue.publish(of_topic(b"one ", "lobby", 1))
        ways.queue.publish(of_topic(b"two ", ["no", "hash"], 1))
        ways.queue.write(b"three ")
        for _ in range(3):
            with pytest.raises(TypeError):
                ways.queue.drop()
        assert ways.queue.queued_bytes == cost_bytes(4, 4, 6)
        ways.queue.resumeProducing()
        received = ways.drain() if isinstance(ways, OnSocket) else ways.sent()
        assert received == b"one two three "


class TestDropOfWhatHasBegun:
    def test_a_message_of_which_something_is_sent_stays(self) -> None:
        with OnSocket(max_queued_bytes=10**7) as on:
            begun = bytes(range(256)) * 8_192
            on.queue.publish(of_topic(begun, "lobby", 1))
            on.end_turn()
            assert on.queue.blocked
            on.queue.publish(of_topic(b"dropped", "lobby", 2))
            on.queue.write(b"own")
            assert on.queue.drop() == {"lobby": 2}
            assert on.drain() == begun + b"own"

    def test_one_of_which_the_last_byte_is_given_away_has_gone(self) -> None:
        with OnSocket() as on:
            on.block()
            while len(on.queue):
                on.read()
                on.transport.become_writable()
            on.queue.publish(of_topic(b"dropped", "lobby", 2))
            if on.queue.blocked:
                assert on.queue.drop() == {"lobby": 2}


class TestNotify:
    @pytest.mark.parametrize("queues", QUEUES.values(), ids=QUEUES)
    def test_an_empty_queue_tells_in_the_next_turn_and_once(self, queues: Callable[..., Any]) -> None:
        ways = queues()
        ways.queue.notify()
        ways.queue.notify()
        assert ways.owner.told == []
        ways.end_turn()
        ways.end_turn()
        assert ways.owner.told == ["drained"]

    @pytest.mark.parametrize("queues", QUEUES.values(), ids=QUEUES)
    def test_tells_once_everything_has_gone(self, queues: Callable[..., Any]) -> None:
        ways = queues()
        ways.queue.write(b"one")
        ways.queue.notify()
        assert ways.owner.told == []
        ways.end_turn()
        assert ways.owner.told == ["drained"]

    @pytest.mark.parametrize("queues", QUEUES.values(), ids=QUEUES)
    def test_nobody_is_told_who_did_not_ask(self, queues: Callable[..., Any]) -> None:
        ways = queues()
        ways.queue.write(b"one")
        ways.end_turn()
        assert ways.owner.told == []

    def test_a_blocked_queue_tells_when_the_last_byte_has_left_the_transport(self) -> None:
        with OnSocket() as on:
            on.block()
            on.queue.notify()
            while on.transport.unsent:
                assert on.owner.told == []
                on.read()
                on.transport.become_writable()
            assert on.owner.told == ["drained"]
            assert len(on.queue) == 0

    def test_a_full_transport_with_an_empty_queue_is_waited_for(self) -> None:
        memory = InMemory(Buffer(10))
        memory.queue.write(b"x" * 100)
        memory.end_turn()
        assert memory.queue.blocked
        assert len(memory.queue) == 0
        memory.queue.notify()
        memory.end_turn()
        assert memory.owner.told == []
        assert isinstance(memory.transport, Buffer)
        memory.transport.become_writable()
        assert memory.owner.told == ["drained"]

    def test_what_the_owner_writes_then_goes_out_in_the_next_turn(self) -> None:
        with OnSocket(socket.SOCK_SEQPACKET) as on:
            on.owner.then = lambda: on.queue.write(b"two")
            on.queue.write(b"one")
            on.queue.notify()
            on.end_turn()
            on.end_turn()
            assert on.packets() == [b"one", b"two"]

    def test_an_owner_that_asks_again_is_told_again_and_others_get_their_turn(self) -> None:
        with OnSocket() as on:
            on.owner.then = on.queue.notify
            on.queue.notify()
            for count in range(1, 4):
                on.end_turn()
                assert on.owner.told == ["drained"] * count

    def test_the_owner_is_told_before_something_new_is_offered(self) -> None:
        with OnSocket() as on:
            data = on.block()
            on.owner.then = lambda: on.queue.write(b"more")
            on.queue.notify()
            assert on.drain() == data + b"more"
            assert on.owner.told == ["drained"]


@pytest.mark.parametrize("queues", QUEUES.values(), ids=QUEUES)
class TestClose:
    def test_everything_goes_out_before_the_owner_is_told(self, queues: Callable[..., Any]) -> None:
        ways = queues()
        ways.queue.write(b"last words")
        ways.queue.close()
        assert ways.owner.told == []
        ways.end_turn()
        assert ways.owner.told == ["flushed"]
        assert (ways.read() if isinstance(ways, OnSocket) else ways.sent()) == b"last words"

    def test_an_empty_queue_tells_in_the_next_turn(self, queues: Callable[..., Any]) -> None:
        ways = queues()
        ways.queue.close()
        assert ways.owner.told == []
        ways.end_turn()
        assert ways.owner.told == ["flushed"]

    def test_the_transport_has_no_producer_any_more_when_the_owner_is_told(
        self, queues: Callable[..., Any]
    ) -> None:
        """A transport with a pull or a paused producer would not close."""
        ways = queues()
        producers: list[object] = []
        ways.owner.then = lambda: producers.append(ways.transport.producer)
        ways.queue.close()
        ways.end_turn()
        assert producers == [None]

    def test_it_is_told_once_however_often_it_is_closed(self, queues: Callable[..., Any]) -> None:
        ways = queues()
        ways.queue.close()
        ways.queue.close()
        ways.end_turn()
        ways.queue.close()
        ways.end_turn()
        assert ways.owner.told == ["flushed"]

    def test_nothing_is_taken_any_more(self, queues: Callable[..., Any]) -> None:
        ways = queues()
        ways.queue.write(b"last words")
        ways.queue.close()
        ways.queue.write(b"too late")
        assert ways.queue.publish(of_topic(b"too late"))
        assert len(ways.queue) == 1
        ways.end_turn()
        ways.queue.write(b"too late")
        ways.end_turn()
        assert (ways.read() if isinstance(ways, OnSocket) else ways.sent()) == b"last words"

    def test_who_closes_hears_of_that_alone(self, queues: Callable[..., Any]) -> None:
        ways = queues()
        ways.queue.notify()
        ways.queue.close()
        ways.end_turn()
        ways.end_turn()
        assert ways.owner.told == ["flushed"]

    def test_topics_can_still_be_dropped(self, queues: Callable[..., Any]) -> None:
        ways = queues()
        ways.queue.publish(of_topic(b"dropped", "lobby", 3))
        ways.queue.write(b"last words")
        ways.queue.close()
        assert ways.queue.drop() == {"lobby": 3}
        ways.end_turn()
        assert (ways.read() if isinstance(ways, OnSocket) else ways.sent()) == b"last words"
        assert ways.owner.told == ["flushed"]


class TestCloseOfABlockedQueue:
    def test_on_a_socket_it_waits_for_the_last_byte(self) -> None:
        with OnSocket() as on:
            data = on.block()
            on.queue.write(b"last words")
            on.queue.close()
            on.end_turn()
            assert on.owner.told == []
            assert on.drain() == data + b"last words"
            assert on.owner.told == ["flushed"]
            assert on.turn.blocked == set()

    def test_on_a_transport_it_waits_until_that_is_empty(self) -> None:
        buffer = Buffer(10)
        memory = InMemory(buffer)
        memory.queue.write(b"x" * 100)
        memory.end_turn()
        memory.queue.write(b"last words")
        memory.queue.close()
        memory.end_turn()
        assert memory.owner.told == []
        buffer.become_writable()
        memory.end_turn()
        assert memory.owner.told == ["flushed"]
        assert bytes(buffer.sent + buffer.unsent) == b"x" * 100 + b"last words"


@pytest.mark.parametrize("queues", QUEUES.values(), ids=QUEUES)
class TestDiscard:
    def test_nobody_is_told_and_nothing_is_sent(self, queues: Callable[..., Any]) -> None:
        for ask in ("notify", "close"):
            ways = queues()
            ways.queue.write(b"never sent")
            getattr(ways.queue, ask)()
            ways.queue.discard()
            ways.end_turn()
            assert ways.owner.told == []
            assert len(ways.queue) == ways.queue.queued_bytes == 0
            assert (ways.read() if isinstance(ways, OnSocket) else ways.sent()) == b""

    def test_everything_is_harmless_after_it(self, queues: Callable[..., Any]) -> None:
        ways = queues()
        ways.queue.discard()
        ways.queue.discard()
        ways.queue.write(b"x")
        assert ways.queue.publish(of_topic(b"x"))
        assert ways.queue.drop() == {}
        ways.queue.notify()
        ways.queue.close()
        ways.queue.pauseProducing()
        ways.queue.resumeProducing()
        ways.queue.flush()
        ways.queue.stopProducing()
        ways.end_turn()
        assert ways.owner.told == []
        assert ways.turn.blocked == set()
        assert not ways.queue.direct

    def test_a_blocked_queue_is_looked_after_no_more(self, queues: Callable[..., Any]) -> None:
        ways = queues()
        ways.queue.pauseProducing()
        assert len(ways.turn.blocked) == 1
        ways.queue.discard()
        assert ways.turn.blocked == set()
        for _ in range(20):
            ways.clock.advance(STALL_S / 10)
        assert ways.owner.told == []
        assert ways.clock.getDelayedCalls() == []

    def test_an_owner_may_discard_when_it_is_told(self, queues: Callable[..., Any]) -> None:
        for ask in ("notify", "close"):
            ways = queues()
            ways.owner.then = ways.queue.discard
            ways.queue.write(b"x")
            getattr(ways.queue, ask)()
            ways.end_turn()
            assert len(ways.owner.told) == 1

    def test_a_transport_that_goes_within_a_write_takes_everything_with_it(
        self, queues: Callable[..., Any]
    ) -> None:
        class Gone(StringTransport):
            def write(self, data: bytes) -> None:
                super().write(data)
                assert self.producer is not None
                self.producer.stopProducing()

        memory = InMemory(Gone(), max_queued_bytes=10_000)
        for _ in range(5):
            assert memory.queue.publish(of_topic(b"x" * 3_000))
        assert len(memory.queue) == memory.queue.queued_bytes == 0
        memory.end_turn()
        assert memory.sent() == b"x" * 9_000


class TestStall:
    """A peer that takes nothing is found; one that takes something, however little, is not."""

    def test_a_peer_that_takes_nothing_is_reported_soon_after_the_time(self) -> None:
        with OnSocket() as on:
            on.block()
            for _ in range(10):
                on.clock.advance(STALL_S / 10)
            assert on.owner.told == []
            for _ in range(2):
                on.clock.advance(STALL_S / 10)
            assert set(on.owner.told) == {"stalled"}

    @pytest.mark.parametrize("kind", ["tcp", "unix"])
    def test_a_peer_that_reads_a_little_is_waited_for(self, kind: str) -> None:
        ours, theirs = PAIRS[kind](0 if kind == "unix" else 200_000, 4_096)
        with OnSocket() as on, ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            queue = SendQueue(StringTransport(), on.owner, on.turn, as_is, MOST_BYTES, ours)
            queue.write(b"x" * 2**20)
            on.end_turn()
            assert queue.blocked
            for _ in range(10):
                # The kernel does not tell of every byte: over TCP when the window has opened a good deal,
                # over a Unix socket when a buffer is empty.
                assert theirs.recv(20_000)
                _let_the_kernel_work()
                on.clock.advance(STALL_S / 3)
            assert on.owner.told == []
            for _ in range(5):
                on.clock.advance(STALL_S / 3)
            assert set(on.owner.told) == {"stalled"}

    def test_time_counts_from_when_it_was_blocked(self) -> None:
        with OnSocket() as on:
            on.block()
            on.clock.advance(STALL_S * 0.9)
            on.drain()
            on.clock.advance(STALL_S)
            on.block()
            for _ in range(9):
                on.clock.advance(STALL_S / 10)
            assert on.owner.told == []

    def test_nothing_is_looked_for_while_nothing_is_blocked(self) -> None:
        with OnSocket() as on:
            on.block()
            on.drain()
            on.clock.advance(STALL_S / 10)
            assert on.clock.getDelayedCalls() == []

    def test_a_queue_in_the_way_of_which_something_went_wrong_stops_no_other(self) -> None:
        def fail() -> None:
            raise RuntimeError("an owner's mistake")

        turn_of = InMemory()
        owners = [Owner() for _ in range(3)]
        queues = [SendQueue(StringTransport(), owner, turn_of.turn, as_is, MOST_BYTES) for owner in owners]
        for owner, queue in zip(owners, queues, strict=True):
            owner.then = fail
            queue.pauseProducing()
        for _ in range(15):
            turn_of.clock.advance(STALL_S / 10)
        assert all("stalled" in owner.told for owner in owners)

    def test_no_count_of_bytes_is_taken_for_not_having_looked(self) -> None:
        """The peer's progress is what was given away less what the kernel holds, and may be any number."""
        carrier, end = socket.socketpair()
        with carrier, end:
            carrier.send(b"x")
            held_bytes = int.from_bytes(fcntl.ioctl(carrier, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
            memory = InMemory()
            memory.clock.advance(1_000)
            transport = StringTransport()
            queue = SendQueue(transport, memory.owner, memory.turn, as_is, MOST_BYTES, None, carrier)
            queue.write(b"x" * (held_bytes - 1))
            memory.end_turn()
            queue.pauseProducing()
            memory.clock.advance(STALL_S / 10)
            assert memory.owner.told == []

    def test_a_paused_transport_counts_too(self) -> None:
        memory = InMemory()
        memory.queue.pauseProducing()
        for _ in range(12):
            memory.clock.advance(STALL_S / 10)
        assert "stalled" in memory.owner.told

    def test_a_sweep_looks_ten_times_in_that_time(self) -> None:
        with OnSocket() as on:
            on.block()
            (call,) = on.clock.getDelayedCalls()
            assert call.getTime() - on.clock.seconds() == pytest.approx(STALL_S / 10)


def _let_the_kernel_work() -> None:
    """An acknowledgement takes its way through the loopback, too."""
    time.sleep(0.001)


class TestADeadPeer:
    def test_a_broken_pipe_raises_nothing_and_keeps_nothing(self) -> None:
        with OnSocket() as on:
            on.end.close()
            on.queue.write(b"x" * 100)
            on.queue.publish(of_topic(b"y" * 100))
            on.end_turn()
            assert len(on.queue) == on.queue.queued_bytes == 0
            on.queue.write(b"x")
            assert on.queue.publish(of_topic(b"y"))
            assert len(on.queue) == 0

    def test_who_waits_for_it_is_told_all_the_same(self) -> None:
        with OnSocket() as on:
            on.end.close()
            on.queue.write(b"x")
            on.queue.notify()
            on.end_turn()
            on.queue.close()
            on.end_turn()
            assert on.owner.told == ["drained", "flushed"]

    def test_a_burst_past_the_bound_keeps_nothing_either(self) -> None:
        with OnSocket(max_queued_bytes=5_000) as on:
            on.end.close()
            for _ in range(10):
                assert on.queue.publish(of_topic(b"x" * 1_000))
            assert on.queue.queued_bytes == 0

    def test_no_signal_kills_the_process(self) -> None:
        before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        try:
            with OnSocket() as on:
                on.end.close()
                on.queue.write(b"x")
                on.end_turn()
        finally:
            signal.signal(signal.SIGPIPE, before)

    def test_a_descriptor_that_is_another_s_meanwhile_is_not_written_to(self) -> None:
        with OnSocket() as on:
            on.queue.write(b"for the first")
            number = on.plain.fileno()
            on.queue.stopProducing()
            on.plain.close()
            other, end = socket.socketpair()
            with other, end:
                assert other.fileno() == number
                on.queue.write(b"for the first")
                on.queue.publish(of_topic(b"for the first"))
                on.queue.resumeProducing()
                on.queue.flush()
                on.end_turn()
                end.setblocking(False)
                with pytest.raises(BlockingIOError):
                    end.recv(100)


class TestReferences:
    """Whatever way the bytes go, the last reference of the queue's is given back, and once."""

    @staticmethod
    def sent(on: OnSocket) -> None:
        on.end_turn()

    @staticmethod
    def sent_with_a_slow_reader(on: OnSocket) -> None:
        on.drain()

    @staticmethod
    def dropped(on: OnSocket) -> None:
        on.queue.pauseProducing()
        on.queue.drop()
        on.queue.resumeProducing()
        on.drain()

    @staticmethod
    def discarded(on: OnSocket) -> None:
        on.queue.discard()

    @staticmethod
    def broken(on: OnSocket) -> None:
        on.end.close()
        on.end_turn()

    @staticmethod
    def deallocated(on: OnSocket) -> None:
        on.transport.producer = None
        del on.queue
        on.end_turn()

    @staticmethod
    def deallocated_when_blocked(on: OnSocket) -> None:
        on.end_turn()
        on.transport.producer = None
        on.turn.blocked.clear()
        del on.queue

    @pytest.mark.parametrize(
        "way",
        [
            "sent",
            "sent_with_a_slow_reader",
            "dropped",
            "discarded",
            "broken",
            "deallocated",
            "deallocated_when_blocked",
        ],
    )
    def test_every_way_out_gives_back_every_reference(self, way: str) -> None:
        with OnSocket() as on:
            data = bytes(range(256)) * 3
            topic = "".join(["a room", " of its own"])
            before = sys.getrefcount(data), sys.getrefcount(topic)
            for i in range(30):
                on.queue.write(data)
                on.queue.publish(Prepared(data, topic, i))
                on.queue.publish(Prepared(data))
            on.transport.pieces.clear()
            assert sys.getrefcount(data) > before[0] + 80
            assert sys.getrefcount(topic) > before[1] + 29
            getattr(self, way)(on)
            on.transport.pieces.clear()
            assert (sys.getrefcount(data), sys.getrefcount(topic)) == before

    def test_queues_share_the_bytes(self) -> None:
        with OnSocket() as on:
            prepared = of_topic(b"x" * 10_000)
            data = prepared.encoded(as_is)
            before = sys.getrefcount(data)
            queues = [SendQueue(StringTransport(), on.owner, on.turn, as_is, MOST_BYTES) for _ in range(100)]
            for queue in queues:
                queue.publish(prepared)
            assert sys.getrefcount(data) == before + 100
            on.end_turn()
            assert sys.getrefcount(data) == before

    def test_a_cycle_of_owner_and_queue_is_collected(self) -> None:
        class Holder(Owner):
            queue: SendQueue

        def make() -> weakref.ref[Holder]:
            transport = StringTransport()
            owner = Holder()
            owner.queue = SendQueue(transport, owner, memory.turn, as_is, MOST_BYTES)
            owner.then = lambda: transport
            owner.queue.pauseProducing()
            memory.turn.blocked.clear()
            owner.queue.write(data)
            return weakref.ref(owner)

        memory = InMemory()
        data = b"".join([b"in the", b" cycle"])
        before = sys.getrefcount(data)
        found = make()
        gc.collect()
        assert found() is None
        assert sys.getrefcount(data) == before

    def test_after_discard_nothing_is_left_to_the_garbage_collector(self) -> None:
        class Holder(Owner):
            queue: SendQueue

        memory = InMemory()
        gc.collect()
        gc.disable()
        try:
            owner = Holder()
            owner.queue = SendQueue(StringTransport(), owner, memory.turn, as_is, MOST_BYTES)
            owner.queue.write(b"x")
            found = weakref.ref(owner)
            owner.queue.discard()
            memory.end_turn()
            del owner
            assert found() is None
        finally:
            gc.enable()


class TestMemory:
    @staticmethod
    def kept_bytes(act: Callable[[SendQueue], object], count: int = 200) -> float:
        """Allocated for each queue by *act*, and still there after it, beside one buffer of its transport."""
        memory = InMemory(Buffer(10**9))
        transports = [StringTransport() for _ in range(count)]
        queues = [SendQueue(transport, memory.owner, memory.turn, as_is, 10**9) for transport in transports]
        for queue in queues:
            queue.write(b"x")
        memory.end_turn()
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for queue in queues:
                act(queue)
                memory.end_turn()
            for transport in transports:
                transport.clear()
            gc.collect()
            return (tracemalloc.get_traced_memory()[0] - before) / count
        finally:
            tracemalloc.stop()

    def test_a_queue_that_was_full_keeps_nothing_of_it(self) -> None:
        def fill_and_send(queue: SendQueue) -> None:
            for _ in range(1_000):
                queue.write(b"x")

        assert self.kept_bytes(fill_and_send) < 150

    def test_a_queue_whose_messages_were_dropped_keeps_nothing_of_them(self) -> None:
        prepared = of_topic(b"x")

        def fill_and_drop(queue: SendQueue) -> None:
            queue.pauseProducing()
            for _ in range(1_000):
                queue.publish(prepared)
            queue.drop()

        assert self.kept_bytes(fill_and_drop) < 500

    def test_what_waits_costs_no_more_than_it_counts(self) -> None:
        """The bound holds for memory: a message of others' bytes costs at most its fixed share."""
        prepared = of_topic(b"x")

        def fill(queue: SendQueue) -> None:
            queue.pauseProducing()
            for _ in range(1_000):
                queue.publish(prepared)

        assert self.kept_bytes(fill, 20) <= 1_000 * ENTRY_BYTES

    def test_an_idle_queue_is_small(self) -> None:
        memory = InMemory()
        transports = [StringTransport() for _ in range(1_000)]
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            queues = [SendQueue(each, memory.owner, memory.turn, as_is, 10**9) for each in transports]
            for queue in queues:
                queue.write(b"x")
            memory.end_turn()
            each_bytes = (tracemalloc.get_traced_memory()[0] - before) / len(queues)
        finally:
            tracemalloc.stop()
        assert each_bytes < 450


class TestTransportsThatCallBack:
    """What a transport does within `write` is no other than what it does later."""

    class Eager(StringTransport):
        """Sends everything at once, and says so."""

        def write(self, data: bytes) -> None:
            super().write(data)
            if self.producer is not None:
                self.producer.pauseProducing()
                self.producer.resumeProducing()

    def test_one_that_pauses_and_resumes_within_a_write_gets_everything_in_order(self) -> None:
        memory = InMemory(self.Eager())
        entries = [b"%d " % i * 5_000 for i in range(100)]
        for entry in entries:
            memory.queue.write(entry)
        memory.queue.notify()
        memory.end_turn()
        assert memory.sent() == b"".join(entries)
        assert memory.owner.told == ["drained"]
        assert not memory.queue.blocked
        assert memory.turn.blocked == set()

    def test_closing_it_is_told_once(self) -> None:
        memory = InMemory(self.Eager())
        memory.queue.write(b"x" * 200_000)
        memory.queue.close()
        memory.end_turn()
        memory.end_turn()
        assert memory.owner.told == ["flushed"]

    def test_an_owner_that_writes_when_told_within_a_write_is_not_lost(self) -> None:
        memory = InMemory(self.Eager())
        memory.owner.then = lambda: memory.queue.write(b"more")
        memory.queue.write(b"x")
        memory.queue.notify()
        memory.end_turn()
        memory.end_turn()
        assert memory.sent() == b"xmore"

    def test_one_that_resumes_what_is_not_paused_is_harmless(self) -> None:
        memory = InMemory()
        memory.queue.write(b"x")
        memory.queue.resumeProducing()
        memory.queue.resumeProducing()
        memory.end_turn()
        assert memory.sent() == b"x"


class TestMisuse:
    def test_what_is_no_bytes_is_refused_at_once(self) -> None:
        queue: Any = InMemory().queue
        for wrong in ("text", bytearray(b"x"), memoryview(b"x"), 7):
            with pytest.raises(TypeError):
                queue.write(wrong)
        assert len(queue) == 0

    def test_none_is_refused_where_it_would_crash(self) -> None:
        memory = InMemory()
        queue: Any = memory.queue
        make: Any = SendQueue
        with pytest.raises(TypeError):
            queue.publish(None)
        with pytest.raises(TypeError):
            make(StringTransport(), Owner(), None, as_is, MOST_BYTES)

    def test_a_form_that_raises_raises_and_queues_nothing(self) -> None:
        def broken(source: bytes) -> bytes:
            raise ValueError(source)

        memory = InMemory()
        queue = SendQueue(StringTransport(), memory.owner, memory.turn, broken, MOST_BYTES)
        with pytest.raises(ValueError, match="x"):
            queue.publish(Prepared(b"x"))
        assert len(queue) == queue.queued_bytes == 0

    def test_a_transport_that_has_a_producer_is_refused(self) -> None:
        memory = InMemory()
        with pytest.raises(RuntimeError):
            SendQueue(memory.transport, memory.owner, memory.turn, as_is, MOST_BYTES)

    def test_a_transport_that_is_gone_already_makes_an_idle_queue(self) -> None:
        class Gone(StringTransport):
            def registerProducer(self, producer: Any, streaming: bool) -> None:
                producer.stopProducing()

        memory = InMemory(Gone())
        memory.queue.write(b"x")
        memory.queue.close()
        memory.end_turn()
        assert memory.owner.told == []
        assert memory.sent() == b""


class TestTurn:
    def test_a_transport_that_fails_stops_no_other_queue(self) -> None:
        class Failing(StringTransport):
            def write(self, data: bytes) -> None:
                raise RuntimeError("a transport's mistake")

        memory = InMemory()
        failing = SendQueue(Failing(), memory.owner, memory.turn, as_is, MOST_BYTES)
        others = [InMemory() for _ in range(2)]
        queues = [SendQueue(StringTransport(), Owner(), memory.turn, as_is, MOST_BYTES) for _ in others]
        for queue in (queues[0], failing, queues[1]):
            queue.write(b"x")
        memory.end_turn()
        assert [len(queue) for queue in queues] == [0, 0]

    def test_what_is_added_while_the_turn_ends_goes_out_in_this_turn_or_the_next(self) -> None:
        memory = InMemory()
        transports = [StringTransport() for _ in range(3)]
        queues = [SendQueue(each, memory.owner, memory.turn, as_is, MOST_BYTES) for each in transports]

        def write_to_all() -> None:
            for queue in queues:
                queue.write(b"2")

        memory.owner.then = write_to_all
        for queue in queues:
            queue.write(b"1")
        queues[1].notify()
        memory.end_turn()
        memory.end_turn()
        assert [each.value() for each in transports] == [b"12"] * 3
        assert memory.clock.getDelayedCalls() == []

    def test_one_turn_serves_another_clock_s_time(self) -> None:
        turn = Turn(InMemory().clock, 7.5)
        assert turn.stall_timeout_s == 7.5
        assert turn.blocked == set()


SIZES = st.one_of(
    st.integers(0, 3), st.integers(0, 400), st.sampled_from([16_383, 16_384, 16_385, 65_536, 200_000])
)


class TestAnySizes:
    @settings(deadline=None, max_examples=40)
    @given(
        st.lists(SIZES, max_size=20),
        st.integers(0, 3_000),
        st.sampled_from([0, 1, 4_608]),
        st.integers(0, 2**32),
    )
    def test_the_peer_gets_exactly_the_concatenation(
        self, sizes: list[int], ones: int, send_buffer_bytes: int, seed: int
    ) -> None:
        chance = random.Random(seed)
        entries = [chance.randbytes(size) for size in sizes] + [chance.randbytes(1) for _ in range(ones)]
        chance.shuffle(entries)
        with OnSocket(max_queued_bytes=10**9, send_buffer_bytes=send_buffer_bytes) as on:
            for entry in entries:
                if chance.random() < 0.5:
                    on.queue.write(entry)
                else:
                    assert on.queue.publish(of_topic(entry))
                if chance.random() < 0.01:
                    on.end_turn()
            on.queue.close()
            on.end_turn()
            assert on.drain() == b"".join(entries)
            assert on.owner.told == ["flushed"]
            assert on.queue.queued_bytes == len(on.queue) == 0

    def test_a_mebibyte_entry_among_small_ones_arrives_whole(self) -> None:
        large = random.Random(1).randbytes(2**20)
        with OnSocket(max_queued_bytes=10**9) as on:
            for i in range(3):
                on.queue.write(b"%d" % i)
                on.queue.publish(of_topic(large))
            on.end_turn()
            assert on.drain() == b"".join(b"%d" % i + large for i in range(3))

    def test_only_small_pieces_are_given_to_the_transport(self) -> None:
        with OnSocket() as on:
            on.block()
            on.drain()
            assert on.transport.pieces
            assert all(0 < len(piece) <= 16_384 for piece in on.transport.pieces)

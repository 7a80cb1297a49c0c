"""The send queue: bounded, shared, written once for each turn, exact whatever the socket takes."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from net.queues import ENTRY_BYTES, MOST_BYTES, STALL_S, Buffer, InMemory, OnSocket, Owner, as_is, of_topic
from twisted.internet.testing import StringTransport

from chatproto.net.sendqueue import SendQueue
from chatproto.wire.prepared import Prepared

Queues = Callable[..., Any]
QUEUES: dict[str, Queues] = {"transport": InMemory, "socket": OnSocket}
"""The tests that take `queues` are for both ways."""


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

    @pytest.mark.parametrize(
        ("first", "n", "size"),
        [
            (1, 1, 1),
            (1, 127, 511),
            (511, 1, 513),
            (512, 1, 513),
            (512, 127, 512),
            (513, 127, 512),
            (1, 2, 60_000),
        ],
    )
    def test_it_is_one_write_however_much_and_in_how_many_pieces(self, first: int, n: int, size: int) -> None:
        with OnSocket(socket.SOCK_SEQPACKET) as on:
            pieces = [random.randbytes(first), *(random.randbytes(size) for _ in range(n))]
            for piece in pieces:
                on.queue.write(piece)
            on.end_turn()
            assert on.packets() == [b"".join(pieces)]

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
    def full(queues: Queues, most_bytes: int = 10_000) -> Any:
        """A queue whose transport takes nothing any more."""
        ways = queues(max_queued_bytes=most_bytes)
        ways.queue.pauseProducing()
        return ways

    def test_publish_refuses_what_does_not_fit(self, queues: Queues) -> None:
        queue = self.full(queues).queue
        fit = 10_000 // cost_bytes(936)
        assert [queue.publish(of_topic(b"x" * 936)) for _ in range(fit + 3)] == [True] * fit + [False] * 3
        assert len(queue) == fit
        assert queue.queued_bytes == 10_000

    def test_the_bound_itself_is_allowed_and_one_byte_more_is_not(self, queues: Queues) -> None:
        queue = self.full(queues).queue
        assert not queue.publish(of_topic(b"x" * (10_000 - ENTRY_BYTES + 1)))
        assert queue.queued_bytes == len(queue) == 0
        assert queue.publish(of_topic(b"x" * (10_000 - ENTRY_BYTES)))
        assert queue.queued_bytes == 10_000

    def test_small_messages_count_what_they_cost_beside_their_bytes(self, queues: Queues) -> None:
        queue = self.full(queues).queue
        count = 0
        while queue.publish(of_topic(b"x")):
            count += 1
        assert count == 10_000 // cost_bytes(1)

    def test_write_is_never_refused(self, queues: Queues) -> None:
        queue = self.full(queues).queue
        for _ in range(100):
            queue.write(b"x" * 1_000)
        assert len(queue) == 100
        assert queue.queued_bytes == cost_bytes(*[1_000] * 100)
        assert not queue.publish(of_topic(b"x"))

    def test_a_burst_is_offered_to_what_takes_bytes_before_it_is_refused(self, queues: Queues) -> None:
        ways = queues(max_queued_bytes=10_000)
        assert all(ways.queue.publish(of_topic(b"%05d" % i * 20)) for i in range(1_000))
        assert ways.queue.queued_bytes <= 10_000
        ways.end_turn()
        received = ways.drain() if isinstance(ways, OnSocket) else ways.sent()
        assert received == b"".join(b"%05d" % i * 20 for i in range(1_000))

    def test_what_is_larger_than_the_bound_is_refused_with_nothing_queued(self, queues: Queues) -> None:
        ways = queues(max_queued_bytes=10_000)
        assert not ways.queue.publish(of_topic(b"x" * 10_000))
        assert ways.queue.queued_bytes == len(ways.queue) == 0

    def test_empty_bytes_are_taken_and_not_queued(self, queues: Queues) -> None:
        queue = self.full(queues).queue
        queue.write(b"")
        assert queue.publish(of_topic(b""))
        assert len(queue) == queue.queued_bytes == 0


@pytest.mark.parametrize("queues", QUEUES.values(), ids=QUEUES)
class TestDrop:
    @staticmethod
    def waiting(queues: Queues) -> Any:
        ways = queues()
        ways.queue.pauseProducing()
        return ways

    def test_what_has_a_topic_is_dropped_and_the_rest_goes_out_in_order(self, queues: Queues) -> None:
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

    def test_gives_the_lowest_position_of_each_topic(self, queues: Queues) -> None:
        queue = self.waiting(queues).queue
        for topic, position in [("a", 7), ("b", 2), ("a", 8), ("b", 3), ("c", 2**53 - 1), ("a", 5), ("a", 9)]:
            queue.publish(of_topic(b"x", topic, position))
        assert queue.drop() == {"a": 5, "b": 2, "c": 2**53 - 1}
        assert queue.drop() == {}

    def test_topics_that_are_equal_are_one(self, queues: Queues) -> None:
        queue = self.waiting(queues).queue
        for position in (5, 6):
            queue.publish(of_topic(b"x", "".join(["lob", "by"]), position))
        assert queue.drop() == {"lobby": 5}

    def test_what_is_dropped_counts_no_more(self, queues: Queues) -> None:
        queue = self.waiting(queues).queue
        queue.write(b"x" * 100)
        for i in range(100):
            queue.publish(of_topic(b"y" * 50, "lobby", i))
        queue.drop()
        assert queue.queued_bytes == cost_bytes(100)

    def test_an_empty_queue_drops_nothing(self, queues: Queues) -> None:
        assert queues().queue.drop() == {}

    def test_a_queue_goes_on_after_it(self, queues: Queues) -> None:
        ways = self.waiting(queues)
        for i in range(100):
            ways.queue.publish(of_topic(b"dropped", "lobby", i))
        ways.queue.drop()
        for i in range(100):
            ways.queue.publish(of_topic(b"%d " % i, "lobby", i))
        ways.queue.resumeProducing()
        received = ways.drain() if isinstance(ways, OnSocket) else ways.sent()
        assert received == b"".join(b"%d " % i for i in range(100))

    def test_a_topic_that_cannot_be_hashed_raises_and_harms_nothing(self, queues: Queues) -> None:
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

    def test_one_that_the_transport_has_taken_whole_has_gone(self) -> None:
        buffer = Buffer(10)
        memory = InMemory(buffer)
        memory.queue.publish(of_topic(b"taken by the transport", "lobby", 1))
        memory.end_turn()
        assert memory.queue.blocked
        memory.queue.publish(of_topic(b"dropped", "lobby", 2))
        assert memory.queue.drop() == {"lobby": 2}
        buffer.become_writable()
        assert bytes(buffer.sent) == b"taken by the transport"


class TestNotify:
    @pytest.mark.parametrize("queues", QUEUES.values(), ids=QUEUES)
    def test_an_empty_queue_tells_in_the_next_turn_and_once(self, queues: Queues) -> None:
        ways = queues()
        ways.queue.notify()
        ways.queue.notify()
        assert ways.owner.told == []
        ways.end_turn()
        ways.end_turn()
        assert ways.owner.told == ["drained"]

    @pytest.mark.parametrize("queues", QUEUES.values(), ids=QUEUES)
    def test_tells_once_everything_has_gone(self, queues: Queues) -> None:
        ways = queues()
        ways.queue.write(b"one")
        ways.queue.notify()
        assert ways.owner.told == []
        ways.end_turn()
        assert ways.owner.told == ["drained"]

    @pytest.mark.parametrize("queues", QUEUES.values(), ids=QUEUES)
    def test_nobody_is_told_who_did_not_ask(self, queues: Queues) -> None:
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
    def test_everything_goes_out_before_the_owner_is_told(self, queues: Queues) -> None:
        ways = queues()
        ways.queue.write(b"last words")
        ways.queue.close()
        assert ways.owner.told == []
        ways.end_turn()
        assert ways.owner.told == ["flushed"]
        assert (ways.read() if isinstance(ways, OnSocket) else ways.sent()) == b"last words"

    def test_an_empty_queue_tells_in_the_next_turn(self, queues: Queues) -> None:
        ways = queues()
        ways.queue.close()
        assert ways.owner.told == []
        ways.end_turn()
        assert ways.owner.told == ["flushed"]

    def test_the_transport_has_no_producer_any_more_when_the_owner_is_told(self, queues: Queues) -> None:
        """A transport with a pull or a paused producer would not close."""
        ways = queues()
        producers: list[object] = []
        ways.owner.then = lambda: producers.append(ways.transport.producer)
        ways.queue.close()
        ways.end_turn()
        assert producers == [None]

    def test_it_is_told_once_however_often_it_is_closed(self, queues: Queues) -> None:
        ways = queues()
        ways.queue.close()
        ways.queue.close()
        ways.end_turn()
        ways.queue.close()
        ways.end_turn()
        assert ways.owner.told == ["flushed"]

    def test_nothing_is_taken_any_more(self, queues: Queues) -> None:
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

    def test_who_closes_hears_of_that_alone(self, queues: Queues) -> None:
        ways = queues()
        ways.queue.notify()
        ways.queue.close()
        ways.end_turn()
        ways.end_turn()
        assert ways.owner.told == ["flushed"]

    def test_topics_can_still_be_dropped(self, queues: Queues) -> None:
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
    def test_nobody_is_told_and_nothing_is_sent(self, queues: Queues) -> None:
        for ask in ("notify", "close"):
            ways = queues()
            ways.queue.write(b"never sent")
            getattr(ways.queue, ask)()
            ways.queue.discard()
            ways.end_turn()
            assert ways.owner.told == []
            assert len(ways.queue) == ways.queue.queued_bytes == 0
            assert (ways.read() if isinstance(ways, OnSocket) else ways.sent()) == b""

    def test_everything_is_harmless_after_it(self, queues: Queues) -> None:
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

    def test_a_blocked_queue_is_looked_after_no_more(self, queues: Queues) -> None:
        ways = queues()
        ways.queue.pauseProducing()
        assert len(ways.turn.blocked) == 1
        ways.queue.discard()
        assert ways.turn.blocked == set()
        for _ in range(20):
            ways.clock.advance(STALL_S / 10)
        assert ways.owner.told == []
        assert ways.clock.getDelayedCalls() == []

    def test_an_owner_may_discard_when_it_is_told(self, queues: Queues) -> None:
        for ask in ("notify", "close"):
            ways = queues()
            ways.owner.then = ways.queue.discard
            ways.queue.write(b"x")
            getattr(ways.queue, ask)()
            ways.end_turn()
            assert len(ways.owner.told) == 1

    def test_a_transport_that_goes_within_a_write_takes_everything_with_it(self, queues: Queues) -> None:
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

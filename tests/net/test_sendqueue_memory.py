"""What the send queue refers to, keeps and gives back."""

from __future__ import annotations

import gc
import sys
import tracemalloc
import weakref
from collections.abc import Callable

import pytest
from net.queues import ENTRY_BYTES, MOST_BYTES, Buffer, InMemory, OnSocket, Owner, as_is, of_topic
from twisted.internet.testing import StringTransport
from wire.allocated import traced

from chatproto.net.sendqueue import SendQueue
from chatproto.wire.prepared import Prepared


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
        with traced():
            before = tracemalloc.get_traced_memory()[0]
            for queue in queues:
                act(queue)
                memory.end_turn()
            for transport in transports:
                transport.clear()
            gc.collect()
            return (tracemalloc.get_traced_memory()[0] - before) / count

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
        for transport in transports:
            # What it takes to note a producer is the transport's, and hangs on what other tests do to them.
            transport.registerProducer(object(), True)
            transport.unregisterProducer()
        gc.collect()
        with traced():
            before = tracemalloc.get_traced_memory()[0]
            queues = [SendQueue(each, memory.owner, memory.turn, as_is, 10**9) for each in transports]
            for queue in queues:
                queue.write(b"x")
            memory.end_turn()
            each_bytes = (tracemalloc.get_traced_memory()[0] - before) / len(queues)
        assert each_bytes < 450

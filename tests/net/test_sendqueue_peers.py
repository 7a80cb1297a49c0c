"""The send queue beside others: peers that take nothing or die, transports that call back, the turn."""

from __future__ import annotations

import fcntl
import signal
import socket
import sys
import termios
from contextlib import suppress

import pytest
from live import patiently
from net.loopback import PAIRS
from net.queues import MOST_BYTES, SEND_BUFFER_BYTES, STALL_S, InMemory, OnSocket, Owner, as_is, of_topic
from twisted.internet.testing import StringTransport

from chatproto.net.sendqueue import SendQueue, Turn


def _unacknowledged_bytes(plain: socket.socket) -> int:
    """What the kernel holds of what was sent."""
    return int.from_bytes(fcntl.ioctl(plain, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def _read_a_little(ours: socket.socket, theirs: socket.socket) -> None:
    """Read at one end; over TCP until the other has heard of it, which takes its way through the loopback."""
    before_bytes = _unacknowledged_bytes(ours)
    for _ in patiently(0.001):
        with suppress(BlockingIOError):  # what is sent next takes that way, too
            assert theirs.recv(20_000)
        if ours.family == socket.AF_UNIX or _unacknowledged_bytes(ours) < before_bytes:
            return
    raise AssertionError("what was read is never acknowledged")


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
        ours, theirs = PAIRS[kind](SEND_BUFFER_BYTES if kind == "unix" else 200_000, 4_096)
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
                _read_a_little(ours, theirs)
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
            held_bytes = _unacknowledged_bytes(carrier)
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
            assert on.owner.told == ["broken"]

    def test_who_waits_for_it_is_told_all_the_same(self) -> None:
        with OnSocket() as on:
            on.end.close()
            on.queue.write(b"x")
            on.queue.notify()
            on.end_turn()
            on.queue.close()
            on.end_turn()
            assert on.owner.told == ["broken", "drained", "flushed"]

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

    def test_knows_its_timeout_and_that_nothing_is_blocked(self) -> None:
        turn = Turn(InMemory().clock, 7.5)
        assert turn.stall_timeout_s == 7.5
        assert turn.blocked == set()

"""What a turn counts of the queues that it flushes."""

from __future__ import annotations

import pytest
from net.queues import Buffer, InMemory, OnSocket, of_topic
from twisted.internet.task import Clock

from chatproto.net.sendqueue import FANOUT_BOUNDS_S, Turn


class TestDeliveries:
    def test_a_message_counts_once_for_each_reader_when_it_is_sent(self) -> None:
        with OnSocket() as one:
            one.queue.publish(of_topic(b"hello"))
            assert one.turn.n_delivered == 0
            one.end_turn()
            assert one.turn.n_delivered == 1

    def test_what_has_no_topic_is_no_delivery(self) -> None:
        with OnSocket() as one:
            one.queue.write(b"pong")
            one.end_turn()
            assert one.turn.n_delivered == 0
            assert one.turn.taken_bytes == 4

    def test_what_is_dropped_counts_when_it_is_sent_after_all(self) -> None:
        with OnSocket() as one:
            one.queue.publish(of_topic(b"hello"))
            one.queue.drop()
            one.end_turn()
            assert one.turn.n_delivered == 0
            one.queue.publish(of_topic(b"hello"))
            one.end_turn()
            assert one.turn.n_delivered == 1

    def test_what_a_lost_connection_never_got_does_not_count(self) -> None:
        with OnSocket() as one:
            one.queue.publish(of_topic(b"hello"))
            one.queue.discard()
            one.end_turn()
            assert (one.turn.n_delivered, one.turn.taken_bytes) == (0, 0)

    def test_a_long_message_that_goes_out_in_pieces_counts_once(self) -> None:
        with OnSocket() as one:
            one.queue.publish(of_topic(b"x" * 900_000))
            one.end_turn()
            assert one.turn.n_delivered == 0
            one.drain()
            assert one.turn.n_delivered == 1
            assert one.turn.taken_bytes == 900_000

    def test_through_a_transport_it_counts_as_well(self) -> None:
        one = InMemory(Buffer())
        one.queue.publish(of_topic(b"hello"))
        one.queue.write(b"pong")
        one.end_turn()
        assert (one.turn.n_delivered, one.turn.taken_bytes) == (1, 9)


class TestFanouts:
    def test_a_turn_in_which_something_was_said_counts_once(self) -> None:
        with OnSocket() as one:
            one.queue.publish(of_topic(b"hello"))
            one.queue.publish(of_topic(b"world"))
            one.end_turn()
            assert sum(one.turn.fanouts) == 1
            assert one.turn.fanout_s > 0

    def test_a_turn_of_answers_does_not_count(self) -> None:
        with OnSocket() as one:
            one.queue.publish(of_topic(b"hello"))
            one.end_turn()
            one.queue.write(b"pong")
            one.end_turn()
            assert sum(one.turn.fanouts) == 1

    def test_it_is_in_the_class_of_its_time(self) -> None:
        with OnSocket() as one:
            one.queue.publish(of_topic(b"hello"))
            one.end_turn()
            seconds = one.turn.fanout_s
            classes = [bound for bound in (*FANOUT_BOUNDS_S, float("inf")) if seconds <= bound]
            assert one.turn.fanouts[len(one.turn.fanouts) - len(classes)] == 1

    def test_the_bounds_ascend_and_there_is_one_class_more(self) -> None:
        assert list(FANOUT_BOUNDS_S) == sorted(set(FANOUT_BOUNDS_S))
        assert len(Turn(Clock(), 1.0).fanouts) == len(FANOUT_BOUNDS_S) + 1

    @pytest.mark.parametrize("name", ["n_delivered", "taken_bytes", "fanout_s"])
    def test_nobody_else_counts(self, name: str) -> None:
        with pytest.raises(AttributeError):
            setattr(Turn(Clock(), 1.0), name, 1)

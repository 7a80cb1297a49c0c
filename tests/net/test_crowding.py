"""What waits for all together: the largest queues give way first, and only as far as needed."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any, cast

from net.queues import Owner, TurnByTurn, as_is, of_topic
from twisted.internet.testing import StringTransport

from chatproto.limits import Limits
from chatproto.net.crowding import Crowding
from chatproto.net.sendqueue import SendQueue, Turn

MOST_BYTES = 2**20


class Crowd:
    """Queues of one turn, whose transports take nothing, and those that were made to lag."""

    def __init__(self, count: int) -> None:
        self.clock = TurnByTurn()
        self.turn = Turn(self.clock, 45.0)
        self.shed: list[int] = []
        self.queues = [
            SendQueue(StringTransport(), Owner(), self.turn, as_is, 10 * MOST_BYTES) for _ in range(count)
        ]
        self.hub = SimpleNamespace(limits=Limits(max_total_queued_bytes=MOST_BYTES))
        faces = [
            SimpleNamespace(
                queue=queue, session=SimpleNamespace(shed=lambda number=number: self.drop(number))
            )
            for number, queue in enumerate(self.queues)
        ]
        self.crowding = Crowding(cast(Any, self.hub), self.turn, cast(Any, faces))
        for queue in self.queues:
            queue.pauseProducing()

    def drop(self, number: int) -> None:
        self.shed.append(number)
        self.queues[number].drop()

    def wait_for(self, number: int, n_bytes: int, *, can_be_dropped: bool = True) -> None:
        queue = self.queues[number]
        for _ in range(n_bytes // 1_024):
            data = bytes(1_024)
            if can_be_dropped:
                assert queue.publish(of_topic(data))
            else:
                queue.write(data)

    def end_turn(self) -> None:
        # A queue that waits for its transport enters no turn; another one that has something ends it.
        other = SendQueue(StringTransport(), Owner(), self.turn, as_is, MOST_BYTES)
        other.write(b"x")
        self.clock.end_turn()


def test_below_the_bound_nobody_is_touched() -> None:
    crowd = Crowd(3)
    for number in range(3):
        crowd.wait_for(number, MOST_BYTES // 4)
    crowd.end_turn()
    assert crowd.shed == []


def test_past_it_the_largest_give_way_until_three_quarters_are_left() -> None:
    crowd = Crowd(4)
    for number, share in enumerate((0.1, 0.5, 0.2, 0.4)):
        crowd.wait_for(number, int(MOST_BYTES * share))
    crowd.end_turn()
    assert crowd.shed == [1]
    assert crowd.turn.queued_bytes == sum(queue.queued_bytes for queue in crowd.queues) <= 0.75 * MOST_BYTES


def test_those_that_cannot_give_way_are_not_asked_in_every_turn() -> None:
    crowd = Crowd(2)
    crowd.wait_for(0, 2 * MOST_BYTES, can_be_dropped=False)
    for _ in range(10):
        crowd.end_turn()
    assert crowd.shed == [0, 1]
    crowd.wait_for(1, MOST_BYTES // 8)
    crowd.end_turn()
    assert crowd.shed == [0, 1, 0, 1]


def test_another_limit_holds_when_it_is_renewed() -> None:
    crowd = Crowd(1)
    crowd.wait_for(0, MOST_BYTES + 2**19)
    crowd.hub.limits = Limits(max_total_queued_bytes=2 * MOST_BYTES)
    crowd.crowding.renew()
    crowd.end_turn()
    assert crowd.shed == []


def test_what_goes_with_its_connection_is_not_counted_any_more() -> None:
    crowd = Crowd(3)
    for number in range(3):
        crowd.wait_for(number, 10_240)
    crowd.queues[0].discard()
    assert crowd.turn.queued_bytes == sum(queue.queued_bytes for queue in crowd.queues)
    turn, left = crowd.turn, crowd.queues[1].queued_bytes + crowd.queues[2].queued_bytes
    assert turn.queued_bytes == left
    crowd.queues.clear()
    del crowd
    gc.collect()  # a queue that nobody discarded is forgotten by the collector, in whatever order

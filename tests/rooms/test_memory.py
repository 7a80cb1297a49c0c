"""What somebody in a room holds of the server's memory while nothing happens, without socket and face."""

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from wire.allocated import traced

from chatproto.rooms.hub import Hub
from chatproto.wire.messages import Join, Message
from chatproto.wire.prepared import Prepared

PEOPLE = 500

MOST_BYTES = 2_300
"""1,800 with Python 3.11. A deque more for each would show, and so would a session without slots."""


class Deaf:
    """An outlet to which everything is sent and nothing is kept."""

    __slots__ = ()
    kind = "deaf"
    queued_bytes = 0
    max_queued_bytes = 1 << 20
    publish: Callable[[Prepared], bool] = staticmethod(lambda prepared: True)

    def send(self, message: Message) -> None:
        """Keep nothing."""

    def drop(self) -> dict[Any, int]:
        """Nothing waits."""
        return {}

    notify = pause = resume = finish = cut = lambda self: None


def test_somebody_in_a_room_is_a_few_small_objects_to_the_hub() -> None:
    clock = Clock()
    hub = Hub(clock)

    def let_in(first: int, n: int) -> None:
        for i in range(first, first + n):
            hub.connect(Deaf(), "127.0.0.1").receive([Join(f"n{i}", f"room{i % 20}", 0, 0, 0)])
            clock.advance(0)

    let_in(0, 100)
    gc.collect()
    with traced():
        before = tracemalloc.get_traced_memory()[0]
        let_in(100, PEOPLE)
        gc.collect()
        each = (tracemalloc.get_traced_memory()[0] - before) / PEOPLE
    assert len(hub.nicks) == 100 + PEOPLE
    assert each < MOST_BYTES, f"{each:.0f} bytes each"

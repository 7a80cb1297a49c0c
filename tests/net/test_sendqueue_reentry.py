"""The send queue called from within: by what makes bytes, by a topic that goes, by its owner.

A fault here ends the process, so whoever breaks one sees no report but a dead worker.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from net.queues import Buffer, InMemory, OnSocket, of_topic

from chatproto.net.sendqueue import SendQueue
from chatproto.wire.prepared import Prepared

DOINGS: dict[str, Callable[[SendQueue], object]] = {
    "discard": SendQueue.discard,
    "drop": SendQueue.drop,
    "flush": SendQueue.flush,
    "close": SendQueue.close,
    "pause": SendQueue.pauseProducing,
    "resume": SendQueue.resumeProducing,
    "stop": SendQueue.stopProducing,
    "write": lambda queue: queue.write(b"meanwhile|"),
    "publish": lambda queue: queue.publish(of_topic(b"meanwhile|")),
}
"""What may be called meanwhile."""


class Topic:
    """One of its own, that does something as soon as nobody refers to it."""

    def __init__(self, leave: Callable[[], object]) -> None:
        self.leave = leave

    def __del__(self) -> None:
        self.leave()


@pytest.mark.parametrize("size", [10, 20_000])
@pytest.mark.parametrize(
    "kind",
    [OnSocket, lambda **_: InMemory(Buffer()), lambda **_: InMemory(Buffer(10**6))],
    ids=["socket", "transport", "roomy transport"],
)
@pytest.mark.parametrize("doing", DOINGS)
def test_a_topic_that_goes_may_do_anything_to_the_queue(
    doing: str, kind: Callable[..., OnSocket | InMemory], size: int
) -> None:
    on = kind(send_buffer_bytes=1)
    queue, left = on.queue, []

    def leave() -> None:
        left.append(doing)
        if len(left) < 20:
            DOINGS[doing](queue)

    published = [b"%d|" % position * (size // 2) for position in range(6)]
    for position, data in enumerate(published):
        queue.publish(Prepared(data, Topic(leave), position))
    queue.flush()  # the turn would only log what goes wrong
    on.end_turn()
    queue.resumeProducing()
    received = bytearray()
    if isinstance(on, OnSocket):
        received += on.drain()
    else:
        for _ in range(len(published) + 20):
            on.end_turn()
            if len(queue) or on.transport.unsent:  # type: ignore[attr-defined]
                on.transport.become_writable()  # type: ignore[attr-defined]
        received += on.transport.sent  # type: ignore[attr-defined]
    said = b"".join(published)
    if doing in ("write", "publish"):
        assert bytes(received).replace(b"meanwhile|", b"") == said
    elif doing in ("flush", "close", "resume"):
        assert bytes(received) == said
    else:
        assert said.startswith(received)
    assert len(left) >= len(published)
    assert on.turn.queued_bytes == queue.queued_bytes
    queue.discard()
    assert on.turn.queued_bytes == len(on.turn.blocked) == 0
    if isinstance(on, OnSocket):
        on.__exit__()


def test_a_transport_that_is_gone_when_its_producer_is_taken_away_tells_nobody() -> None:
    memory = InMemory()
    memory.transport.unregisterProducer = memory.queue.stopProducing  # type: ignore[method-assign]
    memory.queue.close()
    memory.queue.flush()
    assert memory.owner.told == []


@pytest.mark.parametrize("doing", DOINGS)
def test_what_makes_bytes_may_do_anything_to_the_queue(doing: str) -> None:
    def form(source: bytes) -> bytes:
        if source == b"odd":
            DOINGS[doing](on.queue)
        return source

    with OnSocket(form=form) as on:
        assert on.queue.publish(of_topic(b"odd"))
        on.end_turn()
        on.queue.resumeProducing()
        # What was ended meanwhile takes nothing, and keeps nothing.
        before = b"meanwhile|" if doing in ("write", "publish") else b""
        assert on.drain() == (b"" if doing in ("discard", "stop", "close") else before + b"odd")
        assert on.turn.queued_bytes == on.queue.queued_bytes == len(on.queue) == 0


@pytest.mark.parametrize("doing", DOINGS)
@pytest.mark.parametrize("told", ["drained", "flushed", "broken", "stalled"])
def test_an_owner_may_do_anything_when_it_is_told(told: str, doing: str) -> None:
    with OnSocket() as on:
        owner, queue = on.owner, on.queue
        n_told = 0

        def then() -> None:
            nonlocal n_told
            n_told += owner.told[-1] == told
            if n_told < 20:
                DOINGS[doing](queue)

        owner.then = then
        queue.publish(of_topic(b"said|"))
        if told == "drained":
            queue.notify()
        elif told == "flushed":
            queue.close()
        elif told == "broken":
            on.end.close()
        else:
            on.block()
            on.clock.pump([1.0] * 12)
        for _ in range(3):
            on.end_turn()
            queue.resumeProducing()
        assert told in owner.told
        assert n_told == 1 or (told == "stalled" and doing not in ("discard", "stop"))
        queue.discard()
        assert on.turn.queued_bytes == len(on.turn.blocked) == 0
        assert on.clock.getDelayedCalls() == [] or doing in ("close", "write", "publish")

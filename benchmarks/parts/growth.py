"""What a delivery costs with more connections, more people in the room, more who do nothing."""

from __future__ import annotations

from collections.abc import Iterator

from environment import bare_program
from measuring import Measuring
from rounds import Table, compare
from servers import chat_program

_SIZES = (10, 100, 1_000, 10_000)
_ACTIVE = 64


def measure(measuring: Measuring) -> Iterator[Table]:
    """Each size beside the others in one run; the first of them is what the others are compared with."""
    sizes = (10, 50) if measuring.is_quick else _SIZES
    talk = {"senders": 4, "window": 4, "bytes": 64}
    yield compare(
        "growth",
        "a WebSocket broadcast, by the number of connections",
        "deliveries",
        [
            measuring.loaded(bare_program(f"{size:,}", "broadcast"), task="broadcast", clients=size, **talk)
            for size in sizes
        ],
        measuring.rounds,
    )
    yield compare(
        "growth",
        "a message of the chat, by the number of people in the room",
        "deliveries",
        [measuring.loaded(chat_program(f"{size:,}"), clients=size, **talk) for size in sizes],
        measuring.rounds,
    )
    echo = {"task": "echo", "senders": _ACTIVE, "window": 1, "bytes": 64}
    yield compare(
        "growth",
        f"an echo among {_ACTIVE} WebSockets, by the number of others that do nothing",
        "echoes",
        [
            measuring.loaded(bare_program(f"{size:,}", "echo"), clients=_ACTIVE + size, **echo)
            for size in sizes
        ],
        measuring.rounds,
    )

"""The whole chat: people in rooms, by frames, WebSockets and lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from environment import OURS, bare_program
from measuring import Measuring
from rounds import Subject, Table, compare
from servers import Program, chat_program

_INT32 = Path(__file__).resolve().parent.parent / "peers" / "int32.py"
_MIXED = "frames,websocket,lines"


def _subjects(measuring: Measuring, talk: dict[str, Any]) -> Iterator[Subject]:
    yield measuring.loaded(chat_program("the chat, frames"), forms="frames", **talk)
    yield measuring.loaded(chat_program("the chat, WebSocket"), forms="websocket", **talk)
    yield measuring.loaded(chat_program("the chat, all mixed"), forms=_MIXED, **talk)
    if talk["rooms"] == 1:
        int32 = Program("Int32StringReceiver", (sys.executable, str(_INT32), "{port}"))
        yield measuring.loaded(int32, forms="frames", **talk)
        bare = bare_program(f"{OURS}, bare WebSocket", "broadcast")
        yield measuring.loaded(bare, task="broadcast", **talk)


def measure(measuring: Measuring) -> Iterator[Table]:
    """One room of 10 to 5,000 people, of whom four talk; 1,000 rooms of ten, in each of which one does."""
    crowds = (50,) if measuring.is_quick else (10, 200, 1_000, 5_000)
    for people in crowds:
        talk = {"clients": people, "senders": 4, "window": 4, "bytes": 64, "rooms": 1}
        title = f"{people:,} people in a room, 4 of whom talk"
        yield compare("chat", title, "deliveries", list(_subjects(measuring, talk)), measuring.rounds)
    rooms = 10 if measuring.is_quick else 1_000
    talk = {"clients": rooms * 10, "senders": rooms, "window": 4, "bytes": 64, "rooms": rooms}
    title = f"{rooms:,} rooms of 10 people, one of whom talks"
    yield compare("chat", title, "deliveries", list(_subjects(measuring, talk)), measuring.rounds)

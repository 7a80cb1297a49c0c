"""The same server on other reactors of Twisted's, and on uvloop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from environment import bare_program
from measuring import Measuring
from rounds import Table, compare
from servers import Program, chat_program

_ON_REACTOR = Path(__file__).resolve().parent.parent / "peers" / "on_reactor.py"
_OTHERS_IN_REST = 5_000
# More connections than that have descriptors that select(2) cannot name.
_SELECT_MOST = 1_000


def _on_each(measuring: Measuring, program: Program, connections: int) -> Iterator[Program]:
    """*program* on each reactor that can have so many connections; the default of Linux is the first."""
    reactors = {"epoll": "epoll", "poll": "poll", "select": "select", "asyncio": "asyncio"}
    if connections > _SELECT_MOST:
        del reactors["select"]
    if "uvloop" in measuring.peers.versions:
        reactors["asyncio on uvloop"] = f"uvloop={measuring.peers.packages}"
    interpreter, *rest = program.command
    for name, reactor in reactors.items():
        yield Program(name, (interpreter, str(_ON_REACTOR), reactor, *rest))


def measure(measuring: Measuring) -> Iterator[Table]:
    """`twistd chat` with 10, 200 and 5,000 people; an echo of the WebSocket layer, alone and among others."""
    for people in (50,) if measuring.is_quick else (10, 200, 5_000):
        talk = {"clients": people, "senders": 4, "window": 4, "bytes": 64}
        chats = _on_each(measuring, chat_program("the chat"), people)
        yield compare(
            "reactors",
            f"{people:,} people in a room of the chat, 4 of whom talk",
            "deliveries",
            [measuring.loaded(program, **talk) for program in chats],
            measuring.rounds,
        )
    active = measuring.people(64)
    for others in (0, measuring.people(_OTHERS_IN_REST)):
        among = f", and {others:,} others in rest" if others else ""
        echo = {"task": "echo", "senders": active, "window": 1, "bytes": 64}
        echoes = _on_each(measuring, bare_program("echo", "echo"), active + others)
        yield compare(
            "reactors",
            f"an echo of 64 bytes among {active} WebSockets{among}",
            "echoes",
            [measuring.loaded(program, clients=active + others, **echo) for program in echoes],
            measuring.rounds,
        )

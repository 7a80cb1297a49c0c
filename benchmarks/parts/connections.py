"""How fast connections are opened, and what each holds while nothing happens on it."""

from __future__ import annotations

from collections.abc import Iterator

from environment import OURS, bare_program
from measuring import Measuring
from rounds import Run, Subject, Table, compare, run_of_opened
from servers import Program, chat_program, serving

_CONNECTIONS = 5_000


def _opened(measuring: Measuring, program: Program, **options: object) -> Subject:
    connections = 200 if measuring.is_quick else _CONNECTIONS

    def measure() -> Run:
        with serving(program, measuring.server_core) as served:
            # What the first ones cause stays, however many come after them.
            measuring.generator.open(served, 50, **options)
            return run_of_opened(measuring.generator.open(served, connections, **options))

    return Subject(program.name, measure)


def _quiet_chat(name: str) -> Program:
    """Nobody is told who comes: that would cost more than coming."""
    return chat_program(name, "--announce-limit", "0")


def measure(measuring: Measuring) -> Iterator[Table]:
    """Connections and handshakes; 50 are under way at a time."""
    bare = [bare_program(OURS, "echo"), *measuring.peers.programs("echo")]
    yield compare(
        "connections",
        "opening a WebSocket, and one in rest",
        "connections",
        [_opened(measuring, program, forms="websocket") for program in bare],
        measuring.rounds,
    )
    joining = {"frames": "frames", "WebSocket": "websocket", "lines": "lines"}
    yield compare(
        "connections",
        "joining a room of the chat, and somebody in it",
        "connections",
        [
            _opened(measuring, _quiet_chat(f"the chat, {name}"), forms=form, join=True, rooms=1_000)
            for name, form in joining.items()
        ],
        measuring.rounds,
    )

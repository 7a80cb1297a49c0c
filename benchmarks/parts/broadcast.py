"""One message to many: a bare WebSocket server that sends each message to everybody."""

from __future__ import annotations

from collections.abc import Iterator

from environment import OURS, bare_program
from measuring import Measuring
from rounds import Table, compare


def measure(measuring: Measuring) -> Iterator[Table]:
    """200 connections; one, four and twenty of them talk."""
    clients = measuring.people(200)
    programs = [bare_program(OURS, "broadcast"), *measuring.peers.programs("broadcast")]
    for senders in (4,) if measuring.is_quick else (1, 4, 20):
        counted = "1 sender" if senders == 1 else f"{senders} senders"
        talk = {"task": "broadcast", "clients": clients, "senders": senders, "window": 4, "bytes": 64}
        yield compare(
            "broadcast",
            f"64 bytes to {clients} WebSockets, {counted} with 4 messages in flight each",
            "deliveries",
            [measuring.loaded(program, **talk) for program in programs],
            measuring.rounds,
        )

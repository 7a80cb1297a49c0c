"""What compression costs: the same broadcast with permessage-deflate and without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from environment import OURS, bare_program
from measuring import Measuring
from rounds import Table, compare


def measure(measuring: Measuring) -> Iterator[Table]:
    """1,000 bytes of text, as each server does it unless told otherwise."""
    clients = measuring.people(200)
    talk = {"task": "broadcast", "clients": clients, "senders": 4, "window": 4, "bytes": 1_000}
    can = ("websockets", "aiohttp", "autobahn")
    compressing = [bare_program(OURS, "broadcast", "deflate")]
    compressing += measuring.peers.programs("broadcast", "deflate", only=can)
    plain = replace(bare_program(OURS, "broadcast"), name=f"{OURS}, plain")
    yield compare(
        "compression",
        f"1,000 bytes to {clients} WebSockets, compressed",
        "deliveries",
        [
            *(measuring.loaded(program, deflate=True, **talk) for program in compressing),
            measuring.loaded(plain, **talk),
        ],
        measuring.rounds,
    )

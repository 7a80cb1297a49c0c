"""What one sends comes back: small, middling and large messages."""

from __future__ import annotations

from collections.abc import Iterator

from environment import OURS, bare_program
from measuring import Measuring
from rounds import Table, compare

_SIZES = {"64 bytes": (64, 64), "64 KiB": (65_536, 16), "1 MiB": (1_048_576, 4)}
"""Bytes, and how many connections send such."""


def measure(measuring: Measuring) -> Iterator[Table]:
    """One message in flight for each connection."""
    programs = [bare_program(OURS, "echo"), *measuring.peers.programs("echo")]
    for name, (size_bytes, connections) in _SIZES.items():
        talk = {"clients": connections, "senders": connections, "window": 1, "bytes": size_bytes}
        yield compare(
            "echo",
            f"an echo of {name}, {connections} WebSockets with one message in flight each",
            "echoes",
            [measuring.loaded(program, task="echo", **talk) for program in programs],
            measuring.rounds,
        )

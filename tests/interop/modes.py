"""The kinds of compression that are tried."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from interop.kinds import PAIRINGS, Pairing

SERVER_FORGETS, CLIENT_FORGETS = "server_no_context_takeover", "client_no_context_takeover"
SERVER_BITS, CLIENT_BITS = "server_max_window_bits", "client_max_window_bits"

DEFLATE: Mapping[str, dict[str, Any] | None] = {
    "plain": None,
    "takeover": {SERVER_FORGETS: False},
    "server-forgets": {SERVER_FORGETS: True},
    "both-forget": {SERVER_FORGETS: True, CLIENT_FORGETS: True},
    "small-windows": {SERVER_FORGETS: False, SERVER_BITS: 9, CLIENT_BITS: 9},
}


def is_tried(pairing: Pairing, mode: str) -> bool:
    """Whether a mode is tried between these two."""
    if mode == "plain":
        return True
    if pairing.server.name == "resource" and mode != "server-forgets":
        return False  # behind the opening handshake it is the same as the factory
    if pairing.server.name == "picows.websockets" and mode != "takeover":
        return False  # it agrees to every offer, whatever is in it, and to nothing that is in it
    return pairing.peer.compresses


def each_mode(
    modes: Iterable[str] = ("plain", "takeover", "server-forgets"),
    fits: Callable[[Pairing], bool] = lambda pairing: True,
) -> pytest.MarkDecorator:
    """Run a test for each pairing that fits, in each of these modes."""
    params = [
        pairing.param(DEFLATE[mode], mode=mode)
        for mode in modes
        for pairing in PAIRINGS
        if fits(pairing) and is_tried(pairing, mode)
    ]
    return pytest.mark.parametrize(("pairing", "deflate"), params)

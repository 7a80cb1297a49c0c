"""While one peer floods, another's ping comes back in time: there is a bound on what is done in one turn.

Times say as much about the machine as about the server. So each flood has three tries, the best of which
counts; and a try counts as well if the server was not at work for so long from a ping to its pong, however
long that took.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults.costs import MIB, keep
from faults.flood import KINDS
from faults.websocket_peer import (
    BINARY,
    TEXT,
    EchoServer,
    Peer,
    PushingServer,
    closing_frame,
    deflated,
    frame,
)
from live import Server, eventually

MOST_MS = 100.0
"""Another's round trip at the 99th percentile, at most."""

MOST_TRIES = 3

ALWAYS = (
    "pings",
    "small texts",
    "one-byte fragments",
    "small compressed texts",
    "bombs to the limit",
    "what compresses slowly",
)
"""The floods of every run; the others are slow."""


@pytest.fixture(scope="module")
def server() -> Iterator[EchoServer]:
    """With compression, so that all floods are possible."""
    with EchoServer("--deflate") as running:
        yield running
        running.await_quiet()
        running.assert_well()


@contextmanager
def flooding(server: Server, kind: str) -> Iterator[None]:
    """Somebody floods *server* meanwhile, from another process."""
    command = [sys.executable, "-m", "faults.flood", str(server.port), kind]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == "it floods\n"
            yield
            assert running.poll() is None, "the flood has ended"
        finally:
            running.kill()


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """How long a ping took, and how much of that the server worked."""

    ms: float
    cpu_ms: float


def round_trips(server: Server, peer: Peer, n: int) -> list[RoundTrip]:
    """Those of *n* pings."""
    found = []
    for number in range(n):
        before_s = server.cpu_s()
        ms = 1_000 * peer.round_trip_s(b"%d" % number)
        found.append(RoundTrip(ms, 1_000 * (server.cpu_s() - before_s)))
        time.sleep(0.002)
    return found


def percentile(found: Iterable[float], percent: int) -> float:
    """So many of a hundred are not above it."""
    ordered = sorted(found)
    return ordered[-(-len(ordered) * percent // 100) - 1]


def assert_fair(server: Server, what: str, measured: Callable[[Peer], list[RoundTrip]], n: int = 150) -> None:
    """What *measured* finds is within the bound, in the best of some tries."""
    best: dict[str, float] = {}
    with Peer(server) as peer:
        for n_tries in range(1, MOST_TRIES + 1):
            calm = round_trips(server, peer, n)
            found = measured(peer)
            figures = {
                "p50_ms": percentile((trip.ms for trip in found), 50),
                "p99_ms": percentile((trip.ms for trip in found), 99),
                "p99_cpu_ms": percentile((trip.cpu_ms for trip in found), 99),
                "calm_p50_ms": percentile((trip.ms for trip in calm), 50),
                "calm_p99_ms": percentile((trip.ms for trip in calm), 99),
                "tries": n_tries,
            }
            if not best or figures["p99_ms"] < best["p99_ms"]:
                best = figures
            is_fair = min(figures["p99_ms"], figures["p99_cpu_ms"]) < MOST_MS
            if is_fair:
                break
    keep(f"another's ping meanwhile, {what}", **{name: round(value, 1) for name, value in best.items()})
    assert is_fair, best


@pytest.mark.parametrize(
    "kind", [kind if kind in ALWAYS else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_nobody_waits_for_one_who_floods(server: EchoServer, kind: str) -> None:
    def measured(peer: Peer) -> list[RoundTrip]:
        with flooding(server, kind):
            time.sleep(0.2)  # so that it is at its height
            return round_trips(server, peer, 150)

    assert_fair(server, f"a flood of {kind}", measured)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_nobody_waits_for_one_who_floods_for_long(server: EchoServer, kind: str) -> None:
    def measured(peer: Peer) -> list[RoundTrip]:
        with flooding(server, kind):
            return round_trips(server, peer, 2_000)

    assert_fair(server, f"a long flood of {kind}", measured, 2_000)


BOMB = frame(BINARY, deflated(bytes(MIB)), rsv1=True)


@pytest.fixture(scope="module")
def closing() -> Iterator[PushingServer]:
    """Its application closes, and drops, connections."""
    with PushingServer("--deflate", "close_timeout_s=1") as running:
        yield running
        assert "Traceback" not in running.log()


@contextmanager
def alone(server: PushingServer, path: str) -> Iterator[Peer]:
    """A peer that is gone, and whose traces are, before the next one comes: this is not about many."""
    n_ends = len(server.ends(path))
    with Peer(server, path, deflate=True) as peer:
        yield peer
        peer.reset()
    eventually(lambda: len(server.ends(path)) > n_ends, "it is gone")


def test_nobody_waits_for_one_who_answers_a_close_with_bombs(closing: PushingServer) -> None:
    """What is inflated and thrown away takes as long as what is used."""

    def measured(peer: Peer) -> list[RoundTrip]:
        found: list[RoundTrip] = []
        for _ in range(5):
            with alone(closing, "/close") as flooder:
                flooder.send(TEXT, b"enough?")
                assert closing_frame(flooder).code == 1000
                flooder.socket.sendall(BOMB * 60)
                found += round_trips(closing, peer, 20)
        return found

    assert_fair(closing, "bombs after the close", measured)


@pytest.mark.parametrize("path", ["/abort", "/"])
def test_nobody_waits_for_what_one_has_left_who_is_gone(closing: PushingServer, path: str) -> None:
    """What it had sent was read at once, and was to be given to the application bit by bit."""

    def measured(peer: Peer) -> list[RoundTrip]:
        found: list[RoundTrip] = []
        for _ in range(5):
            with alone(closing, path) as flooder:
                flooder.socket.sendall(frame(TEXT, b"enough?") + BOMB * 60)
                found += round_trips(closing, peer, 1)
                flooder.reset()
                found += round_trips(closing, peer, 19)
        return found

    assert_fair(closing, f"bombs from one who is gone, {path}", measured)

"""What a peer costs that does nothing, and when one is let go that has vanished."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from faults.costs import keep
from faults.test_vanished import two_machines
from faults.websocket_peer import PUSHING, TEXT, EchoServer, Peer, deflated, ends, inflated
from live import Server

KIB = 1_024

WORDS = [json.dumps({"user": user, "says": "something of no great importance"}) for user in range(1_000)]


def use(peer: Peer) -> None:
    """Have so much echoed, 48 KiB, that the window of the compression is full."""
    for _ in range(3):
        text = "".join(random.choices(WORDS, k=300)).encode()[: 16 * KIB]
        peer.send(TEXT, deflated(text) if peer.deflates else text, rsv1=peer.deflates)
        received = peer.receive()
        assert received is not None
        assert inflated(received) == text


def nothing(peer: Peer) -> None:
    """Be idle from the beginning."""


@pytest.mark.parametrize(
    ("what", "n_peers", "options", "done", "most_bytes"),
    [
        ("plain", 1_000, (), nothing, 8 * KIB),
        ("plain, by the resource", 200, ("--resource",), nothing, 10 * KIB),
        ("plain, after use", 200, (), use, 8 * KIB),
        ("with compression, before its use", 200, ("--deflate",), nothing, 10 * KIB),
        ("with compression, after its use", 1_000, ("--deflate",), use, 56 * KIB),
        (
            "with compression without context takeover, after its use",
            200,
            ("--deflate", "--client-no-context-takeover"),
            use,
            10 * KIB,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_idle_peer_costs_little(
    what: str, n_peers: int, options: tuple[str, ...], done: Callable[[Peer], None], most_bytes: int
) -> None:
    """The bounds are the best of the peers' yardsticks, and less where this should be."""
    deflate = "--deflate" in options
    with EchoServer(*options) as server, ExitStack() as opened:
        with Peer(server, deflate=deflate) as warm:
            use(warm)
        server.await_quiet()
        before_bytes, before_s = server.rss_bytes(), server.cpu_s()
        for _ in range(n_peers):
            done(opened.enter_context(Peer(server, deflate=deflate)))
        each_bytes = (server.rss_bytes() - before_bytes) / n_peers
        cpu_s = server.cpu_s() - before_s
        keep(f"an idle connection {what}", cpu_s=cpu_s, peers=n_peers, kib_each=round(each_bytes / KIB, 1))
        assert each_bytes < most_bytes
        opened.close()
        server.await_quiet()
        server.assert_well()


STAY = """
import sys, time
from faults.websocket_peer import Peer, TEXT
class There:
    def raw(self, receive_buffer_bytes=0):
        import socket
        return socket.create_connection(("10.203.0.1", int(sys.argv[1])), 30)
idle, pushed, half = Peer(There(), "/"), Peer(There(), "/produce/1000"), Peer(There(), "/close")
half.send(TEXT, b"enough", fin=False)
pushed.socket.settimeout(None)
print("in", flush=True)
while True:
    pushed.receive()
"""
"""One that nobody sends anything to, one that is sent to all the time, one in the middle of a message."""

PATHS = ("/", "/produce/1000", "/close")

MOST_S = 60
SLACK_S = 10
"""For the kernel's timers, which go in steps, and a machine that is busy."""


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.parametrize("how", ["the cable is pulled", "the other machine is silent"])
def test_who_has_vanished_is_let_go_within_a_minute(how: str) -> None:
    with two_machines() as (near, far):
        there = ["ip", "netns", "exec", near]
        with Server(command=[*there, *PUSHING, "listen=tcp:0:interface=10.203.0.1"]) as server:
            environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
            command = ["ip", "netns", "exec", far, sys.executable, "-c", STAY, str(server.port)]
            with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as away:
                try:
                    assert away.stdout is not None
                    assert away.stdout.readline() == "in\n"
                    time.sleep(1)
                    cut = (
                        ("link", "set", "cable", "down")
                        if "cable" in how
                        else ("addr", "flush", "dev", "cable")
                    )
                    subprocess.run(["ip", "-n", far, *cut], check=True, capture_output=True)
                    found_s = await_ends(server)
                finally:
                    away.kill()
            after_s = {f"{path} after_s": round(seconds, 1) for path, seconds in found_s.items()}
            keep(f"vanished, {how}", **after_s, **{path: ends(server, path)[0] for path in PATHS})
            for path in PATHS:
                assert 1 < found_s[path] < MOST_S + SLACK_S, path
            assert "Traceback" not in server.log()


def await_ends(server: Server) -> dict[str, float]:
    """After how many seconds each connection ended."""
    began_s = time.monotonic()
    found_s: dict[str, float] = {}
    while len(found_s) < len(PATHS) and time.monotonic() - began_s < 3 * MOST_S:
        for path in PATHS:
            if ends(server, path):
                found_s.setdefault(path, time.monotonic() - began_s)
        time.sleep(0.05)
    return found_s

"""A peer that vanishes without a word, as when a cable is pulled, is found within a minute."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from faults.places import Place
from faults.watching import assert_log_is_clean
from forms import form_named
from live import Framed, Server, unix_socket

from chatproto.wire.messages import End, History, Join, Left, Say

MOST_S = 60
SLACK_S = 10
"""For the kernel's timers, which go in steps, and a machine that is busy."""


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_the_kernel_is_asked_to_find_it_within_a_minute(kind: str) -> None:
    with Place() as place:
        client = place.join("someone", kind=kind)
        (options,) = place.server.state()["sockets"]
        client.close()
    print(kind, options)
    assert options["nodelay"] == 1
    assert options["keepalive"] == 1
    assert 0 < options["idle_s"] + options["interval_s"] * options["probes"] <= MOST_S
    assert 0 < options["user_timeout_ms"] <= MOST_S * 1_000


@pytest.mark.parametrize("form", ["frames", "bin", "json"])
def test_who_goes_while_much_is_still_to_be_answered_is_let_go_soon(form: str) -> None:
    """Not after all of it, which nobody would read, and which may take hours at the pace of reading."""
    slowly = ("--max-history-reads-per-s", "1", "--history-burst", "1")
    with Server("--history", "memory", "--close-timeout-s", "0.5", *slowly) as server:
        witness = server.join("witness")
        someone = Framed(server.port, form_named(form))
        someone.send(Join("someone"))
        someone.until(End)
        someone.send(*[History("", 0, 1)] * 1_000)
        someone.until(End)
        someone.reset()
        assert witness.until(Left).nick == "someone"
        assert_log_is_clean(server)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextmanager
def two_machines() -> Iterator[tuple[str, str]]:
    """Two network namespaces, joined by a cable: 10.203.0.1 and 10.203.0.2."""
    if not shutil.which("ip"):
        pytest.skip("ip (iproute2) is not installed")
    names = tuple(f"chatproto-{os.getpid()}-{side}" for side in ("near", "far"))
    with ExitStack() as cleaning_up:
        for name in names:
            try:
                _ip("netns", "add", name)
            except subprocess.CalledProcessError as refusal:
                pytest.skip(f"no network namespace can be made here: {refusal.stderr.strip()}")
            cleaning_up.callback(_ip, "netns", "del", name)
        near, far = names
        try:
            _ip("-n", near, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", far)
        except subprocess.CalledProcessError as refusal:
            pytest.skip(f"no cable can be laid here: {refusal.stderr.strip()}")
        for name, address in ((near, "10.203.0.1/30"), (far, "10.203.0.2/30")):
            _ip("-n", name, "addr", "add", address, "dev", "cable")
            _ip("-n", name, "link", "set", "cable", "up")
        yield near, far


STAY = """
import sys, time
from live import Framed
from chatproto.wire.messages import End, Join
import socket
for nick, room in (("idle", "quiet"), ("addressed", "busy")):
    client = Framed(socket.create_connection(("10.203.0.1", int(sys.argv[1])), 30))
    client.send(Join(nick, room))
    client.until(End)
    globals()[nick] = client
print("in", flush=True)
time.sleep(1000)
"""


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.parametrize("how", ["the cable is pulled", "the other machine is silent"])
def test_it_is_found_within_a_minute(how: str, tmp_path: Path) -> None:
    """One that nobody sends anything to, and one that is sent something each second."""
    with two_machines() as (near, far):
        twistd = [str(Path(sys.executable).parent / "twistd"), "-n", "--pidfile=", "chat"]
        listen = ["--open", "--listen", "tcp:0:interface=10.203.0.1", "--listen", f"unix:{tmp_path}/socket"]
        with Server(command=["ip", "netns", "exec", near, *twistd, *listen]) as server:
            # A Unix socket is reached from any network namespace.
            witnesses = {room: Framed(unix_socket(tmp_path / "socket")) for room in ("quiet", "busy")}
            for room, witness in witnesses.items():
                witness.send(Join(f"witness-{room}", room))
            environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
            command = ["ip", "netns", "exec", far, sys.executable, "-c", STAY, str(server.port)]
            with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as away:
                try:
                    assert away.stdout is not None
                    assert away.stdout.readline() == "in\n"
                    if how == "the cable is pulled":
                        _ip("-n", far, "link", "set", "cable", "down")
                    else:
                        _ip("-n", far, "addr", "flush", "dev", "cable")
                    found_s = _await_lefts(witnesses)
                finally:
                    away.kill()
            print(f"{how}: {found_s}")
            for room, seconds in found_s.items():
                assert 1 < seconds < MOST_S + SLACK_S, room
            lefts = {
                room: [(left.nick, left.reason) for left in witness.of(Left)]
                for room, witness in witnesses.items()
            }
            assert lefts == {"quiet": [("idle", "timeout")], "busy": [("addressed", "timeout")]}
            assert_log_is_clean(server)


def _await_lefts(witnesses: dict[str, Framed]) -> dict[str, float]:
    """After how many seconds someone left each room, while something is said each second in the busy one."""
    began_s = time.monotonic()
    found_s: dict[str, float] = {}
    said = 0
    while len(found_s) < len(witnesses) and time.monotonic() - began_s < 3 * MOST_S:
        if time.monotonic() - began_s > said and "busy" not in found_s:
            said += 1
            witnesses["busy"].send(Say(0, "busy", f"after {said} s"))
        for room, witness in witnesses.items():
            witness.drain()
            if witness.of(Left):
                found_s.setdefault(room, time.monotonic() - began_s)
        time.sleep(0.05)
    return found_s

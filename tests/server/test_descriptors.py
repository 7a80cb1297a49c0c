"""A server that has no file descriptor left."""

from __future__ import annotations

import resource
import socket
import sys
import time
from pathlib import Path

from live import Framed, Server, eventually

from chatproto.wire.messages import Chat, End, Join, Say

TWISTD = str(Path(sys.executable).parent / "twistd")
MOST = 48


def limited(soft: int, hard: int) -> Server:
    """A server that begins with *soft* descriptors and may have *hard*."""
    command = [TWISTD, "-n", "--pidfile=", "chat", "--listen", "tcp:0:interface=127.0.0.1"]
    script = f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$@"'
    return Server(command=["/bin/sh", "-c", script, "sh", *command])


def test_the_server_takes_what_it_may_have() -> None:
    with limited(MOST, 2 * MOST) as server:
        assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (2 * MOST, 2 * MOST)
        assert f"at most {2 * MOST} files can be open, instead of {MOST}" in server.log()


def test_without_descriptors_it_serves_those_it_has_and_later_others_again() -> None:
    with limited(MOST, MOST) as server:
        ann, bob = server.join("ann"), server.join("bob")
        crowd = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2 * MOST)]
        eventually(lambda: server.descriptors() >= MOST - 1, "the descriptors do not run out")
        for number in range(20):
            ann.send(Say(0, "", f"{number}"))
            assert bob.until(Chat).text == f"{number}"
        assert server.process.poll() is None

        for connection in crowd:
            connection.close()
        eventually(lambda: server.descriptors() < MOST // 2, "the descriptors do not come back")
        cid = Framed(server.port)
        cid.send(Join("cid", "", 0, 0, 0), Say(0, "", "I am in"))
        cid.until(End)
        assert bob.until(Chat).text == "I am in"


def test_it_does_not_spin_while_it_has_none() -> None:
    with limited(MOST, MOST) as server:
        crowd = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2 * MOST)]
        eventually(lambda: server.descriptors() >= MOST - 1)
        eventually(lambda: used_s(server, within_s=0.2) < 0.1, "it is never idle")
        for connection in crowd:
            connection.close()


def test_the_reactor_watches_one_descriptor_for_all_sockets(tmp_path: Path) -> None:
    places = (f"unix:{tmp_path}/socket", "haproxy:tcp:0:interface=127.0.0.1")
    with Server(*[f"--listen={place}" for place in places]) as server:
        people = [server.join("ann"), server.join("bob")]
        by_epoll = watched(server)
        [gathered] = [number for number in by_epoll if any(number in those for those in by_epoll.values())]
        assert len(by_epoll[gathered]) == 1 + len(places) + len(people)  # it listens at one more


def watched(server: Server) -> dict[int, set[int]]:
    """The epoll descriptors of a server, and what is watched by each."""
    by_epoll = dict[int, set[int]]()
    for described in Path(f"/proc/{server.process.pid}/fdinfo").iterdir():
        lines = [line.split() for line in described.read_text().splitlines()]
        watching = {int(words[1]) for words in lines if words[:1] == ["tfd:"]}
        if watching:
            by_epoll[int(described.name)] = watching
    return by_epoll


def used_s(server: Server, within_s: float) -> float:
    """The CPU time that the server takes while nobody asks for anything."""
    before_s = server.cpu_s()
    time.sleep(within_s)
    return server.cpu_s() - before_s

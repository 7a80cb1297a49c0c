"""Where it listens: several places, each for some faces, on real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import PATIENCE_S, Framed, Server, eventually, unix_socket
from server.connecting import (
    LOOPBACK,
    context,
    heard_on,
    join_over_websocket,
    joined,
    live_directory,
    ports,
    socket_to,
    until,
    v2,
)
from websockets.sync.client import connect

from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Chat, Error, Join, Joined, Say


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    return live_directory(tmp_path)


class TestFaces:
    """One face each, and what the others are told there."""

    @pytest.fixture(scope="class")
    def narrowed(self) -> Iterator[dict[str, int]]:
        listen = [f"--listen={LOOPBACK}:faces={face}" for face in ("web", "frames", "lines")]
        with Server("--listen", LOOPBACK, *listen, "--history", "memory") as server:
            _, *others = ports(server, 4)
            yield dict(zip(("web", "frames", "lines"), others, strict=True))

    @pytest.mark.parametrize("face", ["web", "lines"])
    def test_frames_are_refused_with_an_error_frame(self, narrowed: dict[str, int], face: str) -> None:
        client = Framed(socket_to(narrowed[face]))
        client.send(Join("ann", "", 0, 0, 0))
        [error] = client.until_closed()
        assert isinstance(error, Error)
        assert error.code == ErrorCode.NOT_SUPPORTED
        spoken = {"web": "the web", "lines": "lines"}[face]
        assert error.text == f"this port is not for frames, only for {spoken}"
        client.close()

    @pytest.mark.parametrize("face", ["web", "frames"])
    def test_lines_are_refused_with_a_line(self, narrowed: dict[str, int], face: str) -> None:
        with socket_to(narrowed[face]) as plain:
            plain.sendall(b"ann\n")
            assert heard_on(plain).startswith(b"* this port is not for lines, only for ")

    def test_silence_is_taken_for_a_person_and_told_too(self, narrowed: dict[str, int]) -> None:
        with socket_to(narrowed["web"]) as plain:
            assert heard_on(plain) == b"* this port is not for lines, only for the web\r\n"

    @pytest.mark.parametrize("face", ["frames", "lines"])
    def test_the_web_is_refused_with_a_page(self, narrowed: dict[str, int], face: str) -> None:
        with socket_to(narrowed[face]) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head, _, body = heard_on(plain).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 403 ")
            assert body.startswith(b"this port is not for the web, only for ")

    def test_each_is_spoken_where_it_is_for(self, narrowed: dict[str, int]) -> None:
        framed = joined(socket_to(narrowed["frames"]), "ann")
        with (
            socket_to(narrowed["lines"]) as person,
            connect(f"ws://127.0.0.1:{narrowed['web']}/chat") as page,
        ):
            person.sendall(b"bob\n")
            until(person, b"* in lobby:")
            join_over_websocket(page, "cid")
            framed.send(Say(0, "", "to all of you"))
            until(person, b"ann: to all of you")
            while json.loads(page.recv(timeout=PATIENCE_S)).get("text") != "to all of you":
                pass
        framed.close()

    def test_the_log_says_which_are_spoken_where_and_how_to_come(self) -> None:
        with Server("--listen", f"{LOOPBACK}:faces=lines,web", "--history", "memory") as server:
            eventually(lambda: "talk: " in server.log())
            assert "(only for web and lines)" in server.log()
            [talk] = [line for line in server.log().splitlines() if "talk: " in line]
            assert "nc 127.0.0.1" in talk
            assert "http://127.0.0.1" in talk
            assert "chatproto-connect" not in talk


class TestManyPlaces:
    def test_people_of_all_places_are_in_one_room(self, certificates: Path, tmp_path: Path) -> None:
        listen = [LOOPBACK, f"tls:{certificates}:{LOOPBACK}", f"haproxy:{LOOPBACK}", f"unix:{tmp_path}/sock"]
        options = [f"--listen={place}" for place in listen]
        with Server("--listen", LOOPBACK, *options, "--history", "memory") as server:
            plain, _, tls, proxied = ports(server, 4)
            eventually((tmp_path / "sock").exists)
            through = socket_to(proxied)
            through.sendall(v2("203.0.113.7"))
            people = [
                joined(socket_to(plain), "ann"),
                joined(context().wrap_socket(socket_to(tls)), "bob"),
                joined(through, "cid"),
                joined(unix_socket(tmp_path / "sock"), "dan"),
            ]
            people[0].until(Joined, lambda message: message.nick == "dan")
            people[3].send(Say(0, "", "hello"))
            for person in people[:3]:
                assert person.until(Chat).text == "hello"
            for person in people:
                person.close()

"""Behind proxies that say whom a connection comes from: the PROXY protocol, and X-Forwarded-For."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from live import PATIENCE_S, Framed, Server, eventually, unix_socket
from server.connecting import (
    LOOPBACK,
    SIGNATURE,
    addresses,
    context,
    heard_on,
    join_over_websocket,
    joined,
    live_directory,
    socket_to,
    until,
    v2,
)
from websockets.sync.client import connect

from chatproto.wire.chat import encode_frame
from chatproto.wire.messages import End, Join


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    return live_directory(tmp_path)


HEADERS = {
    "v1": b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n",
    "v1-ipv6": b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n",
    "v2": v2("203.0.113.7"),
    "v2-with-more": v2("203.0.113.7", b"\x04\x00\x04abcd"),
}
CLIENTS = {"v1": "203.0.113.7", "v1-ipv6": "2001:db8::7", "v2": "203.0.113.7", "v2-with-more": "203.0.113.7"}


@contextmanager
def behind_proxy(listen: str = LOOPBACK, *options: str) -> Iterator[Server]:
    with Server(
        "--listen", f"haproxy:{listen}", "--history", "memory", "--log-format", "json", *options
    ) as server:
        yield server


class TestProxy:
    @pytest.fixture(scope="class")
    def server(self) -> Iterator[Server]:
        with behind_proxy() as server:
            yield server

    @pytest.mark.parametrize("header", HEADERS)
    def test_the_client_s_address_is_the_one_that_the_proxy_tells(self, server: Server, header: str) -> None:
        with socket_to(server.port) as plain:
            plain.sendall(HEADERS[header] + encode_frame(Join(header, "", 0, 0, 0)))
            Framed(plain).until(End)
        assert addresses(server, "frames")[-1] == CLIENTS[header]

    @pytest.mark.parametrize("header", ["v1", "v2"])
    def test_first_packets_may_be_as_small_as_they_like(self, server: Server, header: str) -> None:
        with socket_to(server.port) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in HEADERS[header] + b"ann\n":
                plain.sendall(bytes([byte]))
                plain.getsockopt(
                    socket.IPPROTO_TCP, socket.TCP_INFO
                )  # takes a moment, so each goes by itself
            until(plain, b"* in lobby: ann")
            assert addresses(server, "lines")[-1] == "203.0.113.7"

    def test_web_and_websocket_come_through_it(self, server: Server) -> None:
        with socket_to(server.port) as plain:
            plain.sendall(HEADERS["v1"])
            with connect("ws://localhost/chat", sock=plain) as page:
                join_over_websocket(page, "ann")
        assert addresses(server, "websocket-json") == ["203.0.113.7"]

    def test_its_header_stands_before_tls(self, certificates: Path) -> None:
        with behind_proxy(f"tls:{certificates}:{LOOPBACK}") as server:
            plain = socket_to(server.port)
            plain.sendall(HEADERS["v2"])
            ann = joined(context().wrap_socket(plain), "ann")
            ann.close()
            assert addresses(server, "frames") == ["203.0.113.7"]

    def test_a_health_check_of_its_own_has_its_own_address(self, server: Server) -> None:
        request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        with socket_to(server.port) as plain:
            plain.sendall(SIGNATURE + b"\x20\x00\x00\x00" + request)
            assert heard_on(plain).startswith(b"HTTP/1.1 200 ")
        with socket_to(server.port) as plain:
            plain.sendall(HEADERS["v1"] + request)
            assert heard_on(plain).startswith(b"HTTP/1.1 404 ")  # a stranger's

    @pytest.mark.parametrize(
        "beginning",
        [
            b"GET / HTTP/1.1\r\n",
            b"PROXY TCP4 here there 1 2\r\n",
            b"PROXY " + b"x" * 200,
            SIGNATURE + b"\x31\x11\0\0",
        ],
        ids=["none", "nonsense", "endless", "unknown-version"],
    )
    def test_without_a_good_header_it_is_over(self, server: Server, beginning: bytes) -> None:
        with socket_to(server.port) as plain:
            plain.sendall(beginning)
            with pytest.raises(ConnectionResetError):
                plain.recv(1)

    def test_the_log_tells_of_the_first_of_many_that_are_turned_away(self) -> None:
        with behind_proxy() as server:
            for _ in range(5):
                with socket_to(server.port) as plain, suppress(ConnectionResetError):
                    plain.sendall(b"GET / HTTP/1.1\r\n")
                    assert plain.recv(1) == b""
            eventually(lambda: "a connection from 127.0.0.1 was closed: the" in server.log())
            assert server.log().count("was closed: the") == 1

    def test_who_sends_none_is_not_waited_for_long(self) -> None:
        with behind_proxy(LOOPBACK, "--join-timeout-s", "0.2") as server, socket_to(server.port) as plain:
            plain.sendall(b"PRO")
            with pytest.raises(ConnectionResetError):
                plain.recv(1)

    def test_only_a_trusted_one_is_believed(self) -> None:
        with behind_proxy(LOOPBACK, "--trusted-proxy", "192.0.2.0/24") as server:
            for _ in range(5):
                with socket_to(server.port) as plain, suppress(ConnectionResetError):
                    plain.sendall(HEADERS["v1"])
                    assert plain.recv(1) == b""
            eventually(lambda: "it is no trusted proxy's" in server.log())
            assert server.log().count("trusted proxy's") == 1

    def test_the_limits_are_those_of_the_client(self) -> None:
        with behind_proxy(LOOPBACK, "--max-connections-per-address", "2") as server:
            clients = [socket_to(server.port) for _ in range(3)]
            for number, client in enumerate(clients):
                client.sendall(HEADERS["v1"] + f"ann{number}\n".encode())
                until(client, b"* in lobby:" if number < 2 else b"too many connections from your address")
                client.settimeout(PATIENCE_S)
            other = socket_to(server.port)
            other.sendall(b"PROXY TCP4 203.0.113.8 192.0.2.1 4711 443\r\nbob\n")
            until(other, b"* in lobby:")
            for plain in (*clients, other):
                plain.close()

    def test_it_may_come_by_a_unix_socket(self, tmp_path: Path) -> None:
        with Server(
            *("--listen", LOOPBACK, "--listen", f"haproxy:unix:{tmp_path}/sock"),
            *("--history", "memory", "--log-format", "json"),
        ) as server:
            eventually((tmp_path / "sock").exists)
            with unix_socket(tmp_path / "sock") as plain:
                plain.sendall(HEADERS["v2"] + b"ann\n")
                until(plain, b"* in lobby: ann")
            assert addresses(server, "lines") == ["203.0.113.7"]


def from_whom(server: Server, values: list[str]) -> str:
    """The address of a WebSocket that came with these fields of X-Forwarded-For."""
    headers = [("X-Forwarded-For", value) for value in values]
    place = f"ws://127.0.0.1:{server.port}/chat"
    with connect(place, additional_headers=headers) as page:
        join_over_websocket(page, "ann")
    return addresses(server, "websocket-json")[-1]


def with_json_log(*options: str) -> Server:
    return Server("--history", "memory", "--log-format", "json", *options)


class TestForwardedFor:
    @pytest.fixture(scope="class")
    def server(self) -> Iterator[Server]:
        with with_json_log() as server:
            yield server

    @pytest.mark.parametrize(
        ("values", "address"),
        [
            (["203.0.113.7"], "203.0.113.7"),
            (["198.51.100.1, 203.0.113.7"], "203.0.113.7"),
            (["198.51.100.1", "203.0.113.7"], "203.0.113.7"),
            ([], "127.0.0.1"),
            (["nonsense"], "127.0.0.1"),
        ],
        ids=["one", "forged-before-it", "two-fields", "none", "nonsense"],
    )
    def test_a_websocket_is_from_whom_the_proxy_says(
        self, server: Server, values: list[str], address: str
    ) -> None:
        assert from_whom(server, values) == address

    def test_all_proxies_on_the_way_may_be_trusted(self) -> None:
        with with_json_log("--trusted-proxy=127.0.0.1", "--trusted-proxy=203.0.113.0/24") as server:
            assert from_whom(server, ["2001:db8::1, 203.0.113.7"]) == "2001:db8::1"

    def test_who_is_not_trusted_is_not_believed(self) -> None:
        with with_json_log("--trusted-proxy=192.0.2.1") as server:
            assert from_whom(server, ["203.0.113.7"]) == "127.0.0.1"

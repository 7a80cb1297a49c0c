"""Floods below TLS: handshakes that are begun and never finished, garbage, and readers that do not read."""

from __future__ import annotations

import socket
import ssl
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from faults.test_hostile import read_to_end
from live import PATIENCE_S, Server, eventually
from OpenSSL import SSL
from server.asking import figures
from server.connecting import LOOPBACK, SIGNATURE, context, joined, live_directory, ports, socket_to

from chatproto.net.admission import EXPLAINED_PER_S
from chatproto.wire.chat import encode_frame
from chatproto.wire.messages import Ack, Join, Joined, Ping, Pong, Say

MB = 1_000_000
JOIN_TIMEOUT_S = 1.0
PLAIN = ("--listen", LOOPBACK, "--history", "memory", "--join-timeout-s", str(JOIN_TIMEOUT_S))

HELLO = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(range(32)) + b"\x00"
"""The beginning of a ClientHello of 165 bytes."""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return live_directory(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def running(live: Path) -> Iterator[Server]:
    """Without a bound of the connections, which is another test's; the second port is the plain one."""
    with Server("--listen", f"tls:{live}:{LOOPBACK}", *PLAIN) as server:
        ports(server, 2)
        yield server
        assert "Traceback" not in server.log()


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    """After each test somebody is served, over TLS and without, and nothing is left open."""
    before = running.descriptors()
    yield running
    joined(context().wrap_socket(running.raw()), "newcomer").close()
    joined(socket_to(ports(running, 2)[1]), "another").close()
    eventually(lambda: running.descriptors() <= before, "everybody is gone")


def begun(server: Server, data: bytes) -> socket.socket:
    plain = server.raw()
    plain.sendall(data)
    return plain


class TestHandshakes:
    def test_that_are_never_finished_cost_little_and_end_in_time(self, server: Server) -> None:
        ann = joined(context().wrap_socket(server.raw()), "ann")
        before_bytes = server.rss_bytes()
        waiting = [begun(server, HELLO[: 1 + number % len(HELLO)]) for number in range(200)]
        ann.send(Ping(1))
        assert ann.until(Pong)
        assert server.rss_bytes() - before_bytes < 200 * 150_000
        for plain in waiting:
            assert b"chatproto" not in read_to_end(plain)  # an alert at most
            plain.close()
        ann.close()

    def test_that_trickle_in_have_no_more_time(self, server: Server) -> None:
        begun_s = time.monotonic()
        plain = begun(server, b"")
        with plain, suppress(ConnectionError):
            for byte in HELLO:
                plain.sendall(bytes([byte]))
                time.sleep(0.1)
        assert JOIN_TIMEOUT_S * 0.9 < time.monotonic() - begun_s < len(HELLO) * 0.1

    @pytest.mark.parametrize(
        "garbage",
        [
            b"\x16\x03\x01\xff\xff" + bytes(65_535),
            b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff" + bytes(16_380),
            b"\x17\x03\x03\x00\x20" + bytes(32),
            b"\x15\x03\x03\x00\x02\x02\x28" * 1_000,
            b"\x16\x03\x01\x00\x00" * 20_000,
            b"\x80\x2e\x01\x03\x01",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            SIGNATURE * 100,
            bytes(range(256)) * 400,
        ],
        ids=["long-record", "long-hello", "data", "alerts", "empty", "ssl2", "http", "proxy", "bytes"],
    )
    def test_records_that_are_garbage_end_the_connection(self, server: Server, garbage: bytes) -> None:
        before_bytes = server.rss_bytes()
        plain = server.raw()
        with suppress(OSError):
            plain.sendall(garbage)
        assert len(read_to_end(plain)) < 1_000
        plain.close()
        assert server.rss_bytes() - before_bytes < 5 * MB

    def test_garbage_behind_a_handshake_ends_the_connection_too(self, server: Server) -> None:
        secure = context().wrap_socket(server.raw())
        client = joined(secure, "ann")
        with socket.socket(fileno=secure.detach()) as plain:
            plain.settimeout(PATIENCE_S)
            plain.sendall(b"\x17\x03\x03\x40\x00" + bytes(16_384))
            assert len(read_to_end(plain)) < 1_000
        assert client.of(Pong) == []

    def test_one_after_the_other_leave_nothing(self, server: Server) -> None:
        for _ in range(20):
            context().wrap_socket(server.raw()).close()
        before_bytes = server.rss_bytes()
        for number in range(300):
            secure = context().wrap_socket(server.raw())
            if number % 2:
                secure.sendall(encode_frame(Ping(number)))
            secure.close()
        assert server.rss_bytes() - before_bytes < 8 * MB

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
    def test_versions_that_are_broken_are_not_spoken(self, server: Server, version: ssl.TLSVersion) -> None:
        old = context()
        old.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings(action="ignore"):
            old.minimum_version = old.maximum_version = version
        with server.raw() as plain, pytest.raises(ssl.SSLError):
            old.wrap_socket(plain)

    def test_nobody_negotiates_anew(self, server: Server) -> None:
        chosen = SSL.Context(SSL.TLSv1_2_METHOD)
        with server.raw() as plain:
            plain.setblocking(True)
            secure = SSL.Connection(chosen, plain)
            secure.set_connect_state()
            secure.do_handshake()
            secure.renegotiate()
            with pytest.raises(SSL.Error, match="no renegotiation"):
                secure.do_handshake()


def client_hello() -> bytes:
    """What a client begins with."""
    sent = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context().wrap_bio(ssl.MemoryBIO(), sent).do_handshake()
    return sent.read()


def test_a_flood_of_handshakes_is_mostly_closed_before_any_work_is_done_for_it(live: Path) -> None:
    """Each that is let in, or told why not, costs a handshake; of the latter there are a hundred a second."""
    behind = ("--listen", f"haproxy:tls:{live}:{LOOPBACK}", *PLAIN)
    with Server(*behind, "--max-arrivals-per-address-per-s", "5") as server:
        _, plain_port = ports(server, 2)
        hello = client_hello()
        begin_s = time.monotonic()
        flood = [begun(server, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n" + hello) for _ in range(800)]
        answered = sum(first_byte(plain) == b"\x16" for plain in flood)
        seconds = time.monotonic() - begin_s
        assert 5 <= answered <= (5 + EXPLAINED_PER_S) * (seconds + 2)  # in 6 s and more that is all
        name = 'chat_limited_total{limit="max_arrivals_per_address_per_s"}'
        assert figures(plain_port)[name] >= 800 - 5 * (seconds + 2)
        with begun(server, b"PROXY TCP4 192.0.2.77 192.0.2.2 1 443\r\n") as other:
            joined(context().wrap_socket(other), "bob").close()


def first_byte(plain: socket.socket) -> bytes:
    with plain:
        try:
            return plain.recv(1)
        except ConnectionError:
            return b""


class TestReaders:
    def test_one_that_takes_nothing_is_bounded_over_tls_too_and_let_go(self, live: Path) -> None:
        limits = ("--max-queued-bytes", "65536", "--lag-timeout-s", "1")
        with Server("--listen", f"tls:{live}:{LOOPBACK}", *PLAIN, *limits) as server:
            talker = joined(context().wrap_socket(server.raw()), "talker")
            deaf = context().wrap_socket(server.raw(receive_buffer_bytes=4_096))
            deaf.sendall(encode_frame(Join("deaf")))
            talker.until(Joined)
            before_bytes = server.rss_bytes()
            for number in range(1, 2_001):
                talker.send(Say(number, "", "x" * 4_000))
            talker.until(Ack, lambda ack: ack.id == 2_000)
            # The log keeps 4 MiB of what was said in a room.
            assert server.rss_bytes() - before_bytes < 16 * MB
            plain_port = ports(server, 2)[1]
            name = 'chat_sessions_ended_total{reason="too slow"}'
            eventually(lambda: figures(plain_port)[name] == 1, "it is not let go")
            talker.send(Say(9_999, "", "still here"))
            talker.until(Ack, lambda ack: ack.id == 9_999)
            deaf.close()

    def test_pings_whose_pongs_are_never_read_are_taken_no_more(self, server: Server) -> None:
        secure = context().wrap_socket(server.raw(receive_buffer_bytes=4_096))
        client = joined(secure, "eve")
        before_bytes = server.rss_bytes()
        secure.setblocking(False)
        sent, last_s, pings = 0, time.monotonic(), encode_frame(Ping(1)) * 1_000
        while sent < 60 * MB and time.monotonic() - last_s < 0.5:
            try:
                sent += secure.send(pings[sent % 13 :])
                last_s = time.monotonic()
            except (ssl.SSLWantWriteError, BlockingIOError):
                time.sleep(0.01)
        assert sent < 60 * MB
        assert server.rss_bytes() - before_bytes < 8 * MB
        client.reset()

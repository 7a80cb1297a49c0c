"""Peers that do not take what they are sent, or will not part: they cost little, and not for long."""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from faults.costs import MIB, Cost, keep
from faults.websocket_peer import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    EchoServer,
    Peer,
    PushingServer,
    Received,
    closing_frame,
    deflated,
    frame,
    read_to_end,
)

SLACK_BYTES = 4 * MIB
"""For what else moves in a process: one read and its frames, the allocator's arenas, what others left."""
QUEUE_BYTES = MIB
"""What may wait for one peer by default; the largest message may come on top of half of it."""

MILLION = 1_000_000
STALL_TIMEOUT_S = 2.0
CLOSE_TIMEOUT_S = 0.5

QUIET_S = 0.3
"""No more is taken if nothing was for so long; much less than the server waits for who takes nothing."""

QUICK = ("--stall-timeout-s", str(STALL_TIMEOUT_S), "--close-timeout-s", str(CLOSE_TIMEOUT_S))


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, EchoServer]]:
    """An echo, by the factory and by the resource, for all tests."""
    with EchoServer(*QUICK) as factory, EchoServer(*QUICK, "--resource") as resource:
        yield {"factory": factory, "resource": resource}


@pytest.fixture
def server(running: dict[str, EchoServer]) -> Iterator[EchoServer]:
    """By the factory. It serves a newcomer in the end."""
    yield from running["factory"].in_use()


@pytest.fixture(params=["factory", "resource"])
def either(running: dict[str, EchoServer], request: pytest.FixtureRequest) -> Iterator[EchoServer]:
    """By each of them. It serves a newcomer in the end."""
    yield from running[request.param].in_use()


@pytest.fixture(scope="module")
def pushing_all_the_time() -> Iterator[PushingServer]:
    """Its applications send without being asked, and close, and drop connections."""
    limits = (f"close_timeout_s={CLOSE_TIMEOUT_S}", f"stall_timeout_s={STALL_TIMEOUT_S}")
    with PushingServer("--deflate", *limits) as running:
        yield running


@pytest.fixture
def pushing(pushing_all_the_time: PushingServer) -> Iterator[PushingServer]:
    """The same. It serves a newcomer in the end."""
    yield from pushing_all_the_time.in_use()


def mode(server: EchoServer) -> str:
    """How the layer is used."""
    return "resource" if "--resource" in server.command else "factory"


class TestPings:
    @pytest.mark.parametrize("size", [0, 125])
    def test_two_million_pings_whose_pongs_are_not_read_cost_little(
        self, either: EchoServer, size: int
    ) -> None:
        ping = frame(PING, bytes(size))
        what = f"two million pings of {size} bytes, pongs unread, {mode(either)}"
        with Peer(either, receive_buffer_bytes=4_096) as peer, Cost(either, what) as cost:
            sent = peer.send_unread(ping * 10_000, 2 * MILLION * len(ping))
            cost.more["pings_taken"] = sent // len(ping)
        assert cost.peak_bytes < QUEUE_BYTES + SLACK_BYTES

    def test_whoever_floods_with_them_and_reads_no_pong_is_let_go(self, server: EchoServer) -> None:
        ping = frame(PING, bytes(125))
        with Peer(server, receive_buffer_bytes=4_096) as peer:
            began_s = time.monotonic()
            peer.send_unread(ping * 10_000, 2 * MILLION * len(ping), quiet_s=4 * STALL_TIMEOUT_S)
            server.await_quiet()
            took_s = time.monotonic() - began_s
            keep("a flood of pings, pongs unread, let go", stall_timeout_s=STALL_TIMEOUT_S, after_s=took_s)

    @pytest.mark.parametrize(
        "n_pings", [200_000, pytest.param(2 * MILLION, marks=pytest.mark.slow)], ids="{:,}".format
    )
    def test_many_pings_whose_pongs_are_read_all_have_one(self, server: EchoServer, n_pings: int) -> None:
        with Peer(server) as peer, Cost(server, f"{n_pings:,} pings, pongs read") as cost:
            received = 0

            def read() -> None:
                nonlocal received
                while received < 2 * n_pings and (data := peer.socket.recv(2**20)):
                    assert not data.strip(b"\x8a\x00")
                    received += len(data)

            reading = threading.Thread(target=read)
            reading.start()
            for _ in range(20):
                peer.socket.sendall(frame(PING) * (n_pings // 20))
            reading.join()
            assert received == 2 * n_pings
            peer.round_trip_s()
        assert cost.peak_bytes < QUEUE_BYTES + SLACK_BYTES


class TestEchoOfItsOwn:
    @pytest.mark.parametrize("size", [20, 1_000, 65_536, MIB])
    def test_it_is_not_read_from_until_it_reads(self, server: EchoServer, size: int) -> None:
        """What is not taken from it stays in its own memory. It loses nothing."""
        one = frame(BINARY, bytes(size))
        data = one * max(1, 65_536 // len(one))
        with Peer(server, receive_buffer_bytes=4_096) as peer:
            with Cost(server, f"echo of its own, messages of {size:,} bytes, unread") as cost:
                sent = peer.send_unread(data, 200 * MIB, quiet_s=QUIET_S)
                cost.more["taken_mb"] = round(sent / 1e6, 1)
            assert cost.peak_bytes < QUEUE_BYTES // 2 + size + SLACK_BYTES
            assert sent < 100 * MIB
            sending = threading.Thread(target=peer.socket.sendall, args=[data[sent % len(data) :]])
            sending.start()
            n_sent = -(-sent // len(data)) * (len(data) // len(one))
            for _ in range(n_sent):
                received = peer.receive()
                assert received is not None
                assert (received.opcode, len(received.payload)) == (BINARY, size)
            sending.join()
            peer.round_trip_s()

    def test_it_is_let_go_when_it_takes_nothing(self, either: EchoServer) -> None:
        data = frame(TEXT, b"x" * 1_000) * 60
        what = f"echo of its own, unread, until let go, {mode(either)}"
        with Peer(either, receive_buffer_bytes=4_096) as peer, Cost(either, what) as cost:
            began_s = time.monotonic()
            peer.send_unread(data, 200 * MIB, quiet_s=5 * STALL_TIMEOUT_S)
            either.await_quiet()
            cost.more["after_s"] = round(time.monotonic() - began_s, 2)
        assert cost.peak_bytes < QUEUE_BYTES + SLACK_BYTES

    def test_who_reads_slowly_is_not(self, server: EchoServer) -> None:
        data = frame(BINARY, bytes(65_536)) * 4
        with Peer(server, receive_buffer_bytes=4_096) as peer:
            sent = peer.send_unread(data, 200 * MIB, quiet_s=QUIET_S)
            began_s = time.monotonic()
            read = 0
            while time.monotonic() - began_s < 2 * STALL_TIMEOUT_S:
                read += len(peer.socket.recv(65_536))
                time.sleep(STALL_TIMEOUT_S / 20)
            assert 0 < read < sent
            assert server.descriptors() == server.quiet_descriptors + 1


class TestPushed:
    """An application that sends without being asked."""

    @pytest.mark.parametrize("size", [50, 1_000, MIB // 4])
    def test_a_peer_that_does_not_read_is_broken_when_the_bound_is_passed(
        self, pushing: PushingServer, size: int
    ) -> None:
        path, what = f"/push/{size}", f"pushed at, messages of {size:,} bytes, unread"
        with Cost(pushing, what) as cost, Peer(pushing, path, receive_buffer_bytes=4_096) as peer:
            assert "ConnectionBroken 1008" in pushing.await_end(path, 0)
            read_to_end(peer.socket)
        assert cost.peak_bytes < QUEUE_BYTES + size + SLACK_BYTES

    def test_one_that_is_heeded_waits_for_it_and_is_let_go_when_it_takes_nothing(
        self, pushing: PushingServer
    ) -> None:
        path, what = "/produce/1000", "pushed at by an application that heeds it, unread"
        n_ends = len(pushing.ends(path))
        began_s = time.monotonic()
        with Peer(pushing, path, receive_buffer_bytes=4_096), Cost(pushing, what) as cost:
            assert "ConnectionBroken 1008" in pushing.await_end(path, n_ends)
            took_s = time.monotonic() - began_s
            cost.more.update(stall_timeout_s=STALL_TIMEOUT_S, after_s=round(took_s, 2))
        assert took_s > STALL_TIMEOUT_S * 0.8
        assert cost.peak_bytes < QUEUE_BYTES + SLACK_BYTES

    def test_one_that_is_heeded_and_reads_again_gets_on(self, pushing: PushingServer) -> None:
        path = "/produce/1000"
        n_ends = len(pushing.ends(path))
        with Peer(pushing, path, receive_buffer_bytes=4_096) as peer:
            for _ in range(2):
                time.sleep(QUIET_S)
                for _ in range(10_000):
                    assert peer.receive() == Received(BINARY, bytes(1_000))
            assert len(pushing.ends(path)) == n_ends


class TestClosing:
    def test_a_close_that_is_never_answered_is_not_waited_for(self, pushing: PushingServer) -> None:
        n_ends = len(pushing.ends("/close"))
        with Peer(pushing, "/close") as peer, Cost(pushing, "a close that is never answered") as cost:
            began_s = time.monotonic()
            peer.send(TEXT, b"enough?")
            assert closing_frame(peer).code == 1000
            end = pushing.await_end("/close", n_ends)
            took_s = time.monotonic() - began_s
            cost.more.update(close_timeout_s=CLOSE_TIMEOUT_S, after_s=round(took_s, 2))
        assert took_s > CLOSE_TIMEOUT_S - 0.125
        assert end == "ConnectionBroken 1006"

    def test_a_failed_connection_is_not_waited_for_either(self, server: EchoServer) -> None:
        with Peer(server) as peer, Cost(server, "a failed connection that stays") as cost:
            peer.socket.sendall(b"\xff" * 100)
            assert closing_frame(peer).code == 1002
            began_s = time.monotonic()
            server.await_quiet()
            took_s = time.monotonic() - began_s
            cost.more.update(close_timeout_s=CLOSE_TIMEOUT_S, after_s=round(took_s, 2))

    @pytest.mark.parametrize(
        ("what", "data", "deflate"),
        [
            ("texts", frame(TEXT, b"x" * 1_000) * 60, False),
            ("pings", frame(PING) * 10_000, False),
            ("a message without an end", frame(0, b"x" * 1_000, fin=False) * 60, False),
            ("bombs", frame(BINARY, deflated(bytes(MIB)), rsv1=True) * 60, True),
        ],
        ids=["texts", "pings", "a message without an end", "bombs"],
    )
    def test_a_close_that_is_answered_with_more_for_ever_is_not_listened_to_for_long(
        self, pushing: PushingServer, what: str, data: bytes, deflate: bool
    ) -> None:
        n_ends = len(pushing.ends("/close"))
        with Peer(pushing, "/close", deflate=deflate) as peer:
            with Cost(pushing, f"a close that is answered with {what} for ever") as cost:
                peer.send(TEXT, b"enough?")
                if data[0] & 15 == 0:
                    peer.send(TEXT, b"and what I always", fin=False)
                began_s = time.monotonic()
                sent = peer.send_unread(data, 10**12, quiet_s=4 * CLOSE_TIMEOUT_S)
                pushing.await_end("/close", n_ends)
                cost.more.update(
                    close_timeout_s=CLOSE_TIMEOUT_S,
                    after_s=round(time.monotonic() - began_s, 2),
                    sent_mb=round(sent / 1e6, 1),
                )
            assert cost.peak_bytes < 4 * MIB + SLACK_BYTES

    def test_a_failed_connection_that_goes_on_is_not_listened_to_for_long(self, server: EchoServer) -> None:
        with Peer(server) as peer, Cost(server, "a failed connection that goes on for ever") as cost:
            peer.send(3)
            began_s = time.monotonic()
            sent = peer.send_unread(bytes(2**16), 10**12, quiet_s=4 * CLOSE_TIMEOUT_S)
            server.await_quiet()
            cost.more.update(after_s=round(time.monotonic() - began_s, 2), sent_mb=round(sent / 1e6, 1))
        assert cost.peak_bytes < SLACK_BYTES

    def test_a_peer_that_closes_and_takes_no_answer_is_let_go(self, server: EchoServer) -> None:
        """Its echo is in the way of the answer to its close frame."""
        data = frame(BINARY, bytes(100_000))
        what = "a peer that closes and takes no answer"
        with Peer(server, receive_buffer_bytes=4_096) as peer, Cost(server, what) as cost:
            sent = peer.send_unread(data, 200 * MIB, quiet_s=QUIET_S)
            peer.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                peer.socket.sendall(data[sent % len(data) :] + frame(CLOSE, struct.pack(">H", 1000)))
            server.await_quiet()
        assert cost.peak_bytes < QUEUE_BYTES + SLACK_BYTES

    def test_a_hundred_that_hang_up_without_a_word_leave_nothing(self, server: EchoServer) -> None:
        with Cost(server, "a hundred that hang up in the middle") as cost:
            for number in range(100):
                with Peer(server) as peer:
                    peer.socket.sendall(frame(TEXT, b"x" * 1_000) * 30 + frame(PING, b"?" * 100)[:50])
                    if number % 2:
                        peer.reset()
            server.await_quiet()
        assert cost.peak_bytes < SLACK_BYTES


def test_pongs_that_nobody_asked_for_are_taken(server: EchoServer) -> None:
    with Peer(server) as peer, Cost(server, "200,000 pongs that nobody asked for") as cost:
        peer.socket.sendall(frame(PONG, b"here I am") * 200_000)
        peer.round_trip_s()
    assert cost.peak_bytes < SLACK_BYTES

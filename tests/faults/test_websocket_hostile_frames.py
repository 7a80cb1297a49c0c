"""Frames made to hurt: they are answered with the right close code, or work, and cost what their bytes cost.

Peaks are the server's resident set beyond what it had before, in which the kernel's socket buffers do not
count. `costs.py` keeps them, and the CPU time, in a table.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

import pytest
from faults.costs import MIB, Cost, keep
from faults.websocket_peer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    PING,
    PONG,
    TEXT,
    EchoServer,
    Peer,
    Received,
    frame,
    header,
    inflated,
    masked,
)

SLACK_BYTES = 4 * MIB
"""For what else moves in a process: one read and its frames, the allocator's arenas, what others left."""

LIMIT_BYTES = MIB
"""What a message may have by default."""

MILLION = 1_000_000


@pytest.fixture(scope="module")
def running() -> Iterator[EchoServer]:
    """For all tests."""
    with EchoServer("--deflate") as server:
        yield server


@pytest.fixture
def server(running: EchoServer) -> Iterator[EchoServer]:
    """It serves a newcomer in the end."""
    yield from running.in_use()


def start(opcode: int, length: int, *, fin: bool = True, rsv1: bool = False) -> bytes:
    """A header with *length* in eight bytes, whatever it is."""
    first = opcode | (0x80 if fin else 0) | (0x40 if rsv1 else 0)
    return struct.pack(">BBQ", first, 0xFF, length) + KEY


def test_lengths_that_nobody_means_are_refused_before_anything_is_kept_for_them(server: EchoServer) -> None:
    lengths = sorted(
        {LIMIT_BYTES + 1, *(2**power + more for power in range(21, 65) for more in (-1, 0, 1))}
        - {2**64, 2**64 + 1}
    )
    assert {2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1} <= {*lengths}
    with Cost(server, "lengths from the limit to 2^64", connections=4 * len(lengths)) as cost:
        for length in lengths:
            for deflate in (False, True):
                bound = LIMIT_BYTES * 8 // 7 + 100 if deflate else LIMIT_BYTES
                if length <= bound:
                    continue
                for opcode in (TEXT, BINARY):
                    with Peer(server, deflate=deflate) as peer:
                        peer.socket.sendall(start(opcode, length, rsv1=deflate))
                        assert peer.closed().code == (1002 if length >= 2**63 else 1009), length
    assert cost.peak_bytes < SLACK_BYTES


def test_lengths_whose_sum_overflows_are_refused(server: EchoServer) -> None:
    ones = [
        (first, then)
        for first in (1, 2, 1_000, LIMIT_BYTES - 1, LIMIT_BYTES)
        for then in (2**63 - first, 2**63 - 1, 2**64 - first, 2**62, 2**32 - first, LIMIT_BYTES - first + 1)
    ]
    with Cost(server, "lengths whose sum overflows", connections=len(ones)) as cost:
        for first, then in ones:
            with Peer(server) as peer:
                peer.send(BINARY, bytes(first), fin=False)
                peer.socket.sendall(
                    start(CONTINUATION, then) if then > 0xFFFF else header(CONTINUATION, then)
                )
                assert peer.closed().code == (1002 if then >= 2**63 else 1009), (first, then)
    assert cost.peak_bytes < 2 * LIMIT_BYTES + SLACK_BYTES


@pytest.mark.parametrize("length", [126, 2**16, 2**63 - 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_a_control_frame_that_says_to_be_long_is_refused(
    server: EchoServer, opcode: int, length: int
) -> None:
    with Peer(server) as peer:
        peer.socket.sendall(start(opcode, length))
        assert peer.closed().code == 1002


@pytest.mark.parametrize("payload", [b"", b"x"], ids=["empty", "one byte"])
def test_a_million_fragments_are_a_message(server: EchoServer, payload: bytes) -> None:
    data = frame(TEXT, payload, fin=False) + frame(CONTINUATION, payload, fin=False) * (MILLION - 2)
    data += frame(CONTINUATION, payload)
    what = f"a million {'one-byte' if payload else 'empty'} fragments"
    with Peer(server) as peer, Cost(server, what, sent_mb=round(len(data) / 1e6, 1)) as cost:
        peer.socket.sendall(data)
        assert peer.receive() == Received(TEXT, payload * MILLION)
        peer.round_trip_s()
    # The message grows by doubling, and is once more there as a str, and once as what is sent.
    assert cost.peak_bytes < 4 * len(payload) * MILLION + SLACK_BYTES


def test_a_million_compressed_one_byte_fragments_are_a_message(server: EchoServer) -> None:
    """Each is inflated for itself, so that a fault is found in the one that has it."""
    block = b"\x00\x05\x00\xfa\xffhello"  # without compression
    n_blocks = MILLION // len(block)
    fragments = [frame(CONTINUATION, bytes([byte]), fin=False) for byte in block]
    data = frame(TEXT, block[:1], fin=False, rsv1=True) + b"".join(fragments[1:])
    data += b"".join(fragments) * (n_blocks - 1) + frame(CONTINUATION, b"\x00")
    with Peer(server, deflate=True) as peer:
        with Cost(
            server, "a million compressed one-byte fragments", sent_mb=round(len(data) / 1e6, 1)
        ) as cost:
            peer.socket.sendall(data)
            received = peer.receive()
        assert received is not None
        assert inflated(received) == b"hello" * n_blocks
        peer.round_trip_s()
    assert cost.peak_bytes < 4 * MIB + SLACK_BYTES


def test_an_endless_message_ends_at_the_limit(server: EchoServer) -> None:
    piece = frame(CONTINUATION, bytes(1_000), fin=False)
    with Peer(server) as peer, Cost(server, "endless continuations of 1,000 bytes") as cost:
        peer.send(BINARY, b"", fin=False)
        sent = peer.send_unread(piece * 60, 20 * MIB)
        assert sent > LIMIT_BYTES
        assert peer.closed().code == 1009
    assert cost.peak_bytes < LIMIT_BYTES + SLACK_BYTES


def test_endless_empty_continuations_keep_nothing_and_nobody_waiting(server: EchoServer) -> None:
    """No byte comes of them, and none is kept: they are legal for as long as somebody likes to send them."""
    empty = frame(CONTINUATION, fin=False) * 100_000
    with Peer(server) as peer, Cost(server, "three million empty continuations without an end") as cost:
        peer.send(TEXT, b"still ", fin=False)
        for _ in range(30):
            peer.socket.sendall(empty)
            peer.round_trip_s()
        peer.send(CONTINUATION, b"here")
        assert peer.receive() == Received(TEXT, b"still here")
    assert cost.peak_bytes < SLACK_BYTES


def test_a_frame_that_comes_byte_by_byte_works(server: EchoServer) -> None:
    text = "so slow, so sl\u00f6w ".encode() * 60
    data = frame(TEXT, text)
    with Peer(server) as peer, Cost(server, "a frame byte by byte", bytes=len(data)) as cost:
        for byte in data:
            peer.socket.sendall(bytes([byte]))
            time.sleep(0.0005)  # so that most of them travel alone
        assert peer.receive() == Received(TEXT, text)
    assert cost.peak_bytes < SLACK_BYTES


def test_half_a_frame_each_of_a_hundred_costs_what_was_sent_and_is_given_back() -> None:
    n_peers, half = 100, masked(bytes(LIMIT_BYTES // 2))
    what = "a hundred connections with half a frame"
    once_bytes = n_peers * len(half)
    with EchoServer() as server:
        with Cost(server, what, sent_mib=once_bytes // MIB) as cost:
            peers = half_a_frame_each(server, n_peers, half)
            peers[0].socket.sendall(half)
            assert peers[0].receive() == Received(BINARY, bytes(LIMIT_BYTES))
            server.assert_well()
        assert cost.peak_bytes < once_bytes * 5 // 4 + 4 * LIMIT_BYTES
        leave(server, peers)
        keep(f"{what}, and they are gone", kept_mib=(server.rss_bytes() - server.fresh_bytes) / MIB)
        for _ in range(3):
            leave(server, half_a_frame_each(server, n_peers, half))
        # The allocator may keep what it had once, for the next. What is lost would add up.
        assert server.rss_bytes() - server.fresh_bytes < once_bytes * 5 // 4
        server.assert_well()


def half_a_frame_each(server: EchoServer, n_peers: int, half: bytes) -> list[Peer]:
    peers = [Peer(server) for _ in range(n_peers)]
    for peer in peers:
        peer.socket.sendall(header(BINARY, LIMIT_BYTES) + half)
    for peer in peers:
        peer.await_taken()
    return peers


def leave(server: EchoServer, peers: list[Peer]) -> None:
    for peer in peers:
        peer.socket.close()
    server.await_quiet()


def test_a_hundred_announced_frames_that_do_not_come_cost_nothing(server: EchoServer) -> None:
    peers = [Peer(server) for _ in range(100)]
    with Cost(server, "a hundred connections with a frame announced") as cost:
        for peer in peers:
            peer.socket.sendall(header(BINARY, LIMIT_BYTES) + b"x")
        with Peer(server) as other:
            other.round_trip_s()
    assert cost.peak_bytes < SLACK_BYTES
    for peer in peers:
        peer.reset()

"""Compressed messages made to hurt: none is memory before it is known to be within the limit."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from faults.costs import MIB, Cost
from faults.websocket_peer import (
    BINARY,
    CONTINUATION,
    TEXT,
    EchoServer,
    Peer,
    Received,
    deflated,
    deflated_part,
    frame,
    inflated,
)

SLACK_BYTES = 4 * MIB
"""For what else moves in a process: one read and its frames, the allocator's arenas, what others left."""
LIMIT_BYTES = MIB
BOMB_BYTES = 1024 * MIB


@pytest.fixture(scope="module")
def running() -> Iterator[EchoServer]:
    """For all tests."""
    with EchoServer("--deflate") as server:
        yield server


@pytest.fixture
def server(running: EchoServer) -> Iterator[EchoServer]:
    """It serves a newcomer in the end."""
    yield from running.in_use()


def bomb(n_frames: int) -> bytes:
    """A message of 1 GiB of zeros."""
    if n_frames == 1:
        part = deflated_part(bytes(16 * MIB))
        return frame(BINARY, part * (BOMB_BYTES // (16 * MIB)) + b"\0", rsv1=True)
    part = deflated_part(bytes(BOMB_BYTES // n_frames))
    first = frame(BINARY, part, fin=False, rsv1=True)
    return first + frame(CONTINUATION, part, fin=False) * (n_frames - 1) + frame(CONTINUATION, b"\0")


@pytest.mark.parametrize("n_frames", [1, 64, 1_024, 262_144])
def test_a_bomb_is_refused_before_it_is_memory(server: EchoServer, n_frames: int) -> None:
    data = bomb(n_frames)
    what = f"a bomb of 1 GiB in {'one frame' if n_frames == 1 else f'{n_frames:,} frames'}"
    with Peer(server, deflate=True) as peer, Cost(server, what, sent_mb=round(len(data) / 1e6, 1)) as cost:
        peer.send_unread(data, len(data))
        assert peer.closed().code == 1009
    # The frame that has the bomb, as it came; and the message as far as it may be, in its pieces and joined.
    assert cost.peak_bytes < (LIMIT_BYTES if n_frames == 1 else 0) + 2 * LIMIT_BYTES + SLACK_BYTES


def test_a_message_may_inflate_to_the_limit_and_to_no_byte_more(server: EchoServer) -> None:
    with Peer(server, deflate=True) as peer:
        peer.send(BINARY, deflated(bytes(LIMIT_BYTES)), rsv1=True)
        received = peer.receive()
        assert received is not None
        assert inflated(received) == bytes(LIMIT_BYTES)
        peer.send(BINARY, deflated(bytes(LIMIT_BYTES + 1)), rsv1=True)
        assert peer.closed().code == 1009


def test_many_messages_that_each_inflate_to_the_limit_are_not_there_at_once(server: EchoServer) -> None:
    """All are in what the server reads at once, and each is a legal message."""
    one = frame(BINARY, deflated(bytes(LIMIT_BYTES)), rsv1=True)
    n = 60
    assert n * len(one) < 65_536
    what = f"{n} messages in one read, each of 1 MiB inflated"
    with Peer(server, deflate=True) as peer, Cost(server, what, sent_bytes=n * len(one)) as cost:
        peer.socket.sendall(one * n)
        for _ in range(n):
            received = peer.receive()
            assert received is not None
            assert len(inflated(received)) == LIMIT_BYTES
    assert cost.peak_bytes < 4 * LIMIT_BYTES + SLACK_BYTES


def test_the_same_from_a_peer_that_does_not_read(server: EchoServer) -> None:
    """Incompressible for the server, so that the answers do not fit into what the kernel holds."""
    noise = frame(BINARY, deflated(random.Random(1).randbytes(LIMIT_BYTES)), rsv1=True)
    zeros = frame(BINARY, deflated(bytes(LIMIT_BYTES)), rsv1=True)
    data = noise * 16 + zeros * 600
    what = "compressed messages of 1 MiB, answers unread"
    with (
        Peer(server, deflate=True, receive_buffer_bytes=4_096) as peer,
        Cost(server, what) as cost,
    ):
        peer.send_unread(data, len(data))
    assert cost.peak_bytes < 6 * LIMIT_BYTES + SLACK_BYTES


@pytest.mark.parametrize(
    ("what", "block"),
    [
        ("empty blocks", b"\x00\x00\x00\xff\xff"),
        ("empty blocks with fixed codes, ten bits each", b"\x02\x08\x20\x80\x00"),
        ("final blocks", b"\x03\x00"),
    ],
)
def test_blocks_with_nothing_in_them_cost_little(server: EchoServer, what: str, block: bytes) -> None:
    """They end in a message, or in a refusal, whichever it is."""
    data = block * (LIMIT_BYTES // len(block))
    with Peer(server, deflate=True) as peer, Cost(server, f"1 MiB of {what}") as cost:
        peer.send(TEXT, data, rsv1=True)
        received = peer.receive()
        assert received is not None
        assert received == Received(TEXT, b"") or received.code in (1007, 1009)
    assert cost.peak_bytes < 2 * LIMIT_BYTES + SLACK_BYTES


def test_each_of_many_such_peers_costs_so_much_and_no_more() -> None:
    n_peers = 20
    noise = frame(BINARY, deflated(random.Random(1).randbytes(LIMIT_BYTES)), rsv1=True)
    zeros = frame(BINARY, deflated(bytes(LIMIT_BYTES)), rsv1=True)
    data = noise * 6 + zeros * 600
    with EchoServer("--deflate") as server:
        peers = [Peer(server, deflate=True, receive_buffer_bytes=4_096) for _ in range(n_peers)]
        with Cost(server, f"{n_peers} peers with compressed messages of 1 MiB, answers unread") as cost:
            for peer in peers:
                peer.send_unread(data, len(data), quiet_s=0.05)
        assert cost.peak_bytes < n_peers * 4 * LIMIT_BYTES + SLACK_BYTES
        for peer in peers:
            peer.socket.close()
        server.await_quiet()
        server.assert_well()

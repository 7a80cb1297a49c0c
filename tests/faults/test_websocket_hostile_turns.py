"""In one turn of the reactor only so much is done, whatever a peer sends and however it ends. In memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from faults.websocket_peer import BINARY, HEADERS, OFFER, TEXT, deflated, frame
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from chatproto.net.websocket.passage import BYTES_PER_TURN, EVENTS_PER_TURN
from chatproto.websocket import Deflate, Request, WebSocketFactory, WebSocketProtocol, WebSocketTransport
from chatproto.wire.deflate import Deflater, Inflater

LIMIT_BYTES = 2**20
PIECE_BYTES = 2 * 2**20 + 2**18
"""What comes of the compressed bytes that are looked at together: a thousandfold, and a little more."""


class Application(WebSocketProtocol):
    """Keeps the number of messages, and does what a text says."""

    def __init__(self) -> None:
        self.messages = 0
        self.ended: BaseException | None = None

    def textMessageReceived(self, message: str) -> None:
        """Do it."""
        self.messages += 1
        if message == "close":
            self.transport.loseConnection()
        elif message == "abort":
            self.transport.abortConnection()
        elif message == "pause":
            self.transport.pauseProducing()

    def bytesMessageReceived(self, data: bytes) -> None:
        """Send it back."""
        self.messages += 1
        self.transport.sendBytesMessage(data)

    def connectionLost(self, reason: Failure) -> None:
        """It is over."""
        assert self.ended is None
        self.ended = reason.value


class Transport(StringTransport):
    """One that can be aborted, and says so."""

    aborted = False

    def abortConnection(self) -> None:
        """Drop it: the test calls `connectionLost`."""
        self.aborted = True


class Pair:
    """A connection with compression, and what was inflated since it was last asked."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.application = Application()
        applications = self

        class Factory:
            def buildProtocol(self, request: Request) -> Application:
                return applications.application

        factory = WebSocketFactory(Factory(), deflate=Deflate(), reactor=self.clock)
        self.below = Transport()
        self.protocol: WebSocketTransport = factory.buildProtocol(None)
        self.protocol.makeConnection(self.below)
        self.protocol.dataReceived(b"GET / HTTP/1.1\r\n" + HEADERS + OFFER + b"\r\n")
        self.turn()
        assert b"permessage-deflate" in self.below.value()

    def lose(self) -> None:
        """The peer is gone."""
        self.protocol.connectionLost(Failure(ConnectionLost()))

    def turn(self) -> None:
        """One turn of the reactor: what is due when it begins is done, and nothing more."""
        for call in self.due():
            if call.active():
                self.clock.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)

    def due(self) -> list[Any]:
        """The calls of the next turn."""
        return [call for call in self.clock.calls if call.getTime() <= self.clock.seconds()]


@pytest.fixture
def inflated_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much was inflated by each call."""
    found: list[int] = []
    decompress = Inflater.decompress

    def counted(self: Inflater, data: bytes, max_bytes: int) -> bytes:
        made = decompress(self, data, max_bytes)
        found.append(len(made))
        return made

    monkeypatch.setattr(Inflater, "decompress", counted)
    return found


def turns(pair: Pair, inflated_bytes: list[int]) -> Iterator[tuple[int, int]]:
    """The messages delivered, and the bytes inflated, in each turn until nothing is due at once."""
    while pair.due():
        messages = pair.application.messages
        inflated_bytes.clear()
        pair.turn()
        yield pair.application.messages - messages, sum(inflated_bytes)


BOMB = frame(BINARY, deflated(bytes(LIMIT_BYTES)), rsv1=True)
N_BOMBS = 60


def check(pair: Pair, inflated_bytes: list[int], first: Any) -> int:
    """*first* and all turns after it do no more than they may; how many messages were delivered."""
    before = pair.application.messages
    first()
    assert pair.application.messages - before <= EVENTS_PER_TURN
    assert sum(inflated_bytes) <= BYTES_PER_TURN + PIECE_BYTES
    for messages, n_bytes in turns(pair, inflated_bytes):
        assert messages <= EVENTS_PER_TURN
        assert n_bytes <= BYTES_PER_TURN + PIECE_BYTES
    return pair.application.messages - before


def test_bombs_are_inflated_turn_by_turn(inflated_bytes: list[int]) -> None:
    pair = Pair()
    assert check(pair, inflated_bytes, lambda: pair.protocol.dataReceived(BOMB * N_BOMBS)) == N_BOMBS


def test_so_are_those_that_come_after_the_close_and_are_thrown_away(inflated_bytes: list[int]) -> None:
    pair = Pair()
    pair.protocol.dataReceived(frame(TEXT, b"close"))
    assert check(pair, inflated_bytes, lambda: pair.protocol.dataReceived(BOMB * N_BOMBS)) == 0


def test_so_are_those_that_are_left_when_the_peer_is_gone(inflated_bytes: list[int]) -> None:
    pair = Pair()
    pair.protocol.dataReceived(BOMB * N_BOMBS)
    before = pair.application.messages
    inflated_bytes.clear()
    assert check(pair, inflated_bytes, pair.lose) == N_BOMBS - before
    assert isinstance(pair.application.ended, ConnectionLost)
    assert not pair.clock.getDelayedCalls()


def test_nothing_is_compressed_for_a_peer_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair()
    pair.protocol.dataReceived(BOMB * N_BOMBS)

    def compress(self: Deflater, payload: bytes) -> bytes:
        raise AssertionError("it is")

    monkeypatch.setattr(Deflater, "compress", compress)
    assert check(pair, [], pair.lose) > N_BOMBS // 2


def test_small_messages_that_are_left_when_the_peer_is_gone_come_turn_by_turn_too(
    inflated_bytes: list[int],
) -> None:
    pair = Pair()
    pair.protocol.dataReceived(frame(TEXT, b"x") * 5_000)
    before = pair.application.messages
    inflated_bytes.clear()
    assert before == EVENTS_PER_TURN
    assert check(pair, inflated_bytes, pair.lose) == 5_000 - before
    assert isinstance(pair.application.ended, ConnectionLost)


def test_nothing_is_inflated_any_more_for_an_application_that_has_aborted(inflated_bytes: list[int]) -> None:
    pair = Pair()
    pair.protocol.dataReceived(frame(TEXT, b"abort") + BOMB * N_BOMBS)
    while not pair.below.aborted:
        pair.turn()
    inflated_bytes.clear()
    pair.lose()
    assert not inflated_bytes
    assert pair.application.messages == 1
    assert isinstance(pair.application.ended, ConnectionLost)
    assert not pair.clock.getDelayedCalls()


def test_an_application_cannot_pause_what_is_left_when_the_peer_is_gone(inflated_bytes: list[int]) -> None:
    """Or it would never hear of the end."""
    pair = Pair()
    pair.protocol.dataReceived(frame(TEXT, b"x") * 150 + frame(TEXT, b"pause") + frame(TEXT, b"x") * 500)
    check(pair, inflated_bytes, pair.lose)
    assert pair.application.messages == 651
    assert isinstance(pair.application.ended, ConnectionLost)
    assert not pair.clock.getDelayedCalls()

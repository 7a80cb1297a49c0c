"""How the input of a WebSocket ends: what came before is answered first, and there may be last words."""

from __future__ import annotations

import pytest
from net.memory import Line
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from wire.streams import in_two, one_by_one

from chatproto.websocket import (
    Accepted,
    ConnectionBroken,
    ConnectionClosed,
    Request,
    WebSocketFactory,
    WebSocketLimits,
    WebSocketProtocol,
)
from chatproto.wire.connection import End
from chatproto.wire.encoding import encode_close, encode_masked
from chatproto.wire.messages import Side
from chatproto.wire.websocket import Event, Opcode, WebSocketDecoder

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
LIMITS = WebSocketLimits(max_message_bytes=1_000, ping_interval_s=30, pong_timeout_s=10, close_timeout_s=5)
HELLO = encode_masked(Opcode.TEXT, b"hello")
CLOSE = encode_masked(Opcode.CLOSE, encode_close(3_000, "enough"))

ENDINGS = {
    "a close frame": (CLOSE, 3_000),
    "a reserved bit": (bytes([HELLO[0] | 0x40]) + HELLO[1:], 1_002),
    "ill-formed text": (encode_masked(Opcode.TEXT, b"\xff"), 1_007),
    "a message that is too big": (encode_masked(Opcode.BINARY, bytes(1_001))[:8], 1_009),
}


class Echo(WebSocketProtocol):
    """Sends text back, and remembers how it ended."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.end: BaseException | None = None

    def textMessageReceived(self, message: str) -> None:
        self.heard.append(message)
        self.transport.sendTextMessage(message)

    def connectionLost(self, reason: Failure) -> None:
        self.end = reason.value


class WithLastWords(Echo):
    """Has something to say when nothing more comes, and closes only when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[End] = []

    def inputEnded(self, end: End) -> None:
        self.ended.append(end)
        self.transport.sendTextMessage("last words")


class Place:
    """One WebSocket in memory."""

    def __init__(self, application: Echo) -> None:
        self.clock = Clock()
        self.application = application
        self.line = Line(self.clock)
        self.line.protocol = WebSocketFactory(self, limits=LIMITS, reactor=self.clock).buildProtocol(None)
        self.line.protocol.makeConnection(self.line)
        self.line.send(HANDSHAKE)
        answer = self.line.received()
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        self._decoder = WebSocketDecoder(Side.CLIENT)

    def buildProtocol(self, request: Request) -> Echo | Accepted:
        return self.application

    def came(self) -> list[Event]:
        """What the client got since this was last asked."""
        events = self._decoder.receive(self.line.received())
        assert self._decoder.fault is None
        return events


def text(said: str) -> Event:
    return Event(Opcode.TEXT, said)


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_came_before_it_is_answered_first_in_any_cut(ending: str) -> None:
    data, code = ENDINGS[ending]
    stream = HELLO * 3 + data
    for pieces in ([stream], list(one_by_one(stream)), *map(list, in_two(stream))):
        place = Place(Echo())
        for piece in pieces:
            if piece:
                place.line.send(piece)
        *echoes, close = place.came()
        assert echoes == [text("hello")] * 3, pieces
        assert (close.opcode, close.code) == (Opcode.CLOSE, code)
        place.clock.pump([0] * 3)
        assert isinstance(place.application.end, ConnectionClosed | ConnectionBroken)
        assert place.application.end.code == code


@pytest.mark.parametrize("ending", ENDINGS)
def test_more_than_one_turn_delivers_is_answered_first(ending: str) -> None:
    data, code = ENDINGS[ending]
    place = Place(Echo())
    place.line.send(HELLO * 950 + data)
    place.clock.pump([0] * 20)
    *echoes, close = place.came()
    assert len(echoes) == 950
    assert (close.opcode, close.code) == (Opcode.CLOSE, code)


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_application_may_close_itself_and_later(ending: str) -> None:
    data, code = ENDINGS[ending]
    application = WithLastWords()
    place = Place(application)
    place.line.send(HELLO + data)
    assert place.came() == [text("hello"), text("last words")]
    place.line.send(HELLO + data)  # is not even read
    place.clock.advance(1)
    assert [end.code for end in application.ended] == [code]
    assert [end.is_clean for end in application.ended] == [code == 3_000]
    assert place.came() == []
    application.transport.sendTextMessage("one more")
    application.transport.loseConnection(1_000)
    application.transport.sendTextMessage("too late")
    last, close = place.came()
    assert last == text("one more")
    assert close.code == code, "the one that the ending calls for"
    place.clock.pump([0] * 3)
    assert type(application.end) is (ConnectionClosed if code == 3_000 else ConnectionBroken)
    assert application.heard == ["hello"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_application_that_forgets_to_close_is_not_waited_for_for_ever(ending: str) -> None:
    place = Place(WithLastWords())
    place.line.send(ENDINGS[ending][0])
    place.line.closes_too = False
    for _ in range(60):
        place.clock.advance(1)
    assert place.application.end is not None
    assert place.clock.getDelayedCalls() == []


def test_silence_is_an_ending_too() -> None:
    application = WithLastWords()
    place = Place(application)
    place.clock.advance(30.2)
    place.clock.advance(10.2)
    [ended] = application.ended
    assert (ended.code, ended.is_clean) == (1_011, False)
    application.transport.loseConnection()
    ping, words, close = place.came()
    assert (ping.opcode, words, close.code) == (Opcode.PING, text("last words"), 1_011)


def test_whoever_pauses_is_told_when_they_resume() -> None:
    class Pauses(WithLastWords):
        def textMessageReceived(self, message: str) -> None:
            super().textMessageReceived(message)
            self.transport.pauseProducing()

    for stream in (HELLO + CLOSE, HELLO * 2 + CLOSE):
        application = Pauses()
        place = Place(application)
        place.line.send(stream)
        place.clock.advance(1)
        while not application.ended:
            assert len(place.came()) == 1
            application.transport.resumeProducing()
            place.clock.advance(0)
        assert application.heard == ["hello"] * (len(stream) // len(HELLO + b"..."))


def test_whoever_has_begun_to_close_is_told_of_no_ending() -> None:
    for data, _ in ENDINGS.values():
        application = WithLastWords()
        place = Place(application)
        application.transport.loseConnection(1_001)
        place.line.send(HELLO + data)
        assert application.ended == []
        assert [event.code for event in place.came()] == [1_001]
        place.clock.pump([0] * 3)
        assert application.end is not None


def test_a_mistake_in_the_last_words_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    class Fails(Echo):
        def inputEnded(self, end: End) -> None:
            raise RuntimeError("a mistake")

    place = Place(Fails())
    place.line.send(HELLO + CLOSE)
    hello, close = place.came()
    assert (hello, close.code) == (text("hello"), 1_011)
    place.clock.pump([0] * 3)
    assert place.application.end is not None


def test_a_connection_that_is_lost_before_its_end_is_answered_tells_of_the_end() -> None:
    application = WithLastWords()
    place = Place(application)
    place.line.send(CLOSE)
    place.line.vanish()
    assert isinstance(application.end, ConnectionClosed)
    assert (application.end.code, application.end.reason) == (3_000, "enough")


class WhoTakesNothing(WithLastWords):
    """Hears that its peer takes nothing, and has last words about that too."""

    def __init__(self) -> None:
        super().__init__()
        self.stalls = 0

    def sendQueueStalled(self) -> None:
        self.stalls += 1
        self.transport.sendTextMessage("too slow")
        self.transport.loseConnection(1_008)


@pytest.mark.parametrize("pinged", [False, True])
def test_a_peer_that_takes_nothing_is_found_by_that_and_not_by_its_silence(pinged: bool) -> None:
    application = WhoTakesNothing()
    place = Place(application)
    if pinged:
        place.clock.advance(LIMITS.ping_interval_s + 0.2)
        assert [event.opcode for event in place.came()] == [Opcode.PING]
    application.transport.sendTextMessage("waits")
    assert place.line.producer is not None
    place.line.producer.pauseProducing()
    for _ in range(int(LIMITS.stall_timeout_s) - 1):
        place.clock.advance(1)
    assert (application.stalls, application.ended) == (0, [])
    for _ in range(7):
        place.clock.advance(1)
    assert (application.stalls, application.ended) == (1, [])


def test_last_words_to_a_peer_that_took_nothing_have_the_time_that_a_closing_has() -> None:
    application = WhoTakesNothing()
    place = Place(application)
    assert place.line.producer is not None
    place.line.producer.pauseProducing()
    application.transport.sendTextMessage("waits")
    while not application.stalls:
        place.clock.advance(0.5)
    place.clock.advance(LIMITS.close_timeout_s - 0.5)
    assert place.line.connected
    place.line.producer.resumeProducing()
    assert [event.data for event in place.came()] == ["waits", "too slow", ""]


def test_a_connection_may_have_a_bound_of_its_own() -> None:
    for most_bytes in (10, 2_000):

        class Own(Place):
            def buildProtocol(self, request: Request) -> Accepted:
                return Accepted(self.application, max_message_bytes=most_bytes)  # noqa: B023

        place = Own(Echo())
        place.line.send(encode_masked(Opcode.TEXT, b"x" * most_bytes))
        place.line.send(encode_masked(Opcode.TEXT, b"x" * (most_bytes + 1)))
        fits, close = place.came()
        assert fits == text("x" * most_bytes)
        assert close.code == 1_009

"""One message to many: encoded once for each class of connections, compressed once; nobody is waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from net.websocket.applications import Giving, Recorder
from net.websocket.memory import Place, SlowLine, request_bytes
from twisted.internet.task import Clock
from wire.talkers import TAKES_OVER
from wire.websocket_model import TEXT, frame

from chatproto.websocket import (
    Accepted,
    ConnectionBroken,
    Deflate,
    PreparedMessage,
    WebSocketFactory,
    WebSocketLimits,
    WebSocketTransport,
    broadcast,
)
from chatproto.wire.deflate import Deflater
from chatproto.wire.messages import Side
from chatproto.wire.websocket import Event, Opcode, WebSocketDecoder

NEWS = "the train leaves " * 50
OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
LIMITS = WebSocketLimits(max_queued_bytes=100_000, ping_interval_s=0)


@pytest.fixture
def compressions(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was compressed."""
    done: list[bytes] = []
    compress = Deflater.compress

    def counted(self: Deflater, payload: bytes) -> bytes:
        done.append(bytes(payload))
        return compress(self, payload)

    monkeypatch.setattr(Deflater, "compress", counted)
    return done


class Crowd:
    """Many connections of one factory."""

    def __init__(self, count: int, deflate: Deflate | None = None, **accepted: Any) -> None:
        self.clock = Clock()
        self.applications = [Recorder() for _ in range(count)]
        self.lines: list[Any] = []
        for application in self.applications:
            given = Giving(Accepted(application, **accepted))
            factory = WebSocketFactory(given, limits=LIMITS, deflate=deflate, reactor=self.clock)
            line: Any = SlowLine(self.clock)
            line.protocol = factory.buildProtocol(None)
            line.protocol.makeConnection(line)
            line.send(request_bytes(OFFER))
            assert b"101" in line.received()
            self.lines.append(line)

    @property
    def transports(self) -> list[WebSocketTransport]:
        return [line.protocol for line in self.lines]


def test_a_thousand_connections_with_compression_get_the_same_bytes_compressed_once(
    compressions: list[bytes],
) -> None:
    crowd = Crowd(1_000, Deflate())
    written: list[bytes] = []
    for line in crowd.lines:
        line.write = written.append
    broadcast(crowd.transports, NEWS)
    assert written == [], "it waits for the end of the turn"
    crowd.clock.advance(0)
    assert compressions == [NEWS.encode()]
    assert len(written) == 1_000
    assert {id(data) for data in written} == {id(written[0])}
    decoder = WebSocketDecoder(Side.CLIENT, inflate=Deflate().inflater(True))
    assert decoder.receive(written[0]) == [Event(Opcode.TEXT, NEWS)]
    assert len(written[0]) < len(NEWS) // 10


def test_every_class_of_connections_gets_it_as_it_can_read_it(compressions: list[bytes]) -> None:
    classes: list[Callable[[], Place]] = [
        Place,
        lambda: Place(agreed=Deflate()),
        lambda: Place(agreed=Deflate(level=1)),
        lambda: Place(agreed=Deflate(server_max_window_bits=9)),
        lambda: Place(agreed=TAKES_OVER),
        lambda: Place(Side.CLIENT),
        lambda: Place(Side.CLIENT, agreed=Deflate()),
    ]
    places = [make() for make in classes * 3]
    for message, opcode in ((NEWS, Opcode.TEXT), (NEWS.encode(), Opcode.BINARY)):
        compressions.clear()
        broadcast([place.transport for place in places], message)
        for place in places:
            assert place.came() == [Event(opcode, message)]
        # Once for each class that shares it, and for each connection that takes over or masks.
        assert len(compressions) == 3 + 3 + 3


def test_a_short_message_is_not_compressed(compressions: list[bytes]) -> None:
    crowd = Crowd(3, Deflate(min_message_bytes=100))
    broadcast(crowd.transports, "short")
    assert [line.received() for line in crowd.lines] == [frame(TEXT, b"short", to=Side.CLIENT)] * 3
    assert compressions == []


def test_a_prepared_message_can_be_sent_again_and_is_encoded_no_more(compressions: list[bytes]) -> None:
    crowd = Crowd(3, Deflate())
    news = PreparedMessage(NEWS)
    for _ in range(5):
        broadcast(crowd.transports, news)
        crowd.transports[0].send(news)
        crowd.clock.advance(0)
    assert len(compressions) == 1


def test_an_empty_message_is_a_message() -> None:
    place = Place()
    broadcast([place.transport], "")
    broadcast([place.transport], b"")
    assert place.came() == [Event(Opcode.TEXT, ""), Event(Opcode.BINARY, b"")]


def test_order_with_other_messages_is_kept() -> None:
    place = Place(agreed=Deflate())
    place.transport.sendTextMessage("before")
    broadcast([place.transport], NEWS)
    place.transport.sendTextMessage("behind")
    assert [event.data for event in place.came()] == ["before", NEWS, "behind"]


def test_whoever_closes_or_is_gone_is_passed_over() -> None:
    places = [Place() for _ in range(3)]
    places[0].transport.loseConnection()
    places[1].line.vanish()
    broadcast([place.transport for place in places], NEWS)
    assert [event.opcode for event in places[0].came()] == [Opcode.CLOSE]
    assert places[2].came() == [Event(Opcode.TEXT, NEWS)]


def test_whose_opening_handshake_is_not_over_is_left_out_and_the_others_get_it() -> None:
    factory = WebSocketFactory(Giving(Recorder()), limits=LIMITS, reactor=Clock())
    line: Any = SlowLine(Clock())
    line.protocol = factory.buildProtocol(None)
    line.protocol.makeConnection(line)
    place = Place()
    broadcast([line.protocol, place.transport], NEWS)
    assert line.received() == b""
    assert place.came() == [Event(Opcode.TEXT, NEWS)]


def test_the_slowest_delays_nobody_and_is_broken_by_itself() -> None:
    crowd = Crowd(10)
    slow = crowd.lines[3]
    slow.takes = False
    for i in range(20):
        broadcast(crowd.transports, b"%d" % i * 5_000)
        for line in crowd.lines:
            if line is not slow:
                assert len(line.received()) > 5_000
    crowd.clock.advance(0)
    ended = [application.ended_with for application in crowd.applications]
    assert ended[3] == (ConnectionBroken, 1008, "more than 100000 bytes wait for it")
    assert [end for end in ended if end is not None] == [ended[3]]


def test_connections_may_leave_while_it_goes_out() -> None:
    crowd = Crowd(5)
    everybody = set(crowd.transports)
    for application, line in zip(crowd.applications, crowd.lines, strict=True):
        line.takes = False
        line.write(b"blocks")
        application.reactions["sendQueueFilled"] = lambda application: everybody.discard(
            application.transport
        )
    for _ in range(3):
        broadcast(everybody, bytes(40_000))
    crowd.clock.advance(0)
    assert everybody == set()


# --- messages that the application makes of something else ------------------------------------------------


class Rendering:
    """Makes a message of a number; counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, number: int) -> str:
        self.count += 1
        return f"number {number}"


@pytest.mark.parametrize("deflate", [None, Deflate(min_message_bytes=0), TAKES_OVER])
def test_content_is_made_of_what_a_prepared_message_has(deflate: Deflate | None) -> None:
    rendering = Rendering()
    place = Place(agreed=deflate, accepted=Accepted(Recorder(), content=rendering))
    broadcast([place.transport], PreparedMessage(7))
    assert place.came() == [Event(Opcode.TEXT, "number 7")]


def test_content_is_made_once_for_all_who_have_the_same() -> None:
    rendering = Rendering()
    crowd = Crowd(10, Deflate(), content=rendering)
    broadcast(crowd.transports, PreparedMessage(7))
    assert {line.received() for line in crowd.lines} == {frame(TEXT, b"number 7", to=Side.CLIENT)}
    assert rendering.count == 1


def test_what_is_no_message_is_a_mistake_of_the_senders() -> None:
    for agreed in (None, TAKES_OVER):
        place = Place(agreed=agreed)
        with pytest.raises(TypeError, match="a message is a str or bytes, not int"):
            place.transport.send(PreparedMessage(7))
        assert place.came() == []
        assert place.application.end is None

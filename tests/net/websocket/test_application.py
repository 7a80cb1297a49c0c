"""What an application does inside of what it is told, either side: it raises, closes, pauses, sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from net.websocket.applications import Deciding, Echo, Giving, Reaction, Recorder
from net.websocket.conftest import Logged
from net.websocket.memory import URL, Place, SlowLine, ToLine, request_bytes
from net.websocket.test_sending import Producer
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from wire.talkers import SIDES
from wire.websocket_model import BINARY, CLOSE, PING, PONG, TEXT, close_payload, frame

from chatproto.websocket import (
    ConnectionBroken,
    ConnectionClosed,
    Deflate,
    WebSocketClientEndpoint,
    WebSocketFactory,
    WebSocketLimits,
    WebSocketProtocol,
)
from chatproto.wire.messages import Side
from chatproto.wire.websocket import Event, Opcode

LIMITS = WebSocketLimits(max_queued_bytes=100_000, ping_interval_s=0)
MESSAGES: list[str | bytes] = ["text" * 100, b"binary" * 100, "more" * 100, b"and more" * 100]


def fail(application: Recorder) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("side", SIDES)
class TestAnApplicationThatRaises:
    @pytest.mark.parametrize(
        ("name", "cause"),
        [
            ("negotiationFinished", lambda place: None),
            ("textMessageReceived", lambda place: place.send(TEXT, b"x")),
            ("bytesMessageReceived", lambda place: place.send(BINARY, b"x")),
            ("pongReceived", lambda place: place.send(PONG, b"x")),
        ],
    )
    def test_ends_its_connection_with_1011_and_hears_of_that(
        self, side: Side, name: str, cause: Callable[[Place], object], logged: Logged
    ) -> None:
        place = Place(side, Recorder(**{name: fail}), limits=LIMITS)
        cause(place)
        assert logged.take() == ["ZeroDivisionError"]
        place.send(TEXT, b"is not heard")
        assert place.came() == [Event(Opcode.CLOSE, "the application failed", 1011)]
        place.line.end_input()
        place.turn(3)
        assert place.application.ended_with == (ConnectionBroken, 1011, "the application failed")
        assert place.application.told[-2:] == [name, "connectionLost"]
        assert place.is_gone()

    def test_ends_it_when_it_is_told_of_its_queue_as_well(self, side: Side, logged: Logged) -> None:
        for name in ("sendQueueFilled", "sendQueueDrained"):
            place = Place(side, Recorder(**{name: fail}), limits=LIMITS)
            place.line.takes = False
            for size in (10, 60_000):
                place.transport.sendBytesMessage(bytes(size))
                place.turn()
            place.line.take()
            place.turn(2)
            assert logged.take() == ["ZeroDivisionError"]
            assert place.came()[-1].code == 1011
            place.line.end_input()
            place.turn(3)
            assert place.application.ended_with == (ConnectionBroken, 1011, "the application failed")

    def test_at_the_very_end_does_no_harm(self, side: Side, logged: Logged) -> None:
        place = Place(side, Recorder(connectionLost=fail), limits=LIMITS)
        place.line.vanish()
        assert logged.take() == ["ZeroDivisionError"]
        assert place.is_gone()

    def test_after_it_has_closed_ends_as_it_was_going_to(self, side: Side, logged: Logged) -> None:
        def close_and_fail(application: Recorder) -> None:
            application.transport.loseConnection(4000)
            raise ZeroDivisionError

        place = Place(side, Recorder(textMessageReceived=close_and_fail), limits=LIMITS)
        place.send(TEXT, b"x")
        assert logged.take() == ["ZeroDivisionError"]
        place.send(CLOSE, close_payload(4000))
        assert [event.code for event in place.came()] == [4000]
        place.line.end_input()
        place.turn(3)
        assert place.application.ended_with == (ConnectionClosed, 4000, "")


def test_a_client_whose_application_raises_at_the_start_is_told_so() -> None:
    clock = Clock()
    line = SlowLine(clock)
    application = Recorder(negotiationStarted=fail)
    endpoint = WebSocketClientEndpoint(ToLine(line), URL, reactor=clock)
    connecting = Deferred.fromCoroutine(endpoint.connect(Giving(application)))
    failures: list[Failure] = []
    connecting.addErrback(failures.append)
    clock.pump([0] * 3)
    assert application.told == ["negotiationStarted", "connectionLost"]
    assert [failure.type for failure in failures] == [ZeroDivisionError]
    assert line.received() == b""
    assert not line.connected
    assert clock.getDelayedCalls() == []


def test_bytes_before_there_is_a_transport_are_a_mistake_and_no_crash() -> None:
    connection = WebSocketFactory(Deciding(lambda request: Echo()), reactor=Clock()).buildProtocol(None)
    with pytest.raises(RuntimeError, match="nothing can come before there is a transport"):
        connection.dataReceived(request_bytes())


def test_others_hear_nothing_of_it(logged: Logged) -> None:
    clock = Clock()
    applications = [Echo(), Recorder(textMessageReceived=fail)]
    waiting = iter(applications)
    factory = WebSocketFactory(Deciding(lambda request: next(waiting)), reactor=clock)
    lines = [SlowLine(clock) for _ in applications]
    for line in lines:
        line.protocol = factory.buildProtocol(None)
        line.protocol.makeConnection(line)
        line.send(request_bytes())
        line.received()
    hello = frame(TEXT, b"hello", to=Side.SERVER)
    lines[1].send(hello)
    assert logged.take() == ["ZeroDivisionError"]
    lines[0].send(hello)
    assert lines[0].received() == frame(TEXT, b"hello", to=Side.CLIENT)
    assert applications[0].end is None


@pytest.mark.parametrize("side", SIDES)
def test_one_that_keeps_its_transport_elsewhere_misses_nothing(side: Side) -> None:
    class Elsewhere(WebSocketProtocol):
        ended: Any = None

        def negotiationStarted(self, transport: Any) -> None:
            self.mine = transport

        def connectionLost(self, reason: Any) -> None:
            self.ended = reason.value

    place = Place(side, Elsewhere(), limits=LIMITS)
    place.send(CLOSE, close_payload(4000, b"bye"))
    assert [event.code for event in place.came()] == [4000]
    place.line.end_input()
    place.turn(3)
    assert (place.application.ended.code, place.application.ended.reason) == (4000, "bye")
    place = Place(side, Elsewhere(), limits=LIMITS)
    place.line.takes = False
    place.transport.sendTextMessage("anything")
    place.wait(60, answers=False)
    assert place.application.ended.code == 1008


# --- whatever it does, and whenever -------------------------------------------------------------------------


def pause_and_resume(application: Recorder) -> None:
    application.transport.pauseProducing()
    application.transport.resumeProducing()


def resume_soon(application: Any) -> None:
    application.transport.pauseProducing()
    application.clock.callLater(0, application.resume)


def send_much(application: Recorder) -> None:
    application.transport.sendBytesMessage(bytes(30_000))


def attach_and_detach(application: Recorder) -> None:
    application.transport.detachProducer()
    application.transport.attachProducer(Producer())


IS_OPEN: dict[str, Reaction] = {
    "send": lambda application: application.transport.sendTextMessage("sent"),
    "send much": send_much,
    "ping": lambda application: application.transport.ping(b"x"),
}
AT_ANY_TIME: dict[str, Reaction] = {
    "nothing": lambda application: None,
    "pause": lambda application: application.transport.pauseProducing(),
    "resume": lambda application: application.transport.resumeProducing(),
    "pause and resume": pause_and_resume,
    "soon again": resume_soon,
    "attach": attach_and_detach,
}
ENDS: dict[str, Reaction] = {
    "lose": lambda application: application.transport.loseConnection(4000, "of itself"),
    "abort": lambda application: application.transport.abortConnection(),
    "break": lambda application: application.transport.breakConnection("of itself"),
}
ALL = IS_OPEN | AT_ANY_TIME | ENDS


class Fickle(Recorder):
    """Does something else each time it is told something."""

    def __init__(self, doings: list[str]) -> None:
        super().__init__()
        self.doings = doings
        self.is_paused = False
        self.has_ended = False
        self.clock: Any = None

    def _tell(self, name: str) -> None:
        if name.endswith("MessageReceived") or name == "pongReceived":
            assert not self.has_ended, "nothing is delivered after it has closed"
            is_lost = self.transport.getPeer() is None
            assert is_lost or not self.is_paused, "nor while it is paused"
        assert self.end is None or name == "connectionLost", "and nothing at all after the end"
        super()._tell(name)
        doing = self.doings.pop() if self.doings else "nothing"
        if name == "negotiationStarted" and doing in IS_OPEN:
            return
        self.has_ended = self.has_ended or doing in ENDS
        self.is_paused = (
            self.is_paused or "pause" in doing or "soon" in doing
        ) and "resume" not in doing.split()
        ALL[doing](self)

    def resume(self) -> None:
        self.is_paused = False
        self.transport.resumeProducing()


PEERS_DOINGS = st.sampled_from(["messages", "one", "ping", "pong", "turn", "block", "take", "wait"])
ENDINGS = st.sampled_from(["close", "vanish", "fault", "end"])


def do_as_peer(place: Place, what: str, compressed: bool) -> list[str | bytes]:
    """Do one thing as the peer; the messages that were sent by it."""
    if what in ("messages", "one"):
        messages: list[str | bytes] = MESSAGES * 60 if what == "messages" else MESSAGES[:1]
        place.line.send(
            b"".join(
                place.frame(TEXT, message.encode(), deflate=compressed)
                if isinstance(message, str)
                else place.frame(BINARY, message, deflate=compressed)
                for message in messages
            )
        )
        return messages
    match what:
        case "ping" | "pong":
            place.line.send(place.frame(PING if what == "ping" else PONG, b"!") * 30)
        case "turn":
            place.turn()
        case "block":
            place.line.takes = False
        case "take":
            place.line.take()
        case "wait":
            place.wait(1, answers=False)
    return []


@settings(max_examples=150)
@given(
    st.sampled_from(SIDES),
    st.booleans(),
    st.lists(st.sampled_from(list(ALL)), max_size=12),
    st.lists(PEERS_DOINGS, max_size=10),
    ENDINGS,
)
def test_whatever_it_does_and_whenever_it_hears_in_order_and_is_told_of_one_end_and_nothing_is_left(
    side: Side, compressed: bool, doings: list[str], peers_doings: list[str], ending: str
) -> None:
    application = Fickle([*doings, "nothing", "nothing"])  # it opens
    agreed = Deflate(min_message_bytes=0) if compressed else None
    place = Place.__new__(Place)
    application.clock = type("Late", (), {"callLater": lambda self, *what: place.clock.callLater(*what)})()
    place.__init__(side, application, limits=LIMITS, agreed=agreed)  # type: ignore[misc]
    sent: list[str | bytes] = []
    for what in peers_doings:
        sent += do_as_peer(place, what, compressed)
    if ending == "close":
        place.send(CLOSE, close_payload(3000))
    elif ending == "fault":
        place.send(3)
    elif ending == "end":
        place.line.end_input()
    else:
        place.line.vanish()
    for _ in range(40):
        place.turn()
        if application.end is None and not application.has_ended:
            application.resume()
        if place.line.connected and not place.line.takes:
            place.line.take()
    place.wait(60, answers=False)
    if (
        place.line.connected
    ):  # it went on as if nothing were, which is right where the peer only stops reading
        place.line.vanish()
        place.turn(40)
    assert application.told.count("connectionLost") == 1
    assert application.heard == sent[: len(application.heard)]
    if not application.has_ended and ending == "close":
        assert application.heard == sent
    assert place.is_gone()

"""Applications that do things to each other's connections inside of whatever they are told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from net.websocket.applications import Deciding, Recorder
from net.websocket.conftest import Logged
from net.websocket.memory import SlowLine, request_bytes
from twisted.internet.task import Clock
from wire.websocket_model import BINARY, CLOSE, PING, TEXT, close_payload, frame

from chatproto.websocket import WebSocketFactory, WebSocketLimits, broadcast
from chatproto.wire.messages import Side
from chatproto.wire.websocket import WebSocketDecoder

LIMITS = WebSocketLimits(max_queued_bytes=20_000, ping_interval_s=0, close_timeout_s=1, stall_timeout_s=1)
N = 3
MOST_DOINGS = 60


class Oops(Exception):
    """Raised by an application."""


class Crowd:
    """So many open connections, and what their applications do next, each time that one is told anything."""

    def __init__(self, doings: list[tuple[str, int]]) -> None:
        self.doings = doings
        self.n_done = 0
        self.said = 0
        self.clock = Clock()
        self.applications = [Recorder() for _ in range(N)]
        waiting = iter(self.applications)
        self.factory = WebSocketFactory(
            Deciding(lambda request: next(waiting)), limits=LIMITS, reactor=self.clock
        )
        self.lines = [SlowLine(self.clock) for _ in range(N)]
        self.came = [b""] * N
        for line in self.lines:
            line.protocol = self.factory.buildProtocol(None)
            line.protocol.makeConnection(line)
            line.send(request_bytes())
        for index, line in enumerate(self.lines):
            self.came[index] = line.received().partition(b"\r\n\r\n")[2]
        for application in self.applications:
            application.reactions = dict.fromkeys(TOLD, self.react)

    def react(self, application: Recorder) -> None:
        """One is told something."""
        if self.doings and self.n_done < MOST_DOINGS:
            self.n_done += 1
            name, which = self.doings.pop(0)
            self.doings.append((name, which))
            DOINGS[name](self, (self.applications.index(application) + which) % N)

    def text(self) -> str:
        """Another each time, and in order."""
        self.said += 1
        return f"{self.said:06}"

    def send(self, index: int, size: int = 0) -> None:
        transport = self.applications[index].transport
        transport.sendTextMessage(self.text() + "x" * size)

    def broadcast(self, size: int = 0) -> None:
        transports = [application.transport for application in self.applications]
        broadcast(transports, self.text() + "x" * size)

    def oops(self) -> None:
        raise Oops


TOLD = (
    "textMessageReceived",
    "bytesMessageReceived",
    "pongReceived",
    "sendQueueFilled",
    "sendQueueDrained",
    "connectionLost",
)
DOINGS: dict[str, Callable[[Crowd, int], object]] = {
    "send": Crowd.send,
    "send much": lambda crowd, which: crowd.send(which, 9_000),
    "broadcast": lambda crowd, which: crowd.broadcast(),
    "broadcast much": lambda crowd, which: crowd.broadcast(9_000),
    "ping": lambda crowd, which: crowd.applications[which].transport.ping(b"x"),
    "pause": lambda crowd, which: crowd.applications[which].transport.pauseProducing(),
    "resume": lambda crowd, which: crowd.applications[which].transport.resumeProducing(),
    "lose": lambda crowd, which: crowd.applications[which].transport.loseConnection(),
    "abort": lambda crowd, which: crowd.applications[which].transport.abortConnection(),
    "break": lambda crowd, which: crowd.applications[which].transport.breakConnection("so"),
    "vanish": lambda crowd, which: crowd.lines[which].vanish(),
    "turn to it": lambda crowd, which: crowd.lines[which].take(),
    "is slow": lambda crowd, which: setattr(crowd.lines[which], "takes", False),
    "says more": lambda crowd, which: crowd.lines[which].send(frame(TEXT, b"more", to=Side.SERVER)),
    "flush": lambda crowd, which: crowd.applications[which].transport.queue.flush(),
    "raise": lambda crowd, which: crowd.oops(),
}
PEERS = st.lists(
    st.tuples(
        st.sampled_from(["text", "binary", "many", "ping", "close", "fault", "turn", "slow", "take"]),
        st.integers(0, N - 1),
    ),
    max_size=10,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(list(DOINGS)), st.integers(0, N - 1)), max_size=8), PEERS)
def test_whatever_they_do_each_hears_of_one_end_and_each_peer_gets_whole_messages_in_order(
    doings: list[tuple[str, int]], peers: list[tuple[str, int]]
) -> None:
    crowd = Crowd(doings)
    frames = {
        "text": frame(TEXT, b"text", to=Side.SERVER),
        "binary": frame(BINARY, b"", to=Side.SERVER),
        "many": frame(TEXT, b"many", to=Side.SERVER) * 250,
        "ping": frame(PING, b"p", to=Side.SERVER) * 3,
        "close": frame(CLOSE, close_payload(3000), to=Side.SERVER),
        "fault": frame(3, b"", to=Side.SERVER),
    }
    for what, which in peers:
        line = crowd.lines[which]
        if what in frames:
            line.send(frames[what])
        elif what == "turn":
            crowd.clock.advance(0)
        elif what == "slow":
            line.takes = False
        else:
            line.take()
    crowd.doings.clear()
    for line, application in zip(crowd.lines, crowd.applications, strict=True):
        line.take()
        crowd.clock.pump([0] * 5)
        application.transport.resumeProducing()
        crowd.clock.pump([0] * 5)
        line.end_input()
    crowd.clock.pump([0.25] * 40)
    assert len(crowd.factory.connections) == 0
    assert crowd.clock.getDelayedCalls() == []
    for line, application, came in zip(crowd.lines, crowd.applications, crowd.came, strict=True):
        assert application.told.count("connectionLost") == 1
        assert application.told[-1] == "connectionLost"
        assert application.transport.queued_bytes == 0
        decoder = WebSocketDecoder(Side.CLIENT, 2**24, None, None)
        texts = [event.data for event in decoder.receive(came + line.value()) if event.opcode is TEXT]
        assert decoder.fault is None
        assert texts == sorted(texts)
    assert crowd.factory.connections.turn.queued_bytes == 0
    assert not crowd.factory.connections.turn.blocked


@pytest.fixture(autouse=True)
def only_oops(logged: Logged) -> object:
    """What the applications raise is logged, and nothing else."""
    yield
    assert set(logged.take()) <= {"Oops"}

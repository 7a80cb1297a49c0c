"""A server and a client of the layer's against each other in memory, in any cut, whatever both do."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from net.queues import TurnByTurn
from net.websocket.applications import Giving, Recorder
from net.websocket.memory import URL, SlowLine, ToLine
from twisted.internet.defer import Deferred
from wire.talkers import SIDES, TAKES_OVER
from wire.websocket_model import other

from chatproto.websocket import (
    ConnectionBroken,
    ConnectionClosed,
    Deflate,
    WebSocketClientEndpoint,
    WebSocketFactory,
    WebSocketLimits,
)
from chatproto.wire.messages import Side

LIMITS = WebSocketLimits(max_queued_bytes=100_000)


class Ends:
    """Both ends of a connection, and what is on its way between them."""

    def __init__(self, deflate: Deflate | None) -> None:
        self.clock = TurnByTurn()
        self.applications = {side: Recorder() for side in SIDES}
        self.lines: dict[Side, Any] = {side: SlowLine(self.clock) for side in SIDES}
        self.on_its_way = dict.fromkeys(SIDES, b"")  # to that side
        self.sent: dict[Side, list[str | bytes]] = {side: [] for side in SIDES}
        self.has_closed: set[Side] = set()
        self._has_shut: set[Side] = set()
        factory = WebSocketFactory(
            Giving(self.applications[Side.SERVER]), limits=LIMITS, deflate=deflate, reactor=self.clock
        )
        endpoint = WebSocketClientEndpoint(
            ToLine(self.lines[Side.CLIENT]), URL, limits=LIMITS, deflate=deflate, reactor=self.clock
        )
        self.connections = [factory.connections, endpoint.connections]
        self.lines[Side.SERVER].protocol = factory.buildProtocol(None)
        self.lines[Side.SERVER].protocol.makeConnection(self.lines[Side.SERVER])
        connecting = Deferred.fromCoroutine(endpoint.connect(Giving(self.applications[Side.CLIENT])))
        self.come_to_rest()
        assert connecting.called
        assert all(
            application.told[-1] == "negotiationFinished" for application in self.applications.values()
        )

    def deliver(self, side: Side, size: int | None = None) -> bool:
        """Deliver so many bytes to *side*, and the end behind them; whether there was anything."""
        source, line = self.lines[other(side)], self.lines[side]
        waiting = self.on_its_way[side] + source.value()
        source.clear()
        data, self.on_its_way[side] = (waiting, b"") if size is None else (waiting[:size], waiting[size:])
        if data and line.connected:
            line.send(data)
        if source.was_aborted and line.connected:
            line.vanish()
            return True
        is_at_end = source.output_is_over or not source.connected
        if is_at_end and not self.on_its_way[side] and side not in self._has_shut:
            self._has_shut.add(side)
            if line.connected:
                line.end_input()
                return True
        return bool(data)

    def come_to_rest(self) -> None:
        """Deliver everything, and let the reactor go round, until nothing happens any more."""
        for _ in range(10):
            self.clock.pump([0] * 3)
            while self.deliver(Side.SERVER) | self.deliver(Side.CLIENT):
                self.clock.pump([0] * 3)

    def do(self, what: str, side: Side, how: Any) -> None:
        """Have the application of *side* do something, or the line to it."""
        transport = self.applications[side].transport
        match what:
            case "send":
                if side not in self.has_closed:
                    self.sent[side].append(how)
                if isinstance(how, str):
                    transport.sendTextMessage(how)
                else:
                    transport.sendBytesMessage(how)
            case "ping":
                transport.ping(how)
            case "close":
                self.has_closed.add(side)
                transport.loseConnection(how, "enough")
            case "pause":
                transport.pauseProducing()
            case "resume":
                transport.resumeProducing()
            case "deliver":
                self.deliver(side, how)
            case "turn":
                self.clock.end_turn()
            case "wait":
                self.clock.advance(how)


MESSAGES = st.text(max_size=20) | st.binary(max_size=20) | st.sampled_from(["text" * 500, bytes(7_000)])
CODES = st.sampled_from([1000, 1001, 3000, 4999])
WHO = st.sampled_from(SIDES)
HARMLESS = st.one_of(
    st.tuples(st.just("send"), WHO, MESSAGES),
    st.tuples(st.just("ping"), WHO, st.binary(max_size=20)),
    st.tuples(st.sampled_from(["pause", "resume", "turn"]), WHO, st.none()),
    st.tuples(st.just("deliver"), WHO, st.integers(1, 3_000)),
    st.tuples(st.just("wait"), WHO, st.just(1)),  # in all less than what makes a peer dead
)
DEFLATES = st.sampled_from([None, Deflate(min_message_bytes=0), TAKES_OVER])


@settings(max_examples=100)
@given(DEFLATES, st.lists(HARMLESS, max_size=15))
def test_everything_arrives_in_order(deflate: Deflate | None, doings: list[tuple[str, Side, Any]]) -> None:
    ends = Ends(deflate)
    for doing in doings:
        ends.do(*doing)
    for side in SIDES:
        ends.do("resume", side, None)
    ends.come_to_rest()
    for side in SIDES:
        assert ends.applications[side].heard == ends.sent[other(side)]
        assert ends.applications[side].end is None


@settings(max_examples=100)
@given(
    DEFLATES,
    st.lists(HARMLESS, max_size=10),
    st.lists(st.one_of(HARMLESS, st.tuples(st.just("close"), WHO, CODES)), max_size=10),
    WHO,
    CODES,
)
def test_whoever_closes_both_end_cleanly_and_the_other_has_heard_all(
    deflate: Deflate | None,
    before: list[tuple[str, Side, Any]],
    doings: list[tuple[str, Side, Any]],
    who: Side,
    code: int,
) -> None:
    ends = Ends(deflate)
    for doing in [*before, ("close", who, code), *doings]:
        if doing[0] != "wait":  # there are 5 s to close in
            ends.do(*doing)
    for side in SIDES:
        ends.do("resume", side, None)
    ends.come_to_rest()
    for side in SIDES:
        application = ends.applications[side]
        assert isinstance(application.end, ConnectionClosed), application.end
        assert application.heard == ends.sent[other(side)][: len(application.heard)]
        if side not in ends.has_closed:
            assert application.heard == ends.sent[other(side)]
            assert (application.end.code, application.end.reason) == (code, "enough")
    assert not any(len(connections) for connections in ends.connections)
    assert ends.clock.getDelayedCalls() == []


@settings(max_examples=100)
@given(DEFLATES, st.lists(HARMLESS, max_size=12), WHO)
def test_a_line_that_breaks_is_told_to_both_and_nothing_is_left(
    deflate: Deflate | None, doings: list[tuple[str, Side, Any]], first: Side
) -> None:
    ends = Ends(deflate)
    for doing in doings:
        ends.do(*doing)
    for side in (first, other(first)):
        ends.lines[side].vanish()
        ends.clock.pump([0] * 20)
    for side in SIDES:
        application = ends.applications[side]
        assert isinstance(application.end, ConnectionBroken)
        assert application.end.code == 1006
        assert application.heard == ends.sent[other(side)][: len(application.heard)]
    assert not any(len(connections) for connections in ends.connections)
    assert ends.clock.getDelayedCalls() == []

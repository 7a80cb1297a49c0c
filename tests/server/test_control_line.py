"""One connection to the control socket, on a clock that the test moves: what of an answer is made when."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from net.memory import Line
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from chatproto.server.control.line import IDLE_S, ROWS_PER_TURN, Answer, ControlFactory, Live, NotDone
from chatproto.server.control.rows import Row
from chatproto.server.control.trace import Watcher

TURN_S = 0.001


class TurnClock(Clock):
    """On which what is due at once is due in a turn of its own."""

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> IDelayedCall:
        return super().callLater(delay or TURN_S, callable, *args, **kw)


class Peer(Line):
    """A transport whose peer is this process."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.socket, self.other = socket.socketpair()

    def ask(self, *requests: Row) -> None:
        self.send(b"".join(json.dumps(request).encode() + b"\n" for request in requests))

    def said(self) -> list[dict[str, Any]]:
        """What came since this was last asked."""
        data = self.value()
        self.clear()
        return [json.loads(line) for line in data.splitlines()]


class Lasting:
    """An answer that goes on until it is stopped."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.was_stopped = False

    def stop(self) -> None:
        self.was_stopped = True


class Asked:
    """A factory whose answers the test gives, and one connection to it."""

    def __init__(self) -> None:
        self.clock = TurnClock()
        self.factory = ControlFactory(self.clock, self.answer)
        self.n_made = 0
        self.later: Deferred[Row] = Deferred()
        self.lasting: list[Lasting] = []
        self.peer = self.connect()

    def connect(self) -> Peer:
        peer = Peer(self.clock)
        peer.protocol = self.factory.buildProtocol(None)
        peer.protocol.makeConnection(peer)
        assert peer.said()[0]["control"] == "chatproto"
        return peer

    def rows(self, n: int) -> Iterator[Row | None]:
        for number in range(n):
            self.n_made += 1
            yield None if number % 2 else {"number": number}

    def broken_rows(self) -> Iterator[Row | None]:
        yield {"number": 0}
        raise ZeroDivisionError

    def last(self, watcher: Watcher) -> Live:
        self.lasting.append(Lasting(watcher))
        return self.lasting[-1]

    def answer(self, request: Row, by: str) -> Answer:
        match request["do"]:
            case "rows":
                return Answer({"all": True}, self.rows(request["n"]))
            case "broken":
                return Answer({}, self.broken_rows())
            case "later":
                return Answer(self.later)
            case "last":
                return Answer(self.last)
            case "no":
                raise NotDone("no")
        raise ZeroDivisionError

    def turn(self, seconds: float = TURN_S) -> list[dict[str, Any]]:
        self.clock.advance(seconds)
        return self.peer.said()


@pytest.fixture
def asked() -> Asked:
    return Asked()


def test_many_rows_are_made_in_many_turns(asked: Asked) -> None:
    asked.peer.ask({"do": "rows", "n": 3 * ROWS_PER_TURN})
    assert asked.n_made == ROWS_PER_TURN
    rows = asked.peer.said()
    assert len(rows) == ROWS_PER_TURN / 2
    rows += asked.turn()
    assert asked.n_made == 2 * ROWS_PER_TURN
    rows += asked.turn()
    assert asked.turn() == [{"done": {"all": True}}]
    assert [line["row"]["number"] for line in rows] == list(range(0, 3 * ROWS_PER_TURN, 2))


def test_nothing_is_made_while_the_peer_does_not_read(asked: Asked) -> None:
    asked.peer.ask({"do": "rows", "n": 10 * ROWS_PER_TURN}, {"do": "no"})
    asked.peer.protocol.pauseProducing()
    asked.turn()
    asked.turn()
    assert asked.n_made == ROWS_PER_TURN
    asked.peer.protocol.resumeProducing()
    said = []
    for _ in range(12):
        said += asked.turn()
    assert asked.n_made == 10 * ROWS_PER_TURN
    assert said[-2:] == [{"done": {"all": True}}, {"refused": "no"}]


def test_a_request_waits_for_the_answer_of_the_one_before_it(asked: Asked) -> None:
    asked.peer.ask({"do": "later"}, {"do": "no"})
    assert asked.turn(3 * IDLE_S) == []  # it may take its time
    asked.later.callback({"text": "at last"})
    assert asked.turn() == [{"done": {"text": "at last"}}, {"refused": "no"}]


def test_what_fails_is_logged_and_one_can_go_on(asked: Asked) -> None:
    went_wrong = {"refused": "that went wrong; the server's log says how"}
    with capturedLogs() as logs:
        asked.peer.ask({"do": "what"}, {"do": "broken"}, {"do": "later"}, {"do": "no"})
        asked.later.errback(ZeroDivisionError())
        said = [line for _ in range(4) for line in (*asked.peer.said(), *asked.turn())]
    assert said == [went_wrong, went_wrong, went_wrong, {"refused": "no"}]
    assert [event["log_failure"].type for event in logs if "log_failure" in event] == [ZeroDivisionError] * 3


def test_who_asks_for_nothing_is_not_waited_for_for_ever(asked: Asked) -> None:
    asked.turn(IDLE_S - 1)
    asked.peer.ask({"do": "no"})
    asked.turn(IDLE_S - 1)
    assert asked.peer.connected
    asked.turn(2)
    asked.turn()
    assert not asked.peer.connected
    assert not asked.factory.connections
    assert asked.clock.getDelayedCalls() == []


def test_who_does_not_read_the_answer_is_not_waited_for_for_ever(asked: Asked) -> None:
    asked.peer.ask({"do": "rows", "n": 1_000})
    asked.peer.protocol.pauseProducing()
    asked.turn(IDLE_S - 1)
    assert asked.peer.connected
    asked.turn(2)
    asked.turn()
    assert not asked.peer.connected
    assert asked.clock.getDelayedCalls() == []


def test_what_lasts_may_last_and_stops_when_its_peer_goes(asked: Asked) -> None:
    asked.peer.ask({"do": "last"})
    [lasting] = asked.lasting
    asked.turn(100 * IDLE_S)
    lasting.watcher.give([{"event": 1}, {"event": 2}])
    assert asked.peer.said() == [{"row": {"event": 1}}, {"row": {"event": 2}}]
    assert not lasting.watcher.is_full
    asked.peer.protocol.pauseProducing()
    assert lasting.watcher.is_full
    asked.peer.protocol.resumeProducing()
    asked.turn()
    assert len(asked.lasting) == 1
    asked.peer.vanish()
    assert lasting.was_stopped
    assert asked.clock.getDelayedCalls() == []


def test_what_lasts_may_end_by_itself(asked: Asked) -> None:
    asked.peer.ask({"do": "last"}, {"do": "no"})
    asked.lasting[0].watcher.finish("over")
    assert asked.turn() == [{"done": {"text": "over"}}, {"refused": "no"}]


def test_an_answer_that_comes_too_late_goes_nowhere(asked: Asked) -> None:
    asked.peer.ask({"do": "later"})
    asked.peer.vanish()
    asked.later.callback({"text": "too late"})
    assert asked.clock.getDelayedCalls() == []


def test_an_answer_that_comes_behind_the_end_is_not_given_and_keeps_nobody(asked: Asked) -> None:
    asked.peer.ask({"do": "later"})
    asked.peer.loseConnection = lambda: None  # type: ignore[method-assign]
    closed = asked.factory.close()
    asked.later.callback({"text": "too late"})
    assert asked.peer.said() == [{"refused": "the server has ended"}]
    fired: list[object] = []
    closed.addCallback(fired.append)
    asked.turn(1)
    asked.turn()
    assert fired == [None]
    assert asked.clock.getDelayedCalls() == []


def test_who_does_not_read_the_end_and_asks_for_nothing_more_is_not_waited_for_either(asked: Asked) -> None:
    asked.peer.loseConnection = lambda: None  # type: ignore[method-assign]
    closed = asked.factory.close()
    asked.peer.end_input()
    fired: list[object] = []
    closed.addCallback(fired.append)
    asked.turn(1)
    asked.turn()
    assert fired == [None]


def test_the_end_is_told_to_who_waits_and_takes_a_second_at_most(asked: Asked) -> None:
    asked.peer.ask({"do": "last"})
    idle = asked.connect()
    closed = asked.factory.close()
    assert asked.peer.said() == [{"refused": "the server has ended"}]
    assert asked.lasting[0].was_stopped
    assert idle.said() == []
    fired: list[object] = []
    closed.addCallback(fired.append)
    asked.turn(1)
    assert fired == [None]
    assert not asked.factory.connections

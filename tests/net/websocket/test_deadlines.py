"""chatproto.net.websocket.deadlines: many deadlines with one timer between them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from net.websocket.conftest import Logged
from twisted.internet.task import Clock

from chatproto.net.websocket.deadlines import TICK_S, Deadlines

PEOPLE = 4


class Person:
    """Somebody with a deadline."""

    def __init__(self, clock: Clock) -> None:
        self.deadline_tick = 0
        self.passed: list[float] = []
        self.then: Callable[[], object] = lambda: None
        self._clock = clock

    def deadlinePassed(self) -> None:
        assert self.deadline_tick == 0, "there is none while it is told"
        self.passed.append(self._clock.seconds())
        self.then()


class Place:
    """Some people and their deadlines."""

    def __init__(self, start_s: float = 0.0) -> None:
        self.clock = Clock()
        self.clock.advance(start_s)
        self.deadlines = Deadlines(self.clock)
        self.people = [Person(self.clock) for _ in range(PEOPLE)]

    def timers(self) -> int:
        return len(self.clock.getDelayedCalls())


SECONDS = st.floats(0, 40, allow_nan=False)
WHO = st.integers(0, PEOPLE - 1)
REACTIONS = st.one_of(
    st.none(), st.tuples(st.just("set"), WHO, SECONDS), st.tuples(st.just("clear"), WHO, st.just(0.0))
)
DOINGS = st.one_of(
    st.tuples(st.just("set"), WHO, SECONDS, REACTIONS),
    st.tuples(st.just("clear"), WHO, st.just(0.0), st.none()),
    st.tuples(st.just("advance"), st.just(0), SECONDS, st.none()),
)


@settings(max_examples=300)
@given(st.floats(0, 1e7), st.lists(DOINGS, max_size=25))
def test_each_is_told_once_never_early_and_at_most_a_tick_late(
    start_s: float, doings: list[tuple[str, int, float, Any]]
) -> None:
    place = Place(start_s)
    due: dict[int, float] = {}  # the naive model: when each is to be told
    slack_s = 1e-6

    def do(what: str, who: int, seconds: float) -> None:
        if what == "set":
            place.deadlines.set(place.people[who], seconds)
            due[who] = place.clock.seconds() + seconds
        else:
            place.deadlines.clear(place.people[who])
            due.pop(who, None)

    def told(who: int, reaction: tuple[str, int, float] | None) -> None:
        now_s = place.clock.seconds()
        assert due.pop(who) <= now_s + slack_s, "early, or nobody asked"
        place.people[who].then = lambda: told(who, None)
        if reaction is not None:
            do(*reaction)

    def react(who: int, reaction: tuple[str, int, float] | None) -> None:
        place.people[who].then = lambda: told(who, reaction)

    for who in range(PEOPLE):
        react(who, None)
    for what, who, seconds, reaction in doings:
        if what == "advance":
            steps = int(seconds / TICK_S) + 1
            for _ in range(steps):
                place.clock.advance(seconds / steps)
                late = [s for s in due.values() if s + TICK_S < place.clock.seconds() - TICK_S - slack_s]
                assert not late
        else:
            react(who, reaction)
            do(what, who, seconds)
        assert place.timers() == (1 if due else 0)
        assert {who for who in range(PEOPLE) if place.people[who].deadline_tick} == set(due)


class TestDeadlines:
    def test_setting_one_again_replaces_it(self) -> None:
        place = Place()
        someone = place.people[0]
        place.deadlines.set(someone, 1)
        place.deadlines.set(someone, 5)
        place.clock.advance(4)
        assert someone.passed == []
        place.clock.advance(1)
        assert someone.passed == [5]

    def test_those_of_one_tick_are_told_together_by_one_timer(self) -> None:
        place = Place()
        for i, someone in enumerate(place.people):
            place.deadlines.set(someone, 1 + i / 100)
        assert place.timers() == 1
        place.clock.advance(1 + TICK_S)
        assert [len(someone.passed) for someone in place.people] == [1] * PEOPLE
        assert place.timers() == 0

    def test_an_earlier_one_moves_the_timer(self) -> None:
        place = Place()
        place.deadlines.set(place.people[0], 10)
        place.deadlines.set(place.people[1], 1)
        place.clock.advance(1)
        assert (place.people[0].passed, place.people[1].passed) == ([], [1])
        place.clock.advance(9)
        assert place.people[0].passed == [10]

    def test_no_timer_is_left_when_all_are_cleared(self) -> None:
        place = Place()
        for someone in place.people:
            place.deadlines.set(someone, 3)
        for someone in place.people:
            place.deadlines.clear(someone)
            place.deadlines.clear(someone)
        assert place.timers() == 0
        place.clock.advance(10)
        assert not any(someone.passed for someone in place.people)

    def test_one_that_raises_is_logged_and_keeps_the_others_from_nothing(self, logged: Logged) -> None:
        place = Place()

        def fail() -> None:
            raise ZeroDivisionError

        for someone in place.people:
            someone.then = fail
            place.deadlines.set(someone, 1)
        place.clock.advance(1)
        assert [len(someone.passed) for someone in place.people] == [1] * PEOPLE
        assert logged.take() == ["ZeroDivisionError"] * PEOPLE

    def test_someone_cleared_by_another_of_the_same_tick_is_not_told(self) -> None:
        place = Place()

        def clear_all(people: list[Person]) -> None:
            for someone in people:
                place.deadlines.clear(someone)

        for i, someone in enumerate(place.people):
            others = place.people[:i] + place.people[i + 1 :]
            someone.then = partial(clear_all, others)
            place.deadlines.set(someone, 1)
        place.clock.advance(1)
        assert sum(len(someone.passed) for someone in place.people) == 1
        assert place.timers() == 0

    def test_whoever_is_late_always_still_lets_the_clock_go_on(self) -> None:
        place = Place()
        someone = place.people[0]
        someone.then = lambda: place.deadlines.set(someone, 0) if len(someone.passed) < 20 else None
        place.deadlines.set(someone, 1)
        place.clock.advance(1)
        passed_at_once = len(someone.passed)
        for _ in range(20):
            place.clock.advance(TICK_S)
        assert passed_at_once == 1
        assert len(someone.passed) == 20

"""How late the reactor is."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from chatproto.server.delay import EVERY_S, ReactorDelay


class Busy(Clock):
    """A reactor that is kept busy: time goes by, and nothing that is due happens."""

    def be_busy(self, seconds: float) -> None:
        self.rightNow += seconds

    def turn(self) -> None:
        self.advance(0)


@pytest.fixture
def clock() -> Busy:
    return Busy()


@pytest.fixture
def delay(clock: Busy) -> ReactorDelay:
    delay = ReactorDelay(clock, clock.seconds)
    delay.start()
    return delay


def test_an_idle_reactor_is_never_late(clock: Busy, delay: ReactorDelay) -> None:
    for _ in range(4):
        clock.advance(EVERY_S)
    assert delay.seen.counts[0] == sum(delay.seen.counts) == 4
    assert delay.seen.total == 0


def test_what_keeps_it_busy_is_seen(clock: Busy, delay: ReactorDelay) -> None:
    clock.be_busy(EVERY_S + 0.2)
    clock.turn()
    assert delay.seen.total == pytest.approx(0.2)
    assert delay.seen.counts[delay.seen.bounds.index(0.25)] == 1


def test_after_being_late_it_is_measured_anew(clock: Busy, delay: ReactorDelay) -> None:
    clock.be_busy(EVERY_S + 3)
    clock.turn()
    clock.advance(EVERY_S)
    assert delay.seen.total == pytest.approx(3)
    assert sum(delay.seen.counts) == 2


def test_a_clock_that_was_set_back_makes_nothing_negative() -> None:
    clock = Clock()
    now_s = iter([100.0, 50.0, 50.0])
    delay = ReactorDelay(clock, lambda: next(now_s))
    delay.start()
    clock.advance(EVERY_S)
    assert delay.seen.total == 0
    assert delay.seen.counts[0] == 1


def test_once_stopped_it_leaves_nothing_behind(clock: Busy, delay: ReactorDelay) -> None:
    delay.stop()
    delay.stop()
    assert clock.getDelayedCalls() == []

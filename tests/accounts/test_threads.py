"""Passwords are checked in few threads, with few that wait, and what nobody waits for is not checked."""

from __future__ import annotations

import os
import threading

import pytest
from rooms.pumped import Pump
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from chatproto.accounts.threads import NICENESS, PasswordThreads
from chatproto.rooms.account import TryLater


class Gate:
    """A check that takes until it is let through; how many are in it at a time is noted."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.lock = threading.Lock()
        self.inside = self.most = self.calls = 0

    def __call__(self) -> bool:
        with self.lock:
            self.inside += 1
            self.calls += 1
            self.most = max(self.most, self.inside)
        self.opened.wait(30)
        with self.lock:
            self.inside -= 1
        return True


@pytest.fixture
def pump() -> Pump:
    return Pump()


def outcomes(*answers: Deferred[bool]) -> list[object]:
    found: list[object] = []
    for answer in answers:
        answer.addBoth(found.append)
    return found


@pytest.mark.parametrize("n_threads", [1, 2])
def test_no_more_are_checked_at_a_time_than_there_are_threads(pump: Pump, n_threads: int) -> None:
    threads, gate = PasswordThreads(pump, n_threads, 20), Gate()
    found = outcomes(*[threads.run(gate) for _ in range(10)])
    pump.until(lambda: gate.inside == n_threads)
    gate.opened.set()
    pump.until(lambda: len(found) == 10)
    assert (found, gate.most) == ([True] * 10, n_threads)
    threads.close()


def test_past_the_bound_one_is_told_to_try_later(pump: Pump) -> None:
    threads, gate = PasswordThreads(pump, 1, 3), Gate()
    first = threads.run(gate)
    pump.until(lambda: threads.n_waiting == 0)
    waiting = [threads.run(gate) for _ in range(3)]
    for _ in range(100):
        with pytest.raises(TryLater, match="try again in a few seconds"):
            threads.run(gate)
    gate.opened.set()
    found = outcomes(first, *waiting)
    pump.until(lambda: len(found) == 4)
    assert (threads.n_waiting, gate.calls) == (0, 4)
    assert outcomes(threads.run(gate)) == []
    threads.close()


def test_what_is_given_up_before_its_turn_is_never_checked_and_makes_room(pump: Pump) -> None:
    threads, gate, other = PasswordThreads(pump, 1, 3), Gate(), Gate()
    first = threads.run(gate)
    pump.until(lambda: threads.n_waiting == 0)
    waiting = [threads.run(other) for _ in range(3)]
    found = outcomes(*waiting)
    for answer in waiting:
        answer.cancel()
    assert (len(found), threads.n_waiting) == (3, 0)
    last = threads.run(gate)
    gate.opened.set()
    assert outcomes(first) == []
    done = outcomes(last)
    pump.until(lambda: done)
    assert (other.calls, threads.n_waiting) == (0, 0)
    threads.close()


def test_what_is_given_up_while_it_is_checked_tells_nobody(pump: Pump) -> None:
    threads, gate = PasswordThreads(pump, 1, 3), Gate()
    answer = threads.run(gate)
    found = outcomes(answer)
    pump.until(lambda: gate.inside)
    answer.cancel()
    gate.opened.set()
    after = outcomes(threads.run(lambda: True))
    pump.until(lambda: after)
    assert len(found) == 1
    assert isinstance(found[0], Failure)
    threads.close()


def test_a_check_that_raises_fails_and_the_thread_goes_on(pump: Pump) -> None:
    threads = PasswordThreads(pump)

    def fail() -> bool:
        raise ValueError("no")

    found = outcomes(threads.run(fail), threads.run(lambda: True))
    pump.until(lambda: len(found) == 2)
    assert isinstance(found[0], Failure)
    assert found[1] is True
    threads.close()


def test_no_thread_is_there_before_it_is_needed_or_after_the_end(pump: Pump) -> None:
    before = set(threading.enumerate())  # those of another test may be ending meanwhile
    threads = PasswordThreads(pump, 2)
    assert set(threading.enumerate()) <= before
    found = outcomes(threads.run(lambda: True))
    (own,) = set(threading.enumerate()) - before
    pump.until(lambda: found)
    threads.close()
    own.join(30)
    assert not own.is_alive()


def test_the_threads_give_way_to_the_chat(pump: Pump) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    found: list[int] = []
    threads = PasswordThreads(pump)
    threads.run(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())).addCallback(found.append)
    pump.until(lambda: found)
    assert found == [max(own, NICENESS)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == own
    threads.close()

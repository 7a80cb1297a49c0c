"""One turn of sockets that are watched as one, with descriptors that count."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chatproto.net.gathering import Gathered

if not sys.platform.startswith("linux"):
    pytest.skip("epoll is Linux's", allow_module_level=True)


class Mishap(Exception):
    """What an application raises."""


class Watching:
    """A reactor that watches nothing, but remembers what it should."""

    def __init__(self) -> None:
        self.readers = list[object]()

    def addReader(self, reader: object) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: object) -> None:
        if reader in self.readers:
            self.readers.remove(reader)


class Ready:
    """A descriptor that is readable from the beginning, and stays so."""

    def __init__(self, case: SynchronousTestCase) -> None:
        self.number = os.eventfd(1, os.EFD_NONBLOCK)
        self.reads = 0
        self.lost: type[BaseException] | None = None
        self.act: Callable[[], object] = lambda: None
        case.addCleanup(os.close, self.number)

    def fileno(self) -> int:
        return self.number

    def logPrefix(self) -> str:
        return "ready"

    def doRead(self) -> object:
        self.reads += 1
        return self.act()

    def connectionLost(self, reason: Failure) -> None:
        self.lost = reason.type


class Turns(SynchronousTestCase):
    """The reactor calls once, and each of them has its turn."""

    def setUp(self) -> None:
        self.reactor = Watching()
        self.gathered = Gathered(self.reactor)

    def ready(self, count: int) -> list[Any]:
        """So many that are readable, in this order."""
        made = [Ready(self) for _ in range(count)]
        for one in made:
            self.gathered.addReader(one)  # type: ignore[arg-type]
        return made

    def test_each_has_its_turn_once(self) -> None:
        made = self.ready(20)
        self.gathered.doRead()
        assert [one.reads for one in made] == [1] * 20

    def test_past_512_they_wait_for_the_next_turn_and_are_the_first_then(self) -> None:
        made = self.ready(520)
        self.gathered.doRead()
        assert sum(one.reads for one in made) == 512
        self.gathered.doRead()
        assert all(one.reads for one in made)

    def test_adding_twice_is_adding_once(self) -> None:
        [one] = self.ready(1)
        self.gathered.addReader(one)
        self.gathered.doRead()
        assert one.reads == 1
        self.gathered.removeReader(one)
        self.gathered.removeReader(one)
        self.gathered.doRead()
        assert one.reads == 1

    def test_an_event_on_its_way_does_not_reach_who_has_the_number_next(self) -> None:
        first, second, third = self.ready(3)
        self.gathered.removeReader(third)

        def replace() -> None:
            self.gathered.removeReader(second)
            os.dup2(third.number, second.number)  # which closes what had this number
            third.number, second.number = second.number, third.number
            self.gathered.addReader(third)

        first.act = replace
        self.gathered.doRead()
        assert (first.reads, second.reads, third.reads) == (1, 0, 0)
        first.act = lambda: None
        self.gathered.doRead()
        assert (first.reads, second.reads, third.reads) == (2, 0, 1)

    def test_a_turn_within_a_turn_is_a_turn(self) -> None:
        first, second = self.ready(2)

        def iterate() -> None:
            first.act = lambda: None
            self.gathered.doRead()

        first.act = iterate
        self.gathered.doRead()
        assert (first.reads, second.reads) == (2, 2)

    def test_what_a_read_gives_back_ends_it(self) -> None:
        first, second = self.ready(2)
        first.act = lambda: ConnectionLost()
        self.gathered.doRead()
        assert (first.lost, second.lost) == (ConnectionLost, None)
        self.gathered.doRead()
        assert (first.reads, second.reads) == (1, 2)

    def test_an_end_without_input_is_the_end_of_input(self) -> None:
        [one] = self.ready(1)
        self.gathered.removeReader(one)
        ours, theirs = os.pipe()
        os.dup2(ours, one.number)
        os.close(ours)
        os.close(theirs)
        self.gathered.addReader(one)
        self.gathered.doRead()
        assert (one.reads, one.lost) == (0, ConnectionDone)
        assert self.reactor.readers == []

    def test_an_interrupt_while_one_ends_harms_nobody(self) -> None:
        first, second = self.ready(2)
        first.act = lambda: ConnectionLost()

        def interrupt(reason: Failure) -> None:
            raise KeyboardInterrupt

        first.connectionLost = interrupt
        self.gathered.doRead()
        assert second.reads == 1
        assert self.reactor.readers == [self.gathered]
        assert len(self.flushLoggedErrors(KeyboardInterrupt)) == 1

    def test_one_that_is_closed_without_a_word_harms_nobody(self) -> None:
        first, second = self.ready(2)
        kept = os.dup(first.number)  # so that the kernel still names it
        self.addCleanup(os.close, kept)
        number, first.number = first.number, -1
        self.gathered.doRead()
        assert (first.reads, second.reads) == (0, 1)
        assert first.lost is not None
        first.number = number

    def test_they_end_with_the_reactor_each_whatever_the_others_raise(self) -> None:
        made = self.ready(3)

        def fail(reason: Failure) -> None:
            raise Mishap

        made[1].connectionLost = fail
        self.gathered.connectionLost(Failure(ConnectionLost()))
        assert [one.lost for one in made] == [ConnectionLost, None, ConnectionLost]
        assert len(self.flushLoggedErrors(Mishap)) == 1
        assert self.reactor.readers == []

    def test_what_cannot_be_waited_for_is_refused(self) -> None:
        [one] = self.ready(1)
        number = one.number
        with open(__file__) as file:
            other = Ready(self)
            kept, other.number = other.number, file.fileno()
            with pytest.raises(OSError, match="not permitted") as raised:
                self.gathered.addReader(other)  # type: ignore[arg-type]
            other.number = kept
        assert raised.value.errno == errno.EPERM
        assert one.number == number
        self.gathered.doRead()
        assert one.reads == 1

    def test_what_the_reactor_refuses_is_refused_and_may_come_again(self) -> None:
        refused = Ready(self)
        watch = self.reactor.addReader

        def refuse(reader: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        self.reactor.addReader = refuse  # type: ignore[method-assign]
        with pytest.raises(OSError, match="No space left"):
            self.gathered.addReader(refused)  # type: ignore[arg-type]
        self.reactor.addReader = watch  # type: ignore[method-assign]
        for one in (refused, *self.ready(1)):
            self.gathered.addReader(one)
        assert self.reactor.readers == [self.gathered]
        self.gathered.doRead()
        assert refused.reads == 1

    def test_a_program_that_it_starts_does_not_have_the_descriptor(self) -> None:
        assert not os.get_inheritable(self.gathered.fileno())

    def test_the_descriptor_is_closed_when_nobody_has_it(self) -> None:
        number = self.gathered.fileno()
        del self.gathered
        gc.collect()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)

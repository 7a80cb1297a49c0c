"""Threads for what takes long and is no business of the reactor's: few, and with a bounded queue."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from chatproto.rooms.account import TryLater

__all__ = ["PasswordThreads"]

T = TypeVar("T")

NICENESS = 10
"""Of the threads, where the system has it for each: what people say comes first."""


class PasswordThreads:
    """At most *threads* threads, which are started when they are needed, and *most_waiting* checks for them.

    Answers are given in *reactor*.
    """

    def __init__(self, reactor: IReactorFromThreads, threads: int = 1, most_waiting: int = 64) -> None:
        self._call = reactor.callFromThread
        self._most_threads = threads
        self._most_waiting = most_waiting
        self._waiting: SimpleQueue[_Check | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self.n_waiting = 0
        """Checks that no thread has begun with, and of which somebody still wants to know the outcome."""

    def run(self, check: Callable[[], T]) -> Deferred[T]:
        """Call *check* in a thread. Raises `TryLater` if too much is waiting already.

        What is cancelled before its turn has come is never called.
        """
        if self.n_waiting >= self._most_waiting:
            raise TryLater("too many people are logging in at the moment; try again in a few seconds")
        self.n_waiting += 1
        job = _Check(check, self)
        self._waiting.put(job)
        if len(self._threads) < self._most_threads:
            thread = threading.Thread(target=self._run, name="chat password checker", daemon=True)
            self._threads.append(thread)
            thread.start()
        return job.answer

    def close(self) -> None:
        """End the threads, once what waits is done."""
        for _ in self._threads:
            self._waiting.put(None)
        self._threads.clear()

    def begun(self, job: _Check) -> None:
        """In the reactor's thread: *job* waits no more, whether it was begun or given up."""
        if job.waits:
            job.waits = False
            self.n_waiting -= 1

    def _run(self) -> None:
        with suppress(OSError, AttributeError):
            own = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), max(own, NICENESS))
        while (job := self._waiting.get()) is not None:
            if job.is_cancelled:
                continue
            self._call(self.begun, job)
            outcome: Any
            try:
                outcome = job.check()
            except Exception:
                outcome = Failure()
            self._call(job.tell, outcome)


class _Check:
    """One check: what to call, and who wants to know."""

    def __init__(self, check: Callable[[], Any], threads: PasswordThreads) -> None:
        self.check = check
        self.waits = True
        self.is_cancelled = False
        self._threads = threads
        self.answer: Deferred[Any] = Deferred(self._cancel)

    def _cancel(self, answer: Deferred[Any]) -> None:
        self.is_cancelled = True
        self._threads.begun(self)

    def tell(self, outcome: Any) -> None:
        """In the reactor's thread: the outcome is there."""
        self._threads.begun(self)
        if not self.answer.called:
            self.answer.callback(outcome)

"""A durable log without a reactor: what its threads answer waits until the test takes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure
from zope.interface import implementer

from chatproto.history.log import SqliteLog
from chatproto.limits import HistoryLimits, Limits
from chatproto.rooms.log import Found, Receipt
from chatproto.wire.messages import Chat

__all__ = ["PATIENCE_S", "Pump", "PumpedLog"]

T = TypeVar("T")

PATIENCE_S = 30.0
"""How long a test waits for what must come; it says nothing about speed."""


@implementer(IReactorFromThreads)
class Pump:
    """The part of a reactor that a `SqliteLog` needs; `step` does one thing that a thread asked for."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[..., Any], Any, Any]] = SimpleQueue()

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        self._calls.put((callable, args, kwargs))

    def callLater(self, delay_s: float, callable: Callable[..., Any], *args: object) -> None:
        assert not delay_s
        self.callFromThread(callable, *args)

    def callInThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        raise NotImplementedError

    def step(self, timeout_s: float = 0.0) -> bool:
        """Do one thing, after waiting for it if need be; whether there was one."""
        try:
            call, args, kwargs = self._calls.get(timeout=timeout_s) if timeout_s else self._calls.get_nowait()
        except Empty:
            return False
        call(*args, **kwargs)
        return True

    def until(self, holds: Callable[[], object], what: str = "") -> None:
        """Do things until something holds."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not holds():
            if not self.step(0.05) and time.monotonic() > deadline_s:
                raise AssertionError(what or "it did not come to hold")


class PumpedLog(SqliteLog):
    """A durable log that the test pumps; `owed` counts the answers that are outstanding."""

    def __init__(
        self,
        path: object,
        limits: Limits | None = None,
        history: HistoryLimits | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.pump = Pump()
        self.owed = 0
        self.is_closed = False
        super().__init__(str(path), self.pump, limits, history, wall_clock)

    def _owe(self, answer: T) -> T:
        if isinstance(answer, Deferred):
            self.owed += 1
            answer.addBoth(self._answered)
        return answer

    def _answered(self, outcome: T) -> T:
        self.owed -= 1
        return outcome

    def prepare(self, room: str) -> Deferred[None] | None:
        return self._owe(super().prepare(room))

    def append(self, room: str, nick: str, key: str, id: int, text: str, sender: int) -> Deferred[Receipt]:
        return self._owe(super().append(room, nick, key, id, text, sender))

    def read(self, room: str, first: int, last: int, max_bytes: int) -> list[Chat] | Deferred[list[Chat]]:
        return self._owe(super().read(room, first, last, max_bytes))

    def search(self, room: str, words: Sequence[str], limit: int) -> Found | Deferred[Found]:
        return self._owe(super().search(room, words, limit))

    def pick(self, room: str, seqs: Sequence[int], max_bytes: int) -> list[Chat] | Deferred[list[Chat]]:
        return self._owe(super().pick(room, seqs, max_bytes))

    def remove(self, room: str, seq: int) -> Deferred[bool]:
        return self._owe(super().remove(room, seq))

    # --- what tests do --------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let everything be answered."""
        self.pump.until(lambda: not self.owed, "something is not answered")

    def answer(self, given: T | Deferred[T]) -> T:
        """An answer that may have to be waited for."""
        return self.wait(given) if isinstance(given, Deferred) else given

    def wait(self, given: Deferred[T]) -> T:
        """Wait for an answer."""
        outcome: list[T | Failure] = []
        given.addBoth(outcome.append)
        self.pump.until(lambda: outcome, "no answer")
        result = outcome[0]
        if isinstance(result, Failure):
            result.raiseException()
        return result

    def say(self, room: str, text: str = "x", *, id: int = 0, nick: str = "ann") -> Receipt:
        """Append and wait."""
        return self.wait(self.append(room, nick, nick, id, text, 1))

    def look(self, room: str) -> tuple[int, int]:
        """The bounds of a room, once it is prepared."""
        while (preparing := self.prepare(room)) is not None:
            self.wait(preparing)
        return self.bounds(room)

    def all(self, room: str) -> list[Chat]:
        """Everything that is kept, read in slices."""
        first, last = self.look(room)
        found: list[Chat] = []
        while chats := self.answer(self.read(room, first, last, 65_536)):
            found += chats
            first = chats[-1].seq + 1
        return found

    def close_now(self) -> None:
        """Close, and wait for it; harmless if it is closed."""
        if not self.is_closed:
            self.close().addCallback(lambda _: setattr(self, "is_closed", True))
            self.pump.until(lambda: self.is_closed, "the log did not close")

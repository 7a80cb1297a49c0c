"""Ways out that do what none should, a log that answers later, and what else the tests of rooms share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent
from zope.interface import implementer

from chatproto.rooms.hub import Hub
from chatproto.rooms.log import Found, Kept, Receipt, RoomLog
from chatproto.testing import ChatInMemory, Person
from chatproto.wire.messages import Chat, Join, Message
from chatproto.wire.prepared import Prepared

__all__ = [
    "AsyncLog",
    "Broken",
    "Failures",
    "Faulty",
    "Restless",
    "assert_nothing_is_left",
    "join",
    "nothing",
]

P = TypeVar("P", bound=Person)


class Broken(Exception):
    """What the outlets and logs of the tests raise."""


@implementer(ILogObserver)
class Failures:
    """A log observer that keeps failures."""

    def __init__(self) -> None:
        self._events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        if "log_failure" in event:
            self._events.append(event)

    def take(self) -> list[str]:
        """The kinds of the exceptions that were logged since the last time."""
        kinds = [event["log_failure"].type.__name__ for event in self._events]
        self._events.clear()
        return kinds


class Faulty(Person):
    """Someone whose outlet raises, in the methods that `raises_in` names."""

    def __init__(self, chat: ChatInMemory) -> None:
        super().__init__(chat)
        self.raises_in: set[str] = set()
        self.raised = 0

    def _may_raise(self, method: str) -> None:
        if method in self.raises_in:
            self.raised += 1
            raise Broken(method)

    def send(self, message: Message) -> None:
        self._may_raise("send")
        super().send(message)

    def publish(self, prepared: Prepared) -> bool:
        self._may_raise("publish")
        return super().publish(prepared)

    def finish(self) -> None:
        self._may_raise("finish")
        super().finish()


class Restless(Person):
    """Someone who does something in the very moment in which something reaches them."""

    def __init__(self, chat: ChatInMemory) -> None:
        super().__init__(chat)
        self.on_publish: Callable[[Message], object] = nothing
        self.on_send: Callable[[Message], object] = nothing

    def publish(self, prepared: Prepared) -> bool:
        taken = super().publish(prepared)
        self.on_publish(prepared.source)
        return taken

    def send(self, message: Message) -> None:
        super().send(message)
        self.on_send(message)


def nothing(message: object = None) -> None:
    """Do nothing."""


def join(kind: type[P], chat: ChatInMemory, nick: str, room: str = "", **wanted: int) -> P:
    """Someone of a kind, in a room."""
    person = kind(chat)
    person.ask(Join(nick, room, **wanted))
    return person


def assert_nothing_is_left(hub: Hub, clock: Any) -> None:
    """After all are gone."""
    assert hub.sessions == {}
    assert hub.rooms == {}
    assert len(hub.nicks) == 0
    assert clock.getDelayedCalls() == []


class _Answer:
    """One answer of an `AsyncLog` on its way: found out first, given later."""

    def __init__(self, find_out: Callable[[], Any]) -> None:
        self.deferred: Deferred[Any] = Deferred()
        self.is_found = False
        self._find_out = find_out
        self._outcome: Any = None

    def find_out(self) -> None:
        self.is_found = True
        try:
            self._outcome = self._find_out()
        except Exception as error:
            self._outcome = error

    def give(self) -> None:
        if isinstance(self._outcome, Exception):
            self.deferred.errback(self._outcome)
        else:
            self.deferred.callback(self._outcome)


class AsyncLog:
    """A log whose answers come when the test says so.

    Like a thread or a server it first does what it was asked for and gives the answer later, appends in their
    order and reads in theirs, but either may overtake the other. With *fired* every answer is a Deferred that
    has fired already. While `failing` is set, that is the answer. With *prepares* it has to look up a room
    before people enter it, which counts as a read.
    """

    def __init__(self, inner: RoomLog, *, fired: bool = False, prepares: bool = False) -> None:
        self.inner = inner
        self.epoch = inner.epoch
        self.trouble = ""
        self.failing: Exception | None = None
        self.appends: deque[_Answer] = deque()
        self.reads: deque[_Answer] = deque()
        self._fired = fired
        self._prepares = prepares
        self._prepared: set[str] = set()

    def start(self, kept: Kept) -> None:
        self.inner.start(kept)

    def prepare(self, room: str) -> Deferred[None] | None:
        if not self._prepares or room in self._prepared:
            return None
        return self._ask(self.reads, partial(self._prepared.add, room))

    def enter(self, room: str) -> None:
        assert not self._prepares or room in self._prepared
        self.inner.enter(room)

    def leave(self, room: str) -> None:
        self._prepared.discard(room)
        self.inner.leave(room)

    def bounds(self, room: str) -> tuple[int, int]:
        assert not self._prepares or room in self._prepared
        return self.inner.bounds(room)

    def append(self, room: str, nick: str, key: str, id: int, text: str, sender: int) -> Deferred[Receipt]:
        return self._ask(self.appends, lambda: self.inner.append(room, nick, key, id, text, sender))

    def read(self, room: str, first: int, last: int, max_bytes: int) -> Deferred[list[Chat]]:
        return self._ask(self.reads, lambda: self.inner.read(room, first, last, max_bytes))

    def search(self, room: str, words: Sequence[str], limit: int) -> Deferred[Found]:
        return self._ask(self.reads, lambda: self.inner.search(room, words, limit))

    def pick(self, room: str, seqs: Sequence[int], max_bytes: int) -> Deferred[list[Chat]]:
        return self._ask(self.reads, lambda: self.inner.pick(room, seqs, max_bytes))

    def remove(self, room: str, seq: int) -> Deferred[bool]:
        return self._ask(self.appends, lambda: self.inner.remove(room, seq))

    def _ask(self, waiting: deque[_Answer], find_out: Callable[[], Any]) -> Deferred[Any]:
        answer = _Answer(lambda: self._find_out(find_out))
        if self._fired:
            answer.find_out()
            answer.give()
        else:
            waiting.append(answer)
        return answer.deferred

    def _find_out(self, find_out: Callable[[], Any]) -> Any:
        if self.failing is not None:
            raise self.failing
        return find_out()

    def forget(self, room: str) -> None:
        """Know nothing of *room* any more."""
        self._prepared.discard(room)

    @property
    def owes(self) -> bool:
        """Whether answers are outstanding."""
        return bool(self.appends or self.reads)

    def step(self, waiting: deque[_Answer]) -> None:
        """Go on with the oldest of `appends` or `reads`: find its answer out, or else give it."""
        if waiting[0].is_found:
            waiting.popleft().give()
        else:
            waiting[0].find_out()

    def settle(self) -> None:
        """Answer everything, and what is asked for by that."""
        while self.owes:
            for waiting in (self.appends, self.reads):
                if waiting:
                    self.step(waiting)

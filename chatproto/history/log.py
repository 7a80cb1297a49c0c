"""The durable `RoomLog`: one SQLite file, one thread that writes to it and two that read.

What is said while one commit is under way goes into the next one together, so that the number of messages
does not hang on how long the disk takes. Nobody is told of a message before it is on the disk.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatproto.history.batch import Said
from chatproto.history.file import Ownership, open_history
from chatproto.history.reader import RoomFacts, facts_of, pick, read, search
from chatproto.history.threads import Call, Question, Readings, Then, Writings
from chatproto.history.upkeep import Upkeep
from chatproto.history.wiping import remove_message
from chatproto.history.writer import Committed, Outcome, Writer
from chatproto.limits import HistoryLimits, Limits
from chatproto.rooms.log import REMOVED, Found, Kept, NotStored, Receipt
from chatproto.rooms.remembered import Recent, Remembered, take_bytes, text_cost_bytes
from chatproto.rooms.spread import Spread
from chatproto.wire.messages import Chat

__all__ = ["SqliteLog"]

_log = Logger(namespace="chatproto.history")

TOLD_IN_A_TURN = 256
"""Messages of one commit that people are told of in one turn of the reactor; then others have theirs."""

FIRST_BYTES = 65_536
FIRST_MESSAGES = 256
"""Read into memory of a room that people enter, so that who joins need not wait for more."""


class _Room:
    """A room that people are in or lately were.

    `recent` has its newest number and as many of its newest messages as fit into memory; `oldest` is the
    first number that is kept at all. While `is_known` is not set the two mean nothing yet.
    """

    __slots__ = (
        "is_asked",
        "is_in_use",
        "is_known",
        "number",
        "oldest",
        "recent",
        "unkept",
        "waiting",
    )

    def __init__(self) -> None:
        self.number = 0  # in the file, or 0
        self.oldest = 1
        self.recent = Remembered(0)
        self.is_known = False
        self.is_in_use = False
        self.is_asked = False  # the file is being asked for the above
        self.unkept = 0  # messages on their way into the file
        self.waiting: list[Deferred[None]] = []


class SqliteLog:
    """Keeps what is said in the SQLite file at *path*, which is made if it is not there.

    Raises `HistoryUnusable`, with one sentence, for a file that is no history, is damaged, or that another
    server is writing to. Answers are given in *reactor*, which provides
    `IReactorFromThreads` and `IReactorTime`; *wall_clock* gives seconds since 1970.

    `trouble` says why nothing can be kept at the moment, and is empty else. Every message is tried all
    the same, and what can be put right is.
    """

    def __init__(
        self,
        path: str,
        reactor: Any,
        limits: Limits | None = None,
        history: HistoryLimits | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = os.path.abspath(path)
        self.trouble = ""
        self._call: Call = reactor.callFromThread
        self._call_later: Callable[[float, Callable[[], None]], object] = reactor.callLater
        self._limits = limits or Limits()
        self._history = history or HistoryLimits()
        self._wall_clock = wall_clock
        self._kept: Kept = lambda chat, sender: None
        self._rooms: dict[str, _Room] = {}
        # Those that may be dropped, the one idle for longest first.
        self._idle: OrderedDict[str, None] = OrderedDict()
        self._recent = Recent(self._limits)
        self._unkept_bytes = 0
        self._untold: deque[_Untold] = deque()
        self._closings: list[Deferred[None]] = []
        self._ownership = Ownership(self.path)
        try:
            connection = open_history(self.path, self._history.history_lock_timeout_s)
            [self.epoch, removed_ms] = connection.execute("SELECT epoch, newest_ms FROM about").fetchone()
            [newest_ms] = connection.execute("SELECT max(time_ms) FROM messages").fetchone()
            self._newest_ms = max(removed_ms, newest_ms or 0)
            writer = Writer(
                self.path,
                connection,
                remember_ms=int(self._history.remember_ids_s * 1000),
                timeout_s=self._history.history_lock_timeout_s,
                park=self._parked,
            )
        except BaseException:
            self._ownership.give_up()
            raise
        upkeep = Upkeep(writer, self._history, wall_clock, partial(self._call, self._tell_later))
        self._running = 3
        self._reader = Readings(self.path, "chat history reader", self._call, self._has_ended)
        self._searcher = Readings(self.path, "chat history searcher", self._call, self._has_ended)
        self._writings = Writings(
            writer, upkeep, self._call, self._were_tried, self._has_changed, self._has_ended
        )

    def close(self) -> Deferred[None]:
        """Keep and tell what was said so far, and nothing after it. Fires when no thread is left."""
        closed: Deferred[None] = Deferred()
        self._closings.append(closed)
        if len(self._closings) == 1:
            for thread in (self._writings, self._reader, self._searcher):
                thread.end()
        return closed

    # --- what can be seen of it -----------------------------------------------------------------------------

    @property
    def commits(self) -> Spread:
        """The commits so far, by how many messages each had."""
        return self._writings.commits

    @property
    def commits_s(self) -> Spread:
        """The commits so far, by the seconds that each took."""
        return self._writings.commits_s

    @property
    def unkept_bytes(self) -> int:
        """About what the messages take in memory that are on their way into the file."""
        return self._unkept_bytes

    def file_bytes(self) -> int:
        """What the history takes on the disk, its write-ahead log included."""
        return sum(_size_bytes(f"{self.path}{ending}") for ending in ("", "-wal"))

    # --- what the hub calls ---------------------------------------------------------------------------------

    def start(self, kept: Kept) -> None:
        """See `RoomLog.start`."""
        self._kept = kept

    def prepare(self, room: str) -> Deferred[None] | None:
        """See `RoomLog.prepare`."""
        state = self._rooms.get(room)
        if state is None:
            state = self._rooms[room] = _Room()
        waiting: Deferred[None] | None = None
        if not state.is_known:
            waiting = Deferred()
            state.waiting.append(waiting)
            self._look_up(room, state)
        self._settle(room, state)
        return waiting

    def enter(self, room: str) -> None:
        """See `RoomLog.enter`."""
        state = self._known(room)
        state.is_in_use = True
        self._settle(room, state)

    def leave(self, room: str) -> None:
        """See `RoomLog.leave`."""
        state = self._known(room)
        state.is_in_use = False
        self._settle(room, state)

    def append(self, room: str, nick: str, key: str, id: int, text: str, sender: int) -> Deferred[Receipt]:
        """See `RoomLog.append`."""
        if self._closings:
            raise NotStored("the history is closed; nobody saw it")
        cost_bytes = text_cost_bytes(text)
        if self._unkept_bytes + cost_bytes > self._history.max_unkept_bytes:
            raise NotStored("the history cannot keep up; nobody saw it")
        self._unkept_bytes += cost_bytes
        state = self._rooms.get(room)
        if state is None:
            state = self._rooms[room] = _Room()
        state.unkept += 1
        if state.unkept == 1:
            self._settle(room, state)
        # A clock that is set back must not turn the history round, not even over a restart.
        now_ms = int(self._wall_clock() * 1000)
        if now_ms > self._newest_ms:
            self._newest_ms = now_ms
        answer: Deferred[Receipt] = Deferred()
        self._writings.put(Said(room, nick, key, id, text, sender, self._newest_ms, answer, cost_bytes))
        return answer

    def bounds(self, room: str) -> tuple[int, int]:
        """See `RoomLog.bounds`."""
        state = self._known(room)
        return state.oldest, state.recent.last

    def read(self, room: str, first: int, last: int, max_bytes: int) -> list[Chat] | Deferred[list[Chat]]:
        """See `RoomLog.read`."""
        state = self._rooms.get(room)
        number = 0
        if state is not None and state.is_known:
            number = state.number
            first, last = max(first, state.oldest), min(last, state.recent.last)
            if first > last or first >= state.recent.first:
                return state.recent.slice(first, last, max_bytes)
        answer: Deferred[list[Chat]] = Deferred()
        self._ask(
            self._reader,
            lambda connection: read(connection, room, number, first, last, max_bytes),
            partial(self._was_read, room, answer),
        )
        return answer

    def search(self, room: str, words: Sequence[str], limit: int) -> Found | Deferred[Found]:
        """See `RoomLog.search`."""
        state = self._known(room)
        number, last = state.number, state.recent.last
        if last < state.oldest:
            return Found((), False)
        answer: Deferred[Found] = Deferred()
        self._ask(
            self._searcher,
            lambda connection: search(connection, room, number, last, words, limit),
            answer.callback,
        )
        return answer

    def pick(self, room: str, seqs: Sequence[int], max_bytes: int) -> list[Chat] | Deferred[list[Chat]]:
        """See `RoomLog.pick`."""
        state = self._rooms.get(room)
        number = 0
        if state is not None and state.is_known:
            number = state.number
            if not seqs or seqs[0] >= state.recent.first:
                kept = map(state.recent.get, seqs)
                return take_bytes((chat for chat in kept if chat is not None), max_bytes)
        answer: Deferred[list[Chat]] = Deferred()
        self._ask(
            self._reader,
            lambda connection: pick(connection, room, number, seqs, max_bytes),
            answer.callback,
        )
        return answer

    def remove(self, room: str, seq: int) -> Deferred[bool]:
        """See `RoomLog.remove`."""
        answer: Deferred[bool] = Deferred()
        then = partial(self._was_removed, room, seq, answer)
        if self._closings:
            then(Failure(RuntimeError("the history is closed")))
        else:
            self._writings.change(lambda connection: remove_message(connection, room, seq), then)
        return answer

    # --- rooms ----------------------------------------------------------------------------------------------

    def _known(self, room: str) -> _Room:
        state = self._rooms.get(room)
        if state is None or not state.is_known:
            raise LookupError("the history was not prepared for that room")
        return state

    def _settle(self, name: str, state: _Room) -> None:
        """Note whether what is known of a room may be dropped, and drop what is idle for longest."""
        if state.is_in_use or state.unkept or state.is_asked or state.waiting:
            self._idle.pop(name, None)
            return
        self._idle[name] = None
        self._idle.move_to_end(name)
        while len(self._idle) > self._limits.max_rooms:
            dropped, _ = self._idle.popitem(last=False)
            self._recent.forget(dropped, self._rooms.pop(dropped).recent)

    def _look_up(self, name: str, state: _Room) -> None:
        """Ask the file about a room, unless that is under way, or what is said there will tell."""
        if state.is_asked or state.unkept:
            return
        state.is_asked = True
        self._ask(
            self._reader,
            lambda connection: facts_of(connection, name, FIRST_MESSAGES, FIRST_BYTES),
            partial(self._was_looked_up, name, state),
        )

    def _was_looked_up(self, name: str, state: _Room, outcome: RoomFacts | Failure) -> None:
        state.is_asked = False
        # Messages that are on their way may be in the file already, and must not be counted yet.
        if not state.is_known and not state.unkept:
            if isinstance(outcome, Failure):
                _fire(state, outcome)
            else:
                first = outcome.chats[0].seq if outcome.chats else outcome.newest + 1
                self._know(state, outcome.number, outcome.removed, first - 1)
                for chat in outcome.chats:
                    self._recent.add(name, state.recent, chat)
                _fire(state, None)
        self._settle(name, state)

    def _was_removed(self, room: str, seq: int, answer: Deferred[bool], outcome: bool | Failure) -> None:
        if isinstance(outcome, Failure):
            answer.errback(outcome)
        else:
            # It may have been committed together with what nobody was told of yet, and what is being read is
            # perhaps from before: its answer comes first.
            show = partial(self._show_removed, room, seq, answer, outcome)
            self._tell_later(partial(self._ask, self._reader, lambda connection: None, show))

    def _show_removed(
        self, room: str, seq: int, answer: Deferred[bool], is_removed: bool, _: Failure | None
    ) -> None:
        state = self._rooms.get(room)
        if state is not None and is_removed:
            self._recent.replace(state.recent, seq, REMOVED)
        answer.callback(is_removed)

    def _know(self, state: _Room, number: int, removed: int, last: int) -> None:
        state.is_known = True
        state.number = number
        state.oldest = removed + 1
        state.recent = Remembered(last)

    # --- reading --------------------------------------------------------------------------------------------

    def _ask(self, readings: Readings, question: Question, then: Then) -> None:
        if self._closings:
            then(Failure(RuntimeError("the history is closed")))
        else:
            readings.ask(question, then)

    def _was_read(
        self, room: str, answer: Deferred[list[Chat]], outcome: tuple[list[Chat], int] | Failure
    ) -> None:
        if isinstance(outcome, Failure):
            answer.errback(outcome)
            return
        chats, oldest = outcome
        # What was removed is perhaps seen here before one is told of it.
        self._forget({room: oldest - 1})
        answer.callback(chats)

    # --- threads --------------------------------------------------------------------------------------------

    @contextmanager
    def _parked(self) -> Iterator[None]:
        """While the thread that writes has the file to itself."""
        go_on = [readings.park() for readings in (self._reader, self._searcher)]
        try:
            yield
        finally:
            for resume in go_on:
                resume()

    def _has_changed(self, trouble: str) -> None:
        self.trouble = trouble
        if trouble:
            _log.error("the history cannot be kept, {trouble}: {path}", trouble=trouble, path=self.path)
        else:
            _log.info("the history can be kept again: {path}", path=self.path)

    def _has_ended(self) -> None:
        self._running -= 1
        if not self._running and not self._untold:
            self._end()

    def _end(self) -> None:
        for thread in (self._writings.thread, self._reader.thread, self._searcher.thread):
            thread.join()
        self._ownership.give_up()
        closings, self._closings = self._closings, [Deferred()]
        for closed in closings:
            closed.callback(None)

    # --- telling --------------------------------------------------------------------------------------------

    def _were_tried(self, batch: list[Said], committed: Committed) -> None:
        self._tell_later((zip(batch, committed.outcomes, strict=True), committed.rooms))

    def _tell_later(self, untold: _Untold) -> None:
        """Tell of *untold* after what is to be told before."""
        self._untold.append(untold)
        if len(self._untold) == 1:
            self._tell()

    def _tell(self) -> None:
        """Go on telling, but not too much in one turn."""
        left = TOLD_IN_A_TURN
        while self._untold and left:
            first = self._untold[0]
            if not isinstance(first, tuple):
                if isinstance(first, dict):
                    self._forget(first)
                else:
                    first()
                self._untold.popleft()
                continue
            pairs, rooms = first
            for said, outcome in islice(pairs, left):
                left -= 1
                self._tell_of(said, outcome, rooms)
            if left:
                self._untold.popleft()
        if self._untold:
            # Not by `callFromThread`: it wakes the reactor up through a pipe, and whoever writes to a pipe
            # gives the interpreter away.
            self._call_later(0, self._tell)
        elif not self._running:
            self._end()

    def _tell_of(self, said: Said, outcome: Outcome, rooms: dict[str, tuple[int, int]]) -> None:
        name = said.room
        state = self._rooms[name]
        self._unkept_bytes -= said.cost_bytes
        state.unkept -= 1
        if isinstance(outcome, Chat):
            if not state.number:
                number, removed = rooms[name]
                if state.is_known:
                    state.number = number
                else:
                    self._know(state, number, removed, outcome.seq - 1)
            self._recent.add(name, state.recent, outcome)
            try:
                self._kept(outcome, said.sender)
            except Exception:
                _log.failure("who is told of messages failed")
        if state.waiting:
            if state.is_known:
                _fire(state, None)
            else:
                self._look_up(name, state)
        if not state.unkept and not state.is_in_use:
            self._settle(name, state)
        if isinstance(outcome, NotStored):
            said.answer.errback(outcome)
        else:
            said.answer.callback(outcome if isinstance(outcome, Receipt) else said.receipt)

    def _forget(self, rooms: dict[str, int]) -> None:
        """Messages were removed: of each room up to a number."""
        for name, removed in rooms.items():
            state = self._rooms.get(name)
            if state is not None and state.is_known and removed >= state.oldest:
                # Some may be gone before anybody was told of them.
                state.oldest = min(removed, state.recent.last) + 1
                self._recent.forget_before(name, state.recent, state.oldest)


_Untold = (
    tuple[Iterator[tuple[Said, Outcome]], dict[str, tuple[int, int]]] | dict[str, int] | Callable[[], None]
)
"""What is to be told: what came of messages, and of each room its number and what was removed; or, of each
room, up to which number messages were removed; or what is to be called when its turn comes."""


def _fire(state: _Room, outcome: Failure | None) -> None:
    waiting, state.waiting = state.waiting, []
    for prepared in waiting:
        if outcome is None:
            prepared.callback(None)
        else:
            prepared.errback(outcome)


def _size_bytes(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0

"""The durable `RoomLog`: one SQLite file, one thread that writes to it and two that read.

What is said while one commit is under way goes into the next one together, so that the number of messages
does not hang on how long the disk takes. Nobody is told of a message before it is on the disk.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatproto.limits import HistoryLimits, Limits
from chatproto.rooms.log import Found, Kept, NotStored, Receipt
from chatproto.rooms.remembered import ENVELOPE_BYTES, Recent, Remembered, take_bytes
from chatproto.rooms.sqlite_file import Ownership, open_history, reason_of
from chatproto.rooms.sqlite_reader import Question, Readings, RoomFacts, Then, facts_of, pick, read, search
from chatproto.rooms.sqlite_upkeep import Upkeep
from chatproto.rooms.sqlite_writer import Outcome, Said, Unwritable, Writer, round_number
from chatproto.wire.messages import Chat

__all__ = ["SqliteLog"]

_log = Logger(namespace="chatproto.rooms.sqlite")

MOST_IN_A_COMMIT = 4_096

TOLD_IN_A_TURN = 256
"""Messages of one commit that people are told of in one turn of the reactor; then others have theirs."""

FIRST_BYTES = 65_536
FIRST_MESSAGES = 256
"""Read into memory of a room that people enter, so that who joins need not wait for more."""

IDLE_S = 10.0
"""How often one looks whether something is due, while nothing is said."""

STEP_S = 0.1
"""How often one looks while much is said."""

PROBE_S = 1.0
"""How often one tries whether the file can be written to again, while nothing is said."""


class _Room:
    """A room that people are in or lately were.

    `recent` has its newest number and as many of its newest messages as fit into memory; `oldest` is the
    first number that is kept at all. While `is_known` is not set the two mean nothing yet.
    """

    __slots__ = ("is_asked", "is_in_use", "is_known", "number", "oldest", "recent", "unkept", "waiting")

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
    server is writing to. Answers are given in *reactor*; *wall_clock* gives seconds since 1970.

    `trouble` says why nothing can be kept at the moment, and is empty else; *changed* is called with each
    change of it. Every message is tried all the same, and what can be put right is.
    """

    def __init__(
        self,
        path: str,
        reactor: IReactorFromThreads,
        limits: Limits | None = None,
        history: HistoryLimits | None = None,
        wall_clock: Callable[[], float] = time.time,
        changed: Callable[[str], None] = lambda trouble: None,
    ) -> None:
        self.path = path
        self.trouble = ""
        self._reactor = reactor
        self._limits = limits or Limits()
        self._history = history or HistoryLimits()
        self._wall_clock = wall_clock
        self._changed = changed
        self._kept: Kept = lambda chat, sender: None
        self._rooms: dict[str, _Room] = {}
        self._idle: OrderedDict[str, None] = (
            OrderedDict()
        )  # rooms that may be dropped, idle for longest first
        self._recent = Recent(self._limits)
        self._unkept_bytes = 0
        self._untold: deque[_Untold] = deque()
        self._closings: list[Deferred[None]] = []
        self._troubles: tuple[str, ...] = (
            "",
            "",
        )  # of keeping and of upkeep, as the writing thread knows them
        self._waiting: SimpleQueue[Said | None] = SimpleQueue()
        self._ownership = Ownership(path)
        try:
            connection = open_history(path, self._history.locked_timeout_s)
            [self.epoch, removed_ms] = connection.execute("SELECT epoch, newest_ms FROM about").fetchone()
            [newest_ms] = connection.execute("SELECT max(time_ms) FROM messages").fetchone()
            self._newest_ms = max(removed_ms, newest_ms or 0)
            self._writer = Writer(
                path,
                connection,
                remember_ms=int(self._history.remember_ids_s * 1000),
                timeout_s=self._history.locked_timeout_s,
                park=self._parked,
            )
        except BaseException:
            self._ownership.give_up()
            raise
        self._upkeep = Upkeep(self._writer, self._history, wall_clock, self._were_removed)
        self._reader = Readings(path, "chat history reader", self._was_found_out, self._thread_ended)
        self._searcher = Readings(path, "chat history searcher", self._was_found_out, self._thread_ended)
        thread = threading.Thread(target=self._run, name="chat history writer", daemon=True)
        self._threads = [self._reader.thread, self._searcher.thread, thread]
        self._running = len(self._threads)
        thread.start()

    def close(self) -> Deferred[None]:
        """Keep and tell what was said so far, and nothing after it. Fires when no thread is left."""
        closed: Deferred[None] = Deferred()
        self._closings.append(closed)
        if len(self._closings) == 1:
            self._waiting.put(None)
            self._reader.end()
            self._searcher.end()
        return closed

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
        self._unkept_bytes += _cost_bytes(text)
        if self._unkept_bytes > self._history.max_unkept_bytes:
            self._unkept_bytes -= _cost_bytes(text)
            raise NotStored("the history cannot keep up; nobody saw it")
        state = self._rooms.get(room)
        if state is None:
            state = self._rooms[room] = _Room()
        state.unkept += 1
        if state.unkept == 1:
            self._settle(room, state)
        # A clock that is set back must not turn the history round, not even over a restart.
        self._newest_ms = max(self._newest_ms, int(self._wall_clock() * 1000))
        answer: Deferred[Receipt] = Deferred()
        self._waiting.put(Said(room, nick, key, id, text, sender, self._newest_ms, answer))
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

    def _know(self, state: _Room, number: int, removed: int, last: int) -> None:
        state.is_known = True
        state.number = number
        state.oldest = removed + 1
        state.recent = Remembered(last)

    # --- reading --------------------------------------------------------------------------------------------

    def _ask(self, readings: Readings, question: Question, then: Then) -> None:
        if self._closings:
            raise RuntimeError("the history is closed")
        readings.ask(question, then)

    def _was_found_out(self, then: Then, outcome: Any) -> None:
        """In a thread that reads."""
        self._reactor.callFromThread(then, outcome)

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

    # --- writing --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """The thread that writes."""
        is_due, is_closing, stepped_s = True, False, 0.0
        try:
            while not is_closing:
                batch, is_closing = self._take(0.0 if is_due else PROBE_S if any(self._troubles) else IDLE_S)
                if batch:
                    self._commit(batch)
                elif self._troubles[0]:
                    self._probe()
                now_s = time.monotonic()
                if is_due or not batch or now_s - stepped_s > STEP_S:
                    stepped_s = now_s
                    is_due = not self._troubles[0] and self._step()
        finally:
            self._writer.close()
            self._thread_ended()

    def _take(self, timeout_s: float) -> tuple[list[Said], bool]:
        """What is to be kept next, after waiting for it if need be; and whether that was all."""
        try:
            first = self._waiting.get(timeout=timeout_s)
        except Empty:
            return [], False
        more = round_number(min(self._waiting.qsize() + 1, MOST_IN_A_COMMIT)) - 1
        waiting = [first, *(self._waiting.get_nowait() for _ in range(more))]
        batch = [said for said in waiting if said is not None]
        return batch, len(batch) < len(waiting)

    def _commit(self, batch: list[Said]) -> None:
        try:
            committed = self._writer.commit(batch)
        except Unwritable as unwritable:
            self._note(str(unwritable), self._troubles[1])
            self._refuse(batch, NotStored(f"the history cannot be kept, {unwritable}; nobody saw it"))
        except Exception:
            # One of them is nothing that SQLite could keep. The others are not to suffer for it.
            if len(batch) > 1:
                for said in batch:
                    self._commit([said])
            else:
                self._report("a message cannot be kept")
                self._refuse(batch, NotStored("that cannot be kept; nobody saw it"))
        else:
            self._note("", self._troubles[1])
            self._upkeep.committed(committed)
            self._tell_later(_Committed(batch, committed.outcomes, committed.rooms))

    def _probe(self) -> None:
        """Nobody speaks, perhaps because nothing can be kept: can it?"""
        try:
            self._writer.probe()
        except Unwritable as unwritable:
            self._note(str(unwritable), self._troubles[1])
        else:
            self._note("", self._troubles[1])

    def _step(self) -> bool:
        """Do a little upkeep; whether there is more to do."""
        try:
            is_due = self._upkeep.step()
        except (Unwritable, sqlite3.Error) as error:
            self._note(self._troubles[0], str(error) if isinstance(error, Unwritable) else reason_of(error))
            return False
        except Exception as error:
            self._report("the history's upkeep failed")
            self._note(self._troubles[0], reason_of(error))
            return False
        self._note(self._troubles[0], "")
        return is_due

    def _note(self, *troubles: str) -> None:
        """Note the trouble with keeping and that with the upkeep, and tell of them if they are others."""
        if troubles != self._troubles:
            before, trouble = next(filter(None, self._troubles), ""), next(filter(None, troubles), "")
            self._troubles = troubles
            if trouble != before:
                self._reactor.callFromThread(self._trouble_changed, trouble)

    def _refuse(self, batch: list[Said], refusal: NotStored) -> None:
        self._tell_later(_Committed(batch, [refusal] * len(batch), {}))

    def _were_removed(self, rooms: dict[str, int]) -> None:
        self._tell_later(rooms)

    def _tell_later(self, untold: _Untold) -> None:
        self._reactor.callFromThread(self._is_to_be_told, untold)

    def _report(self, what: str) -> None:
        """Log the exception at hand."""
        self._reactor.callFromThread(_log.failure, what, Failure())

    @contextmanager
    def _parked(self) -> Iterator[None]:
        go_on = [self._reader.park(), self._searcher.park()]
        try:
            yield
        finally:
            for resume in go_on:
                resume()

    def _thread_ended(self) -> None:
        self._reactor.callFromThread(self._has_ended)

    # --- telling --------------------------------------------------------------------------------------------

    def _is_to_be_told(self, untold: _Untold) -> None:
        self._untold.append(untold)
        if len(self._untold) == 1:
            self._tell()

    def _tell(self) -> None:
        """Go on telling what was kept, but not too much in one turn."""
        told = 0
        while self._untold and told < TOLD_IN_A_TURN:
            first = self._untold[0]
            if isinstance(first, dict):
                self._forget(first)
                self._untold.popleft()
                continue
            for said, outcome in islice(first.pairs, TOLD_IN_A_TURN - told):
                told += 1
                self._tell_of(said, outcome, first.rooms)
            if told < TOLD_IN_A_TURN:
                self._untold.popleft()
        if self._untold:
            self._reactor.callFromThread(self._tell)
        elif not self._running:
            self._end()

    def _tell_of(self, said: Said, outcome: Outcome, rooms: dict[str, tuple[int, int]]) -> None:
        name = said.room
        state = self._rooms[name]
        self._unkept_bytes -= _cost_bytes(said.text)
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
            outcome = Receipt(outcome.seq, outcome.time)
        if state.waiting:
            if state.is_known:
                _fire(state, None)
            else:
                self._look_up(name, state)
        if not state.unkept and not state.is_in_use:
            self._settle(name, state)
        if isinstance(outcome, Receipt):
            said.answer.callback(outcome)
        else:
            said.answer.errback(outcome)

    def _forget(self, rooms: dict[str, int]) -> None:
        """Messages were removed: of each room up to a number."""
        for name, removed in rooms.items():
            state = self._rooms.get(name)
            if state is not None and state.is_known and removed >= state.oldest:
                # Some may be gone before anybody was told of them.
                state.oldest = min(removed, state.recent.last) + 1
                self._recent.forget_before(name, state.recent, state.oldest)

    def _trouble_changed(self, trouble: str) -> None:
        self.trouble = trouble
        if trouble:
            _log.error("the history cannot be kept, {trouble}: {path}", trouble=trouble, path=self.path)
        else:
            _log.info("the history can be kept again: {path}", path=self.path)
        self._changed(trouble)

    def _has_ended(self) -> None:
        self._running -= 1
        if not self._running and not self._untold:
            self._end()

    def _end(self) -> None:
        for thread in self._threads:
            thread.join()
        self._ownership.give_up()
        closings, self._closings = self._closings, [Deferred()]
        for closed in closings:
            closed.callback(None)


class _Committed:
    """What came of a batch, to be told bit by bit."""

    __slots__ = ("pairs", "rooms")

    def __init__(self, batch: list[Said], outcomes: list[Outcome], rooms: dict[str, tuple[int, int]]) -> None:
        self.pairs = zip(batch, outcomes, strict=True)
        self.rooms = rooms


_Untold = _Committed | dict[str, int]
"""What people are to be told: what came of messages, or what was removed."""


def _fire(state: _Room, outcome: Failure | None) -> None:
    waiting, state.waiting = state.waiting, []
    for prepared in waiting:
        if outcome is None:
            prepared.callback(None)
        else:
            prepared.errback(outcome)


def _cost_bytes(text: str) -> int:
    """About what a message takes in memory while it waits."""
    return ENVELOPE_BYTES + (len(text) if text.isascii() else 4 * len(text))

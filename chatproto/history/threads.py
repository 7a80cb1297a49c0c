"""The threads of a durable history: one writes, others read. What they find out is told in the reactor's."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, Protocol

from twisted.logger import Logger
from twisted.python.failure import Failure

from chatproto.history.batch import Said
from chatproto.history.file import connect_reader, reason_of
from chatproto.history.rows import round_number
from chatproto.history.upkeep import Upkeep
from chatproto.history.writer import Committed, Outcome, Unwritable, Writer
from chatproto.rooms.log import NotStored
from chatproto.rooms.spread import Spread

__all__ = ["Call", "Question", "Readings", "Then", "Writings"]

_log = Logger(namespace="chatproto.history")

MOST_IN_A_COMMIT = 4_096

COMMIT_MESSAGES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 4_096)
COMMIT_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""The classes in which commits are counted: by their messages, and by the seconds that they took."""

IDLE_S = 1.0
"""How often one looks, while nothing is said, whether anything could be kept, and whether some upkeep is
due..."""

STEP_S = 0.1
"""...which is done so often while much is said."""

TRIAL_S = 60.0
"""How often one tries that, while nothing is said, by writing: no look shows a disk that fails, or a lock."""


class Call(Protocol):
    """Has something called in the reactor's thread."""

    def __call__(self, callable: Callable[..., Any], *args: object) -> None:
        """See `IReactorFromThreads.callFromThread`."""


class Writings:
    """The thread that writes, with *writer* and *upkeep*, which are its own from then on.

    *call* has the others called in the reactor's thread: *tell* with what came of messages, *changed* with
    why nothing can be kept from now on, or the empty string, and *ended* when the thread is about to end.
    """

    def __init__(
        self,
        writer: Writer,
        upkeep: Upkeep,
        call: Call,
        tell: Callable[[list[Said], Committed], None],
        changed: Callable[[str], None],
        ended: Callable[[], None],
    ) -> None:
        self.writer = writer
        self.upkeep = upkeep
        self._call = call
        self._tell = tell
        self._changed = changed
        self._ended = ended
        self._waiting: SimpleQueue[Said | _Change | None] = SimpleQueue()
        self._changes: list[_Change] = []  # of the thread alone: to be made after what was said before
        self.commits = Spread(COMMIT_MESSAGES)
        self.commits_s = Spread(COMMIT_S)
        self._trouble = ""  # with keeping
        self._upkeep_trouble = ""
        self._tried_s = time.monotonic()  # when something was last written
        self.thread = threading.Thread(target=self._run, name="chat history writer", daemon=True)
        self.thread.start()

    def put(self, said: Said) -> None:
        """Keep *said*, with the next commit."""
        self._waiting.put(said)

    def change(self, do: Question, then: Then) -> None:
        """Change something else in the history, after what was put; *then* is called as with `Readings`."""
        self._waiting.put(_Change(do, then))

    def end(self) -> None:
        """Keep what was put, and nothing after it."""
        self._waiting.put(None)

    # --- in the thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        is_ending, patience_s, stepped_s = False, 0.0, 0.0
        try:
            while not is_ending:
                batch, is_ending = self._take(patience_s)
                begin_s = time.monotonic()
                if batch:
                    self._commit(batch)
                else:
                    self._look()
                self._make_changes()
                now_s = time.monotonic()
                if batch and patience_s and now_s - stepped_s < STEP_S:
                    patience_s = STEP_S
                else:
                    stepped_s = now_s
                    # It gets up to a third of the time, or much that is said would never be caught up with.
                    patience_s = self._keep_up(now_s + (now_s - begin_s) / 2)
        finally:
            self.writer.close()
            self._call(self._ended)

    def _keep_up(self, until_s: float) -> float:
        """Do some upkeep, not for much longer than until then; in how many seconds there is more to do."""
        is_due = not self._trouble and self._step()
        while is_due and time.monotonic() < until_s:
            is_due = self._step()
        return 0.0 if is_due and not self._trouble else IDLE_S

    def _take(self, timeout_s: float) -> tuple[list[Said], bool]:
        """What is to be kept next, after waiting for it if need be; and whether that was all."""
        try:
            first = self._waiting.get(timeout=timeout_s)
        except Empty:
            return [], False
        if first is None:
            return [], True
        more = round_number(min(self._waiting.qsize() + 1, MOST_IN_A_COMMIT)) - 1
        waiting = [first, *islice(iter(self._waiting.get_nowait, None), more)]
        batch = [said for said in waiting if isinstance(said, Said)]
        if len(batch) < len(waiting):
            self._changes = [change for change in waiting if isinstance(change, _Change)]
        return batch, len(waiting) <= more

    def _make_changes(self) -> None:
        changes, self._changes = self._changes, []
        for change in changes:
            outcome: Any
            try:
                outcome = self.writer.write(change.do)
            except Exception:
                outcome = Failure()
            self._call(change.then, outcome)

    def _commit(self, batch: list[Said]) -> None:
        begin_s = time.monotonic()
        try:
            committed = self.writer.commit(batch)
        except Unwritable as unwritable:
            self._note(str(unwritable), self._upkeep_trouble)
            self._refuse(batch, f"the history cannot be kept, {unwritable}; nobody saw it")
        except Exception:
            # One of them is nothing that SQLite could keep. The others are not to suffer for it.
            if len(batch) > 1:
                for said in batch:
                    self._commit([said])
            else:
                self._report("a message cannot be kept")
                self._refuse(batch, "that cannot be kept; nobody saw it")
        else:
            self.commits.observe(len(batch))
            self._tried_s = time.monotonic()
            self.commits_s.observe(self._tried_s - begin_s)
            self._note("", self._upkeep_trouble)
            self.upkeep.committed(committed)
            self._call(self._tell, batch, committed)

    def _refuse(self, batch: list[Said], why: str) -> None:
        # What was kept before is not refused because it is said again.
        known = self.writer.receipts(batch)
        refusal = NotStored(why)
        outcomes: list[Outcome] = [known.get(said.handle, refusal) for said in batch]
        self._call(self._tell, batch, Committed(outcomes, {}))

    def _look(self) -> None:
        """Nobody speaks, perhaps because nothing can be kept: could it?"""
        trouble = ""
        must_try = self._trouble or time.monotonic() - self._tried_s > TRIAL_S
        try:
            if must_try:
                self._tried_s = time.monotonic()
                self.writer.probe()
            else:
                self.writer.look()
        except Unwritable as unwritable:
            trouble = str(unwritable)
        self._note(trouble, self._upkeep_trouble)

    def _step(self) -> bool:
        """Do a little upkeep; whether there is more to do."""
        is_due, trouble = False, ""
        try:
            is_due = self.upkeep.step()
        except Unwritable as unwritable:
            trouble = str(unwritable)
        except sqlite3.Error as error:
            trouble = reason_of(error)
        except Exception as error:
            trouble = reason_of(error)
            self._report("the history's upkeep failed")
        self._note(self._trouble, trouble)
        return is_due

    def _note(self, trouble: str, upkeep_trouble: str) -> None:
        before = self._trouble or self._upkeep_trouble
        self._trouble, self._upkeep_trouble = trouble, upkeep_trouble
        now = trouble or upkeep_trouble
        if now != before:
            self._call(self._changed, now)

    def _report(self, what: str) -> None:
        """Log the exception at hand."""
        self._call(_log.failure, what, Failure())


Question = Callable[[sqlite3.Connection], Any]

Then = Callable[[Any], None]


class _Change(NamedTuple):
    """Something to be done in a transaction, and what waits for the outcome."""

    do: Question
    then: Then


class Readings:
    """A thread that asks the history at *path*, one question after the other.

    *call* has others called in the reactor's thread: what waits for an outcome with that, which may be a
    `Failure`, and *ended* when the thread is about to end.
    """

    def __init__(self, path: str, name: str, call: Call, ended: Callable[[], None]) -> None:
        self._path = path
        self._call = call
        self._ended = ended
        self._waiting: SimpleQueue[tuple[Question, Then] | _Parking | None] = SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def ask(self, question: Question, then: Then) -> None:
        """Ask the history something."""
        self._waiting.put((question, then))

    def end(self) -> None:
        """Answer what was asked, and nothing after it."""
        self._waiting.put(None)

    def park(self) -> Callable[[], None]:
        """Have the thread close the file and wait until the answer of this is called.

        MUST be called in another thread.
        """
        parking = _Parking()
        self._waiting.put(parking)
        # One that has ended has closed the file as well.
        while not parking.is_parked.wait(0.1) and self.thread.is_alive():
            pass
        return parking.may_go_on.set

    # --- in the thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (waiting := self._waiting.get()) is not None:
                if isinstance(waiting, _Parking):
                    self._close()
                    waiting.is_parked.set()
                    waiting.may_go_on.wait()
                else:
                    question, then = waiting
                    self._call(then, self._find_out(question))
        finally:
            self._close()
            self._call(self._ended)

    def _find_out(self, question: Question) -> Any:
        for is_last in (False, True):
            try:
                if self._connection is None:
                    self._connection = connect_reader(self._path)
                return question(self._connection)
            except sqlite3.Error:
                # Some troubles stick to the connection.
                self._close()
                if is_last:
                    return Failure()
            except Exception:
                return Failure()
        raise AssertionError("unreachable")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass(eq=False)
class _Parking:
    """Where two threads meet."""

    is_parked: threading.Event = field(default_factory=threading.Event)
    may_go_on: threading.Event = field(default_factory=threading.Event)

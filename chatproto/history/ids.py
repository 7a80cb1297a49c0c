"""The ids of messages that were kept, so that one that is sent again is recognised.

An id is kept in the row of its message, in the same commit. The table `said`, in which messages are found by
their ids, is written later, many ids at a time and in their order: one here and one there with each commit
would write all of that table again and again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain

from chatproto.history.batch import Said, recognise
from chatproto.history.file import MOST_SEQ
from chatproto.history.rows import Insert
from chatproto.rooms.log import Receipt

__all__ = ["Handle", "KnownIds", "SaidRow"]

MOST_IN_MEMORY = 32_768
"""Ids that are not in `said` yet."""

MOST_MESSAGES = 131_072
"""Messages after which `said` is written even if they had no ids: after a restart they are read again."""

MOST_FREE_KEYS = 10_000

STEP_IDS = 1_024
"""Written to `said` in one transaction."""

ASKED_AT_ONCE = 256

ENDLESS = 2**63

Handle = tuple[str, int]
"""A nickname's comparison form and an id."""

SaidRow = tuple[str, int, int, int]
"""The same, and the sequence number and the time of the message."""

_insert_said = Insert("INSERT OR REPLACE INTO said", "?", "?", "?", "?")


class KnownIds:
    """What the writer knows of ids, each for *remember_ms*."""

    def __init__(self, remember_ms: int) -> None:
        self.written_ms = 0
        """Ids of messages that are older are in `said`."""
        self._remember_ms = remember_ms
        self._newest: dict[Handle, Receipt] = {}  # not in `said` yet
        self._newest_ms = 0
        self._messages = 0  # kept since `said` was written
        self._free: dict[str, tuple[int, int]] = {}  # of a key: ids of which none is in `said`, from, below
        self._unwritten: list[Handle] = []  # in descending order
        self._is_writing = False
        self._will_be_written_ms = 0

    def load(self, connection: sqlite3.Connection) -> None:
        """Begin with what is in the file."""
        [self.written_ms] = connection.execute("SELECT ids_ms FROM about").fetchone()
        rows = connection.execute(
            "SELECT coalesce(key, nick), id, place, time_ms FROM messages INDEXED BY messages_by_time "
            "WHERE time_ms >= ? AND id != 0",
            (self.written_ms,),
        )
        self._newest = {(key, id): Receipt(place & MOST_SEQ, time_ms) for key, id, place, time_ms in rows}
        self._messages = len(self._newest)
        self._newest_ms = max((known.time_ms for known in self._newest.values()), default=self.written_ms)
        self._free.clear()
        self._unwritten = []
        self._is_writing = False

    def find(self, connection: sqlite3.Connection, batch: list[Said]) -> dict[Handle, Receipt]:
        """The receipts of those of *batch* whose ids came before."""
        known, asked = recognise(batch, self._newest, self._free, self._remember_ms)
        for begin in range(0, len(asked), ASKED_AT_ONCE):
            self._ask(connection, asked[begin : begin + ASKED_AT_ONCE], batch[-1].time_ms, known)
        return known

    def _ask(
        self, connection: sqlite3.Connection, asked: list[Handle], now_ms: int, known: dict[Handle, Receipt]
    ) -> None:
        """Look in `said`: for each id for the next one of its key, which tells how far there is none."""
        values = ", ".join(["(?, ?)"] * len(asked))
        rows = connection.execute(
            "SELECT asked.column1, asked.column2, "
            "(SELECT id FROM said WHERE key = asked.column1 AND id >= asked.column2 ORDER BY id LIMIT 1) "
            f"FROM (VALUES {values}) AS asked",
            [value for handle in asked for value in handle],
        ).fetchall()
        if len(self._free) + len(rows) > MOST_FREE_KEYS:
            self._free.clear()
        for key, id, next_id in rows:
            if next_id != id:
                self._free[key] = (id, ENDLESS if next_id is None else next_id)
                continue
            seq, time_ms = connection.execute(
                "SELECT seq, time_ms FROM said WHERE key = ? AND id = ?", (key, id)
            ).fetchone()
            if time_ms >= now_ms - self._remember_ms:
                known[key, id] = Receipt(seq, time_ms)

    def were_kept(self, fresh: dict[Handle, Receipt], messages: int, now_ms: int) -> None:
        """*fresh* were kept, with other messages that have no ids."""
        self._newest.update(fresh)
        self._messages += messages
        self._newest_ms = now_ms

    # --- writing `said` -------------------------------------------------------------------------------------

    @property
    def is_due(self) -> bool:
        """Whether it is time to write, or to go on with it."""
        return self._is_writing or len(self._newest) > MOST_IN_MEMORY or self._messages > MOST_MESSAGES

    def next_rows(self) -> list[SaidRow]:
        """What is to be written next."""
        if not self._is_writing:
            self._is_writing = True
            self._unwritten = self._descending()
            self._will_be_written_ms = self._newest_ms
            self._messages = 0
        rows = []
        for handle in self._unwritten[: -STEP_IDS - 1 : -1]:
            receipt = self._newest[handle]
            rows.append((*handle, receipt.seq, receipt.time_ms))
        return rows

    def _descending(self) -> list[Handle]:
        """The handles that are not in `said`. Sorted all at once they would keep everybody waiting."""
        ids_of: dict[str, list[int]] = {}
        for key, id in self._newest:
            ids_of.setdefault(key, []).append(id)
        return [(key, id) for key in sorted(ids_of, reverse=True) for id in sorted(ids_of[key], reverse=True)]

    def write(self, connection: sqlite3.Connection, rows: Sequence[SaidRow]) -> None:
        """Within a transaction: write *rows*, which `next_rows` gave."""
        _insert_said(connection, list(chain.from_iterable(rows)))
        if len(rows) == len(self._unwritten):
            # There may be more of that very millisecond.
            connection.execute("UPDATE about SET ids_ms = ?", (self._will_be_written_ms,))

    def were_written(self, rows: Sequence[SaidRow]) -> None:
        """*rows* need not be in memory any more."""
        if not self._is_writing:
            return  # the file was opened anew meanwhile, and its ids are read again
        for key, id, _, _ in rows:
            del self._newest[key, id]
            first, end = self._free.get(key, (0, 0))
            if first <= id < end:
                # Of the rest nothing is in `said`. Ids mostly ascend, so they need not be asked for again.
                self._free[key] = (id + 1, end)
        if rows:
            del self._unwritten[-len(rows) :]
        if not self._unwritten:
            self._is_writing = False
            self.written_ms = self._will_be_written_ms

    def keep(self, connection: sqlite3.Connection, rows: Iterable[SaidRow]) -> None:
        """Within a transaction: write the ids of messages that are removed, but may come again."""
        kept = sorted(row for row in rows if row[1] and row[3] >= self.written_ms)
        _insert_said(connection, list(chain.from_iterable(kept)))

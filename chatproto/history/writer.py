"""Writing the durable history: many messages in one commit, and what is done when there is none to be had.

Everything here runs in one thread and waits for the disk.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import TypeVar

from chatproto.history.batch import Numbers, Said, give_numbers
from chatproto.history.file import MOST_ROOMS, MOST_SEQ, SEQ_BITS, connect_writer, place_of, reason_of
from chatproto.history.ids import Handle, KnownIds
from chatproto.history.rows import delete_words, insert_messages, newest_of
from chatproto.rooms.log import NotStored, Receipt
from chatproto.wire.messages import Chat

__all__ = ["Committed", "Outcome", "Unwritable", "Writer"]

CHECK_S = 0.1
"""Before a commit one looks whether the file is in its place, if not so lately; after it in any case."""

MOST_KNOWN_ROOMS = 10_000
"""Rooms whose newest number the writer has at hand; it looks up the others."""

T = TypeVar("T")


Outcome = Chat | Receipt | NotStored
"""A message that is kept now, the receipt of one that was kept before, or why it is not kept."""


class Unwritable(Exception):
    """Nothing can be kept at the moment; the text is part of a sentence."""


@dataclass(slots=True)
class Committed:
    """What came of a batch: an outcome for each message, and of each room its number and what was removed."""

    outcomes: list[Outcome]
    rooms: dict[str, tuple[int, int]]


class _Displaced(Exception):
    """The file is not where it was: what is there instead, if anything."""


class Writer:
    """Keeps messages in the history at *path*; *connection* is open to write to it.

    An id is known for *remember_ms*. *park* gives a context within which nobody else in this process has the
    file open.
    """

    def __init__(
        self,
        path: str,
        connection: sqlite3.Connection,
        *,
        remember_ms: int,
        timeout_s: float,
        park: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.connection = connection
        self.path = path
        self.ids = KnownIds(remember_ms)
        self._timeout_s = timeout_s
        self._park = park
        self._rooms: OrderedDict[str, Numbers] = OrderedDict()
        self._next_number = 1
        self._epoch = 0
        self._newest_place = 0
        self._file: tuple[int, int] | None = None
        self._wal: tuple[int, int] | None = None
        self._checked_s = 0.0
        self._must_reopen = False
        self._is_lost = False
        self._look_around()

    def _look_around(self) -> None:
        connection = self.connection
        [newest] = connection.execute("SELECT max(number) FROM rooms").fetchone()
        self._next_number = (newest or 0) + 1
        [self._epoch] = connection.execute("SELECT epoch FROM about").fetchone()
        self.ids.load(connection)
        self._rooms.clear()
        self._file = _identity(self.path)
        self._wal = _identity(f"{self.path}-wal")
        self._must_reopen = False

    def close(self) -> None:
        """Let go of the file, after the others: who closes last puts it in one piece, if they may write."""
        with self._park():
            self.connection.close()

    # --- keeping --------------------------------------------------------------------------------------------

    def commit(self, batch: list[Said]) -> Committed:
        """Keep *batch* in one commit. Raises Unwritable, and then nothing of it is kept."""
        return self._try(lambda: self._commit(batch))

    def write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Change something else in the file, in a transaction of its own. Raises Unwritable."""
        return self._try(lambda: self._transact(change))

    def probe(self) -> None:
        """Find out whether anything can be kept. Raises Unwritable."""
        self.write(_change_nothing)

    def look(self) -> None:
        """Find out whether anything could be kept, without writing as long as all is well. Raises Unwritable.

        What was moved away is not put in place yet: whoever does that may not be done.
        """
        try:
            self._check_place()
            if _is_writable(self.path):
                return
        except _Displaced as displaced:
            raise Unwritable(str(displaced)) from displaced
        except OSError as error:
            raise Unwritable(reason_of(error)) from error
        self.probe()

    def receipts(self, batch: list[Said]) -> dict[Handle, Receipt]:
        """What was kept before of a batch that cannot be, as far as that can be found out."""
        known: dict[Handle, Receipt] = {}
        for said in batch:
            with suppress(sqlite3.Error):
                known |= self.ids.find(self.connection, [said])
        return known

    def note_removed(self, rooms: dict[str, int]) -> None:
        """Messages were removed: of each room up to a number."""
        for name, removed in rooms.items():
            numbers = self._rooms.get(name)
            if numbers is not None:
                numbers.removed = removed

    def _try(self, do: Callable[[], T]) -> T:
        if self._is_lost:
            raise Unwritable("its file is gone, and the server must be started again")
        try:
            try:
                if self._must_reopen:
                    self._check_place()
                    self._reopen()
                return do()
            except _Displaced:
                # Nothing was kept so far. Put that right, and try once more.
                self._put_in_place()
                return do()
        except _Displaced as displaced:
            raise Unwritable(str(displaced)) from displaced
        except (sqlite3.Error, OSError) as error:
            if getattr(error, "sqlite_errorname", "") not in ("SQLITE_FULL", "SQLITE_BUSY"):
                self._must_reopen = True  # some troubles stick to the connection
            raise Unwritable(reason_of(error)) from error

    def _transact(self, change: Callable[[sqlite3.Connection], T]) -> T:
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = change(connection)
            if time.monotonic() - self._checked_s > CHECK_S:
                self._check_place()
        except BaseException:
            _roll_back(connection)
            raise
        try:
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            self._overwrite()
            raise
        return result

    def _overwrite(self) -> None:
        """Write something else to where a commit was written that failed.

        All of it may be in the write-ahead log, and nothing shows that until a crash: what is found there
        then counts as committed. The next commit goes to the same place, so make one that changes nothing.
        """
        connection = self.connection
        with suppress(sqlite3.Error):
            connection.execute("BEGIN IMMEDIATE")
            try:
                _change_nothing(connection)
                connection.execute("COMMIT")
            finally:
                _roll_back(connection)

    def _commit(self, batch: list[Said]) -> Committed:
        rooms: dict[str, Numbers] = {}
        fresh: dict[Handle, Receipt] = {}
        known = self.ids.find(self.connection, batch)
        outcomes = self._transact(lambda connection: self._keep(connection, batch, known, rooms, fresh))
        try:
            self._check_place()
        except _Displaced:
            # It went while this was written, to a file that nobody will find again.
            try:
                self._put_in_place()
            except BaseException:
                self._undo(outcomes, rooms)
                raise
        self.ids.were_kept(fresh, len(batch), batch[-1].time_ms)
        for name, numbers in rooms.items():
            if numbers.number == self._next_number:
                self._next_number += 1
            self._rooms[name] = numbers
            self._rooms.move_to_end(name)
            self._newest_place = place_of(numbers.number, numbers.newest)
        while len(self._rooms) > MOST_KNOWN_ROOMS:
            self._rooms.popitem(last=False)
        return Committed(
            outcomes, {name: (numbers.number, numbers.removed) for name, numbers in rooms.items()}
        )

    def _keep(
        self,
        connection: sqlite3.Connection,
        batch: list[Said],
        known: dict[Handle, Receipt],
        rooms: dict[str, Numbers],
        fresh: dict[Handle, Receipt],
    ) -> list[Outcome]:
        """Give out numbers and write. Only *rooms* and *fresh* are changed: it may all be rolled back."""
        next_number = self._next_number

        def find(room: str) -> Numbers:
            nonlocal next_number
            numbers = self._find(connection, room)
            if numbers.number == 0 and next_number <= MOST_ROOMS:
                numbers.number = next_number
                next_number += 1
                connection.execute("INSERT INTO rooms VALUES (?, ?, 0)", (numbers.number, room))
            return numbers

        outcomes, values = give_numbers(batch, known, fresh, rooms, find)
        insert_messages(connection, values)
        return outcomes

    def _find(self, connection: sqlite3.Connection, room: str) -> Numbers:
        """What is known of a room, to be changed; its number is 0 if there is no such room."""
        numbers = self._rooms.get(room)
        if numbers is not None:
            return Numbers(numbers.number, numbers.newest, numbers.removed)
        row = connection.execute("SELECT number, removed FROM rooms WHERE name = ?", (room,)).fetchone()
        if row is None:
            return Numbers(0, 0, 0)
        number, removed = row
        return Numbers(number, max(removed, newest_of(connection, number)), removed)

    def _undo(self, outcomes: Sequence[Outcome], rooms: dict[str, Numbers]) -> None:
        """Take back what was committed: it must not come to light should the file be found after all."""
        texts = sorted(
            (place_of(rooms[chat.room].number, chat.seq), chat.text)
            for chat in outcomes
            if isinstance(chat, Chat)
        )
        self._is_lost = True
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        delete_words(connection, texts)
        connection.executemany("DELETE FROM messages WHERE place = ?", [(place,) for place, _ in texts])
        connection.execute("COMMIT")
        self._is_lost = False

    # --- the file and its place -----------------------------------------------------------------------------

    def _check_place(self) -> None:
        """SQLite goes on writing to a file that was removed, and nobody would find it there."""
        file = _identity(self.path)
        if file is None:
            raise _Displaced("its file is gone")
        if file != self._file:
            raise _Displaced("another file stands in its place")
        if self._wal is not None and _identity(f"{self.path}-wal") != self._wal:
            raise _Displaced("its write-ahead log is gone")
        self._checked_s = time.monotonic()

    def _put_in_place(self) -> None:
        """Undo what `_check_place` found, or raise."""
        file = _identity(self.path)
        if file is None:
            try:
                self._restore()
            except OSError as error:
                raise _Displaced("its file is gone") from error
        elif file != self._file:
            raise _Displaced("another file stands in its place")
        else:
            [is_busy, _, _] = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if is_busy:
                raise _Displaced("its write-ahead log is gone")
        self._reopen()

    def _restore(self) -> None:
        """Write the file anew out of the removed one, which is still open."""
        copy_path = f"{self.path}-restored"
        with suppress(FileNotFoundError):
            os.unlink(copy_path)
        os.close(os.open(copy_path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        copy = sqlite3.connect(copy_path)
        try:
            self.connection.backup(copy)
        finally:
            copy.close()
        for leftover in ("-wal", "-shm"):
            # They belong to the removed file, and would be taken for the new one's.
            with suppress(FileNotFoundError):
                os.unlink(f"{self.path}{leftover}")
        os.link(copy_path, self.path)  # fails if there is something by now
        os.unlink(copy_path)
        self._file = _identity(self.path)

    def _reopen(self) -> None:
        """Begin anew with the file that is there, which MUST be this history."""
        self._must_reopen = True
        with self._park():
            # SQLite shares what it knows of a file among its connections, so all have to go.
            self.connection.close()
            self.connection = connect_writer(self.path, self._timeout_s)
            epoch = self._epoch
            self._look_around()
            if self._epoch != epoch or not self._has_newest():
                self._epoch = epoch
                self._must_reopen = True
                raise _Displaced("another history stands in its place")

    def _has_newest(self) -> bool:
        number, seq = self._newest_place >> SEQ_BITS, self._newest_place & MOST_SEQ
        row = self.connection.execute("SELECT removed FROM rooms WHERE number = ?", (number,)).fetchone()
        return number == 0 or (row is not None and max(row[0], newest_of(self.connection, number)) >= seq)


def _change_nothing(connection: sqlite3.Connection) -> None:
    """Write, though nothing changes that matters. SQLite does not write what is as it was."""
    connection.execute("UPDATE about SET unmerged_bytes = unmerged_bytes + 1")


def _roll_back(connection: sqlite3.Connection) -> None:
    # After some errors SQLite has done so by itself.
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _is_writable(path: str) -> bool:
    """Whether nothing speaks against writing to the history at *path*; which is no proof."""
    return (
        all(os.access(f"{path}{ending}", os.W_OK, effective_ids=True) for ending in ("", "-wal"))
        and os.statvfs(path).f_bavail > 0
    )


def _identity(path: str) -> tuple[int, int] | None:
    """Which file it is, or None if there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino

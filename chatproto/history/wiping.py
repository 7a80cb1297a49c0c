"""Removing what somebody said from the durable history, so that nothing of it is left in the file.

The text is gone with the commit. Its words may still lie in parts of the index that are not merged yet, in
pages that were freed before, and in the write-ahead log: those are wiped afterwards, in small steps.
"""

from __future__ import annotations

import sqlite3

from chatproto.history.file import MOST_SEQ, place_of
from chatproto.history.rows import delete_words, insert_words
from chatproto.history.writer import Writer
from chatproto.rooms.log import REMOVED

__all__ = ["WIPE_BYTES", "Wiping", "remove_message"]

WIPE_BYTES = 2**40
"""What a removal adds to `about.unmerged_bytes`, more than anything else ever does: so the file itself says
that something is still to be wiped."""

STEP_PAGES = 64

SPARE_STEPS = 100


def remove_message(connection: sqlite3.Connection, room: str, seq: int) -> bool:
    """Within a transaction: as `RoomLog.remove`. Then something is to be wiped."""
    row = connection.execute("SELECT number FROM rooms WHERE name = ?", (room,)).fetchone()
    if row is None or not 0 < seq <= MOST_SEQ:
        return False
    place = place_of(row[0], seq)
    row = connection.execute("SELECT text FROM messages WHERE place = ?", (place,)).fetchone()
    if row is None:
        return False
    if row[0] != REMOVED:
        connection.execute("PRAGMA secure_delete = ON")
        delete_words(connection, [(place, row[0])])
        insert_words(connection, place, REMOVED)
        connection.execute("UPDATE messages SET text = ? WHERE place = ?", (REMOVED, place))
        connection.execute("UPDATE about SET unmerged_bytes = unmerged_bytes + ?", (WIPE_BYTES,))
    return True


class Wiping:
    """Wipes the file of *writer*, when something was removed, whether before the last start or after it."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._is_merging = False
        self._is_freeing = False
        self._begun_bytes = 0
        self._steps_left = 0

    def step(self) -> bool:
        """Do a little of what is due; False if nothing is. Raises Unwritable."""
        if self._is_freeing:
            return self._free()
        if not self._is_merging and not self._begin():
            return False
        return self._merge()

    def _begin(self) -> bool:
        [self._begun_bytes] = self._writer.connection.execute("SELECT unmerged_bytes FROM about").fetchone()
        return self._begun_bytes >= WIPE_BYTES

    def _merge(self) -> bool:
        # The first time all of the index is made into one part; then that is gone on with.
        pages = STEP_PAGES if self._is_merging else -STEP_PAGES
        self._is_merging = self._writer.write(lambda connection: _merge_words(connection, pages))
        if not self._is_merging:
            self._is_freeing = True
            self._steps_left = SPARE_STEPS + 2 * self._free_pages() // STEP_PAGES
        return True

    def _free(self) -> bool:
        """Give back all free pages, as they may have been freed before they were wiped; but not for ever."""
        self._steps_left -= 1
        if self._steps_left > 0 and self._free_pages():
            statement = f"PRAGMA incremental_vacuum({STEP_PAGES})"
            self._writer.write(lambda connection: connection.execute(statement).fetchall())
            return True
        self._writer.write(self._end)
        self._is_freeing = False
        # What the write-ahead log still has of it goes too, unless someone reads just now: then it goes when
        # that is written over.
        self._writer.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return True

    def _end(self, connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE about SET unmerged_bytes = unmerged_bytes - ?", (self._begun_bytes,))
        connection.execute("PRAGMA secure_delete = FAST")

    def _free_pages(self) -> int:
        [pages] = self._writer.connection.execute("PRAGMA freelist_count").fetchone()
        number: int = pages
        return number


def _merge_words(connection: sqlite3.Connection, pages: int) -> bool:
    """Merge so many pages of the index of words; whether there is more to do. Negative: begin with it."""
    connection.execute("PRAGMA secure_delete = ON")
    before = connection.total_changes
    connection.execute("INSERT INTO words (words, rank) VALUES ('merge', ?)", (pages,))
    return connection.total_changes - before >= 2  # so its documentation says

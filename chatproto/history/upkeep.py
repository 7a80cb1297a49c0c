"""What a durable history needs beside writing: removing what is too old, and giving space back.

All of it is done in the writer's thread, in steps so small that nobody who waits for a commit notices.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from itertools import groupby, islice
from typing import Any

from chatproto.history.file import MOST_SEQ, PAGE_BYTES, SEQ_BITS, place_of
from chatproto.history.rows import delete_words, newest_of
from chatproto.history.wiping import WIPE_BYTES, Wiping
from chatproto.history.writer import Committed, Writer
from chatproto.limits import HistoryLimits
from chatproto.wire.messages import Chat

__all__ = ["Upkeep"]

STEP_MESSAGES = 256
STEP_ROOMS = 64
STEP_IDS = 4_096
STEP_PAGES = 64

SPARE_PAGES = 64
"""Free pages that are not given back, since they will be needed again soon..."""

SPARE_SHARE = 16
"""...and one in so many of all pages beside them."""

UNMERGED_SHARE = 8
"""Past what share of the file the index of words is rid of what was removed."""

LEAST_UNMERGED_BYTES = 65_536

ENVELOPE_BYTES = 64
"""About what a message takes in the file beside its text and its words."""

Row = tuple[int, int, str, str, int]
"""A message: place, time and text, the comparison form of its nickname, and its id."""

_SELECT_ROWS = "SELECT place, time_ms, text, coalesce(key, nick), id FROM messages"


class Upkeep:
    """Keeps a history within its bounds. *removed* is told which rooms lost messages, up to which number.

    *wall_clock* gives seconds since 1970.
    """

    def __init__(
        self,
        writer: Writer,
        limits: HistoryLimits,
        wall_clock: Callable[[], float],
        removed: Callable[[dict[str, int]], None],
    ) -> None:
        self._writer = writer
        self._limits = limits
        self._wall_clock = wall_clock
        self._removed = removed
        self._quota = STEP_MESSAGES
        self._crowded: dict[str, None] = {}  # rooms that may have too many messages, in their order
        self._next_room = 1 if limits.max_history_room_messages else 0  # to be looked at; 0: none
        self._to_free_bytes = 0
        self._is_all_gone = False  # and still it is too much
        self._is_merging = False
        self._swept_to: tuple[str, int] | None = ("", 0)  # all ids up to there were looked at; None: all were
        self._sweep_ms = 0  # when to look at them again
        self._freed_ms = 0  # what is older was removed because there was no space for it
        self._tasks: deque[Callable[[], bool]] = deque(
            (
                self._remove_of_crowded,
                self._find_crowded,
                self._remove_old,
                self._remove_for_space,
                self._write_ids,
                self._forget_ids,
                Wiping(writer).step,
                self._merge,
                self._vacuum,
            )
        )

    def committed(self, committed: Committed) -> None:
        """Something was kept: so much more may have to go at once."""
        self._is_all_gone = False
        self._quota = max(STEP_MESSAGES, 4 * len(committed.outcomes))
        most = self._limits.max_history_room_messages
        if most:
            newest = {chat.room: chat.seq for chat in committed.outcomes if isinstance(chat, Chat)}
            for room, seq in newest.items():
                if seq - committed.rooms[room][1] > most:
                    self._crowded[room] = None

    def step(self) -> bool:
        """Do a little of what is due; False if nothing is. Raises Unwritable."""
        for _ in range(len(self._tasks)):
            task = self._tasks[0]
            self._tasks.rotate(-1)  # each has its turn, however much there is to do for another
            if task():
                return True
        return False

    # --- messages -------------------------------------------------------------------------------------------

    def _remove_of_crowded(self) -> bool:
        rows: list[Row] = []
        for room in list(islice(self._crowded, STEP_ROOMS)):
            quota = self._quota - len(rows)
            if not quota:
                break
            number, removed = self._ask("SELECT number, removed FROM rooms WHERE name = ?", room)[0]
            kept = newest_of(self._writer.connection, number) - removed
            surplus = kept - self._limits.max_history_room_messages
            if surplus <= quota:
                del self._crowded[room]
            rows += self._ask(
                f"{_SELECT_ROWS} WHERE place BETWEEN ? AND ?",
                place_of(number, removed + 1),
                place_of(number, removed + min(surplus, quota)),
            )
        return self._remove(rows)

    def _find_crowded(self) -> bool:
        """Once after the start, since the bound may have been another before."""
        if not self._next_room:
            return False
        rooms = self._ask(
            "SELECT number, name, removed FROM rooms WHERE number >= ? ORDER BY number LIMIT ?",
            self._next_room,
            STEP_ROOMS,
        )
        for number, name, removed in rooms:
            kept = newest_of(self._writer.connection, number) - removed
            if kept > self._limits.max_history_room_messages:
                self._crowded[name] = None
        self._next_room = rooms[-1][0] + 1 if len(rooms) == STEP_ROOMS else 0
        return True

    def _remove_old(self) -> bool:
        age_ms = int(self._limits.max_history_age_s * 1000)
        return age_ms > 0 and self._remove_oldest(self._now_ms() - age_ms)

    def _remove_for_space(self) -> bool:
        most_bytes = self._limits.max_history_bytes
        if not most_bytes or self._is_all_gone:
            return False
        if self._to_free_bytes <= 0:
            if self._is_merging or self._swept_to is not None:
                return False  # that frees something too
            pages, free_pages = self._pages()
            surplus_bytes = (pages - free_pages) * PAGE_BYTES - most_bytes * (SPARE_SHARE - 1) // SPARE_SHARE
            if surplus_bytes <= 0:
                return False
            # More than need be, so that it is not due again at once.
            self._to_free_bytes = surplus_bytes + most_bytes // SPARE_SHARE
        if self._remove_oldest(self._now_ms() + 1):
            [[self._freed_ms]] = self._ask("SELECT newest_ms FROM about")
        else:
            self._is_all_gone = True
            self._to_free_bytes = 0
        if self._to_free_bytes <= 0 and self._swept_to is None:
            # Ids take space as well: those of messages that had to go for it go with them.
            self._swept_to = ("", 0)
        return True

    def _remove_oldest(self, before_ms: int) -> bool:
        # In each room times ascend with the numbers, so what goes is always the oldest there.
        return self._remove(
            self._ask(
                f"{_SELECT_ROWS} INDEXED BY messages_by_time "
                "WHERE time_ms < ? ORDER BY time_ms, place LIMIT ?",
                before_ms,
                self._quota,
            )
        )

    def _remove(self, rows: list[Row]) -> bool:
        """Remove messages, the oldest ones of their rooms; whether there were any."""
        if not rows:
            return False
        rows.sort()
        rooms = self._writer.write(lambda connection: self._remove_rows(connection, rows))
        self._to_free_bytes -= sum(ENVELOPE_BYTES + 2 * len(text.encode()) for _, _, text, _, _ in rows)
        self._writer.note_removed(rooms)
        self._removed(rooms)
        return True

    def _remove_rows(self, connection: sqlite3.Connection, rows: list[Row]) -> dict[str, int]:
        rooms: dict[str, int] = {}
        for number, group in groupby(rows, lambda row: row[0] >> SEQ_BITS):
            places = [row[0] for row in group]
            connection.execute("DELETE FROM messages WHERE place BETWEEN ? AND ?", (places[0], places[-1]))
            [[name]] = connection.execute(
                "UPDATE rooms SET removed = ? WHERE number = ? RETURNING name",
                (places[-1] & MOST_SEQ, number),
            ).fetchall()
            rooms[name] = places[-1] & MOST_SEQ
        delete_words(connection, [(place, text) for place, _, text, _, _ in rows])
        self._writer.ids.keep(
            connection, [(key, id, place & MOST_SEQ, time_ms) for place, time_ms, _, key, id in rows]
        )
        connection.execute(
            "UPDATE about SET newest_ms = max(newest_ms, ?), unmerged_bytes = unmerged_bytes + ?",
            (max(row[1] for row in rows), sum(len(row[2].encode()) for row in rows)),
        )
        return rooms

    # --- ids ------------------------------------------------------------------------------------------------

    def _write_ids(self) -> bool:
        """Bring the index of ids up to date, when enough have gathered."""
        ids = self._writer.ids
        if not ids.is_due:
            return False
        rows = ids.next_rows()
        self._writer.write(lambda connection: ids.write(connection, rows))
        ids.were_written(rows)
        return True

    def _forget_ids(self) -> bool:
        """Walk through all ids now and then; one that is too old is not known any more in any case."""
        now_ms, window_ms = self._now_ms(), int(self._limits.remember_ids_s * 1000)
        oldest_ms = max(now_ms - window_ms, self._freed_ms)
        if self._swept_to is None:
            if now_ms < self._sweep_ms:
                return False
            self._swept_to = ("", 0)
        rows = self._ask(
            "SELECT key, id, time_ms FROM said WHERE (key, id) > (?, ?) ORDER BY key, id LIMIT ?",
            *self._swept_to,
            STEP_IDS,
        )
        old = [(key, id) for key, id, time_ms in rows if time_ms < oldest_ms]
        if old:
            statement = "DELETE FROM said WHERE key = ? AND id = ?"
            self._writer.write(lambda connection: connection.executemany(statement, old))
        if len(rows) < STEP_IDS:
            self._swept_to = None
            self._sweep_ms = now_ms + window_ms // 4
        else:
            self._swept_to = rows[-1][:2]
        return True

    # --- space ----------------------------------------------------------------------------------------------

    def _merge(self) -> bool:
        """Rid the index of words of what was removed: it only notes that, until its parts are merged."""
        if not self._is_merging:
            [[unmerged_bytes]] = self._ask("SELECT unmerged_bytes FROM about")
            pages, free_pages = self._pages()
            used_bytes = (pages - free_pages) * PAGE_BYTES
            least_bytes = max(LEAST_UNMERGED_BYTES, used_bytes // UNMERGED_SHARE)
            if not least_bytes <= unmerged_bytes < WIPE_BYTES:
                return False
        # The first time everything is made into one part; then that is gone on with.
        pages_at_once = STEP_PAGES if self._is_merging else -STEP_PAGES
        self._is_merging = self._writer.write(lambda connection: _merge_words(connection, pages_at_once))
        return True

    def _vacuum(self) -> bool:
        """Give free pages back to the file system."""
        pages, free_pages = self._pages()
        spare = free_pages - SPARE_PAGES - pages // SPARE_SHARE
        if self._limits.max_history_bytes:
            spare = max(spare, min(free_pages, pages - self._limits.max_history_bytes // PAGE_BYTES))
        if self._is_merging or self._to_free_bytes > 0 or spare <= 0:
            return False
        statement = f"PRAGMA incremental_vacuum({min(spare, STEP_PAGES)})"
        self._writer.write(lambda connection: connection.execute(statement).fetchall())
        return True

    def _pages(self) -> tuple[int, int]:
        """All pages of the file, and the free ones among them."""
        [[pages]] = self._ask("PRAGMA page_count")
        [[free_pages]] = self._ask("PRAGMA freelist_count")
        return pages, free_pages

    def _ask(self, question: str, *values: object) -> list[tuple[Any, ...]]:
        return self._writer.connection.execute(question, values).fetchall()

    def _now_ms(self) -> int:
        return int(self._wall_clock() * 1000)


def _merge_words(connection: sqlite3.Connection, pages: int) -> bool:
    """Merge so many pages of the index of words; whether there is more to do. Negative: begin with it."""
    if pages < 0:
        connection.execute("UPDATE about SET unmerged_bytes = 0")
    before = connection.total_changes
    connection.execute("INSERT INTO words (words, rank) VALUES ('merge', ?)", (pages,))
    return connection.total_changes - before >= 2  # so its documentation says

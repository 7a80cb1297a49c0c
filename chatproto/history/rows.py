"""What the writer of the durable history writes: rows, many of them with one statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

from chatproto.history.file import MOST_SEQ, place_of
from chatproto.rooms.words import indexed_text

__all__ = [
    "Insert",
    "MessageRow",
    "Said",
    "delete_words",
    "insert_messages",
    "insert_words",
    "newest_of",
    "round_number",
]

MOST_IN_A_STATEMENT = 1_024
"""Rows; each needs about a KiB of the prepared statement."""

FEW_ROWS = 64


class Said(NamedTuple):
    """A message that is to be kept."""

    room: str
    nick: str
    key: str
    id: int
    text: str
    sender: int
    time_ms: int
    answer: Any
    """Whoever waits for the outcome; nothing to the writer."""
    cost_bytes: int
    """What it takes in memory meanwhile."""


MessageRow = tuple[int, int, str, str, str | None, int]
"""Place, time, nickname and text; the nickname's comparison form if it is another, and the id, or 0."""


class Insert:
    """An INSERT of any number of rows, as many at a time as there are in the largest power of 2.

    There are few statements for a commit, because after each a thread has to wait for the interpreter, in
    which others may be computing; and few altogether, so that SQLite can keep them ready. See `round_number`.
    """

    def __init__(self, head: str, width: int) -> None:
        row = f"({', '.join('?' * width)})"
        self._width = width
        self._statements = {
            rows: f"{head} VALUES {', '.join([row] * rows)}"
            for rows in (1 << power for power in range(MOST_IN_A_STATEMENT.bit_length()))
        }

    def __call__(self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert *rows*."""
        values = list(chain.from_iterable(rows))
        begin = 0
        while begin < len(rows):
            size = min(1 << (len(rows) - begin).bit_length() - 1, MOST_IN_A_STATEMENT)
            some = values
            if size < len(rows):
                some = values[begin * self._width : (begin + size) * self._width]
            connection.execute(self._statements[size], some)
            begin += size


def round_number(rows: int) -> int:
    """How many of so many rows are inserted with few statements: all of them, or at least seven of eight."""
    spare_bits = max(0, rows.bit_length() - 3)
    return rows if rows < FEW_ROWS else rows >> spare_bits << spare_bits


_insert_messages = Insert("INSERT INTO messages", 6)
_insert_words = Insert("INSERT INTO words (rowid, body)", 2)
_delete_words = Insert("INSERT INTO words (words, rowid, body)", 3)


def insert_messages(connection: sqlite3.Connection, messages: Sequence[MessageRow]) -> None:
    """Within a transaction: enter messages, whose places ascend, and index their words."""
    _insert_messages(connection, messages)
    insert_words(connection, [(message[0], message[3]) for message in messages])


def insert_words(connection: sqlite3.Connection, texts: Sequence[tuple[int, str]]) -> None:
    """Within a transaction: index the words of messages (place, text), which ascend."""
    _insert_words(connection, [(place, indexed_text(text)) for place, text in texts])


def delete_words(connection: sqlite3.Connection, texts: Sequence[tuple[int, str]]) -> None:
    """Within a transaction: take messages (place, text), which ascend, out of the index of words."""
    _delete_words(connection, [("delete", place, indexed_text(text)) for place, text in texts])


def newest_of(connection: sqlite3.Connection, number: int) -> int:
    """The newest sequence number of a room that is kept, or 0."""
    [place] = connection.execute(
        "SELECT max(place) FROM messages WHERE place BETWEEN ? AND ?",
        (place_of(number, 0), place_of(number, MOST_SEQ)),
    ).fetchone()
    return place & MOST_SEQ if place is not None else 0

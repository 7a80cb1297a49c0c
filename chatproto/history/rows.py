"""What the writer of the durable history writes: rows, many of them with one statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any

from chatproto.history.file import MOST_SEQ, place_of
from chatproto.rooms.words import indexed_text

__all__ = [
    "Insert",
    "delete_words",
    "insert_messages",
    "insert_words",
    "newest_of",
    "round_number",
]

MOST_IN_A_STATEMENT = 1_024
"""Rows; each needs about a KiB of the prepared statement."""

FEW_ROWS = 64

MESSAGE_VALUES = 6


class Insert:
    """An INSERT of any number of rows, as many at a time as there are in the largest power of 2.

    There are few statements for a commit, because after each a thread has to wait for the interpreter, in
    which others may be computing; and few altogether, so that SQLite can keep them ready. See `round_number`.
    Each of *values* is an expression with one parameter.
    """

    def __init__(self, head: str, *values: str) -> None:
        row = f"({', '.join(values)})"
        self._width = len(values)
        self._statements = {
            rows: f"{head} VALUES {', '.join([row] * rows)}"
            for rows in (1 << power for power in range(MOST_IN_A_STATEMENT.bit_length()))
        }

    def __call__(self, connection: sqlite3.Connection, values: Sequence[Any]) -> None:
        """Insert rows, whose *values* follow on one another."""
        begin, rows = 0, len(values) // self._width
        while begin < rows:
            size = min(1 << (rows - begin).bit_length() - 1, MOST_IN_A_STATEMENT)
            some = values
            if size < rows:
                some = values[begin * self._width : (begin + size) * self._width]
            connection.execute(self._statements[size], some)
            begin += size


def round_number(rows: int) -> int:
    """How many of so many rows are inserted with few statements: all of them, or at least seven of eight."""
    spare_bits = max(0, rows.bit_length() - 3)
    return rows if rows < FEW_ROWS else rows >> spare_bits << spare_bits


# The interpreter takes 3,000 instructions to bind a None, as it looks first whether that can be adapted.
_insert_messages = Insert("INSERT INTO messages", "?", "?", "?", "?", "nullif(?, '')", "?")
_insert_words = Insert("INSERT INTO words (rowid, body)", "?", "?")
_delete_words = Insert("INSERT INTO words (words, rowid, body)", "?", "?", "?")


def insert_messages(connection: sqlite3.Connection, values: Sequence[Any]) -> None:
    """Within a transaction: enter messages, whose places ascend, and index their words.

    Of each there are the *values* place, time, nickname, text, the nickname's comparison form if it is
    another (or an empty string), and the id, or 0.
    """
    _insert_messages(connection, values)
    words: list[Any] = [None] * (2 * len(values) // MESSAGE_VALUES)
    words[::2] = values[::MESSAGE_VALUES]
    texts = values[3::MESSAGE_VALUES]
    words[1::2] = [text if text.isascii() else indexed_text(text) for text in texts]  # most are
    _insert_words(connection, words)


def insert_words(connection: sqlite3.Connection, place: int, text: str) -> None:
    """Within a transaction: index the words of a message."""
    _insert_words(connection, (place, indexed_text(text)))


def delete_words(connection: sqlite3.Connection, texts: Sequence[tuple[int, str]]) -> None:
    """Within a transaction: take messages (place, text), which ascend, out of the index of words."""
    values = [("delete", place, indexed_text(text)) for place, text in texts]
    _delete_words(connection, list(chain.from_iterable(values)))


def newest_of(connection: sqlite3.Connection, number: int) -> int:
    """The newest sequence number of a room that is kept, or 0."""
    [place] = connection.execute(
        "SELECT max(place) FROM messages WHERE place BETWEEN ? AND ?",
        (place_of(number, 0), place_of(number, MOST_SEQ)),
    ).fetchone()
    return place & MOST_SEQ if place is not None else 0

"""What is read from the durable history: all of it in short transactions, which never wait for the writer."""

from __future__ import annotations

import sqlite3
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from chatproto.history.file import MOST_SEQ, place_of
from chatproto.history.rows import newest_of
from chatproto.rooms.log import Found
from chatproto.rooms.remembered import cost_bytes
from chatproto.wire.messages import Chat

__all__ = ["RoomFacts", "facts_of", "pick", "read", "search"]

MAX_SEARCH_S = 0.25
"""After that a search gives up, and says so."""

WINDOW_MESSAGES = 65_536
"""Searched at a time, from the newest on: whether it took too long is looked at after each."""

STEP_ROWS = 64

PICKED_AT_ONCE = 128


@dataclass(slots=True)
class RoomFacts:
    """What the file says of a room: its number (0: no such room), what was removed, its newest messages."""

    number: int
    removed: int
    newest: int
    chats: list[Chat]


def facts_of(connection: sqlite3.Connection, room: str, max_messages: int, max_bytes: int) -> RoomFacts:
    """What is to be known of *room* before people enter it."""
    connection.execute("BEGIN")  # all of it as it was at one moment
    try:
        number, removed = _number_of(connection, room)
        if not number:
            return RoomFacts(0, 0, 0, [])
        newest = max(removed, newest_of(connection, number))
        rows = connection.execute(
            "SELECT place, time_ms, nick, text FROM messages WHERE place BETWEEN ? AND ? "
            "ORDER BY place DESC LIMIT ?",
            (place_of(number, 0), place_of(number, MOST_SEQ), max_messages),
        )
        chats = _take(room, rows, max_bytes)
        return RoomFacts(number, removed, newest, chats[::-1])
    finally:
        connection.execute("ROLLBACK")


def read(
    connection: sqlite3.Connection, room: str, number: int, first: int, last: int, max_bytes: int
) -> tuple[list[Chat], int]:
    """As `RoomLog.read`; and the oldest number that is kept, as far as one had to know it, else 0."""
    connection.execute("BEGIN")
    try:
        number = number or _number_of(connection, room)[0]
        rows = connection.execute(
            "SELECT place, time_ms, nick, text FROM messages WHERE place BETWEEN ? AND ? ORDER BY place",
            (place_of(number, max(first, 0)), place_of(number, min(last, MOST_SEQ))),
        )
        chats = _take(room, rows, max_bytes)
        if chats and chats[0].seq <= first:
            return chats, 0
        return chats, _number_of(connection, room)[1] + 1
    finally:
        connection.execute("ROLLBACK")


def pick(
    connection: sqlite3.Connection, room: str, number: int, seqs: Sequence[int], max_bytes: int
) -> list[Chat]:
    """As `RoomLog.pick`."""
    number = number or _number_of(connection, room)[0]
    chats: list[Chat] = []
    size_bytes = begin = 0
    while begin < len(seqs) and (size_bytes < max_bytes or not chats):
        places = [place_of(number, seq) for seq in seqs[begin : begin + PICKED_AT_ONCE]]
        begin += PICKED_AT_ONCE
        rows = connection.execute(
            "SELECT place, time_ms, nick, text FROM messages "
            f"WHERE place IN ({', '.join('?' * len(places))}) ORDER BY place",
            places,
        )
        found = _take(room, rows, max_bytes - size_bytes)
        size_bytes += sum(map(cost_bytes, found))
        chats += found
    return chats


def search(
    connection: sqlite3.Connection, room: str, number: int, last: int, words: Sequence[str], limit: int
) -> Found:
    """As `RoomLog.search`, up to the sequence number *last*."""
    deadline_s = time.monotonic() + MAX_SEARCH_S
    oldest = _number_of(connection, room)[1] + 1
    query = " ".join(f'"{word}"' for word in words)
    seqs = array("Q")
    while last >= oldest:
        first = max(oldest, last - WINDOW_MESSAGES + 1)
        rows = connection.execute(
            "SELECT rowid FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ? "
            "ORDER BY rowid DESC LIMIT ?",
            (query, place_of(number, first), place_of(number, last), limit + 1 - len(seqs)),
        )
        seqs.extend(place & MOST_SEQ for (place,) in rows)
        if len(seqs) > limit:
            return Found(seqs[:limit][::-1], True)
        last = first - 1
        if time.monotonic() > deadline_s:
            return Found(seqs[::-1], last >= oldest)
    return Found(seqs[::-1], False)


def _number_of(connection: sqlite3.Connection, room: str) -> tuple[int, int]:
    """A room's number, 0 if there is no such room, and up to where its messages were removed."""
    row = connection.execute("SELECT number, removed FROM rooms WHERE name = ?", (room,)).fetchone()
    return row if row is not None else (0, 0)


def _take(room: str, rows: sqlite3.Cursor, max_bytes: int) -> list[Chat]:
    """The first rows, cut off past *max_bytes*, but at least one if there is one."""
    chats: list[Chat] = []
    size_bytes = 0
    while some := rows.fetchmany(STEP_ROWS):
        for place, time_ms, nick, text in some:
            chat = Chat(room, place & MOST_SEQ, time_ms, nick, text)
            chats.append(chat)
            size_bytes += cost_bytes(chat)
            if size_bytes >= max_bytes:
                rows.close()
                return chats
    return chats

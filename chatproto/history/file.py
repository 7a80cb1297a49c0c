"""The file of the durable history: what is in it, and how it is opened, checked and brought up to date.

A message lies under its *place*, the room's number and the sequence number in one integer. So the messages
of a room lie side by side, in the table as in the index of words, and what is read or searched of a room
costs the same however many other rooms there are.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import stat
from collections.abc import Callable
from types import TracebackType
from typing import Self
from urllib.parse import quote

from chatproto.rooms.words import indexed_text
from chatproto.wire.messages import MAX_U64

__all__ = [
    "APPLICATION_ID",
    "MOST_ROOMS",
    "MOST_SEQ",
    "SCHEMA_VERSION",
    "SEQ_BITS",
    "HistoryUnusable",
    "Ownership",
    "check_header",
    "connect_reader",
    "connect_writer",
    "migrate",
    "open_history",
    "place_of",
    "reason_of",
]

APPLICATION_ID = 0x43686174
"""In the header of the file: it is one of ours."""

SEQ_BITS = 40

MOST_SEQ = 2**SEQ_BITS - 1
"""Of one room; at 40,000 messages a second they last for ten months."""

MOST_ROOMS = 2 ** (63 - SEQ_BITS) - 1

PAGE_BYTES = 4_096

WRITER_CACHE_KIB = 65_536

READER_CACHE_KIB = 8_192

MOST_WAL_BYTES = 64 * 1024 * 1024
"""What is left of the write-ahead log once all of it is in the file."""

CHECKPOINT_PAGES = 4_000

_SQLITE_MAGIC = b"SQLite format 3\0"


class HistoryUnusable(Exception):
    """There is no keeping a history in that file, and it is as it was; the text is one sentence."""


def place_of(number: int, seq: int) -> int:
    """Where a message lies: *number* is its room's."""
    return number << SEQ_BITS | seq


def reason_of(error: Exception) -> str:
    """What is the matter with the file, as part of a sentence."""
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    name = getattr(error, "sqlite_errorname", "")
    if "no such module: fts5" in str(error):
        return "this Python's SQLite comes without FTS5"
    for known, reason in _REASONS.items():
        if name.startswith(known):
            return reason
    if name.startswith("SQLITE_IOERR"):
        return f"the disk fails ({name})"
    return str(error) if isinstance(error, sqlite3.Error) else "there is an error in the program"


_REASONS = {
    "SQLITE_FULL": "the disk is full",
    "SQLITE_READONLY": "it cannot be written to",
    "SQLITE_BUSY": "another program has locked it",
    "SQLITE_LOCKED": "another program has locked it",
    "SQLITE_CORRUPT": "it is damaged",
    "SQLITE_NOTADB": "it is not an SQLite database",
    "SQLITE_CANTOPEN": "it cannot be opened",
}


# --- what is in it ------------------------------------------------------------------------------------------

_TABLES = """
CREATE TABLE about (
    epoch INTEGER NOT NULL, newest_ms INTEGER NOT NULL, ids_ms INTEGER NOT NULL,
    unmerged_bytes INTEGER NOT NULL
);
CREATE TABLE rooms (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, removed INTEGER NOT NULL);
CREATE TABLE messages (
    place INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, nick TEXT NOT NULL, text TEXT NOT NULL,
    key TEXT, id INTEGER NOT NULL
);
CREATE INDEX messages_by_time ON messages (time_ms);
CREATE TABLE said (
    key TEXT NOT NULL, id INTEGER NOT NULL, seq INTEGER NOT NULL, time_ms INTEGER NOT NULL,
    PRIMARY KEY (key, id)
) WITHOUT ROWID;
"""
# `rooms.removed` is the newest sequence number that was removed; everything up to it is gone, and what is
# newer is there without holes. `messages.key` is the nickname's comparison form where it is another, and
# `said` the index of their ids (see `ids.py`), up to the time `ids_ms` in the one row of `about`. That has
# as well the newest time of what was removed, and how much text was taken out of the index of words since it
# was last put in order.

_WORDS = """
CREATE VIRTUAL TABLE words USING fts5(body, content = '', columnsize = 0, detail = none, tokenize = 'ascii');
"""
# The texts themselves are not kept twice, nor where in a text a word stands.


def _make_tables(connection: sqlite3.Connection) -> None:
    _run(connection, _TABLES)
    epoch = secrets.randbelow(MAX_U64) + 1
    connection.execute("INSERT INTO about VALUES (?, 0, 0, 0)", (epoch,))


def _index_words(connection: sqlite3.Connection) -> None:
    connection.create_function("indexed", 1, indexed_text, deterministic=True)
    _run(connection, _WORDS)
    connection.execute(
        "INSERT INTO words (rowid, body) SELECT place, indexed(text) FROM messages ORDER BY place"
    )


_STEPS: tuple[Callable[[sqlite3.Connection], None], ...] = (_make_tables, _index_words)
"""What leads from one version of the schema to the next. New files take them all, so none may change."""

SCHEMA_VERSION = len(_STEPS)


def _run(connection: sqlite3.Connection, script: str) -> None:
    # `executescript` would commit what is under way.
    for statement in script.split(";"):
        if statement.strip():
            connection.execute(statement)


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring the schema up to *version*, all in one transaction; what is newer stays as it is."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in _STEPS[_version(connection) : version]:
            step(connection)
        if _version(connection) < version:
            connection.execute(f"PRAGMA user_version = {version}")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


# --- opening it ---------------------------------------------------------------------------------------------


class Ownership:
    """Nobody else may write to the history at *path*: two would give out the same sequence numbers.

    Raises HistoryUnusable if somebody does. A file beside the history is locked, since SQLite's own locks on
    the history would be lost by closing it again.
    """

    def __init__(self, path: str) -> None:
        check_header(path)  # or there would be something beside a file that is none of ours
        try:
            self._file = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(path, reason_of(error)) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise _unusable(path, "another server is writing to it") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_up()

    def give_up(self) -> None:
        """Let others have it; harmless if they may already."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def open_history(path: str, timeout_s: float = 5.0) -> sqlite3.Connection:
    """Open the history at *path* to write to it, or make a new one. MUST be owned.

    Waits for *timeout_s* where another program has locked it. Raises HistoryUnusable, and leaves what is not
    ours as it is.
    """
    try:
        check_header(path)
        # Private, as what SQLite puts beside it will then be too.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = _connect(path, timeout_s)
        try:
            if _version(connection) > SCHEMA_VERSION:
                raise _unusable(path, "a newer version of this program made it")
            if _version(connection) < SCHEMA_VERSION:
                connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                # Not yet with a write-ahead log, so that the file says from the beginning whose it is.
                migrate(connection, SCHEMA_VERSION)
            _set_up_writer(connection)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("SELECT epoch FROM about").fetchone()[0]
            connection.execute("ROLLBACK")
        except BaseException:
            connection.close()
            raise
    except (OSError, sqlite3.Error, TypeError) as error:
        raise _unusable(
            path, "it is damaged" if isinstance(error, TypeError) else reason_of(error)
        ) from error
    return connection


def connect_writer(path: str, timeout_s: float) -> sqlite3.Connection:
    """A connection for the one who writes to a history that is there."""
    connection = _connect(path, timeout_s)
    try:
        _set_up_writer(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: str, timeout_s: float = 5.0) -> sqlite3.Connection:
    """A connection that only reads, and that neither waits for the writer nor is waited for."""
    connection = _connect(path, timeout_s)
    connection.execute("PRAGMA query_only = ON")
    connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
    return connection


def check_header(path: str) -> None:
    """Refuse what is not ours before SQLite, which might put it in order, has a look at it."""
    try:
        _check_header(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unusable(path, reason_of(error)) from error


def _check_header(path: str) -> None:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise _unusable(path, "it is no file")
    with open(path, "rb") as file:
        header = file.read(100)
    if not header:
        return
    if len(header) < 100 or not header.startswith(_SQLITE_MAGIC):
        raise _unusable(path, "it is not an SQLite database")
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise _unusable(path, "it belongs to another program")
    if int.from_bytes(header[60:64], "big") > SCHEMA_VERSION:
        raise _unusable(path, "a newer version of this program made it")


def _connect(path: str, timeout_s: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(os.fspath(path))}?mode=rw",
        uri=True,
        timeout=timeout_s,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )


def _set_up_writer(connection: sqlite3.Connection) -> None:
    [mode] = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise sqlite3.OperationalError("its file system cannot have a write-ahead log")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {MOST_WAL_BYTES}")
    connection.execute("PRAGMA secure_delete = FAST")


def _unusable(path: str, reason: str) -> HistoryUnusable:
    return HistoryUnusable(f"the history cannot be used, {reason}: {path}")

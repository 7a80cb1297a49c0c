"""Export, import, back up and check the history of a chat server.

`python -m chatproto.history export PATH` writes it as lines of JSON, `import PATH` reads them, `backup PATH
COPY` copies it, and `check PATH` looks whether all is well. But for `import` the server may go on meanwhile.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from chatproto.history.file import (
    MOST_ROOMS,
    MOST_SEQ,
    SCHEMA_VERSION,
    SEQ_BITS,
    HistoryUnusable,
    Ownership,
    check_header,
    connect_reader,
    open_history,
    place_of,
    reason_of,
)
from chatproto.history.ids import KnownIds
from chatproto.history.rows import insert_messages, newest_of
from chatproto.rooms.names import NameRefused, check_room
from chatproto.rooms.words import searched_words
from chatproto.text import TextRefused, check_text
from chatproto.wire.messages import MAX_U64

__all__ = ["HistoryRefused", "back_up", "check", "export", "import_lines", "main"]

FORMAT_VERSION = 1

AT_ONCE = 1_000
"""Messages that are exported in one reading: while one reads, a server's write-ahead log only grows."""

IMPORTED_AT_ONCE = 10_000

CHECKED_WORDS = 1_000
"""Messages that a check searches for, from all over the history."""

MAX_NAME_CHARS = 1_000
MAX_TEXT_BYTES = 65_000


class HistoryRefused(Exception):
    """It was not done, and nothing is changed; the text is one sentence."""


def export(path: str) -> Iterator[dict[str, Any]]:
    """What is in the history at *path*: the head, what was removed, then messages as they were said.

    What is said meanwhile may come at the end. Raises HistoryUnusable.
    """
    with _open_to_read(path) as connection:
        [epoch] = connection.execute("SELECT epoch FROM about").fetchone()
        yield {"history": "chatproto", "version": FORMAT_VERSION, "epoch": epoch}
        names: dict[int, str] = {}
        for number, name, removed in connection.execute("SELECT number, name, removed FROM rooms"):
            names[number] = name
            if removed:
                yield {"room": name, "removed": removed}
        time_ms, place = -1, 0
        while rows := connection.execute(
            "SELECT time_ms, place, nick, text FROM messages WHERE (time_ms, place) > (?, ?) "
            "ORDER BY time_ms, place LIMIT ?",
            (time_ms, place, AT_ONCE),
        ).fetchall():
            for time_ms, place, nick, text in rows:
                number = place >> SEQ_BITS
                if number not in names:
                    [[names[number]]] = connection.execute(
                        "SELECT name FROM rooms WHERE number = ?", (number,)
                    ).fetchall()
                yield {
                    "room": names[number],
                    "seq": place & MOST_SEQ,
                    "time": time_ms,
                    "nick": nick,
                    "text": text,
                }


def import_lines(path: str, lines: Iterable[str]) -> int:
    """Add what `export` wrote to the history at *path*, all of it or nothing; the number of messages.

    A new history takes over the epoch, so that clients can go on where they were. Numbers go on from those
    that are there; a message without one gets the next. Raises HistoryUnusable and HistoryRefused.
    """
    is_new = not os.path.exists(path) or os.path.getsize(path) == 0
    with Ownership(path):
        try:
            with closing(open_history(path)) as connection:
                importing = _Import(connection)
                connection.execute("BEGIN IMMEDIATE")
                for number, line in enumerate(lines, 1):
                    try:
                        if line.strip():
                            importing.take(line)
                    except (HistoryRefused, NameRefused, TextRefused) as refusal:
                        raise HistoryRefused(f"line {number}: {str(refusal).rstrip('.')}") from refusal
                importing.finish()
                connection.execute("COMMIT")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except BaseException as error:
            if is_new:
                for ending in ("", "-wal", "-shm"):
                    with suppress(FileNotFoundError):
                        os.unlink(f"{path}{ending}")
            if isinstance(error, sqlite3.Error):
                raise HistoryRefused(
                    f"the history could not be written, {reason_of(error)}: {path}"
                ) from error
            raise
    return importing.messages


class _Import:
    """What is being read into a history, within a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.messages = 0
        self._connection = connection
        self._rooms: dict[str, list[int]] = {}  # number, newest sequence number, newest time
        self._rows: list[tuple[Any, ...]] = []
        [self._newest_number] = connection.execute("SELECT coalesce(max(number), 0) FROM rooms").fetchone()
        self._is_new = not self._newest_number

    def take(self, line: str) -> None:
        """Take in a line."""
        try:
            found = json.loads(line)
        except ValueError as error:
            raise HistoryRefused("that is not JSON") from error
        if not isinstance(found, dict):
            raise HistoryRefused("that is not an object")
        if "history" in found:
            self._take_head(found)
        elif "removed" in found:
            self._take_removed(found)
        else:
            self._take_message(found)

    def _take_head(self, found: dict[str, Any]) -> None:
        if found["history"] != "chatproto" or _number(found, "version", 1, MAX_U64) > FORMAT_VERSION:
            raise HistoryRefused("a newer version of this program, or another one, wrote that")
        if self._is_new:
            epoch = _number(found, "epoch", 1, MAX_U64)
            self._connection.execute("UPDATE about SET epoch = ?", (epoch,))

    def _take_removed(self, found: dict[str, Any]) -> None:
        room = self._room(found)
        removed = _number(found, "removed", 1, MOST_SEQ)
        if removed > room[1]:
            if newest_of(self._connection, room[0]) or room[1]:
                raise HistoryRefused("that room has messages already, and they would not join on")
            self._remove(room, removed)

    def _remove(self, room: list[int], removed: int) -> None:
        room[1] = removed
        self._connection.execute("UPDATE rooms SET removed = ? WHERE number = ?", (removed, room[0]))

    def _take_message(self, found: dict[str, Any]) -> None:
        room = self._room(found)
        nick, text = _string(found, "nick"), _string(found, "text")
        if not nick or len(nick) > MAX_NAME_CHARS or not nick.isprintable():
            raise HistoryRefused("nick must be a nickname")
        check_text(text, MAX_TEXT_BYTES)
        seq = _number(found, "seq", 1, MOST_SEQ) if "seq" in found else room[1] + 1
        time_ms = _number(found, "time", 0, MAX_U64)
        if room[1] == 0 and seq > 1:
            self._remove(room, seq - 1)
        if seq != room[1] + 1 or seq > MOST_SEQ:
            raise HistoryRefused(f"the next message of that room would be {room[1] + 1}, not {seq}")
        if time_ms < room[2]:
            raise HistoryRefused("that is older than the message before it in its room")
        room[1:] = seq, time_ms
        self._rows.append((place_of(room[0], seq), time_ms, nick, text, "", 0))
        self.messages += 1
        if len(self._rows) >= IMPORTED_AT_ONCE:
            self.write()

    def write(self) -> None:
        """Write what was gathered."""
        self._rows.sort()
        insert_messages(self._connection, list(chain.from_iterable(self._rows)))
        self._rows.clear()

    def finish(self) -> None:
        """Write the rest, and that it has no ids, for which whoever opens the history would look."""
        self.write()
        ids = KnownIds(0)
        ids.load(self._connection)
        while rows := ids.next_rows():
            ids.write(self._connection, rows)
            ids.were_written(rows)
        [newest_ms] = self._connection.execute("SELECT coalesce(max(time_ms), 0) FROM messages").fetchone()
        self._connection.execute("UPDATE about SET ids_ms = max(ids_ms, ?)", (newest_ms,))

    def _room(self, found: dict[str, Any]) -> list[int]:
        name = _string(found, "room")
        room = self._rooms.get(name)
        if room is None:
            room = self._rooms[name] = self._find(name)
        return room

    def _find(self, name: str) -> list[int]:
        check_room(name, MAX_NAME_CHARS)
        row = self._connection.execute("SELECT number, removed FROM rooms WHERE name = ?", (name,)).fetchone()
        if row is None:
            self._newest_number += 1
            if self._newest_number > MOST_ROOMS:
                raise HistoryRefused("there are more rooms than a history can have")
            self._connection.execute("INSERT INTO rooms VALUES (?, ?, 0)", (self._newest_number, name))
            return [self._newest_number, 0, 0]
        number, removed = row
        newest = max(removed, newest_of(self._connection, number))
        time_row = self._connection.execute(
            "SELECT time_ms FROM messages WHERE place = ?", (place_of(number, newest),)
        ).fetchone()
        return [number, newest, time_row[0] if time_row else 0]


def back_up(path: str, copy_path: str) -> None:
    """Copy the history at *path* as it is at one moment, while the server goes on.

    Raises HistoryUnusable, and HistoryRefused if there is something at *copy_path* already.
    """
    partial_path = f"{copy_path}-partial"
    try:
        with _open_to_read(path) as connection:
            if os.path.lexists(copy_path):
                raise HistoryRefused(f"there is a file already: {copy_path}")
            with suppress(FileNotFoundError):
                os.unlink(partial_path)
            os.close(os.open(partial_path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            try:
                with closing(sqlite3.connect(partial_path)) as copy:
                    connection.backup(copy)
                os.link(partial_path, copy_path)
            except sqlite3.Error as error:
                raise HistoryRefused(_no_copy(copy_path, error)) from error
            finally:
                os.unlink(partial_path)
            folder = os.open(Path(copy_path).resolve().parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
    except OSError as error:
        raise HistoryRefused(_no_copy(copy_path, error)) from error


def _no_copy(copy_path: str, error: Exception) -> str:
    return f"the copy could not be made, {reason_of(error)}: {copy_path}"


def check(path: str) -> tuple[int, int, list[str]]:
    """Look whether all is well with the history at *path*: messages, rooms, and one sentence for each fault.

    Raises HistoryUnusable.
    """
    faults: list[str] = []
    with _open_to_read(path) as connection:
        connection.execute("BEGIN")  # all of it as it is at one moment
        for [found] in connection.execute("PRAGMA integrity_check"):
            if found != "ok":
                faults.append(found.replace("\n", " "))
        [messages] = connection.execute("SELECT count(*) FROM messages").fetchone()
        rooms = connection.execute("SELECT number, name, removed FROM rooms").fetchall()
        placed = 0
        every = max(1, messages // CHECKED_WORDS)
        for number, name, removed in rooms:
            count, first, last, is_ordered = connection.execute(_ROOM_CHECK, _range(number)).fetchone()
            # Of the messages as they are counted through all rooms, every so manieth.
            seqs = range(removed + 1 + -placed % every, removed + 1 + count, every)
            faults += _check_words(connection, number, name, seqs)
            placed += count
            if count and (first & MOST_SEQ, last - first + 1) != (removed + 1, count):
                faults.append(f"messages are missing in the room {name!r}")
            if not is_ordered:
                faults.append(f"time goes back in the room {name!r}")
        if placed != messages:
            faults.append(f"{messages - placed} messages are in no room")
    return messages, len(rooms), faults


_ROOM_CHECK = """
SELECT count(*), min(place), max(place), coalesce(min(time_ms >= before_ms), 1)
FROM (
    SELECT place, time_ms, lag(time_ms, 1, 0) OVER (ORDER BY place) AS before_ms
    FROM messages WHERE place BETWEEN ? AND ?
)
"""


def _check_words(
    connection: sqlite3.Connection, number: int, room: str, seqs: Iterable[int]
) -> Iterator[str]:
    """Can messages be found by their words?"""
    for seq in seqs:
        place = place_of(number, seq)
        row = connection.execute("SELECT text FROM messages WHERE place = ?", (place,)).fetchone()
        words = searched_words(row[0]) if row is not None else []
        query = " ".join(f'"{word}"' for word in words)
        if words and not connection.execute(_WORDS_CHECK, (query, place)).fetchone():
            yield f"message {seq} of the room {room!r} cannot be searched for"


_WORDS_CHECK = "SELECT 1 FROM words WHERE words MATCH ? AND rowid = ?"


def _range(number: int) -> tuple[int, int]:
    return place_of(number, 0), place_of(number, MOST_SEQ)


@contextmanager
def _open_to_read(path: str) -> Iterator[sqlite3.Connection]:
    check_header(path)
    try:
        with closing(connect_reader(path)) as connection:
            [version] = connection.execute("PRAGMA user_version").fetchone()
            if version != SCHEMA_VERSION:
                raise HistoryUnusable(
                    f"the history cannot be used, start the server on it once to bring it up to date: {path}"
                )
            yield connection
    except sqlite3.Error as error:
        raise HistoryUnusable(f"the history cannot be used, {reason_of(error)}: {path}") from error


def _number(found: dict[str, Any], name: str, least: int, most: int) -> int:
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise HistoryRefused(f"{name} must be a whole number from {least} to {most}")
    return value


def _string(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str):
        raise HistoryRefused(f"{name} must be a string")
    return value


# --- the command line ---------------------------------------------------------------------------------------


def _export(arguments: argparse.Namespace) -> int:
    with _output(arguments.file) as out:
        for line in export(arguments.path):
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    if arguments.file == "-":
        messages = import_lines(arguments.path, sys.stdin)
    else:
        with open(arguments.file, encoding="utf-8") as lines:
            messages = import_lines(arguments.path, lines)
    print(f"{messages} messages are imported")
    return 0


def _back_up(arguments: argparse.Namespace) -> int:
    back_up(arguments.path, arguments.copy)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    messages, rooms, faults = check(arguments.path)
    for fault in faults:
        print(fault)
    print(f"{messages} messages in {rooms} rooms; " + (f"{len(faults)} faults" if faults else "all is well"))
    return 1 if faults else 0


@contextmanager
def _output(file: str) -> Iterator[TextIO]:
    if file == "-":
        yield sys.stdout
        sys.stdout.flush()
    else:
        with open(file, "x", encoding="utf-8") as out:
            try:
                yield out
            except BaseException:
                os.unlink(file)
                raise


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chatproto.history", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, do: Callable[[argparse.Namespace], int], meaning: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=meaning, description=meaning)
        command.set_defaults(do=do)
        command.add_argument("path", metavar="PATH", help="the file of the history")
        return command

    command = add("export", _export, "write the history as lines of JSON")
    command.add_argument(
        "file", metavar="FILE", nargs="?", default="-", help="a new file; -: standard output"
    )
    command = add(
        "import", _import, "add lines of JSON to a history, or make one of them; not while it is in use"
    )
    command.add_argument("file", metavar="FILE", nargs="?", default="-", help="-: standard input")
    command = add("backup", _back_up, "copy the history as it is at one moment")
    command.add_argument("copy", metavar="COPY", help="a new file")
    add("check", _check, "look whether all is well; exits with 1 if it is not")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit status."""
    parsed = _parse(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")
    try:
        status: int = parsed.do(parsed)
    except (HistoryUnusable, HistoryRefused) as refusal:
        print(refusal, file=sys.stderr)
        return 1
    except UnicodeDecodeError:
        print("what is to be imported is not UTF-8", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Who read has seen enough; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"{reason_of(error)}: {error.filename}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())

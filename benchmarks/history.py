"""What the durable history costs, beside bare sqlite3 and a bare file on the same disk in the same run.

Five parts, in rounds so that whatever the machine does beside falls on all of them:

- *many*: as many senders as you like, each of whom says the next thing when the last is acknowledged, through
  `SqliteLog` as the hub uses it; beside it bare `sqlite3` with 100 rows and with one row in a commit, without
  and with an index of words, and a file that is appended to with `fdatasync`;
- *one*: how long one sender waits for an acknowledgement, beside a bare commit of one row;
- *large*: a history of `--messages` is made, and then opened, joined, scrolled back in and searched while
  others write to it;
- *server*: messages acknowledged by `twistd chat` over a socket, with the history in a file and in memory;
- *memory*: what `twistd chat` takes of it with an empty history and with the large one, when it was joined,
  scrolled back in and searched.

See README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import random
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from generator import building
from history_server import Visitor, crowd
from servers import chat_program, serving
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.internet.task import react

from chatproto.history.file import Ownership, open_history, place_of
from chatproto.history.log import SqliteLog
from chatproto.history.rows import insert_messages
from chatproto.limits import Limits
from chatproto.rooms.log import Receipt
from chatproto.rooms.words import searched_words
from chatproto.server.garbage import look_less_often

VOCABULARY = 50_000
WORDS = (3, 16)
TEXTS = 20_000
FIRST_MS = 1_700_000_000_000
SLICE_BYTES = 65_536


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured."""

    senders: int
    rooms: int
    seconds: float
    rounds: int
    messages: int
    queries: int
    folder: str
    file: str
    only: tuple[str, ...]
    json: bool


class Texts:
    """What is said: words of which few are frequent and most are rare, as in any language."""

    def __init__(self, seed: int) -> None:
        source = random.Random(seed)
        letters = "etaoinshrdlucmfwypvbgkjqxz"
        # The frequent ones are short.
        self.vocabulary = [
            "".join(source.choices(letters, range(27, 1, -1), k=2 + min(9, n // 200) + source.randrange(3)))
            for n in range(VOCABULARY)
        ]
        self._ready = [self._make(source) for _ in range(TEXTS)]

    def _make(self, source: random.Random) -> str:
        words = (
            self.vocabulary[min(int(source.paretovariate(0.8)) - 1, VOCABULARY - 1)]
            for _ in range(source.randint(*WORDS))
        )
        return " ".join(words)

    def __getitem__(self, number: int) -> str:
        return self._ready[number * 7919 % TEXTS]


@contextmanager
def new_path(options: Options) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="chatproto-benchmark-", dir=options.folder) as folder:
        yield str(Path(folder) / "history.sqlite")


def quantile(values: Sequence[float], share: float) -> float:
    """E.g. 0.99: what 99 of 100 values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


# --- bare ---------------------------------------------------------------------------------------------------


def bare_connection(path: str, *, indexed: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(
        "CREATE TABLE messages (seq INTEGER PRIMARY KEY, time_ms INTEGER, nick TEXT, text TEXT)"
    )
    if indexed:
        connection.execute("CREATE VIRTUAL TABLE words USING fts5(text, content = 'messages')")
    return connection


def bare_rows(options: Options, texts: Texts, at_once: int, *, indexed: bool) -> tuple[float, list[float]]:
    """Rows a second, and the seconds that each commit took."""
    with new_path(options) as path:
        connection = bare_connection(path, indexed=indexed)
        commits: list[float] = []
        seq = 0
        begin_s = time.perf_counter()
        while (now_s := time.perf_counter()) - begin_s < options.seconds:
            rows = [(seq + n, FIRST_MS + seq, "nick", texts[seq + n]) for n in range(1, at_once + 1)]
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO messages VALUES (?, ?, ?, ?)", rows)
            if indexed:
                connection.executemany(
                    "INSERT INTO words (rowid, text) VALUES (?, ?)", [(row[0], row[3]) for row in rows]
                )
            connection.execute("COMMIT")
            commits.append(time.perf_counter() - now_s)
            seq += at_once
        spent_s = time.perf_counter() - begin_s
        connection.close()
    return seq / spent_s, commits


def bare_file(options: Options, texts: Texts) -> tuple[float, list[float]]:
    """Appends with fdatasync a second, and the seconds that each took."""
    with new_path(options) as path:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        appends: list[float] = []
        begin_s = time.perf_counter()
        while (now_s := time.perf_counter()) - begin_s < options.seconds:
            os.write(file, texts[len(appends)].encode())
            os.fdatasync(file)
            appends.append(time.perf_counter() - now_s)
        spent_s = time.perf_counter() - begin_s
        os.close(file)
    return len(appends) / spent_s, appends


# --- the log ------------------------------------------------------------------------------------------------


class Crowd:
    """Senders who say the next thing as soon as the last is acknowledged.

    They share the interpreter with what is measured, so they do little: of many, few waits are noted.
    """

    def __init__(self, log: SqliteLog, texts: Texts, senders: int, rooms: int) -> None:
        self.acknowledged = 0
        self.waits: list[float] = []
        self._log = log
        self._texts = texts
        self._sampled = 1 + senders // 100
        self._names = [(f"room{number % rooms}", f"nick{number}") for number in range(senders)]
        self._said = time.time_ns() // 1_000  # ids that nobody had before, in this file neither
        self._is_talking = False
        self._silent: list[Deferred[None]] = []

    def start(self) -> None:
        """Everybody begins to speak."""
        self._is_talking = True
        for sender in range(len(self._names)):
            self._say(sender)

    def stop(self) -> Deferred[Any]:
        """Fires when all is acknowledged."""
        self._is_talking = False
        self._silent = [Deferred() for _ in self._names]
        return DeferredList(self._silent)

    def _say(self, sender: int) -> None:
        self._said += 1
        said_s = 0.0 if self._said % self._sampled else time.perf_counter()
        room, nick = self._names[sender]
        answer = self._log.append(room, nick, nick, self._said, self._texts[self._said], sender)
        answer.addCallback(self._was_acknowledged, sender, said_s)

    def _was_acknowledged(self, _: Receipt, sender: int, said_s: float) -> None:
        self.acknowledged += 1
        if said_s:
            self.waits.append(time.perf_counter() - said_s)
        if self._is_talking:
            self._say(sender)
        else:
            self._silent[sender].callback(None)


def later(reactor: Any, seconds: float) -> Deferred[None]:
    fired: Deferred[None] = Deferred()
    reactor.callLater(seconds, fired.callback, None)
    return fired


async def talk(
    reactor: Any, options: Options, texts: Texts, senders: int
) -> tuple[float, list[float], float]:
    """Acknowledged messages a second, the seconds that each took, and CPU seconds for each."""
    with new_path(options) as path:
        log = SqliteLog(path, reactor)
        log.start(lambda chat, sender: None)
        crowd = Crowd(log, texts, senders, options.rooms)
        crowd.start()
        await later(reactor, min(1.0, options.seconds))
        before, begin_s, cpu_s = crowd.acknowledged, time.perf_counter(), time.process_time()
        crowd.waits.clear()
        await later(reactor, options.seconds)
        number, spent_s = crowd.acknowledged - before, time.perf_counter() - begin_s
        cpu_s = time.process_time() - cpu_s
        waits = list(crowd.waits)
        await crowd.stop()
        await log.close()
    return number / spent_s, waits, cpu_s / number


# --- a large history ----------------------------------------------------------------------------------------


def make_large(path: str, texts: Texts, messages: int, rooms: int) -> None:
    """A history of so many messages: half of them in one room, a quarter in the next, and so on."""
    with Ownership(path):
        connection = open_history(path)
        connection.execute("PRAGMA synchronous = OFF")
        for number in range(1, rooms + 1):
            connection.execute("INSERT INTO rooms VALUES (?, ?, 0)", (number, f"room{number - 1}"))
        seqs = [0] * (rooms + 1)
        source = random.Random(messages)
        weights = [max(2.0**-n, 1 / messages) for n in range(1, rooms + 1)]
        made = 0
        while made < messages:
            rows = []
            for number in source.choices(range(1, rooms + 1), weights, k=min(10_000, messages - made)):
                made += 1
                seqs[number] += 1
                rows.append(
                    (place_of(number, seqs[number]), FIRST_MS + made * 100, "nick", texts[made], "", 0)
                )
            connection.execute("BEGIN")
            insert_messages(connection, list(chain.from_iterable(sorted(rows))))
            connection.execute("COMMIT")
        # None of them has an id that a server would have to look for.
        connection.execute("UPDATE about SET ids_ms = (SELECT max(time_ms) FROM messages)")
        connection.close()


@contextmanager
def large_path(options: Options, texts: Texts) -> Iterator[str]:
    """A large history: the one that is there, or a new one, which goes again if it was given no place."""
    if options.file:
        if not os.path.exists(options.file):
            make_large(options.file, texts, options.messages, options.rooms)
        yield options.file
    else:
        with new_path(options) as path:
            make_large(path, texts, options.messages, options.rooms)
            yield path


async def timed(answer: Any, since_s: float) -> float:
    """The seconds until there is an answer."""
    if isinstance(answer, Deferred):
        await answer
    return time.perf_counter() - since_s


async def ask(log: SqliteLog, room: str, texts: Texts, source: random.Random) -> dict[str, float]:
    """The seconds that joining a room takes, and scrolling and searching in it."""
    spent = {}
    begin_s = time.perf_counter()
    while (preparing := log.prepare(room)) is not None:
        await preparing
    oldest, newest = log.bounds(room)
    spent["join"] = await timed(log.read(room, newest - 99, newest, SLICE_BYTES), begin_s)

    first = source.randrange(oldest, newest + 1)
    begin_s = time.perf_counter()
    spent["scroll"] = await timed(log.read(room, first, first + 99, SLICE_BYTES), begin_s)

    some = texts[source.randrange(20_000)].split()
    words = searched_words(" ".join(source.sample(some, min(2, len(some)))))
    begin_s = time.perf_counter()
    spent["search for two words"] = await timed(log.search(room, words, 50), begin_s)

    word = texts.vocabulary[source.randrange(VOCABULARY // 2, VOCABULARY)]
    begin_s = time.perf_counter()
    spent["search for a rare word"] = await timed(log.search(room, [word], 50), begin_s)

    frequent = source.sample(texts.vocabulary[:30], 2)
    begin_s = time.perf_counter()
    spent["search for frequent words"] = await timed(log.search(room, frequent, 50), begin_s)
    return spent


async def large(reactor: Any, options: Options, texts: Texts) -> dict[str, Any]:
    """Seconds that opening took, and those of each join, scroll and search while others write."""
    found: dict[str, Any] = {}
    with large_path(options, texts) as path:
        found["bytes"] = os.path.getsize(path)
        begin_s = time.perf_counter()
        # Little memory, so that scrolling goes to the file.
        log = SqliteLog(path, reactor, Limits(max_room_log_messages=100))
        found["open_s"] = time.perf_counter() - begin_s
        log.start(lambda chat, sender: None)
        source = random.Random(1)
        crowd = Crowd(log, texts, min(options.senders, 100), options.rooms)
        found["rss_bytes_before"] = rss_bytes()
        crowd.start()
        waits: dict[str, list[float]] = {}
        for _ in range(options.queries):
            room = f"room{source.randrange(options.rooms)}"
            for name, spent_s in (await ask(log, room, texts, source)).items():
                waits.setdefault(name, []).append(spent_s)
            await later(reactor, 0.002)
        found["rss_bytes_after"] = rss_bytes()
        found["written"] = crowd.acknowledged
        await crowd.stop()
        await log.close()
    return found | {"waits": waits}


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


# --- telling ------------------------------------------------------------------------------------------------


def row(name: str, *cells: str) -> None:
    print(f"  {name:<44}" + "".join(f"{cell:>16}" for cell in cells))


async def many(reactor: Any, options: Options, texts: Texts) -> dict[str, Any]:
    rates: dict[str, list[float]] = {}
    waits: list[float] = []
    cpus: list[float] = []
    for _ in range(options.rounds):
        rate, waited, cpu_s = await talk(reactor, options, texts, options.senders)
        rates.setdefault("log", []).append(rate)
        waits += waited
        cpus.append(cpu_s)
        for name, at_once, indexed in (
            ("bare, 100 rows a commit, indexed", 100, True),
            ("bare, 100 rows a commit", 100, False),
            ("bare, one row a commit", 1, False),
        ):
            rates.setdefault(name, []).append(bare_rows(options, texts, at_once, indexed=indexed)[0])
        rates.setdefault("file, fdatasync", []).append(bare_file(options, texts)[0])
    print(
        f"{options.senders} senders in {options.rooms} rooms, "
        f"{options.rounds} rounds of {options.seconds:g} s:"
    )
    row("", "messages/s", "log beside it")
    for name, values in rates.items():
        ratios = [log / other for log, other in zip(rates["log"], values, strict=True)]
        row(name, f"{statistics.median(values):,.0f}", f"{statistics.median(ratios):.2f}")
    cpu_us = statistics.median(cpus) * 1e6
    p50_ms, p99_ms = (quantile(waits, share) * 1e3 for share in (0.5, 0.99))
    print(
        f"  log: {cpu_us:.1f} us of CPU for each message; "
        f"acknowledged after {p50_ms:.1f} ms, p99 {p99_ms:.1f} ms"
    )
    return {"rates": rates, "cpu_us": cpu_us, "p50_ms": p50_ms, "p99_ms": p99_ms}


async def one(reactor: Any, options: Options, texts: Texts) -> dict[str, Any]:
    figures: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        figures.setdefault("log, one sender", []).extend((await talk(reactor, options, texts, 1))[1])
        figures.setdefault("bare commit of one row", []).extend(
            bare_rows(options, texts, 1, indexed=False)[1]
        )
        figures.setdefault("bare commit of one row, indexed", []).extend(
            bare_rows(options, texts, 1, indexed=True)[1]
        )
        figures.setdefault("file, fdatasync", []).extend(bare_file(options, texts)[1])
    print("\nOne sender, until it is acknowledged:")
    row("", "p50 ms", "p99 ms")
    told = {}
    for name, values in figures.items():
        told[name] = [quantile(values, share) * 1e3 for share in (0.5, 0.99)]
        row(name, *(f"{value:.2f}" for value in told[name]))
    return told


async def much(reactor: Any, options: Options, texts: Texts) -> dict[str, Any]:
    found = await large(reactor, options, texts)
    mib = 1024 * 1024
    print(
        f"\nA history of {options.messages:,} messages, {found['bytes'] / mib:,.0f} MiB, while others write:"
    )
    row("opening", f"{found['open_s'] * 1e3:.0f} ms")
    row("", "p50 ms", "p99 ms", "max ms")
    for name, values in found.pop("waits").items():
        found[name] = [quantile(values, share) * 1e3 for share in (0.5, 0.99, 1.0)]
        row(name, *(f"{value:.1f}" for value in found[name]))
    row("written meanwhile", f"{found['written']:,}")
    row(
        "memory before and after, MiB", *(f"{found[f'rss_bytes_{w}'] / mib:.0f}" for w in ("before", "after"))
    )
    return found


CROWDS = ((2, 200), (50, 4))
"""Clients in a room, and how many messages each has in flight."""


async def server(reactor: Any, options: Options, texts: Texts) -> dict[str, Any]:
    figures: dict[str, dict[str, list[Any]]] = {}
    with building() as generator:
        for _ in range(options.rounds):
            for clients, window in CROWDS:
                loads = figures.setdefault(f"{clients} clients, {window} messages in flight each", {})
                with new_path(options) as path:
                    for name, history in (("file", path), ("memory", "memory")):
                        with serving(chat_program(name, history=history), None) as served:
                            loads.setdefault(name, []).append(
                                crowd(generator, served, clients, window, options.seconds)
                            )
    print("\nThrough twistd chat and loopback, everybody speaks in one room and hears all others:")
    told: dict[str, Any] = {}
    for people, loads in figures.items():
        print(f"  {people}:")
        row("", "acknowledged/s", "CPU us each", "seen p50 ms", "p99 ms", "server CPU")
        for name, runs in loads.items():
            values = [
                statistics.median(column) for column in zip(*map(dataclasses.astuple, runs), strict=True)
            ]
            told[f"{people}, {name}"] = values
            rate, cpu_us, p50_ms, p99_ms, share = values
            row(
                f"history in {'a file' if name == 'file' else 'memory'}",
                f"{rate:,.0f}",
                f"{cpu_us:.1f}",
                f"{p50_ms:.1f}",
                f"{p99_ms:.1f}",
                f"{share:.0%}",
            )
        ratios = [
            file.rate / memory.rate for file, memory in zip(loads["file"], loads["memory"], strict=True)
        ]
        row("file beside memory", f"{statistics.median(ratios):.2f}")
    return told


def visited_bytes(path: str, options: Options, texts: Texts) -> list[int]:
    """The memory of a server: at first, and after its history was joined, scrolled back in and searched."""
    source = random.Random(1)
    with serving(chat_program("chat", history=path), None) as served:
        begun_bytes = served.rss_bytes()
        for number in range(options.rooms):
            room = f"room{number}"
            with Visitor(served.port, f"visitor{number}") as visitor:
                newest = visitor.join(room)
                visitor.scroll(room, newest, options.queries // options.rooms + 1, source)
                for _ in range(options.queries // options.rooms + 1):
                    visitor.search(room, texts.vocabulary[source.randrange(VOCABULARY)])
        return [begun_bytes, served.rss_bytes()]


async def memory(reactor: Any, options: Options, texts: Texts) -> dict[str, Any]:
    with new_path(options) as path:
        empty = visited_bytes(path, options, texts)
    with large_path(options, texts) as path:
        full = visited_bytes(path, options, texts)
    mib = 1024 * 1024
    print("\nMemory of twistd chat, MiB:")
    row("", "begun", "visited")
    row("an empty history", *(f"{value / mib:.1f}" for value in empty))
    row(f"one of {options.messages:,} messages", *(f"{value / mib:.1f}" for value in full))
    return {"empty": empty, "full": full}


PARTS = {"many": many, "one": one, "large": much, "server": server, "memory": memory}


async def measure(reactor: Any, options: Options) -> None:
    texts = Texts(1)
    print(
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"load {os.getloadavg()[0]:.1f}\n"
    )
    figures = {
        name: await part(reactor, options, texts) for name, part in PARTS.items() if name in options.only
    }
    if options.json:
        print(json.dumps(figures))


def parse(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--senders", type=int, default=2_000, help="who talk at the same time (default %(default)s)"
    )
    parser.add_argument("--rooms", type=int, default=20, help="in which they do (default %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="for each measurement (default %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="(default %(default)s)")
    parser.add_argument(
        "--messages",
        type=int,
        default=200_000,
        help="of the large history (default %(default)s; try 5000000)",
    )
    parser.add_argument("--queries", type=int, default=300, help="of each kind (default %(default)s)")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="on which disk (default %(default)s)")
    parser.add_argument(
        "--file", default="", help="where the large history is, or is made and left (default: nowhere)"
    )
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--json", action="store_true", help="figures as JSON too")
    parsed = parser.parse_args(arguments)
    only = tuple(parsed.only.split(","))
    if not set(only) <= set(PARTS):
        parser.error(f"--only takes some of {','.join(PARTS)}")
    return Options(**(vars(parsed) | {"only": only}))


def main() -> None:
    options = parse(sys.argv[1:])
    look_less_often()  # as the server does
    react(lambda reactor: ensureDeferred(measure(reactor, options)))


if __name__ == "__main__":
    main()

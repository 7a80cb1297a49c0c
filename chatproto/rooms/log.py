"""A room is a log: what is said gets a sequence number and is kept, and what people see comes out of the log.

`RoomLog` is the one interface; `MemoryLog` is the form that lives as long as the process.
"""

from __future__ import annotations

import secrets
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from zlib import crc32

from twisted.internet.defer import Deferred

from chatproto.limits import Limits
from chatproto.rooms.remembered import Recent, Remembered, take_bytes
from chatproto.rooms.words import words_of
from chatproto.wire.messages import MAX_U64, Chat

__all__ = [
    "MAX_SEARCH_S",
    "REMOVED",
    "Found",
    "Kept",
    "MemoryLog",
    "NotStored",
    "Receipt",
    "Receipts",
    "RoomLog",
]

MAX_SEARCH_S = 0.05
"""How long one search in memory may take, which nobody else has the reactor meanwhile."""

REMOVED = "(removed)"
"""What a message that was removed says from then on: it keeps its number, so that there is no hole."""

FORGOTTEN_PLACES = 65_536
"""For the newest numbers of forgotten rooms; so many bound the memory, whatever rooms there were."""

Kept = Callable[[Chat, int], None]
"""Told of every message once it is kept: the message, and the id of the session that said it (0: none)."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a message is kept: its sequence number, and its time in milliseconds since 1970."""

    seq: int
    time_ms: int


class NotStored(Exception):
    """The history could not keep a message, and nobody saw it; the text is one sentence for people."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found: sequence numbers, ascending, and whether there may be older ones that match."""

    seqs: Sequence[int]
    is_cut: bool


class RoomLog(Protocol):
    """Where the messages of rooms are kept. Every answer may be a Deferred, and need not be one."""

    @property
    def epoch(self) -> int:
        """Changes when sequence numbers start anew; from 1 to 2^53 - 1."""

    @property
    def trouble(self) -> str:
        """Why nothing can be kept at the moment, as part of a sentence; empty if all is well."""

    def start(self, kept: Kept) -> None:
        """Have *kept* called for every message from now on.

        MUST call it once for each message, in the order of each room, after the message is kept and before
        the answer of `append` is there.
        """

    def prepare(self, room: str) -> Deferred[None] | None:
        """Have at hand what is to be known of *room*, before people enter it: None if it is.

        Else a Deferred; ask again when it has fired.
        """

    def enter(self, room: str) -> None:
        """People are in *room* from now on. MUST have been prepared in this turn of the reactor."""

    def leave(self, room: str) -> None:
        """Nobody is in *room* any more."""

    def append(
        self, room: str, nick: str, key: str, id: int, text: str, sender: int
    ) -> Receipt | Deferred[Receipt]:
        """Keep what *nick* said and give it the room's next sequence number.

        MUST answer the same *id* (not 0) under the same *key*, the nickname's comparison form, with the same
        receipt and keep nothing. Fails with NotStored.
        """

    def bounds(self, room: str) -> tuple[int, int]:
        """The oldest sequence number that is kept (if none is, the next to come) and the newest (or 0).

        May only be asked about a room that is prepared or has people in it. MUST count a message from when
        *kept* is told of it on, neither sooner nor later: who joins gets everything up to then from a replay,
        and everything after it as it is said.
        """

    def read(self, room: str, first: int, last: int, max_bytes: int) -> list[Chat] | Deferred[list[Chat]]:
        """What is kept from *first* to *last*, ascending and without holes.

        About *max_bytes* of UTF-8, where a message counts some 100 bytes beside its text; but at least one
        message if there is one. Begins later than *first* where that is not kept any more.
        """

    def search(self, room: str, words: Sequence[str], limit: int) -> Found | Deferred[Found]:
        """The newest *limit* messages of *room* that have all *words*, which `searched_words` made.

        May give up before it has looked at everything, and then says that what was found is cut off.
        Raises NotImplementedError where this log cannot search.
        """

    def pick(self, room: str, seqs: Sequence[int], max_bytes: int) -> list[Chat] | Deferred[list[Chat]]:
        """Of the messages *seqs*, which ascend, those that are kept, or about the first *max_bytes* of them.

        As with `read` that is at least one message if there is one.
        """

    def remove(self, room: str, seq: int) -> bool | Deferred[bool]:
        """Have `REMOVED` in place of what a message said; whether that message is kept.

        MUST let nobody read or find any more what it said, once the answer is there, nor keep it anywhere.
        """


class Receipts:
    """The receipts of what was lately said, by the nickname's comparison form and the message's id."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: OrderedDict[tuple[str, int], Receipt] = OrderedDict()

    def find(self, key: str, id: int) -> Receipt | None:
        """The receipt of an earlier message with this id; 0 is no id."""
        return self._known.get((key, id)) if id else None

    def add(self, key: str, id: int, receipt: Receipt) -> None:
        """Remember; the oldest is forgotten past the bound."""
        if id and self._most:
            if len(self._known) >= self._most:
                self._known.popitem(last=False)
            self._known[key, id] = receipt


def _place(room: str) -> int:
    """Where the numbers of a forgotten room stand. Rooms that share a place skip some and repeat none."""
    return crc32(room.encode()) % FORGOTTEN_PLACES


class MemoryLog:
    """The `RoomLog` that lives as long as the process. Nothing here waits, so nothing is a Deferred.

    Messages are bounded in number and bytes for each room, and in bytes for all. A room that has people is
    never forgotten; of the others the one that was silent for longest goes first, past `max_rooms`. Should it
    be spoken in again, its numbers go on: the epoch is still the same.

    *wall_clock* gives seconds since 1970.
    """

    trouble = ""

    def __init__(self, limits: Limits | None = None, wall_clock: Callable[[], float] = time.time) -> None:
        self.epoch = secrets.randbelow(MAX_U64) + 1
        self._limits = limits or Limits()
        self._wall_clock = wall_clock
        self._rooms: OrderedDict[str, Remembered] = OrderedDict()  # the one silent for longest first
        self._recent = Recent(self._limits)
        self._forgotten: dict[int, int] = {}  # the newest number of forgotten rooms, by _place
        self._in_use: set[str] = set()
        self._receipts = Receipts(self._limits.max_remembered_ids)
        self._newest_ms = 0
        self._kept: Kept = lambda chat, sender: None

    def start(self, kept: Kept) -> None:
        """See `RoomLog.start`."""
        self._kept = kept

    def prepare(self, room: str) -> None:
        """See `RoomLog.prepare`."""

    def enter(self, room: str) -> None:
        """See `RoomLog.enter`."""
        self._in_use.add(room)

    def leave(self, room: str) -> None:
        """See `RoomLog.leave`."""
        self._in_use.discard(room)

    def append(self, room: str, nick: str, key: str, id: int, text: str, sender: int) -> Receipt:
        """See `RoomLog.append`."""
        known = self._receipts.find(key, id)
        if known is not None:
            return known
        remembered = self._rooms.get(room)
        if remembered is None:
            remembered = self._begin(room)
        # A clock that is set back must not turn the history round.
        self._newest_ms = max(self._newest_ms, int(self._wall_clock() * 1000))
        chat = Chat(room, remembered.last + 1, self._newest_ms, nick, text)
        self._rooms.move_to_end(room)
        self._recent.add(room, remembered, chat)
        receipt = Receipt(chat.seq, chat.time)
        self._receipts.add(key, id, receipt)
        self._kept(chat, sender)
        return receipt

    def bounds(self, room: str) -> tuple[int, int]:
        """See `RoomLog.bounds`."""
        remembered = self._rooms.get(room)
        if remembered is None:
            newest = self._forgotten.get(_place(room), 0)
            return newest + 1, newest
        return remembered.first, remembered.last

    def read(self, room: str, first: int, last: int, max_bytes: int) -> list[Chat]:
        """See `RoomLog.read`."""
        remembered = self._rooms.get(room)
        return [] if remembered is None else remembered.slice(first, last, max_bytes)

    def search(self, room: str, words: Sequence[str], limit: int) -> Found:
        """See `RoomLog.search`. Gives up after `MAX_SEARCH_S`."""
        oldest, newest = self.bounds(room)
        seqs = array("Q")
        wanted = set(words)
        deadline_s = time.monotonic() + MAX_SEARCH_S
        for seq in range(newest, oldest - 1, -1):
            chat = self._rooms[room].get(seq)
            assert chat is not None
            if wanted.issubset(words_of(chat.text)):
                if len(seqs) >= limit:
                    return Found(seqs[::-1], True)
                seqs.append(seq)
            if time.monotonic() > deadline_s:
                return Found(seqs[::-1], seq > oldest)
        return Found(seqs[::-1], False)

    def pick(self, room: str, seqs: Sequence[int], max_bytes: int) -> list[Chat]:
        """See `RoomLog.pick`."""
        remembered = self._rooms.get(room)
        if remembered is None:
            return []
        kept = map(remembered.get, seqs)
        return take_bytes((chat for chat in kept if chat is not None), max_bytes)

    def remove(self, room: str, seq: int) -> bool:
        """See `RoomLog.remove`."""
        remembered = self._rooms.get(room)
        return remembered is not None and self._recent.replace(remembered, seq, REMOVED)

    def _begin(self, room: str) -> Remembered:
        if len(self._rooms) >= self._limits.max_rooms:
            silent = next((name for name in self._rooms if name not in self._in_use), None)
            if silent is None:
                raise NotStored("there are as many rooms as this server can remember; use one that exists")
            forgotten = self._rooms.pop(silent)
            self._recent.forget(silent, forgotten)
            place = _place(silent)
            self._forgotten[place] = max(forgotten.last, self._forgotten.get(place, 0))
        remembered = self._rooms[room] = Remembered(self._forgotten.get(_place(room), 0))
        return remembered

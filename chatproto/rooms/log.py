"""A room is a log: what is said gets a sequence number and is kept, and what people see comes out of the log.

`RoomLog` is the one interface; `MemoryLog` is the form that lives as long as the process.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from zlib import crc32

from twisted.internet.defer import Deferred

from chatproto.limits import Limits
from chatproto.wire.messages import MAX_U64, Chat

__all__ = ["Kept", "MemoryLog", "NotStored", "Receipt", "Receipts", "RoomLog"]

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


class RoomLog(Protocol):
    """Where the messages of rooms are kept. Every answer may be a Deferred, and need not be one."""

    epoch: int
    """Changes when sequence numbers start anew; from 1 to 2^53 - 1."""

    def start(self, kept: Kept) -> None:
        """Have *kept* called for every message from now on.

        MUST call it once for each message, in the order of each room, after the message is kept and before
        the answer of `append` is there.
        """

    def enter(self, room: str) -> None:
        """People are in *room* from now on."""

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

        MUST count a message from when *kept* is told of it on, neither sooner nor later: who joins gets
        everything up to then from a replay, and everything after it as it is said.
        """

    def read(self, room: str, first: int, last: int, max_bytes: int) -> list[Chat] | Deferred[list[Chat]]:
        """What is kept from *first* to *last*, ascending and without holes.

        About *max_bytes* of UTF-8, where a message counts some 100 bytes beside its text; but at least one
        message if there is one. Begins later than *first* where that is not kept any more.
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


class _Remembered:
    """The messages of one room: a list whose front is cut off now and then, so that any slice is cheap."""

    __slots__ = ("bytes", "chats", "last", "start")

    def __init__(self, last: int) -> None:
        self.chats: list[Chat | None] = []
        self.start = 0  # of what is kept, in chats
        self.last = last
        self.bytes = 0

    def __len__(self) -> int:
        return len(self.chats) - self.start

    def add(self, chat: Chat) -> int:
        """Keep one message; the bytes that this takes."""
        cost_bytes = _cost_bytes(chat)
        self.chats.append(chat)
        self.last = chat.seq
        self.bytes += cost_bytes
        return cost_bytes

    def forget_oldest(self) -> int:
        """Drop one message; the bytes that this gave back."""
        chat = self.chats[self.start]
        assert chat is not None
        self.chats[self.start] = None
        self.start += 1
        if self.start * 2 > len(self.chats):
            del self.chats[: self.start]
            self.start = 0
        cost_bytes = _cost_bytes(chat)
        self.bytes -= cost_bytes
        return cost_bytes

    def slice(self, first: int, last: int, max_bytes: int) -> list[Chat]:
        oldest = self.last - len(self) + 1
        begin = self.start + max(first, oldest) - oldest
        end = self.start + min(last, self.last) - oldest + 1
        found: list[Chat] = []
        size_bytes = 0
        for index in range(begin, end):
            chat = self.chats[index]
            assert chat is not None
            found.append(chat)
            size_bytes += _cost_bytes(chat)
            if size_bytes >= max_bytes:
                break
        return found


def _cost_bytes(chat: Chat) -> int:
    """About what a message takes in memory: its text (up to 4 bytes a character), its fields, its place."""
    text = chat.text
    return 400 + (len(text) if text.isascii() else 4 * len(text))


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

    def __init__(self, limits: Limits | None = None, wall_clock: Callable[[], float] = time.time) -> None:
        self.epoch = secrets.randbelow(MAX_U64) + 1
        self._limits = limits or Limits()
        self._wall_clock = wall_clock
        self._rooms: OrderedDict[str, _Remembered] = OrderedDict()  # the one silent for longest first
        self._filled: OrderedDict[str, _Remembered] = OrderedDict()  # of these, those with messages
        self._forgotten: dict[int, int] = {}  # the newest number of forgotten rooms, by _place
        self._in_use: set[str] = set()
        self._receipts = Receipts(self._limits.max_remembered_ids)
        self._bytes = 0
        self._newest_ms = 0
        self._kept: Kept = lambda chat, sender: None

    def start(self, kept: Kept) -> None:
        """See `RoomLog.start`."""
        self._kept = kept

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
        self._bytes += remembered.add(chat)
        self._rooms.move_to_end(room)
        self._filled[room] = remembered
        self._filled.move_to_end(room)
        self._shrink(room, remembered)
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
        return remembered.last - len(remembered) + 1, remembered.last

    def read(self, room: str, first: int, last: int, max_bytes: int) -> list[Chat]:
        """See `RoomLog.read`."""
        remembered = self._rooms.get(room)
        return [] if remembered is None else remembered.slice(first, last, max_bytes)

    def _begin(self, room: str) -> _Remembered:
        if len(self._rooms) >= self._limits.max_rooms:
            silent = next((name for name in self._rooms if name not in self._in_use), None)
            if silent is None:
                raise NotStored("there are as many rooms as this server can remember; use one that exists")
            forgotten = self._rooms.pop(silent)
            self._bytes -= forgotten.bytes
            self._filled.pop(silent, None)
            place = _place(silent)
            self._forgotten[place] = max(forgotten.last, self._forgotten.get(place, 0))
        remembered = self._rooms[room] = _Remembered(self._forgotten.get(_place(room), 0))
        return remembered

    def _shrink(self, room: str, spoken: _Remembered) -> None:
        """Keep the bounds after a message in *room*."""
        limits = self._limits
        surplus = len(spoken) - limits.max_room_log_messages
        while surplus > 0 or (spoken.bytes > limits.max_room_log_bytes and len(spoken)):
            self._bytes -= spoken.forget_oldest()
            surplus -= 1
        if not spoken.bytes:
            del self._filled[room]
        while self._bytes > limits.max_log_bytes:
            silent, remembered = next(iter(self._filled.items()))
            self._bytes -= remembered.forget_oldest()
            if not remembered.bytes:
                del self._filled[silent]

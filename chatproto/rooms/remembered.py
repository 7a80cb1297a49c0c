"""The newest messages of rooms in memory, bounded for each room and for all of them together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

from chatproto.limits import Limits
from chatproto.wire.messages import Chat

__all__ = ["ENVELOPE_BYTES", "Recent", "Remembered", "cost_bytes", "take_bytes", "text_cost_bytes"]

ENVELOPE_BYTES = 400
"""What a message takes in memory beside its text."""


class Remembered:
    """The messages of one room: a list whose front is cut off now and then, so that any slice is cheap.

    `last` is the newest sequence number that there was, kept or not; `count` says how many are kept.
    """

    __slots__ = ("_chats", "_start", "bytes", "count", "last")

    def __init__(self, last: int) -> None:
        self.last = last
        self.bytes = 0
        self.count = 0
        self._chats: list[Chat | None] = []
        self._start = 0  # of what is kept, in _chats

    @property
    def first(self) -> int:
        """The oldest sequence number that is kept; the next to come if none is."""
        return self.last - self.count + 1

    def add(self, chat: Chat) -> int:
        """Keep the next message; the bytes that this takes."""
        added_bytes = cost_bytes(chat)
        self._chats.append(chat)
        self.last = chat.seq
        self.count += 1
        self.bytes += added_bytes
        return added_bytes

    def forget_oldest(self) -> int:
        """Drop one message; the bytes that this gave back."""
        chat = self._chats[self._start]
        assert chat is not None
        self._chats[self._start] = None
        self._start += 1
        if self._start * 2 > len(self._chats):
            del self._chats[: self._start]
            self._start = 0
        freed_bytes = cost_bytes(chat)
        self.count -= 1
        self.bytes -= freed_bytes
        return freed_bytes

    def get(self, seq: int) -> Chat | None:
        """One message, if it is kept."""
        return self._chats[self._start + seq - self.first] if self.first <= seq <= self.last else None

    def replace(self, chat: Chat) -> int:
        """Keep *chat* in place of the message of that number; the bytes that this takes, or gives back."""
        index = self._start + chat.seq - self.first
        before = self._chats[index]
        assert before is not None
        self._chats[index] = chat
        added_bytes = cost_bytes(chat) - cost_bytes(before)
        self.bytes += added_bytes
        return added_bytes

    def slice(self, first: int, last: int, max_bytes: int) -> list[Chat]:
        """What is kept from *first* to *last*, cut off past *max_bytes*, but at least one if there is one."""
        oldest = self.first
        begin = self._start + max(first, oldest) - oldest
        end = self._start + min(last, self.last) - oldest + 1
        found: list[Chat] = []
        size_bytes = 0
        for index in range(begin, end):
            chat = self._chats[index]
            assert chat is not None
            found.append(chat)
            size_bytes += cost_bytes(chat)
            if size_bytes >= max_bytes:
                break
        return found


class Recent:
    """Keeps the bounds of many rooms; past that of all together the room silent for longest gives way."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._filled: OrderedDict[str, Remembered] = OrderedDict()  # the one silent for longest first
        self._bytes = 0

    def add(self, room: str, remembered: Remembered, chat: Chat) -> None:
        """Keep the next message of *room*."""
        limits = self._limits
        self._bytes += remembered.add(chat)
        self._filled[room] = remembered
        self._filled.move_to_end(room)
        while remembered.count > limits.max_room_log_messages or (
            remembered.bytes > limits.max_room_log_bytes and remembered.count
        ):
            self._bytes -= remembered.forget_oldest()
        if not remembered.bytes:
            del self._filled[room]
        while self._bytes > limits.max_log_bytes:
            silent, its = next(iter(self._filled.items()))
            self._bytes -= its.forget_oldest()
            if not its.bytes:
                del self._filled[silent]

    def replace(self, remembered: Remembered, seq: int, text: str) -> bool:
        """Have *text* in place of a message's; whether that is kept."""
        chat = remembered.get(seq)
        if chat is None:
            return False
        self._bytes += remembered.replace(replace(chat, text=text))
        return True

    def forget_before(self, room: str, remembered: Remembered, seq: int) -> None:
        """Drop what *room* has below *seq*."""
        while remembered.count and remembered.first < seq:
            self._bytes -= remembered.forget_oldest()
        if not remembered.bytes:
            self._filled.pop(room, None)

    def forget(self, room: str, remembered: Remembered) -> None:
        """*room* is kept no more."""
        self._bytes -= remembered.bytes
        self._filled.pop(room, None)


def text_cost_bytes(text: str) -> int:
    """About what a message takes in memory: its text (up to 4 bytes a character), its fields, its place."""
    return ENVELOPE_BYTES + (len(text) if text.isascii() else 4 * len(text))


def cost_bytes(chat: Chat) -> int:
    """The same of a message that has its number."""
    return text_cost_bytes(chat.text)


def take_bytes(chats: Iterable[Chat], max_bytes: int) -> list[Chat]:
    """The first of *chats*, cut off past *max_bytes*, but at least one if there is one."""
    found: list[Chat] = []
    size_bytes = 0
    for chat in chats:
        found.append(chat)
        size_bytes += cost_bytes(chat)
        if size_bytes >= max_bytes:
            break
    return found

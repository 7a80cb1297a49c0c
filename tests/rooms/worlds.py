"""A chat on a log of one kind or another, and what somebody in it has got."""

from __future__ import annotations

from collections.abc import Callable

from rooms.outlets import AsyncLog

from chatproto.limits import Limits
from chatproto.rooms.log import MemoryLog, RoomLog
from chatproto.testing import ChatInMemory, Person
from chatproto.wire.messages import Chat

SMALL = Limits(max_queued_bytes=16_384, max_messages_per_s=0)
KIB = "x" * 1_000


class World:
    """A chat on a log of some kind."""

    def __init__(self, kind: str, limits: Limits) -> None:
        inner = MemoryLog(limits, lambda: 0.0)
        self.later = AsyncLog(inner, fired=kind == "fired") if kind != "at once" else None
        log: RoomLog = self.later or inner
        self.chat = ChatInMemory(limits, log)
        self.epoch = log.epoch

    def join(self, nick: str, room: str = "", **wanted: int) -> Person:
        person = self.chat.join(nick, room, **wanted)
        self.settle()
        return person

    def say(self, count: int, text: str = "", room: str = "") -> None:
        """Say something *count* times, from code."""
        for _ in range(count):
            answer = self.chat.hub.say(room, "bot", text or "x")
            self.settle_log()
            assert answer

    def settle_log(self) -> None:
        """Let the log answer, but let no turn pass."""
        if self.later is not None:
            self.later.settle()

    def settle(self) -> None:
        """Let everything happen that is to happen now."""
        for _ in range(200):
            self.settle_log()
            self.chat.pass_time()
            if not (self.later and self.later.owes):
                return
        raise AssertionError("it never ends")

    def read(self, person: Person) -> None:
        """Let someone read, until they have everything."""
        person.read()
        self.settle()


Worlds = Callable[[Limits], World]


def seqs(person: Person, room: str = "lobby") -> list[int]:
    return [chat.seq for chat in person.got(Chat) if chat.room == room]


def outline(person: Person) -> list[object]:
    """What came, with a run of chats as the pair of its first and last number."""
    shown: list[object] = []
    for message in person.received:
        if not isinstance(message, Chat):
            shown.append(message.type)
        elif shown and isinstance(shown[-1], tuple) and shown[-1][1] == message.seq - 1:
            shown[-1] = (shown[-1][0], message.seq)
        else:
            shown.append((message.seq, message.seq))
    return shown

"""The newest messages in memory against lists of everything: what is kept, what it costs, what goes."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from chatproto.limits import Limits
from chatproto.rooms.remembered import Recent, Remembered, cost_bytes, take_bytes, text_cost_bytes
from chatproto.wire.messages import Chat

MOST_MESSAGES, MOST_ROOM_BYTES, MOST_BYTES = 5, 65_536, 100_000
LIMITS = Limits(
    max_room_log_messages=MOST_MESSAGES,
    max_room_log_bytes=MOST_ROOM_BYTES,
    max_log_bytes=MOST_BYTES,
    max_text_bytes=60_000,
    max_queued_bytes=1_000_000,
)
ROOMS = st.sampled_from(["one", "two", "three"])
SIZES = st.sampled_from([0, 1, 10_000, 30_000, 65_136, 65_137, 100_000, 120_000])
"""Texts of letters: a message costs 400 bytes more."""


class Text(str):
    """A text of which it can be told whether anybody still has it."""


@dataclass
class Room:
    """What the model knows: everything that was ever said, and from where on it is kept."""

    remembered: Remembered
    last: int
    chats: list[Chat] = field(default_factory=list)

    @property
    def cost(self) -> int:
        return sum(text_cost_bytes(chat.text) for chat in self.chats)


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.recent = Recent(LIMITS)
        self.rooms: dict[str, Room] = {}
        self.silent_longest: list[str] = []
        self.texts: list[weakref.ref[Text]] = []

    def room(self, name: str) -> Room:
        if name not in self.rooms:
            self.rooms[name] = Room(Remembered(100), 100)
        return self.rooms[name]

    @rule(name=ROOMS, size=SIZES)
    def say(self, name: str, size: int) -> None:
        room = self.room(name)
        text = Text("x" * size)
        self.texts.append(weakref.ref(text))
        room.last += 1
        chat = Chat(name, room.last, 1_000, "ann", text)
        self.recent.add(name, room.remembered, chat)
        room.chats.append(chat)
        if name in self.silent_longest:
            self.silent_longest.remove(name)
        self.silent_longest.append(name)
        while len(room.chats) > MOST_MESSAGES or room.cost > MOST_ROOM_BYTES:
            del room.chats[0]
        while sum(each.cost for each in self.rooms.values()) > MOST_BYTES:
            first = next(name for name in self.silent_longest if self.rooms[name].chats)
            del self.rooms[first].chats[0]

    @rule(name=ROOMS, back=st.integers(-1, MOST_MESSAGES + 1))
    def remove(self, name: str, back: int) -> None:
        room = self.room(name)
        seq = room.last - back
        at = [index for index, chat in enumerate(room.chats) if chat.seq == seq]
        assert self.recent.replace(room.remembered, seq, "") is bool(at)
        for index in at:
            room.chats[index] = Chat(name, seq, 1_000, "ann", "")

    @rule(name=ROOMS, back=st.integers(-2, MOST_MESSAGES + 1))
    def forget_before(self, name: str, back: int) -> None:
        room = self.room(name)
        self.recent.forget_before(name, room.remembered, room.last - back)
        room.chats = [chat for chat in room.chats if chat.seq >= room.last - back]

    @rule(name=ROOMS)
    def forget(self, name: str) -> None:
        if name in self.rooms:
            self.recent.forget(name, self.rooms.pop(name).remembered)
            self.silent_longest = [each for each in self.silent_longest if each != name]

    @rule(name=ROOMS, first=st.integers(0, 130), last=st.integers(0, 130), most=st.integers(0, 70_000))
    def look(self, name: str, first: int, last: int, most: int) -> None:
        room = self.room(name)
        found = room.remembered.slice(first, last, most)
        asked = [chat for chat in room.chats if first <= chat.seq <= last]
        assert found == take_bytes(asked, most)
        assert found == asked[: len(found)]
        assert bool(found) == bool(asked)
        assert sum(map(cost_bytes, found[:-1])) < max(1, most)

    @invariant()
    def what_is_kept_is_what_should_be(self) -> None:
        for room in self.rooms.values():
            remembered = room.remembered
            assert (remembered.last, remembered.count) == (room.last, len(room.chats))
            assert remembered.first == room.last - len(room.chats) + 1
            assert remembered.bytes == room.cost
            assert remembered.slice(0, room.last, 10**9) == room.chats
            for seq in (remembered.first - 1, remembered.first, room.last, room.last + 1):
                expected = [chat for chat in room.chats if chat.seq == seq]
                assert remembered.get(seq) == (expected[0] if expected else None)

    @invariant()
    def nothing_else_is_held(self) -> None:
        kept = sum(isinstance(chat.text, Text) for room in self.rooms.values() for chat in room.chats)
        self.texts = [text for text in self.texts if text() is not None]
        assert len(self.texts) == kept


TestModel = Model.TestCase
TestModel.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)

"""The one table of messages (docs/protocol.md, section 2).

Each class below is one row: its name in lower case is the message's type, its annotations are the
fields in the order in which they travel. The compiled codec, the JSON form and the documentation are made
from `MESSAGES`; to add a message is to add a class here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, ClassVar, TypeVar, dataclass_transform, get_type_hints

__all__ = [
    "MAX_U64",
    "MESSAGES",
    "Ack",
    "Chat",
    "End",
    "Error",
    "Field",
    "FieldType",
    "Goodbye",
    "History",
    "Join",
    "Joined",
    "Lagged",
    "Leave",
    "Left",
    "Login",
    "Message",
    "Moderate",
    "Nick",
    "Notice",
    "Ping",
    "Pong",
    "Renamed",
    "Roster",
    "Say",
    "Search",
    "Side",
    "Tell",
    "Told",
    "Welcome",
    "Who",
]

MAX_U64 = 2**53 - 1
"""The largest `u64` of the protocol, so that JSON and JavaScript hold every one exactly."""


class Side(Enum):
    """Who decodes: a server is strict, a client lets the server grow."""

    CLIENT = "client"
    SERVER = "server"


class FieldType(Enum):
    """How a field travels; the value is its name in the documentation."""

    U8 = "u8"
    U16 = "u16"
    U32 = "u32"
    U64 = "u64"
    STR = "str"
    STRS = "u16 x str"


U8 = Annotated[int, FieldType.U8]
U16 = Annotated[int, FieldType.U16]
U32 = Annotated[int, FieldType.U32]
U64 = Annotated[int, FieldType.U64]
Str = Annotated[str, FieldType.STR]
Strs = Annotated[tuple[str, ...], FieldType.STRS]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message."""

    name: str
    type: FieldType


class Message:
    """One message of the protocol; the subclasses are frozen dataclasses with slots."""

    __slots__ = ()
    kind: ClassVar[int]
    """The byte that names the message on the wire; from 0x80 on it is the server who sends it."""
    type: ClassVar[str]
    """The name that the JSON form has in `type`."""
    meaning: ClassVar[str]
    fields: ClassVar[tuple[Field, ...]]


MESSAGES: dict[int, type[Message]] = {}
"""Every message by its kind, in the order of the protocol's tables."""

M = TypeVar("M", bound=Message)


@dataclass_transform(frozen_default=True)
def _row(kind: int, meaning: str) -> Callable[[type[M]], type[M]]:
    """Enter a class into the table."""

    def enter(declared: type[M]) -> type[M]:
        cls = dataclass(frozen=True, slots=True)(declared)
        cls.kind = kind
        cls.type = cls.__name__.lower()
        cls.meaning = meaning
        cls.__doc__ = f"`{cls.type}` (0x{kind:02X}): {meaning}."
        hints = get_type_hints(declared, include_extras=True)
        cls.fields = tuple(Field(name, hints[name].__metadata__[0]) for name in declared.__annotations__)
        MESSAGES[kind] = cls
        return cls

    return enter


@_row(
    0x01,
    "the first `join` opens the session under `nick` and enters `room`; a later one enters another room. "
    "`limit` asks for that many kept messages, `after` for those newer than that sequence number",
)
class Join(Message):  # noqa: D101 - each row's docstring is made from its meaning
    nick: Str
    room: Str = ""
    epoch: U64 = 0
    after: U64 = 0
    limit: U16 = 0


@_row(0x02, "say something in a room one has joined")
class Say(Message):  # noqa: D101
    id: U64
    room: Str
    text: Str


@_row(
    0x03,
    "leave a room; with the empty room, end the session: the server closes the connection once everything is "
    "flushed",
)
class Leave(Message):  # noqa: D101
    room: Str


@_row(0x04, "take another nickname")
class Nick(Message):  # noqa: D101
    nick: Str


@_row(0x05, "ask for the roster of a room")
class Who(Message):  # noqa: D101
    room: Str


@_row(0x06, "the newest `limit` kept messages older than `before` (0: the newest of all)")
class History(Message):  # noqa: D101
    room: Str
    before: U64
    limit: U16


@_row(0x07, "say something to one person")
class Tell(Message):  # noqa: D101
    id: U64
    nick: Str
    text: Str


@_row(0x08, "ask for a `pong`")
class Ping(Message):  # noqa: D101
    token: U64


@_row(0x09, "authenticate, before `join`")
class Login(Message):  # noqa: D101
    user: Str
    secret: Str

    def __repr__(self) -> str:
        return f"Login(user={self.user!r}, secret=...)"  # it may end up in a log


@_row(0x0A, "the newest `limit` kept messages of the room that match")
class Search(Message):  # noqa: D101
    room: Str
    query: Str
    limit: U16


@_row(0x0B, "1 kick, 2 ban, 3 unban, 4 mute, 5 unmute; for operators")
class Moderate(Message):  # noqa: D101
    action: U8
    room: Str
    nick: Str
    seconds: U32
    reason: Str


@_row(0x81, "the session is open; `id` is never used twice by one server process")
class Welcome(Message):  # noqa: D101
    id: U64
    nick: Str
    epoch: U64
    server: Str


@_row(0x82, "someone entered")
class Joined(Message):  # noqa: D101
    room: Str
    nick: Str


@_row(0x83, "someone left")
class Left(Message):  # noqa: D101
    room: Str
    nick: Str
    reason: Str


@_row(0x84, "someone said something; `time` is milliseconds since 1970-01-01T00:00Z")
class Chat(Message):  # noqa: D101
    room: Str
    seq: U64
    time: U64
    nick: Str
    text: Str


@_row(0x85, "sent once to everyone who shares a room with them, and to themselves")
class Renamed(Message):  # noqa: D101
    old: Str
    new: Str


@_row(
    0x86,
    "who is in the room (at most 1,000 names, `total` counts them all) and the room's newest sequence number",
)
class Roster(Message):  # noqa: D101
    room: Str
    last: U64
    total: U32
    nicks: Strs


@_row(
    0x87,
    "closes a replay; the range that was sent (0, 0 if nothing). `status`: 0 nothing is missing, 1 older "
    "messages exist that were not sent, 2 the sequence started anew (the client's `epoch` is not the "
    "server's, or `after` lies ahead of the room)",
)
class End(Message):  # noqa: D101
    room: Str
    first: U64
    last: U64
    status: U8


@_row(0x88, "someone said something to you alone")
class Told(Message):  # noqa: D101
    time: U64
    nick: Str
    text: Str


@_row(0x89, "the answer to `ping`, with its token")
class Pong(Message):  # noqa: D101
    token: U64


@_row(0x8A, "your `say` is kept and ordered; for a `tell`, `seq` is 0")
class Ack(Message):  # noqa: D101
    id: U64
    seq: U64
    time: U64


@_row(0x8B, "something was refused; `id` names the `say` or `tell`, else 0")
class Error(Message):  # noqa: D101
    code: U16
    id: U64
    text: Str


@_row(0x8C, "a line from the server for people to read")
class Notice(Message):  # noqa: D101
    text: Str


@_row(0x8D, "you were too slow: these will come later, from history")
class Lagged(Message):  # noqa: D101
    room: Str
    first: U64
    last: U64


@_row(0x8E, "the server is about to close the connection; come back after that time")
class Goodbye(Message):  # noqa: D101
    retry_ms: U32
    text: Str

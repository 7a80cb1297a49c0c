"""Messages made from the table, and bytes fed in cuts: what the tests of the wire share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import strategies as st

from chatproto.wire.chat import FrameDecoder
from chatproto.wire.errors import ProtocolError
from chatproto.wire.messages import MAX_U64, MESSAGES, FieldType, Message, Side

MAXIMA = {FieldType.U8: 255, FieldType.U16: 65_535, FieldType.U32: 4_294_967_295, FieldType.U64: MAX_U64}
"""The largest number of each width; written out, since the package derives its own."""

CLIENT_CLASSES = [cls for cls in MESSAGES.values() if cls.kind < 0x80]
SERVER_CLASSES = [cls for cls in MESSAGES.values() if cls.kind >= 0x80]
CLASSES = CLIENT_CLASSES + SERVER_CLASSES

NUMBERS = [
    pytest.param(cls, field.name, MAXIMA[field.type], id=f"{cls.type}-{field.name}")
    for cls in CLASSES
    for field in cls.fields
    if field.type in MAXIMA
]
"""Every field that is a number, for `pytest.mark.parametrize`: class, name and largest value."""

STRINGS = [
    pytest.param(cls, field.name, id=f"{cls.type}-{field.name}")
    for cls in CLASSES
    for field in cls.fields
    if field.type is FieldType.STR
]
"""Every field that is a string, likewise: class and name."""

MOST = 2**24 - 1
"""The largest `max_frame_bytes`."""

_FIELDS: dict[FieldType, st.SearchStrategy[Any]] = {
    **{width: st.integers(0, most) | st.just(most) for width, most in MAXIMA.items()},
    FieldType.STR: st.text(max_size=30),
    FieldType.STRS: st.lists(st.text(max_size=10), max_size=5).map(tuple),
}


def of_class(cls: type[Message]) -> st.SearchStrategy[Message]:
    """Any message of *cls*."""
    return st.tuples(*(_FIELDS[field.type] for field in cls.fields)).map(lambda values: cls(*values))


def messages(classes: Iterable[type[Message]] = CLASSES) -> st.SearchStrategy[Message]:
    """Any message of *classes*."""
    return st.one_of(*map(of_class, classes))


def plain(cls: type[Message], **changed: Any) -> Message:
    """A short message of *cls*, with the fields in *changed* as they are given there."""
    usual = {FieldType.STR: "some", FieldType.STRS: ("one", "two")}
    values: dict[str, Any] = {field.name: usual.get(field.type, 1) for field in cls.fields}
    return cls(**values | changed)


def with_strings(cls: type[Message], value: str) -> Message:
    """A short message of *cls* with *value* in every string."""
    return plain(cls, **{field.name: value for field in cls.fields if field.type is FieldType.STR})


def decoding_side(cls: type[Message]) -> Side:
    """Who decodes messages of *cls*."""
    return Side.SERVER if cls.kind < 0x80 else Side.CLIENT


def framed(body: bytes) -> bytes:
    """*body*, a kind with its payload, as a frame."""
    return len(body).to_bytes(4, "big") + body


SKIPPED = framed(b"\xfe" + b"x" * 12)
"""What a client ignores: a frame for which a decoder makes no objects."""

FAULTS = {
    "zero length": b"\0\0\0\0",
    "too big": b"\0\1\0\1",
    "unknown kind": framed(b"\x55"),
    "overrun": framed(b"\x03\0\5"),
    "surplus": framed(b"\x03\0\0a"),
    "not UTF-8": framed(b"\x03\0\1\xff"),
    "2^53": framed(b"\x08\0\x20\0\0\0\0\0\0"),
}
"""One of each fault that a server finds."""


def decoded(
    side: Side, pieces: Iterable[bytes], max_frame_bytes: int = 65_536
) -> tuple[list[Message], ProtocolError | None]:
    """What a new decoder makes of *pieces*: the messages, and the fault if there is one."""
    decoder = FrameDecoder(side, max_frame_bytes)
    return [message for piece in pieces for message in decoder.receive(piece)], decoder.fault


def one_by_one(data: bytes) -> Iterator[bytes]:
    """*data* cut into single bytes."""
    return (data[i : i + 1] for i in range(len(data)))


def in_two(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every cut of *data* into two pieces."""
    return ((data[:i], data[i:]) for i in range(len(data) + 1))


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Any cut of *data*; empty pieces too."""
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]

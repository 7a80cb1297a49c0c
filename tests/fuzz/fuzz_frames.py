"""Feed the frame engine bytes that nobody would send, and see that it keeps its promises.

`python tests/fuzz/fuzz_frames.py --inputs 1000000` tries that many inputs and prints the seed that makes
the same ones again. Whatever the bytes:

- a decoder gives what a plain reading of the protocol gives, `read_plainly`: messages, perhaps a fault, and
  never an exception; and it gives the same in one piece and in any cut;
- messages are of the kinds that the other side sends; each encodes and decodes to itself, and what a server
  decodes is byte for byte what it would encode;
- no more than the frame that has begun is kept, and nothing after a fault.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

# What is tried is an installed chatproto, if there is one.
sys.path += map(str, Path(__file__).resolve().parents[1:3])

from fuzz.trying import Changing, bare, expect, hexed, try_all

from chatproto.wire.chat import FrameDecoder, encode_frame
from chatproto.wire.errors import ErrorCode, ProtocolError
from chatproto.wire.messages import MAX_U64, MESSAGES, FieldType, Message, Side

HEADER_BYTES = 4
LIMITS = (1, 9, 40, 200, *[65_536] * 16)
MOST = 2**24 - 1
MAXIMA = {FieldType.U8: 2**8 - 1, FieldType.U16: 2**16 - 1, FieldType.U32: 2**32 - 1, FieldType.U64: MAX_U64}
STRINGS = (
    "",
    "a",
    "lobby",
    "\0\x7f",
    "Åsa-李",
    "\ud7ff\ue000\U0010ffff",
    "👋🏽 line\nline",
    "x" * 60,
    "y" * 300,
)
SENT_TO = {
    Side.SERVER: frozenset(cls for kind, cls in MESSAGES.items() if kind < 0x80),
    Side.CLIENT: frozenset(cls for kind, cls in MESSAGES.items() if kind >= 0x80),
}


def read_plainly(side: Side, limit_bytes: int, data: bytes) -> tuple[list[Message], ErrorCode | None, int]:
    """Decode *data* as the protocol reads, without regard to speed.

    The messages, the code of the fault, and how many bytes of a frame that has begun are left.
    """
    messages: list[Message] = []
    while len(data) >= HEADER_BYTES:
        length = int.from_bytes(data[:HEADER_BYTES], "big")
        if length == 0:
            return messages, ErrorCode.MALFORMED, 0
        if length > limit_bytes:
            return messages, ErrorCode.TOO_BIG, 0
        if length > len(data) - HEADER_BYTES:
            break
        kind, payload = data[HEADER_BYTES], data[HEADER_BYTES + 1 : HEADER_BYTES + length]
        data = data[HEADER_BYTES + length :]
        cls = MESSAGES.get(kind)
        if cls is None or cls not in SENT_TO[side]:
            if side is Side.SERVER:
                return messages, ErrorCode.MALFORMED, 0
            continue
        values = []
        try:
            for field in cls.fields:
                value, payload = _READ[field.type](payload)
                values.append(value)
        except ValueError:
            return messages, ErrorCode.MALFORMED, 0
        if payload and side is Side.SERVER:
            return messages, ErrorCode.MALFORMED, 0
        messages.append(cls(*values))
    return messages, None, len(data)


def _take(payload: bytes, size: int) -> tuple[bytes, bytes]:
    if size > len(payload):
        raise ValueError("the payload ends first")
    return payload[:size], payload[size:]


def _read_number(payload: bytes, size: int) -> tuple[int, bytes]:
    raw, payload = _take(payload, size)
    number = int.from_bytes(raw, "big")
    if number > MAX_U64:
        raise ValueError("2^53 or more")
    return number, payload


def _read_str(payload: bytes) -> tuple[str, bytes]:
    size, payload = _read_number(payload, 2)
    raw, payload = _take(payload, size)
    return raw.decode("utf-8"), payload


def _read_strs(payload: bytes) -> tuple[tuple[str, ...], bytes]:
    count, payload = _read_number(payload, 2)
    strings = []
    for _ in range(count):
        string, payload = _read_str(payload)
        strings.append(string)
    return tuple(strings), payload


_READ: dict[FieldType, Callable[[bytes], tuple[Any, bytes]]] = {
    FieldType.U8: lambda payload: _read_number(payload, 1),
    FieldType.U16: lambda payload: _read_number(payload, 2),
    FieldType.U32: lambda payload: _read_number(payload, 4),
    FieldType.U64: lambda payload: _read_number(payload, 8),
    FieldType.STR: _read_str,
    FieldType.STRS: _read_strs,
}


class Inputs(Changing):
    """An endless row of inputs, the same for the same *seed*."""

    INTERESTING = (
        b"\0",
        b"\xff",
        b"\0\0",
        b"\0\1",
        b"\xff\xff",
        b"\x80\0",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\0\x20\0\0\0\0\0\0",
    )

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._frames = [encode_frame(self._message(cls)) for _ in range(8) for cls in MESSAGES.values()]
        from_client = [frame for frame in self._frames if frame[HEADER_BYTES] < 0x80]
        from_server = [frame for frame in self._frames if frame[HEADER_BYTES] >= 0x80]
        self._senders = (from_client, from_client, from_server, from_server, self._frames)
        self._changes: tuple[Callable[[bytearray], None], ...] = (
            self._flip_bits,
            self._truncate,
            self._lie_about_a_length,
            self._change_the_kind,
            self._write_something_interesting,
            self._insert,
            self._remove,
        )

    def draw(self, number: int) -> tuple[int, bytes, list[bytes]]:
        """A bound, an input and the same in pieces."""
        data = self.next()
        return self.limit_bytes(), data, self.cut(data)

    def check(self, found: Counter[str], *drawn: Any) -> None:
        """Both sides keep their promises."""
        for side in Side:
            messages, fault = check(side, *drawn)
            found["that gave messages"] += bool(messages)
            found["that gave a fault"] += fault is not None
            found["that gave neither"] += not messages and fault is None
            for message in messages:
                found[message.type] += 1
            if fault is not None:
                found[fault.code.label] += 1

    def show(self, *drawn: Any) -> str:
        """The bound, and the pieces."""
        limit_bytes, _, pieces = drawn
        return f"max_frame_bytes {limit_bytes}\n  {hexed(pieces)}"

    def next(self) -> bytes:
        """The next input: some frames, most often with something wrong."""
        chance = self._random.random
        if chance() < 0.03:
            return self._random.randbytes(int(chance() * 40))
        frames = self._senders[int(chance() * len(self._senders))]
        count = int(chance() * 4) + 1
        data = bytearray(b"".join([frames[int(chance() * len(frames))] for _ in range(count)]))
        if chance() < 0.1:
            self._splice(data)
        while data and chance() < 0.6:
            self._changes[int(chance() * len(self._changes))](data)
        return bytes(data)

    def limit_bytes(self) -> int:
        """A `max_frame_bytes`; most often the usual one."""
        return LIMITS[int(self._random.random() * len(LIMITS))]

    def _message(self, cls: type[Message]) -> Message:
        choice, randrange = self._random.choice, self._random.randrange
        values: list[object] = []
        for field in cls.fields:
            if field.type is FieldType.STR:
                values.append(choice(STRINGS))
            elif field.type is FieldType.STRS:
                values.append(tuple(choice(STRINGS) for _ in range(randrange(5))))
            else:
                values.append(choice((0, 1, randrange(MAXIMA[field.type]), MAXIMA[field.type])))
        return cls(*values)

    def _lie_about_a_length(self, data: bytearray) -> None:
        near = int.from_bytes(data[:HEADER_BYTES], "big") + int(self._random.random() * 9) - 4
        data[:HEADER_BYTES] = (near & 0xFFFFFFFF).to_bytes(HEADER_BYTES, "big")

    def _change_the_kind(self, data: bytearray) -> None:
        data[min(HEADER_BYTES, len(data) - 1)] = int(self._random.random() * 256)

    def _splice(self, data: bytearray) -> None:
        """The end of another frame behind the beginning of this one."""
        other = self._frames[int(self._random.random() * len(self._frames))]
        del data[self._place(data) :]
        data += other[int(self._random.random() * len(other)) :]


def decode(
    side: Side, limit_bytes: int, pieces: Iterable[bytes]
) -> tuple[list[Message], ProtocolError | None, int]:
    """The messages, the fault and the number of bytes kept, of *pieces* fed to a new decoder."""
    decoder = FrameDecoder(side, limit_bytes)
    messages: list[Message] = []
    for piece in pieces:
        messages += decoder.receive(bare(piece))
        if decoder.buffered_bytes:
            expect(decoder.fault is None, "nothing is kept after a fault")
            expect(decoder.buffered_bytes < HEADER_BYTES + limit_bytes, "less than one frame is kept")
    return messages, decoder.fault, decoder.buffered_bytes


def check(
    side: Side, limit_bytes: int, data: bytes, pieces: list[bytes]
) -> tuple[list[Message], ProtocolError | None]:
    """Decode *data* whole and in *pieces* and see that every promise is kept; what was found."""
    found = messages, fault, kept_bytes = decode(side, limit_bytes, [data])
    expect(fault is None or type(fault) is ProtocolError, "a fault is a ProtocolError")
    plainly = read_plainly(side, limit_bytes, data)
    expect((messages, fault and fault.code, kept_bytes) == plainly, "a decoder gives what the protocol reads")
    expect(decode(side, limit_bytes, pieces) == found, "the same bytes give the same in any cut")
    if messages:
        expect(SENT_TO[side].issuperset(map(type, messages)), "messages are those that the other side sends")
        again = b"".join(map(encode_frame, messages))
        expect(decode(side, MOST, [again]) == (messages, None, 0), "a message encodes and decodes to itself")
        expect(side is Side.CLIENT or data.startswith(again), "a server decodes what it would encode")
    return messages, fault


if __name__ == "__main__":
    sys.exit(try_all(Inputs, "Feed the frame engine bytes that nobody would send."))

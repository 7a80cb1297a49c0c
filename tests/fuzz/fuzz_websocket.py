"""Feed the WebSocket engine bytes that nobody would send, and see that it keeps its promises.

`python tests/fuzz/fuzz_websocket.py --inputs 1000000` tries that many inputs and prints the seed that makes
the same ones again. Whatever the bytes:

- a decoder gives events or a fault and raises nothing, and gives the same in one piece and in any cut, with
  an *inflate* and without;
- without one it gives exactly what a slow decoder gives, written again from RFC 6455 (`websocket_model`);
- every event encodes and decodes to itself;
- no more than a message, a frame and a header is kept, and nothing after a fault or a close frame.
"""

from __future__ import annotations

import sys
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What is tried is an installed chatproto, if there is one.
sys.path += map(str, Path(__file__).resolve().parents[1:3])

from fuzz.trying import Changing, bare, expect, hexed, try_all
from wire.websocket_model import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Model,
    close_payload,
    frame,
    masked,
)

from chatproto.wire.closing import CloseFault
from chatproto.wire.encoding import encode_close, encode_frame, encode_masked
from chatproto.wire.messages import Side
from chatproto.wire.websocket import Event, Inflate, Opcode, WebSocketDecoder

LIMITS = (1, 9, 130, 300, *[65_536] * 16)
MAX_HEADER_BYTES = 14
MAX_CONTROL_BYTES = 125
GOOD = (
    b"",
    b"a",
    b"Hello",
    b"more than eight ASCII",
    "Åsa-李 👋🏽".encode(),
    "\ud7ff\ue000\U0010ffff".encode(),
    b"x" * 125,
    b"y" * 126,
    b"z" * 300,
)
PAYLOADS = (
    *GOOD * 4,
    bytes(range(256)),
    b"half \xf0\x9f",
    b"\x91\x8b behind",
    b"\xed\xa0\x80",
    b"\xff",
)
CLOSING = (
    b"",
    b"\x03",
    close_payload(1000),
    close_payload(1001, "geht, tschüß".encode()),
    close_payload(4999, b"x" * 123),
    close_payload(1005),
    close_payload(1000, b"\xc3"),
    close_payload(2999),
)
LENGTHS = (0, 1, 125, 126, 127, 65_535, 65_536, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)


class Zlib:
    """An *inflate* without memory of earlier messages."""

    class Fault(ValueError):
        """What the data did wrong."""

        def __init__(self, code: int, reason: str) -> None:
            super().__init__(reason)
            self.code, self.reason = code, reason

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(-15)

    def decompress(self, data: bytes, max_bytes: int) -> bytes:
        """What *data* inflates to."""
        try:
            inflated = self._zlib.decompress(data, max_bytes + 1)
        except zlib.error:
            raise self.Fault(1007, "cannot be inflated") from None
        if len(inflated) > max_bytes:
            raise self.Fault(1009, "inflates to too much")
        return inflated

    def finish(self, max_bytes: int) -> bytes:
        """The rest of the message."""
        inflated = self.decompress(b"\0\0\xff\xff", max_bytes)
        self._zlib = zlib.decompressobj(-15)
        return inflated


class Inputs(Changing):
    """An endless row of inputs, the same for the same *seed*."""

    INTERESTING = (
        b"\0",
        b"\xff",
        b"\x7e",
        b"\x7f",
        b"\xfe\0\x7d",
        b"\xff\0\0\0\0\0\0\xff\xff",
        b"\x7f" + b"\xff" * 8,
    )

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._deflated = [self._deflate(payload) for payload in PAYLOADS]
        self._messages = {side: [self._message(side) for _ in range(300)] for side in Side}
        self._changes: tuple[Callable[[bytearray], None], ...] = (
            self._flip_bits,
            self._truncate,
            self._change_the_start,
            self._write_something_interesting,
            self._insert,
            self._remove,
        )

    def draw(self, number: int) -> tuple[Side, int, bytes, list[bytes]]:
        """A side, a bound, an input for it and the same in pieces."""
        side = tuple(Side)[number % 2]
        data = self.next(side)
        return side, self.limit_bytes(), data, self.cut(data)

    def check(self, found: Counter[str], *drawn: Any) -> None:
        """See the promises above."""
        events, fault = check(*drawn)
        found["that gave events"] += bool(events)
        found["that gave a fault"] += fault is not None
        found["that gave neither"] += not events and fault is None
        for event in events:
            found[event.opcode.name.lower()] += 1
        if fault is not None:
            found[fault.reason if fault.code != 1009 else "too big"] += 1

    def show(self, *drawn: Any) -> str:
        """The side, the bound, and the pieces."""
        side, limit_bytes, _, pieces = drawn
        return f"side {side.value}, max_message_bytes {limit_bytes}\n  {hexed(pieces)}"

    def tell(self, found: Counter[str]) -> list[str]:
        """Faults are sentences, so each has a line."""
        return [f"{count:7} {name}" for name, count in sorted(found.items())]

    def next(self, side: Side) -> bytes:
        """The next input for *side*: some frames, most often with something wrong."""
        chance = self._random.random
        if chance() < 0.03:
            return self._random.randbytes(int(chance() * 40))
        messages = self._messages[side]
        count = int(chance() * 4) + 1
        data = bytearray(b"".join([messages[int(chance() * len(messages))] for _ in range(count)]))
        while data and chance() < 0.5:
            self._changes[int(chance() * len(self._changes))](data)
        return bytes(data)

    def limit_bytes(self) -> int:
        """A `max_message_bytes`; most often one that everything here fits in."""
        return LIMITS[int(self._random.random() * len(LIMITS))]

    def _deflate(self, payload: bytes) -> bytes:
        deflating = zlib.compressobj(wbits=-15)
        return (deflating.compress(payload) + deflating.flush(zlib.Z_SYNC_FLUSH)).removesuffix(
            b"\0\0\xff\xff"
        )

    def _message(self, side: Side) -> bytes:
        """A message in any number of frames, with control frames between them, or one frame of any kind."""
        choice, randrange = self._random.choice, self._random.randrange
        if randrange(4) == 0:
            return self._frame(side, choice((CLOSE, PING, PONG, randrange(16))), True, 0)
        data = b""
        rsv = choice((0, 0, 0, 0, 4))
        fragments = choice((1, 1, 1, 1, 2, 3, 9))
        for i in range(fragments):
            opcode = choice((TEXT, TEXT, BINARY)) if i == 0 else CONTINUATION
            data += self._frame(side, opcode, i == fragments - 1, 0 if i else rsv)
            if randrange(5) == 0:
                data += self._frame(side, choice((PING, PONG)), True, 0)
        return data

    def _frame(self, side: Side, opcode: int, fin: bool, rsv: int) -> bytes:
        choice, chance = self._random.choice, self._random.random
        payload = choice(CLOSING if opcode == CLOSE else self._deflated if rsv else PAYLOADS)
        if opcode in (PING, PONG):
            payload = payload[: MAX_CONTROL_BYTES + (chance() < 0.05)]
        length = choice(LENGTHS) if chance() < 0.02 else None
        widths = (2, 8) if (len(payload) if length is None else length) < 65_536 else (8,)
        return frame(
            opcode,
            payload,
            to=side,
            fin=fin,
            rsv=self._random.randrange(8) if chance() < 0.02 else rsv,
            key=self._random.randbytes(4),
            length=length,
            width=choice(widths) if chance() < 0.02 else None,
            is_masked=side is Side.CLIENT if chance() < 0.01 else None,
        )

    def _change_the_start(self, data: bytearray) -> None:
        data[0] = int(self._random.random() * 256)


def decode(
    side: Side, limit_bytes: int, pieces: list[bytes], inflate: Inflate | None = None
) -> tuple[list[Event], CloseFault | None]:
    """The events and the fault in *pieces*; what is kept meanwhile is checked."""
    decoder = WebSocketDecoder(side, limit_bytes, None, inflate)
    most = 2 * limit_bytes + 64 + MAX_CONTROL_BYTES + MAX_HEADER_BYTES
    events: list[Event] = []
    for piece in pieces:
        events += decoder.receive(bare(piece))
        if decoder.buffered_bytes:
            expect(decoder.fault is None, "nothing is kept after a fault")
            expect(not events or events[-1].opcode is not Opcode.CLOSE, "nor after a close frame")
            expect(decoder.buffered_bytes <= most, "no more than one message, frame and header is kept")
    return events, decoder.fault


def encoded(event: Event, side: Side) -> bytes:
    """*event* as the frame that *side* would decode."""
    data = event.data.encode() if isinstance(event.data, str) else event.data
    if event.opcode is Opcode.CLOSE:
        data = encode_close(None if event.code == 1005 else event.code, str(event.data))
    if side is Side.CLIENT:
        return encode_frame(event.opcode, bare(data))
    made = encode_masked(event.opcode, bare(data))
    start = len(made) - len(data)
    expect(made[start:] == masked(data, made[start - 4 : start]), "a client masks with the key that it tells")
    return made


def check(
    side: Side, limit_bytes: int, data: bytes, pieces: list[bytes]
) -> tuple[list[Event], CloseFault | None]:
    """Decode *data* whole and in *pieces* and see that every promise is kept; what was found."""
    events, fault = decode(side, limit_bytes, [data])
    expect(decode(side, limit_bytes, pieces) == (events, fault), "the same bytes give the same in any cut")
    model = Model(side, limit_bytes, limit_bytes).decode(data)
    expect(events == model.events, f"the events are those of the model: {model.events}")
    expect((fault and fault.code) == model.fault, f"the fault is that of the model: {model.fault}")
    inflated = decode(side, limit_bytes, [data], Zlib())
    expect(decode(side, limit_bytes, pieces, Zlib()) == inflated, "compressed or not, in any cut")
    expect(inflated[0][: len(events)] == events, "what is not compressed is the same with an inflate")
    if inflated[0]:
        again = b"".join([encoded(event, side) for event in inflated[0]])
        expect(
            decode(side, 2**20, [again]) == (inflated[0], None), "every event encodes and decodes to itself"
        )
    return inflated


if __name__ == "__main__":
    sys.exit(try_all(Inputs, "Feed the WebSocket engine bytes that nobody would send."))

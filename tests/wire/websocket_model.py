"""RFC 6455, section 5, a second time: frames built byte by byte, and a slow decoder to compare with.

Nothing here uses what it judges but the classes of the results.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass, field

from chatproto.wire.closing import CloseFault
from chatproto.wire.messages import Side
from chatproto.wire.websocket import Event, Inflate, Opcode, WebSocketDecoder

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

KEY = b"\x37\xfa\x21\x3d"
MIB = 1_048_576


def other(side: Side) -> Side:
    """The side that sends what *side* decodes."""
    return Side.CLIENT if side is Side.SERVER else Side.SERVER


def masked(payload: bytes, key: bytes) -> bytes:
    """*payload* under *key*; masking it again gives it back (section 5.3)."""
    keys = (key * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")).to_bytes(len(payload), "big")


def length_field(length: int, width: int | None = None) -> tuple[int, bytes]:
    """The seven bits and what follows them; in *width* bytes, or else in as few as it takes."""
    if width is None:
        width = 0 if length < 126 else 2 if length < 65_536 else 8
    return (length if width == 0 else 126 if width == 2 else 127), (
        length.to_bytes(width, "big") if width else b""
    )


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    to: Side = Side.SERVER,
    fin: bool = True,
    rsv: int = 0,
    key: bytes = KEY,
    is_masked: bool | None = None,
    length: int | None = None,
    width: int | None = None,
) -> bytes:
    """A frame to *to*, with whatever is wrong with it: *rsv* 4 is RSV1, *length* and *width* may be lies."""
    if is_masked is None:
        is_masked = to is Side.SERVER
    seven_bits, extended = length_field(len(payload) if length is None else length, width)
    header = bytes([fin << 7 | rsv << 4 | opcode, is_masked << 7 | seven_bits]) + extended
    return header + key + masked(payload, key) if is_masked else header + payload


def close_payload(code: int, reason: bytes = b"") -> bytes:
    """What stands in a close frame."""
    return code.to_bytes(2, "big") + reason


def decoded(
    side: Side,
    pieces: Iterable[bytes],
    max_message_bytes: int = MIB,
    max_frame_bytes: int | None = None,
    inflate: Inflate | None = None,
) -> tuple[list[Event], CloseFault | None]:
    """What a new decoder makes of *pieces*: the events, and the fault if there is one."""
    decoder = WebSocketDecoder(side, max_message_bytes, max_frame_bytes, inflate)
    return [event for piece in pieces for event in decoder.receive(piece)], decoder.fault


class Failed(Exception):
    """The stream is at fault; the argument is the close code."""


@dataclass
class Model:
    """Decodes a stream that is there as a whole, without extensions."""

    side: Side
    max_message_bytes: int = MIB
    max_frame_bytes: int = MIB
    events: list[Event] = field(default_factory=list)
    fault: int | None = None
    kept_bytes: int = 0
    _opcode: int = CONTINUATION
    _message: bytes = b""

    def decode(self, stream: bytes) -> Model:
        """Find the events, then the fault or how many bytes of what is unfinished have to be kept."""
        try:
            while stream and CLOSE not in [event.opcode for event in self.events[-1:]]:
                used = self._frame(stream)
                if not used:
                    return self
                stream = stream[used:]
            self.kept_bytes = len(self._message)
        except Failed as failed:
            self.fault = failed.args[0]
            self.kept_bytes = 0
        if any(event.opcode is Opcode.CLOSE for event in self.events):
            self.kept_bytes = 0
        return self

    def _frame(self, stream: bytes) -> int:
        """Take one frame; its length, or 0 if it is not all there."""
        self.kept_bytes = len(self._message) + len(stream)
        if len(stream) < 2:
            return 0
        fin, rsv, opcode = stream[0] >> 7, stream[0] >> 4 & 7, stream[0] & 15
        control = opcode >= 8
        if (
            rsv
            or opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG)
            or (control and (not fin or stream[1] & 127 > 125))
            or (not control and (opcode == CONTINUATION) != (self._opcode != CONTINUATION))
            or (stream[1] >> 7) != (self.side is Side.SERVER)
        ):
            raise Failed(1002)
        width = {126: 2, 127: 8}.get(stream[1] & 127, 0)
        if len(stream) < 2 + width:
            return 0
        length = int.from_bytes(stream[2 : 2 + width], "big") if width else stream[1] & 127
        if length >= 2**63 or length_field(length, width) != length_field(length):
            raise Failed(1002)
        if not control and (
            length > self.max_frame_bytes or len(self._message) + length > self.max_message_bytes
        ):
            raise Failed(1009)
        start = 2 + width + (4 if self.side is Side.SERVER else 0)
        if len(stream) < start:
            return 0
        payload = stream[start : start + length]
        if self.side is Side.SERVER:
            payload = masked(payload, stream[start - 4 : start])
        whole = len(payload) == length
        self.kept_bytes -= start
        if control:
            if whole:
                self._control(opcode, payload)
        else:
            self._data(opcode, payload, last=bool(fin and whole))
        return start + length if whole else 0

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode != CLOSE:
            self.events.append(Event(opcode, payload))
            return
        if len(payload) == 1:
            raise Failed(1002)
        code = int.from_bytes(payload[:2], "big") if payload else 1005
        if payload and code not in {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}:
            raise Failed(1002)
        try:
            self.events.append(Event(CLOSE, payload[2:].decode(), code))
        except UnicodeDecodeError:
            raise Failed(1007) from None

    def _data(self, opcode: int, payload: bytes, last: bool) -> None:
        self._opcode = self._opcode or opcode
        self._message += payload
        if self._opcode == TEXT:
            decoder = codecs.getincrementaldecoder("utf-8")()
            try:
                text = decoder.decode(self._message, last)
            except UnicodeDecodeError:
                raise Failed(1007) from None
            begun = decoder.getstate()[0]
            if begun[:1] == b"\xed" and begun[1:] >= b"\xa0":
                raise Failed(1007)  # half a surrogate pair: Python waits for its last byte
        if last:
            self.events.append(Event(self._opcode, text if self._opcode == TEXT else self._message))
            self._opcode, self._message = CONTINUATION, b""

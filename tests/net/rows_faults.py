"""What a server calls malformed, or too big, in each form (docs/protocol.md, sections 2 and 4)."""

from __future__ import annotations

from collections.abc import Callable

from forms import WebSocket
from live import Framed

from chatproto.wire.chat import encode_frame
from chatproto.wire.encoding import encode_masked
from chatproto.wire.messages import Moderate, Pong
from chatproto.wire.websocket import Opcode

__all__ = ["CLOSE_CODES", "MALFORMED", "TOO_BIG"]

Break = Callable[[Framed], None]
"""Sends what is at fault, behind what waits to be sent."""


def _bytes(data: bytes) -> Break:
    def send(client: Framed) -> None:
        client.socket.sendall(client.form.output() + data)

    return send


def _message(message: str | bytes) -> Break:
    def send(client: Framed) -> None:
        assert isinstance(client.form, WebSocket)
        client.form.send(message)
        client.send()

    return send


def _header(opcode: int, length: int) -> bytes:
    """The beginning of a frame that announces *length* bytes."""
    return bytes([0x80 | opcode, 0xFF]) + length.to_bytes(8, "big") + bytes(4)


# The payloads, with a zero for their kind where they have none of a client's.
_PAYLOADS = {
    "unknown kind": b"\x7f",
    "a kind of the server's": encode_frame(Pong(1))[4:],
    "a field that overruns the frame": b"\x08\0\0\0\0",
    "bytes after the last field": b"\x08" + bytes(9),
    "ill-formed UTF-8": b"\x04\0\2\xc3\x28",
    "a u64 of 2^53": b"\x08" + (2**53).to_bytes(8, "big"),
}

_JSON = {
    "no JSON": "hello",
    "half of it": '{"type": "ping"',
    "something behind it": '{"type": "ping"} {}',
    "no object": '["ping"]',
    "no type": '{"token": 1}',
    "unknown type": '{"type": "shout"}',
    "a type that is no string": '{"type": 8}',
    "a type of the server's": '{"type": "pong", "token": 1}',
    "a string for a number": '{"type": "ping", "token": "1"}',
    "a number for a string": '{"type": "nick", "nick": 1}',
    "null": '{"type": "nick", "nick": null}',
    "a fraction": '{"type": "ping", "token": 1.5}',
    "less than nothing": '{"type": "ping", "token": -1}',
    "true": '{"type": "ping", "token": true}',
    "NaN": '{"type": "ping", "token": NaN}',
    "a u64 of 2^53": '{"type": "ping", "token": 9007199254740992}',
    "a u16 of 2^16": '{"type": "history", "limit": 65536}',
    "half a surrogate pair": '{"type": "nick", "nick": "\\ud800"}',
    "ten thousand brackets": "[" * 10_000,
    "ten thousand digits": '{"type": "ping", "token": ' + "9" * 10_000 + "}",
}

_WEBSOCKET: dict[str, Break] = {
    "a reserved bit": _bytes(bytes([0xC0 | Opcode.BINARY, 0x80]) + bytes(4)),
    "a reserved opcode": _bytes(bytes([0x83, 0x80]) + bytes(4)),
    "a frame without a mask": _bytes(b"\x81\0"),
    "ill-formed text": _bytes(encode_masked(Opcode.TEXT, b"\xc3\x28")),
}

MALFORMED: dict[str, dict[str, Break]] = {
    "frames": {
        "zero length": _bytes(bytes(4)),
        **{name: _bytes(len(each).to_bytes(4, "big") + each) for name, each in _PAYLOADS.items()},
    },
    "bin": {
        "zero length": _message(b""),
        **{name: _message(each) for name, each in _PAYLOADS.items()},
        **_WEBSOCKET,
    },
    "json": {**{name: _message(each) for name, each in _JSON.items()}, **_WEBSOCKET},
}
"""Ways to be malformed, by form."""

_LARGE = '{"type": "moderate", "nick": "%s", "reason": "%s"}' % ("x" * 2_000, "x" * 64_000)  # noqa: UP031
assert len(encode_frame(Moderate(0, "", "x" * 2_000, 0, "x" * 64_000))) > 65_536 + 4

TOO_BIG: dict[str, dict[str, Break]] = {
    "frames": {"a length": _bytes((65_537).to_bytes(4, "big"))},
    "bin": {
        "a length": _bytes(_header(Opcode.BINARY, 65_537)),
        "a message in parts": _bytes(
            encode_masked(Opcode.BINARY, bytes(40_000), False)
            + encode_masked(Opcode.CONTINUATION, bytes(30_000))
        ),
    },
    "json": {
        "a length": _bytes(_header(Opcode.TEXT, 6 * 65_536 + 1)),
        "a message whose frame would be": _message(_LARGE),
    },
}
"""Ways to be too big where `max_frame_bytes` is 65,536, by form."""

CLOSE_CODES = {1: (1002, 1007), 2: (1009,), 3: (1002,), 11: (1008,), 15: (1008,), 16: (1008,)}
"""What a WebSocket may be closed with after each fatal error."""

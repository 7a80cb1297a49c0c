"""Decodes and builds messages without any socket: `parsers.py SUBJECT SECONDS` prints nanoseconds for each.

What is decoded comes in pieces of 64 KiB, as sockets give it, and ends as an object that holds its payload;
what is built ends as bytes.
"""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Callable

PAYLOAD = b"the quick brown fox jumps over the lazy dog; and then once more."
MASKING_KEY = b"\x37\xfa\x21\x3d"
PIECE_BYTES = 65_536
Decode = Callable[[list[bytes]], int]
Build = Callable[[int], None]


def masked_message() -> bytes:
    body = bytes(byte ^ MASKING_KEY[place % 4] for place, byte in enumerate(PAYLOAD))
    return bytes((0x82, 0x80 | len(PAYLOAD))) + MASKING_KEY + body


def chat_message() -> bytes:
    room, text = b"lobby", PAYLOAD
    body = struct.pack(">BQH", 0x02, 7, len(room)) + room + struct.pack(">H", len(text)) + text
    return struct.pack(">I", len(body)) + body


def pieces_of(message: bytes) -> list[bytes]:
    stream = message * (4 * PIECE_BYTES // len(message))
    return [stream[at : at + PIECE_BYTES] for at in range(0, len(stream), PIECE_BYTES)]


def chatproto_websocket() -> tuple[bytes, Decode, Build]:
    from chatproto.wire.encoding import encode_frame
    from chatproto.wire.messages import Side
    from chatproto.wire.websocket import WebSocketDecoder

    def decode(pieces: list[bytes]) -> int:
        decoder = WebSocketDecoder(Side.SERVER)
        return sum(len(decoder.receive(piece)) for piece in pieces)

    def build(number: int) -> None:
        for _ in range(number):
            encode_frame(2, PAYLOAD)

    return masked_message(), decode, build


def chatproto_frames() -> tuple[bytes, Decode, Build]:
    from chatproto.wire.chat import FrameDecoder, encode_frame
    from chatproto.wire.messages import Say, Side

    def decode(pieces: list[bytes]) -> int:
        decoder = FrameDecoder(Side.SERVER)
        return sum(len(decoder.receive(piece)) for piece in pieces)

    def build(number: int) -> None:
        text = PAYLOAD.decode()
        for _ in range(number):
            encode_frame(Say(7, "lobby", text))

    return chat_message(), decode, build


def websockets() -> tuple[bytes, Decode, Build]:
    from websockets.frames import Frame, Opcode
    from websockets.protocol import State
    from websockets.server import ServerProtocol

    def decode(pieces: list[bytes]) -> int:
        protocol = ServerProtocol(state=State.OPEN)
        number = 0
        for piece in pieces:
            protocol.receive_data(piece)
            number += len(protocol.events_received())
        return number

    def build(number: int) -> None:
        for _ in range(number):
            Frame(Opcode.BINARY, PAYLOAD).serialize(mask=False)

    return masked_message(), decode, build


def wsproto() -> tuple[bytes, Decode, Build]:
    from wsproto.connection import Connection, ConnectionType
    from wsproto.events import BytesMessage

    def decode(pieces: list[bytes]) -> int:
        connection = Connection(ConnectionType.SERVER)
        number = 0
        for piece in pieces:
            connection.receive_data(piece)
            # One message may be told of in two events, where a piece ends in it.
            number += sum(
                isinstance(event, BytesMessage) and event.message_finished for event in connection.events()
            )
        return number

    def build(number: int) -> None:
        connection = Connection(ConnectionType.SERVER)
        for _ in range(number):
            connection.send(BytesMessage(PAYLOAD))

    return masked_message(), decode, build


def int32() -> tuple[bytes, Decode, Build]:
    from twisted.protocols.basic import Int32StringReceiver

    head, size = struct.Struct(">BQH"), struct.Struct(">H")

    class Receiver(Int32StringReceiver):
        """Keeps what comes, its fields taken apart."""

        def __init__(self) -> None:
            self.said: list[tuple[int, str, str]] = []

        def stringReceived(self, string: bytes) -> None:
            """Take it apart, and keep it."""
            _kind, id, room_bytes = head.unpack_from(string)
            room_end = head.size + room_bytes
            room, text = string[head.size : room_end], string[room_end + size.size :]
            self.said.append((id, room.decode(), text.decode()))

    class Transport:
        """Takes what is written."""

        def write(self, data: bytes) -> None:
            """Take it."""

    def decode(pieces: list[bytes]) -> int:
        receiver = Receiver()
        number = 0
        for piece in pieces:
            receiver.dataReceived(piece)
            number += len(receiver.said)
            receiver.said.clear()
        return number

    def build(number: int) -> None:
        receiver = Receiver()
        receiver.transport = Transport()  # type: ignore[assignment]
        said = PAYLOAD.decode()
        for _ in range(number):
            room, text = b"lobby", said.encode()
            string = head.pack(2, 7, len(room)) + room + size.pack(len(text)) + text
            receiver.sendString(string)

    return chat_message(), decode, build


SUBJECTS = {
    "chatproto_websocket": chatproto_websocket,
    "chatproto_frames": chatproto_frames,
    "websockets": websockets,
    "wsproto": wsproto,
    "int32": int32,
}


def timed(work: Callable[[], int], seconds: float) -> float:
    """Nanoseconds of CPU for each of what *work* says it did."""
    work()
    begin_s, number = time.process_time(), 0
    while (spent_s := time.process_time() - begin_s) < seconds or not number:
        number += work()
    return spent_s * 1e9 / number


def main() -> None:
    name, seconds = sys.argv[1], float(sys.argv[2])
    message, decode, build = SUBJECTS[name]()
    pieces = pieces_of(message)

    def build_many() -> int:
        build(1_000)
        return 1_000

    decode_ns = timed(lambda: decode(pieces), seconds)
    print(json.dumps({"decode_ns": decode_ns, "build_ns": timed(build_many, seconds)}))


main()

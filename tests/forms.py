"""How a client of the tests speaks: in frames, or over WebSocket by `websockets`, which nobody here wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Origin, Subprotocol
from websockets.uri import parse_uri

from chatproto.wire.chat import FrameDecoder, encode_frame
from chatproto.wire.jsonform import from_json, to_json
from chatproto.wire.messages import Message, Side

__all__ = ["FORMS", "SOCKET_FORMS", "Binary", "Form", "Frames", "Json", "WebSocket", "form_named"]

MOST_BYTES = 2**24 - 1


class Form(Protocol):
    """A client's side of what travels, without a socket."""

    @property
    def closed_with(self) -> int | None:
        """The server's close code, where the form has such a thing."""

    def say(self, *messages: Message) -> None:
        """Have messages sent, as soon as that is possible."""

    def output(self) -> bytes:
        """What is to be sent now."""

    def receive(self, data: bytes) -> list[Message]:
        """Take bytes in, in any cut, and the end of the input as no bytes: the messages that came."""


class Frames:
    """Length-prefixed frames."""

    closed_with = None

    def __init__(self) -> None:
        self._decoder = FrameDecoder(Side.CLIENT, MOST_BYTES)
        self._output = b""

    def say(self, *messages: Message) -> None:
        self._output += b"".join(map(encode_frame, messages))

    def output(self) -> bytes:
        output, self._output = self._output, b""
        return output

    def receive(self, data: bytes) -> list[Message]:
        messages = self._decoder.receive(data)
        assert self._decoder.fault is None, self._decoder.fault
        return messages


class WebSocket:
    """One WebSocket of the chat. Subclasses say which subprotocol it is."""

    subprotocol: str | None = None

    def __init__(self, *, deflate: bool = False, origin: str | None = None, path: str = "/chat") -> None:
        self.peer = ClientProtocol(
            parse_uri(f"ws://localhost{path}"),
            subprotocols=[Subprotocol(self.subprotocol)] if self.subprotocol else None,
            extensions=[ClientPerMessageDeflateFactory()] if deflate else None,
            origin=Origin(origin) if origin else None,
            max_size=MOST_BYTES,
        )
        self.compressed = 0
        """Messages that came compressed."""
        self._waiting: list[Callable[[], None]] = []
        self.peer.send_request(self.peer.connect())

    @property
    def closed_with(self) -> int | None:
        return self.peer.close_rcvd.code if self.peer.close_rcvd else None

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.send(self.encode(message))

    def send(self, message: str | bytes) -> None:
        """Have a text or binary message sent, whatever is in it."""

        def send() -> None:
            if isinstance(message, str):
                self.peer.send_text(message.encode())
            else:
                self.peer.send_binary(message)

        if self.peer.state is State.CONNECTING:
            self._waiting.append(send)
        elif self.peer.state is State.OPEN:
            send()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Begin to close."""
        self.peer.send_close(code, reason)

    def output(self) -> bytes:
        return b"".join(self.peer.data_to_send())

    def receive(self, data: bytes) -> list[Message]:
        was_opening = self.peer.state is State.CONNECTING
        if data:
            self.peer.receive_data(data)
        else:
            self.peer.receive_eof()
        if was_opening and self.peer.state is not State.CONNECTING:
            assert self.peer.handshake_exc is None, self.peer.handshake_exc
            assert self.peer.subprotocol == self.subprotocol
            for send in self._waiting:
                send()
            self._waiting.clear()
        # Whoever is only gone has not cut a message short.
        fault = self.peer.parser_exc
        assert fault is None or "unexpected end of stream" in str(fault), fault
        messages = []
        for event in self.peer.events_received():
            if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY):
                assert event.fin
                messages.append(self.decode(event))
        return messages

    def encode(self, message: Message) -> str | bytes:
        raise NotImplementedError

    def decode(self, frame: Frame) -> Message:
        raise NotImplementedError


class Binary(WebSocket):
    """`chat.v1.bin`."""

    subprotocol = "chat.v1.bin"

    def encode(self, message: Message) -> bytes:
        return encode_frame(message)[4:]

    def decode(self, frame: Frame) -> Message:
        assert frame.opcode is Opcode.BINARY
        decoder = FrameDecoder(Side.CLIENT, MOST_BYTES)
        [message] = decoder.receive(len(frame.data).to_bytes(4, "big") + bytes(frame.data))
        return message


class Json(WebSocket):
    """`chat.v1.json`."""

    subprotocol = "chat.v1.json"

    def encode(self, message: Message) -> str:
        return to_json(message)

    def decode(self, frame: Frame) -> Message:
        assert frame.opcode is Opcode.TEXT
        message = from_json(bytes(frame.data).decode(), Side.CLIENT)
        assert isinstance(message, Message), message
        return message


class PlainJson(Json):
    """Without a subprotocol, which is JSON."""

    subprotocol = None  # type: ignore[assignment]


FORMS: dict[str, Callable[[], Form]] = {
    "frames": Frames,
    "bin": Binary,
    "json": Json,
    "plain": PlainJson,
    "bin-deflate": lambda: Binary(deflate=True),
    "json-deflate": lambda: Json(deflate=True),
}
"""What a program may speak, by name. Compression is only used if the server has been told to."""

SOCKET_FORMS: Sequence[str] = ("bin", "json")


def form_named(name: str) -> Form:
    """A new client's."""
    return FORMS[name]()

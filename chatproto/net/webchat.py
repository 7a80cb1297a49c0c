"""The faces for browsers, and for programs that speak WebSocket (docs/protocol.md, section 4).

Both are applications of the WebSocket layer. What waits for them is dropped and replayed as with every other
face, so they publish into the layer's send queue by themselves, and the layer's own bound is never met.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from twisted.python.failure import Failure

from chatproto.net.admission import Place
from chatproto.net.face import Face
from chatproto.net.websocket.transport import WebSocketTransport
from chatproto.rooms.hub import Hub
from chatproto.rooms.outlet import Request
from chatproto.rooms.session import Session
from chatproto.wire.chat import FrameDecoder, encode_frame
from chatproto.wire.closing import CloseCode
from chatproto.wire.connection import End
from chatproto.wire.errors import ErrorCode, ProtocolError
from chatproto.wire.jsonform import from_json, to_json
from chatproto.wire.messages import Error, Goodbye, Message, Side

__all__ = ["BinFace", "JsonFace", "SocketFace"]

LENGTH_BYTES = 4
"""What a frame has in front, and a binary message has not: its own length tells."""

MOST_JSON_BYTES = 6
"""So many bytes of JSON may stand for one of a frame: an ASCII character as `\\u0041`."""

MOST_REASON_BYTES = 123
"""What a close frame has room for (RFC 6455, section 5.5)."""

_CLOSE_CODES: dict[int, CloseCode] = {
    ErrorCode.MALFORMED: CloseCode.BAD_DATA,
    ErrorCode.TOO_BIG: CloseCode.TOO_BIG,
    ErrorCode.JOIN_FIRST: CloseCode.PROTOCOL_ERROR,
}
"""What a WebSocket is closed with after a fatal error; after any other it is 1008."""


class SocketFace(Face):
    """One connection over WebSocket. Subclasses say how a message of the chat travels."""

    subprotocol: ClassVar[str]
    transport: WebSocketTransport

    def __init__(self, hub: Hub, faces: set[Face]) -> None:
        super().__init__(hub, faces)
        self.is_page = False
        """Whether a browser has opened it for a page."""
        self.take_place: Callable[[], Place] | None = None
        """Counts the connection as let in, unless that was done before."""
        self._place: Place | None = None
        self._is_wrong_type = False

    # --- an application of the layer ----------------------------------------------------------------------

    def negotiationStarted(self, transport: WebSocketTransport) -> None:
        """There is a connection."""
        self.transport = transport

    def negotiationFinished(self) -> None:
        """The WebSocket is open: begin the session."""
        queue = self.transport.queue
        assert queue.form is not None, "one form for many needs a server without context takeover"
        self.form = queue.form
        if self.take_place is not None:
            self._place, self.take_place = self.take_place(), None
        self.begin(queue)
        self.transport.request = None  # nobody asks for it any more, and its headers would stay

    @property
    def address(self) -> str:
        """The person's address, as the request has it: a proxy may have told whom it comes from."""
        request = self.transport.request
        host = getattr(request.peer, "host", "") if request is not None else super().address
        return host if isinstance(host, str) else ""

    def textMessageReceived(self, message: str) -> None:
        """Text came, where there is none in this form."""
        self._refuse_type()

    def bytesMessageReceived(self, data: bytes) -> None:
        """Bytes came, where there are none in this form."""
        self._refuse_type()

    def pongReceived(self, payload: bytes) -> None:
        """A pong that answers nothing."""

    def sendQueueDrained(self) -> None:
        """Nothing waits any more."""
        self.session.drained()

    def sendQueueStalled(self) -> None:
        """The peer takes nothing."""
        self.session.stalled()

    def inputEnded(self, end: End) -> None:
        """Nothing more comes; what came takes effect and is answered, then the session ends."""
        if end.is_clean:
            self.session.finish_input()
        elif end.code == CloseCode.INTERNAL_ERROR:
            self.hub.record.limited("pong_timeout_s")
            self.session.fail(ErrorCode.TIMEOUT, end.reason, "timeout")
        else:
            code = ErrorCode.TOO_BIG if end.code == CloseCode.TOO_BIG else ErrorCode.MALFORMED
            self.session.receive([ProtocolError(code, end.reason)])

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone, whichever way."""
        error = reason.value
        if self._place is not None:
            self._place.give_back()
        if self in self._faces:  # else it never began
            self.end(None if error is None else error.__cause__)

    def _refuse_type(self) -> None:
        """End the session when the turn of this message comes."""
        self.session.receive([self._end_for_type])

    def _end_for_type(self) -> None:
        self._is_wrong_type = True
        self.session.requests.conclude("error")

    # --- the session's outlet -----------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop reading."""
        self.transport.pauseProducing()

    def resume(self) -> None:
        """Read again."""
        self.transport.resumeProducing()

    def finish(self) -> None:
        """Close once everything is sent, or when that takes too long."""
        if self._is_wrong_type and self.session.farewell is None:
            self.transport.loseConnection(CloseCode.UNSUPPORTED_DATA, f"not a message of {self.subprotocol}")
        else:
            self.transport.loseConnection(*_closing_of(self.session, self.is_page))

    def cut(self) -> None:
        """Drop the connection at once."""
        self.transport.abortConnection()


def _closing_of(session: Session, is_page: bool) -> tuple[CloseCode, str]:
    """The close code and reason for a session that has ended."""
    farewell = session.farewell
    if isinstance(farewell, Error):
        return _CLOSE_CODES.get(farewell.code, CloseCode.POLICY), _cut(farewell.text)
    if isinstance(farewell, Goodbye):
        # A browser tells its page no more than that the server goes; a program may know what a restart is.
        return (CloseCode.GOING_AWAY if is_page else CloseCode.RESTART), _cut(farewell.text)
    return (CloseCode.INTERNAL_ERROR if session.reason == "error" else CloseCode.NORMAL), ""


def _cut(text: str) -> str:
    return text.encode()[:MOST_REASON_BYTES].decode(errors="ignore")


class BinFace(SocketFace):
    """Each binary message is one frame without its length."""

    kind = "websocket-bin"
    subprotocol = "chat.v1.bin"

    def __init__(self, hub: Hub, faces: set[Face]) -> None:
        super().__init__(hub, faces)
        self._decoder = FrameDecoder(Side.SERVER, hub.limits.max_frame_bytes)

    @staticmethod
    def content(message: Message) -> bytes:
        """What travels of *message*."""
        return encode_frame(message)[LENGTH_BYTES:]

    @staticmethod
    def max_message_bytes(max_frame_bytes: int) -> int:
        """The bound of a message where frames have this one."""
        return max_frame_bytes

    def bytesMessageReceived(self, data: bytes) -> None:
        """Take a message in."""
        if self.session.name is None and not self.session.is_heard(len(data)):
            return
        decoder = self._decoder
        requests: list[Request] = [*decoder.receive(len(data).to_bytes(LENGTH_BYTES, "big") + data)]
        if decoder.fault is not None:
            requests.append(decoder.fault)
        self.session.receive(requests)


class JsonFace(SocketFace):
    """Each text message is one JSON object."""

    kind = "websocket-json"
    subprotocol = "chat.v1.json"

    @staticmethod
    def content(message: Message) -> str:
        """What travels of *message*."""
        return to_json(message)

    @staticmethod
    def max_message_bytes(max_frame_bytes: int) -> int:
        """The bound of a message where frames have this one: there the same content is longer."""
        return max_frame_bytes * MOST_JSON_BYTES

    def textMessageReceived(self, message: str) -> None:
        """Take a message in."""
        if self.session.name is None and not self.session.is_heard(len(message)):
            return
        request = from_json(message, Side.SERVER)
        assert request is not None  # only a client gets that
        max_frame_bytes = self.hub.limits.max_frame_bytes
        # A frame has hardly more bytes than its JSON, and that has four for each character at most.
        if len(message) > max_frame_bytes // 8 and isinstance(request, Message):
            length = len(encode_frame(request)) - LENGTH_BYTES
            if length > max_frame_bytes:
                reason = f"the message is a frame of {length} bytes, and {max_frame_bytes} is the most"
                request = ProtocolError(ErrorCode.TOO_BIG, reason)
        self.session.receive([request])

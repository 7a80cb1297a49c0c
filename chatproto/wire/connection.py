"""The life of a WebSocket connection, either side: no socket, no clock (RFC 6455, sections 4 to 7).

Whoever drives it tells it what happens and sends what it writes; `TRANSITIONS` is all there is to its states.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any
from weakref import WeakValueDictionary

from chatproto.wire.closing import CloseCode
from chatproto.wire.deflate import Deflate, Deflater, Inflater
from chatproto.wire.encoding import encode_close, encode_frame, encode_header, encode_masked
from chatproto.wire.messages import Side
from chatproto.wire.websocket import Event, Opcode, WebSocketDecoder, sort_events

__all__ = ["TRANSITIONS", "End", "FrameForm", "State", "Step", "WebSocketConnection"]

WHOLE_BYTES = 4_096
"""Up to here a payload is copied behind its header; a larger one is sent as it is, in a piece of its own."""


class State(Enum):
    """Where a connection stands (RFC 6455, sections 4.1 and 7.1)."""

    HANDSHAKING = "handshaking"
    """The RFC's CONNECTING: the opening handshake is not over."""
    OPEN = "open"
    CLOSING = "closing"
    """A close frame was sent or received, or the connection was failed."""
    CLOSED = "closed"
    """There is no connection any more."""


class Step(Enum):
    """What takes a connection from one state to another."""

    ACCEPTED = "the opening handshake is accepted"
    REFUSED = "the opening handshake is refused, or fails"
    CLOSE_SENT = "this side begins to close"
    CLOSE_RECEIVED = "the peer begins to close, and is answered"
    FAILED = "the peer is at fault, or silent: the connection is failed"
    LOST = "the transport is gone"


TRANSITIONS: dict[tuple[State, Step], State] = {
    (State.HANDSHAKING, Step.ACCEPTED): State.OPEN,
    (State.HANDSHAKING, Step.REFUSED): State.CLOSED,
    (State.HANDSHAKING, Step.LOST): State.CLOSED,
    (State.OPEN, Step.CLOSE_SENT): State.CLOSING,
    (State.OPEN, Step.CLOSE_RECEIVED): State.CLOSING,
    (State.OPEN, Step.FAILED): State.CLOSING,
    (State.OPEN, Step.LOST): State.CLOSED,
    (State.CLOSING, Step.CLOSE_RECEIVED): State.CLOSING,
    (State.CLOSING, Step.FAILED): State.CLOSING,
    (State.CLOSING, Step.LOST): State.CLOSED,
    (State.CLOSED, Step.LOST): State.CLOSED,
}
"""Every step that there is, and no other is possible. The documentation's drawing is made from it."""


@dataclass(frozen=True, slots=True)
class End:
    """How a connection ended: the close code and reason, and whether the closing handshake was completed.

    `code` is the peer's (1005 where its close frame had none). Where `is_clean` is False it is the one that
    this side failed the connection with, or 1006 where it was just gone.
    """

    code: int
    reason: str
    is_clean: bool


_GONE = End(CloseCode.ABNORMAL, "", False)
_NEVER_OPEN = End(CloseCode.ABNORMAL, "the opening handshake did not succeed", False)


class FrameForm:
    """What makes a server's frame of something that goes to many.

    *content* makes a str or bytes of it (None: it is one already). Equal arguments give the same object (use
    `shared`), so that one frame serves all connections that have it.
    """

    __slots__ = ("__weakref__", "content", "deflater", "min_deflated_bytes")

    def __init__(
        self, content: Callable[[Any], str | bytes] | None, deflater: Deflater | None, min_deflated_bytes: int
    ) -> None:
        self.content = content
        self.deflater = deflater
        self.min_deflated_bytes = min_deflated_bytes

    def __call__(self, source: Any) -> bytes:
        """The frame. Raises TypeError where what *content* makes is no message."""
        opcode, payload = _payload(source if self.content is None else self.content(source))
        if self.deflater is not None and len(payload) >= self.min_deflated_bytes:
            return encode_frame(opcode, self.deflater.compress(payload), True, True)
        return encode_frame(opcode, payload)

    @staticmethod
    def shared(
        content: Callable[[Any], str | bytes] | None, deflater: Deflater | None, min_deflated_bytes: int
    ) -> FrameForm:
        """The one form with these arguments, as long as anybody has it."""
        key = content, deflater, min_deflated_bytes
        form = _shared_forms.get(key)
        if form is None:
            form = _shared_forms[key] = FrameForm(*key)
        return form


# By what they are made of. Weak: *content* may be a method of something that has its day.
_shared_forms: WeakValueDictionary[object, FrameForm] = WeakValueDictionary()


def _payload(message: object) -> tuple[int, bytes]:
    if isinstance(message, str):
        return Opcode.TEXT, message.encode()
    if isinstance(message, bytes):
        return Opcode.BINARY, message
    if isinstance(message, bytearray | memoryview):
        return Opcode.BINARY, bytes(message)  # what waits to be sent must not change
    raise TypeError(f"a message is a str or bytes, not {type(message).__name__}")


def _write_nowhere(data: bytes) -> None:
    """There is nobody any more."""


class WebSocketConnection:
    """One connection from its opening handshake on.

    *write* takes what is to be sent, whole frames or the pieces of one, in order. *side* is who this is; a
    client masks what it sends. *max_message_bytes* and *max_frame_bytes* are as `WebSocketDecoder` has them.

    What the peer ends it with, a close frame or a fault, is answered by `receive`. With *defers_ending* it is
    only kept in `ending`, until `conclude` answers it: then what came before can be answered first.

    `state` is where it stands. `is_over` is True once there is nothing more to be said or heard: the server
    then drops the transport when everything is sent, and the client waits for that (section 7.1.1). `end` is
    how it ended, as far as that is known.
    """

    __slots__ = (
        "_defers_ending",
        "_deflate",
        "_deflater",
        "_inflater",
        "_write",
        "decoder",
        "end",
        "ending",
        "is_over",
        "max_frame_bytes",
        "max_message_bytes",
        "side",
        "state",
    )

    def __init__(
        self,
        side: Side,
        write: Callable[[bytes], None],
        max_message_bytes: int = 1_048_576,
        max_frame_bytes: int | None = None,
        *,
        defers_ending: bool = False,
    ) -> None:
        self.side = side
        self.max_message_bytes = max_message_bytes
        self.max_frame_bytes = max_frame_bytes
        self.state = State.HANDSHAKING
        self.ending: End | None = None
        self.is_over = False
        self.end = _GONE
        self._write = write
        self._defers_ending = defers_ending
        self.decoder: WebSocketDecoder | None = None
        self._deflate: Deflate | None = None
        self._deflater: Deflater | None = None
        self._inflater: Inflater | None = None

    def _take(self, step: Step) -> None:
        state = TRANSITIONS.get((self.state, step))
        if state is None:
            raise RuntimeError(f"{step.value}: that cannot be while the connection is {self.state.value}")
        self.state = state

    # --- the opening handshake ----------------------------------------------------------------------------

    def accepted(self, deflate: Deflate | None = None) -> None:
        """Both sides have agreed, on *deflate* too: messages may come and go."""
        self._take(Step.ACCEPTED)
        is_client = self.side is Side.CLIENT
        if deflate is not None:
            self._inflater = deflate.inflater(is_client)
            self._deflate = deflate
            self._deflater = deflate.deflater(is_client)
        self.decoder = WebSocketDecoder(
            self.side, self.max_message_bytes, self.max_frame_bytes, self._inflater
        )

    def refused(self) -> None:
        """There will be no WebSocket."""
        self._take(Step.REFUSED)
        self.end = _NEVER_OPEN
        self.is_over = True

    # --- what comes ---------------------------------------------------------------------------------------

    @property
    def inflated_bytes(self) -> int:
        """How many bytes were made of compressed ones so far, also of those that nobody gets."""
        return 0 if self._inflater is None else self._inflater.inflated_bytes

    def receive(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Take *data*, in any cut: the messages and pongs that it completes.

        Pings are answered. A close frame is too, and a fault of the peer's fails the connection, but see
        `ending`; `state`, `is_over` and `end` tell. Messages that come after this side began to close are
        left out, and nothing is deferred from then on.
        """
        decoder = self.decoder
        if decoder is None or self.is_over or self.ending is not None:
            return []
        return self.judge(decoder.receive(data))

    def judge(self, events: list[Event]) -> list[Event]:
        """What `receive` returns of *events*, which `decoder` has just made.

        Whoever asks the decoder by itself need not ask this of messages alone: while the connection is open
        and the decoder has no fault it gives them back as they are.
        """
        decoder = self.decoder
        assert decoder is not None
        is_open = self.state is State.OPEN
        given, pongs, close = sort_events(events, is_open, self.side is Side.CLIENT)
        if close is not None:
            assert isinstance(close.data, str)
            self.ending = End(close.code, close.data, True)
        if pongs:
            self._write(pongs)
        if decoder.fault is not None and self.ending is None:
            self.ending = End(decoder.fault.code, decoder.fault.reason, False)
        if self.ending is not None and not (self._defers_ending and self.state is State.OPEN):
            self.conclude()
        return given

    def conclude(self) -> None:
        """Answer what the peer has ended the connection with; without effect where it has not."""
        ending = self.ending
        if ending is None or self.is_over:
            return
        if not ending.is_clean:
            self.fail(ending.code, ending.reason)
            return
        if self.state is State.OPEN:
            # The same code goes back (section 5.5.1); what it was good for, the peer knows.
            code = None if ending.code == CloseCode.NO_CODE else ending.code
            self._write(self._encoded(Opcode.CLOSE, encode_close(code)))
        self._take(Step.CLOSE_RECEIVED)
        self.end = ending
        self.is_over = True

    # --- what goes ----------------------------------------------------------------------------------------

    def send(self, message: str | bytes | bytearray | memoryview) -> None:
        """Send a message: text, or binary. Without effect once the connection is closing.

        Raises RuntimeError before the opening handshake is over, TypeError for what is no message, and
        UnicodeEncodeError for half a surrogate pair.
        """
        if self.state is not State.OPEN:
            self._refuse_early()
            return
        opcode, payload = _payload(message)
        rsv1 = False
        if self._deflater is not None and self._deflate is not None:
            rsv1 = len(payload) >= self._deflate.min_message_bytes
            if rsv1:
                payload = self._deflater.compress(payload)
        if self.side is Side.CLIENT:
            self._write(encode_masked(opcode, payload, True, rsv1))
        elif len(payload) <= WHOLE_BYTES:
            self._write(encode_frame(opcode, payload, True, rsv1))
        else:
            self._write(encode_header(opcode, len(payload), True, rsv1))
            self._write(payload)

    def shared_form(self, content: Callable[[Any], str | bytes] | None = None) -> FrameForm | None:
        """What makes frames for this connection and all others of its class; None where none can be shared.

        A client masks each frame with a key of its own, and with context takeover what is compressed depends
        on what this connection was sent before.
        """
        if self.side is Side.CLIENT:
            return None
        if self._deflate is None:
            return FrameForm.shared(content, None, 0)
        if self._deflate.server_no_context_takeover is False:
            return None
        return FrameForm.shared(content, self._deflater, self._deflate.min_message_bytes)

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping with *payload*, of at most 125 bytes (ValueError). Raises as `send` does."""
        if self.state is not State.OPEN:
            self._refuse_early()
            return
        self._write(self._encoded(Opcode.PING, payload))

    def _refuse_early(self) -> None:
        if self.state is State.HANDSHAKING:
            raise RuntimeError("nothing can be sent before negotiationFinished: the handshake is not over")

    def close(self, code: int | None = CloseCode.NORMAL, reason: str = "") -> None:
        """Begin to close; without effect if that has begun. Raises ValueError as `encode_close` does.

        What the peer has ended it with goes before: that is then concluded.
        """
        payload = encode_close(code, reason)
        if self.ending is not None:
            self.conclude()
        elif self.state is State.OPEN:
            self._take(Step.CLOSE_SENT)
            self._write(self._encoded(Opcode.CLOSE, payload))

    def fail(self, code: int, reason: str) -> None:
        """End it for a fault of the peer's, or because nothing is heard of it (section 7.1.7).

        A close frame says so, if none was sent before, and nothing is read any more.
        """
        if self.is_over or self.state in (State.HANDSHAKING, State.CLOSED):
            return
        if self.state is State.OPEN:
            self._write(self._encoded(Opcode.CLOSE, encode_close(code, reason)))
        self._take(Step.FAILED)
        self.end = End(code, reason, False)
        self.is_over = True

    def output_lost(self) -> None:
        """What is sent from here on goes nowhere, and costs nothing; what came before can still be taken."""
        self._write = _write_nowhere
        self._deflater = None

    def lost(self) -> None:
        """The transport is gone."""
        if self.state is State.HANDSHAKING:
            self.end = _NEVER_OPEN
        self._take(Step.LOST)
        if self.ending is not None and not self.is_over:
            self.end = self.ending
        self.is_over = True
        self.decoder = self._deflater = self._inflater = None
        self._write = _write_nowhere  # whose method that was has this connection, as a rule

    def _encoded(self, opcode: int, payload: bytes) -> bytes:
        """A control frame."""
        if self.side is Side.CLIENT:
            return encode_masked(opcode, payload)
        return encode_frame(opcode, payload)

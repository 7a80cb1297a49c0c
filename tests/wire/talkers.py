"""WebSocket connections without a socket: what the tests of `chatproto.wire.connection` share."""

from __future__ import annotations

from typing import Any

from wire.websocket_model import decoded, frame, other

from chatproto.wire.closing import CloseCode
from chatproto.wire.connection import WebSocketConnection
from chatproto.wire.deflate import Deflate
from chatproto.wire.messages import Side
from chatproto.wire.websocket import Event

SIDES = list(Side)
EVERY_CODE = [code for code in CloseCode if code.travels] + [3000, 3999, 4000, 4999]
FORGETS = Deflate(server_no_context_takeover=True)
"""As a server agrees to unless it is told otherwise: it takes nothing over, so that frames can be shared."""
TAKES_OVER = Deflate(server_no_context_takeover=False, min_message_bytes=0)
"""With context takeover in both directions, and every message compressed."""


class Talker(WebSocketConnection):
    """A connection, and what it wrote."""

    def __init__(self, side: Side, **how: Any) -> None:
        self.written: list[bytes] = []
        super().__init__(side, self.written.append, **how)

    def take_written(self) -> bytes:
        """What was written since this was last asked."""
        data = b"".join(self.written)
        self.written.clear()
        return data

    def frames(self, deflate: Deflate | None = None) -> list[Event]:
        """What the peer makes of what was written since this was last asked."""
        inflate = deflate.inflater(self.side is Side.SERVER) if deflate else None
        events, fault = decoded(other(self.side), [self.take_written()], inflate=inflate)
        assert fault is None
        return events

    def hear(self, opcode: int, payload: bytes = b"", **how: Any) -> list[Event]:
        """What comes of a frame of the peer's."""
        return self.receive(frame(opcode, payload, to=self.side, **how))


def opened(side: Side, deflate: Deflate | None = None, **how: Any) -> Talker:
    """A connection that is open."""
    talker = Talker(side, **how)
    talker.accepted(deflate)
    return talker

"""What the connections of one factory, resource or client endpoint have between them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from chatproto.limits import WebSocketLimits
from chatproto.net.sendqueue import Turn
from chatproto.net.websocket.deadlines import Deadlines
from chatproto.wire.closing import CloseCode

if TYPE_CHECKING:
    from chatproto.net.websocket.transport import WebSocketTransport

__all__ = ["Connections"]


class Connections:
    """All connections of one kind: their *limits*, their timer, the end of each reactor turn."""

    def __init__(self, clock: IReactorTime, limits: WebSocketLimits) -> None:
        self.clock = clock
        self.limits = limits
        self.turn = Turn(clock, limits.stall_timeout_s)
        self.deadlines = Deadlines(clock)
        self._open: set[WebSocketTransport] = set()
        self._waiting_for_empty: list[Deferred[None]] = []
        self._is_shut = False

    def __len__(self) -> int:
        return len(self._open)

    def has_room(self, more: int) -> bool:
        """Whether there may be *more* of them than there are."""
        most = self.limits.max_connections
        return not self._is_shut and (not most or len(self._open) + more <= most)

    def add(self, transport: WebSocketTransport) -> None:
        """A connection more."""
        self._open.add(transport)

    def remove(self, transport: WebSocketTransport) -> None:
        """A connection less; those who wait for the last are told."""
        self.deadlines.clear(transport)
        self._open.discard(transport)
        self._tell_if_empty()

    def heartbeat(self, transport: WebSocketTransport) -> None:
        """The connection is open: its peer is to show that it lives, from time to time."""
        if self.limits.ping_interval_s:
            self.deadlines.set(transport, self.limits.ping_interval_s)
        else:
            self.deadlines.clear(transport)

    def ping_payload(self) -> bytes:
        """Something that a pong can be known by, and that the peer cannot tell beforehand."""
        return random.getrandbits(64).to_bytes(8, "big")

    def shut_down(self, code: int = CloseCode.GOING_AWAY, reason: str = "") -> Deferred[None]:
        """Close all connections with *code* and *reason*, and refuse new ones with 503.

        Fires when the last one is gone: each has `close_timeout_s` for that.
        """
        self._is_shut = True
        for transport in list(self._open):
            transport.loseConnection(code, reason)
        emptied: Deferred[None] = Deferred()
        self._waiting_for_empty.append(emptied)
        self._tell_if_empty()
        return emptied

    def _tell_if_empty(self) -> None:
        if not self._open:
            waiting, self._waiting_for_empty = self._waiting_for_empty, []
            for emptied in waiting:
                emptied.callback(None)

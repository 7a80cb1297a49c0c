"""What the connections of one factory, resource or client endpoint have between them."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from chatproto.limits import WebSocketLimits
from chatproto.net.sendqueue import Turn
from chatproto.net.websocket.deadlines import Deadlines
from chatproto.wire.closing import CloseCode
from chatproto.wire.encoding import encode_close
from chatproto.wire.handshake import Request

if TYPE_CHECKING:
    from chatproto.net.websocket.protocol import WireProtocol

__all__ = ["Connections"]

KEPT_BYTES = 1_048_576
"""The C library may keep up to twice so much memory for the next read, when the last one's is free again."""


def keep_freed_memory() -> None:
    """Have the C library keep what reads and large messages need in turn.

    That of GNU gives what is free at the top of its heap back to the system, from 128 KiB on, and asks for it
    again at the next read: the page faults cost as much as an echo of 64 KiB does otherwise. It keeps more
    once a block was freed that was larger (mallopt(3), M_MMAP_THRESHOLD). No page of the block is touched.
    """
    bytes(KEPT_BYTES)


class Connections:
    """All connections of one kind: their *limits*, their timer, the end of each reactor turn.

    With *turn* that is one they have in common with others.
    """

    def __init__(self, clock: IReactorTime, limits: WebSocketLimits, turn: Turn | None = None) -> None:
        self.clock = clock
        self.limits = limits
        self.turn = Turn(clock, limits.stall_timeout_s) if turn is None else turn
        self.deadlines = Deadlines(clock)
        self.ping_mark = os.urandom(8)
        """What pings of the layer's own begin with, so that no pong to one is taken for the application's."""
        self._open: set[WireProtocol] = set()
        self._places: set[Request] = set()  # those that are open or being decided on, if they are counted
        self._waiting_for_empty: list[Deferred[None]] = []
        self._is_shut = False
        keep_freed_memory()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def is_shut(self) -> bool:
        """Whether there are to be no new ones."""
        return self._is_shut

    def take_place(self, request: Request) -> bool:
        """Whether there may be one more; *request* then has its place until that is given back."""
        most = self.limits.max_connections
        if self._is_shut or (most and len(self._places) >= most):
            return False
        if most:
            self._places.add(request)
        return True

    def give_place(self, request: Request) -> None:
        """Nothing comes of *request*, or it is over."""
        self._places.discard(request)

    def add(self, transport: WireProtocol) -> None:
        """A connection more."""
        self._open.add(transport)

    def remove(self, transport: WireProtocol) -> None:
        """A connection less; those who wait for the last are told."""
        self.deadlines.clear(transport)
        self._open.discard(transport)
        if transport.request is not None:
            self.give_place(transport.request)
        self._tell_if_empty()

    def heartbeat(self, transport: WireProtocol) -> None:
        """The connection is open: its peer is to show that it lives, from time to time."""
        if self.limits.ping_interval_s:
            self.deadlines.set(transport, self.limits.ping_interval_s)
        else:
            self.deadlines.clear(transport)

    def ping_payload(self) -> bytes:
        """Something that the pong can be known by, and that the peer cannot tell beforehand."""
        return self.ping_mark + random.getrandbits(64).to_bytes(8, "big")

    def shut_down(self, code: int = CloseCode.GOING_AWAY, reason: str = "") -> Deferred[None]:
        """Close all connections with *code* and *reason*, and refuse new ones with 503.

        Fires when the last one is gone: each has `close_timeout_s` for that. Raises ValueError as
        `WebSocketTransport.loseConnection` does.
        """
        encode_close(code, reason)  # what is wrong is said before anything is done
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

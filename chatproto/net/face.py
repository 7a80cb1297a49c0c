"""What every face of the chat has: a session on one side, a send queue on the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet.error import TCPTimedOutError, TimeoutError

from chatproto.net.sendqueue import SendQueue
from chatproto.net.sockets import VANISHED_MS
from chatproto.rooms.hub import Hub
from chatproto.rooms.session import Session
from chatproto.wire.messages import Message
from chatproto.wire.prepared import Prepared

__all__ = ["Face"]


class Face(ABC):
    """One connection of the chat, of any kind: the outlet of its session.

    `kind` names it to whoever runs the server. `form` makes bytes of a message. A face begins with `begin`
    and ends with `end`; *faces* are all those of one kind of door, for whoever shuts it. `peer` is whom the
    connection comes from, if that is not the other end of its transport.
    """

    kind: ClassVar[str] = "other"
    form: Callable[[Message], bytes]
    queue: SendQueue
    session: Session
    publish: Callable[[Prepared], bool]

    def __init__(self, hub: Hub, faces: set[Face]) -> None:
        self.hub = hub
        self._faces = faces
        self.peer: object = None

    def begin(self, queue: SendQueue) -> None:
        """There is a connection, and *queue* is what waits for it."""
        self.queue = queue
        self.publish = queue.publish  # the hub calls the queue itself, without a Python call between
        self.session = self.hub.connect(self, self.address)
        self.peer = None  # the session knows it now
        self._faces.add(self)

    @property
    def address(self) -> str:
        """The person's address; empty where there is none, as on a Unix socket."""
        transport = getattr(self, "transport", None)
        peer = self.peer if self.peer is not None or transport is None else transport.getPeer()
        host = getattr(peer, "host", "")
        return host if isinstance(host, str) else ""

    def end(self, error: BaseException | None) -> None:
        """The connection is gone, because of *error*."""
        self._faces.discard(self)
        # Twisted keeps to itself why the kernel gave a connection up, so its silence has to tell.
        has_vanished = self.queue.peer_silence_ms >= VANISHED_MS
        timed_out = has_vanished or isinstance(error, TimeoutError | TCPTimedOutError)
        self.session.lost("timeout" if timed_out else "closed")

    # --- the session's outlet -----------------------------------------------------------------------------

    @property
    def queued_bytes(self) -> int:
        """See `chatproto.rooms.outlet.Outlet`."""
        return self.queue.queued_bytes

    @property
    def max_queued_bytes(self) -> int:
        """See `chatproto.rooms.outlet.Outlet`."""
        return self.queue.max_queued_bytes

    def send(self, message: Message) -> None:
        """See `chatproto.rooms.outlet.Outlet`."""
        self.queue.write(self.form(message))

    def drop(self) -> dict[Any, int]:
        """See `chatproto.rooms.outlet.Outlet`."""
        return self.queue.drop()

    def notify(self) -> None:
        """See `chatproto.rooms.outlet.Outlet`."""
        self.queue.notify()

    @abstractmethod
    def pause(self) -> None:
        """Stop reading."""

    @abstractmethod
    def resume(self) -> None:
        """Read again."""

    @abstractmethod
    def finish(self) -> None:
        """Close once everything is sent, or when that takes too long."""

    @abstractmethod
    def cut(self) -> None:
        """Drop the connection at once."""

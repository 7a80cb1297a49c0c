"""What a session needs of whoever carries it: the face's side of the interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from chatproto.wire.errors import ProtocolError
from chatproto.wire.messages import Message
from chatproto.wire.prepared import Prepared

__all__ = ["Outlet", "Request"]

Request = Message | ProtocolError | Callable[[], Message | None]
"""What a face hands over: a message, the fault that ends the stream, or something called when its turn
comes, for a face that cannot say before then what it means."""


class Outlet(Protocol):
    """A session's way out: what a face of the chat implements."""

    @property
    def queued_bytes(self) -> int:
        """What waits to be sent."""

    @property
    def max_queued_bytes(self) -> int:
        """The bound of `queued_bytes`, past which `publish` refuses."""

    def send(self, message: Message) -> None:
        """Send to this person alone; never refused and never dropped."""

    def publish(self, prepared: Prepared) -> bool:
        """Send what many get. False, with nothing sent, past the bound.

        What sessions are asked meanwhile is taken up after everyone has got it.
        """

    def drop(self) -> dict[Any, int]:
        """Drop what waits and can be replayed; the lowest position dropped of each topic."""

    def notify(self) -> None:
        """Call the session's `drained` once nothing waits any more, but not at once."""

    def pause(self) -> None:
        """Read nothing more from the person for now."""

    def resume(self) -> None:
        """Read from the person again."""

    def finish(self) -> None:
        """Close once everything is sent; the session is over and says nothing more."""

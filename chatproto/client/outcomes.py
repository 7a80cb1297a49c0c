"""What the requests of a client come to: results, and the errors with which their Deferreds fail."""

from __future__ import annotations

from dataclasses import dataclass

from chatproto.wire.errors import ErrorCode

__all__ = ["CannotConnect", "Disconnected", "Entered", "Receipt", "Refused", "TooManyWaiting"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """The server's promise about a `say` or `tell` (docs/protocol.md, section 3, item 3)."""

    seq: int
    """The message's place in its room; 0 for a `tell`."""
    time_ms: int
    """When the server took it, in milliseconds since 1970-01-01T00:00Z."""


@dataclass(frozen=True, slots=True)
class Entered:
    """A room as it was when one came in; what was replayed has gone to `ChatEvents.chat` by then."""

    room: str
    nicks: tuple[str, ...]
    """Who is there, oneself too; at most 1,000 names."""
    total: int
    """How many people are there."""
    last: int
    """The newest sequence number of the room, 0 if nothing was ever said."""
    status: int
    """Of the replay (docs/protocol.md, `end`): 0 nothing is missing, 1 older messages exist, 2 began anew."""


class Refused(Exception):
    """The server's `error` message. `str()` is its text, which a terminal must not show untamed."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        """One of `chatproto.wire.errors.ErrorCode`, or a number that this version does not know."""
        self.text = text

    @property
    def label(self) -> str:
        """The name of the error as the protocol writes it, such as `nick-taken`."""
        return next((known.label for known in ErrorCode if known == self.code), f"error-{self.code}")


class CannotConnect(Exception):
    """There is a server, and no chat that can be spoken to; `str()` is a phrase that says why."""

    def __init__(self, reason: str, retry_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_s = retry_s
        """So long the server wants not to be asked again, as its `Retry-After` says; 0 where it does not."""


class Disconnected(Exception):
    """The connection ended before the answer came; `str()` is a phrase that says how."""


class TooManyWaiting(Exception):
    """More is waiting for the server than this client is set to keep; nothing was sent."""

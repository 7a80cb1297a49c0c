"""The protocol's table of errors, and what a decoder keeps of a peer's fault."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

__all__ = ["ErrorCode", "ProtocolError"]


class ErrorCode(IntEnum):
    """The `code` of an `error` message (docs/protocol.md, section 2, Errors)."""

    fatal: bool
    when: str

    MALFORMED = (
        1,
        True,
        "zero length, unknown kind, a field that overruns the frame, bytes after the last field, "
        "ill-formed UTF-8, a `u64` of 2^53 or more",
    )
    TOO_BIG = 2, True, "a frame over `max_frame_bytes`"
    JOIN_FIRST = 3, True, "anything but `login`, `join`, `ping` or `leave` before the session is open"
    NICK_TAKEN = 4, False, "someone holds that nickname, or one that looks like it"
    BAD_NICK = 5, False, "a nickname that is not allowed, or not the session's own"
    BAD_ROOM = 6, False, "a room's name that is not allowed"
    NOT_IN_ROOM = 7, False, "the session has not joined that room"
    NO_SUCH_NICK = 8, False, "nobody holds that nickname"
    BAD_TEXT = 9, False, "empty, too long, or with control characters other than newline and tab"
    LOGIN_REQUIRED = 10, False, "`join` before `login` where the server demands one"
    LOGIN_FAILED = 11, False, "wrong user or secret; the third time is fatal"
    NOT_ALLOWED = 12, False, "not an operator, muted, banned from the room"
    NOT_STORED = 13, False, "the history could not keep it; nobody saw it"
    TOO_MANY_ROOMS = 14, False, "the session is in as many rooms as it may be, or the server is full"
    TOO_SLOW = 15, True, "no progress for `lag_timeout_s`, or fallen out of what the history keeps"
    TIMEOUT = 16, True, "no `join` in time, or no answer to a heartbeat"
    RATE_LIMITED = 17, False, "too often in too short a time"
    NOT_SUPPORTED = 18, False, "what this server cannot do, e.g. `search` without a history that can search"

    def __new__(cls, code: int, fatal: bool, when: str) -> ErrorCode:
        """Make the member whose integer value is *code*."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.fatal = fatal
        member.when = when
        return member

    @property
    def label(self) -> str:
        """The name as the protocol writes it: `nick-taken`."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class ProtocolError:
    """What a peer did wrong. It is data: decoders keep it and never raise it.

    `reason` is one sentence for people and repeats no text of the peer's.
    """

    code: ErrorCode
    reason: str

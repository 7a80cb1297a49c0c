"""How a WebSocket connection ends: the close codes, and what a decoder keeps of a peer's fault."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

__all__ = ["CloseCode", "CloseFault", "is_valid_close_code"]


class CloseCode(IntEnum):
    """The codes that have a meaning of their own (RFC 6455, section 7.4.1, and IANA's registry)."""

    travels: bool
    """Whether a close frame may carry it; the others are only told to the application."""
    when: str

    NORMAL = 1000, True, "the purpose is fulfilled"
    GOING_AWAY = 1001, True, "the server goes down, or the page was left"
    PROTOCOL_ERROR = 1002, True, "the peer broke the protocol"
    UNSUPPORTED_DATA = (
        1003,
        True,
        "a type of data that cannot be accepted, e.g. binary where text is expected",
    )
    RESERVED = 1004, False, "no meaning yet"
    NO_CODE = 1005, False, "the close frame had no code"
    ABNORMAL = 1006, False, "the connection ended without a close frame"
    BAD_DATA = 1007, True, "data that does not fit its type, e.g. text that is not UTF-8"
    POLICY = 1008, True, "against the rules, where no other code fits"
    TOO_BIG = 1009, True, "a message that is too big"
    EXTENSION_MISSING = 1010, True, "the client needs an extension that the server did not take"
    INTERNAL_ERROR = 1011, True, "the server met something unexpected"
    RESTART = 1012, True, "the server restarts; come back after a random 5 to 30 s"
    TRY_AGAIN_LATER = 1013, True, "the server has too much to do"
    BAD_GATEWAY = 1014, True, "the server behind this one answered wrongly"
    TLS_FAILED = 1015, False, "the TLS handshake failed"

    def __new__(cls, code: int, travels: bool, when: str) -> CloseCode:
        """Make the member whose integer value is *code*."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.travels = travels
        member.when = when
        return member


_TRAVELLING = frozenset(code for code in CloseCode if code.travels)


def is_valid_close_code(code: int) -> bool:
    """Whether a close frame may carry *code*: one of the table, or 3000 to 4999 (RFC 6455, section 7.4.2)."""
    return code in _TRAVELLING or 3000 <= code <= 4999


@dataclass(frozen=True, slots=True)
class CloseFault:
    """What a peer did wrong, and the code to close with. It is data: decoders keep it and never raise it.

    `reason` is a phrase for people of at most 123 bytes, as a close frame carries it, and repeats no text of
    the peer's.
    """

    code: int
    reason: str

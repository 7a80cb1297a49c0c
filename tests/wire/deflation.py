"""Agreements on permessage-deflate (RFC 7692, section 7.1)."""

from __future__ import annotations

from chatproto.wire.deflate import Deflate, check_answer
from chatproto.wire.headers import format_extension, parse_extensions

NCT_S, NCT_C = "server_no_context_takeover", "client_no_context_takeover"
BITS_S, BITS_C = "server_max_window_bits", "client_max_window_bits"

PLAIN = Deflate(server_no_context_takeover=False)
"""Nothing asked for."""

WINDOWS = range(8, 16)


def accepted(answer: str, want: Deflate = PLAIN) -> Deflate:
    """What a client makes of a header with *answer*."""
    (extension,) = parse_extensions([answer])
    return check_answer(extension, want)


def agreed(deflate: Deflate) -> tuple[bool | None, bool, int, int]:
    """The four parameters."""
    return (
        deflate.server_no_context_takeover,
        deflate.client_no_context_takeover,
        deflate.server_max_window_bits,
        deflate.client_max_window_bits,
    )


def spelled(given: dict[str, str | None]) -> str:
    """Parameters, as they stand in a header."""
    return format_extension(("permessage-deflate", tuple(given.items())))

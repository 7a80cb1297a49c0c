"""The options that the echo examples share: every limit, and compression."""

from __future__ import annotations

import argparse
from dataclasses import fields

from chatproto.websocket import Deflate, WebSocketLimits

DEFLATE = {
    "server_no_context_takeover": "forget, after each message that the server sends, what was in it",
    "client_no_context_takeover": "the same for what the client sends",
    "server_max_window_bits": "the window of what the server sends is 2 to that many bytes",
    "client_max_window_bits": "the same for what the client sends",
    "min_message_bytes": "smaller messages are sent as they are",
    "level": "how hard to try, 1 to 9",
    "memory_level": "memory to try with, 1 to 9",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let *parser* know all of them."""
    limits = parser.add_argument_group("limits")
    for known in fields(WebSocketLimits):
        limits.add_argument(
            _option(known.name),
            type=type(known.default),
            default=known.default,
            metavar="N",
            help=f"{known.metadata['meaning']} (%(default)s)",
        )
    compression = parser.add_argument_group("compression")
    compression.add_argument("--deflate", action="store_true", help="speak permessage-deflate")
    for known in fields(Deflate):
        is_flag = not isinstance(known.default, int) or isinstance(known.default, bool)
        compression.add_argument(
            _option(known.name),
            type=None if is_flag else int,  # type: ignore[arg-type]
            action=argparse.BooleanOptionalAction if is_flag else "store",
            default=known.default,
            help=f"{DEFLATE[known.name]} (%(default)s)",
        )


def chosen(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, WebSocketLimits, Deflate | None]:
    """What the command line says. One sentence and an exit for a value that makes no sense."""
    options = parser.parse_args()
    try:
        limits = WebSocketLimits(
            **{known.name: getattr(options, known.name) for known in fields(WebSocketLimits)}
        )
        deflate = Deflate(**{known.name: getattr(options, known.name) for known in fields(Deflate)})
    except ValueError as error:
        parser.error(str(error))
    return options, limits, deflate if options.deflate else None


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"

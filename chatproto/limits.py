"""Every bound of the server, each with its unit in its name."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["HistoryLimits", "Limits", "WebSocketLimits"]

MIB = 1024 * 1024

MOST = 2**53
"""More than any machine has of anything, and what every counter here can hold."""

MOST_S = 1_000_000.0
"""Eleven days; the kernel and the reactor count milliseconds in 31 bits."""


def _bound(default: int | float, meaning: str, least: int | float = 1, most: float = MOST) -> Any:
    """A limit: its default, what it bounds and why, and the range in which it makes sense."""
    return field(default=default, metadata={"meaning": meaning, "least": least, "most": most})


def _check_bounds(limits: Any) -> None:
    for known in fields(limits):
        value, least, most = getattr(limits, known.name), known.metadata["least"], known.metadata["most"]
        if not least <= value <= most:
            bound = f"at most {most:,}" if value > most else f"at least {least:,}"
            raise ValueError(f"{known.name} is {bound}, not {value:,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one server. Raises ValueError, with one sentence, for a value that makes no sense."""

    max_frame_bytes: int = _bound(65_536, "bytes of a frame, its kind included", 1024, 2**24 - 1)
    max_line_bytes: int = _bound(4_096, "bytes of a line from nc or telnet", 64, MIB)
    max_text_bytes: int = _bound(4_096, "bytes of UTF-8 in one text", 1, 65_000)
    max_nick_chars: int = _bound(32, "characters of a nickname", 1, 1_000)
    max_room_chars: int = _bound(64, "characters of a room's name", 1, 1_000)
    max_rooms: int = _bound(10_000, "rooms of the server, and rooms whose messages are remembered")
    max_rooms_per_session: int = _bound(100, "rooms that one session may be in")
    announce_limit: int = _bound(1_000, "people in a room up to which joined and left are sent", 0)
    max_queued_bytes: int = _bound(MIB, "bytes that may wait for one connection before it lags", 4_096)
    max_room_log_messages: int = _bound(5_000, "messages remembered of each room", 0)
    max_room_log_bytes: int = _bound(4 * MIB, "bytes of memory for the messages of each room", 0)
    max_log_bytes: int = _bound(256 * MIB, "bytes of memory for the messages of all rooms", 0)
    max_remembered_ids: int = _bound(100_000, "ids of messages remembered, to know one that is sent again", 0)
    join_timeout_s: float = _bound(10.0, "seconds that a connection may take to join", 0.001, MOST_S)
    lag_timeout_s: float = _bound(
        45.0, "seconds in which a slow reader must take at least something", 0.001, MOST_S
    )
    close_timeout_s: float = _bound(
        5.0, "seconds that a closing connection has to take the rest", 0.001, MOST_S
    )
    ping_interval_s: float = _bound(
        30.0, "seconds from one ping of a WebSocket to the next, 0: no pings", 0.0, MOST_S
    )
    pong_timeout_s: float = _bound(10.0, "seconds in which a WebSocket must answer a ping", 0.001, MOST_S)
    rename_burst: int = _bound(5, "changes of nickname that a session may make at once")
    rename_interval_s: float = _bound(5.0, "seconds after which it may make one more", 0.0, MOST_S)

    def __post_init__(self) -> None:
        _check_bounds(self)
        if self.max_text_bytes + 1024 > self.max_frame_bytes:
            raise ValueError(
                f"max_text_bytes ({self.max_text_bytes}) must leave 1,024 bytes of max_frame_bytes "
                f"({self.max_frame_bytes}) for what goes with a text"
            )
        if self.max_queued_bytes < 4 * self.max_text_bytes:
            raise ValueError(
                f"max_queued_bytes ({self.max_queued_bytes}) must hold four times max_text_bytes "
                f"({self.max_text_bytes})"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryLimits:
    """The bounds of a history that is kept in a file.

    Raises ValueError, with one sentence, for a value that makes no sense.
    """

    max_history_age_s: float = _bound(0.0, "seconds that a message is kept, 0: for ever", 0.0)
    max_history_room_messages: int = _bound(0, "messages kept of each room, 0: any number", 0)
    max_history_bytes: int = _bound(0, "bytes that the file of the history may take, 0: any number", 0)
    remember_ids_s: float = _bound(
        86_400.0, "seconds in which a message that is sent again is recognised by its id", 0.0, 10**9
    )
    max_unkept_bytes: int = _bound(64 * MIB, "bytes of memory for what waits to be kept", 4_096)
    history_lock_timeout_s: float = _bound(
        5.0, "seconds to wait where another program has locked the history", 0.0, MOST_S
    )

    def __post_init__(self) -> None:
        _check_bounds(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketLimits:
    """The bounds of WebSocket connections, without regard to what they carry.

    Raises ValueError, with one sentence, for a value that makes no sense.
    """

    max_message_bytes: int = _bound(MIB, "bytes of a message that a peer may send", 1, 2**40)
    max_frame_bytes: int = _bound(0, "bytes of one frame of it, 0: as many as of a message", 0, 2**40)
    max_queued_bytes: int = _bound(MIB, "bytes that may wait for one peer before it is too slow", 4_096)
    max_connections: int = _bound(0, "connections at a time, 0: any number", 0)
    max_handshake_bytes: int = _bound(16_384, "bytes of an opening handshake", 256, MIB)
    max_headers: int = _bound(100, "header fields of an opening handshake", 8, 10_000)
    handshake_timeout_s: float = _bound(
        10.0, "seconds that the peer's part of an opening handshake may take", 0.001, MOST_S
    )
    ping_interval_s: float = _bound(30.0, "seconds from one ping to the next, 0: no pings", 0.0, MOST_S)
    pong_timeout_s: float = _bound(10.0, "seconds in which a ping must be answered", 0.001, MOST_S)
    stall_timeout_s: float = _bound(
        45.0, "seconds in which a slow reader must take at least something", 0.001, MOST_S
    )
    close_timeout_s: float = _bound(5.0, "seconds that a closing handshake may take", 0.001, MOST_S)

    def __post_init__(self) -> None:
        _check_bounds(self)

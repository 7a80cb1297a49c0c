"""Every bound of the server, each with its unit in its name."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

__all__ = ["Effect", "HistoryLimits", "Limits", "WebSocketLimits"]

MIB = 1024 * 1024

MOST = 2**53
"""More than any machine has of anything, and what every counter here can hold."""

MOST_S = 1_000_000.0
"""Eleven days; the kernel and the reactor count milliseconds in 31 bits."""


class Effect(Enum):
    """When another value of a setting holds, once a running server has read it."""

    AT_ONCE = "at once"
    CONNECTIONS = "for new connections"
    ROOMS = "for rooms that open anew"
    RESTART = "after a restart"


def _bound(
    default: int | float,
    meaning: str,
    least: int | float = 1,
    most: float = MOST,
    *,
    why: str = "",
    effect: Effect = Effect.RESTART,
) -> Any:
    """A limit: its default, what it bounds, and the range in which it makes sense.

    *why* the default is what it is, and when another value takes *effect* in a server that runs: that is
    promised by whoever reads it through `hub.limits`, and RESTART where it was copied from there.
    """
    return field(
        default=default,
        metadata={"meaning": meaning, "least": least, "most": most, "why": why, "effect": effect},
    )


def _check_bounds(limits: Any) -> None:
    for known in fields(limits):
        value, least, most = getattr(limits, known.name), known.metadata["least"], known.metadata["most"]
        if not least <= value <= most:
            bound = f"at most {most:,}" if value > most else f"at least {least:,}"
            raise ValueError(f"{known.name} is {bound}, not {value:,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one server. Raises ValueError, with one sentence, for a value that makes no sense."""

    max_frame_bytes: int = _bound(
        65_536,
        "bytes of a frame, its kind included",
        1024,
        2**24 - 1,
        why="sixteen of the longest texts; a length beyond it is refused before anything is kept",
        effect=Effect.CONNECTIONS,
    )
    max_line_bytes: int = _bound(
        4_096,
        "bytes of a line from nc or telnet",
        64,
        MIB,
        why="what a terminal takes in one line",
        effect=Effect.CONNECTIONS,
    )
    max_text_bytes: int = _bound(
        4_096,
        "bytes of UTF-8 in one text",
        1,
        65_000,
        why="a screen full of text; whoever has more to say sends a link",
        effect=Effect.AT_ONCE,
    )
    max_nick_chars: int = _bound(
        32, "characters of a nickname", 1, 1_000, why="fits beside a text on a line of 80 columns"
    )
    max_room_chars: int = _bound(
        64, "characters of a room's name", 1, 1_000, why="a name and not a sentence", effect=Effect.AT_ONCE
    )
    max_rooms: int = _bound(
        10_000,
        "rooms of the server, and rooms whose messages are remembered",
        why="strangers may open rooms, and each takes memory",
    )
    max_rooms_per_session: int = _bound(
        100,
        "rooms that one session may be in",
        why="more than anybody reads, and few enough that one session cannot open them all",
        effect=Effect.AT_ONCE,
    )
    announce_limit: int = _bound(
        1_000,
        "people in a room up to which joined and left are sent",
        0,
        why="beyond it coming and going is most of the traffic, and nobody reads it",
        effect=Effect.ROOMS,
    )
    max_queued_bytes: int = _bound(
        MIB,
        "bytes that may wait for one connection before it lags",
        4_096,
        why="minutes of a busy room, while a thousand slow readers still fit into a gigabyte",
        effect=Effect.CONNECTIONS,
    )
    max_room_log_messages: int = _bound(
        5_000,
        "messages remembered of each room",
        0,
        why="so far back most readers scroll, and most who were away come back",
    )
    max_room_log_bytes: int = _bound(
        4 * MIB,
        "bytes of memory for the messages of each room",
        0,
        why="keeps one room of long texts from pushing out the others",
    )
    max_log_bytes: int = _bound(
        256 * MIB, "bytes of memory for the messages of all rooms", 0, why="what a small machine can spare"
    )
    max_remembered_ids: int = _bound(
        100_000,
        "ids of messages remembered, to know one that is sent again",
        0,
        why="some minutes of a busy server; a client sends again soon or never",
    )
    join_timeout_s: float = _bound(
        10.0,
        "seconds that a connection may take to join",
        0.001,
        MOST_S,
        why="a program joins at once; who says nothing holds a descriptor for no longer",
        effect=Effect.CONNECTIONS,
    )
    nickname_timeout_s: float = _bound(
        60.0,
        "seconds that a person at nc or telnet may take for a nickname",
        0.001,
        MOST_S,
        why="a person has to think of one",
        effect=Effect.CONNECTIONS,
    )
    lag_timeout_s: float = _bound(
        45.0,
        "seconds in which a slow reader must take at least something",
        0.001,
        MOST_S,
        why="a phone between two cells is silent for half a minute",
    )
    close_timeout_s: float = _bound(
        5.0,
        "seconds that a closing connection has to take the rest",
        0.001,
        MOST_S,
        why="long enough for the last words on a slow line, short enough for a restart",
        effect=Effect.AT_ONCE,
    )
    ping_interval_s: float = _bound(
        30.0,
        "seconds from one ping of a WebSocket to the next, 0: no pings",
        0.0,
        MOST_S,
        why="proxies end what was silent for a minute",
        effect=Effect.AT_ONCE,
    )
    pong_timeout_s: float = _bound(
        10.0,
        "seconds in which a WebSocket must answer a ping",
        0.001,
        MOST_S,
        why="the longest that a phone's network takes to wake up",
        effect=Effect.AT_ONCE,
    )
    login_burst: int = _bound(
        10,
        "logins that may be tried at once for one account, or from one address",
        why="a person errs a few times; right ones do not count",
    )
    login_interval_s: float = _bound(
        10.0,
        "seconds after which one more may be tried",
        0.0,
        MOST_S,
        why="8,640 guesses a day are no danger to a password of eight characters",
    )
    password_threads: int = _bound(
        1,
        "threads that check passwords",
        1,
        64,
        why="each keeps one core busy, which the chat needs itself",
    )
    max_waiting_logins: int = _bound(
        64,
        "passwords that may wait to be checked",
        why="they are done in some seconds; past it people are told to try again",
    )
    rename_burst: int = _bound(
        5,
        "changes of nickname that a session may make at once",
        why="a person tries some names; each is told to everybody in every shared room",
        effect=Effect.AT_ONCE,
    )
    rename_interval_s: float = _bound(
        5.0,
        "seconds after which it may make one more",
        0.0,
        MOST_S,
        why="nobody means more than that",
        effect=Effect.AT_ONCE,
    )

    max_connections: int = _bound(
        20_000,
        "connections at a time, whatever they speak, 0: any number",
        0,
        why="some hundred megabytes; the server lets in fewer where it cannot open so many files",
        effect=Effect.AT_ONCE,
    )
    max_connections_per_address: int = _bound(
        100,
        "connections at a time from one address, an IPv6 network of 64 bits being one, 0: any number",
        0,
        why="an office behind one address; this machine itself and trusted proxies are not counted",
        effect=Effect.AT_ONCE,
    )
    max_arrivals_per_s: int = _bound(
        2_000,
        "new connections in a second, 0: any number",
        0,
        why="what one core does beside its work; who came back after a restart comes spread",
        effect=Effect.AT_ONCE,
    )
    max_arrivals_per_address_per_s: int = _bound(
        50,
        "new connections in a second from one address, 0: any number",
        0,
        why="an office that comes back at once; nobody else opens so many",
        effect=Effect.AT_ONCE,
    )
    max_sessions: int = _bound(
        20_000,
        "people who have joined, at a time, 0: any number",
        0,
        why="as many as connections",
        effect=Effect.AT_ONCE,
    )
    max_people_per_room: int = _bound(
        10_000,
        "people in one room, 0: any number",
        0,
        why="each message goes to all of them, and takes some milliseconds for so many",
        effect=Effect.AT_ONCE,
    )
    max_bytes_before_join: int = _bound(
        262_144,
        "bytes that a connection may send before it has joined",
        1_024,
        why="three logins, after which it is over anyway, each in the longest of frames",
        effect=Effect.AT_ONCE,
    )
    max_messages_per_s: float = _bound(
        100.0,
        "messages a second that a session may send in the long run, past which it is read more slowly, "
        "0: any number",
        0.0,
        why="no person types that, and no bot needs it; a room of hundreds can still be served",
        effect=Effect.AT_ONCE,
    )
    message_burst: int = _bound(
        1_000,
        "messages that a session may send at once",
        why="pasting a file, or joining all one's rooms again",
        effect=Effect.AT_ONCE,
    )
    max_history_reads_per_s: float = _bound(
        10.0,
        "reads of the history a second (history, search, a join with replay) that a session may make in the "
        "long run, past which it is read more slowly, 0: any number",
        0.0,
        why="faster than anybody scrolls",
        effect=Effect.AT_ONCE,
    )
    history_burst: int = _bound(
        100,
        "reads of the history that a session may make at once",
        why="coming back to as many rooms as one may be in",
        effect=Effect.AT_ONCE,
    )
    max_history_messages: int = _bound(
        10_000,
        "messages that one read of the history gives; who comes back gets all that was missed",
        1,
        65_535,
        why="more than a screen ever shows",
        effect=Effect.AT_ONCE,
    )
    max_total_queued_bytes: int = _bound(
        256 * MIB,
        "bytes that may wait for all connections together, past which the slowest readers lag",
        MIB,
        why="what a small machine can spare",
        effect=Effect.AT_ONCE,
    )
    drain_timeout_s: float = _bound(
        8.0,
        "seconds that a server that is told to end has for what was said, and its people to read it",
        0.0,
        MOST_S,
        why="Docker kills after 10 s, systemd after 90 s",
        effect=Effect.AT_ONCE,
    )
    return_delay_s: float = _bound(
        1.0,
        "seconds after which the first are told to come back when the server ends",
        0.0,
        MOST_S,
        why="a restart takes about as long",
        effect=Effect.AT_ONCE,
    )
    lease_s: float = _bound(
        10.0,
        "seconds after which servers that share rooms take one that is not heard of for gone with its people",
        1.0,
        MOST_S,
        why="a server that is only busy is heard of four times in it, and nobody waits long for a dead one",
    )
    max_returns_per_s: float = _bound(
        500.0,
        "people that are told to come back in one second",
        0.1,
        why="each joins and reads what was missed, beside the work of the others",
        effect=Effect.AT_ONCE,
    )

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

    max_history_age_s: float = _bound(
        0.0,
        "seconds that a message is kept, 0: for ever",
        0.0,
        why="nothing is thrown away that nobody asked to be thrown away",
    )
    max_history_room_messages: int = _bound(
        0, "messages kept of each room, 0: any number", 0, why="as with its age"
    )
    max_history_bytes: int = _bound(
        0,
        "bytes that the file of the history may take, 0: any number",
        0,
        why="as with its age; give one where the disk is shared",
    )
    remember_ids_s: float = _bound(
        86_400.0,
        "seconds in which a message that is sent again is recognised by its id",
        0.0,
        10**9,
        why="a client that was asleep over night sends again what it is not sure of",
    )
    max_unkept_bytes: int = _bound(
        64 * MIB,
        "bytes of memory for what waits to be kept",
        4_096,
        why="seconds of the most that a disk takes; past it nothing more is taken on",
    )
    history_lock_timeout_s: float = _bound(
        5.0,
        "seconds to wait where another program has locked the history",
        0.0,
        MOST_S,
        why="a backup holds the lock for less",
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

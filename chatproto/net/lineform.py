"""How messages look as lines.

Every line that the server writes begins with `* `, every message with `[`. What others said stands behind
that on the same line, whatever they said, so nobody can forge either.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from datetime import datetime, tzinfo
from typing import Any

from chatproto.text import tame
from chatproto.wire.messages import (
    Ack,
    Chat,
    End,
    Error,
    Goodbye,
    Joined,
    Lagged,
    Left,
    Message,
    Notice,
    Pong,
    Renamed,
    Roster,
    Told,
    Welcome,
)

__all__ = ["LineForm", "one_line", "roster_words", "wrapped"]

_ACTION = "/me "


def one_line(text: str) -> str:
    """Text from a stranger on one line, harmless for a terminal."""
    return tame(text.replace("\n", " ⏎ ").replace("\t", " "))


def roster_words(message: Roster) -> str:
    """Who is in the room."""
    more = message.total - len(message.nicks)
    names = ", ".join(map(one_line, message.nicks))
    return f"in {one_line(message.room)}: {names}" + (f" and {more} more" if more else "")


def wrapped(text: str, columns: int) -> list[str]:
    """The server's own *text* as lines that fit into *columns*, where its words do.

    A line that goes on is set in, so that whatever word it begins with, it is none that began there.
    """
    lines: list[str] = []
    line, width = "*", 1
    for word in text.split(" "):
        word_width = _width(word)
        if width + 1 + word_width > columns and width > _SET_IN:
            lines.append(line)
            line, width = "*" + " " * (_SET_IN - 1), _SET_IN
        line, width = f"{line} {word}", width + 1 + word_width
    return [*lines, line]


_SET_IN = 3


def _width(word: str) -> int:
    """How many columns a terminal gives to *word*."""
    if word.isascii():
        return len(word)
    return sum(map(_columns_of, word))


def _columns_of(sign: str) -> int:
    if unicodedata.category(sign) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1


class LineForm:
    """From a message of the server's to the line that shows it, with its end; empty if it is not shown.

    Times are of *zone*, None: the system's; the day stands before a time that is not of today. *now_ms* says
    what time it is. Everybody who gets a message gets the same line.
    """

    def __init__(self, now_ms: Callable[[], int], zone: tzinfo | None = None) -> None:
        self._now_ms = now_ms
        self._zone = zone
        self._shown: dict[type[Message], Callable[[Any], str]] = {
            Welcome: lambda m: f"* welcome, {one_line(m.nick)}; /help shows what you can type",
            Joined: lambda m: f"* {one_line(m.nick)} joined {one_line(m.room)}",
            Left: lambda m: f"* {one_line(m.nick)} left {one_line(m.room)} ({one_line(m.reason)})",
            Chat: lambda m: f"[{one_line(m.room)} {self.time(m.time)}] {_said(m.nick, m.text)}",
            Renamed: lambda m: f"* {one_line(m.old)} is now {one_line(m.new)}",
            Roster: lambda m: f"* {roster_words(m)}",
            Told: lambda m: f"[{self.time(m.time)} to you alone] {_said(m.nick, m.text)}",
            Error: lambda m: f"* {one_line(m.text)}",
            Notice: lambda m: f"* {one_line(m.text)}",
            Lagged: lambda m: f"* you read too slowly; what you missed in {one_line(m.room)} comes now",
            Goodbye: lambda m: f"* goodbye: {one_line(m.text)}",
            # A person at a terminal has no use for these.
            End: lambda m: "",
            Pong: lambda m: "",
            Ack: lambda m: "",
        }

    def __call__(self, message: Message) -> bytes:
        """The line for *message*."""
        line = self._shown[type(message)](message)
        return f"{line}\r\n".encode() if line else b""

    def time(self, time_ms: int) -> str:
        """When something was said: the time of day, behind the day unless it was today."""
        try:
            when = datetime.fromtimestamp(time_ms / 1_000, self._zone)
            today = datetime.fromtimestamp(self._now_ms() / 1_000, self._zone)
        except (ValueError, OverflowError, OSError):  # no clock that is right says so
            return "??:??"
        time = f"{when:%H:%M}"
        return time if when.date() == today.date() else f"{when:%Y-%m-%d} {time}"

    def zone_name(self) -> str:
        """What the times are, as an offset from UTC."""
        now = datetime.fromtimestamp(self._now_ms() / 1_000, self._zone)
        offset = (now if now.tzinfo is not None else now.astimezone()).utcoffset()
        minutes = int(offset.total_seconds()) // 60 if offset is not None else 0
        sign = "-" if minutes < 0 else "+"
        return f"UTC{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}" if minutes else "UTC"


def _said(nick: str, text: str) -> str:
    if text.startswith(_ACTION):
        return f"* {one_line(nick)} {one_line(text.removeprefix(_ACTION))}"
    return f"{one_line(nick)}: {one_line(text)}"

"""The face for people: lines for `nc` and `telnet`, and for scripts (docs/protocol.md, section 7).

Every line that the server writes begins with `* `, every message with `[`. What others said stands behind
that on the same line, whatever they said, so nobody can forge either.
"""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from chatproto.net.chat import ChatProtocol
from chatproto.rooms.moderation import Action
from chatproto.text import tame
from chatproto.wire.lines import LineDecoder, LineFault
from chatproto.wire.messages import (
    Ack,
    Chat,
    End,
    Error,
    Goodbye,
    History,
    Join,
    Joined,
    Lagged,
    Leave,
    Left,
    Message,
    Moderate,
    Nick,
    Notice,
    Pong,
    Renamed,
    Roster,
    Say,
    Search,
    Tell,
    Told,
    Welcome,
    Who,
)

if TYPE_CHECKING:
    from chatproto.net.factory import ChatFactory

__all__ = ["LineProtocol", "line_of"]

SHOWN_ON_JOINING = 20
MOST_SHOWN = 65_535

HELP = """\
What you type is said in the room you are in. Times are UTC.
/join ROOM      enter a room, or go back /leave [ROOM]  leave it
/who            who is in the room       /nick NAME     take another nickname
/msg NICK TEXT  say it to one person     /me ACTION     say what you do
/history [N]    what was said            /search WORDS  find what was said
/quit           leave the chat           //TEXT         say /TEXT
operators: /kick NICK [WHY]   /ban, /mute NICK [SECONDS] [WHY]
           /unban, /unmute NICK"""


def _number(text: str) -> int | None:
    """The whole number that *text* is, or None; beyond all bounds here if it has many digits."""
    return int(text.lstrip("0")[:12] or "0") if text.isascii() and text.isdigit() else None


def _shown(text: str) -> str:
    """Text from a stranger on one line."""
    return tame(text.replace("\n", " ⏎ ").replace("\t", " "))


def _hours(time_ms: int) -> str:
    minutes = time_ms // 60_000
    return f"{minutes // 60 % 24:02}:{minutes % 60:02}"


def _said(nick: str, text: str) -> str:
    if text.startswith("/me "):
        return f"* {_shown(nick)} {_shown(text[4:])}"
    return f"{_shown(nick)}: {_shown(text)}"


def _roster_line(message: Roster) -> str:
    more = message.total - len(message.nicks)
    names = ", ".join(map(_shown, message.nicks))
    return f"* in {_shown(message.room)}: {names}" + (f" and {more} more" if more else "")


_LINES: dict[type[Message], Callable[..., str]] = {
    Welcome: lambda m: f"* welcome, {_shown(m.nick)}; /help shows what you can type",
    Joined: lambda m: f"* {_shown(m.nick)} joined {_shown(m.room)}",
    Left: lambda m: f"* {_shown(m.nick)} left {_shown(m.room)} ({_shown(m.reason)})",
    Chat: lambda m: f"[{_shown(m.room)} {_hours(m.time)}] {_said(m.nick, m.text)}",
    Renamed: lambda m: f"* {_shown(m.old)} is now {_shown(m.new)}",
    Roster: _roster_line,
    Told: lambda m: f"[{_hours(m.time)} to you alone] {_said(m.nick, m.text)}",
    Error: lambda m: f"* {_shown(m.text)}",
    Notice: lambda m: f"* {_shown(m.text)}",
    Lagged: lambda m: f"* you read too slowly; what you missed in {_shown(m.room)} comes now",
    Goodbye: lambda m: f"* goodbye: {_shown(m.text)}",
    # A person at a terminal has no use for these.
    End: lambda m: "",
    Pong: lambda m: "",
    Ack: lambda m: "",
}


def line_of(message: Message) -> bytes:
    """The line that shows *message*, one of the server's, with its end; empty for one that is not shown."""
    line = _LINES[type(message)](message)
    return f"{line}\r\n".encode() if line else b""


class LineProtocol(ChatProtocol):
    """One connection of a person with `nc` or `telnet`, or of a script."""

    form = staticmethod(line_of)

    def __init__(self, factory: ChatFactory) -> None:
        super().__init__(factory)
        self._decoder = LineDecoder(factory.hub.limits.max_line_bytes)
        self._room = ""  # where what is typed is said
        self._joining = ""
        self._lines: deque[str | LineFault] = deque()  # those whose turn has not come

    def connectionMade(self) -> None:
        """Begin the session, and ask who it is."""
        super().connectionMade()
        self._print("welcome to chatproto; what is your nickname?")

    def dataReceived(self, data: bytes) -> None:
        """Take lines in, in any cut."""
        if self.session.ended:
            return
        lines = self._decoder.receive(data)
        replies = self._decoder.take_replies()
        if replies:
            self.queue.write(replies)
        self._take_in(lines)

    def readConnectionLost(self) -> None:
        """The input is over; what came takes effect."""
        self._take_in(self._decoder.finish())
        super().readConnectionLost()

    def _take_in(self, lines: list[str | LineFault]) -> None:
        # What a line means depends on the lines before it, so each is read when its turn comes. An empty one
        # means nothing, and there may be many.
        lines = [line for line in lines if line]
        self._lines.extend(lines)
        self.session.receive([self._meaning] * len(lines))

    def _print(self, text: str) -> None:
        self.queue.write("".join(f"* {line}\r\n" for line in text.split("\n")).encode())

    # --- what the server says -----------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Show *message*, and keep track of the room."""
        super().send(message)
        if isinstance(message, Roster) and message.room == self._joining:
            self._room, self._joining = self._joining, ""
        elif isinstance(message, Left) and message.room == self._room:
            self._room = ""  # sent to the one who was kicked
        elif isinstance(message, Error) and not self.session.nick_text and not self.session.ended:
            if self._lines:
                # A script goes on as if it had been let in; none of it may be taken for a nickname.
                self._print("nothing of what you sent was said")
                self.session.end("error")
            else:
                self._print("choose another nickname")

    # --- what the person types ----------------------------------------------------------------------------

    def _meaning(self) -> Message | None:
        line = self._lines.popleft()
        if isinstance(line, LineFault):
            self._print(line.reason)
            return None
        if not self.session.nick_text:
            return self._enter(line.strip(), "") if line.strip() else None
        if line.startswith("//"):
            return self._say(line[1:])
        if not line.startswith("/"):
            return self._say(line)
        word, _, rest = line[1:].partition(" ")
        command = _COMMANDS.get(word)
        if command is None:
            near = difflib.get_close_matches(word, _COMMANDS, 1)
            meant = f"did you mean /{near[0]}?" if near else "/help shows what there is"
            self._print(f"there is no such command; {meant}")
            return None
        return command(self, rest.strip())

    def _enter(self, nick: str, room: str) -> Message:
        self._joining = room or self.factory.hub.default_room
        return Join(nick, room, 0, 0, SHOWN_ON_JOINING)

    def _say(self, text: str) -> Message | None:
        if self._is_nowhere():
            return None
        return Say(0, self._room, text)

    def _is_nowhere(self) -> bool:
        if not self._room:
            # Who was kicked may be in others, and must not, unawares, go on in one of them.
            is_in_others = bool(self.session.members)
            self._print(
                "you are talking in no room now; /join the one you mean"
                if is_in_others
                else "you are in no room; /join one first"
            )
        return not self._room

    def _join(self, room: str) -> Message | None:
        if not room:
            self._print("/join ROOM: which room?")
            return None
        if room in self.session.members:
            self._room = room
            self._print(f"you are talking in {_shown(room)} now")
            return None
        return self._enter(self.session.nick_text, room)

    def _leave(self, room: str) -> Message | None:
        if not room and self._is_nowhere():
            return None
        leaving = room or self._room
        if leaving in self.session.members:
            others = [name for name in self.session.members if name != leaving]
            if leaving == self._room:
                self._room = others[-1] if others else ""
            now = f"you are talking in {_shown(self._room)} now" if self._room else "you are in no room now"
            self._print(f"you left {_shown(leaving)}; {now}")
        return Leave(leaving)

    def _nick(self, nick: str) -> Message:
        return Nick(nick)

    def _who(self, _: str) -> Message | None:
        return None if self._is_nowhere() else Who(self._room)

    def _msg(self, rest: str) -> Message | None:
        nick, _, text = rest.partition(" ")
        if not text.strip():
            self._print("/msg NICK TEXT: to whom, and what?")
            return None
        return Tell(0, nick, text.strip())

    def _history(self, number: str) -> Message | None:
        if self._is_nowhere():
            return None
        limit = _number(number) if number else SHOWN_ON_JOINING
        if limit is None or not 1 <= limit <= MOST_SHOWN:
            self._print(f"/history [N]: N is a number from 1 to {MOST_SHOWN}")
            return None
        return History(self._room, 0, limit)

    def _search(self, words: str) -> Message | None:
        if not words:
            self._print("/search WORDS: what for?")
            return None
        return None if self._is_nowhere() else Search(self._room, words, SHOWN_ON_JOINING)

    def _me(self, action: str) -> Message | None:
        if not action:
            self._print("/me ACTION: what do you do?")
            return None
        return self._say(f"/me {action}")

    def _help(self, _: str) -> None:
        self._print(HELP)

    def _quit(self, _: str) -> Message:
        return Leave("")

    def _moderate(self, action: Action, rest: str) -> Message | None:
        nick, _, reason = rest.partition(" ")
        if not nick:
            self._print(f"/{action.name.lower()} NICK: whom?")
            return None
        seconds = 0
        if action in (Action.BAN, Action.MUTE):
            first, _, after = reason.partition(" ")
            number = _number(first)
            if number is not None:
                seconds, reason = min(number, 2**32 - 1), after
        return None if self._is_nowhere() else Moderate(action, self._room, nick, seconds, reason)

    def _kick(self, rest: str) -> Message | None:
        return self._moderate(Action.KICK, rest)

    def _ban(self, rest: str) -> Message | None:
        return self._moderate(Action.BAN, rest)

    def _unban(self, rest: str) -> Message | None:
        return self._moderate(Action.UNBAN, rest)

    def _mute(self, rest: str) -> Message | None:
        return self._moderate(Action.MUTE, rest)

    def _unmute(self, rest: str) -> Message | None:
        return self._moderate(Action.UNMUTE, rest)


_COMMANDS: dict[str, Callable[[LineProtocol, str], Message | None]] = {
    "join": LineProtocol._join,
    "leave": LineProtocol._leave,
    "nick": LineProtocol._nick,
    "who": LineProtocol._who,
    "msg": LineProtocol._msg,
    "history": LineProtocol._history,
    "search": LineProtocol._search,
    "me": LineProtocol._me,
    "help": LineProtocol._help,
    "quit": LineProtocol._quit,
    "kick": LineProtocol._kick,
    "ban": LineProtocol._ban,
    "unban": LineProtocol._unban,
    "mute": LineProtocol._mute,
    "unmute": LineProtocol._unmute,
}

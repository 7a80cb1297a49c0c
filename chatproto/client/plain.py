"""What happens in a chat, as plain lines for a terminal, a pipe or a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from chatproto.client.events import ChatEvents
from chatproto.client.outcomes import Refused
from chatproto.text import tame
from chatproto.wire.messages import Chat, Joined, Lagged, Left, Notice, Renamed, Roster, Told, Welcome

__all__ = ["PlainScreen", "names", "speech", "tame"]

ACTION = "/me "


def speech(where: str, nick: str, text: str) -> list[str]:
    """The lines that show what *nick* said: harmless for a terminal, and none can pass for another message.

    Only the first has a name in brackets or a star; *where* stands before each.
    """
    where, nick = tame(where), tame(nick)
    first, *others = (tame(line.expandtabs()) for line in text.split("\n"))
    if first.startswith(ACTION):
        shown = [f"[{where}] * {nick} {first.removeprefix(ACTION)}"]
    else:
        shown = [f"[{where}] <{nick}> {first}"]
    return shown + [f"[{where}]   | {line}" for line in others]


def names(nicks: Iterable[str], total: int) -> str:
    """A list of people, for a line."""
    shown = sorted((tame(nick) for nick in nicks), key=str.casefold)
    rest = total - len(shown)
    return ", ".join(shown) + (f" and {rest:,} more" if rest > 0 else "")


class PlainScreen(ChatEvents):
    """Shows the events of a client, by giving whole lines to *write*.

    Lines that begin with `--` are from the program itself; no message can look like one.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._was_connected = False

    def note(self, text: str) -> None:
        """Show a line of the program's own; *text* may hold what others wrote."""
        self._write(f"-- {tame(text)}\n")

    def past(self, chats: Iterable[Chat]) -> None:
        """Show messages of the past, with their time."""
        for chat in chats:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(chat.time / 1_000))
            for line in speech(f"{chat.room} {when}", chat.nick, chat.text):
                self._write(line + "\n")

    def chat(self, message: Chat) -> None:
        """See `ChatEvents`."""
        for line in speech(message.room, message.nick, message.text):
            self._write(line + "\n")

    def told(self, message: Told) -> None:
        """See `ChatEvents`."""
        for line in speech("to you", message.nick, message.text):  # no room has a blank in its name
            self._write(line + "\n")

    def joined(self, message: Joined) -> None:
        """See `ChatEvents`."""
        self.note(f"{message.nick} entered {message.room}")

    def left(self, message: Left) -> None:
        """See `ChatEvents`."""
        why = "" if message.reason == "left" else f" ({message.reason})"
        self.note(f"{message.nick} left {message.room}{why}")

    def renamed(self, message: Renamed) -> None:
        """See `ChatEvents`."""
        self.note(f"{message.old} is {message.new} now")

    def roster(self, message: Roster) -> None:
        """See `ChatEvents`."""
        self.note(f"{message.room}: {names(message.nicks, message.total)}")

    def notice(self, message: Notice) -> None:
        """See `ChatEvents`."""
        for line in message.text.split("\n"):
            self.note(f"the server says: {line}")

    def lagged(self, message: Lagged) -> None:
        """See `ChatEvents`."""
        self.note(f"{message.room}: what comes now is late, for this connection was too slow")

    def missing(self, room: str, first: int, last: int) -> None:
        """See `ChatEvents`."""
        if not last:
            self.note(f"{room}: the server began anew, and something may be lost")
        elif first == last:
            self.note(f"{room}: one message is lost")
        else:
            self.note(f"{room}: {last - first + 1:,} messages are lost")

    def connected(self, message: Welcome) -> None:
        """See `ChatEvents`."""
        again = " again" if self._was_connected else ""
        self._was_connected = True
        self.note(f"connected{again} to {message.server} as {message.nick}")

    def disconnected(self, reason: str) -> None:
        """See `ChatEvents`."""
        self.note(f"the connection is lost: {reason}")

    def reconnecting(self, delay_s: float) -> None:
        """See `ChatEvents`."""
        self.note(f"trying again in {delay_s:.0f} s")

    def refused(self, room: str, refusal: Refused) -> None:
        """See `ChatEvents`."""
        self.note(f"{room}: {refusal.text}" if room else refusal.text)

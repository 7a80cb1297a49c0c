"""What a person typed: something to say, or a command with what belongs to it."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["ACTIONS", "COMMANDS", "Command", "Form", "Said", "Unknown", "help_lines", "moderation", "parse"]


@dataclass(frozen=True, slots=True)
class Form:
    """One command, for people."""

    name: str
    arguments: str
    does: str
    full_screen_only: bool = False


COMMANDS = (
    Form("join", "ROOM", "enter a room, or go on speaking there"),
    Form("leave", "[ROOM]", "leave it"),
    Form("nick", "NAME", "take another nickname"),
    Form("who", "[ROOM]", "who is in the room"),
    Form("msg", "NICK TEXT", "say something to one person"),
    Form("query", "NICK", "talk with one person alone", full_screen_only=True),
    Form("close", "", "leave this room, or put this private talk away", full_screen_only=True),
    Form("history", "[N]", "the newest messages of the room"),
    Form("search", "WORDS", "find what was said in the room"),
    Form("me", "ACTION", "say what you do"),
    Form("bell", "on|off", "ring when your name is said", full_screen_only=True),
    Form("kick", "NICK [WHY]", "operators: put someone out of the room"),
    Form("ban", "NICK [SECONDS] [WHY]", "operators: and keep them out"),
    Form("unban", "NICK", "operators: let them in again"),
    Form("mute", "NICK [SECONDS] [WHY]", "operators: let them only listen"),
    Form("unmute", "NICK", "operators: let them speak again"),
    Form("help", "", "this"),
    Form("quit", "", "leave and end"),
)


ACTIONS = {"kick": 1, "ban": 2, "unban": 3, "mute": 4, "unmute": 5}
"""What operators may do, and the number of each in `moderate` (docs/protocol.md, section 2)."""


@dataclass(frozen=True, slots=True)
class Said:
    """Something to say."""

    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command, with the rest of the line without blanks around it."""

    name: str
    rest: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """No command; *sentence* says what may have been meant."""

    sentence: str


def parse(text: str, commands: Collection[str]) -> Said | Command | Unknown | None:
    """What *text* is; None for nothing. Of several lines only /me and /msg are commands."""
    if not text:
        return None
    if text.startswith("//"):
        return Said(text[1:])
    if not text.startswith("/"):
        return Said(text)
    name, _, rest = text[1:].partition(" ")
    if "\n" in text and name not in ("me", "msg"):
        return Said(text)
    if name in commands:
        return Command(name, rest.strip())
    near = difflib.get_close_matches(name.lower(), sorted(commands), n=1)
    if near:
        return Unknown(f"there is no command /{name}; did you mean /{near[0]}?")
    return Unknown(f"there is no command /{name}; /help shows those that there are")


def moderation(name: str, rest: str) -> tuple[int, str, int, str] | None:
    """What a command of operators asks for: action, nickname, seconds, reason. None where nobody is named."""
    action = ACTIONS[name]
    nick, _, after = rest.partition(" ")
    if not nick:
        return None
    seconds, _, reason = after.strip().partition(" ")
    if name in ("ban", "mute") and seconds.isascii() and seconds.isdigit():
        return action, nick, min(int(seconds), 2**32 - 1), reason.strip()
    return action, nick, 0, after.strip()


def help_lines(*, full_screen: bool) -> list[str]:
    """The commands, one a line."""
    forms = [form for form in COMMANDS if full_screen or not form.full_screen_only]
    return [f"{f'/{form.name} {form.arguments}'.strip():<28} {form.does}" for form in forms]

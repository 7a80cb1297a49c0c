"""What people may type behind a slash: the commands of the line form (docs/protocol.md, section 7)."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed

from chatproto.net.lineform import one_line, wrapped
from chatproto.rooms.moderation import Action
from chatproto.rooms.orders import OrderRefused
from chatproto.wire.messages import History, Leave, Login, Message, Moderate, Nick, Search, Who

if TYPE_CHECKING:
    from chatproto.net.lines import LineProtocol

__all__ = ["COMMANDS", "MOST_SHOWN", "SHOWN", "Command", "help_lines", "meant_by"]

SHOWN = 20
"""Messages that are shown to whoever enters a room or asks for some."""

MOST_SHOWN = 65_535

_LONGEST_GUESSED = 20
"""Characters of a word that is compared with others; what is longer is no slip of the fingers."""

_USAGE_WIDTH, _ENTRY_WIDTH = 17, 39
_TWO_ENTRIES_WIDTH = 80


@dataclass(frozen=True, slots=True)
class Command:
    """One command: *does* gets the person and what stands behind the word, and may make a request of it."""

    usage: str
    meaning: str
    does: Callable[[LineProtocol, str], Message | None]
    is_for_operators: bool = False
    is_for_accounts: bool = False
    is_before_joining: bool = False


def meant_by(word: str, names: Iterable[str]) -> str:
    """Which of *names* someone may have meant who wrote *word*; empty if none is near."""
    if not word or len(word) > _LONGEST_GUESSED:
        return ""
    names = list(names)
    near = difflib.get_close_matches(word, names, 1) or [name for name in names if name.startswith(word)]
    return near[0] if near else ""


def help_lines(person: LineProtocol, columns: int) -> list[str]:
    """The commands that *person* may use, as lines that fit into *columns*, on one screen."""
    session, hub = person.session, person.hub
    is_in = bool(session.nick_text)
    entries = [
        (command.usage, command.meaning)
        for command in COMMANDS.values()
        if not command.is_for_operators
        and not (command.does is _login and (is_in or hub.authenticate is None))
        and not (command.is_for_accounts and session.account is None)
        and (is_in or command.is_before_joining)
    ]
    if is_in:
        entries.append(("//TEXT", "say /TEXT"))
    about = f"What you type is said in the room you are in. Times are {person.factory.line_form.zone_name()}."
    if not is_in:
        about = "Say your nickname, and you are in. Before that there are only these:"
    lines = wrapped(about, columns)
    if columns < _TWO_ENTRIES_WIDTH:
        lines += (line for usage, meaning in entries for line in wrapped(f"{usage}  {meaning}", columns))
    else:
        shown = [f"{usage:<{_USAGE_WIDTH}}{meaning}" for usage, meaning in entries]
        half = (len(shown) + 1) // 2
        right = [*shown[half:], ""]
        lines += (
            f"* {left:<{_ENTRY_WIDTH}}{beside}".rstrip()
            for left, beside in zip(shown[:half], right, strict=False)
        )
    if session.is_operator:
        orders = ", ".join(command.usage for command in COMMANDS.values() if command.is_for_operators)
        lines += wrapped(f"operators: {orders}", columns)
    return lines


def _number(text: str) -> int | None:
    """The whole number that *text* is, or None; beyond all bounds here if it has many digits."""
    return int(text.lstrip("0")[:12] or "0") if text.isascii() and text.isdigit() else None


def _join(person: LineProtocol, room: str) -> Message | None:
    if not room:
        person.stop_talking("/join ROOM: which room?")
        return None
    if room in person.session.members:
        person.talk_in(room)
        return None
    return person.enter(person.session.nick_text, room)


def _leave(person: LineProtocol, room: str) -> Message | None:
    if not room and person.is_nowhere():
        return None
    leaving = room or person.room
    if leaving in person.session.members:
        others = [name for name in person.session.members if name != leaving]
        if leaving == person.room:
            person.room = others[-1] if others else ""
        now = f"you are talking in {one_line(person.room)} now" if person.room else "you are in no room now"
        person.tell(f"you left {one_line(leaving)}; {now}")
    return Leave(leaving)


def _who(person: LineProtocol, _: str) -> Message | None:
    return None if person.is_nowhere() else Who(person.room)


def _nick(person: LineProtocol, nick: str) -> Message:
    person.asked = Nick(nick)
    return person.asked


def _msg(person: LineProtocol, rest: str) -> Message | None:
    nick, _, text = rest.partition(" ")
    if not text.strip():
        person.tell("/msg NICK TEXT: to whom, and what?")
        return None
    return person.say_to(nick, text.strip())


def _me(person: LineProtocol, action: str) -> Message | None:
    if not action:
        person.tell("/me ACTION: what do you do?")
        return None
    return person.say(f"/me {action}")


def _history(person: LineProtocol, number: str) -> Message | None:
    if person.is_nowhere():
        return None
    limit = _number(number) if number else SHOWN
    if limit is None or not 1 <= limit <= MOST_SHOWN:
        person.tell(f"/history [N]: N is a number from 1 to {MOST_SHOWN}")
        return None
    person.asked = History(person.room, 0, limit)
    return person.asked


def _search(person: LineProtocol, words: str) -> Message | None:
    if not words:
        person.tell("/search WORDS: what for?")
        return None
    if person.is_nowhere():
        return None
    person.asked = Search(person.room, words, SHOWN)
    return person.asked


def _help(person: LineProtocol, _: str) -> None:
    person.show(help_lines(person, person.columns))


def _quit(person: LineProtocol, _: str) -> Message:
    person.tell(f"bye, {one_line(person.session.nick_text)}" if person.session.nick_text else "bye")
    return Leave("")


def _login(person: LineProtocol, rest: str) -> Message | None:
    user, _, secret = rest.partition(" ")
    if person.session.nick_text:
        person.tell("you are in already; to log in, come anew and do that before your nickname")
        return None
    if not secret.strip():
        person.not_let_in("/login USER SECRET: who, and with what?")
        return None
    person.asked = Login(user, secret.strip())
    return person.asked


def _moderate(action: Action, person: LineProtocol, rest: str) -> Message | None:
    nick, _, reason = rest.partition(" ")
    if not nick:
        person.tell(f"/{action.name.lower()} NICK: whom?")
        return None
    seconds = 0
    if action in (Action.BAN, Action.MUTE):
        first, _, after = reason.partition(" ")
        number = _number(first)
        if number is not None:
            seconds, reason = min(number, 2**32 - 1), after
    return None if person.is_nowhere() else Moderate(action, person.room, nick, seconds, reason)


def _of_room(action: Action, target: str, person: LineProtocol, reason: str) -> Message | None:
    return None if person.is_nowhere() else Moderate(action, person.room, target, 0, reason)


def _remove(person: LineProtocol, rest: str) -> Message | None:
    nick, _, reason = rest.partition(" ")
    if not nick:
        person.tell("/remove NICK: whose last message?")
        return None
    return _of_room(Action.KICK, nick if ":" in nick else f"last:{nick}", person, reason)


def _sessions(person: LineProtocol, number: str) -> None:
    account = person.session.account
    if account is None:
        person.tell("you are here without an account")
    elif number:
        _end_session(person, account, _number(number))
    else:
        for facts in person.hub.orders.sessions(account):
            is_own = facts.id == person.session.id
            where = f"{one_line(facts.nick)} in {', '.join(map(one_line, facts.rooms)) or 'no room'}"
            since = person.factory.line_form.time(facts.began_ms)
            address = f" from {facts.address}" if facts.address else ""
            own = ", this one" if is_own else ""
            person.tell(f"session {facts.id}{own}: {where}, since {since}{address}")
        person.tell("/sessions NUMBER ends one")


def _end_session(person: LineProtocol, account: str, id: int | None) -> None:
    try:
        answer = person.hub.orders.end_session(id or 0, account, account=account)
    except OrderRefused as refusal:
        person.tell(str(refusal))
    else:
        kept = answer if isinstance(answer, Deferred) else succeed(answer)
        kept.addCallback(person.tell_if_there)


def _order(action: Action, arguments: str) -> Command:
    usage = f"/{action.name.lower()} {arguments}"
    return Command(usage, "", partial(_moderate, action), is_for_operators=True)


COMMANDS: dict[str, Command] = {
    "join": Command("/join ROOM", "enter a room, go back", _join),
    "leave": Command("/leave [ROOM]", "leave a room", _leave),
    "who": Command("/who", "who is in the room", _who),
    "nick": Command("/nick NAME", "take another nickname", _nick),
    "msg": Command("/msg NICK TEXT", "say it to one person", _msg),
    "me": Command("/me ACTION", "say what you do", _me),
    "history": Command("/history [N]", "what was said", _history),
    "search": Command("/search WORDS", "find what was said", _search),
    "login": Command("/login USER SECRET", " say who you are", _login, is_before_joining=True),
    "help": Command("/help", "this", _help, is_before_joining=True),
    "quit": Command("/quit", "leave the chat", _quit, is_before_joining=True),
    "kick": _order(Action.KICK, "NICK [WHY]"),
    "ban": _order(Action.BAN, "NICK [SECONDS] [WHY]"),
    "unban": _order(Action.UNBAN, "NICK"),
    "mute": _order(Action.MUTE, "NICK [SECONDS] [WHY]"),
    "unmute": _order(Action.UNMUTE, "NICK"),
    "remove": Command("/remove NICK [WHY]", "", _remove, is_for_operators=True),
    "lock": Command("/lock [WHY]", "", partial(_of_room, Action.BAN, "*"), is_for_operators=True),
    "unlock": Command("/unlock", "", partial(_of_room, Action.UNBAN, "*"), is_for_operators=True),
    "sessions": Command("/sessions [N]", "yours: see, end", _sessions, is_for_accounts=True),
}

ELSEWHERE = {
    "j": "join",
    "part": "leave",
    "names": "who",
    "users": "who",
    "list": "who",
    "name": "nick",
    "tell": "msg",
    "w": "msg",
    "whisper": "msg",
    "query": "msg",
    "dm": "msg",
    "action": "me",
    "log": "history",
    "last": "history",
    "find": "search",
    "grep": "search",
    "h": "help",
    "?": "help",
    "commands": "help",
    "exit": "quit",
    "q": "quit",
    "bye": "quit",
    "disconnect": "quit",
    "identify": "login",
}
"""What the same is called in other chats."""

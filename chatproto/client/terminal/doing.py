"""Does what is typed, and what keys ask for, by asking the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from chatproto.client.client import ChatClient
from chatproto.client.ends import Ended, end_of
from chatproto.client.outcomes import Disconnected, Entered, Refused, TooManyWaiting
from chatproto.client.plain import ACTION, names
from chatproto.client.terminal.desk import Desk, Question
from chatproto.client.terminal.finding import Finding
from chatproto.client.terminal.guide import guide
from chatproto.client.terminal.panel import Item, Panel
from chatproto.client.terminal.places import PRIVATE, Place
from chatproto.client.terminal.speaking import Speaking
from chatproto.client.typed import ACTIONS, COMMANDS, Command, Said, Unknown, moderation, parse
from chatproto.wire.errors import ErrorCode

__all__ = ["Doing"]

REPLAY_MESSAGES = 100
"""What is shown of a room when one comes in."""

_NICK_ERRORS = frozenset({ErrorCode.NICK_TAKEN, ErrorCode.BAD_NICK})


class Doing:
    """What one does at *desk*, by way of *client*; *left_off* has the newest message seen of each room."""

    def __init__(
        self, desk: Desk, client: ChatClient, left_off: Callable[[str], int] = lambda room: 0
    ) -> None:
        self._desk = desk
        self._client = client
        self._left_off = left_off
        self._speaking = Speaking(desk, client)
        self.finding = Finding(desk, client)
        self._tried: list[str] = []  # nicknames
        self._asked_for: list[str] = []  # rooms, by who is asked for another nickname
        self._was_warned = False
        self._commands: dict[str, Callable[[str], Awaitable[None]]] = {
            "join": self._join,
            "leave": self._leave,
            "nick": self._nick,
            "who": self._who,
            "msg": self._msg,
            "query": self._query,
            "close": self._close,
            "history": self._history,
            "search": self._search,
            "me": self._me,
            "bell": self._bell,
            "help": self._help,
            "quit": self._quit,
        }
        for name in ACTIONS:
            self._commands[name] = partial(self._moderate, name)
        assert set(self._commands) == {form.name for form in COMMANDS}

    @property
    def command_names(self) -> list[str]:
        """What may stand after a slash."""
        return list(self._commands)

    def run(self, doing: Awaitable[None]) -> None:
        """Let *doing* take its time; what it comes to is on the screen."""
        Deferred.fromCoroutine(self._guarded(doing)).addErrback(self._broke)

    def take(self, text: str) -> bool:
        """Do what was typed; False where it is no command that there is, and should be mended."""
        what = parse(text, self._commands)
        match what:
            case Said(said):
                return self._say(said)
            case Command(name, rest):
                self.run(self._commands[name](rest))
            case Unknown(sentence):
                self._desk.hint = sentence
                return False
            case None:
                pass
        return True

    # --- coming in ------------------------------------------------------------------------------------------

    def begin(self, rooms: list[str]) -> None:
        """Enter *rooms*, and show the first."""
        for room in rooms:
            self.run(self.enter(room, is_shown=room == rooms[0]))

    async def enter(self, room: str, *, is_shown: bool = True) -> None:
        """Join *room*; where the nickname is the trouble, ask for another. With an `@` it is a person."""
        if room.startswith(PRIVATE):
            await self._query(room.removeprefix(PRIVATE))
            return
        try:
            entered = await self._client.join(room, REPLAY_MESSAGES)
        except Refused as refusal:
            if refusal.code in _NICK_ERRORS and not self._client.open:
                self.ask_nick(refusal, [room])
                return
            self._end_if_kept_out(refusal)
            raise
        self._entered(entered, is_shown)

    def ask_nick(self, refusal: Refused, rooms: list[str]) -> None:
        """Say that the nickname does not do, and go on with another one in *rooms*."""
        desk = self._desk
        if desk.question is not None:
            # The same refusal for another room: one answer is enough for both.
            self._asked_for += rooms
            return
        self._asked_for = list(rooms)
        self._tried.append(self._client.nick)
        suggestion = _another(self._client.nick, self._tried)
        why = "is taken" if refusal.code == ErrorCode.NICK_TAKEN else f"does not do: {refusal.text}"

        def answer(nick: str) -> None:
            self.run(self._again_as(nick, self._asked_for))

        desk.question = Question(f"{self._client.nick} {why}. Which nickname?", suggestion, answer)
        desk.changed()

    async def _again_as(self, nick: str, rooms: list[str]) -> None:
        try:
            await self._client.rename(nick)
        except (Refused, ValueError) as error:
            code = error.code if isinstance(error, Refused) else ErrorCode.BAD_NICK
            self.ask_nick(Refused(code, str(error)), rooms)
            return
        self._desk.nick = nick
        self._client.start()  # it may have given up; otherwise this does nothing
        self.begin(rooms)

    def gave_up(self, refusal: Refused) -> None:
        """The server does not take one back."""
        self._end_if_kept_out(refusal)
        rooms = [place.name for place in self._desk.places.all if not place.is_private]
        for place in self._desk.places.all:
            if not place.is_private:
                place.transcript.note("the server does not let you back", self._desk.now_ms())
        self.ask_nick(refusal, rooms or [""])

    def _end_if_kept_out(self, refusal: Refused) -> None:
        """Where one has to log in: that is done when the program starts."""
        if refusal.code == ErrorCode.LOGIN_REQUIRED:
            self._desk.finish(end_of(refusal, self._desk.server))

    def _entered(self, entered: Entered, is_shown: bool) -> None:
        desk = self._desk
        is_known = desk.places.find(entered.room) is not None
        place = desk.places.open(entered.room)
        place.set_members(entered.nicks, entered.total)
        if not place.is_entered:
            seen = self._left_off(entered.room)
            if seen and place.transcript.mark is None:
                place.transcript.mark_after(seen)
            place.transcript.is_complete = entered.status == 0 and not is_known
            others = entered.total - 1
            people = (
                "you are alone"
                if not others
                else "with one other"
                if others == 1
                else f"with {others:,} others"
            )
            desk.note(f"this is {entered.room}; {people if not others else f'you are here {people}'}", place)
            place.is_entered = True
        if is_shown:
            desk.places.show(place)
        elif place is not desk.current:
            place.transcript.leave_off()
        desk.changed()

    # --- what is typed --------------------------------------------------------------------------------------

    def _say(self, text: str) -> bool:
        place = self._desk.current
        if place is self._desk.places.nowhere:
            self._desk.hint = "you are in no room; /join ROOM enters one"
            return False
        self._speaking.say(place, text)
        return True

    async def _join(self, room: str) -> None:
        if not room:
            self._desk.hint = "which room? /join ROOM"
            return
        known = self._desk.places.find(room)
        if known is not None and known.is_entered and room in self._client.rooms:
            self._desk.places.show(known)
            return
        if known is not None:
            known.is_entered = False
        await self.enter(room)

    async def _leave(self, room: str) -> None:
        place = self._desk.places.find(room) if room else self._desk.current
        if place is None or place is self._desk.places.nowhere:
            self._desk.hint = f"you are not in {room}" if room else "you are in no room"
            return
        self._desk.places.close(place)
        self._desk.changed()
        if not place.is_private and place.name in self._client.rooms:
            await self._client.leave(place.name)

    async def _close(self, rest: str) -> None:
        await self._leave("")

    async def _nick(self, nick: str) -> None:
        if not nick:
            self._desk.hint = "which nickname? /nick NAME"
            return
        await self._client.rename(nick)

    async def _who(self, rest: str) -> None:
        room = rest or self._desk.current.name
        if room.startswith(PRIVATE):
            self._desk.hint = f"this is you and {room.removeprefix(PRIVATE)}"
            return
        roster = await self._client.who(room)
        place = self._desk.places.find(roster.room)
        if place is not None:
            place.set_members(roster.nicks, roster.total)
        shown = names(roster.nicks, roster.total)
        self._desk.panel = Panel(f"{roster.total:,} in {roster.room}", [Item((("text", shown),))])

    async def _msg(self, rest: str) -> None:
        nick, _, text = rest.partition(" ")
        if not text:
            self._desk.hint = "to whom, and what? /msg NICK TEXT"
            return
        place = self._person(nick)
        self._speaking.say(place, text.strip())

    async def _query(self, nick: str) -> None:
        if not nick:
            self._desk.hint = "with whom? /query NICK"
            return
        self._desk.places.show(self._person(nick))

    def _person(self, nick: str) -> Place:
        place = self._desk.places.open(PRIVATE + nick)
        place.is_entered = True
        place.transcript.is_complete = True
        return place

    async def _history(self, rest: str) -> None:
        limit = int(rest) if rest.isascii() and rest.isdigit() and len(rest) < 6 else 0 if rest else 50
        if not 1 <= limit < 2**16:
            self._desk.hint = "how many, from 1 to 65,535? /history [N]"
            return
        await self.finding.load(self._desk.current, limit)
        self.finding.up(self._desk.body_rows)

    async def _search(self, rest: str) -> None:
        if not rest:
            self._desk.hint = "what? /search WORDS"
            return
        await self.finding.search(rest)

    async def _me(self, action: str) -> None:
        if not action:
            self._desk.hint = "what do you do? /me ACTION"
        else:
            self._say(ACTION + action)

    async def _bell(self, rest: str) -> None:
        if rest not in ("on", "off"):
            self._desk.hint = f"the bell is {'on' if self._desk.bell else 'off'}; /bell on or /bell off"
            return
        self._desk.bell = rest == "on"
        self._desk.hint = f"the bell is {rest}"

    async def _moderate(self, name: str, rest: str) -> None:
        asked = moderation(name, rest)
        if asked is None:
            self._desk.hint = f"whom? /{name} NICK"
            return
        action, nick, seconds, reason = asked
        place = self._desk.current
        said = await self._client.moderate(action, place.name, nick, seconds, reason)
        self._desk.note(said or f"/{name} {nick}: done", place)

    async def _help(self, rest: str) -> None:
        self._desk.panel = guide()

    async def _quit(self, rest: str) -> None:
        self.quit(0)

    def quit(self, code: int) -> None:
        """End; but say first, once, that something would be lost."""
        desk = self._desk
        if desk.unacknowledged and not self._was_warned:
            self._was_warned = True
            count = "one message is" if desk.unacknowledged == 1 else f"{desk.unacknowledged} messages are"
            desk.hint = f"{count} not acknowledged by the server and would be lost; the same again quits"
            desk.changed()
            return
        desk.finish(Ended(code))

    # --- what goes wrong ------------------------------------------------------------------------------------

    async def _guarded(self, doing: Awaitable[None]) -> None:
        place = self._desk.current
        try:
            await doing
        except Refused as refusal:
            self._desk.note(f"refused: {refusal.text}", place if place in self._desk.places.all else None)
        except (Disconnected, TooManyWaiting, ValueError) as error:
            self._desk.note(f"not done: {error}", place if place in self._desk.places.all else None)
        self._desk.changed()

    def _broke(self, failure: Failure) -> None:
        self._desk.note(f"a fault of this program: {failure.getErrorMessage()}")


def _another(nick: str, tried: list[str]) -> str:
    """A nickname like *nick* that was not tried."""
    stem = nick.rstrip("0123456789") or nick
    number = 2
    while f"{stem[:28]}{number}" in tried:
        number += 1
    return f"{stem[:28]}{number}"

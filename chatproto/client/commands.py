"""What a person types, a line at a time: something to say, or a command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from chatproto.client.client import ChatClient
from chatproto.client.outcomes import Disconnected, Refused, TooManyWaiting
from chatproto.client.plain import ACTION, PlainScreen, names
from chatproto.client.typed import ACTIONS, Command, Said, Unknown, help_lines, moderation, parse
from chatproto.wire.errors import ErrorCode

__all__ = ["Commands"]

RATE_LIMIT_PAUSE_S = 1.0
DEFAULT_HISTORY_MESSAGES = 20
MAX_HISTORY_MESSAGES = 2**16 - 1


class Commands:
    """Does what the lines say that a person types, and shows on *screen* what comes of it."""

    def __init__(
        self, client: ChatClient, screen: PlainScreen, clock: IReactorTime, quit: Callable[[], None]
    ) -> None:
        self.failure = ""
        """Why the last line that came to nothing did; empty if there was none."""
        self._client = client
        self._screen = screen
        self._clock = clock
        self._quit = quit
        self._room = ""
        self._commands: dict[str, Callable[[str], Awaitable[None]]] = {
            "join": self._join,
            "leave": self._leave,
            "nick": self._nick,
            "who": self._who,
            "msg": self._msg,
            "history": self._history,
            "search": self._search,
            "me": self._me,
            "help": self._help,
            "quit": self._quit_now,
        }
        for name in ACTIONS:
            self._commands[name] = partial(self._moderate, name)

    @property
    def room(self) -> str:
        """Where lines are said: the room joined last of those that one is in. Empty where there is none."""
        rooms = self._client.rooms
        return self._room if self._room in rooms else rooms[-1] if rooms else ""

    async def take(self, line: str) -> None:
        """Do what *line* says, and return when it is done. Raises nothing that a server can cause."""
        try:
            match parse(line, self._commands):
                case Said(text):
                    await self._say(text)
                case Command(name, rest):
                    await self._commands[name](rest)
                case Unknown(sentence):
                    self.fail(sentence)
        except Refused as refusal:
            self.fail(f"refused: {refusal.text}")
        except (Disconnected, TooManyWaiting, ValueError) as error:
            self.fail(f"not done: {error}")

    async def enter(self, room: str) -> None:
        """Join *room*, the server's default one if it is empty. Fails as `ChatClient.join` does."""
        entered = await self._client.join(room)
        self._room = entered.room
        self._screen.note(f"you are in {entered.room}, with {names(entered.nicks, entered.total)}")

    async def settle(self) -> None:
        """Return at once: what was taken is done."""

    def is_quit(self, line: bytes) -> bool:
        """Whether *line* ends the program."""
        return line.rstrip(b"\r") == b"/quit"

    def fail(self, why: str) -> None:
        """Say that something came to nothing, and why."""
        self.failure = why
        self._screen.note(why)

    async def _say(self, text: str) -> None:
        if not self.room:
            self.fail("you are in no room; /join ROOM enters one")
            return
        await self._until_allowed(lambda: self._client.say(self.room, text))

    async def _until_allowed(self, ask: Callable[[], Awaitable[object]]) -> None:
        """Ask as often as the server wants it slower: one line after the other, so the order stays."""
        while True:
            try:
                await ask()
                return
            except Refused as refusal:
                if refusal.code != ErrorCode.RATE_LIMITED:
                    raise
            await deferLater(self._clock, RATE_LIMIT_PAUSE_S)

    async def _join(self, room: str) -> None:
        if not room:
            self.fail("which room? /join ROOM")
            return
        await self.enter(room)

    async def _leave(self, room: str) -> None:
        left = room or self.room
        if not left:
            self.fail("you are in no room")
            return
        await self._client.leave(left)
        now = f"you speak in {self.room}" if self.room else "you are in no room"
        self._screen.note(f"you left {left}; {now}")

    async def _nick(self, nick: str) -> None:
        if not nick:
            self.fail("which nickname? /nick NAME")
            return
        await self._client.rename(nick)

    async def _who(self, rest: str) -> None:
        self._screen.roster(await self._client.who(rest or self.room))

    async def _msg(self, rest: str) -> None:
        nick, _, text = rest.partition(" ")
        if not text:
            self.fail("to whom, and what? /msg NICK TEXT")
            return
        await self._until_allowed(lambda: self._client.tell(nick, text))

    async def _history(self, rest: str) -> None:
        limit = int(rest) if rest.isascii() and rest.isdigit() else 0 if rest else DEFAULT_HISTORY_MESSAGES
        if not 1 <= limit <= MAX_HISTORY_MESSAGES:
            self.fail(f"how many, from 1 to {MAX_HISTORY_MESSAGES:,}? /history [N]")
            return
        self._screen.past(await self._client.history(self.room, limit=limit))

    async def _search(self, query: str) -> None:
        if not query:
            self.fail("what? /search WORDS")
            return
        found = await self._client.search(self.room, query)
        self._screen.note(f"found in {self.room}: {len(found)}")
        self._screen.past(found)

    async def _moderate(self, name: str, rest: str) -> None:
        asked = moderation(name, rest)
        if asked is None:
            self.fail(f"whom? /{name} NICK")
            return
        action, nick, seconds, reason = asked
        said = await self._client.moderate(action, self.room, nick, seconds, reason)
        self._screen.note(said or f"/{name} {nick}: done")

    async def _me(self, action: str) -> None:
        if not action:
            self.fail("what do you do? /me ACTION")
            return
        await self._say(ACTION + action)

    async def _help(self, rest: str) -> None:
        self._screen.note("A line is said in the room joined last; // at its beginning stands for one slash.")
        for line in help_lines(full_screen=False):
            self._screen.note(line)

    async def _quit_now(self, rest: str) -> None:
        self._quit()

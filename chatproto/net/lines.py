"""The face for people: lines for `nc` and `telnet`, and for scripts (docs/protocol.md, section 7).

How messages look is in `lineform`, what people may type behind a slash in `linecommands`; here is what a line
means where it stands, and what a person or a script is told.
"""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall

from chatproto.net.chat import ChatProtocol
from chatproto.net.linecommands import COMMANDS, ELSEWHERE, SHOWN, meant_by
from chatproto.net.lineform import one_line, roster_words, wrapped
from chatproto.net.sockets import carrier_socket
from chatproto.rooms.names import NameRefused
from chatproto.wire.errors import ErrorCode
from chatproto.wire.lines import LineDecoder, LineFault, Signal
from chatproto.wire.messages import (
    Ack,
    End,
    Error,
    History,
    Join,
    Left,
    Login,
    Message,
    Nick,
    Notice,
    Roster,
    Say,
    Search,
    Tell,
)
from chatproto.wire.telnet import MARK

if TYPE_CHECKING:
    from chatproto.net.factory import ChatFactory

__all__ = ["LineProtocol"]

COLUMNS = 80
"""The width of a window that nobody told of."""

LEAST_COLUMNS = 20
"""Of a window that is narrower, or says that it is, the terminal breaks the lines itself."""

QUOTED_CHARS = 40
"""So much of a line is repeated to say which one is meant."""

MOST_COMPARED = 200
"""Nicknames of a room that are looked through for one that may be meant."""


class LineProtocol(ChatProtocol):
    """One connection of a person with `nc` or `telnet`, or of a script.

    `room` is where what is typed is said, `asked` the last request that is answered in words of this face.
    """

    kind = "lines"

    def __init__(self, factory: ChatFactory) -> None:
        super().__init__(factory)
        self.form = factory.line_form
        self.room = ""
        self.asked: Message | None = None
        self._decoder = LineDecoder(factory.hub.limits.max_line_bytes)
        self._entering = ""  # the room that is being joined
        self._free_nick = ""  # offered in place of one that is taken
        self._lines: list[str | LineFault | Signal] = []  # those whose turn has not come, the next one last
        # An id is never used twice under a nickname, whoever had it before.
        self._newest_id = random.SystemRandom().getrandbits(52)
        self._unanswered: dict[int, str] = {}  # what was said under each id
        self._gone: IDelayedCall | None = None  # gives up on what a lost connection left to do

    def connectionMade(self) -> None:
        """Begin the session, and ask who it is."""
        super().connectionMade()
        assert self.transport is not None
        handle = carrier_socket(self.transport)
        if handle is not None:
            # A telnet's urgent mark stays in its place, else what follows would be taken for the mark.
            with suppress(OSError):  # there is none on a Unix socket
                handle.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        self._give_time()
        wanted = "/login USER SECRET first" if self.hub.login_required else "what is your nickname?"
        self.tell(f"welcome to chatproto; {wanted}")

    def dataReceived(self, data: bytes) -> None:
        """Take lines in, in any cut."""
        session = self.session
        if session.ended or (session.name is None and not session.is_heard(len(data))):
            return
        lines = self._decoder.receive(data)
        replies = self._decoder.take_replies()
        if replies:
            self.queue.write(replies)
        self._take_in(lines)

    def readConnectionLost(self) -> None:
        """The input is over; what came takes effect."""
        self._input_is_over = True
        self._take_in(self._decoder.finish())
        super().readConnectionLost()

    def end(self, error: BaseException | None) -> None:
        """The connection is gone. What a script had sent before it went takes effect all the same."""
        if self.session.ended or not self._lines:
            super().end(error)
            return
        self._gone = self.hub.clock.callLater(self.hub.limits.close_timeout_s, super().end, error)
        self.session.finish_input()
        self.session.drained()  # nothing waits to be sent, and nothing ever will

    def finish(self) -> None:
        """Close once everything is sent, or be gone for good."""
        super().finish()
        if self._gone is not None:
            if self._gone.active():
                self._gone.cancel()
                super().end(None)
            self.factory.connection_gone()

    def _take_in(self, lines: list[str | LineFault | Signal]) -> None:
        # What a line means depends on the lines before it, so each is read when its turn comes. An empty one
        # means nothing but to whom a nickname is offered, and there may be many.
        if self.session.nick_text:
            lines = [line for line in lines if line]
        self._lines = lines[::-1] + self._lines if self._lines else lines[::-1]
        self.session.receive([self._meaning] * len(lines))

    # --- what this face says by itself --------------------------------------------------------------------

    @property
    def columns(self) -> int:
        """How wide the person's window is."""
        columns = self._decoder.columns
        return columns if columns >= LEAST_COLUMNS else COLUMNS

    def tell(self, text: str) -> None:
        """Say *text*, in which what others wrote has been made harmless."""
        self.show(wrapped(text, self.columns))

    def tell_if_there(self, text: str) -> None:
        """Say *text*, unless the session is over by now."""
        if not self.session.ended:
            self.tell(text)

    def show(self, lines: list[str]) -> None:
        """Show lines of the server's own."""
        self.queue.write("".join(f"{line}\r\n" for line in lines).encode())

    def _give_time(self) -> None:
        self.session.wait_for_join(self.hub.limits.nickname_timeout_s, "nickname_timeout_s")

    # --- what the server says -----------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Show *message*, and keep track of where the person is."""
        if isinstance(message, Ack):
            self._unanswered.pop(message.id, None)
        elif isinstance(message, Roster):
            self.tell(roster_words(message))
            if message.room == self._entering:
                self.room, self._entering = self._entering, ""
        elif isinstance(message, Error) and not self.session.ended:
            self._refused(message)
        else:
            super().send(message)
            if isinstance(message, End):
                self._answered(message)
            elif isinstance(message, Left) and message.room == self.room:
                self.room = ""  # sent to the one who was kicked
                self.tell(self._where(without=message.room))
            elif isinstance(message, Notice) and isinstance(self.asked, Login):
                self.asked = None
                self.tell("what is your nickname?")

    def _answered(self, end: End) -> None:
        """All that was asked for is shown; say what that does not show."""
        asked, self.asked = self.asked, None
        if isinstance(asked, Join) and len(self.session.members) > 1:
            self.tell(f"you are talking in {one_line(end.room)} now")
        elif isinstance(asked, History) and not end.last:
            self.tell(f"nothing is kept of what was said in {one_line(end.room)}")
        elif isinstance(asked, Search) and not end.last:
            self.tell(f"nobody said that in {one_line(end.room)}")

    def _refused(self, error: Error) -> None:
        asked, self.asked = self.asked, None
        if error.id:
            self.asked = asked
            self._refused_word(error)
        elif not self.session.nick_text:
            self._entering = ""
            self.not_let_in(error.text, error.code, asked)
        elif self._entering:
            self._entering = ""
            self.stop_talking(one_line(error.text))
        else:
            self.tell(one_line(error.text))
            if isinstance(asked, Nick) and error.code == ErrorCode.NICK_TAKEN:
                free = self._free_like(asked.nick)
                if free:
                    self.tell(f"{free} is free: /nick {free}")

    def _refused_word(self, error: Error) -> None:
        """Something was not said. Which it was is plain if nothing else was typed since."""
        text = self._unanswered.pop(error.id, "")
        reason = one_line(error.text)
        if error.code == ErrorCode.NO_SUCH_NICK:
            meant = self._nick_near(text.partition(" ")[0])
            if meant:
                reason += f"; did you mean {meant}?"
        if error.id != self._newest_id or self._more_was_typed():
            quoted = one_line(text if len(text) <= QUOTED_CHARS else f"{text[:QUOTED_CHARS]}…")
            reason = f'not said: "{quoted}": {reason}'
        self.tell(reason)

    def not_let_in(self, text: str, code: int = 0, asked: Message | None = None) -> None:
        """Nobody is in by what was typed: say why, and what to do."""
        self.tell(one_line(text))
        free, self._free_nick = "", ""
        if code == ErrorCode.NICK_TAKEN and isinstance(asked, Join):
            free = self._free_like(asked.nick)
        if self._more_was_typed() or self._input_is_over:
            # A script goes on as if it had been let in; none of it may be taken for a nickname.
            if free:
                self.tell(f"{free} is free")
            self.tell("nothing of what you sent was said")
            self.session.end("error")
            return
        self._give_time()
        if free:
            self._free_nick = free
            self.tell(f"{free} is free: press return to take it, or type another nickname")
        elif code == ErrorCode.LOGIN_REQUIRED:
            self.tell("/login USER SECRET, then your nickname")
        elif code in (ErrorCode.BAD_NICK, ErrorCode.NICK_TAKEN):
            self.tell("choose another nickname")
        elif code == ErrorCode.LOGIN_FAILED:
            self.tell("try again with /login USER SECRET")

    def _more_was_typed(self) -> bool:
        return any(isinstance(line, LineFault) or (isinstance(line, str) and line) for line in self._lines)

    def _free_like(self, nick: str) -> str:
        """A nickname that could be taken in place of one that cannot; empty if there is none at hand."""
        try:
            return self.hub.free_like(nick, self.session)
        except NameRefused:
            return ""

    def _nick_near(self, nick: str) -> str:
        member = self.session.members.get(self.room)
        if member is None:
            return ""
        # That takes a while, so one person may have it once in a turn of the reactor.
        self.session.requests.go_on_later()
        return meant_by(nick, [other.session.nick_text for other in member.room.everyone()[:MOST_COMPARED]])

    # --- where the person is ------------------------------------------------------------------------------

    def _where(self, without: str = "") -> str:
        if self.room:
            return f"you are talking in {one_line(self.room)} now"
        # Who was kicked may be in others, and must not, unawares, go on in one of them.
        is_in_others = bool(self.session.members.keys() - {without})
        return (
            "you are talking in no room now; /join the one you mean"
            if is_in_others
            else "you are in no room; /join one first"
        )

    def is_nowhere(self) -> bool:
        """Whether there is no room to talk in; the person is told so."""
        if not self.room:
            self.tell(self._where())
        return not self.room

    def talk_in(self, room: str) -> None:
        """From now on what is typed is said in *room*, where the person is already."""
        self.room = room
        self.tell(self._where())

    def stop_talking(self, why: str) -> None:
        """A room was asked for and not entered: nothing meant for it may be said in another one."""
        self.tell(why)
        room, self.room = self.room, ""
        back = f"you are talking in no room now; /join {one_line(room)} goes back" if room else self._where()
        self.tell(back)

    # --- what the person types ----------------------------------------------------------------------------

    def _meaning(self) -> Message | None:
        line = self._lines.pop()
        if isinstance(line, Signal):
            return self._signalled(line)
        if isinstance(line, LineFault):
            if line.is_too_long:
                self.hub.record.limited("max_line_bytes")
            if self.session.nick_text:
                self.tell(line.reason)
            else:
                self.not_let_in(line.reason)
            return None
        if line.startswith("/") and not line.startswith("//"):
            return self._command(line)
        if not self.session.nick_text:
            return self._introduced_as(line.strip())
        return self.say(line.removeprefix("/")) if line else None

    def _introduced_as(self, nick: str) -> Message | None:
        nick, self._free_nick = nick or self._free_nick, ""
        return self.enter(nick, "") if nick else None

    def _command(self, line: str) -> Message | None:
        word, _, rest = line[1:].partition(" ")
        command = COMMANDS.get(word.lower())
        if command is None:
            meant = ELSEWHERE.get(word.lower(), "") or meant_by(word.lower(), COMMANDS)
            self._unknown_command(word, meant)
            return None
        if not self.session.nick_text and not command.is_before_joining:
            self.not_let_in("say your nickname first")
            return None
        return command.does(self, rest.strip())

    def _unknown_command(self, word: str, meant: str) -> None:
        # Only the word: behind it may stand a secret.
        shown = one_line(word if len(word) <= QUOTED_CHARS else f"{word[:QUOTED_CHARS]}…")
        otherwise = "/help shows what there is; to say it, type a second slash before it"
        answer = f"there is no command /{shown}; {f'did you mean /{meant}?' if meant else otherwise}"
        if not self.session.nick_text:
            self.not_let_in(answer)
        elif meant == "join":
            self.stop_talking(answer)
        else:
            self.tell(answer)

    def _signalled(self, signal: Signal) -> Message | None:
        if signal is Signal.INTERRUPT:
            if Signal.TIMING_MARK in self._lines:
                self.queue.write(MARK)  # a telnet that waits for its mark would not show the last words
            return COMMANDS["quit"].does(self, "")
        if signal is Signal.TIMING_MARK:
            self.queue.write(MARK)
        elif signal is Signal.ARE_YOU_THERE:
            self.tell(f"yes; {self._where()}" if self.session.nick_text else "yes; what is your nickname?")
        return None

    def enter(self, nick: str, room: str) -> Message:
        """Enter a room, the default one if it is empty, and show what was said there last."""
        self._entering = room or self.hub.default_room
        self.asked = Join(nick, room, 0, 0, SHOWN)
        return self.asked

    def say(self, text: str) -> Message | None:
        """Say something where the person is."""
        return None if self.is_nowhere() else Say(self._remember(text), self.room, text)

    def say_to(self, nick: str, text: str) -> Message:
        """Say something to one person."""
        return Tell(self._remember(f"{nick} {text}"), nick, text)

    def _remember(self, text: str) -> int:
        self._newest_id += 1
        self._unanswered[self._newest_id] = text
        return self._newest_id

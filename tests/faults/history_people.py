"""People of a durable history: they speak and read, lose their server, and go on with the next one."""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Callable, Sequence

from faults.crowd import Caller, Crowd
from faults.history_record import Record, Said
from forms import Form, form_named
from live import PATIENCE_S

from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Ack, Chat, End, Error, Goodbye, Join, Lagged, Message, Say, Welcome

__all__ = ["LineReader", "Lines", "Reader", "Speaker", "call", "find_new"]

MOST = 65_535


class _Link(Caller):
    """A connection whose server may be killed at any moment."""

    def _write(self) -> None:
        if self.at_end:
            return
        try:
            super()._write()
        except ConnectionError:
            self._unsent = b""  # reading tells the rest

    def _read(self) -> None:
        super()._read()
        if self.at_end:
            self.close()  # which a server that says goodbye waits for


def call(crowd: Crowd, form: Form, heard: Callable[[Message], None], receive_buffer_bytes: int = 0) -> Caller:
    """A connection that tells *heard* of what comes."""
    connected = socket.socket()
    if receive_buffer_bytes:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    connected.settimeout(PATIENCE_S)
    connected.connect(("127.0.0.1", crowd.port))
    link = _Link(crowd, connected, form)
    link.keeps = False
    link.heard = lambda _, message: heard(message)
    crowd.callers.append(link)
    return link


class Speaker:
    """Says the next thing when the last is acknowledged. Its ids go on over all servers.

    What was not answered when a server went is said again to the next one, with the same id, if
    *is_persistent*; else nobody hears of it again. What was acknowledged last is said again too: it has a
    receipt, and must have the same one. What is refused with error 13 waits until somebody calls `insist`;
    now and then what was acknowledged last is said again before it.
    """

    def __init__(
        self, record: Record, nick: str, room: str, form: str, source: random.Random, *, is_persistent: bool
    ) -> None:
        self.nick = nick
        self.room = room
        self.acknowledged = 0
        self.is_talking = False
        self.goodbyes = 0
        self.most_chars = 40
        self._record = record
        self._form = form
        self._source = source
        self._is_persistent = is_persistent
        self._said = 0
        self._latest: Said | None = None  # that was acknowledged
        self._open: Said | None = None  # that was not
        self._expected: list[Said] = []  # answers that are to come, which they do in this order
        self._refused: Said | None = None
        self._link: Caller | None = None
        self._is_in = False

    def connect(self, crowd: Crowd) -> None:
        """Go on with another server."""
        self._is_in = False
        self._expected = []
        self._refused = None
        if not self._is_persistent:
            self._open = None
        self._link = call(crowd, form_named(self._form), self._heard)
        self._link.send(Join(self.nick, self.room))

    @property
    def is_quiet(self) -> bool:
        """Whether they are in, and everything they said is answered."""
        return self._is_in and not self._expected and not self._refused

    def talk(self) -> None:
        """Begin to speak."""
        self.is_talking = True
        if self.is_quiet:
            self._say_next()

    def insist(self) -> None:
        """Go on after a refusal: with the same once more, or with something else."""
        refused, self._refused = self._refused, None
        if refused is None:
            return
        if self._latest is not None and self._source.random() < 0.2:
            self._say(self._latest)  # which is kept, whatever can be kept now
        if self._is_persistent or refused is self._latest:
            self._say(refused)
        else:
            self._open = None
            if self.is_talking:
                self._say_next()

    def _say_next(self) -> None:
        self._said += 1
        text = f"{self.nick} says {self._said} {'x' * self._source.randint(1, self.most_chars)}"
        said = Said(self.room, self.nick, self._said, text)
        self._record.will_say(said)
        self._say(said)

    def _say(self, said: Said) -> None:
        assert self._link is not None
        said.is_refused = False
        if said.receipt is None:
            self._open = said
        self._expected.append(said)
        self._link.send(Say(said.id, said.room, said.text))

    def _heard(self, message: Message) -> None:
        if isinstance(message, Welcome):
            self._record.opened(message.epoch)
        elif isinstance(message, End):
            self._is_in = True
            for said in (self._latest, self._open):
                if said is not None:
                    self._say(said)
        elif isinstance(message, Chat):
            assert message.nick != self.nick, f"their own came back: {message}"
            self._record.was_seen(message)
        elif isinstance(message, Ack):
            said = self._expected.pop(0)
            self._record.was_acknowledged(said, message)
            self.acknowledged += 1
            self._latest = said
            if said is self._open:
                self._open = None
            if self.is_talking and not self._expected:
                self._say_next()
        elif isinstance(message, Error):
            assert message.code == ErrorCode.NOT_STORED, message
            said = self._expected.pop(0)
            assert message.id == said.id
            self._record.was_refused(said)
            self._refused = said
        elif isinstance(message, Goodbye):
            self.goodbyes += 1


class Reader:
    """Reads some rooms and says nothing. Resumes with `epoch` and `after`: nothing is missing or doubled."""

    def __init__(self, record: Record, nick: str, rooms: Sequence[str], form: str) -> None:
        self.nick = nick
        self.at = dict.fromkeys(rooms, 0)
        self.lagged = 0
        self._record = record
        self._form = form
        self._epoch = 0
        self._replayed = 0

    def connect(self, crowd: Crowd) -> None:
        """Go on with another server."""
        self._replayed = 0
        self.link = call(crowd, form_named(self._form), self.heard, 4_096)
        self.link.send(*(Join(self.nick, room, self._epoch, after, MOST) for room, after in self.at.items()))

    @property
    def is_quiet(self) -> bool:
        """Whether they have everything that was found in the history."""
        return self._replayed == len(self.at) and all(
            self.at[room] >= newest for room, newest in self._record.newest.items() if room in self.at
        )

    def heard(self, message: Message) -> None:
        """Note what came."""
        if isinstance(message, Welcome):
            self._record.opened(message.epoch)
            self._epoch = message.epoch
        elif isinstance(message, Chat):
            before = self.at[message.room]
            assert message.seq == before + 1, f"{self.nick} has {before}, and gets {message}"
            self.at[message.room] = message.seq
            self._record.was_seen(message)
        elif isinstance(message, End):
            assert message.status == 0, f"{self.nick}: {message}"
            self._replayed += 1
        elif isinstance(message, Lagged):
            assert message.first == self.at[message.room] + 1, f"{self.nick}: {message} after {self.at}"
            self.lagged += 1
        else:
            assert not isinstance(message, Error), message


class Lines:
    """The line form, as far as one has to read it. The first thing said is a `join`, then `say`."""

    closed_with = None
    _CHAT = re.compile(r"\[(\S+) \d\d:\d\d\] ([^:]+): (.*)")

    def __init__(self) -> None:
        self.other: list[str] = []
        """Lines that are no messages."""
        self._output = ""
        self._input = b""

    def say(self, *messages: Message) -> None:
        for message in messages:
            assert isinstance(message, Join | Say)
            self._output += f"{message.nick if isinstance(message, Join) else message.text}\n"

    def output(self) -> bytes:
        output, self._output = self._output, ""
        return output.encode()

    def receive(self, data: bytes) -> list[Message]:
        *lines, self._input = (self._input + data).split(b"\r\n")
        found: list[Message] = []
        for line in lines:
            chat = self._CHAT.fullmatch(line.decode())
            if chat is None:
                self.other.append(line.decode())
            else:
                found.append(Chat(chat[1], 0, 0, chat[2], chat[3]))
        return found


class LineReader:
    """Someone with `nc`, in the default room. Each of their connections sees a piece of it without a hole."""

    def __init__(self, record: Record, nick: str, room: str) -> None:
        self.nick = nick
        self.is_quiet = True
        self._record = record
        self._room = room
        self._texts: list[str] = []

    def connect(self, crowd: Crowd) -> None:
        """Go on with another server."""
        self.check()
        call(crowd, Lines(), self._heard).send(Join(self.nick))

    def _heard(self, message: Message) -> None:
        assert isinstance(message, Chat)
        self._texts.append(message.text)

    def check(self) -> None:
        """Hold what the last connection saw against the history, which was found meanwhile."""
        self._record.check_run(self._room, self._texts)
        self._texts = []


def find_new(crowd: Crowd, record: Record, rooms: Sequence[str]) -> None:
    """Ask for what is in the history and newer than what *record* has, and tell it."""
    found: dict[str, list[Chat]] = {room: [] for room in rooms}
    waited_for = set(rooms)

    def heard(message: Message) -> None:
        if isinstance(message, Welcome):
            record.opened(message.epoch)
        elif isinstance(message, Chat):
            found[message.room].append(message)
        elif isinstance(message, End):
            assert message.status == 0, message
            waited_for.discard(message.room)
        else:
            assert not isinstance(message, Error), message

    link = call(crowd, form_named("frames"), heard)
    newest = record.newest
    link.send(*(Join("asker", room, record.epoch, newest.get(room, 0), MOST) for room in rooms))
    crowd.run_until(lambda: not waited_for, "all that is new in the history")
    link.close()
    for room, chats in found.items():
        record.was_found(room, chats)

"""Well-behaved people, who speak at planned times, and come and go.

What is said later than planned counts from when it was planned: whoever waits for a server that stands still
has waited for it, and so has what they would have said meanwhile.
"""

from __future__ import annotations

import heapq
import itertools
import socket
import time
from collections.abc import Callable, Sequence

from faults.crowd import Caller, Crowd
from faults.history_people import Lines
from faults.soak.record import Conversation, Seen
from forms import Form

from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Ack, Chat, End, Error, Goodbye, Join, Lagged, Leave, Message, Say, Welcome

__all__ = ["LEAVING", "Agenda", "LinePerson", "Person", "Way"]

MOST = 65_535
RETRY_S = 0.2

Way = Callable[[], tuple[int, Form]]
"""A port, and a new form for it."""

LEAVING: Sequence[Callable[[Caller], None]] = (
    Caller.close,
    Caller.reset,
    lambda caller: caller.send(Leave("")),
)
"""Ways to be away."""


class Agenda:
    """What is to be done at which time, by `time.monotonic`, while *crowd* is served."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self._entries: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = itertools.count()

    def at(self, planned_s: float, action: Callable[[float], None]) -> None:
        """Do something then, or as soon after that as possible; it is told when it was planned."""
        heapq.heappush(self._entries, (planned_s, next(self._numbers), action))

    def every(
        self, period_s: float, from_s: float, goes_on: Callable[[], bool], action: Callable[[float], None]
    ) -> None:
        """Do something again and again, as long as it *goes_on*."""

        def once(planned_s: float) -> None:
            if goes_on():
                self.at(planned_s + period_s, once)
                action(planned_s)

        self.at(from_s, once)

    def run_until(self, until_s: float) -> None:
        """Do all that is planned before *until_s*."""
        while (now_s := time.monotonic()) < until_s:
            while self._entries and self._entries[0][0] <= now_s:
                planned_s, _, action = heapq.heappop(self._entries)
                action(planned_s)
            next_s = min(until_s, self._entries[0][0] if self._entries else until_s)
            self.crowd.run_once(max(0.0, next_s - time.monotonic()))


def _call(crowd: Crowd, way: Way, heard: Callable[[Message], None]) -> Caller:
    """A connection; nobody waits until it is accepted."""
    port, form = way()
    plain = socket.socket()
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.setblocking(False)
    plain.connect_ex(("127.0.0.1", port))
    caller = Caller(crowd, plain, form)
    caller.keeps = False
    caller.heard = lambda _, message: heard(message)
    crowd.callers.append(caller)
    return caller


class Person:
    """Somebody with a program, who speaks in each of *rooms* in turn; *way* leads to the server.

    `is_in` as soon as they have the replays of all rooms, until they go.
    """

    def __init__(
        self, conversation: Conversation, agenda: Agenda, nick: str, rooms: Sequence[str], way: Way
    ) -> None:
        self.nick = nick
        self.is_in = False
        self._conversation = conversation
        self._agenda = agenda
        self._way = way
        self._seen = {room: Seen() for room in rooms}
        self._numbers = itertools.count(1)
        self._unanswered: dict[int, tuple[str, str]] = {}  # the room and the text of each id
        self._epoch = 0
        self._is_back = False
        self._came_s = 0.0
        self._replayed: set[str] = set()
        self._link: Caller | None = None

    def enter(self, planned_s: float) -> None:
        """Come; or come back, and go on where they were."""
        self.leave(Caller.close)
        self._came_s = planned_s
        self._is_back = bool(self._epoch)
        self._replayed = set()
        for seen in self._seen.values():
            seen.come_back()
        self._link = _call(self._agenda.crowd, self._way, self._heard)
        most = MOST if self._is_back else 0
        self._link.send(
            *(Join(self.nick, room, self._epoch, seen.upto, most) for room, seen in self._seen.items())
        )

    def leave(self, way: Callable[[Caller], None]) -> None:
        """Be away until they enter again."""
        self.is_in = False
        if self._link is not None and not self._link.is_gone:
            way(self._link)

    def speak(self, planned_s: float) -> None:
        """Say what is planned for *planned_s*, unless they are away."""
        if not self.is_in:
            return
        assert self._link is not None
        if self._link.at_end:
            self._conversation.fault(self.nick, "the server has ended the connection")
            self.is_in = False
            return
        number = next(self._numbers)
        room = [*self._seen][number % len(self._seen)]
        text = f"{self.nick} says {number} {'x' * (number % 60)}"
        self._conversation.planned_s[text] = planned_s
        self._unanswered[number] = (room, text)
        self._link.send(Say(number, room, text))

    @property
    def is_done(self) -> bool:
        """Whether they have everything that anybody has, and all that they said is answered."""
        newest = self._conversation.newest
        return (
            self.is_in
            and not self._unanswered
            and all(seen.upto == newest(room) for room, seen in self._seen.items())
        )

    def _heard(self, message: Message) -> None:
        now_s = time.monotonic()
        if isinstance(message, Chat):
            self._heard_chat(message, now_s)
        elif isinstance(message, Ack):
            self._heard_ack(message, now_s)
        elif isinstance(message, Welcome):
            if self._is_back and self._epoch != message.epoch:
                self._fault(f"the epoch was {self._epoch}: {message}")
            self._epoch = message.epoch
        elif isinstance(message, End):
            self._heard_end(message, now_s)
        elif isinstance(message, Error) and message.code == ErrorCode.NICK_TAKEN and not self.is_in:
            self._agenda.at(now_s + RETRY_S, lambda _: self.enter(self._came_s))
        elif isinstance(message, Error | Lagged | Goodbye):
            self._fault(f"got {message}")

    def _heard_chat(self, chat: Chat, now_s: float) -> None:
        n_open = sum(room == chat.room for room, _ in self._unanswered.values())
        if fault := self._seen[chat.room].chat(chat.seq, n_open):
            self._fault(f"{chat.room}: {fault}")
        self._conversation.has_place(self.nick, chat.room, chat.seq, chat.nick, chat.text)
        planned_s = self._conversation.planned_s.get(chat.text, 0.0)
        if self.is_in and planned_s >= self._came_s:
            self._conversation.deliveries.add(planned_s, now_s)

    def _heard_ack(self, ack: Ack, now_s: float) -> None:
        room, text = self._unanswered.pop(ack.id)
        self._seen[room].acknowledged(ack.seq)
        self._conversation.has_place(self.nick, room, ack.seq, self.nick, text)
        planned_s = self._conversation.planned_s[text]
        if planned_s >= self._came_s:
            self._conversation.acknowledgements.add(planned_s, now_s)

    def _heard_end(self, end: End, now_s: float) -> None:
        if self._is_back and end.status != 0:
            self._fault(f"what was missed did not come: {end}")
        self._replayed.add(end.room)
        if self.is_in or len(self._replayed) < len(self._seen):
            return
        if self._is_back:
            self._conversation.returns.add(self._came_s, now_s)
        self.is_in = True
        self._came_s = now_s  # what was said before that was replayed
        assert self._link is not None
        self._link.send(*(Say(number, *said) for number, said in self._unanswered.items()))

    def _fault(self, what: str) -> None:
        self._conversation.fault(self.nick, what)


class LinePerson:
    """Somebody with `nc`, in the default room."""

    def __init__(self, conversation: Conversation, agenda: Agenda, nick: str, room: str, port: int) -> None:
        self.nick = nick
        self._conversation = conversation
        self._agenda = agenda
        self._room = room
        self._port = port
        self._numbers = itertools.count(1)
        self._texts: list[str] = []
        self._form = Lines()
        self._link: Caller | None = None

    @property
    def is_in(self) -> bool:
        """Whether they were told who is there."""
        return any(line.startswith(f"* in {self._room}: ") for line in self._form.other)

    def enter(self, _: float) -> None:
        """Come."""
        self._link = _call(self._agenda.crowd, lambda: (self._port, self._form), self._heard)
        self._link.send(Join(self.nick))

    def leave(self, way: Callable[[Caller], None]) -> None:
        """Go."""
        if self._link is not None:
            way(self._link)

    def speak(self, planned_s: float) -> None:
        """Say what is planned for *planned_s*."""
        assert self._link is not None
        if self._link.at_end:
            self._conversation.fault(self.nick, "the server has ended the connection")
            return
        text = f"{self.nick} says {next(self._numbers)}"
        self._conversation.planned_s[text] = planned_s
        self._link.send(Say(0, "", text))

    @property
    def is_done(self) -> bool:
        """Whether they have everything that others said."""
        said = self._conversation.rooms[self._room].values()
        return len(self._texts) == sum(nick != self.nick for nick, _ in said)

    def check(self) -> None:
        """Hold what they saw against what the others saw."""
        self._conversation.check_run(self.nick, self._room, self._texts)

    def _heard(self, message: Message) -> None:
        assert isinstance(message, Chat)
        self._texts.append(message.text)
        if planned_s := self._conversation.planned_s.get(message.text):
            self._conversation.deliveries.add(planned_s, time.monotonic())

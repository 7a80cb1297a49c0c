"""A chat without sockets, for tests: people in memory, on a clock that the test moves.

A test reads like this:

    chat = ChatInMemory()
    alice, bob = chat.join("alice"), chat.join("bob")
    alice.say("hi")
    assert bob.chats == [("alice", "hi")]
"""

from __future__ import annotations

from collections import deque
from typing import Any, TypeVar

from twisted.internet.task import Clock

from chatproto.limits import Limits
from chatproto.rooms.hub import Hub
from chatproto.rooms.log import RoomLog
from chatproto.rooms.outlet import Request
from chatproto.wire.chat import encode_frame
from chatproto.wire.messages import (
    Chat,
    Error,
    History,
    Join,
    Leave,
    Message,
    Nick,
    Say,
    Tell,
    Who,
)
from chatproto.wire.prepared import Prepared

__all__ = ["ChatInMemory", "Person"]

M = TypeVar("M", bound=Message)


class ChatInMemory:
    """A hub on a `Clock`, whose seconds are also its wall clock's. Other arguments are the `Hub`'s.

    Unless *limits* are given nobody is too fast, as the time of a test stands still.
    """

    def __init__(self, limits: Limits | None = None, log: RoomLog | None = None, **hub: Any) -> None:
        self.clock = Clock()
        if limits is None:
            limits = Limits(max_messages_per_s=0.0, max_history_reads_per_s=0.0)
        self.hub = Hub(self.clock, log, limits, wall_clock=self.clock.seconds, **hub)

    def connect(self) -> Person:
        """Someone who is connected and has said nothing yet."""
        return Person(self)

    def join(self, nick: str, room: str = "", **join: int) -> Person:
        """Someone who is in a room; *join* may have `epoch`, `after` and `limit`."""
        person = self.connect()
        person.ask(Join(nick, room, **join))
        return person

    def pass_time(self, seconds: float = 0.0) -> None:
        """Move the clock, and let everything happen that is due; 0: what the reactor would do at once."""
        self.clock.advance(seconds)


class Person:
    """Someone in memory: `received` has everything that the server sent them, in order.

    They read at once until `stop_reading`; from then on what is sent waits, in the bytes of frames and
    within the hub's `max_queued_bytes`, until they `read`.
    """

    def __init__(self, chat: ChatInMemory) -> None:
        self.received: list[Message] = []
        self.is_connected = True
        self.is_read_from = True
        self.queued_bytes = 0
        self.max_queued_bytes = chat.hub.limits.max_queued_bytes
        self._clock = chat.clock
        self._reads = True
        self._notify = False
        self._finishing = False
        self._waiting: deque[tuple[Message, object, int]] = deque()
        self.session = chat.hub.connect(self)

    # --- what they do -------------------------------------------------------------------------------------

    def ask(self, *requests: Request) -> None:
        """Send requests, in one go."""
        self.session.receive(list(requests))

    def say(self, text: str, room: str = "", id: int = 0) -> None:
        """Say something in a room."""
        self.ask(Say(id, room, text))

    def tell(self, nick: str, text: str, id: int = 0) -> None:
        """Say something to one person."""
        self.ask(Tell(id, nick, text))

    def join(self, room: str, **join: int) -> None:
        """Enter another room."""
        self.ask(Join(self.session.nick_text, room, **join))

    def leave(self, room: str = "") -> None:
        """Leave a room, or end the session."""
        self.ask(Leave(room))

    def rename(self, nick: str) -> None:
        """Take another nickname."""
        self.ask(Nick(nick))

    def who(self, room: str = "") -> None:
        """Ask who is in a room."""
        self.ask(Who(room))

    def history(self, room: str = "", before: int = 0, limit: int = 100) -> None:
        """Ask for what was said."""
        self.ask(History(room, before, limit))

    def disconnect(self) -> None:
        """Be gone, as when the connection breaks."""
        self.is_connected = False
        self.session.lost()

    def stop_reading(self) -> None:
        """Leave what is sent from now on waiting."""
        self._reads = False

    def read(self) -> None:
        """Read what waits, and from now on everything at once."""
        self._reads = True
        self._deliver()

    # --- what they got ------------------------------------------------------------------------------------

    def got(self, kind: type[M]) -> list[M]:
        """Of what they received, the messages of one kind."""
        return [message for message in self.received if isinstance(message, kind)]

    @property
    def chats(self) -> list[tuple[str, str]]:
        """Who said what, in every room."""
        return [(message.nick, message.text) for message in self.got(Chat)]

    @property
    def errors(self) -> list[int]:
        """The codes of the errors."""
        return [message.code for message in self.got(Error)]

    def forget(self) -> None:
        """Empty `received`."""
        self.received.clear()

    # --- the session's outlet -----------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """See `chatproto.rooms.outlet.Outlet`."""
        self._queue(message, None, 0)

    def publish(self, prepared: Prepared) -> bool:
        """See `chatproto.rooms.outlet.Outlet`."""
        size_bytes = len(prepared.encoded(encode_frame))
        if self._finishing:
            return True
        if self.queued_bytes + size_bytes > self.max_queued_bytes:
            return False
        self._queue(prepared.source, prepared.topic, prepared.position)
        return True

    def drop(self) -> dict[Any, int]:
        """See `chatproto.rooms.outlet.Outlet`."""
        firsts: dict[Any, int] = {}
        kept: deque[tuple[Message, object, int]] = deque()
        for entry in self._waiting:
            message, topic, position = entry
            if topic is None:
                kept.append(entry)
            else:
                firsts[topic] = min(position, firsts.get(topic, position))
                self.queued_bytes -= len(encode_frame(message))
        self._waiting = kept
        return firsts

    def notify(self) -> None:
        """See `chatproto.rooms.outlet.Outlet`."""
        self._notify = True
        self._deliver()

    def pause(self) -> None:
        """See `chatproto.rooms.outlet.Outlet`."""
        self.is_read_from = False

    def resume(self) -> None:
        """See `chatproto.rooms.outlet.Outlet`."""
        self.is_read_from = True

    def finish(self) -> None:
        """See `chatproto.rooms.outlet.Outlet`."""
        self._finishing = True
        self._deliver()

    def _queue(self, message: Message, topic: object, position: int) -> None:
        if self.is_connected and not self._finishing:
            self.queued_bytes += len(encode_frame(message))
            self._waiting.append((message, topic, position))
            self._deliver()

    def _deliver(self) -> None:
        while self._reads and self._waiting:
            message, _, _ = self._waiting.popleft()
            self.queued_bytes -= len(encode_frame(message))
            self.received.append(message)
        if self._waiting:
            return
        if self._finishing:
            self.is_connected = False
        elif self._notify:
            self._notify = False
            self._clock.callLater(0, self.session.drained)

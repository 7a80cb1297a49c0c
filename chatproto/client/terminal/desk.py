"""All that is on the screen, apart from how it is drawn and from what others do to it."""

from __future__ import annotations

import enum
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from chatproto.client.ends import Ended
from chatproto.client.terminal.completion import Completion
from chatproto.client.terminal.editor import Editor
from chatproto.client.terminal.panel import Panel
from chatproto.client.terminal.places import Place, Places
from chatproto.client.terminal.transcript import Entry

__all__ = ["Desk", "Line", "Question"]


class Line(enum.Enum):
    """How it is about the connection."""

    CONNECTING = enum.auto()
    OPEN = enum.auto()
    LOST = enum.auto()


@dataclass(slots=True)
class Question:
    """Something that must be answered first. Enter alone answers *suggestion*."""

    text: str
    suggestion: str
    answer: Callable[[str], None]
    editor: Editor = field(default_factory=Editor)


class Desk:
    """What one looks at.

    *server* is the address for people; *clock* tells the seconds until the next attempt.
    """

    def __init__(
        self,
        server: str,
        nick: str,
        clock: IReactorTime,
    ) -> None:
        self.server = server
        self.nick = nick
        self.clock = clock
        self.places = Places()
        self.panel: Panel | None = None
        self.question: Question | None = None
        self.completion: Completion | None = None
        self.hint = ""
        """A line about the last key; the next one puts it away."""
        self.line = Line.CONNECTING
        self.why = ""
        """The connection is lost."""
        self.retry_at_s: float | None = None
        """By the clock: the next attempt."""
        self.round_trip_s: float | None = None
        self.unacknowledged = 0
        """Things said that the server has not kept yet."""
        self.bell = True
        self.shows_people = True
        """Where there is room for them."""
        self.looks = True
        """Whether the terminal is looked at, as far as it tells."""
        self.epoch = 0
        """The server's, as it was told last."""
        self.finished: Deferred[Ended] = Deferred()
        """Fires with how the program ends."""
        self.size = (80, 24)
        """Columns and rows."""
        self.body_rows = 20
        """Of those, what the conversation has."""
        self._changed: Callable[[], None] = lambda: None
        self._ring: Callable[[], None] = lambda: None

    def watch(self, changed: Callable[[], None], ring: Callable[[], None]) -> None:
        """Have *changed* called after each change, and *ring* where the bell is to ring."""
        self._changed, self._ring = changed, ring

    @property
    def current(self) -> Place:
        """The place on the screen."""
        return self.places.current

    @property
    def editor(self) -> Editor:
        """Where is being typed."""
        return self.question.editor if self.question is not None else self.current.editor

    def changed(self) -> None:
        """Something is to be drawn anew."""
        self._changed()

    def note(self, text: str, place: Place | None = None) -> None:
        """A line of the program's own, in *place* or on the screen."""
        for line in text.split("\n"):
            (place or self.current).transcript.note(line, self.now_ms())
        self.changed()

    def hear(self, place: Place, entry: Entry) -> None:
        """Someone said something in *place*."""
        if not self.places.put(place, entry, place.is_entered):
            return
        place.spoke(entry.nick)
        is_called = entry.mentions or (place.is_private and not entry.own)
        if is_called and place.is_entered and self.bell:
            self._ring()
        self.changed()

    def names_me(self, text: str) -> bool:
        """Whether one's own nickname is a word of *text*."""
        return re.search(rf"(?<!\w){re.escape(self.nick)}(?!\w)", text, re.IGNORECASE) is not None

    def look_away(self) -> None:
        """Nobody looks at the terminal any more: what comes now comes under the mark."""
        if self.looks:
            self.current.transcript.leave_off()
        self.looks = False

    def look_back(self) -> None:
        """Somebody looks again."""
        self.looks = True

    def seen(self) -> dict[str, int]:
        """The newest message of each room that one has seen, by its sequence number."""
        return {
            place.name: place.transcript.seen_seq(is_all=self.looks and place is self.current)
            for place in self.places.all
            if not place.is_private
        }

    def finish(self, ended: Ended) -> None:
        """End the program."""
        if not self.finished.called:
            # Not by its errback, though it is an exception: to have had enough is none.
            self.finished.callback(ended)

    @staticmethod
    def now_ms() -> int:
        """The time of day, in milliseconds since 1970."""
        return int(time.time() * 1_000)

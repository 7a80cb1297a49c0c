"""What the server tells, as it comes to the desk."""

from __future__ import annotations

from chatproto.client.events import ChatEvents
from chatproto.client.outcomes import Refused
from chatproto.client.terminal.desk import Desk, Line
from chatproto.client.terminal.places import PRIVATE, Place
from chatproto.client.terminal.transcript import Entry
from chatproto.wire.messages import Chat, Joined, Lagged, Left, Notice, Renamed, Roster, Told, Welcome

__all__ = ["Hearing"]


class Hearing(ChatEvents):
    """Puts what happens onto *desk*."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._was_connected = False

    def chat(self, message: Chat) -> None:
        """See `ChatEvents`."""
        desk = self._desk
        own = message.nick == desk.nick
        entry = Entry(message.time, message.nick, message.text, message.seq, own)
        entry.mentions = not own and desk.names_me(message.text)
        desk.hear(desk.places.open(message.room), entry)

    def told(self, message: Told) -> None:
        """See `ChatEvents`."""
        place = self._desk.places.open(PRIVATE + message.nick)
        place.is_entered = True
        self._desk.hear(place, Entry(message.time, message.nick, message.text))

    def joined(self, message: Joined) -> None:
        """See `ChatEvents`."""
        place = self._desk.places.find(message.room)
        if place is not None and message.nick != self._desk.nick:
            place.came(message.nick)
            self._desk.note(f"{message.nick} came", place)

    def left(self, message: Left) -> None:
        """See `ChatEvents`."""
        place = self._desk.places.find(message.room)
        if place is None:
            return
        place.went(message.nick)
        why = "" if message.reason == "left" else f" ({message.reason})"
        if message.nick == self._desk.nick:
            self._desk.note(
                f"you are out of {message.room}{why}; /join {message.room} asks to be let in", place
            )
        else:
            self._desk.note(f"{message.nick} left{why}", place)

    def renamed(self, message: Renamed) -> None:
        """See `ChatEvents`."""
        desk = self._desk
        if message.old == desk.nick:
            desk.nick = message.new
            text = f"you are {message.new} now"
        else:
            text = f"{message.old} is {message.new} now"
        private = desk.places.find(PRIVATE + message.old)
        if private is not None:
            if desk.places.find(PRIVATE + message.new) is None:
                private.name = PRIVATE + message.new
            desk.note(text, private)
        for place in desk.places.all:
            if place.renamed(message.old, message.new):
                desk.note(text, place)

    def roster(self, message: Roster) -> None:
        """See `ChatEvents`."""
        place = self._desk.places.find(message.room)
        if place is not None:
            place.set_members(message.nicks, message.total)
            self._desk.changed()

    def notice(self, message: Notice) -> None:
        """See `ChatEvents`."""
        self._desk.note(f"the server says: {message.text}")

    def lagged(self, message: Lagged) -> None:
        """See `ChatEvents`."""
        self._note_in(message.room, "what comes now is late, for this connection was too slow")

    def missing(self, room: str, first: int, last: int) -> None:
        """See `ChatEvents`."""
        if last:
            count = last - first + 1
            self._note_in(room, "one message is lost" if count == 1 else f"{count:,} messages are lost")
            return
        place = self._desk.places.find(room)
        if place is not None:
            place.transcript.begin_anew()
            self._desk.note("the server began anew, and what was said meanwhile may be lost", place)

    def connected(self, message: Welcome) -> None:
        """See `ChatEvents`."""
        desk = self._desk
        desk.line = Line.OPEN
        desk.retry_at_s = None
        desk.nick = message.nick
        desk.epoch = message.epoch
        if self._was_connected:
            desk.note(f"connected again to {desk.server}")
        self._was_connected = True
        desk.changed()

    def disconnected(self, reason: str) -> None:
        """See `ChatEvents`."""
        desk = self._desk
        if desk.line is Line.OPEN:
            desk.note(f"the connection is lost: {reason}")
            if desk.looks:
                desk.current.transcript.leave_off()
        desk.line = Line.LOST
        desk.why = reason
        desk.round_trip_s = None
        desk.changed()

    def reconnecting(self, delay_s: float) -> None:
        """See `ChatEvents`."""
        self._desk.line = Line.LOST
        self._desk.retry_at_s = self._desk.clock.seconds() + delay_s
        self._desk.changed()

    def refused(self, room: str, refusal: Refused) -> None:
        """See `ChatEvents`."""
        self._note_in(room, f"refused: {refusal.text}")

    def _note_in(self, room: str, text: str) -> None:
        place: Place | None = self._desk.places.find(room) if room else None
        self._desk.note(text if place is not None or not room else f"{room}: {text}", place)

"""One room that a client is in, or wants to be in, over all connections."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from chatproto.client.events import ChatEvents, tell_event
from chatproto.client.outbox import Outbox
from chatproto.client.outcomes import Entered
from chatproto.client.sequence import Sequence
from chatproto.wire.messages import Chat, End, Join, Lagged, Roster

__all__ = ["Membership"]

EVERYTHING = 2**16 - 1
"""The `limit` of a join that wants all it has missed."""
STARTED_ANEW = 2
"""The `status` of an `end`."""


class Membership:
    """A client's place in one room: what it asked for, and how far it has got in what is said there.

    *limit* is that of the first join. The name is empty for the default room until the server has named it.
    """

    def __init__(self, name: str, limit: int, events: ChatEvents, outbox: Outbox) -> None:
        self.name = name
        self.asked = False
        """On this connection, a join was sent."""
        self.inside = False
        """On this connection, it was answered."""
        self.entered = False
        """The same on any connection."""
        self.waiting: list[Deferred[Entered]] = []
        """Who waits for the join."""
        self._limit = limit
        self._events = events
        self._outbox = outbox
        self._sequence = Sequence()
        self._epoch = 0
        self._roster: Roster | None = None  # while the replay of a join is under way
        self._was_resumed = False  # the join said where it had got to

    @property
    def last(self) -> int | None:
        """The sequence number up to which nothing is open; None before the first."""
        return self._sequence.last

    # --- joining --------------------------------------------------------------------------------------------

    def join(self, nick: str) -> Join:
        """The message that asks for this room, and for all that was missed there."""
        self.asked = True
        last = self._sequence.last
        self._was_resumed = last is not None
        if last is None:
            return Join(nick, self.name, 0, 0, self._limit)
        return Join(nick, self.name, self._epoch, last, EVERYTHING)

    def disconnected(self) -> None:
        """The connection is lost."""
        self.asked = self.inside = False
        self._roster = None

    def succeed(self, entered: Entered) -> None:
        """Answer who waits for the join."""
        waiting, self.waiting = self.waiting, []
        for answer in waiting:
            answer.callback(entered)

    def fail(self, error: Exception) -> bool:
        """Fail who waits for the join; whether anyone did."""
        waiting, self.waiting = self.waiting, []
        for answer in waiting:
            answer.errback(error)
        return bool(waiting)

    # --- what the server sends ------------------------------------------------------------------------------

    def take_roster(self, message: Roster, epoch: int) -> None:
        """The join is granted, by a server whose epoch is *epoch*; the replay begins."""
        if self.entered:
            tell_event(self._events.roster, message)  # who came and left meanwhile, nobody told
        self.inside = self.entered = True
        self._roster = message
        last = self._sequence.last
        if last is not None and (self._epoch != epoch or message.last < last):
            # `end` is going to say so too, but until then the new numbers would pass for old ones.
            self._sequence.forget()
            if last:
                self._tell_anew()
        self._epoch = epoch

    def take_chat(self, message: Chat, nick: str) -> None:
        """Something was said; *nick* is one's own."""
        if not self.inside or not self._sequence.see(message.seq):
            return
        if self._sequence.last != message.seq:
            # The replay of a join brings one's own messages too, so nothing is in doubt there.
            self._expect(message.seq, certain=self._roster is not None)
        if message.nick != nick or not self._outbox.claim(message):
            tell_event(self._events.chat, message)

    def take_end(self, message: End) -> None:
        """The replay is complete."""
        roster, self._roster = self._roster, None
        if roster is None:
            return
        if message.status == STARTED_ANEW and self._was_resumed:
            self._tell_anew()
        if self._sequence.last is None:
            self._sequence.begin(roster.last)
        else:
            self._expect(message.first - 1 if message.last else roster.last, certain=True)
        self.succeed(Entered(roster.room, roster.nicks, roster.total, roster.last, message.status))

    def take_lagged(self, message: Lagged) -> None:
        """From `first` on everything comes later; what lies before it should be here."""
        tell_event(self._events.lagged, message)
        if self.inside:
            self._expect(message.first - 1)

    def take_own(self, seq: int) -> None:
        """The server has acknowledged something that one said here."""
        if self._sequence.last is not None:
            self._sequence.see(seq)
        self.settle()

    def settle(self) -> None:
        """Something that was said here waits no more: tell what is lost, if nothing else explains it."""
        if self._sequence.open:
            oldest_id = min(self._outbox.ids(self.name), default=0)
            for first, last in self._sequence.lost(oldest_id):
                tell_event(self._events.missing, self.name, first, last)

    def _expect(self, seq: int, *, certain: bool = False) -> None:
        """All messages up to *seq* should have come; if not *certain*, but for `ack`s still to come."""
        ids = [] if certain else self._outbox.ids(self.name)
        self._sequence.reach(seq, max(ids, default=0))
        self.settle()

    def _tell_anew(self) -> None:
        self._was_resumed = False
        tell_event(self._events.missing, self.name, 0, 0)

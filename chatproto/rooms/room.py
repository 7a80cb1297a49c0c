"""A room with people in it, and how far each of them has got in its log."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from itertools import chain, islice
from typing import TYPE_CHECKING

from chatproto.wire.messages import End, Roster
from chatproto.wire.prepared import Prepared

if TYPE_CHECKING:
    from chatproto.rooms.elsewhere import Stranger
    from chatproto.rooms.session import Session

__all__ = ["Member", "Room"]

MAX_ROSTER_NICKS = 1_000

MAX_OWN_RUNS = 10_000
"""Of own messages that somebody has said while something waited for them all the time. Past that they get the
oldest back, should a replay come past it, and know it by the number with which it was acknowledged."""


class OwnWords:
    """Ascending sequence numbers, kept as runs: whoever talks without reading is often alone in talking."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def __len__(self) -> int:
        """The number of runs."""
        return len(self._firsts)

    def __contains__(self, seq: int) -> bool:
        run = bisect_right(self._firsts, seq) - 1
        return run >= 0 and seq <= self._lasts[run]

    def add(self, seq: int) -> bool:
        """Take in a number above all others; whether it began a run."""
        if self._lasts and self._lasts[-1] == seq - 1:
            self._lasts[-1] = seq
            return False
        self._firsts.append(seq)
        self._lasts.append(seq)
        return True

    def forget_before(self, seq: int) -> None:
        """Forget the runs that end below *seq*."""
        ended = bisect_left(self._lasts, seq)
        del self._firsts[:ended], self._lasts[:ended]

    def forget_past(self, most: int) -> None:
        """Forget the oldest run, if there are more than *most*."""
        if len(self._firsts) > most:
            del self._firsts[0], self._lasts[0]


class Member:
    """One session in one room.

    While `live`, what is said goes straight to it. Otherwise it is somewhere in the log: `next_seq` is the
    next message that it is to get. A join's replay and a slow reader's catching up are the same thing.
    """

    __slots__ = (
        "end",
        "first_seq",
        "lagged",
        "live",
        "next_seq",
        "own",
        "promised_seq",
        "publish",
        "room",
        "session",
        "stale",
        "unanswered",
    )

    def __init__(self, session: Session, room: Room, publish: Callable[[Prepared], bool]) -> None:
        self.session = session
        self.room = room
        self.publish = publish
        self.live = False
        self.first_seq = 1  # where the join's replay began
        self.next_seq = 1
        self.promised_seq = 0  # the end of the range that `lagged` or the join announced
        self.end: End | None = None  # what closes the join's replay
        self.lagged = False  # the person is still to be told so
        self.stale = False  # the roster that they have is not to be trusted: announcements were dropped
        self.own: OwnWords | None = None  # what they said that a replay could come past
        self.unanswered = 0  # says that the log has not answered yet

    def has_said(self, seq: int) -> None:
        """Note a message of this session's own, should a replay come past it: nobody gets theirs back."""
        if not self.session.outlet.queued_bytes:
            # Nothing that waits can be dropped any more and become due again.
            if self.live:
                self.own = None
                return
            if self.own is not None:
                self.own.forget_before(self.next_seq)
        if self.own is None:
            self.own = OwnWords()
        if self.own.add(seq):
            # What is not kept any more will not be replayed either.
            self.own.forget_before(self.session.hub.log.bounds(self.room.name)[0])
            self.own.forget_past(MAX_OWN_RUNS)


class Room:
    """The people in one room. Members stand under the ids of their sessions."""

    def __init__(self, name: str, announce_limit: int) -> None:
        self.name = name
        self.members: dict[int, Member] = {}
        self.leaving: dict[int, Member] = {}  # out, but nobody is told before their last words
        self._announce_limit = announce_limit
        self._everyone: tuple[Member, ...] | None = ()
        self.strangers: Mapping[str, Stranger] = {}  # who is here by way of other servers

    def add(self, member: Member) -> None:
        """Let *member* in."""
        self.members[member.session.id] = member
        self._everyone = None

    def let_out(self, member: Member) -> None:
        """*member* hears nothing more, and is still shown as here."""
        self.leaving[member.session.id] = self.members.pop(member.session.id)
        self._everyone = None

    def remove(self, member: Member) -> None:
        """Take *member* out."""
        if self.members.pop(member.session.id, None) is not None:
            self._everyone = None
        else:
            del self.leaving[member.session.id]

    @property
    def is_empty(self) -> bool:
        """Whether nobody is here any more by way of this server."""
        return not (self.members or self.leaving)

    def everyone(self) -> tuple[Member, ...]:
        """All members as they are now; nobody comes or goes in this tuple while it is walked over."""
        if self._everyone is None:
            self._everyone = tuple(self.members.values())
        return self._everyone

    def publish(self, prepared: Prepared, sender: int) -> None:
        """Give a message of the log to everyone who is live, but for the session that said it."""
        for member in self.everyone():
            if member.session.id == sender:
                member.has_said(prepared.position)
            elif member.live:
                try:
                    if not member.publish(prepared):
                        member.session.fall_behind(prepared)
                except Exception:
                    member.session.broke()

    @property
    def is_announced(self) -> bool:
        """Whether people are told who comes and goes; there may be too many for that."""
        return self.total <= self._announce_limit

    @property
    def total(self) -> int:
        """How many people are here, by way of whatever server."""
        return len(self.members) + len(self.leaving) + len(self.strangers)

    def announce(self, prepared: Prepared, skip: int = 0) -> None:
        """Give what is no message of the log to everyone but the session *skip*."""
        for member in self.everyone():
            if member.session.id != skip:
                member.session.announce(prepared, member)

    def roster(self, last: int, max_bytes: int) -> Roster:
        """Who is here, as many as fit into *max_bytes* of a frame."""
        nicks: list[str] = []
        room_bytes = max_bytes - 32 - len(self.name.encode())
        here = (member.session.nick_text for member in chain(self.everyone(), self.leaving.values()))
        elsewhere = (stranger.nick for stranger in self.strangers.values())
        for nick in islice(chain(here, elsewhere), MAX_ROSTER_NICKS):
            room_bytes -= 2 + len(nick.encode())
            if room_bytes < 0:
                break
            nicks.append(nick)
        return Roster(self.name, last, self.total, tuple(nicks))

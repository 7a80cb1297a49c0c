"""Replays from the log: on joining, after having been too slow, and when someone asks for history.

They are sent in slices, the next one when the last has gone out, so that no replay ever fills a queue.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatproto.rooms.log import Found, RoomLog
from chatproto.rooms.room import Member
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Chat, End, Join, Lagged
from chatproto.wire.prepared import Prepared

if TYPE_CHECKING:
    from chatproto.rooms.session import Session

__all__ = ["CatchUp"]

_log = Logger(namespace="chatproto.rooms.catchup")

SLICE_BYTES = 65_536
"""Queued at a time: enough to keep the kernel busy, little enough to wait for."""

NOTHING_IS_MISSING, OLDER_EXIST, STARTED_ANEW = range(3)


_Slice = list[Chat] | Deferred[list[Chat]]


class _Query(Protocol):
    """One answer to a question: messages that are sent once and belong to nobody's place in the log."""

    def next_slice(self, log: RoomLog, max_bytes: int) -> _Slice | None:
        """What is to be sent next; None when that was all."""

    def found(self, chats: list[Chat]) -> None:
        """Note what of it was there, before it is sent."""

    def end(self) -> End:
        """What closes the answer."""


class _Range:
    """The answer to `history`."""

    def __init__(self, room: str, first: int, last: int, status: int) -> None:
        self._room = room
        self._first = self._next_seq = first
        self._last = last
        self._status = status

    def next_slice(self, log: RoomLog, max_bytes: int) -> _Slice | None:
        if self._next_seq > self._last:
            return None
        return log.read(self._room, self._next_seq, self._last, max_bytes)

    def found(self, chats: list[Chat]) -> None:
        if not chats or chats[0].seq > self._next_seq:
            # Some fell out of what is kept meanwhile.
            self._status = OLDER_EXIST
            if self._next_seq == self._first:
                self._first = self._next_seq = chats[0].seq if chats else self._last + 1
        if chats:
            self._next_seq = chats[-1].seq + 1
        else:
            self._last = self._next_seq - 1

    def end(self) -> End:
        if self._next_seq == self._first:
            return End(self._room, 0, 0, self._status)
        return End(self._room, self._first, self._next_seq - 1, self._status)


class _Matches:
    """The answer to `search`."""

    def __init__(self, room: str, found: Found) -> None:
        self._room = room
        self._seqs: Sequence[int] = found.seqs
        self._status = OLDER_EXIST if found.is_cut else NOTHING_IS_MISSING
        self._first = self._last = 0

    def next_slice(self, log: RoomLog, max_bytes: int) -> _Slice | None:
        return log.pick(self._room, self._seqs, max_bytes) if self._seqs else None

    def found(self, chats: list[Chat]) -> None:
        if chats:
            self._first = self._first or chats[0].seq
            self._last = chats[-1].seq
            self._seqs = self._seqs[bisect_right(self._seqs, self._last) :]
        else:
            self._seqs = ()

    def end(self) -> End:
        return End(self._room, self._first, self._last, self._status)


class CatchUp:
    """What one session is owed from the log."""

    __slots__ = (
        "_behind",
        "_blocked",
        "_found",
        "_log",
        "_outlet",
        "_query",
        "_reading",
        "_session",
        "_slice_bytes",
    )

    def __init__(self, session: Session) -> None:
        self._session = session
        self._outlet = session.outlet
        self._log = session.hub.log
        self._behind: dict[str, Member] = {}
        self._query: _Query | None = None
        self._reading = False
        self._found: Callable[[], bool] | None = None  # pays what was read, when it is its turn
        self._blocked = False
        self._slice_bytes = min(SLICE_BYTES, session.outlet.max_queued_bytes // 4)

    @property
    def is_lagging(self) -> bool:
        """Whether something is owed to someone who was too slow, and not only to someone who joined."""
        return bool(self._behind) and any(
            member.lagged or (member.end is None and not member.live) for member in self._behind.values()
        )

    # --- what is owed -------------------------------------------------------------------------------------

    def enter(self, member: Member, join: Join) -> None:
        """Owe the replay that *join* asked for, and everything after it (docs/protocol.md, section 3)."""
        room = member.room.name
        oldest, newest = self._log.bounds(room)
        status = NOTHING_IS_MISSING
        anew = join.epoch != self._log.epoch and (join.epoch or join.after)
        if anew or join.after > newest:
            status, after = STARTED_ANEW, 0
        else:
            after = join.after
        # Who comes back gets all that was missed, as far as they ask for it.
        limit = join.limit if after else min(join.limit, self._session.hub.limits.max_history_messages)
        first = max(after + 1, newest - limit + 1, oldest)
        # With `after` whatever lies between is missing; without, only what could still be asked for.
        if status == NOTHING_IS_MISSING and first > (after + 1 if after else oldest):
            status = OLDER_EXIST
        member.first_seq = member.next_seq = first
        member.promised_seq = newest
        sent = first <= newest
        member.end = End(room, first if sent else 0, newest if sent else 0, status)
        self._behind[room] = member
        self._session.requests.hold()
        self._session.send_roster(member)

    def query(self, room: str, before: int, limit: int) -> None:
        """Owe the newest *limit* kept messages older than *before*, 0: the newest of all."""
        oldest, newest = self._log.bounds(room)
        last = min(newest, before - 1) if before else newest
        first = max(oldest, last - limit + 1)
        status = OLDER_EXIST if first > oldest and oldest <= newest else NOTHING_IS_MISSING
        self._query = _Range(room, first, last, status)
        self._session.requests.hold()

    def show(self, room: str, found: Found) -> None:
        """Owe the messages that a search found."""
        self._query = _Matches(room, found)
        self._session.requests.hold()

    def fall_behind(self, member: Member, seq: int) -> None:
        """*member* is still to get the message *seq* and all after it."""
        # What waited from before they left and came back is not owed any more.
        seq = max(seq, member.first_seq)
        member.next_seq = seq if member.live else min(seq, member.next_seq)
        member.live = False
        member.lagged = True
        self._behind[member.room.name] = member
        self._blocked = True

    def distrust(self, member: Member) -> None:
        """*member* missed who came or went."""
        if self._session.members.get(member.room.name) is not member:
            return  # left meanwhile
        member.stale = True
        self._behind[member.room.name] = member
        self._blocked = True

    def unblock(self) -> None:
        """The socket takes bytes again: who fell behind may be told so, and how much is still to be had."""
        self._blocked = False

    def leave(self, member: Member) -> bool:
        """Nothing more is owed to *member*; whether requests were held for it."""
        self._behind.pop(member.room.name, None)
        was_waited_for = member.end is not None
        member.end = None
        return was_waited_for

    # --- paying it ----------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Send what is owed, until enough is queued or the log has to be waited for."""
        while not self._reading and not self._session.ended and self._step():
            pass

    def _step(self) -> bool:
        """Go one step; False where nothing is owed or something has to be waited for."""
        if self._found is not None:
            pay, self._found = self._found, None
            return pay()
        if not self._query and (self._blocked or not self._behind):
            return False
        if self._outlet.queued_bytes >= self._slice_bytes:
            self._outlet.notify()
            return False
        if self._query:
            return self._advance_query(self._query)
        return self._advance_member(next(iter(self._behind.values())))

    def _advance_query(self, query: _Query) -> bool:
        try:
            answer = query.next_slice(self._log, self._slice_bytes)
        except Exception:
            self._reading_failed(Failure())
            return False
        if answer is None:
            self._query = None
            self._session.requests.release()
            self._outlet.send(query.end())
            return True
        return self._take(answer, lambda chats: self._pay_query(query, chats))

    def _pay_query(self, query: _Query, chats: list[Chat]) -> bool:
        query.found(chats)
        for chat in chats:
            self._outlet.send(chat)
        return True

    def _advance_member(self, member: Member) -> bool:
        room = member.room.name
        oldest, newest = self._log.bounds(room)
        if member.end is not None and member.next_seq > member.end.last:
            # Before what is said of later messages, some of which may be gone by now.
            end, member.end = member.end, None
            self._session.requests.release()
            self._outlet.send(end)
            return True
        if not member.live:
            is_lost = member.next_seq < oldest
            if is_lost and member.next_seq <= member.promised_seq:
                self._session.fail(
                    ErrorCode.TOO_SLOW, "what you still had to read is not kept any more", "too slow"
                )
                return False
            if is_lost or member.lagged:
                # What is not kept any more is not promised: the gap before `first` says so.
                member.lagged = False
                member.next_seq = max(member.next_seq, oldest)
                member.promised_seq = newest
                if is_lost or member.next_seq <= newest:
                    # After each message that is sent it begins anew: the outlet may have taken them out.
                    self._outlet.send(Lagged(room, member.next_seq, newest))
                    return True
        if member.live or member.next_seq > newest:
            self._catch_up_with(member)
            return True
        last = newest if member.end is None else member.end.last
        try:
            answer = self._log.read(room, member.next_seq, last, self._slice_bytes)
        except Exception:
            self._reading_failed(Failure())
            return False
        return self._take(answer, lambda chats: self._pay_member(member, chats))

    def _catch_up_with(self, member: Member) -> None:
        """*member* has everything that was said."""
        del self._behind[member.room.name]
        if not self._behind:
            self._behind.clear()  # or it would keep the room for what was in it
        member.live = True
        if member.stale:
            member.stale = False
            self._session.send_roster(member)

    def _pay_member(self, member: Member, chats: list[Chat]) -> bool:
        room = member.room.name
        if self._is_over(member):
            return True
        if not chats or chats[0].seq > member.next_seq:
            if member.next_seq < self._log.bounds(room)[0]:
                return True  # it went meanwhile
            raise RuntimeError(f"message {member.next_seq} is kept, says the log, but cannot be read")
        for chat in chats:
            if member.own is None or chat.seq not in member.own:
                if not self._outlet.publish(Prepared(chat, room, chat.seq)):
                    if self._outlet.queued_bytes:
                        self._outlet.notify()
                        return False
                    self._outlet.send(chat)  # larger than any queue may be, so it goes alone
                if self._is_over(member):
                    return True
            member.next_seq = chat.seq + 1
        return True

    def _is_over(self, member: Member) -> bool:
        """Whether what is being replayed to *member* is not what they are to get any more."""
        left = self._behind.get(member.room.name) is not member
        return left or member.lagged or self._session.ended

    def _take(self, answer: _Slice, pay: Callable[[list[Chat]], bool]) -> bool:
        """Pay with what the log answers; False where it has to be waited for."""
        if not isinstance(answer, Deferred):
            return pay(answer)
        self._reading = True
        answer.addCallbacks(lambda chats: self._was_read(partial(pay, chats)), self._reading_failed)
        answer.addErrback(self._session.give_up)
        return not self._reading

    def _was_read(self, pay: Callable[[], bool]) -> None:
        self._reading = False
        self._found = pay
        self._session.requests.go_on()

    def _reading_failed(self, failure: Failure) -> None:
        _log.failure("the log could not be read", failure)
        self._session.fail(ErrorCode.TOO_SLOW, "the history cannot be read at the moment; come back", "error")

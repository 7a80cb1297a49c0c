"""Replays from the log: on joining, after having been too slow, and when someone asks for history.

They are sent in slices, the next one when the last has gone out, so that no replay ever fills a queue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

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


class _Query:
    """One answer to `history`: a range that is sent once and belongs to nobody's place in the log."""

    def __init__(self, room: str, first: int, last: int, status: int) -> None:
        self.room = room
        self.first = self.next_seq = first
        self.last = last
        self.status = status

    def end(self) -> End:
        sent = self.next_seq > self.first
        return End(self.room, self.first if sent else 0, self.next_seq - 1 if sent else 0, self.status)


class CatchUp:
    """What one session is owed from the log."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._outlet = session.outlet
        self._log = session.hub.log
        self._behind: dict[str, Member] = {}
        self._query: _Query | None = None
        self._reading = False

    # --- what is owed -------------------------------------------------------------------------------------

    def enter(self, member: Member, join: Join) -> None:
        """Owe the replay that *join* asked for, and everything after it (docs/protocol.md, section 3)."""
        room = member.room.name
        oldest, newest = self._log.bounds(room)
        self._session.send_roster(member)
        status = NOTHING_IS_MISSING
        anew = join.epoch != self._log.epoch and (join.epoch or join.after)
        if anew or join.after > newest:
            status, after = STARTED_ANEW, 0
        else:
            after = join.after
        first = max(after + 1, newest - join.limit + 1, oldest)
        # With `after` whatever lies between is missing; without, only what could still be asked for.
        if status == NOTHING_IS_MISSING and first > (after + 1 if after else oldest):
            status = OLDER_EXIST
        member.next_seq = first
        member.promised_seq = newest
        sent = first <= newest
        member.end = End(room, first if sent else 0, newest if sent else 0, status)
        self._behind[room] = member
        self._session.hold()

    def query(self, room: str, before: int, limit: int) -> None:
        """Owe the newest *limit* kept messages older than *before*, 0: the newest of all."""
        oldest, newest = self._log.bounds(room)
        last = min(newest, before - 1) if before else newest
        first = max(oldest, last - limit + 1)
        status = OLDER_EXIST if first > oldest and oldest <= newest else NOTHING_IS_MISSING
        self._query = _Query(room, first, last, status)
        self._session.hold()

    def fall_behind(self, member: Member, seq: int) -> None:
        """*member* is still to get the message *seq* and all after it."""
        member.next_seq = seq if member.live else min(seq, member.next_seq)
        member.live = False
        member.lagged = True
        self._behind[member.room.name] = member

    def distrust(self, member: Member) -> None:
        """*member* missed who came or went."""
        member.stale = True
        self._behind[member.room.name] = member

    def leave(self, member: Member) -> None:
        """Nothing more is owed to *member*."""
        self._behind.pop(member.room.name, None)
        if member.end is not None:
            member.end = None
            self._session.release()

    # --- paying it ----------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Send what is owed, until enough is queued or the log has to be waited for."""
        while (self._query or self._behind) and not self._reading and not self._session.ended:
            if self._outlet.queued_bytes >= SLICE_BYTES:
                self._outlet.notify()
                return
            if self._query:
                progress = self._advance_query(self._query)
            else:
                progress = self._advance_member(next(iter(self._behind.values())))
            if not progress:
                return

    def _advance_query(self, query: _Query) -> bool:
        if query.next_seq > query.last:
            self._query = None
            self._outlet.send(query.end())
            self._session.release()
            return True
        return self._read(query.room, query.next_seq, query.last, lambda chats: self._pay_query(query, chats))

    def _pay_query(self, query: _Query, chats: list[Chat]) -> bool:
        if not chats or chats[0].seq > query.next_seq:
            # Some fell out of what is kept meanwhile.
            query.status = OLDER_EXIST
            if query.next_seq == query.first:
                query.first = query.next_seq = chats[0].seq if chats else query.last + 1
            if not chats:
                query.last = query.next_seq - 1
        for chat in chats:
            self._outlet.send(chat)
            query.next_seq = chat.seq + 1
        return True

    def _advance_member(self, member: Member) -> bool:
        oldest, newest = self._log.bounds(member.room.name)
        if not member.live and (member.lagged or (member.next_seq > member.promised_seq and member.next_seq < oldest)):
            # What is not kept any more is not promised: the gap before `first` says so.
            member.lagged = False
            member.next_seq = max(member.next_seq, oldest)
            member.promised_seq = max(newest, member.promised_seq)
            if member.next_seq <= newest:
                self._outlet.send(Lagged(member.room.name, member.next_seq, newest))
        if member.end is not None and member.next_seq > member.promised_seq:
            end, member.end = member.end, None
            self._outlet.send(end)
            self._session.release()
        if member.live or member.next_seq > newest:
            self._catch_up_with(member)
            return True
        last = member.promised_seq if member.end is not None else newest
        return self._read(
            member.room.name, member.next_seq, last, lambda chats: self._pay_member(member, chats)
        )

    def _catch_up_with(self, member: Member) -> None:
        """*member* has everything that was said."""
        del self._behind[member.room.name]
        member.live = True
        member.own_seqs.clear()
        if member.stale:
            member.stale = False
            self._session.send_roster(member)

    def _pay_member(self, member: Member, chats: list[Chat]) -> bool:
        room = member.room.name
        if self._behind.get(room) is not member:
            return True  # left meanwhile
        if member.lagged:
            return True  # fell further behind meanwhile: what was read may be too late
        if not chats or chats[0].seq > member.next_seq:
            if member.next_seq <= member.promised_seq:
                self._session.fail(
                    ErrorCode.TOO_SLOW, "what you still had to read is not kept any more", "too slow"
                )
                return False
            return True  # not promised: `lagged` will say what is still to be had
        for chat in chats:
            if chat.seq in member.own_seqs:
                member.own_seqs.discard(chat.seq)
            elif not self._outlet.publish(Prepared(chat, room, chat.seq)):
                self._outlet.notify()
                return False
            member.next_seq = chat.seq + 1
        return True

    def _read(self, room: str, first: int, last: int, pay: Callable[[list[Chat]], bool]) -> bool:
        """Read from the log and pay; False where something has to be waited for."""
        answer = self._log.read(room, first, last, SLICE_BYTES)
        if not isinstance(answer, Deferred):
            return pay(answer)
        self._reading = True
        answer.addCallbacks(lambda chats: self._was_read(chats, pay), self._reading_failed).addErrback(
            lambda failure: _log.failure("a replay could not be finished", failure)
        )
        return not self._reading

    def _was_read(self, chats: list[Chat], pay: Callable[[list[Chat]], bool]) -> None:
        self._reading = False
        if not self._session.ended:
            pay(chats)
            self._session.drained()

    def _reading_failed(self, failure: Failure) -> None:
        self._reading = False
        _log.failure("the log could not be read", failure)
        self._session.fail(ErrorCode.TOO_SLOW, "the history cannot be read at the moment; come back", "error")

"""One person's session: takes up what they ask for, in order, and sees that they get what they are owed.

Requests wait in a line and are taken up one after the other: not while an answer that is longer than the
send queue should be (a replay) is under way, not while the person does not read what they asked for, and
only so many in one reactor turn. So what one person can make the server hold or do at once is bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatproto.rooms.account import IAccount
from chatproto.rooms.catchup import CatchUp
from chatproto.rooms.log import NotStored
from chatproto.rooms.moderation import EVERYWHERE, Action, Rule
from chatproto.rooms.names import Nick as Name
from chatproto.rooms.orders import barring
from chatproto.rooms.outlet import Outlet, Request
from chatproto.rooms.pace import Pace
from chatproto.rooms.requests import take_up
from chatproto.rooms.room import Member
from chatproto.rooms.standing import Standing
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import (
    Error,
    Message,
    Told,
    Welcome,
)
from chatproto.wire.prepared import Prepared

if TYPE_CHECKING:
    from chatproto.rooms.hub import Hub

__all__ = ["Session"]

_log = Logger(namespace="chatproto.rooms.session")

TURN_REQUESTS = 64
"""Taken up for one session in one reactor turn; the rest waits, so that others get theirs."""


THROTTLED_S = 0.1
"""Who is too fast is read from so often, and what has come to be allowed meanwhile is taken up at once."""

MAX_UNANSWERED = 256
"""Said by one session while the log has not answered; what follows waits. Enough to answer in bulk."""


class Session:
    """One person's session, from the connection's beginning to its end, whichever way it ends.

    `id` is never used again. Faces call `receive`, `finish_input`, `lost`, `drained` and `stalled`. Once
    it has `ended`, `reason` is what others were told, and `farewell` the last message, if there was one.
    """

    # Without them each would be a dict of its own: it has more attributes than Python shares the names of.
    __slots__ = (
        "__dict__",  # of those that are traced
        "__weakref__",
        "_advancing",
        "_all_answered",
        "_breaking",
        "_bytes_before_join",
        "_conclusion",
        "_heir",
        "_held",
        "_input_is_over",
        "_is_draining",
        "_join_limit",
        "_join_timeout",
        "_join_timeout_s",
        "_lags_since_s",
        "_message_pace",
        "_next_allowed",
        "_next_turn",
        "_paused",
        "_reading_pace",
        "_rename_pace",
        "_requests",
        "_settled",
        "began_ms",
        "catch_up",
        "ended",
        "farewell",
        "granted",
        "hub",
        "id",
        "members",
        "n_leaving",
        "name",
        "outlet",
        "reason",
        "standing",
        "unanswered",
    )

    def __init__(self, hub: Hub, id: int, outlet: Outlet, address: str = "") -> None:
        self.id = id
        self.began_ms = hub.now_ms()
        self.hub = hub
        self.outlet = outlet
        self.name: Name | None = None
        self.standing = Standing(hub, address)
        self.granted: Name | None = None  # what other servers let them have, for the request that asked
        self.members: dict[str, Member] = {}
        self.n_leaving = 0  # rooms that it is out of, but for last words that the log has not answered
        self.ended = False
        self.reason = ""
        self.farewell: Message | None = None
        self._requests: list[Request] = []  # the next one last
        self.catch_up = CatchUp(self)
        self._input_is_over = False
        self._conclusion: tuple[str, Message | None] = ("closed", None)  # how it ends when all is answered
        self._paused = False
        self._advancing = False
        self._held = 0  # answers that the next request must wait for
        self.unanswered = 0  # says that the log has not answered yet
        self._all_answered: Deferred[None] | None = None  # for a request that waits for that
        self._heir: tuple[Session, Deferred[None]] | None = None  # who waits for the nickname
        self._message_pace = Pace()
        self._reading_pace: Pace | None = None  # as many never ask for any history
        self._rename_pace: Pace | None = None
        self._bytes_before_join = 0
        self._lags_since_s = 0.0
        self._is_draining = False
        self._settled: Callable[[], None] | None = None  # to be told when nothing is owed any more
        self._next_allowed: IDelayedCall | None = None  # when it has been slow enough to go on
        self._next_turn: IDelayedCall | None = None
        self._breaking: IDelayedCall | None = None
        self._join_timeout_s, self._join_limit = hub.limits.join_timeout_s, "join_timeout_s"
        self._join_timeout: IDelayedCall | None = hub.clock.callLater(
            self._join_timeout_s, self._join_timed_out
        )

    @property
    def nick_text(self) -> str:
        """The nickname as it is shown; empty before the session is open."""
        return self.name.text if self.name else ""

    @property
    def address(self) -> str:
        """The person's, as far as it is known; empty else."""
        return self.standing.address

    @property
    def lag_s(self) -> float:
        """For how many seconds they have been too slow, and not caught up yet; 0 if they are not."""
        return self.hub.clock.seconds() - self._lags_since_s if self.catch_up.is_lagging else 0.0

    @property
    def account(self) -> str | None:
        """Who is logged in; None if nobody is."""
        return self.standing.account

    @account.setter
    def account(self, account: str | None) -> None:
        self.standing.account = account

    @property
    def is_operator(self) -> bool:
        """Whether they may moderate."""
        return self.standing.is_operator

    # --- what faces call ----------------------------------------------------------------------------------

    def receive(self, requests: list[Any]) -> None:
        """Take *requests* in, each to be taken up when its turn comes; ignore them after the end of input."""
        if not (self.ended or self._input_is_over or self._is_draining):
            self._requests = requests[::-1] + self._requests if self._requests else requests[::-1]
            self._advance()

    def is_heard(self, n_bytes: int) -> bool:
        """Whether the *n_bytes* that have just come may be taken in; faces ask until the session is open.

        What came with the `join` itself is never too much: only who has been answered and still has not
        joined has had enough.
        """
        most = self.hub.limits.max_bytes_before_join
        if self.name is None and not self._held and self._bytes_before_join > most:
            self.hub.record.limited("max_bytes_before_join")
            self.fail(ErrorCode.JOIN_FIRST, f"nobody joined within {most:,} bytes", "error")
        self._bytes_before_join += n_bytes
        return not self.ended

    def finish_input(self) -> None:
        """Nothing more will come: what came takes effect and is answered, then the session ends."""
        self._input_is_over = True
        self._advance()

    def wait_for_join(self, timeout_s: float, limit: str) -> None:
        """Give the person *timeout_s*, by that *limit*, from now on to join, whatever time has gone by."""
        if self._join_timeout is not None:
            self._join_timeout_s, self._join_limit = timeout_s, limit
            self._join_timeout.reset(timeout_s)

    def drain(self, settled: Callable[[], None]) -> None:
        """Hear nothing more; *settled* is called once what came is done and answered, or the session over."""
        self._is_draining = True
        self._settled = settled
        if self._next_allowed is not None:
            # It is the last of what they said, and there is no time left for manners.
            self._next_allowed.cancel()
            self._next_allowed = None
        self._advance()

    def _has_settled(self) -> None:
        settled, self._settled = self._settled, None
        if settled is not None:
            settled()

    def lost(self, reason: str = "closed") -> None:
        """The connection is gone."""
        self.end(reason)

    def drained(self) -> None:
        """Nothing waits to be sent any more (see `Outlet.notify`)."""
        self.catch_up.unblock()
        self._advance()

    def stalled(self) -> None:
        """The person has taken nothing for too long."""
        self.hub.record.limited("lag_timeout_s")
        self.fail(ErrorCode.TOO_SLOW, "nothing was read for too long", "too slow")

    # --- what the log's answers call ----------------------------------------------------------------------

    def go_on(self) -> None:
        """Something that was waited for is there."""
        self._advance()

    def was_answered(self) -> None:
        """One of those that the log owed an answer has it, and the person has theirs."""
        if not self.unanswered and self._all_answered is not None:
            answered, self._all_answered = self._all_answered, None
            answered.callback(None)
        elif self._requests or self._input_is_over or self._is_draining:
            self._advance()

    def give_up(self, failure: Failure) -> None:
        """The outlet, the log or something called raised: nobody knows any more what the person got."""
        _log.failure("session {connection} could not go on", failure, connection=self.id)
        self.end("error")

    # --- what the hub calls -------------------------------------------------------------------------------

    def fall_behind(self, prepared: Prepared) -> None:
        """A message of a room did not fit: drop what is queued of rooms, to replay it later."""
        self._lags("max_queued_bytes")
        firsts = self.outlet.drop()
        if prepared.topic is not None:
            firsts.setdefault(prepared.topic, prepared.position)
        self._owe(firsts)

    def shed(self) -> None:
        """Too much waits for everybody together: drop what is queued of rooms here, to replay it later."""
        if self.ended or self._breaking is not None:
            return
        try:
            firsts = self.outlet.drop()
        except Exception:
            self.broke()
            return
        if firsts:
            self._lags("max_total_queued_bytes")
            self._owe(firsts)

    def _lags(self, limit: str) -> None:
        """They are too slow for *limit*; unless they were so already, that is when it began."""
        if not self.catch_up.is_lagging:
            self._lags_since_s = self.hub.clock.seconds()
            self.hub.record.lagged(self)
            self.hub.record.limited(limit)

    def _owe(self, firsts: dict[Any, int]) -> None:
        for room, seq in firsts.items():
            member = self.members.get(room)
            if member is not None:
                self.catch_up.fall_behind(member, seq)
        self.outlet.notify()

    def tell(self, told: Told) -> bool:
        """Send what someone else says to this person alone; False, with nothing sent, if it cannot be."""
        try:
            return self.outlet.publish(Prepared(told))
        except Exception:
            self.broke()
            return False

    def inform(self, message: Message) -> None:
        """Send what someone else brought about."""
        try:
            self.outlet.send(message)
        except Exception:
            self.broke()

    def announce(self, prepared: Prepared, *members: Member) -> None:
        """Send what is not in any log; where there is no room for it, the rosters are sent anew later."""
        if self._breaking is not None:
            return
        try:
            if self.outlet.publish(prepared):
                return
            self.fall_behind(prepared)
            if not self.outlet.publish(prepared):
                for member in members:
                    self.catch_up.distrust(member)
        except Exception:
            self.broke()

    def broke(self) -> None:
        """The outlet raised, and who knows what it lost: log the exception at hand and end the session."""
        if self._breaking is not None or self.ended:
            return
        _log.failure("session {connection} could not be written to", connection=self.id)
        for member in self.members.values():
            member.live = False
        # Others are just being told something, and must not wait for a chain of such ends.
        self._breaking = self.hub.clock.callLater(0, self.end, "error")

    def left(self, member: Member) -> None:
        """The hub has taken this session out of a room."""
        del self.members[member.room.name]
        member.live = False
        if self.catch_up.leave(member):
            # What waited for the replay goes on, but not in the middle of what ended it.
            self.release()
            self._go_on_later()

    def has_left(self) -> None:
        """The hub has given the nickname of this session, which has ended, free."""
        if self._heir is not None:
            (_, free), self._heir = self._heir, None
            free.callback(None)

    def refuse(self, code: ErrorCode, text: str, id: int = 0) -> None:
        """Answer with an error that is not fatal."""
        self.hub.record.refused(self, code)
        self.outlet.send(Error(code, id, text))

    def fail(self, code: ErrorCode, text: str, reason: str) -> None:
        """Answer with a fatal error and end the session."""
        if not self.ended:
            self.end(reason, Error(code, 0, text))

    def end(self, reason: str, farewell: Message | None = None) -> None:
        """End the session, whichever way it came to this; harmless if it has ended."""
        if self.ended:
            return
        self.ended = True
        self.reason, self.farewell = reason, farewell
        self._requests.clear()
        for call in (self._join_timeout, self._next_turn, self._next_allowed, self._breaking):
            if call is not None and call.active():
                call.cancel()
        self.standing.end()
        self.hub.forget(self, reason)
        self.hub.record.ended(self)
        self._has_settled()
        try:
            try:
                if farewell is not None:
                    self.outlet.send(farewell)
            finally:
                self.outlet.finish()
        except Exception:
            _log.failure("session {connection} could not be told that it ended", connection=self.id)

    # --- one request after the other ----------------------------------------------------------------------

    def _advance(self) -> None:
        """Go on as far as it goes, then say what to wait for."""
        if self._advancing or self.ended:
            return
        if self.hub.is_telling:
            # Whoever is further back in the line must not see what follows before what is being told.
            self._go_on_later()
            return
        self._advancing = True
        try:
            self.catch_up.advance()
            self._take_up_requests()
            self._wait()
        except Exception:
            self.give_up(Failure())
        finally:
            self._advancing = False

    def _wait(self) -> None:
        """End if that is all, else read from the person again, or nothing more for now."""
        if self.ended:
            return
        is_settled = not (self._requests or self._held or self.unanswered)
        if is_settled and self._input_is_over:
            self.end(*self._conclusion)
        elif is_settled and self._is_draining:
            self._has_settled()
        elif bool(self._requests) != self._paused:
            self._paused = not self._paused
            if self._paused:
                self.outlet.pause()
            else:
                self.outlet.resume()

    def _take_up_requests(self) -> None:
        if not self._requests or self._next_turn is not None or self._next_allowed is not None:
            return
        most = self._allowed_messages()
        taken = 0
        try:
            while taken < most:
                if not self._requests or self._held or self.ended or self.unanswered >= MAX_UNANSWERED:
                    return
                if self._next_turn is not None or self._next_allowed is not None:
                    return
                if self.outlet.queued_bytes * 2 > self.outlet.max_queued_bytes:
                    self.outlet.notify()
                    return
                request = self._requests.pop()
                taken += 1
                message = request() if callable(request) else request
                if message is not None:
                    take_up(self, message)
                    # A replay that fits goes out before the next request, without waiting for the socket.
                    self.catch_up.advance()
        finally:
            self._count_messages(taken)
        if self._requests and not self.ended:
            if most == TURN_REQUESTS:
                self._go_on_later()
            else:
                self._wait_for_messages()

    def _allowed_messages(self) -> int:
        """How many requests may be taken up now, at most as many as in one turn."""
        limits = self.hub.limits
        if not limits.max_messages_per_s or self._is_draining:
            return TURN_REQUESTS
        left = self._message_pace.left(
            self.hub.clock.seconds(), limits.message_burst, limits.max_messages_per_s
        )
        return max(0, min(TURN_REQUESTS, int(left)))

    def _count_messages(self, n: int) -> None:
        per_s = self.hub.limits.max_messages_per_s
        if n and per_s:
            self._message_pace.take(n, self.hub.clock.seconds(), per_s)

    def _wait_for_messages(self) -> None:
        """Take up nothing, and so read nothing, until some more are allowed."""
        limits = self.hub.limits
        self.hub.record.limited("max_messages_per_s")
        now_s, per_s = self.hub.clock.seconds(), limits.max_messages_per_s
        wanted = max(1.0, min(limits.message_burst, per_s * THROTTLED_S))  # each by itself would be a timer
        self._go_on_after((wanted - self._message_pace.left(now_s, limits.message_burst, per_s)) / per_s)

    def _go_on_after(self, wait_s: float) -> None:
        """Take up no request for so long; what is owed is sent meanwhile."""
        # A little more, or it might be not quite enough when it comes to reckoning.
        self._next_allowed = self.hub.clock.callLater(max(0.0, wait_s) + 1e-6, self._may_go_on)

    def _may_go_on(self) -> None:
        self._next_allowed = None
        self._advance()

    def _go_on_later(self) -> None:
        """Take up no request before the next turn of the reactor."""
        if self._next_turn is None and not self.ended:
            self._next_turn = self.hub.clock.callLater(0, self._begin_turn)

    def _begin_turn(self) -> None:
        self._next_turn = None
        self._advance()

    def _join_timed_out(self) -> None:
        self._join_timeout = None
        self.hub.record.limited(self._join_limit)
        self.fail(ErrorCode.TIMEOUT, f"nobody joined within {self._join_timeout_s:g} s", "timeout")

    # --- what requests call --------------------------------------------------------------------------------

    def open(self, name: Name) -> None:
        """From now on this is someone."""
        self.name = name
        if self._join_timeout is not None:
            self._join_timeout.cancel()
            self._join_timeout = None
        self.outlet.send(Welcome(self.id, name.text, self.hub.log.epoch, self.hub.server))

    def restriction(self, action: Action, room: str, name: Name | None = None) -> Rule | None:
        """The ban or mute that keeps them, as *name* if given, out of *room* or from speaking there."""
        return self.standing.restriction(action, room, name or self.name)

    def is_barred(self, name: Name | None = None) -> bool:
        """Whether they, as *name* if that is given, are banned from the server; then the session is over."""
        rule = self.restriction(Action.BAN, EVERYWHERE, name)
        if rule is not None:
            self.fail(ErrorCode.NOT_ALLOWED, barring(rule), "kicked")
        return rule is not None

    def revise(self, revise: Callable[[IAccount], IAccount | None]) -> None:
        """What is known of accounts has changed (`Standing.revise`): without its account a session ends."""
        if not self.standing.revise(revise):
            self.fail(ErrorCode.NOT_ALLOWED, "your account was removed", "kicked")

    def wait_for_join_again(self) -> None:
        """Give the person as much time to join as at first."""
        self.wait_for_join(self._join_timeout_s, self._join_limit)

    def take_up_again(self, request: Message) -> None:
        """Take *request* up again before all others: what it waited for is there."""
        self._requests.append(request)
        self.go_on()

    def postpone(self, request: Message, until: Deferred[None]) -> None:
        """Take *request*, which is just being taken up, up again when what it needs is there."""
        self.hold()
        self._requests.append(request)
        until.addCallbacks(lambda _: self._postponement_is_over(), self._cannot_be_prepared)
        until.addErrback(self.give_up)

    def postpone_until_answered(self, request: Message) -> bool:
        """Take *request* up again when the log has answered everything; False if it has.

        For what shows messages: whoever said something finds it there.
        """
        if not self.unanswered:
            return False
        self._all_answered = Deferred()
        self.postpone(request, self._all_answered)
        return True

    def postpone_until_left(self, request: Message, holder: Session) -> bool:
        """Take *request* up again when *holder*, which has ended, has left everywhere, and its nickname is
        free; False if somebody else waits for it already."""
        if holder._heir is not None and not holder._heir[0].ended:
            return False
        free: Deferred[None] = Deferred()
        holder._heir = self, free
        self.postpone(request, free)
        return True

    def _postponement_is_over(self) -> None:
        self.release()
        self.go_on()

    def _cannot_be_prepared(self, failure: Failure) -> None:
        if failure.check(NotStored):
            # What is in memory goes on, so the session does too.
            self._requests.pop()
            self.refuse(ErrorCode.RATE_LIMITED, "the history cannot be reached at the moment; try later")
            self._postponement_is_over()
            return
        _log.failure("what the log knows of a room could not be had", failure)
        self.fail(ErrorCode.TOO_SLOW, "the history cannot be read at the moment; come back", "error")

    def pause_for_others(self) -> None:
        """What was just done took long: take up nothing more in this turn of the reactor."""
        self._go_on_later()

    def hold(self) -> None:
        """Take up no further request before `release`."""
        self._held += 1

    def release(self) -> None:
        """An answer that the next request waits for is complete."""
        self._held -= 1

    def conclude(self, reason: str, farewell: Message | None = None) -> None:
        """Take up nothing more, and end as soon as everything that was said is answered."""
        self._requests.clear()
        self._input_is_over = True
        self._conclusion = reason, farewell

    def send_roster(self, member: Member) -> None:
        """Send who is in a room."""
        last = self.hub.log.bounds(member.room.name)[1]
        self.outlet.send(member.room.roster(last, self.hub.limits.max_frame_bytes))

    def may_rename(self) -> bool:
        """Whether the nickname may be changed once more by now; if so, that is counted."""
        limits = self.hub.limits
        if not limits.rename_interval_s:
            return True
        now_s, per_s = self.hub.clock.seconds(), 1 / limits.rename_interval_s
        pace = self._rename_pace = self._rename_pace or Pace()
        if pace.left(now_s, limits.rename_burst, per_s) < 1:
            self.hub.record.limited("rename_burst")
            return False
        pace.take(1, now_s, per_s)
        return True

    def must_wait_to_read(self, request: Message) -> bool:
        """Whether the history was read too often; *request* is then taken up again when it may be."""
        limits = self.hub.limits
        per_s = limits.max_history_reads_per_s
        if not per_s or self._is_draining:
            return False
        now_s = self.hub.clock.seconds()
        pace = self._reading_pace = self._reading_pace or Pace()
        left = pace.left(now_s, limits.history_burst, per_s)
        if left >= 1:
            pace.take(1, now_s, per_s)
            return False
        self.hub.record.limited("max_history_reads_per_s")
        self._requests.append(request)
        self._go_on_after((1 - left) / per_s)
        return True

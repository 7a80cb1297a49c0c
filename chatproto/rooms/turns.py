"""When a session's requests are taken up: in their order, so many in a turn, as fast as is allowed.

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

from chatproto.rooms.log import NotStored
from chatproto.rooms.outlet import Request
from chatproto.rooms.pace import Pace
from chatproto.rooms.requests import take_up
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Message

if TYPE_CHECKING:
    from chatproto.rooms.session import Session

__all__ = ["RequestQueue"]

_log = Logger(namespace="chatproto.rooms.turns")

TURN_REQUESTS = 64
"""Taken up for one session in one reactor turn; the rest waits, so that others get theirs."""

THROTTLED_S = 0.1
"""Who is too fast is read from so often, and what has come to be allowed meanwhile is taken up at once."""

MAX_UNANSWERED = 256
"""Said by one session while the log has not answered; what follows waits. Enough to answer in bulk."""


class RequestQueue:
    """What one session has asked for and is still to be taken up.

    The session hands it what comes, and each request says here what the next one must wait for. It pauses
    the outlet while anything waits, and ends the session once the input is over and all is answered.
    """

    __slots__ = (
        "_advancing",
        "_all_answered",
        "_conclusion",
        "_held",
        "_input_is_over",
        "_is_draining",
        "_message_pace",
        "_next_allowed",
        "_next_turn",
        "_paused",
        "_reading_pace",
        "_rename_pace",
        "_requests",
        "_session",
        "_settled",
        "unanswered",
    )

    def __init__(self, session: Session) -> None:
        self._session = session
        self._requests: list[Request] = []  # the next one last: a list, empty, takes a tenth of a deque
        self._input_is_over = False
        self._conclusion: tuple[str, Message | None] = ("closed", None)  # how it ends when all is answered
        self._paused = False
        self._advancing = False
        self._held = 0  # answers that the next request must wait for
        self.unanswered = 0  # says that the log has not answered yet
        self._all_answered: Deferred[None] | None = None  # for a request that waits for that
        self._message_pace = Pace()
        self._reading_pace: Pace | None = None  # as many never ask for any history
        self._rename_pace: Pace | None = None
        self._is_draining = False
        self._settled: Callable[[], None] | None = None  # to be told when nothing is owed any more
        self._next_allowed: IDelayedCall | None = None  # when it has been slow enough to go on
        self._next_turn: IDelayedCall | None = None

    # --- what the session calls ---------------------------------------------------------------------------

    @property
    def is_held(self) -> bool:
        """Whether an answer is under way that the next request must wait for."""
        return self._held > 0

    def receive(self, requests: list[Any]) -> None:
        """See `Session.receive`."""
        if not (self._session.ended or self._input_is_over or self._is_draining):
            self._requests = requests[::-1] + self._requests if self._requests else requests[::-1]
            self.go_on()

    def finish_input(self) -> None:
        """See `Session.finish_input`."""
        self._input_is_over = True
        self.go_on()

    def drain(self, settled: Callable[[], None]) -> None:
        """See `Session.drain`."""
        self._is_draining = True
        self._settled = settled
        if self._next_allowed is not None:
            # It is the last of what they said, and there is no time left for manners.
            self._next_allowed.cancel()
            self._next_allowed = None
        self.go_on()

    def clear(self) -> None:
        """The session has ended: take up nothing more."""
        self._requests.clear()
        for call in (self._next_turn, self._next_allowed):
            if call is not None and call.active():
                call.cancel()

    def has_settled(self) -> None:
        """Nothing is owed any more: tell whoever called `drain`, once."""
        settled, self._settled = self._settled, None
        if settled is not None:
            settled()

    # --- one request after the other ----------------------------------------------------------------------

    def go_on(self) -> None:
        """Go on as far as it goes, as something that was waited for is there, then say what to wait for."""
        session = self._session
        if self._advancing or session.ended:
            return
        if session.hub.is_telling:
            # Whoever is further back in the line must not see what follows before what is being told.
            self.go_on_later()
            return
        self._advancing = True
        try:
            session.catch_up.advance()
            self._take_up_requests()
            self._wait()
        except Exception:
            session.give_up(Failure())
        finally:
            self._advancing = False

    def _wait(self) -> None:
        """End if that is all, else read from the person again, or nothing more for now."""
        session = self._session
        if session.ended:
            return
        is_settled = not (self._requests or self._held or self.unanswered)
        if is_settled and self._input_is_over:
            session.end(*self._conclusion)
        elif is_settled and self._is_draining:
            self.has_settled()
        elif bool(self._requests) != self._paused:
            self._paused = not self._paused
            if self._paused:
                session.outlet.pause()
            else:
                session.outlet.resume()

    def _take_up_requests(self) -> None:
        if not self._requests or self._next_turn is not None or self._next_allowed is not None:
            return
        session = self._session
        most = self._allowed_messages()
        taken = 0
        try:
            while taken < most:
                if not self._requests or self._held or session.ended or self.unanswered >= MAX_UNANSWERED:
                    return
                if self._next_turn is not None or self._next_allowed is not None:
                    return
                if session.outlet.queued_bytes * 2 > session.outlet.max_queued_bytes:
                    session.outlet.notify()
                    return
                request = self._requests.pop()
                taken += 1
                message = request() if callable(request) else request
                if message is not None:
                    take_up(session, message)
                    # A replay that fits goes out before the next request, without waiting for the socket.
                    session.catch_up.advance()
        finally:
            self._count_messages(taken)
        if self._requests and not session.ended:
            if most == TURN_REQUESTS:
                self.go_on_later()
            else:
                self._wait_for_messages()

    def _allowed_messages(self) -> int:
        """How many requests may be taken up now, at most as many as in one turn."""
        hub = self._session.hub
        limits = hub.limits
        if not limits.max_messages_per_s or self._is_draining:
            return TURN_REQUESTS
        left = self._message_pace.left(hub.clock.seconds(), limits.message_burst, limits.max_messages_per_s)
        return max(0, min(TURN_REQUESTS, int(left)))

    def _count_messages(self, n: int) -> None:
        hub = self._session.hub
        per_s = hub.limits.max_messages_per_s
        if n and per_s:
            self._message_pace.take(n, hub.clock.seconds(), per_s)

    def _wait_for_messages(self) -> None:
        """Take up nothing, and so read nothing, until some more are allowed."""
        hub = self._session.hub
        limits = hub.limits
        hub.record.limited("max_messages_per_s")
        now_s, per_s = hub.clock.seconds(), limits.max_messages_per_s
        wanted = max(1.0, min(limits.message_burst, per_s * THROTTLED_S))  # each by itself would be a timer
        self._go_on_after((wanted - self._message_pace.left(now_s, limits.message_burst, per_s)) / per_s)

    def _go_on_after(self, wait_s: float) -> None:
        """Take up no request for so long; what is owed is sent meanwhile."""
        # A little more, or it might be not quite enough when it comes to reckoning.
        self._next_allowed = self._session.hub.clock.callLater(max(0.0, wait_s) + 1e-6, self._may_go_on)

    def _may_go_on(self) -> None:
        self._next_allowed = None
        self.go_on()

    def go_on_later(self) -> None:
        """Take up no request before the next turn of the reactor, e.g. as what was just done took long."""
        if self._next_turn is None and not self._session.ended:
            self._next_turn = self._session.hub.clock.callLater(0, self._begin_turn)

    def _begin_turn(self) -> None:
        self._next_turn = None
        self.go_on()

    # --- what requests call -------------------------------------------------------------------------------

    def hold(self) -> None:
        """Take up no further request before `release`."""
        self._held += 1

    def release(self) -> None:
        """An answer that the next request waits for is complete."""
        self._held -= 1

    def was_answered(self) -> None:
        """One of those that the log owed an answer has it, and the person has theirs."""
        if not self.unanswered and self._all_answered is not None:
            answered, self._all_answered = self._all_answered, None
            answered.callback(None)
        elif self._requests or self._input_is_over or self._is_draining:
            self.go_on()

    def conclude(self, reason: str, farewell: Message | None = None) -> None:
        """Take up nothing more, and end as soon as everything that was said is answered."""
        self._requests.clear()
        self._input_is_over = True
        self._conclusion = reason, farewell

    def take_up_again(self, request: Message) -> None:
        """Take *request* up again before all others: what it waited for is there."""
        self._requests.append(request)
        self.go_on()

    def postpone(self, request: Message, until: Deferred[None]) -> None:
        """Take *request*, which is just being taken up, up again when what it needs is there."""
        self.hold()
        self._requests.append(request)
        until.addCallbacks(lambda _: self._postponement_is_over(), self._cannot_be_prepared)
        until.addErrback(self._session.give_up)

    def postpone_until_answered(self, request: Message) -> bool:
        """Take *request* up again when the log has answered everything; False if it has.

        For what shows messages: whoever said something finds it there.
        """
        if not self.unanswered:
            return False
        self._all_answered = Deferred()
        self.postpone(request, self._all_answered)
        return True

    def _postponement_is_over(self) -> None:
        self.release()
        self.go_on()

    def _cannot_be_prepared(self, failure: Failure) -> None:
        if failure.check(NotStored):
            # What is in memory goes on, so the session does too.
            self._requests.pop()
            self._session.refuse(
                ErrorCode.RATE_LIMITED, "the history cannot be reached at the moment; try later"
            )
            self._postponement_is_over()
            return
        _log.failure("what the log knows of a room could not be had", failure)
        self._session.fail(ErrorCode.TOO_SLOW, "the history cannot be read at the moment; come back", "error")

    def may_rename(self) -> bool:
        """Whether the nickname may be changed once more by now; if so, that is counted."""
        hub = self._session.hub
        limits = hub.limits
        if not limits.rename_interval_s:
            return True
        now_s, per_s = hub.clock.seconds(), 1 / limits.rename_interval_s
        pace = self._rename_pace = self._rename_pace or Pace()
        if pace.left(now_s, limits.rename_burst, per_s) < 1:
            hub.record.limited("rename_burst")
            return False
        pace.take(1, now_s, per_s)
        return True

    def must_wait_to_read(self, request: Message) -> bool:
        """Whether the history was read too often; *request* is then taken up again when it may be."""
        hub = self._session.hub
        limits = hub.limits
        per_s = limits.max_history_reads_per_s
        if not per_s or self._is_draining:
            return False
        now_s = hub.clock.seconds()
        pace = self._reading_pace = self._reading_pace or Pace()
        left = pace.left(now_s, limits.history_burst, per_s)
        if left >= 1:
            pace.take(1, now_s, per_s)
            return False
        hub.record.limited("max_history_reads_per_s")
        self._requests.append(request)
        self._go_on_after((1 - left) / per_s)
        return True

"""One person's session: takes up what they ask for, in order, and sees that they get what they are owed.

Requests wait in a line and are taken up one after the other: not while an answer that is longer than the
send queue should be (a replay) is under way, not while the person does not read what they asked for, and
only so many in one reactor turn. So what one person can make the server hold or do at once is bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatproto.rooms.catchup import CatchUp
from chatproto.rooms.log import NotStored, Receipt
from chatproto.rooms.moderation import Action
from chatproto.rooms.names import NameRefused, check_room, parse_nick
from chatproto.rooms.names import Nick as Name
from chatproto.rooms.room import Member
from chatproto.text import TextRefused, check_text
from chatproto.wire.errors import ErrorCode, ProtocolError
from chatproto.wire.messages import (
    Ack,
    Error,
    History,
    Join,
    Leave,
    Login,
    Message,
    Moderate,
    Nick,
    Notice,
    Ping,
    Pong,
    Say,
    Search,
    Tell,
    Told,
    Welcome,
    Who,
)
from chatproto.wire.prepared import Prepared

if TYPE_CHECKING:
    from chatproto.rooms.hub import Hub

__all__ = ["Outlet", "Request", "Session"]

_log = Logger(namespace="chatproto.rooms.session")

TURN_REQUESTS = 64
"""Taken up for one session in one reactor turn; the rest waits, so that others get theirs."""

MAX_LOGIN_FAILURES = 3

Request = Message | ProtocolError | Callable[[], Message | None]
"""What a face hands over: a message, the fault that ends the stream, or something called when its turn
comes, for a face that cannot say before then what it means."""


class Outlet(Protocol):
    """A session's way out: what a face of the chat implements."""

    @property
    def queued_bytes(self) -> int:
        """What waits to be sent."""

    @property
    def max_queued_bytes(self) -> int:
        """The bound of `queued_bytes`, past which `publish` refuses."""

    def send(self, message: Message) -> None:
        """Send to this person alone; never refused and never dropped."""

    def publish(self, prepared: Prepared) -> bool:
        """Send what many get. False, with nothing sent, past the bound.

        What sessions are asked meanwhile is taken up after everyone has got it.
        """

    def drop(self) -> dict[Any, int]:
        """Drop what waits and can be replayed; the lowest position dropped of each topic."""

    def notify(self) -> None:
        """Call the session's `drained` once nothing waits any more, but not at once."""

    def pause(self) -> None:
        """Read nothing more from the person for now."""

    def resume(self) -> None:
        """Read from the person again."""

    def finish(self) -> None:
        """Close once everything is sent; the session is over and says nothing more."""


class Session:
    """One person's session, from the connection's beginning to its end, whichever way it ends.

    `id` is never used again. Faces call `receive`, `finish_input`, `lost`, `drained` and `stalled`.
    """

    def __init__(self, hub: Hub, id: int, outlet: Outlet) -> None:
        self.id = id
        self.hub = hub
        self.outlet = outlet
        self.name: Name | None = None
        self.account: str | None = None
        self.members: dict[str, Member] = {}
        self.ended = False
        self._requests: deque[Request] = deque()
        self._catch_up = CatchUp(self)
        self._input_is_over = False
        self._conclusion: tuple[str, Message | None] = ("closed", None)  # how it ends when all is answered
        self._paused = False
        self._advancing = False
        self._held = 0  # answers that the next request must wait for
        self._unanswered = 0  # says that the log has not answered yet
        self._login_failures = 0
        self._renames_left = float(hub.limits.rename_burst)
        self._renamed_at_s = hub.clock.seconds()
        self._next_turn: IDelayedCall | None = None
        self._breaking: IDelayedCall | None = None
        self._join_timeout: IDelayedCall | None = hub.clock.callLater(
            hub.limits.join_timeout_s, self._join_timed_out
        )

    @property
    def nick_text(self) -> str:
        """The nickname as it is shown; empty before the session is open."""
        return self.name.text if self.name else ""

    # --- what faces call ----------------------------------------------------------------------------------

    def receive(self, requests: list[Any]) -> None:
        """Take *requests* in, each to be taken up when its turn comes; ignore them after the end of input."""
        if not self.ended and not self._input_is_over:
            self._requests.extend(requests)
            self._advance()

    def finish_input(self) -> None:
        """Nothing more will come: what came takes effect and is answered, then the session ends."""
        self._input_is_over = True
        self._advance()

    def lost(self, reason: str = "closed") -> None:
        """The connection is gone."""
        self.end(reason)

    def drained(self) -> None:
        """Nothing waits to be sent any more (see `Outlet.notify`)."""
        self._catch_up.unblock()
        self._advance()

    def stalled(self) -> None:
        """The person has taken nothing for too long."""
        self.fail(ErrorCode.TOO_SLOW, "nothing was read for too long", "too slow")

    # --- what the log's answers call ----------------------------------------------------------------------

    def go_on(self) -> None:
        """Something that was waited for is there."""
        self._advance()

    def give_up(self, failure: Failure) -> None:
        """The outlet, the log or something called raised: nobody knows any more what the person got."""
        _log.failure("session {id} could not go on", failure, id=self.id)
        self.end("error")

    # --- what the hub calls -------------------------------------------------------------------------------

    def fall_behind(self, prepared: Prepared) -> None:
        """A message of a room did not fit: drop what is queued of rooms, to replay it later."""
        firsts = self.outlet.drop()
        if prepared.topic is not None:
            firsts.setdefault(prepared.topic, prepared.position)
        for room, seq in firsts.items():
            member = self.members.get(room)
            if member is not None:
                self._catch_up.fall_behind(member, seq)
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
                    self._catch_up.distrust(member)
        except Exception:
            self.broke()

    def broke(self) -> None:
        """The outlet raised, and who knows what it lost: log the exception at hand and end the session."""
        if self._breaking is not None or self.ended:
            return
        _log.failure("session {id} could not be written to", id=self.id)
        for member in self.members.values():
            member.live = False
        # Others are just being told something, and must not wait for a chain of such ends.
        self._breaking = self.hub.clock.callLater(0, self.end, "error")

    def refuse(self, code: ErrorCode, text: str, id: int = 0) -> None:
        """Answer with an error that is not fatal."""
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
        self._requests.clear()
        for call in (self._join_timeout, self._next_turn, self._breaking):
            if call is not None and call.active():
                call.cancel()
        self.hub.forget(self, reason)
        try:
            try:
                if farewell is not None:
                    self.outlet.send(farewell)
            finally:
                self.outlet.finish()
        except Exception:
            _log.failure("session {id} could not be told that it ended", id=self.id)

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
            self._catch_up.advance()
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
        if not self._requests and self._input_is_over and not (self._held or self._unanswered):
            self.end(*self._conclusion)
        elif bool(self._requests) != self._paused:
            self._paused = not self._paused
            if self._paused:
                self.outlet.pause()
            else:
                self.outlet.resume()

    def _conclude(self, reason: str, farewell: Message | None = None) -> None:
        """Take up nothing more, and end as soon as everything that was said is answered."""
        self._requests.clear()
        self._input_is_over = True
        self._conclusion = reason, farewell

    def _take_up_requests(self) -> None:
        if self._next_turn is not None:
            return
        for _ in range(TURN_REQUESTS):
            if not self._requests or self._held or self.ended:
                return
            if self.outlet.queued_bytes * 2 > self.outlet.max_queued_bytes:
                self.outlet.notify()
                return
            request = self._requests.popleft()
            message = request() if callable(request) else request
            if message is not None:
                self._dispatch(message)
                # A replay that fits goes out before the next request, without waiting for the socket.
                self._catch_up.advance()
        if self._requests:
            self._go_on_later()

    def _go_on_later(self) -> None:
        """Take up no request before the next turn of the reactor."""
        if self._next_turn is None and not self.ended:
            self._next_turn = self.hub.clock.callLater(0, self._begin_turn)

    def _begin_turn(self) -> None:
        self._next_turn = None
        self._advance()

    def hold(self) -> None:
        """Take up no further request before `release`."""
        self._held += 1

    def release(self) -> None:
        """An answer that the next request waits for is complete."""
        self._held -= 1

    def _dispatch(self, message: Message | ProtocolError) -> None:
        if isinstance(message, ProtocolError):
            self._conclude("error", Error(message.code, 0, message.reason))
        elif self.name is None and type(message) not in _BEFORE_JOIN:
            self.fail(
                ErrorCode.JOIN_FIRST, f"join a room before anything else, {message.type} included", "error"
            )
        else:
            _DISPATCH[type(message)](self, message)

    def _join_timed_out(self) -> None:
        self._join_timeout = None
        timeout_s = self.hub.limits.join_timeout_s
        self.fail(ErrorCode.TIMEOUT, f"nobody joined within {timeout_s:g} s", "timeout")

    # --- each kind ----------------------------------------------------------------------------------------

    def _join(self, message: Join) -> None:
        hub = self.hub
        room = message.room or hub.default_room
        if self.name is None and hub.login_required and self.account is None:
            return self.refuse(ErrorCode.LOGIN_REQUIRED, "log in before you join")
        try:
            name = parse_nick(message.nick, hub.limits.max_nick_chars)
        except NameRefused as refusal:
            return self.refuse(ErrorCode.BAD_NICK, str(refusal))
        if self.name is not None and name.key != self.name.key:
            return self.refuse(
                ErrorCode.BAD_NICK, f"you are {self.name.text}; use nick to take another nickname"
            )
        if room in self.members:
            return None
        try:
            check_room(room, hub.limits.max_room_chars)
        except NameRefused as refusal:
            return self.refuse(ErrorCode.BAD_ROOM, str(refusal))
        if len(self.members) >= hub.limits.max_rooms_per_session:
            return self.refuse(
                ErrorCode.TOO_MANY_ROOMS, f"you are in {len(self.members)} rooms; leave one first"
            )
        if room not in hub.rooms and len(hub.rooms) >= hub.limits.max_rooms:
            return self.refuse(ErrorCode.TOO_MANY_ROOMS, "the server is full of rooms; use one that exists")
        if hub.moderation.holds(Action.BAN, room, name.key):
            return self.refuse(ErrorCode.NOT_ALLOWED, f"{name.text} is banned from {room}")
        if self.name is None:
            if hub.nicks.claim(name, self) is not None:
                return self._refuse_taken(name)
            self._open(name)
        member = hub.enter(self, room)
        # Someone who was told of it may have thrown them out.
        if self.members.get(room) is member:
            self._catch_up.enter(member, message)
        return None

    def _open(self, name: Name) -> None:
        self.name = name
        if self._join_timeout is not None:
            self._join_timeout.cancel()
            self._join_timeout = None
        self.outlet.send(Welcome(self.id, name.text, self.hub.log.epoch, self.hub.server))

    def _refuse_taken(self, name: Name) -> None:
        self.refuse(ErrorCode.NICK_TAKEN, f"{name.text} is taken, or looks like a nickname that is")

    def _member(self, room: str, id: int = 0) -> Member | None:
        """This session in *room*; None after the error is sent."""
        room = room or self.hub.default_room
        member = self.members.get(room)
        if member is None:
            # The name may be anything, so it is not repeated.
            self.refuse(ErrorCode.NOT_IN_ROOM, "you are not in that room; join it first", id)
        return member

    def _check_text(self, text: str, id: int) -> bool:
        try:
            check_text(text, self.hub.limits.max_text_bytes)
        except TextRefused as refusal:
            self.refuse(ErrorCode.BAD_TEXT, str(refusal), id)
            return False
        return True

    def _say(self, message: Say) -> None:
        member = self._member(message.room, message.id)
        if member is None or not self._check_text(message.text, message.id):
            return
        assert self.name is not None
        room = member.room.name
        if self.hub.moderation.holds(Action.MUTE, room, self.name.key):
            return self.refuse(ErrorCode.NOT_ALLOWED, f"you are muted in {room}", message.id)
        try:
            answer = self.hub.log.append(
                room, self.name.text, self.name.key, message.id, message.text, self.id
            )
        except Exception:
            return self._answer(message.id, Failure())
        if isinstance(answer, Receipt):
            return self._answer(message.id, answer)
        self._unanswered += 1
        answered: Callable[[Any], None] = partial(self._answered, message.id)
        answer.addBoth(answered).addErrback(self.give_up)
        return None

    def _answered(self, id: int, outcome: Receipt | Failure) -> None:
        self._unanswered -= 1
        if not self.ended:
            self._answer(id, outcome)
            self._advance()

    def _answer(self, id: int, outcome: Receipt | Failure) -> None:
        if isinstance(outcome, Receipt):
            self._acknowledge(id, outcome)
        elif outcome.check(NotStored):
            self.refuse(ErrorCode.NOT_STORED, outcome.getErrorMessage(), id)
        else:
            _log.failure("the log failed", outcome)
            self.refuse(ErrorCode.NOT_STORED, "the history failed; nobody saw it", id)

    def _acknowledge(self, id: int, receipt: Receipt) -> None:
        if id:
            self.outlet.send(Ack(id, receipt.seq, receipt.time_ms))

    def _leave(self, message: Leave) -> None:
        if not message.room:
            self._conclude("left")
            return
        member = self._member(message.room)
        if member is not None:
            self.hub.leave(self, member.room.name, "left")

    def left(self, member: Member) -> None:
        """The hub has taken this session out of a room."""
        del self.members[member.room.name]
        member.live = False
        if self._catch_up.leave(member):
            # What waited for the replay goes on, but not in the middle of what ended it.
            self.release()
            self._go_on_later()

    def _nick(self, message: Nick) -> None:
        assert self.name is not None
        try:
            name = parse_nick(message.nick, self.hub.limits.max_nick_chars)
        except NameRefused as refusal:
            return self.refuse(ErrorCode.BAD_NICK, str(refusal))
        if not self._may_rename():
            return self.refuse(ErrorCode.RATE_LIMITED, "you change your nickname too often; wait a little")
        if self.hub.nicks.claim(name, self) is not None:
            return self._refuse_taken(name)
        old, self.name = self.name, name
        if old != name:
            self.hub.nicks.release(old, self)
        self.hub.announce_renamed(self, old.text)
        return None

    def _may_rename(self) -> bool:
        limits = self.hub.limits
        now_s = self.hub.clock.seconds()
        if limits.rename_interval_s:
            self._renames_left += (now_s - self._renamed_at_s) / limits.rename_interval_s
        else:
            self._renames_left = limits.rename_burst
        self._renames_left = min(self._renames_left, limits.rename_burst)
        self._renamed_at_s = now_s
        if self._renames_left < 1:
            return False
        self._renames_left -= 1
        return True

    def _who(self, message: Who) -> None:
        member = self._member(message.room)
        if member is not None:
            self.send_roster(member)

    def send_roster(self, member: Member) -> None:
        """Send who is in a room."""
        last = self.hub.log.bounds(member.room.name)[1]
        self.outlet.send(member.room.roster(last, self.hub.limits.max_frame_bytes))

    def _history(self, message: History) -> None:
        member = self._member(message.room)
        if member is not None:
            self._catch_up.query(member.room.name, message.before, message.limit)

    def _tell(self, message: Tell) -> None:
        hub = self.hub
        assert self.name is not None
        if not self._check_text(message.text, message.id):
            return None
        receipt = hub.told.find(self.name.key, message.id)
        if receipt is None:
            target = hub.nicks.find(message.nick)
            if target is None:
                return self.refuse(
                    ErrorCode.NO_SUCH_NICK, "nobody here has that nickname; nothing was sent", message.id
                )
            receipt = Receipt(0, hub.now_ms())
            told = Told(receipt.time_ms, self.name.text, message.text)
            if not target.tell(told):
                return self.refuse(
                    ErrorCode.NOT_STORED, f"{target.nick_text} is not reading; nothing was sent", message.id
                )
            hub.told.add(self.name.key, message.id, receipt)
        self._acknowledge(message.id, receipt)
        return None

    def _ping(self, message: Ping) -> None:
        self.outlet.send(Pong(message.token))

    def _search(self, message: Search) -> None:
        self.refuse(ErrorCode.NOT_SUPPORTED, "the history of this server cannot be searched")

    def _login(self, message: Login) -> None:
        hub = self.hub
        if hub.authenticate is None:
            return self.refuse(ErrorCode.NOT_SUPPORTED, "this server has no accounts; join without login")
        if self.name is not None:
            return self.refuse(ErrorCode.NOT_ALLOWED, "log in before you join")
        try:
            answer = hub.authenticate(message.user, message.secret)
        except Exception:
            return self._logged_in(message.user, Failure())
        if not isinstance(answer, Deferred):
            return self._logged_in(message.user, answer)
        self.hold()
        checked: Callable[[Any], None] = partial(self._login_checked, message.user)
        answer.addBoth(checked).addErrback(self.give_up)
        return None

    def _login_checked(self, user: str, outcome: bool | Failure) -> None:
        self.release()
        if not self.ended:
            self._logged_in(user, outcome)
            self._advance()

    def _logged_in(self, user: str, outcome: bool | Failure) -> None:
        is_right = outcome
        if isinstance(outcome, Failure):
            _log.failure("a login could not be checked", outcome)
            is_right = False
        if is_right:
            self.account = user
            self.outlet.send(Notice("you are logged in"))
        else:
            self._login_failures += 1
            if self._login_failures >= MAX_LOGIN_FAILURES:
                self.fail(ErrorCode.LOGIN_FAILED, "wrong user or secret, too often", "error")
            else:
                self.refuse(ErrorCode.LOGIN_FAILED, "wrong user or secret")

    def _moderate(self, message: Moderate) -> None:
        self.hub.moderate(self, message)


_BEFORE_JOIN = {Join, Leave, Login, Ping}

_DISPATCH: dict[type[Message], Callable[[Session, Any], None]] = {
    Join: Session._join,
    Say: Session._say,
    Leave: Session._leave,
    Nick: Session._nick,
    Who: Session._who,
    History: Session._history,
    Tell: Session._tell,
    Ping: Session._ping,
    Login: Session._login,
    Search: Session._search,
    Moderate: Session._moderate,
}

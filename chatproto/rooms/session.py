"""One person's session: who they are, what they are in, what they are owed, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatproto.rooms.account import IAccount
from chatproto.rooms.catchup import CatchUp
from chatproto.rooms.moderation import EVERYWHERE, Action, Rule
from chatproto.rooms.names import Nick as Name
from chatproto.rooms.orders import barring
from chatproto.rooms.outlet import Outlet
from chatproto.rooms.room import Member
from chatproto.rooms.standing import Standing
from chatproto.rooms.turns import RequestQueue
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


class Session:
    """One person's session, from the connection's beginning to its end, whichever way it ends.

    `id` is never used again. Faces call `receive`, `finish_input`, `lost`, `drained` and `stalled`; when
    what they hand over is taken up is the matter of `requests`. Once it has `ended`, `reason` is what
    others were told, and `farewell` the last message, if there was one.
    """

    __slots__ = (
        "__dict__",  # of those that are traced
        "__weakref__",
        "_breaking",
        "_bytes_before_join",
        "_heir",
        "_join_limit",
        "_join_timeout",
        "_join_timeout_s",
        "_lags_since_s",
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
        "requests",
        "standing",
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
        self.requests = RequestQueue(self)
        self.catch_up = CatchUp(self)
        self._heir: tuple[Session, Deferred[None]] | None = None  # who waits for the nickname
        self._bytes_before_join = 0
        self._lags_since_s = 0.0
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
        self.requests.receive(requests)

    def is_heard(self, n_bytes: int) -> bool:
        """Whether the *n_bytes* that have just come may be taken in; faces ask until the session is open.

        What came with the `join` itself is never too much: only who has been answered and still has not
        joined has had enough.
        """
        most = self.hub.limits.max_bytes_before_join
        if self.name is None and not self.requests.is_held and self._bytes_before_join > most:
            self.hub.record.limited("max_bytes_before_join")
            self.fail(ErrorCode.JOIN_FIRST, f"nobody joined within {most:,} bytes", "error")
        self._bytes_before_join += n_bytes
        return not self.ended

    def finish_input(self) -> None:
        """Nothing more will come: what came takes effect and is answered, then the session ends."""
        self.requests.finish_input()

    def wait_for_join(self, timeout_s: float, limit: str) -> None:
        """Give the person *timeout_s*, by that *limit*, from now on to join, whatever time has gone by."""
        if self._join_timeout is not None:
            self._join_timeout_s, self._join_limit = timeout_s, limit
            self._join_timeout.reset(timeout_s)

    def drain(self, settled: Callable[[], None]) -> None:
        """Hear nothing more; *settled* is called once what came is done and answered, or the session over."""
        self.requests.drain(settled)

    def lost(self, reason: str = "closed") -> None:
        """The connection is gone."""
        self.end(reason)

    def drained(self) -> None:
        """Nothing waits to be sent any more (see `Outlet.notify`)."""
        self.catch_up.unblock()
        self.requests.go_on()

    def stalled(self) -> None:
        """The person has taken nothing for too long."""
        self.hub.record.limited("lag_timeout_s")
        self.fail(ErrorCode.TOO_SLOW, "nothing was read for too long", "too slow")

    def _join_timed_out(self) -> None:
        self._join_timeout = None
        self.hub.record.limited(self._join_limit)
        self.fail(ErrorCode.TIMEOUT, f"nobody joined within {self._join_timeout_s:g} s", "timeout")

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
            self.requests.release()
            self.requests.go_on_later()

    def has_left(self) -> None:
        """The hub has given the nickname of this session, which has ended, free."""
        if self._heir is not None:
            (_, free), self._heir = self._heir, None
            free.callback(None)

    def refuse(self, code: ErrorCode, text: str, id: int = 0) -> None:
        """Answer with an error that is not fatal."""
        self.hub.record.refused(self, code)
        self.outlet.send(Error(code, id, text))

    def give_up(self, failure: Failure) -> None:
        """The outlet, the log or something called raised: nobody knows any more what the person got."""
        _log.failure("session {connection} could not go on", failure, connection=self.id)
        self.end("error")

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
        self.requests.clear()
        for call in (self._join_timeout, self._breaking):
            if call is not None and call.active():
                call.cancel()
        self.standing.end()
        self.hub.forget(self, reason)
        self.hub.record.ended(self)
        self.requests.has_settled()
        try:
            try:
                if farewell is not None:
                    self.outlet.send(farewell)
            finally:
                self.outlet.finish()
        except Exception:
            _log.failure("session {connection} could not be told that it ended", connection=self.id)

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

    def postpone_until_left(self, request: Message, holder: Session) -> bool:
        """Take *request* up again when *holder*, which has ended, has left everywhere, and its nickname is
        free; False if somebody else waits for it already."""
        if holder._heir is not None and not holder._heir[0].ended:
            return False
        free: Deferred[None] = Deferred()
        holder._heir = self, free
        self.requests.postpone(request, free)
        return True

    def send_roster(self, member: Member) -> None:
        """Send who is in a room."""
        last = self.hub.log.bounds(member.room.name)[1]
        self.outlet.send(member.room.roster(last, self.hub.limits.max_frame_bytes))

"""The hub: everybody who is connected, every room with people in it, and what passes between them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from chatproto.limits import Limits
from chatproto.rooms.log import MemoryLog, Receipt, Receipts, RoomLog
from chatproto.rooms.moderation import Action, Moderation
from chatproto.rooms.names import NameRefused, Nicknames, check_room, parse_nick
from chatproto.rooms.outlet import Outlet
from chatproto.rooms.room import Member, Room
from chatproto.rooms.session import Session
from chatproto.text import TextRefused, check_text
from chatproto.version import __version__
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Chat, Goodbye, Joined, Left, Moderate, Notice, Renamed
from chatproto.wire.prepared import Prepared

__all__ = ["Authenticate", "Hub"]

Authenticate = Callable[[str, str], "bool | Deferred[bool]"]
"""Whether a user's secret is right."""


class Hub:
    """Hands what each person says to everyone else in the room.

    *clock* is the reactor, or anything else that provides `IReactorTime`. *log* keeps what is said, in memory
    unless another is given. *default_room* is what an empty room's name means. With *authenticate* people may
    log in, and with *login_required* they must; *operators* are the accounts that may moderate.
    """

    def __init__(
        self,
        clock: IReactorTime,
        log: RoomLog | None = None,
        limits: Limits | None = None,
        *,
        default_room: str = "lobby",
        authenticate: Authenticate | None = None,
        login_required: bool = False,
        operators: Collection[str] = (),
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if login_required and authenticate is None:
            raise ValueError("login_required needs authenticate, or nobody could ever join")
        self.clock = clock
        self.limits = limits or Limits()
        check_room(default_room, self.limits.max_room_chars)
        self.default_room = default_room
        self.authenticate = authenticate
        self.login_required = login_required
        self.operators = frozenset(operators)
        self.server = f"chatproto/{__version__}"
        self.log: RoomLog = log if log is not None else MemoryLog(self.limits, wall_clock)
        self.log.start(self._kept)
        self.sessions: dict[int, Session] = {}
        self.rooms: dict[str, Room] = {}
        self.nicks: Nicknames[Session] = Nicknames(self.limits.max_nick_chars)
        self.moderation = Moderation(clock)
        self.told = Receipts(self.limits.max_remembered_ids)
        self.is_telling = False
        self._telling: deque[Callable[[], None]] = deque()
        self._wall_clock = wall_clock
        self._newest_id = 0

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return int(self._wall_clock() * 1000)

    # --- people come and go -------------------------------------------------------------------------------

    def connect(self, outlet: Outlet) -> Session:
        """Begin a session whose way out is *outlet*. Its id is larger than any before."""
        self._newest_id += 1
        session = self.sessions[self._newest_id] = Session(self, self._newest_id, outlet)
        return session

    def forget(self, session: Session, reason: str) -> None:
        """Take an ended session out of everything; harmless if it is gone."""
        self.sessions.pop(session.id, None)
        for room in list(session.members):
            self.leave(session, room, reason)
        if session.name is not None:
            self.nicks.release(session.name, session)

    def enter(self, session: Session, room_name: str) -> Member:
        """Let *session* into a room, and tell everyone else there."""
        room = self.rooms.get(room_name)
        if room is None:
            self.log.enter(room_name)
            room = self.rooms[room_name] = Room(room_name, self.limits.announce_limit)
        member = Member(session, room, session.outlet.publish)
        room.add(member)
        session.members[room_name] = member
        if room.is_announced:
            self._tell(partial(room.announce, Prepared(Joined(room_name, session.nick_text)), session.id))
        return member

    def leave(self, session: Session, room_name: str, reason: str) -> None:
        """Take *session* out of a room, and tell everyone else there; harmless if it is not in it."""
        room = self.rooms.get(room_name)
        if room is None or session.id not in room.members:
            return
        is_announced = room.is_announced
        # First out, then told of: nothing that they do about it finds the one who left still there.
        self._take_out(session, room)
        if is_announced:
            self._tell(partial(room.announce, Prepared(Left(room_name, session.nick_text, reason))))

    def _take_out(self, session: Session, room: Room) -> None:
        member = room.remove(session.id)
        if member is not None:
            session.left(member)
        if not room.members and self.rooms.get(room.name) is room:
            del self.rooms[room.name]
            self.log.leave(room.name)

    def announce_renamed(self, session: Session, old: str) -> None:
        """Tell everyone who shares a room with *session*, once each, and the session itself."""
        shared: dict[Session, list[Member]] = {session: list(session.members.values())}
        for own in session.members.values():
            for member in own.room.everyone():
                shared.setdefault(member.session, []).append(member)
        prepared = Prepared(Renamed(old, session.nick_text))
        for other, members in shared.items():
            self._tell(partial(other.announce, prepared, *members))

    def shut_down(self, sessions: Iterable[Session], retry_ms: int, text: str) -> None:
        """End *sessions*, with `goodbye`. They all leave first, and only who stays is told of it."""
        ending = list(sessions)
        were_in = [(session, list(session.members.values())) for session in ending]
        for session, members in were_in:
            for member in members:
                self._take_out(session, member.room)
        for session, members in were_in:
            for member in members:
                if member.room.is_announced:
                    left = Left(member.room.name, session.nick_text, "shutdown")
                    self._tell(partial(member.room.announce, Prepared(left)))
        for session in ending:
            session.end("shutdown", Goodbye(retry_ms, text))

    # --- what is said -------------------------------------------------------------------------------------

    def say(self, room: str, nick: str, text: str) -> Receipt | Deferred[Receipt]:
        """Say something into a room from code, as *nick*, which need not be there.

        Raises NameRefused or TextRefused for what no person could say either. The receipt may be there at
        once or be a Deferred, as the log has it; both fail with NotStored.
        """
        room = room or self.default_room
        check_room(room, self.limits.max_room_chars)
        check_text(text, self.limits.max_text_bytes)
        name = parse_nick(nick, self.limits.max_nick_chars)
        return self.log.append(room, name.text, name.key, 0, text, 0)

    def _kept(self, chat: Chat, sender: int) -> None:
        """The log has kept a message: everyone in the room gets it."""
        room = self.rooms.get(chat.room)
        if room is not None:
            self._tell(partial(room.publish, Prepared(chat, chat.room, chat.seq), sender))

    def _tell(self, tell: Callable[[], None]) -> None:
        """Tell people something, after what they are just being told.

        So all get everything in the order in which it came about, whatever an outlet does when something
        reaches it: end sessions, leave rooms, say something.
        """
        self._telling.append(tell)
        if self.is_telling:
            return
        self.is_telling = True
        try:
            while self._telling:
                self._telling.popleft()()
        finally:
            self.is_telling = False

    # --- moderation ---------------------------------------------------------------------------------------

    def moderate(self, operator: Session, order: Moderate) -> None:
        """Do what an operator orders, or refuse it."""
        room = order.room or self.default_room
        if operator.account not in self.operators:
            return operator.refuse(ErrorCode.NOT_ALLOWED, "only operators may do that")
        if order.action not in _DONE:
            return operator.refuse(ErrorCode.NOT_SUPPORTED, "an action is a number from 1 to 5")
        action = Action(order.action)
        try:
            check_room(room, self.limits.max_room_chars)
        except NameRefused as refusal:
            return operator.refuse(ErrorCode.BAD_ROOM, str(refusal))
        try:
            name = parse_nick(order.nick, self.limits.max_nick_chars)
            if order.reason:
                check_text(order.reason, self.limits.max_text_bytes)
        except NameRefused as refusal:
            return operator.refuse(ErrorCode.BAD_NICK, str(refusal))
        except TextRefused as refusal:
            return operator.refuse(ErrorCode.BAD_TEXT, str(refusal))
        target = self.nicks.find(name.text)
        is_here = target is not None and room in target.members
        if action is Action.KICK and not is_here:
            return operator.refuse(ErrorCode.NO_SUCH_NICK, f"{name.text} is not in {room}")
        if action in (Action.BAN, Action.MUTE):
            self.moderation.set(action, room, name.key, order.seconds)
        elif action in (Action.UNBAN, Action.UNMUTE):
            self.moderation.lift(Action.BAN if action is Action.UNBAN else Action.MUTE, room, name.key)
        done = f"{_DONE[action]} {room}" + (f": {order.reason}" if order.reason else "")
        if target is not None and is_here:
            target.inform(Notice(f"you were {done}"))
            if action in (Action.KICK, Action.BAN):
                target.inform(Left(room, target.nick_text, "kicked"))
                self.leave(target, room, "kicked")
        operator.outlet.send(Notice(f"{name.text} was {done}"))
        return None


_DONE: dict[int, str] = {
    Action.KICK: "kicked out of",
    Action.BAN: "banned from",
    Action.UNBAN: "let back into",
    Action.MUTE: "muted in",
    Action.UNMUTE: "given back the word in",
}

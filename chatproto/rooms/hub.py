"""The hub: everybody who is connected, every room with people in it, and what passes between them."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chatproto.limits import Limits
from chatproto.rooms.account import Authenticate, IAccount
from chatproto.rooms.elsewhere import Elsewhere
from chatproto.rooms.guesses import Guesses
from chatproto.rooms.ledger import Ledger
from chatproto.rooms.log import MemoryLog, Receipt, Receipts, RoomLog
from chatproto.rooms.moderation import Moderation
from chatproto.rooms.names import Nick, Nicknames, check_room, parse_nick
from chatproto.rooms.orders import Orders
from chatproto.rooms.outlet import Outlet
from chatproto.rooms.record import Record
from chatproto.rooms.reservations import Reservations, Reserved
from chatproto.rooms.room import Member, Room
from chatproto.rooms.session import Session
from chatproto.text import check_text
from chatproto.version import __version__
from chatproto.wire.messages import Chat, Goodbye, Joined, Left, Renamed
from chatproto.wire.prepared import Prepared

__all__ = ["LAST_WORDS_S", "Hub"]

LAST_WORDS_S = 10.0
"""For so long whoever leaves is waited for while the log has not answered what they said; longer than a log
that is well, or that another program has locked, takes. Past it others have to know that they are gone."""


class Hub:
    """Hands what each person says to everyone else in the room.

    *clock* is the reactor, or anything else that provides `IReactorTime`. *log* keeps what is said, in memory
    unless another is given. *default_room* is what an empty room's name means. With *authenticate* people may
    log in, and with *login_required* they must; *operators* are accounts that may moderate, beside those that
    say so themselves. *reserved* says for which account a nickname is kept. *ledger* keeps bans and mutes,
    and writes down what operators do; its rules are in force from the beginning. *elsewhere* are the people
    of other servers on the same log.
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
        reserved: Reserved | None = None,
        ledger: Ledger | None = None,
        elsewhere: Elsewhere | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if login_required and authenticate is None:
            raise ValueError("login_required needs authenticate, or nobody could ever join")
        self.clock = clock
        self._wall_clock = wall_clock
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
        self.leaving: dict[Member, tuple[str, IDelayedCall]] = {}  # why, and when nobody waits any more
        self.nicks: Nicknames[Session] = Nicknames(self.limits.max_nick_chars)
        self.guesses = Guesses(self.limits.login_burst, self.limits.login_interval_s, clock.seconds)
        self.reservations = Reservations(reserved, self.limits.max_nick_chars)
        self.moderation = Moderation(self.now_ms)
        self.orders = Orders(self, ledger)
        self.elsewhere = elsewhere
        self.record = Record()
        self.told = Receipts(self.limits.max_remembered_ids)
        self.is_telling = False
        self._telling: deque[Callable[[], None]] = deque()
        self._newest_id = 0

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return int(self._wall_clock() * 1000)

    @property
    def n_sessions(self) -> int:
        """How many sessions there were ever."""
        return self._newest_id

    @property
    def n_people(self) -> int:
        """How many have joined and are here."""
        return len(self.nicks)

    # --- people come and go -------------------------------------------------------------------------------

    def connect(self, outlet: Outlet, address: str = "") -> Session:
        """Begin a session whose way out is *outlet*. Its id is larger than any before.

        *address* is that of the person, as far as it is known, and empty else.
        """
        self._newest_id += 1
        session = self.sessions[self._newest_id] = Session(self, self._newest_id, outlet, address)
        self.record.connected(session)
        return session

    def forget(self, session: Session, reason: str) -> None:
        """Take an ended session out of everything; harmless if it is gone."""
        self.sessions.pop(session.id, None)
        for room in list(session.members):
            self.leave(session, room, reason)
        self._free(session)

    def _free(self, session: Session) -> None:
        """Give the nicknames of an ended session free, unless it is still leaving a room under one."""
        if session.n_leaving:
            return
        if session.name is not None:
            self.release(session.name, session)
        if session.granted is not None:
            self.release(session.granted, session)
        session.has_left()

    def find(self, nick: str) -> Session | None:
        """Who is here under a nickname, and not only leaving."""
        found = self.nicks.find(nick)
        return None if found is None or found.ended else found

    def release(self, name: Nick, session: Session, but: Nick | None = None) -> None:
        """*session* has no right to a nickname any more, here and elsewhere; *but* is one that it keeps."""
        self.nicks.release(name, session)
        if self.elsewhere is not None:
            self.elsewhere.release(name, session, but)

    def revise_accounts(self, revise: Callable[[IAccount], IAccount | None]) -> None:
        """What is known of accounts has changed: sessions of those that *revise* makes None of are ended."""
        for session in list(self.sessions.values()):
            session.revise(revise)

    def free_like(self, nick: str, session: Session) -> str:
        """A nickname that *session* could take now in place of *nick*; empty if there is none.

        Raises NameRefused.
        """

        def may_have(name: Nick) -> bool:
            return self.reservations.account_of(name) in (None, session.account)

        name = parse_nick(nick, self.limits.max_nick_chars)
        return self.nicks.free_like(name, session, may_have) or ""

    def enter(self, session: Session, room_name: str) -> Member:
        """Let *session* into a room, and tell everyone else there."""
        room = self.rooms.get(room_name)
        if room is None:
            self.log.enter(room_name)
            room = self.rooms[room_name] = Room(room_name, self.limits.announce_limit)
            if self.elsewhere is not None:
                room.strangers = self.elsewhere.people(room_name)
        member = Member(session, room, session.outlet.publish)
        room.add(member)
        session.members[room.name] = member  # the room's own str, not that of the request, which goes
        self.record.joined(session, room_name)
        if self.elsewhere is not None:
            self.elsewhere.entered(room_name, session)
        if room.is_announced:
            self._tell(partial(room.announce, Prepared(Joined(room_name, session.nick_text)), session.id))
        return member

    def leave(self, session: Session, room_name: str, reason: str) -> None:
        """Take *session* out of a room; harmless if it is not in it.

        Everyone else there is told when the log has answered all that it said there, after those messages;
        until then it is in the roster, and its nickname is not free.
        """
        member = session.members.get(room_name)
        if member is None:
            return
        session.left(member)
        self.record.left(session, room_name, reason)
        if member.unanswered:
            member.room.let_out(member)
            session.n_leaving += 1
            self.leaving[member] = reason, self.clock.callLater(LAST_WORDS_S, self.has_spoken, member)
        else:
            self._depart(member, reason)

    def has_spoken(self, member: Member) -> None:
        """Nothing more comes of what *member* has said; if they are leaving, now they have left."""
        leaving = self.leaving.pop(member, None)
        if leaving is None:
            return
        reason, giving_up = leaving
        if giving_up.active():
            giving_up.cancel()
        session = member.session
        session.n_leaving -= 1
        self._depart(member, reason)
        if session.ended:
            self._free(session)

    def _depart(self, member: Member, reason: str) -> None:
        room = member.room
        is_announced = room.is_announced
        # First out, then told of: nothing that they do about it finds the one who left still there.
        self._take_out(member, reason)
        if is_announced:
            self._tell(partial(room.announce, Prepared(Left(room.name, member.session.nick_text, reason))))

    def _take_out(self, member: Member, reason: str) -> None:
        room = member.room
        room.remove(member)
        if room.is_empty:
            del self.rooms[room.name]
            self.log.leave(room.name)
        if self.elsewhere is not None:
            self.elsewhere.left(room.name, member.session, reason)

    def announce_renamed(self, session: Session, old: str) -> None:
        """Tell everyone who shares a room with *session*, once each, and the session itself."""
        self.record.renamed(session, old)
        shared: dict[Session, list[Member]] = {session: list(session.members.values())}
        self._announce_renamed(shared, session.members, Renamed(old, session.nick_text))
        if self.elsewhere is not None:
            self.elsewhere.renamed(session)

    def announce_stranger(self, room_name: str, message: Joined | Left) -> None:
        """Tell everyone in a room of somebody who came or went on another server."""
        room = self.rooms.get(room_name)
        if room is not None and room.is_announced:
            self._tell(partial(room.announce, Prepared(message)))

    def announce_stranger_renamed(self, rooms: Iterable[str], old: str, new: str) -> None:
        """Tell everyone in *rooms*, once each, that somebody on another server has another nickname."""
        self._announce_renamed({}, rooms, Renamed(old, new))

    def _announce_renamed(
        self, shared: dict[Session, list[Member]], rooms: Iterable[str], message: Renamed
    ) -> None:
        for room in map(self.rooms.get, rooms):
            for member in room.everyone() if room is not None else ():
                shared.setdefault(member.session, []).append(member)
        prepared = Prepared(message)
        for other, members in shared.items():
            self._tell(partial(other.announce, prepared, *members))

    def shut_down(self, sessions: Iterable[Session], retry_ms: int, text: str, *, spread_ms: int = 0) -> None:
        """End *sessions*, with `goodbye`. They all leave first, and only who stays is told of it.

        Nobody's last words are waited for, nor are those of whoever is leaving already.

        The first are to come back after *retry_ms*, and the last *spread_ms* later: not all at once.
        """
        ending = list(sessions)
        for leaving in list(self.leaving):
            self.has_spoken(leaving)
        were_in = [(session, list(session.members.values())) for session in ending]
        for session, members in were_in:
            for member in members:
                session.left(member)
                self._take_out(member, "shutdown")
        for session, members in were_in:
            for member in members:
                if member.room.is_announced:
                    left = Left(member.room.name, session.nick_text, "shutdown")
                    self._tell(partial(member.room.announce, Prepared(left)))
        random.shuffle(ending)  # it is not always the same who wait
        for number, session in enumerate(ending):
            session.end("shutdown", Goodbye(retry_ms + spread_ms * number // len(ending), text))

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
        self.record.messages += 1
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

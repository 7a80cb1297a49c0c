"""The people of all servers that share one store: who is where, and whose a nickname is.

Each server holds a lease, by being heard of often enough. Whoever finds that another's is over takes its
people out of their rooms, in steps of the store of which each has its effect once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from chatproto.rooms.elsewhere import Refused, Stranger
from chatproto.rooms.log import Receipt
from chatproto.rooms.names import Nick
from chatproto.shared.orders import SharedOrders
from chatproto.shared.peoplescripts import (
    BEAT,
    BURY,
    CLAIM,
    ENTER,
    FIND,
    FREE,
    LEAVE,
    NICKS,
    REAP,
    RELEASE,
    RENAME,
    SERVERS,
    of_key,
    people_key,
    rooms_key,
    told_key,
)
from chatproto.shared.resp import Reply, StoreRefusal, ignore
from chatproto.shared.scripts import about_key, channel_of
from chatproto.shared.telling import Telling
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Error, Joined, Left

if TYPE_CHECKING:
    from chatproto.rooms.hub import Hub
    from chatproto.rooms.orders import Order
    from chatproto.rooms.session import Session
    from chatproto.shared.log import SharedLog
    from chatproto.shared.store import Store

__all__ = ["SharedPeople"]

_log = Logger(namespace="chatproto.shared")

BEATS_IN_A_LEASE = 4

MAX_EARLY = 1_000
"""Changes of a room that wait for what was before them. The others are made up for by looking again."""

_AWAY = "nicknames cannot be compared with those of other servers at the moment; try later"


class _Place:
    """Who is in one room elsewhere, by TOKEN.SESSION, after so many changes."""

    __slots__ = ("changes", "early", "is_known", "strangers")

    def __init__(self) -> None:
        self.changes = 0
        self.strangers: dict[str, Stranger] = {}
        self.early: list[tuple[int, str]] = []
        self.is_known = False


class SharedPeople:
    """`Elsewhere` on *store*, which *log* is on too: this server's people for the others, and theirs for it.

    *lease_s* is the time after which a server that is not heard of counts as gone.
    """

    def __init__(self, store: Store, log: SharedLog, reactor: Any, lease_s: float) -> None:
        self._store = store
        self._database = store.address.database
        self._log = log
        self._reactor = reactor
        self._lease_s = lease_s
        self._lease_ms = b"%d" % int(lease_s * 1000)
        self._token = store.token
        self._hub: Hub | None = None
        self._places: dict[str, _Place] = {}
        self._strangers: dict[str, Stranger] = {}
        self._beating: IDelayedCall | None = None
        self._is_expected = False  # the store knows of this server, as far as one knows
        self._claiming: list[set[str]] = []  # what the store is being asked for
        self._wrong: set[str] = set()  # rooms of which it has not taken who is there
        self._telling = Telling(store, reactor, log.remember_ms, self._lease_ms)
        self._orders = SharedOrders(store)
        store.people = self

    def start(self, hub: Hub) -> None:
        """These are the people of this server."""
        self._hub = hub
        self._orders.start(hub)
        self._beat_later()

    def close(self) -> None:
        """This server is gone, as its people are."""
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None
        self._hub = None
        self._orders.close()
        keys = SERVERS, NICKS, of_key(self._token), rooms_key(self._token)
        self._store.run(ignore, BURY, keys, self._token, b"0")

    @property
    def is_reachable(self) -> bool:
        """See `Elsewhere.is_reachable`."""
        return self._store.is_open

    # --- what the hub asks: nicknames -----------------------------------------------------------------------

    def claim(self, nick: Nick, session: Session) -> Deferred[bool]:
        """See `Elsewhere.claim`."""
        answer: Deferred[bool] = Deferred()

        def then(reply: Reply) -> None:
            if isinstance(reply, Exception):
                answer.errback(Refused(ErrorCode.RATE_LIMITED, _AWAY))
            else:
                answer.callback(reply == 1)

        self._claim(then, nick, session)
        return answer

    def _claim(self, then: Callable[[Reply], None], nick: Nick, session: Session) -> None:
        keys = SERVERS, NICKS, of_key(self._token)
        fields = _fields(nick)
        self._claiming.append(fields)

        def was_asked(reply: Reply) -> None:
            self._claiming.remove(fields)
            then(reply)

        self._store.run(was_asked, CLAIM, keys, self._place(session), *sorted(fields))

    def release(self, nick: Nick, session: Session, but: Nick | None = None) -> None:
        """See `Elsewhere.release`."""
        fields = _fields(nick) - (_fields(but) if but is not None else set())
        if fields:
            self._store.run(
                ignore, RELEASE, (NICKS, of_key(self._token)), self._place(session), *sorted(fields)
            )

    def _place(self, session: Session) -> str:
        return f"{self._token}.{session.id}"

    # --- what the hub tells: who comes and goes -------------------------------------------------------------

    def people(self, room: str) -> Mapping[str, Stranger]:
        """See `Elsewhere.people`."""
        return self._places[room].strangers

    def entered(self, room: str, session: Session) -> None:
        """See `Elsewhere.entered`."""
        # First the room: whoever cleans up after this server must find everybody.
        self._store.ask(ignore, b"SADD", rooms_key(self._token), room)
        self._change(ENTER, room, self._place(session), session.nick_text)

    def left(self, room: str, session: Session, reason: str) -> None:
        """See `Elsewhere.left`."""
        self._change(LEAVE, room, self._place(session), reason)
        if self._hub is not None and room not in self._hub.rooms:
            self._store.ask(ignore, b"SREM", rooms_key(self._token), room)

    def renamed(self, session: Session) -> None:
        """See `Elsewhere.renamed`."""
        for room in session.members:
            self._change(RENAME, room, self._place(session), session.nick_text)

    def _change(self, script: Any, room: str, *words: str) -> None:
        keys = about_key(room), people_key(room)
        self._store.run(
            partial(self._was_changed, room), script, keys, channel_of(self._database, room), *words
        )

    def _was_changed(self, room: str, reply: Reply) -> None:
        # What is lost with the connection is put right when there is another.
        if isinstance(reply, StoreRefusal):
            self._wrong.add(room)

    # --- private messages and orders ------------------------------------------------------------------------

    def tell(self, session: Session, id: int, nick: str, text: str) -> Deferred[Receipt]:
        """See `Elsewhere.tell`."""
        assert self._hub is not None
        return self._telling.tell(self._hub, session, id, nick, text)

    def heard_here(self, kind: bytes, content: bytes) -> None:
        """Another server has told this one something."""
        if self._hub is not None:
            self._telling.heard(self._hub, kind, content)

    def spread(self, order: Order, until_ms: int) -> None:
        """See `Elsewhere.spread`."""
        self._orders.spread(order, until_ms)

    def heard_by_all(self, content: bytes) -> None:
        """An operator somewhere has ordered something."""
        self._orders.heard(content)

    def find(self, key: str, room: str) -> Deferred[bool]:
        """See `Elsewhere.find`."""
        answer: Deferred[bool] = Deferred()

        def was_looked_up(reply: Reply) -> None:
            answer.callback(reply == 1)

        def was_found(reply: Reply) -> None:
            owner = b"" if isinstance(reply, Exception) else reply[1]
            if not owner or not room:
                answer.callback(bool(owner))
            else:
                self._store.ask(was_looked_up, b"HEXISTS", people_key(room), owner)

        self._store.run(was_found, FIND, (SERVERS, NICKS, told_key("", 0)), f"k{key}", self._lease_ms)
        return answer

    # --- leases ---------------------------------------------------------------------------------------------

    def connected(self) -> None:
        """The store is connected, perhaps again."""
        if self._hub is not None:
            self._orders.renew()
            self._beat()
            self._store.ask(self._free_others, b"SMEMBERS", of_key(self._token))

    def _free_others(self, reply: Reply) -> None:
        """What nobody here has any more is given back: that it was may have been lost with a connection."""
        if self._hub is None or isinstance(reply, Exception):
            return
        held = {field for nick in self._hub.nicks for field in _fields(nick)}.union(*self._claiming)
        freed = sorted({field.decode() for field in reply} - held)
        if freed:
            self._store.run(ignore, FREE, (NICKS, of_key(self._token)), self._token, *freed)

    def _beat_later(self) -> None:
        self._beating = self._reactor.callLater(self._lease_s / BEATS_IN_A_LEASE, self._beat_again)

    def _beat_again(self) -> None:
        self._beat_later()
        self._beat()

    def _beat(self) -> None:
        self._store.run(self._has_beaten, BEAT, (SERVERS,), self._token, self._lease_ms)

    def _has_beaten(self, reply: Reply) -> None:
        if isinstance(reply, Exception) or self._hub is None:
            return
        is_new, gone = reply
        self._orders.spread_next()
        wrong, self._wrong = self._wrong, set()
        for room in wrong:
            self._log.look_at_people(room)
        if is_new:
            self._come_back(self._hub)
        for token in gone:
            self._reap(token.decode())

    def _come_back(self, hub: Hub) -> None:
        """The store knows nothing of this server, or nothing new: it is taken for gone, or will be."""
        was_expected, self._is_expected = self._is_expected, True
        if not was_expected:
            return
        _log.warn("this server was not heard of for too long: its people are let in again")
        for session in list(hub.sessions.values()):
            if session.name is not None:
                self._claim(partial(self._was_claimed_again, session), session.name, session)
        for room in hub.rooms:
            self._store.ask(ignore, b"SADD", rooms_key(self._token), room)
        self._log.look_at_people()

    def _was_claimed_again(self, session: Session, reply: Reply) -> None:
        if reply == 0:
            text = "somebody else took your nickname while this server was out of reach"
            session.end("kicked", Error(ErrorCode.NICK_TAKEN, 0, text))

    def _reap(self, token: str) -> None:
        """Another server is gone, and its people with it."""

        def then(reply: Reply) -> None:
            if isinstance(reply, Exception):
                return
            _log.info("a server is gone; its people leave {n} rooms", n=len(reply))
            for name in reply:
                room = name.decode()
                keys = about_key(room), people_key(room)
                self._store.run(ignore, REAP, keys, channel_of(self._database, room), token)
            everything = SERVERS, NICKS, of_key(token), rooms_key(token)
            self._store.run(ignore, BURY, everything, token, self._lease_ms)

        self._store.ask(then, b"SMEMBERS", rooms_key(token))

    # --- who is where ---------------------------------------------------------------------------------------

    def looked_at(self, room: str, changes: int, found: list[bytes]) -> None:
        """So many changes after it began these are in *room*: places and nicknames, one after the other."""
        place = self._places.setdefault(room, _Place())
        there = {found[i].decode(): found[i + 1].decode() for i in range(0, len(found), 2)}
        own = {name: nick for name, nick in there.items() if self._is_own(name)}
        if not place.is_known or changes >= place.changes:
            place.changes = changes
            for name in set(place.strangers) - set(there):
                self._take_out(room, place, name, "closed")
            for name in there:
                if name not in own:
                    self._let_in(room, place, name, there[name], is_news=place.is_known)
                    self._rename(name, there[name])
            place.is_known = True
        early, place.early = place.early, []
        for number, what in early:
            self._follow(room, place, number, what)
        self._put_right(room, own)

    def _put_right(self, room: str, own: Mapping[str, str]) -> None:
        """Have the store know who of this server's people is in *room*; it has *own*: nicknames."""
        here = self._hub.rooms.get(room) if self._hub is not None else None
        members = (*here.everyone(), *here.leaving.values()) if here is not None else ()
        for member in members:
            known = own.get(self._place(member.session))
            if known is None:
                self.entered(room, member.session)
            elif known != member.session.nick_text:
                self._change(RENAME, room, self._place(member.session), member.session.nick_text)
        for name in own.keys() - {self._place(member.session) for member in members}:
            self._change(LEAVE, room, name, "closed")

    def heard(self, room: str, content: bytes) -> None:
        """Somebody came, went, or has another nickname."""
        number, _, what = content.decode().partition(" ")
        place = self._places.setdefault(room, _Place())
        self._follow(room, place, int(number), what)

    def _follow(self, room: str, place: _Place, number: int, what: str) -> None:
        if place.is_known and number == place.changes + 1:
            place.changes = number
            kind, name, text = what.split(" ", 2)
            if self._is_own(name):
                if kind == "l":
                    self._was_taken_out(room, name)
            elif kind == "j":
                self._let_in(room, place, name, text, is_news=True)
            elif kind == "l":
                self._take_out(room, place, name, text)
            elif kind == "n":
                self._rename(name, text)
        elif number > place.changes or not place.is_known:
            if len(place.early) < MAX_EARLY:
                place.early.append((number, what))
            if place.is_known:
                self._log.look_at_people(room)

    def _was_taken_out(self, room: str, name: str) -> None:
        """Somebody of this server left *room*, as far as others know: perhaps they took it for gone."""
        session = None
        if self._hub is not None:
            session = self._hub.sessions.get(int(name.partition(".")[2]))
        if session is not None and room in session.members:
            self.entered(room, session)

    def forgotten(self, room: str) -> None:
        """Nobody here needs to know any more who is in *room*."""
        place = self._places.pop(room, None)
        if place is not None:
            for stranger in place.strangers.values():
                self._is_not_in(stranger, room)

    def _is_own(self, name: str) -> bool:
        return name.partition(".")[0] == self._token

    def _let_in(self, room: str, place: _Place, name: str, nick: str, *, is_news: bool) -> None:
        if name in place.strangers:
            return
        stranger = self._strangers.get(name)
        if stranger is None:
            stranger = self._strangers[name] = Stranger(name, nick)
        stranger.rooms.append(room)
        place.strangers[name] = stranger
        if is_news and self._hub is not None:
            self._hub.announce_stranger(room, Joined(room, stranger.nick))

    def _take_out(self, room: str, place: _Place, name: str, reason: str) -> None:
        stranger = place.strangers.pop(name, None)
        if stranger is not None:
            self._is_not_in(stranger, room)
            if self._hub is not None:
                self._hub.announce_stranger(room, Left(room, stranger.nick, reason))

    def _is_not_in(self, stranger: Stranger, room: str) -> None:
        stranger.rooms.remove(room)
        if not stranger.rooms:
            self._strangers.pop(stranger.place, None)

    def _rename(self, name: str, nick: str) -> None:
        stranger = self._strangers.get(name)
        # One hears of it in each room that they are in.
        if stranger is not None and stranger.nick != nick:
            old, stranger.nick = stranger.nick, nick
            if self._hub is not None:
                self._hub.announce_stranger_renamed(stranger.rooms, old, nick)


def _fields(nick: Nick) -> set[str]:
    """What of a nickname nobody else may have."""
    return {f"k{nick.key}", *(f"l{look}" for look in nick.looks)}

"""What operators order, by `moderate`, by commands or by the control socket, and what is done then.

Whom an order is about is one word, where `moderate` has the nickname (docs/design.md, "Moderation"):
`bob`, `account:ann`, `address:192.0.2.0/24`, `*` for everybody, `message:17` or `last:bob` for a message;
with `server:` before it, it is about the whole server and not one room.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatproto.rooms.addresses import parse_address, parse_network
from chatproto.rooms.ledger import Act, Ledger
from chatproto.rooms.log import REMOVED, NotStored
from chatproto.rooms.moderation import EVERYWHERE, Action, Kind, Rule, Target
from chatproto.rooms.names import NameRefused, check_room, parse_nick
from chatproto.text import TextRefused, check_text
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Chat, Error, Left, Moderate, Notice

if TYPE_CHECKING:
    from chatproto.rooms.hub import Hub
    from chatproto.rooms.session import Session

__all__ = ["Order", "OrderRefused", "Orders", "SessionFacts", "barring", "why_not"]

_log = Logger(namespace="chatproto.rooms.orders")
_audit = Logger(namespace="chatproto.audit")

MAX_ACCOUNT_CHARS = 256

LEAST_BITS = {4: 8, 6: 16}
"""Of a network that can be banned; a slip of the fingers must not shut everybody out."""

LAST_MESSAGES = 200
"""Of a room, among which `last:NICK` is looked for."""

LAST_BYTES = 4_194_304

_SERVER = "server:"


class OrderRefused(Exception):
    """Nothing was done; the text is one sentence, and `code` the protocol's error."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done: `room` is empty for the whole server, `shown` is the target as people write it."""

    action: Action
    room: str
    target: Target
    shown: str
    seconds: int = 0
    reason: str = ""

    @property
    def place(self) -> str:
        """Where it holds, as part of a sentence."""
        return self.room or "this server"


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """A session as its account and operators see it. `address` is empty where there is none."""

    id: int
    account: str
    nick: str
    address: str
    rooms: tuple[str, ...]
    began_ms: int


def barring(rule: Rule) -> str:
    """What is said to someone whom *rule* keeps out, or keeps from speaking."""
    place = rule.room or "this server"
    if rule.target.kind is Kind.ALL:
        text = f"{place} is locked" if rule.action is Action.BAN else f"only operators may speak in {place}"
    else:
        text = f"you are {'banned from' if rule.action is Action.BAN else 'muted in'} {place}"
    if rule.until_ms:
        text += f" until {_utc(rule.until_ms):%Y-%m-%d %H:%M} UTC"
    return f"{text}: {rule.reason}" if rule.reason else text


def _utc(time_ms: int) -> datetime:
    most_ms = 253_370_764_800_000  # the year 9999
    return datetime.fromtimestamp(min(time_ms, most_ms) / 1000, UTC)


def why_not(failure: Failure) -> OrderRefused:
    """What to answer where an order came to nothing; what was not expected is logged."""
    if isinstance(failure.value, OrderRefused):
        return failure.value
    if failure.check(NotImplementedError):
        return OrderRefused(ErrorCode.NOT_SUPPORTED, "the history of this server removes nothing")
    if not failure.check(NotStored):
        _log.failure("an order could not be carried out", failure)
    return OrderRefused(ErrorCode.RATE_LIMITED, "the history cannot do that at the moment; try later")


class Orders:
    """Carries out orders on *hub*, and keeps them in *ledger* if there is one.

    Whoever calls has made sure that whoever orders may; *by* names them in the audit log.
    """

    def __init__(self, hub: Hub, ledger: Ledger | None) -> None:
        self._hub = hub
        self._ledger = ledger
        if ledger is not None:
            hub.moderation.load(ledger.rules)

    # --- reading --------------------------------------------------------------------------------------------

    def read(self, message: Moderate) -> Order:
        """The order that *message* is. Raises OrderRefused."""
        hub = self._hub
        if not Action.KICK <= message.action <= Action.UNMUTE:
            raise OrderRefused(ErrorCode.NOT_SUPPORTED, "an action is a number from 1 to 5")
        action = Action(message.action)
        room = message.room or hub.default_room
        try:
            check_room(room, hub.limits.max_room_chars)
        except NameRefused as refusal:
            raise OrderRefused(ErrorCode.BAD_ROOM, str(refusal)) from None
        is_everywhere = message.nick.startswith(_SERVER)
        try:
            target, shown = self._read_target(message.nick.removeprefix(_SERVER))
            if message.reason:
                check_text(message.reason, hub.limits.max_text_bytes)
        except NameRefused as refusal:
            raise OrderRefused(ErrorCode.BAD_NICK, str(refusal)) from None
        except TextRefused as refusal:
            raise OrderRefused(ErrorCode.BAD_TEXT, str(refusal)) from None
        is_message = target.kind in (Kind.MESSAGE, Kind.LAST)
        if is_message and (action is not Action.KICK or is_everywhere):
            raise OrderRefused(ErrorCode.NOT_SUPPORTED, "a message can only be kicked out of its room")
        if action is Action.KICK and target.kind is Kind.ALL:
            raise OrderRefused(
                ErrorCode.NOT_SUPPORTED, "everybody at once cannot be kicked; ban * locks a room"
            )
        return Order(
            action, EVERYWHERE if is_everywhere else room, target, shown, message.seconds, message.reason
        )

    def _read_target(self, text: str) -> tuple[Target, str]:
        """Whom *text* means, and how that is written. Raises NameRefused."""
        max_chars = self._hub.limits.max_nick_chars
        kind, colon, value = text.partition(":")
        if text == "*":
            return Target(Kind.ALL), "*"
        if not colon:
            name = parse_nick(text, max_chars)
            return Target(Kind.NICK, name.key), name.text
        if kind == Kind.LAST:
            name = parse_nick(value, max_chars)
            return Target(Kind.LAST, name.key), f"last:{name.text}"
        if kind == Kind.ACCOUNT:
            if not 0 < len(value) <= MAX_ACCOUNT_CHARS or not value.isprintable():
                raise NameRefused("no account is called that")
            return Target(Kind.ACCOUNT, value.casefold()), f"account:{value}"
        if kind == Kind.MESSAGE:
            if not value.isascii() or not value.isdigit() or len(value) > 16:
                raise NameRefused("a message is named by its number in the room, as in message:17")
            return Target(Kind.MESSAGE, str(int(value))), f"message:{int(value)}"
        if kind == Kind.ADDRESS:
            try:
                network = parse_network(value)
            except ValueError as refusal:
                raise NameRefused(str(refusal)) from None
            if network.prefixlen < LEAST_BITS[network.version]:
                raise NameRefused(
                    f"a network has at least {LEAST_BITS[network.version]} bits; fewer shut out too many"
                )
            is_one = network.num_addresses == 1
            return (
                Target(Kind.ADDRESS, str(network)),
                f"address:{network.network_address if is_one else network}",
            )
        raise NameRefused("whom? NICK, account:NAME, address:NETWORK or *; or message:NUMBER or last:NICK")

    # --- doing ----------------------------------------------------------------------------------------------

    def carry_out(self, order: Order, by: str, session: Session | None = None) -> str | Deferred[str]:
        """Do it, and say so in a sentence, when it is kept too. Raises OrderRefused, or fails with it.

        *session* is that of the operator, who is told of what concerns everybody by the answer alone.
        """
        if order.target.kind in (Kind.MESSAGE, Kind.LAST):
            return self._remove_message(order, by)
        elsewhere = self._hub.elsewhere
        if elsewhere is not None and not elsewhere.is_reachable:
            raise OrderRefused(
                ErrorCode.RATE_LIMITED, "other servers cannot be reached at the moment; nothing was done"
            )
        if order.action is Action.KICK:
            return self._kick(order, by)
        if order.action in (Action.BAN, Action.MUTE):
            return self._restrict(order, by, session)
        return self._lift(order, by, session)

    def follow(self, order: Order, until_ms: int) -> None:
        """Do here what was ordered, and written down, on another server; a rule ends at *until_ms*."""
        if order.action is Action.KICK:
            self._put_out(self._concerned(order), order, f"kicked out of {order.place}")
        elif order.action in (Action.BAN, Action.MUTE):
            if self._set(order, until_ms):
                self._take_effect(order, None)
        elif self._hub.moderation.lift(_LIFTED[order.action], order.room, order.target):
            self._take_effect(order, None)

    def _spread(self, order: Order, until_ms: int = 0) -> None:
        if self._hub.elsewhere is not None:
            self._hub.elsewhere.spread(order, until_ms)

    def _set(self, order: Order, until_ms: int) -> bool:
        rule = Rule(order.action, order.room, order.target, until_ms, order.reason)
        return self._hub.moderation.set(rule)

    def _kick(self, order: Order, by: str) -> str | Deferred[str]:
        elsewhere = self._hub.elsewhere
        if elsewhere is None:
            return self._kick_out(order, by, False)
        if order.target.kind is Kind.NICK:
            there = elsewhere.find(order.target.value, order.room)
            kicked: Deferred[str] = there.addCallback(partial(self._kick_out, order, by))
            return kicked
        # Whom else it concerns nobody knows but the others.
        return self._kick_out(order, by, True)

    def _kick_out(self, order: Order, by: str, may_be_elsewhere: bool) -> str | Deferred[str]:
        sessions = self._concerned(order)
        if not sessions and not may_be_elsewhere:
            is_here = "is here" if order.room == EVERYWHERE else f"is in {order.room}"
            one = order.target.kind is Kind.NICK
            nobody = (
                f"{order.shown} {is_here.replace('is ', 'is not ')}"
                if one
                else f"nobody of {order.shown} {is_here}"
            )
            raise OrderRefused(ErrorCode.NO_SUCH_NICK, nobody)
        done = f"kicked out of {order.place}"
        self._put_out(sessions, order, done)
        self._spread(order)
        return self._keep(order, by, f"{order.shown} was {done}")

    def _restrict(self, order: Order, by: str, operator: Session | None) -> str | Deferred[str]:
        until_ms = self._hub.now_ms() + order.seconds * 1000 if order.seconds else 0
        if not self._set(order, until_ms):
            raise OrderRefused(ErrorCode.NOT_SUPPORTED, "there are too many bans and mutes; lift some first")
        self._spread(order, until_ms)
        return self._keep(order, by, self._take_effect(order, operator))

    def _take_effect(self, order: Order, operator: Session | None) -> str:
        """Let those who are here feel a rule that is new, or is no more; what was done, in words."""
        sessions = self._concerned(order)
        term = f" for {order.seconds} s" if order.seconds and order.action not in _LIFTED else ""
        if order.target.kind is Kind.ALL:
            done = f"{order.place} was {_DONE_TO_ALL[order.action]}{term}"
            self._inform([one for one in sessions if one is not operator], f"{done}{_because(order)}")
            return done
        done = f"{_DONE[order.action]} {order.place}{term}"
        if order.action is Action.BAN:
            self._put_out(sessions, order, done)
        else:
            self._inform(sessions, f"you were {done}{_because(order)}")
        return f"{order.shown} was {done}"

    def _lift(self, order: Order, by: str, operator: Session | None) -> str | Deferred[str]:
        action = _LIFTED[order.action]
        what = f"{_DONE[action]} {order.place}"
        if not self._hub.moderation.lift(action, order.room, order.target):
            is_all = order.target.kind is Kind.ALL
            return f"not everybody was {what}" if is_all else f"{order.shown} was not {what}"
        self._spread(order)
        return self._keep(order, by, self._take_effect(order, operator))

    def _concerned(self, order: Order) -> list[Session]:
        """Whom it is about, of those who are there."""
        hub, target = self._hub, order.target
        if target.kind is Kind.NICK:
            found = hub.find(order.shown)
            is_there = found is not None and (order.room == EVERYWHERE or order.room in found.members)
            return [found] if found is not None and is_there else []
        if order.room == EVERYWHERE:
            sessions: Iterable[Session] = list(hub.sessions.values())
        else:
            room = hub.rooms.get(order.room)
            sessions = [member.session for member in room.everyone()] if room is not None else []
        return [session for session in sessions if _CONCERNS[target.kind](target.value, session)]

    def _put_out(self, sessions: list[Session], order: Order, done: str) -> None:
        text = f"you were {done}{_because(order)}"
        for session in sessions:
            if order.room == EVERYWHERE:
                session.end("kicked", Error(ErrorCode.NOT_ALLOWED, 0, text))
            elif order.room in session.members:
                session.inform(Notice(text))
                session.inform(Left(order.room, session.nick_text, "kicked"))
                self._hub.leave(session, order.room, "kicked")

    def _inform(self, sessions: list[Session], text: str) -> None:
        for session in sessions:
            if session.name is not None:
                session.inform(Notice(text))

    # --- messages -------------------------------------------------------------------------------------------

    @inlineCallbacks
    def _remove_message(self, order: Order, by: str) -> Generator[Deferred[Any], Any, str]:
        log = self._hub.log
        seq = 0
        if order.target.kind is Kind.MESSAGE:
            seq = int(order.target.value)
        else:
            while (preparing := log.prepare(order.room)) is not None:
                yield preparing
            oldest, newest = log.bounds(order.room)
            first = max(oldest, newest - LAST_MESSAGES + 1)
            chats: list[Chat] = yield maybeDeferred(log.read, order.room, first, newest, LAST_BYTES)
            seq = max((chat.seq for chat in chats if self._is_by(chat, order.target.value)), default=0)
        is_removed: bool = yield maybeDeferred(log.remove, order.room, seq)
        if not is_removed:
            raise OrderRefused(ErrorCode.NOT_SUPPORTED, f"there is no such message in {order.room}")
        done = f"message {seq} of {order.room} was removed"
        kept = yield maybeDeferred(self._keep, order, by, done, f"message:{seq}")
        sentence: str = kept
        return sentence

    def _is_by(self, chat: Chat, key: str) -> bool:
        try:
            return chat.text != REMOVED and parse_nick(chat.nick, len(chat.nick)).key == key
        except NameRefused:
            return False

    # --- sessions -------------------------------------------------------------------------------------------

    def sessions(self, account: str | None = None) -> list[SessionFacts]:
        """All sessions, or those of *account*, the oldest first."""
        return [
            SessionFacts(
                session.id,
                session.account or "",
                session.nick_text,
                session.address,
                tuple(session.members),
                session.began_ms,
            )
            for session in self._hub.sessions.values()
            if account is None or session.account == account
        ]

    def end_session(self, id: int, by: str, *, account: str | None = None) -> str | Deferred[str]:
        """End a session, only of *account* if that is given. Raises OrderRefused if there is none."""
        session = self._hub.sessions.get(id)
        if session is None or (account is not None and session.account != account):
            raise OrderRefused(ErrorCode.NO_SUCH_NICK, "there is no such session")
        shown = f"session:{id}" + (f" account:{session.account}" if session.account else "")
        session.end("kicked", Error(ErrorCode.NOT_ALLOWED, 0, "this session was ended from elsewhere"))
        order = Order(Action.KICK, EVERYWHERE, Target(Kind.NICK), shown)
        return self._keep(order, by, f"session {id} was ended", act="end")

    # --- keeping --------------------------------------------------------------------------------------------

    def _keep(self, order: Order, by: str, done: str, target: str = "", act: str = "") -> str | Deferred[str]:
        """Write down what was *done*; the sentence to say, when that is on the disk."""
        is_message = order.target.kind in (Kind.MESSAGE, Kind.LAST)
        now = _utc(self._hub.now_ms())
        entry = Act(
            time=now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            operator=by,
            act=act or ("remove" if is_message else order.action.name.lower()),
            target=target or order.shown,
            room=order.room,
            seconds=order.seconds,
            reason=order.reason,
        )
        _audit.info("{line}", line=entry.line())
        sentence = f"{done}{_because(order)}"
        if self._ledger is None:
            return sentence
        kept = self._ledger.keep(entry, self._hub.moderation.rules)
        return kept.addCallback(partial(_with_trouble, sentence))


def _with_trouble(sentence: str, trouble: str) -> str:
    return f"{sentence}; but {trouble}" if trouble else sentence


def _because(order: Order) -> str:
    return f": {order.reason}" if order.reason else ""


def _is_of_account(account: str, session: Session) -> bool:
    return session.account is not None and session.account.casefold() == account


def _is_from(network: str, session: Session) -> bool:
    address = parse_address(session.address)
    return address is not None and address in parse_network(network)


_CONCERNS: dict[Kind, Callable[[str, Session], bool]] = {
    Kind.ACCOUNT: _is_of_account,
    Kind.ADDRESS: _is_from,
    Kind.ALL: lambda _, session: True,
}

_LIFTED: dict[int, Action] = {Action.UNBAN: Action.BAN, Action.UNMUTE: Action.MUTE}

_DONE: dict[int, str] = {
    Action.BAN: "banned from",
    Action.UNBAN: "let back into",
    Action.MUTE: "muted in",
    Action.UNMUTE: "given back the word in",
}

_DONE_TO_ALL: dict[int, str] = {
    Action.BAN: "locked: only operators get in",
    Action.UNBAN: "opened again",
    Action.MUTE: "silenced: only operators speak",
    Action.UNMUTE: "given back the word",
}

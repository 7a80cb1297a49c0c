"""What each request does: one function for each kind that a client may send.

docs/protocol.md, section 2 (client to server) and section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatproto.rooms.elsewhere import Refused
from chatproto.rooms.log import Found, NotStored, Receipt
from chatproto.rooms.logins import log_in
from chatproto.rooms.moderation import EVERYWHERE, Action, Kind
from chatproto.rooms.names import NameRefused, check_room, parse_nick
from chatproto.rooms.names import Nick as Name
from chatproto.rooms.orders import OrderRefused, barring, why_not
from chatproto.rooms.room import Member
from chatproto.rooms.words import searched_words
from chatproto.text import TextRefused, TextTooLong, check_text
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
    Who,
)

if TYPE_CHECKING:
    from chatproto.rooms.session import Session

__all__ = ["take_up"]

_log = Logger(namespace="chatproto.rooms.requests")

MAX_SEARCHED_WORDS = 32


def take_up(session: Session, request: Message | ProtocolError) -> None:
    """Do what *request* asks for, or refuse it."""
    if isinstance(request, ProtocolError):
        if request.code == ErrorCode.TOO_BIG:
            session.hub.record.limited("max_frame_bytes")
        session.requests.conclude("error", Error(request.code, 0, request.reason))
    elif session.name is None and type(request) not in _BEFORE_JOIN:
        session.fail(
            ErrorCode.JOIN_FIRST, f"join a room before anything else, {request.type} included", "error"
        )
    else:
        _DISPATCH[type(request)](session, request)


def _join(session: Session, message: Join) -> None:
    hub = session.hub
    room = message.room or hub.default_room
    if session.name is None and hub.login_required and session.account is None:
        return session.refuse(ErrorCode.LOGIN_REQUIRED, "log in before you join")
    try:
        name = parse_nick(message.nick, hub.limits.max_nick_chars)
    except NameRefused as refusal:
        return session.refuse(ErrorCode.BAD_NICK, str(refusal))
    if session.name is not None and name.key != session.name.key:
        return session.refuse(
            ErrorCode.BAD_NICK, f"you are {session.name.text}; use nick to take another nickname"
        )
    if room in session.members:
        return None
    try:
        check_room(room, hub.limits.max_room_chars)
    except NameRefused as refusal:
        return session.refuse(ErrorCode.BAD_ROOM, str(refusal))
    if session.name is None and _must_wait_for(session, name, message):
        return None
    if len(session.members) >= hub.limits.max_rooms_per_session:
        hub.record.limited("max_rooms_per_session")
        return session.refuse(
            ErrorCode.TOO_MANY_ROOMS, f"you are in {len(session.members)} rooms; leave one first"
        )
    there = hub.rooms.get(room)
    if (
        there is not None
        and session.id in there.leaving
        and session.requests.postpone_until_answered(message)
    ):
        return None
    if there is None and len(hub.rooms) >= hub.limits.max_rooms:
        hub.record.limited("max_rooms")
        return session.refuse(ErrorCode.TOO_MANY_ROOMS, "the server is full of rooms; use one that exists")
    if there is not None and 0 < hub.limits.max_people_per_room <= there.total:
        hub.record.limited("max_people_per_room")
        return session.refuse(
            ErrorCode.RATE_LIMITED, f"the room is full: {there.total:,} people are in it; try later"
        )
    if session.name is None and 0 < hub.limits.max_sessions <= hub.n_people:
        hub.record.limited("max_sessions")
        return session.refuse(
            ErrorCode.RATE_LIMITED, f"the server is full: {hub.n_people:,} people are here; try later"
        )
    if session.is_barred(name):
        return None
    rule = session.restriction(Action.BAN, room, name)
    if rule is not None:
        return session.refuse(ErrorCode.NOT_ALLOWED, barring(rule))
    preparing = hub.log.prepare(room)
    if preparing is not None:
        return session.requests.postpone(message, preparing)
    if message.limit and session.granted is None and session.requests.must_wait_to_read(message):
        return None
    if session.name is None:
        if not _claim(session, name, message):
            return None
        session.open(name)
    member = hub.enter(session, room)
    # Someone who was told of it may have thrown them out.
    if session.members.get(room) is member:
        session.catch_up.enter(member, message)
    return None


def _claim(session: Session, name: Name, request: Message) -> bool:
    """Let them have a nickname; False after the error is sent, or where *request* is taken up again later."""
    hub = session.hub
    granted, session.granted = session.granted, None
    if granted is not None and granted != name:
        # The request for which they had it came to nothing after all.
        hub.release(granted, session, session.name)
    owner = hub.reservations.account_of(name)
    if owner is not None and owner != session.account:
        session.refuse(
            ErrorCode.NICK_TAKEN, f"{name.text} is kept for an account, or looks like a nickname that is"
        )
        return False
    holder = hub.nicks.claim(name, session)
    if holder is not None and owner is not None and holder.account != owner:
        # They had it before it was kept for somebody.
        holder.end(
            "kicked", Error(ErrorCode.NICK_TAKEN, 0, "your nickname belongs to somebody who is here now")
        )
        if _must_wait_for(session, name, request):
            return False
        holder = hub.nicks.claim(name, session)
    if holder is not None:
        session.refuse(ErrorCode.NICK_TAKEN, f"{name.text} is taken, or looks like a nickname that is")
        return False
    if hub.elsewhere is None or granted == name:
        return True
    session.requests.hold()
    asking = hub.elsewhere.claim(name, session)
    asking.addBoth(partial(_claimed, session, name, request)).addErrback(session.give_up)
    return False


def _must_wait_for(session: Session, name: Name, request: Message) -> bool:
    """Whether who has that nickname is gone, but for their last words; *request* is taken up again then."""
    holder = session.hub.nicks.in_the_way(name)
    return holder is not None and holder.ended and session.postpone_until_left(request, holder)


def _claimed(session: Session, name: Name, request: Message, outcome: bool | Failure) -> None:
    """Other servers let them have a nickname, or not."""
    session.requests.release()
    if outcome is True and not session.ended:
        session.granted = name
        session.requests.take_up_again(request)
        return
    if session.name != name or session.ended:
        session.hub.release(name, session, session.name)
    if session.ended:
        return
    if isinstance(outcome, Failure):
        _refuse_by(session, outcome)
    else:
        session.refuse(ErrorCode.NICK_TAKEN, f"{name.text} is taken, or looks like a nickname that is")
    session.requests.go_on()


def _member(session: Session, room: str, id: int = 0) -> Member | None:
    """This session in *room*; None after the error is sent."""
    room = room or session.hub.default_room
    member = session.members.get(room)
    if member is None:
        # The name may be anything, so it is not repeated.
        session.refuse(ErrorCode.NOT_IN_ROOM, "you are not in that room; join it first", id)
    return member


def _check_text(session: Session, text: str, id: int) -> bool:
    try:
        check_text(text, session.hub.limits.max_text_bytes)
    except TextRefused as refusal:
        if isinstance(refusal, TextTooLong):
            session.hub.record.limited("max_text_bytes")
        session.refuse(ErrorCode.BAD_TEXT, str(refusal), id)
        return False
    return True


def _say(session: Session, message: Say) -> None:
    member = _member(session, message.room, message.id)
    if member is None or not _check_text(session, message.text, message.id):
        return
    assert session.name is not None
    room = member.room.name
    rule = session.restriction(Action.MUTE, room)
    if rule is not None:
        return session.refuse(ErrorCode.NOT_ALLOWED, barring(rule), message.id)
    try:
        answer = session.hub.log.append(
            room, session.name.text, session.name.key, message.id, message.text, session.id
        )
    except Exception:
        return _answer(session, message.id, Failure())
    if isinstance(answer, Receipt):
        return _answer(session, message.id, answer)
    session.requests.unanswered += 1
    member.unanswered += 1
    # One callback, and nothing made for it: there is one for each message.
    answer.addBoth(_answered, session, member, message.id)
    return None


def _answered(outcome: Receipt | Failure, session: Session, member: Member, id: int) -> None:
    try:
        session.requests.unanswered -= 1
        member.unanswered -= 1
        if not member.unanswered:
            session.hub.has_spoken(member)
        if not session.ended:
            _answer(session, id, outcome)
            session.requests.was_answered()
    except Exception:
        session.give_up(Failure())


def _answer(session: Session, id: int, outcome: Receipt | Failure) -> None:
    if isinstance(outcome, Receipt):
        _acknowledge(session, id, outcome)
    elif outcome.check(NotStored):
        session.refuse(ErrorCode.NOT_STORED, outcome.getErrorMessage(), id)
    else:
        _log.failure("the log failed", outcome)
        session.refuse(ErrorCode.NOT_STORED, "the history failed; nobody saw it", id)


def _acknowledge(session: Session, id: int, receipt: Receipt) -> None:
    if id:
        session.outlet.send(Ack(id, receipt.seq, receipt.time_ms))


def _leave(session: Session, message: Leave) -> None:
    if not message.room:
        session.requests.conclude("left")
        return
    member = _member(session, message.room)
    if member is not None:
        session.hub.leave(session, member.room.name, "left")


def _nick(session: Session, message: Nick) -> None:
    assert session.name is not None
    try:
        name = parse_nick(message.nick, session.hub.limits.max_nick_chars)
    except NameRefused as refusal:
        return session.refuse(ErrorCode.BAD_NICK, str(refusal))
    # What was said under the old nickname is told before the new one is.
    if session.requests.postpone_until_answered(message) or _must_wait_for(session, name, message):
        return None
    if session.granted is None and not session.requests.may_rename():
        return session.refuse(ErrorCode.RATE_LIMITED, "you change your nickname too often; wait a little")
    if _is_evading(session, name) or not _claim(session, name, message):
        return None
    old, session.name = session.name, name
    if old != name:
        session.hub.release(old, session, name)
    session.hub.announce_renamed(session, old.text)
    return None


def _is_evading(session: Session, name: Name) -> bool:
    """Whether they would be rid of a rule by another nickname, or get where they are not let in by it."""
    for room in (EVERYWHERE, *session.members):
        rule = session.restriction(Action.MUTE, room) or session.restriction(Action.BAN, room, name)
        if rule is not None and rule.target.kind is Kind.NICK:
            session.refuse(ErrorCode.NOT_ALLOWED, f"not now: {barring(rule)}")
            return True
    return False


def _who(session: Session, message: Who) -> None:
    member = _member(session, message.room)
    if member is not None:
        session.send_roster(member)


def _history(session: Session, message: History) -> None:
    member = _member(session, message.room)
    if (
        member is None
        or session.requests.postpone_until_answered(message)
        or session.requests.must_wait_to_read(message)
    ):
        return
    session.catch_up.query(member.room.name, message.before, _most_read(session, message.limit))


def _most_read(session: Session, limit: int) -> int:
    """How many messages are given to whoever asks for *limit*."""
    most = session.hub.limits.max_history_messages
    if limit > most:
        session.hub.record.limited("max_history_messages")
    return min(limit, most)


def _tell(session: Session, message: Tell) -> None:
    hub = session.hub
    assert session.name is not None
    if not _check_text(session, message.text, message.id):
        return None
    rule = session.restriction(Action.MUTE, EVERYWHERE)
    if rule is not None:
        return session.refuse(ErrorCode.NOT_ALLOWED, barring(rule), message.id)
    if hub.elsewhere is not None:
        session.requests.hold()
        telling = hub.elsewhere.tell(session, message.id, message.nick, message.text)
        telling.addBoth(partial(_told, session, message.id)).addErrback(session.give_up)
        return None
    receipt = hub.told.find(session.name.key, message.id)
    if receipt is None:
        target = hub.find(message.nick)
        if target is None:
            return session.refuse(
                ErrorCode.NO_SUCH_NICK, "nobody here has that nickname; nothing was sent", message.id
            )
        receipt = Receipt(0, hub.now_ms())
        told = Told(receipt.time_ms, session.name.text, message.text)
        if not target.tell(told):
            return session.refuse(
                ErrorCode.NOT_STORED, f"{target.nick_text} is not reading; nothing was sent", message.id
            )
        hub.record.private_messages += 1
        hub.told.add(session.name.key, message.id, receipt)
    _acknowledge(session, message.id, receipt)
    return None


def _told(session: Session, id: int, outcome: Receipt | Failure) -> None:
    session.requests.release()
    if session.ended:
        return
    if isinstance(outcome, Receipt):
        _acknowledge(session, id, outcome)
    else:
        _refuse_by(session, outcome, id)
    session.requests.go_on()


def _refuse_by(session: Session, failure: Failure, id: int = 0) -> None:
    if not isinstance(failure.value, Refused):
        failure.raiseException()
    session.refuse(failure.value.code, str(failure.value), id)


def _ping(session: Session, message: Ping) -> None:
    session.outlet.send(Pong(message.token))


def _search(session: Session, message: Search) -> None:
    member = _member(session, message.room)
    if member is None:
        return
    words = searched_words(message.query)
    if not words:
        return session.refuse(ErrorCode.BAD_TEXT, "there is no word to search for")
    if len(words) > MAX_SEARCHED_WORDS:
        return session.refuse(ErrorCode.BAD_TEXT, f"search for at most {MAX_SEARCHED_WORDS} words")
    if session.requests.postpone_until_answered(message) or session.requests.must_wait_to_read(message):
        return None
    room = member.room.name
    try:
        answer = session.hub.log.search(room, words, _most_read(session, message.limit))
    except Exception:
        return _searched(session, room, Failure())
    if isinstance(answer, Found):
        session.requests.go_on_later()
        return _searched(session, room, answer)
    session.requests.hold()
    found: Callable[[Any], None] = partial(_search_answered, session, room)
    answer.addBoth(found).addErrback(session.give_up)
    return None


def _search_answered(session: Session, room: str, outcome: Found | Failure) -> None:
    session.requests.release()
    if not session.ended:
        _searched(session, room, outcome)
        session.requests.go_on()


def _searched(session: Session, room: str, outcome: Found | Failure) -> None:
    if isinstance(outcome, Found):
        return session.catch_up.show(room, outcome)
    if outcome.check(NotImplementedError):
        return session.refuse(ErrorCode.NOT_SUPPORTED, "the history of this server cannot be searched")
    _log.failure("the log could not be searched", outcome)
    return session.refuse(ErrorCode.NOT_SUPPORTED, "the history cannot be searched at the moment; try later")


def _moderate(session: Session, message: Moderate) -> None:
    if not session.is_operator:
        return session.refuse(ErrorCode.NOT_ALLOWED, "only operators may do that")
    orders = session.hub.orders
    try:
        order = orders.read(message)
        # It may be about themselves.
        session.hub.record.moderated(session, order.action, order.room, order.shown)
        answer = orders.carry_out(order, session.account or "", session)
    except OrderRefused as refusal:
        return session.refuse(refusal.code, str(refusal))
    if isinstance(answer, Deferred):
        session.requests.hold()
        answer.addBoth(partial(_moderated_later, session)).addErrback(session.give_up)
        return None
    return _moderated(session, answer)


def _moderated_later(session: Session, outcome: str | Failure) -> None:
    session.requests.release()
    if not session.ended:
        _moderated(session, outcome)
        session.requests.go_on()


def _moderated(session: Session, outcome: str | Failure) -> None:
    if isinstance(outcome, Failure):
        refusal = why_not(outcome)
        session.refuse(refusal.code, str(refusal))
    elif not session.ended:
        session.outlet.send(Notice(outcome))


_BEFORE_JOIN = {Join, Leave, Login, Ping}

_DISPATCH: dict[type[Message], Callable[[Session, Any], None]] = {
    Join: _join,
    Say: _say,
    Leave: _leave,
    Nick: _nick,
    Who: _who,
    History: _history,
    Tell: _tell,
    Ping: _ping,
    Login: log_in,
    Search: _search,
    Moderate: _moderate,
}

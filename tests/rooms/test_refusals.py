"""Every row of the table of errors in memory: what is fatal ends the session, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from chatproto.limits import Limits
from chatproto.rooms.log import Found, MemoryLog, NotStored, Receipt
from chatproto.testing import ChatInMemory, Person
from chatproto.wire.errors import ErrorCode, ProtocolError
from chatproto.wire.messages import Error, Join, Login, Message, Moderate, Ping, Pong, Say, Search, Tell, Who


class FullLog(MemoryLog):
    """A log that keeps nothing any more."""

    def append(self, room: str, nick: str, key: str, id: int, text: str, sender: int) -> Receipt:
        raise NotStored("the disk is full")


class UnsearchableLog(MemoryLog):
    """A log that cannot be searched."""

    def search(self, room: str, words: Sequence[str], limit: int) -> Found:
        raise NotImplementedError


def asks(*requests: Message | ProtocolError, joined: bool = True, **hub: Any) -> Callable[[], Person]:
    """Someone who asks for something in a chat of their own."""

    def ask() -> Person:
        chat = ChatInMemory(**hub)
        person = chat.join("ann") if joined else chat.connect()
        person.forget()
        person.ask(*requests)
        return person

    return ask


def wants_a_nickname_that_is_held() -> Person:
    chat = ChatInMemory()
    chat.join("ann")
    return chat.join("Ann")


def takes_nothing() -> Person:
    person = ChatInMemory().join("ann")
    person.session.stalled()
    return person


def does_not_join() -> Person:
    chat = ChatInMemory()
    person = chat.connect()
    chat.pass_time(11)
    return person


def is_renamed_too_often() -> Person:
    person = ChatInMemory(Limits(rename_burst=1)).join("ann")
    person.rename("bea")
    person.rename("cleo")
    return person


def refuse_all(user: str, secret: str) -> bool:
    return False


REFUSED: dict[ErrorCode, Callable[[], Person]] = {
    ErrorCode.MALFORMED: asks(ProtocolError(ErrorCode.MALFORMED, "no sense")),
    ErrorCode.TOO_BIG: asks(ProtocolError(ErrorCode.TOO_BIG, "too big")),
    ErrorCode.JOIN_FIRST: asks(Who(""), joined=False),
    ErrorCode.NICK_TAKEN: wants_a_nickname_that_is_held,
    ErrorCode.BAD_NICK: asks(Join("two words"), joined=False),
    ErrorCode.BAD_ROOM: asks(Join("ann", "two words")),
    ErrorCode.NOT_IN_ROOM: asks(Say(0, "tea", "hi")),
    ErrorCode.NO_SUCH_NICK: asks(Tell(0, "nobody", "hi")),
    ErrorCode.BAD_TEXT: asks(Say(0, "", "")),
    ErrorCode.LOGIN_REQUIRED: asks(Join("ann"), joined=False, authenticate=refuse_all, login_required=True),
    ErrorCode.LOGIN_FAILED: asks(Login("ann", "wrong"), joined=False, authenticate=refuse_all),
    ErrorCode.NOT_ALLOWED: asks(Moderate(1, "", "bob", 0, "")),
    ErrorCode.NOT_STORED: asks(Say(0, "", "hi"), log=FullLog()),
    ErrorCode.TOO_MANY_ROOMS: asks(Join("ann", "tea"), limits=Limits(max_rooms=1)),
    ErrorCode.TOO_SLOW: takes_nothing,
    ErrorCode.TIMEOUT: does_not_join,
    ErrorCode.RATE_LIMITED: is_renamed_too_often,
    ErrorCode.NOT_SUPPORTED: asks(Search("", "hi", 10), log=UnsearchableLog()),
}
"""How each error comes about."""


@pytest.mark.parametrize("code", list(ErrorCode), ids=lambda code: code.label)
def test_an_error_ends_the_session_if_the_table_says_so(code: ErrorCode) -> None:
    person = REFUSED[code]()
    [error] = person.got(Error)
    assert error.code == code
    assert error.text
    assert person.received[-1] is error
    person.ask(Ping(9))
    assert person.is_connected == (not code.fatal)
    assert person.got(Pong) == ([] if code.fatal else [Pong(9)])
    assert (person.session.id in person.session.hub.sessions) == (not code.fatal)


def test_the_third_failure_to_log_in_is_fatal() -> None:
    person = asks(*[Login("ann", "wrong")] * 3, joined=False, authenticate=refuse_all)()
    assert person.errors == [ErrorCode.LOGIN_FAILED] * 3
    assert not person.is_connected


def test_the_text_of_an_error_repeats_nothing_of_what_was_refused() -> None:
    secret = "xyzzy"
    person = asks(
        Login(secret, secret), Join(f"{secret} {secret}"), Join("ann", f"{secret} x"), joined=False
    )()
    person.ask(Join("ann"), Say(0, secret, "hi"), Say(0, "", f"{secret}\x00"), Search(secret, secret, 1))
    assert len(person.errors) == 6
    assert not [error.text for error in person.got(Error) if secret in error.text]

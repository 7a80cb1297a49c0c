"""Logging in: who is let in, who waits, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rooms.outlets import Broken, Failures, assert_nothing_is_left
from twisted.internet.defer import Deferred, fail, succeed

from chatproto.limits import Limits
from chatproto.rooms.account import Account, Admitted, IAccount, TryLater
from chatproto.testing import ChatInMemory, Person
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import (
    Ack,
    End,
    Error,
    Join,
    Left,
    Login,
    Moderate,
    Notice,
    Ping,
    Pong,
    Roster,
    Say,
    Welcome,
)

LIMITS = Limits(login_burst=2, login_interval_s=10, join_timeout_s=15)

OK = Notice("you are logged in")


def log_in(chat: ChatInMemory, user: str, secret: str = "right", address: str = "") -> Person:
    person = Person(chat)
    person.session.standing.address = address
    person.ask(Login(user, secret))
    return person


class TestLogin:
    def test_it_is_not_supported_without_accounts(self, chat: ChatInMemory) -> None:
        person = chat.connect()
        person.ask(Login("ann", "secret"))
        assert person.errors == [ErrorCode.NOT_SUPPORTED]
        person.ask(Join("ann"))
        assert len(person.got(Welcome)) == 1

    @pytest.mark.parametrize("wrap", [bool, succeed], ids=["at once", "fired"])
    def test_who_has_the_right_secret_is_let_in(self, wrap: Callable[[bool], bool | Deferred[bool]]) -> None:
        chat = ChatInMemory(authenticate=lambda user, secret: wrap(secret == "right"), login_required=True)
        person = chat.connect()
        person.ask(Join("ann"), Login("ann", "wrong"), Join("ann"), Login("ann", "right"), Join("ann"))
        assert person.errors == [ErrorCode.LOGIN_REQUIRED, ErrorCode.LOGIN_FAILED, ErrorCode.LOGIN_REQUIRED]
        assert [type(message) for message in person.received[3:]] == [Notice, Welcome, Roster, End]
        assert person.session.account == "ann"

    @pytest.mark.parametrize("wrap", [bool, succeed], ids=["at once", "fired"])
    def test_the_third_failure_is_fatal(self, wrap: Callable[[bool], bool | Deferred[bool]]) -> None:
        chat = ChatInMemory(authenticate=lambda user, secret: wrap(False))
        person = chat.connect()
        person.ask(*[Login("ann", "wrong")] * 5)
        assert person.errors == [ErrorCode.LOGIN_FAILED] * 3
        assert not person.is_connected
        assert_nothing_is_left(chat.hub, chat.clock)

    def test_login_is_optional_where_it_is_not_required(self) -> None:
        chat = ChatInMemory(authenticate=lambda user, secret: True)
        assert len(chat.join("ann").got(Welcome)) == 1

    def test_login_comes_before_join(self) -> None:
        chat = ChatInMemory(authenticate=lambda user, secret: True)
        ann = chat.join("ann")
        ann.ask(Login("ann", "right"))
        assert ann.errors == [ErrorCode.NOT_ALLOWED]

    def test_what_follows_waits_until_the_secret_is_checked(self) -> None:
        checked: Deferred[bool] = Deferred()
        chat = ChatInMemory(authenticate=lambda user, secret: checked, login_required=True)
        person = chat.connect()
        person.ask(Login("ann", "right"), Join("ann"), Say(7, "", "hi"))
        assert person.received == []
        assert not person.is_read_from
        checked.callback(True)
        assert [type(message) for message in person.received] == [Notice, Welcome, Roster, End, Ack]
        assert person.is_read_from

    def test_who_is_gone_before_the_secret_is_checked_is_gone(self) -> None:
        checked: Deferred[bool] = Deferred()
        chat = ChatInMemory(authenticate=lambda user, secret: checked)
        person = chat.connect()
        person.ask(Login("ann", "right"), Join("ann"))
        person.disconnect()
        checked.callback(True)
        assert person.received == []
        assert_nothing_is_left(chat.hub, chat.clock)

    def test_a_check_that_takes_too_long_ends_with_the_time_for_joining(self) -> None:
        checked: Deferred[bool] = Deferred()
        chat = ChatInMemory(authenticate=lambda user, secret: checked)
        person = chat.connect()
        person.ask(Login("ann", "right"))
        chat.pass_time(11)
        assert person.errors == [ErrorCode.TIMEOUT]

    @pytest.mark.parametrize("how", ["raises", "fails", "fails later"])
    def test_a_check_that_breaks_lets_nobody_in(self, how: str, failures: Failures) -> None:
        later: Deferred[bool] = Deferred()

        def authenticate(user: str, secret: str) -> Deferred[bool]:
            if how == "raises":
                raise Broken
            return fail(Broken()) if how == "fails" else later

        chat = ChatInMemory(authenticate=authenticate, login_required=True)
        person = chat.connect()
        person.ask(Login("ann", "right"), Join("ann"), Ping(1))
        later.errback(Broken())
        later.addErrback(lambda failure: None)
        assert person.errors == [ErrorCode.LOGIN_FAILED, ErrorCode.LOGIN_REQUIRED]
        assert person.received[-1] == Pong(1)
        assert failures.take() == ["Broken"]


class TestWho:
    def test_an_account_says_by_itself_whether_it_may_moderate(self) -> None:
        accounts = {"op": Account("op", is_operator=True), "ann": Account("ann")}
        chat = ChatInMemory(authenticate=lambda user, secret: accounts[user])
        for user, errors in (("op", []), ("ann", [ErrorCode.NOT_ALLOWED])):
            person = log_in(chat, user)
            person.ask(Join(user), Moderate(4, "", "bob", 0, ""))
            assert person.errors == errors

    def test_who_it_is_says_the_answer_and_not_the_user(self) -> None:
        chat = ChatInMemory(authenticate=lambda user, secret: Account("ann"))
        assert log_in(chat, "").session.account == "ann"

    @pytest.mark.parametrize("nothing", [None, False, Account("")])
    def test_nobody_is_nobody(self, nothing: Any) -> None:
        chat = ChatInMemory(authenticate=lambda user, secret: nothing)
        person = log_in(chat, "ann")
        assert (person.errors, person.session.account) == ([ErrorCode.LOGIN_FAILED], None)

    def test_who_is_admitted_is_logged_out_once_when_the_session_ends(self) -> None:
        ended: list[str] = []
        chat = ChatInMemory(
            authenticate=lambda user, secret: Admitted(Account(user), lambda: ended.append(user))
        )
        person = log_in(chat, "ann")
        assert ended == []
        person.ask(Login("bob", "right"))
        assert ended == ["ann"]
        person.disconnect()
        assert ended == ["ann", "bob"]

    def test_a_logout_that_raises_harms_nobody(self, failures: Failures) -> None:
        chat = ChatInMemory(authenticate=lambda user, secret: Admitted(Account(user), lambda: 1 / 0))
        ann = log_in(chat, "ann")
        ann.ask(Join("ann"))
        bob = chat.join("bob")
        ann.disconnect()
        assert bob.got(Left) == [Left("lobby", "ann", "closed")]
        assert failures.take() == ["ZeroDivisionError"]


class TestWaiting:
    def test_who_is_gone_waits_for_nothing(self) -> None:
        cancelled: list[object] = []
        chat = ChatInMemory(authenticate=lambda user, secret: Deferred(cancelled.append))
        log_in(chat, "ann").disconnect()
        assert len(cancelled) == 1
        assert chat.clock.getDelayedCalls() == []

    def test_who_is_admitted_too_late_is_logged_out(self) -> None:
        ended: list[str] = []
        answer: Deferred[Any] = Deferred(lambda _: None)
        chat = ChatInMemory(authenticate=lambda user, secret: answer)
        person = log_in(chat, "ann")
        person.session.standing.pending = None  # as if it could not be cancelled any more
        person.disconnect()
        answer.callback(Admitted(Account("ann"), lambda: ended.append("ann")))
        assert ended == ["ann"]

    def test_the_time_of_the_answer_is_not_the_persons(self) -> None:
        answer: Deferred[bool] = Deferred()
        chat = ChatInMemory(LIMITS, authenticate=lambda user, secret: answer)
        person = log_in(chat, "ann")
        chat.pass_time(14)
        answer.callback(True)
        chat.pass_time(14)
        person.ask(Join("ann"))
        assert person.session.members

    def test_who_is_told_to_try_later_has_not_failed(self) -> None:
        def busy(user: str, secret: str) -> bool:
            raise TryLater("too many at once")

        chat = ChatInMemory(LIMITS, authenticate=busy)
        person = log_in(chat, "ann")
        for _ in range(20):
            person.ask(Login("ann", "right"))
        assert set(person.got(Error)) == {Error(ErrorCode.RATE_LIMITED, 0, "too many at once")}
        assert person.is_connected


class TestGuessing:
    def test_a_guesser_waits_and_nobody_else(self) -> None:
        asked: list[str] = []

        def authenticate(user: str, secret: str) -> bool:
            asked.append(user)
            return secret == "right"

        chat = ChatInMemory(LIMITS, authenticate=authenticate)
        guessers = [log_in(chat, "ann", "wrong", f"10.0.0.{number}") for number in range(10)]
        assert len(asked) == 2
        errors = [guesser.got(Error)[0].code for guesser in guessers if guesser.errors]
        assert errors == [ErrorCode.LOGIN_FAILED] * 2 + [ErrorCode.RATE_LIMITED] * 7
        assert guessers[9].got(Error)[0].text == "too many logins were tried; try again in 10 s"
        bob = log_in(chat, "bob", "right", "10.0.1.1")
        assert bob.received == [OK]
        chat.pass_time(10)
        assert len(asked) == 4
        assert guessers[2].errors == [ErrorCode.LOGIN_FAILED]

    def test_who_waits_is_answered_in_order(self) -> None:
        chat = ChatInMemory(LIMITS, authenticate=lambda user, secret: secret == "right")
        for _ in range(2):
            log_in(chat, "ann", "wrong", "10.0.0.1")
        person = log_in(chat, "ann", "right", "10.0.0.1")
        person.ask(Ping(7), Join("ann"))
        assert person.received == []
        chat.pass_time(10)
        assert person.received[:2] == [OK, Pong(7)]
        assert person.session.members

    def test_who_waits_and_leaves_is_never_checked(self) -> None:
        asked: list[str] = []
        chat = ChatInMemory(LIMITS, authenticate=lambda user, secret: asked.append(user))
        for _ in range(3):
            log_in(chat, "ann", "wrong").disconnect()
        chat.pass_time(20)
        assert asked == ["ann"] * 2


class TestReserved:
    """Nicknames that are kept for accounts."""

    @pytest.fixture
    def chat(self) -> ChatInMemory:
        self.kept = {"ann": "ann"}
        return ChatInMemory(
            authenticate=lambda user, secret: Account(user, frozenset({user})),
            reserved=lambda nick: self.kept.get(nick.key),
        )

    def test_nobody_else_takes_them(self, chat: ChatInMemory) -> None:
        bob = chat.join("Ann")
        assert bob.errors == [ErrorCode.NICK_TAKEN]
        bob.ask(Join("bob"))
        bob.rename("ann")
        assert bob.errors == [ErrorCode.NICK_TAKEN] * 2
        other = log_in(chat, "cid")
        other.ask(Join("ann"))
        assert other.errors == [ErrorCode.NICK_TAKEN]
        ann = log_in(chat, "ann")
        ann.ask(Join("ann"))
        assert ann.session.nick_text == "ann"

    def test_who_has_one_when_its_account_comes_has_to_go(self, chat: ChatInMemory) -> None:
        self.kept = {}
        other, bob = chat.join("ann"), chat.join("bob")
        self.kept = {"ann": "ann"}
        ann = log_in(chat, "ann")
        ann.ask(Join("ann"))
        assert not other.is_connected
        assert other.received[-1] == Error(
            ErrorCode.NICK_TAKEN, 0, "your nickname belongs to somebody who is here now"
        )
        assert bob.got(Left) == [Left("lobby", "ann", "kicked")]
        assert ann.session.members

    def test_two_of_one_account_do_not_throw_each_other_out(self, chat: ChatInMemory) -> None:
        first, second = log_in(chat, "ann"), log_in(chat, "ann")
        first.ask(Join("ann"))
        second.ask(Join("ann"))
        assert second.errors == [ErrorCode.NICK_TAKEN]
        assert first.is_connected

    def test_those_of_accounts_that_nobody_lists_are_kept_from_the_first_login_on(
        self, chat: ChatInMemory
    ) -> None:
        assert chat.join("dora").errors == []
        log_in(chat, "dora2").disconnect()
        bob = chat.join("dora2")
        assert bob.errors == [ErrorCode.NICK_TAKEN]
        dora = log_in(chat, "dora2")
        dora.ask(Join("DORA2"))
        assert dora.errors == []

    def test_a_name_that_is_offered_is_not_one_of_them(self, chat: ChatInMemory) -> None:
        chat.join("bob")
        person = chat.connect()
        assert chat.hub.free_like("bob", person.session) == "bob2"
        self.kept = {"bob2": "someone"}
        assert chat.hub.free_like("bob", person.session) == "bob3"


class TestRevised:
    def test_sessions_of_accounts_that_are_gone_are_ended(self) -> None:
        chat = ChatInMemory(authenticate=lambda user, secret: Account(user, is_operator=True))
        ann, bob, cid = log_in(chat, "ann"), log_in(chat, "bob"), chat.join("cid")
        bob.ask(Join("bob"))

        def revise(account: IAccount) -> IAccount | None:
            return None if account.name == "ann" else Account(account.name)

        chat.hub.revise_accounts(revise)
        assert ann.received[-1] == Error(ErrorCode.NOT_ALLOWED, 0, "your account was removed")
        assert not ann.is_connected
        bob.ask(Moderate(1, "", "cid", 0, ""))
        assert bob.errors == [ErrorCode.NOT_ALLOWED]
        assert cid.is_connected


def test_a_secret_is_in_no_text_that_is_made_of_a_login() -> None:
    login = Login("ann", "xyzzy")
    assert "xyzzy" not in f"{login} {login!r} {[login]}"

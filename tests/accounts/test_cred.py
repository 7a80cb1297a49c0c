"""Any portal of `twisted.cred` lets people into the chat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rooms.outlets import Failures
from rooms.pumped import Pump
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher
from zope.interface import Interface, implementer

from chatproto.accounts import (
    Account,
    FileRealm,
    IAccount,
    PasswordChecker,
    PasswordFile,
    PasswordThreads,
    PortalLogin,
    first_of,
)
from chatproto.accounts.passwordfile import FileAccount, edit_accounts
from chatproto.accounts.scrypt import hash_password
from chatproto.testing import ChatInMemory, Person
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Join, Login, Moderate, Notice


@implementer(IRealm)
class Realm:
    """Of an application: notes who went."""

    def __init__(self) -> None:
        self.gone: list[bytes | tuple[()]] = []

    def requestAvatar(
        self, avatarId: bytes | tuple[()], mind: object, *interfaces: type[Interface]
    ) -> tuple[type[Interface], IAccount, Any]:
        assert IAccount in interfaces
        assert isinstance(avatarId, bytes)
        name = avatarId.decode()
        return IAccount, Account(name, is_operator=name == "größe"), lambda: self.gone.append(avatarId)


def log_in(chat: ChatInMemory, user: str, secret: str) -> Person:
    person = chat.connect()
    person.ask(Login(user, secret))
    return person


class TestPortalOfAnApplication:
    @pytest.fixture
    def realm(self) -> Realm:
        return Realm()

    @pytest.fixture
    def chat(self, realm: Realm) -> ChatInMemory:
        checker = InMemoryUsernamePasswordDatabaseDontUse()
        checker.addUser("größe".encode(), "passwört".encode())
        return ChatInMemory(authenticate=PortalLogin(Portal(realm, [checker])), login_required=True)

    def test_its_people_get_in_as_who_they_are(self, chat: ChatInMemory) -> None:
        person = log_in(chat, "größe", "passwört")
        person.ask(Join("ann"), Moderate(4, "", "bob", 0, ""))
        assert person.got(Notice) == [Notice("you are logged in"), Notice("bob was muted in lobby")]
        assert person.session.account == "größe"

    @pytest.mark.parametrize(("user", "secret"), [("größe", "wrong"), ("nobody", "passwört"), ("", "")])
    def test_nobody_else_does_and_nothing_is_logged(self, chat: ChatInMemory, user: str, secret: str) -> None:
        failures = Failures()
        globalLogPublisher.addObserver(failures)
        person = log_in(chat, user, secret)
        person.ask(Join("ann"))
        globalLogPublisher.removeObserver(failures)
        assert person.errors == [ErrorCode.LOGIN_FAILED, ErrorCode.LOGIN_REQUIRED]
        assert failures.take() == []

    def test_it_hears_of_the_end(self, chat: ChatInMemory, realm: Realm) -> None:
        person = log_in(chat, "größe", "passwört")
        assert realm.gone == []
        person.disconnect()
        assert realm.gone == ["größe".encode()]


class TestPasswordFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "accounts"
        with edit_accounts(str(path)) as accounts:
            accounts["ann"] = FileAccount("ann", frozenset({"ann"}), hash=hash_password("right", log_n=4))
        return path

    @pytest.fixture
    def pump(self) -> Pump:
        return Pump()

    @pytest.fixture
    def login(self, path: Path, pump: Pump) -> PortalLogin:
        file = PasswordFile(str(path))
        return PortalLogin(Portal(FileRealm(file), [PasswordChecker(file, PasswordThreads(pump))]))

    def ask(self, pump: Pump, answer: Any) -> Any:
        assert isinstance(answer, Deferred)
        found: list[Any] = []
        answer.addBoth(found.append)
        pump.until(lambda: found)
        return found[0]

    def test_the_right_password_is_right(self, login: PortalLogin, pump: Pump) -> None:
        admitted = self.ask(pump, login("ANN", "right"))
        assert (admitted.account.name, admitted.account.nicks) == ("ann", {"ann"})
        admitted.logout()

    @pytest.mark.parametrize(
        ("user", "secret"), [("ann", "wrong"), ("bob", "right"), ("", "right"), ("a b", ""), ("\x00", "x")]
    )
    def test_nothing_else_is(self, login: PortalLogin, pump: Pump, user: str, secret: str) -> None:
        assert self.ask(pump, login(user, secret)) is None

    def test_somebody_who_is_not_there_is_checked_too(
        self, login: PortalLogin, pump: Pump, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from chatproto.accounts import scrypt

        costs: list[tuple[int, int, int]] = []
        real = scrypt._scrypt

        def counted(password: str, salt: bytes, log_n: int, r: int, p: int, length_bytes: int) -> bytes:
            costs.append((log_n, r, p))
            return real(password, salt, log_n, r, p, length_bytes)

        monkeypatch.setattr(scrypt, "_scrypt", counted)
        for user in ("ann", "bob", "no name"):
            self.ask(pump, login(user, "wrong"))
        assert costs == [(4, 8, 1)] * 3

    def test_a_changed_file_counts_at_once(self, login: PortalLogin, pump: Pump, path: Path) -> None:
        with edit_accounts(str(path)) as accounts:
            accounts["bob"] = FileAccount("bob", hash=hash_password("new", log_n=4))
            del accounts["ann"]
        assert self.ask(pump, login("ann", "right")) is None
        assert self.ask(pump, login("bob", "new")).account.name == "bob"

    def test_an_account_that_is_removed_meanwhile_does_not_get_in(
        self, login: PortalLogin, pump: Pump, path: Path
    ) -> None:
        answer = login("ann", "right")
        path.write_text("")
        other = login("bob", "x")  # it is read again
        assert self.ask(pump, answer) is None
        assert self.ask(pump, other) is None


def test_several_ways_are_tried_in_order_until_one_knows_who_it_is() -> None:
    asked: list[str] = []

    def way(name: str, *users: str) -> Any:
        def authenticate(user: str, secret: str) -> Account | None:
            asked.append(name)
            return Account(name) if user in users else None

        return authenticate

    chat = ChatInMemory(authenticate=first_of(way("one", "ann"), way("two", "ann", "bob")))
    assert [log_in(chat, user, "").session.account for user in ("ann", "bob", "cid")] == ["one", "two", None]
    assert asked == ["one", "one", "two", "one", "two"]

"""The password file: read as it is, read again when it changes, and never half written."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from chatproto.accounts.passwordfile import (
    AccountsUnusable,
    FileAccount,
    PasswordFile,
    account_name,
    check_nicks,
    edit_accounts,
    parse_accounts,
)
from chatproto.accounts.scrypt import hash_password
from chatproto.rooms.account import Account
from chatproto.rooms.names import parse_nick

HASH = hash_password("correct horse", log_n=4)


def account(name: str, *nicks: str, is_operator: bool = False) -> FileAccount:
    return FileAccount(name, frozenset(nicks), is_operator, hash=HASH)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "accounts"


def add(path: Path, *accounts: FileAccount) -> None:
    with edit_accounts(str(path)) as known:
        known.update({one.name: one for one in accounts})


def test_what_was_written_is_read(path: Path) -> None:
    written = [
        account("ann", "ann", "Ännchen", is_operator=True),
        account("bob@example.org"),
        account("größe"),
    ]
    add(path, *written)
    file = PasswordFile(str(path))
    assert file.accounts == written
    assert file.find("ANN") == written[0]
    assert file.find("cid") is None
    assert file.find("two words") is None


def test_nothing_secret_is_shown_of_an_account() -> None:
    assert str(HASH) not in repr(account("ann"))


def test_it_is_private(path: Path) -> None:
    add(path, account("ann"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_who_may_read_it_may_still_do_so_when_it_was_changed(path: Path) -> None:
    add(path, account("ann"))
    os.chmod(path, 0o644)
    os.chown(path, 12_345, 23_456)
    add(path, account("bob"))
    found = path.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o640, 12_345, 23_456)


def test_what_stands_beside_accounts_stays(path: Path) -> None:
    path.write_text(f"# ours\n\n{account('ann').line()}\n# theirs\n{account('bob').line()}\n")
    with edit_accounts(str(path)) as accounts:
        del accounts["ann"]
        accounts["cid"] = account("cid")
    assert path.read_text() == f"# ours\n\n# theirs\n{account('bob').line()}\n{account('cid').line()}\n"


def test_a_write_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(path, account("ann"))
    before = path.read_bytes()

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(AccountsUnusable, match="no space left on device"):
        add(path, account("bob"))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ann", "an account has a name and a hash"),
        ("ann password", "that is no hash of scrypt's"),
        ("Ann HASH", "an account's name is written in small letters"),
        ("a/b HASH", "an account's name has 1 to 64 letters"),
        ("ann HASH admin", "after the hash there may only be operator and nicks="),
        ("ann HASH nicks=a:b", "A nickname cannot contain"),
        ("bob HASH", "that account is there already"),
    ],
)
def test_a_line_that_is_none_is_named(line: str, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"^line 3: {reason}") as refusal:
        parse_accounts(["# one", account("bob").line(), line.replace("HASH", str(HASH))])
    assert "password" not in str(refusal.value)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "no such file or directory"),
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: path.write_bytes(b"\xff"), "they are not UTF-8"),
        (lambda path: path.write_text("ann"), "line 1: an account has a name and a hash"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_a_sentence(path: Path, make: object, reason: str) -> None:
    make(path)  # type: ignore[operator]
    with pytest.raises(AccountsUnusable, match=rf"^the accounts cannot be used, {reason}: {path}$"):
        PasswordFile(str(path))


class TestRefresh:
    @pytest.fixture
    def file(self, path: Path) -> PasswordFile:
        add(path, account("ann", "ann"))
        self.changes = 0

        def changed() -> None:
            self.changes += 1

        return PasswordFile(str(path), changed)

    def test_what_has_changed_is_there(self, path: Path, file: PasswordFile) -> None:
        file.refresh()
        assert self.changes == 0
        add(path, account("bob", "bob"))
        file.refresh()
        file.refresh()
        assert self.changes == 1
        assert file.find("bob") is not None
        assert file.reserved_for(parse_nick("BOB")) == "bob"

    def test_what_is_broken_changes_nothing_and_is_said_once(self, path: Path, file: PasswordFile) -> None:
        logged: list[str] = []

        @implementer(ILogObserver)
        def observer(event: LogEvent) -> None:
            logged.append(str(event.get("error")))

        globalLogPublisher.addObserver(observer)
        path.write_text("ann")
        for _ in range(3):
            file.refresh()
        globalLogPublisher.removeObserver(observer)
        assert len(logged) == 1
        assert "line 1" in logged[0]
        assert (file.find("ann"), self.changes) == (account("ann", "ann"), 0)
        add_anew = account("cid")
        path.write_text(f"{add_anew.line()}\n")
        file.refresh()
        assert file.accounts == [add_anew]

    def test_one_that_is_gone_changes_nothing(self, path: Path, file: PasswordFile) -> None:
        path.unlink()
        file.refresh()
        assert file.find("ann") is not None

    def test_what_has_become_of_an_account_is_known(self, path: Path, file: PasswordFile) -> None:
        ann = file.accounts[0]
        assert file.revise(ann) == ann
        add(path, account("ann", is_operator=True))
        file.refresh()
        revised = file.revise(ann)
        assert revised is not None
        assert revised.is_operator
        with edit_accounts(str(path)) as accounts:
            accounts.clear()
        file.refresh()
        assert file.revise(ann) is None
        stranger = Account("ann")
        assert file.revise(stranger) is stranger


class TestNicks:
    def test_those_that_look_alike_are_kept_too(self, path: Path) -> None:
        add(path, account("bill", "Bill"))
        file = PasswordFile(str(path))
        for nick in ("bill", "BILL", "BiII"):
            assert file.reserved_for(parse_nick(nick)) == "bill"
        assert file.reserved_for(parse_nick("will")) is None

    def test_no_two_accounts_have_the_same(self) -> None:
        accounts = {"ann": account("ann", "ann")}
        check_nicks(accounts, account("bob", "bob"))
        check_nicks(accounts, account("ann", "Ann"))
        with pytest.raises(ValueError, match="the nickname ANN is kept for ann"):
            check_nicks(accounts, account("bob", "bob", "ANN"))


class TestUnknown:
    def test_a_password_of_nobody_takes_as_much_work_as_the_dearest(self, path: Path) -> None:
        dear = FileAccount("bob", hash=hash_password("correct horse", log_n=6, r=4))
        add(path, account("ann"), dear)
        found, hash = PasswordFile(str(path)).find_hash("nobody")
        assert found is None
        assert (hash.log_n, hash.r, hash.p, len(hash.hash)) == (6, 4, 1, 32)
        assert not hash.fits("correct horse")

    def test_an_empty_file_is_as_dear_as_a_new_account(self, path: Path) -> None:
        path.touch()
        assert PasswordFile(str(path)).find_hash("nobody")[1].cost == hash_password("x").cost


@pytest.mark.parametrize(
    ("text", "name"),
    [("Ann", "ann"), ("ÄNN", "änn"), ("ﬁn", "fin"), ("GRÖßE", "größe"), ("a.b_c@d+e-f", None)],
)
def test_an_account_has_one_name_however_it_is_written(text: str, name: str | None) -> None:
    assert account_name(text) == (name or text)


@pytest.mark.parametrize("text", ["", "a b", "a:b", "#a", "a,b", "x" * 65, "a\n", "a\u202eb"])
def test_what_cannot_be_a_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="an account's name has"):
        account_name(text)


def test_two_programs_change_it_one_after_the_other(path: Path) -> None:
    with edit_accounts(str(path)) as accounts:
        accounts["ann"] = account("ann")
        with open(f"{path}-lock") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

"""The password file: one account a line, read again when it changes, written as a whole.

A line is `NAME HASH [operator] [nicks=NICK,NICK]`; empty lines and those that begin with `#` are left alone.
"""

from __future__ import annotations

import fcntl
import os
import re
import unicodedata
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from twisted.logger import Logger

from chatproto.accounts.scrypt import Hash, hash_password
from chatproto.rooms.account import Account, IAccount
from chatproto.rooms.names import NameRefused, Nick, Nicknames, parse_nick

__all__ = [
    "AccountsUnusable",
    "FileAccount",
    "PasswordFile",
    "account_name",
    "check_nicks",
    "edit_accounts",
    "new_account",
    "parse_accounts",
]

_log = Logger(namespace="chatproto.accounts")

MAX_NAME_CHARS = 64
MAX_NICK_CHARS = 1_000

_NAME = re.compile(r"[\w.@+-]+")


class AccountsUnusable(Exception):
    """The password file cannot be used, or not be changed as was asked for; the text is one sentence."""


@dataclass(frozen=True, slots=True)
class FileAccount(Account):
    """An account as its line has it."""

    hash: Hash = field(kw_only=True, repr=False)

    def line(self) -> str:
        """The line of the file."""
        return " ".join([self.name, str(self.hash), *self.words()])

    def words(self) -> list[str]:
        """What is written behind the name and the hash."""
        words = ["operator"] if self.is_operator else []
        return [*words, f"nicks={','.join(sorted(self.nicks))}"] if self.nicks else words


def account_name(text: str) -> str:
    """What the account *text* is called, however it is written. Raises ValueError, with one sentence."""
    name = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_CHARS:
        raise ValueError(
            f"an account's name has 1 to {MAX_NAME_CHARS} letters, digits and signs of . _ @ + - in it"
        )
    return name


def parse_accounts(lines: Iterable[str]) -> dict[str, FileAccount]:
    """The accounts that *lines* are. Raises ValueError, with the line's number and one sentence."""
    accounts: dict[str, FileAccount] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if words and not words[0].startswith("#"):
            try:
                account = _parse_account(words)
                if account.name in accounts:
                    raise ValueError("that account is there already")
            except ValueError as error:
                raise ValueError(f"line {number}: {str(error).rstrip('.')}") from None
            accounts[account.name] = account
    return accounts


def _parse_account(words: list[str]) -> FileAccount:
    if len(words) < 2:
        raise ValueError("an account has a name and a hash")
    name, written, *rest = words
    if account_name(name) != name:
        raise ValueError("an account's name is written in small letters")
    is_operator, nicks = False, frozenset[str]()
    for word in rest:
        if word == "operator":
            is_operator = True
        elif word.startswith("nicks="):
            nicks = frozenset(parse_nick(nick, MAX_NICK_CHARS).text for nick in word[6:].split(","))
        else:
            raise ValueError("after the hash there may only be operator and nicks=")
    return FileAccount(name, nicks, is_operator, hash=Hash.parse(written))


class PasswordFile:
    """The accounts in the file at *path*. Raises `AccountsUnusable` for one that cannot be read.

    `refresh` reads it again if it has changed, and *changed* is called then; a file that became unreadable
    changes nothing, and is complained about once.
    """

    def __init__(self, path: str, changed: Callable[[], None] = lambda: None) -> None:
        self.path = os.path.abspath(path)
        self.changed = changed
        self._stamp: tuple[int, int, int, int] | None = None
        self._accounts: dict[str, FileAccount] = {}
        self._nicks: Nicknames[str] = Nicknames()
        self._nobody: Hash
        self._read()

    def refresh(self) -> None:
        """Take in what has changed."""
        stamp = _stamp(self.path)
        if stamp == self._stamp:
            return
        try:
            self._read()
        except AccountsUnusable as error:
            self._stamp = stamp
            _log.error("{error}; the accounts stay as they were", error=error)
        else:
            _log.info("{n} accounts are read from {path}", n=len(self._accounts), path=self.path)
            self.changed()

    @property
    def accounts(self) -> list[FileAccount]:
        """All of them, in the order of the file."""
        return list(self._accounts.values())

    def find(self, name: str) -> FileAccount | None:
        """The account of that name, however it is written."""
        try:
            return self._accounts.get(account_name(name))
        except ValueError:
            return None

    def find_hash(self, name: str) -> tuple[FileAccount | None, Hash]:
        """An account and its hash; for an unknown one a hash that no password fits, which takes as long."""
        account = self.find(name)
        return (account, account.hash) if account is not None else (None, self._nobody)

    def reserved_for(self, nick: Nick) -> str | None:
        """The account for which a nickname, or one that it looks like, is kept: `reserved` of `Hub`."""
        return self._nicks.in_the_way(nick)

    def revise(self, account: IAccount) -> IAccount | None:
        """What has become of *account*, for `Hub.revise_accounts`; what is none of this file's stays."""
        return self._accounts.get(account.name) if isinstance(account, FileAccount) else account

    def _read(self) -> None:
        stamp = _stamp(self.path)
        accounts = _load(self.path)
        nicks: Nicknames[str] = Nicknames(MAX_NICK_CHARS)
        for account in accounts.values():
            for nick in account.nicks:
                nicks.claim(parse_nick(nick, MAX_NICK_CHARS), account.name)
        dearest = max(
            (account.hash for account in accounts.values()), key=lambda hash: hash.cost, default=None
        )
        self._nobody = _hash_of_nobody(dearest)
        self._stamp, self._accounts, self._nicks = stamp, accounts, nicks


def _hash_of_nobody(like: Hash | None) -> Hash:
    salt, no_hash = os.urandom(16), os.urandom(32)
    return Hash(like.log_n, like.r, like.p, salt, no_hash) if like else Hash(15, 8, 1, salt, no_hash)


def _load(path: str) -> dict[str, FileAccount]:
    try:
        with open(path, encoding="utf-8") as file:
            return parse_accounts(file)
    except UnicodeDecodeError:
        raise AccountsUnusable(f"the accounts cannot be used, they are not UTF-8: {path}") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise AccountsUnusable(f"the accounts cannot be used, {reason}: {path}") from None
    except ValueError as error:
        raise AccountsUnusable(f"the accounts cannot be used, {error}: {path}") from None


def _stamp(path: str) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


# --- changing it --------------------------------------------------------------------------------------------


@contextmanager
def edit_accounts(path: str) -> Generator[dict[str, FileAccount]]:
    """The accounts in the file at *path*, which need not be there; what they are at the end is written.

    One program after the other. Raises `AccountsUnusable`.
    """
    path = os.path.abspath(path)
    try:
        lock = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise AccountsUnusable(f"the accounts cannot be changed, {reason}: {path}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        accounts = _load(path) if os.path.exists(path) else {}
        yield accounts
        try:
            _write(path, accounts)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise AccountsUnusable(f"the accounts cannot be changed, {reason}: {path}") from None
    finally:
        os.close(lock)


def check_nicks(accounts: dict[str, FileAccount], account: FileAccount) -> None:
    """Refuse nicknames that are kept for another account, or look like one. Raises ValueError."""
    for other in accounts.values():
        if other.name == account.name:
            continue
        held: Nicknames[str] = Nicknames(MAX_NICK_CHARS)
        for nick in other.nicks:
            held.claim(parse_nick(nick, MAX_NICK_CHARS), other.name)
        for nick in account.nicks:
            if held.in_the_way(parse_nick(nick, MAX_NICK_CHARS)) is not None:
                raise ValueError(f"the nickname {nick} is kept for {other.name}, or looks like one that is")


def new_account(name: str, password: str, nicks: Iterable[str], is_operator: bool) -> FileAccount:
    """An account, with its own name as nickname unless others are given. Raises ValueError."""
    name = account_name(name)
    wanted = [parse_nick(nick).text for nick in nicks]
    if not wanted:
        with suppress(NameRefused):
            wanted = [parse_nick(name).text]
    return FileAccount(name, frozenset(wanted), is_operator, hash=hash_password(password))


def _write(path: str, accounts: dict[str, FileAccount]) -> None:
    """Replace the file; what is written in it beside accounts stays where it is."""
    left = dict(accounts)
    lines: list[str] = []
    before: os.stat_result | None = None
    with suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
        before = os.fstat(file.fileno())
        for line in file:
            name = line.split()[0] if line.strip() else "#"
            if name.startswith("#"):
                lines.append(line.rstrip("\n"))
            elif name in left:
                lines.append(left.pop(name).line())
    lines += [account.line() for account in left.values()]
    new_path = f"{path}-new"
    with suppress(FileNotFoundError):
        os.unlink(new_path)
    with open(os.open(new_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as new:
        new.writelines(f"{line}\n" for line in lines)
        new.flush()
        if before is not None:
            # Whoever the server runs as can still read it.
            with suppress(PermissionError):
                os.fchown(new.fileno(), before.st_uid, before.st_gid)
            os.fchmod(new.fileno(), before.st_mode & 0o640)
        os.fsync(new.fileno())
    os.replace(new_path, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

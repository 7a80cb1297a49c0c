"""Accounts by `twisted.cred`: any portal lets people into the chat, and the password file is behind one."""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import LoginDenied, LoginFailed
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from chatproto.accounts.passwordfile import PasswordFile
from chatproto.accounts.threads import PasswordThreads
from chatproto.rooms.account import Admitted, IAccount

__all__ = ["FileRealm", "PasswordChecker", "PortalLogin"]


class PortalLogin:
    """`authenticate` of a `Hub` by a portal, whose realm has to give an `IAccount`.

    Its checkers get `IUsernamePassword`, both in bytes of UTF-8. The logout that the realm gives is called
    when the session has ended.
    """

    def __init__(self, portal: Portal) -> None:
        self.portal = portal

    def __call__(self, user: str, secret: str) -> Deferred[Admitted | None]:
        """Ask the portal."""
        credentials = UsernamePassword(user.encode(), secret.encode())
        answer: Deferred[Any] = self.portal.login(credentials, None, IAccount)
        return answer.addCallbacks(_admitted, _refused)


def _admitted(found: tuple[type[Interface], IAccount, Any]) -> Admitted:
    _, account, logout = found
    return Admitted(account, logout)


def _refused(failure: Failure) -> None:
    failure.trap(LoginFailed, LoginDenied)


@implementer(ICredentialsChecker)
class PasswordChecker:
    """Checks passwords against *file*, in *threads*. One of an account that is not there takes as long."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, file: PasswordFile, threads: PasswordThreads) -> None:
        self._file = file
        self._threads = threads

    def requestAvatarId(self, credentials: UsernamePassword) -> Deferred[bytes | tuple[()]]:
        """The account's name (ICredentialsChecker)."""
        try:
            self._file.refresh()
            user, secret = credentials.username.decode(), credentials.password.decode()
            account, hash = self._file.find_hash(user)
            checked = self._threads.run(lambda: hash.fits(secret))
        except Exception:
            return fail(Failure())
        name = account.name if account is not None else None
        return checked.addCallback(_name_if_right, name)


def _name_if_right(is_right: bool, name: str | None) -> bytes | tuple[()]:
    if not is_right or name is None:
        raise LoginFailed
    return name.encode()


@implementer(IRealm)
class FileRealm:
    """The accounts of *file*, for a portal."""

    def __init__(self, file: PasswordFile) -> None:
        self._file = file

    def requestAvatar(
        self, avatarId: bytes | tuple[()], mind: object, *interfaces: type[Interface]
    ) -> tuple[type[Interface], IAccount, Any]:
        """The account of that name (IRealm)."""
        if IAccount not in interfaces:
            raise NotImplementedError("there are only accounts of the chat here")
        account = self._file.find(avatarId.decode()) if isinstance(avatarId, bytes) else None
        if account is None:
            raise LoginFailed  # it was removed while the password was checked
        return IAccount, account, _nothing


def _nothing() -> None:
    """Nobody keeps track of who is logged in."""

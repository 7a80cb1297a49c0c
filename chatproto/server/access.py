"""Who may talk, who may moderate, and where that is kept: what the settings say, and what is open by them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chatproto.accounts.cred import FileRealm, PasswordChecker, PortalLogin
from chatproto.accounts.passwordfile import AccountsUnusable, PasswordFile
from chatproto.accounts.several import first_of
from chatproto.accounts.threads import PasswordThreads
from chatproto.accounts.tokens import Tokens, TokensUnusable
from chatproto.limits import Limits
from chatproto.rooms.account import Authenticate
from chatproto.rooms.hub import Hub
from chatproto.rooms.ledger import Ledger, LedgerUnusable

__all__ = ["REFRESH_S", "Access", "AccessSettings", "AccessUnusable"]

_log = Logger(namespace="chatproto")

REFRESH_S = 2.0
"""How often one looks whether the password file has changed."""


class AccessUnusable(Exception):
    """Something of it cannot be opened; the text is one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """Paths are empty for what there is not to be. *operators* are accounts, beside those of the file."""

    accounts: str = ""
    login_required: bool = False
    operators: tuple[str, ...] = ()
    token_key: str = ""
    token_audience: str = "chatproto"
    rules: str = ""
    audit_log: str = ""


class Access:
    """What is open by *settings*. Raises `AccessUnusable`, and then nothing is open."""

    def __init__(self, settings: AccessSettings, limits: Limits, reactor: Any) -> None:
        self._settings = settings
        self._file: PasswordFile | None = None
        self._threads = PasswordThreads(reactor, limits.password_threads, limits.max_waiting_logins)
        ways: list[Authenticate] = []
        try:
            if settings.token_key:
                ways.append(Tokens(settings.token_key, settings.token_audience))
            if settings.accounts:
                self._file = PasswordFile(settings.accounts)
                portal = Portal(FileRealm(self._file), [PasswordChecker(self._file, self._threads)])
                ways.append(PortalLogin(portal))
            self._ledger = Ledger(reactor, settings.rules or None, settings.audit_log or None)
        except (AccountsUnusable, TokensUnusable, LedgerUnusable) as error:
            raise AccessUnusable(str(error)) from None
        self._authenticate: Authenticate | None = first_of(*ways) if ways else None

    def hub_options(self) -> dict[str, Any]:
        """What a `Hub` is to be made with."""
        return {
            "authenticate": self._authenticate,
            "login_required": self._settings.login_required,
            "operators": self._settings.operators,
            "reserved": None if self._file is None else self._file.reserved_for,
            "ledger": self._ledger,
        }

    def opened(self, hub: Hub) -> None:
        """*hub* is made: it hears of changed accounts, and the log has who may talk."""
        if self._file is not None:
            revise = self._file.revise
            self._file.changed = lambda: hub.revise_accounts(revise)
            _log.info("{n} accounts are in {path}", n=len(self._file.accounts), path=self._file.path)
        who = "only people with an account" if self._settings.login_required else "people without an account"
        _log.info("{who} may talk; {n} bans and mutes are in force", who=who, n=len(self._ledger.rules))

    def refresh(self) -> None:
        """Take in what has changed of the accounts."""
        if self._file is not None:
            self._file.refresh()

    def close(self) -> Deferred[None]:
        """Fires when everything is written that is to be kept."""
        self._threads.close()
        return self._ledger.close()

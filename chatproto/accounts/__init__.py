"""Accounts: a password file, signed tokens, or any portal of `twisted.cred`; see `chatproto.Hub`."""

from chatproto.accounts.cred import FileRealm, PasswordChecker, PortalLogin
from chatproto.accounts.passwordfile import AccountsUnusable, FileAccount, PasswordFile
from chatproto.accounts.several import first_of
from chatproto.accounts.threads import PasswordThreads
from chatproto.accounts.tokens import Tokens, TokensUnusable
from chatproto.rooms.account import Account, Admitted, IAccount, TryLater

__all__ = [
    "Account",
    "AccountsUnusable",
    "Admitted",
    "FileAccount",
    "FileRealm",
    "IAccount",
    "PasswordChecker",
    "PasswordFile",
    "PasswordThreads",
    "PortalLogin",
    "Tokens",
    "TokensUnusable",
    "TryLater",
    "first_of",
]

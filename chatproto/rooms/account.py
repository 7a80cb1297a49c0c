"""What the hub knows of accounts: who somebody is, once whoever knows that has said so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface, implementer

__all__ = ["Account", "Admission", "Admitted", "Authenticate", "IAccount", "TryLater"]


class IAccount(Interface):
    """Someone who is known: the avatar that a portal of `twisted.cred` has to give."""

    name: str = Attribute("What the account is called: it is never shown to other people.")
    nicks: frozenset[str] = Attribute("The nicknames that nobody else may take.")
    is_operator: bool = Attribute("Whether they may moderate.")


@implementer(IAccount)
@dataclass(frozen=True, slots=True)
class Account:
    """The plain `IAccount`."""

    name: str
    nicks: frozenset[str] = frozenset()
    is_operator: bool = False


@dataclass(frozen=True, slots=True)
class Admitted:
    """An account that was logged in, and what is to be called when the session is over."""

    account: IAccount
    logout: Callable[[], object]


class TryLater(Exception):
    """It cannot be said at the moment whether a secret is right; the text is one sentence for people."""


Admission = bool | IAccount | Admitted | None
"""What comes of a login: who it is. True is the account of that name, False and None nobody."""

Authenticate = Callable[[str, str], "Admission | Deferred[Any]"]
"""Who a user with a secret is, an `Admission`. May raise `TryLater`, or fail with it.

A Deferred is cancelled when the one who waits for it is gone.
"""

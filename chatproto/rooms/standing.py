"""Who somebody is to the server, and what they may do by that."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chatproto.rooms.account import IAccount
from chatproto.rooms.addresses import parse_address
from chatproto.rooms.moderation import EVERYWHERE, Action, Rule, Who
from chatproto.rooms.names import Nick

if TYPE_CHECKING:
    from chatproto.rooms.hub import Hub

__all__ = ["Standing"]

_log = Logger(namespace="chatproto.rooms.standing")


class Standing:
    """Of one session: its account, once somebody has logged in, and its address, which is empty for none.

    `pending` is the answer that a login waits for, `failures` how many were wrong.
    """

    __slots__ = ("_hub", "_identity", "_logout", "account", "address", "failures", "pending")

    def __init__(self, hub: Hub, address: str) -> None:
        self._hub = hub
        self.address = address
        self.account: str | None = None
        self.pending: Deferred[Any] | None = None
        self.failures = 0
        self._identity: IAccount | None = None
        self._logout: Callable[[], object] | None = None

    @property
    def is_operator(self) -> bool:
        """Whether they may moderate."""
        is_named = self.account in self._hub.operators
        return is_named or (self._identity is not None and self._identity.is_operator)

    def log_in(self, account: IAccount, logout: Callable[[], object] | None) -> None:
        """From now on they are known; *logout* is called when that ends."""
        self._log_out()
        self.account, self._identity, self._logout = account.name, account, logout
        self._hub.reservations.learn(account)

    def revise(self, revise: Callable[[IAccount], IAccount | None]) -> bool:
        """What is known of accounts has changed: theirs is what *revise* makes of it; False if it is gone."""
        if self._identity is None:
            return True
        identity = revise(self._identity)
        if identity is not None:
            self._identity = identity
        return identity is not None

    def end(self) -> None:
        """The session is over: nobody waits for a login any more, and who was logged in is out."""
        if self.pending is not None:
            self.pending.cancel()
        self._log_out()

    def _log_out(self) -> None:
        logout, self._logout = self._logout, None
        if logout is not None:
            try:
                logout()
            except Exception:
                _log.failure("someone could not be logged out")

    def restriction(self, action: Action, room: str, nick: Nick | None) -> Rule | None:
        """The ban or mute that keeps them, as *nick*, from entering *room* or from speaking there."""
        moderation = self._hub.moderation
        if not moderation.has_any(action):
            return None
        account = None if self.account is None else self.account.casefold()
        who = Who(nick.key if nick else "", account, parse_address(self.address), self.is_operator)
        return moderation.find(action, room, who) or moderation.find(action, EVERYWHERE, who)

"""Which nicknames are kept for whom."""

from __future__ import annotations

from collections.abc import Callable

from chatproto.rooms.account import IAccount
from chatproto.rooms.names import NameRefused, Nick, Nicknames, parse_nick

__all__ = ["Reservations", "Reserved"]

MOST_LEARNED = 100_000

Reserved = Callable[[Nick], "str | None"]
"""For which account a nickname is kept, or one that it looks like."""


class Reservations:
    """Nicknames that only their accounts may take: those of *listed*, and those of accounts that were here.

    Whoever says who somebody is need not know everybody, as with tokens. What such an account has is learned
    when it logs in, and known as long as the server runs.
    """

    def __init__(self, listed: Reserved | None, max_nick_chars: int) -> None:
        self._listed = listed
        self._max_nick_chars = max_nick_chars
        self._learned: Nicknames[str] = Nicknames(max_nick_chars)

    def account_of(self, nick: Nick) -> str | None:
        """The account for which *nick* is kept, None if anybody may have it."""
        account = self._listed(nick) if self._listed is not None else None
        return account if account is not None else self._learned.in_the_way(nick)

    def learn(self, account: IAccount) -> None:
        """*account* was logged in: nobody else takes its nicknames from now on."""
        for text in account.nicks:
            try:
                nick = parse_nick(text, self._max_nick_chars)
            except NameRefused:
                continue  # nobody could take it
            if len(self._learned) < MOST_LEARNED and self.account_of(nick) is None:
                self._learned.claim(nick, account.name)

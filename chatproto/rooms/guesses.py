"""Slowing down who guesses secrets: by account, and by address, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from chatproto.rooms.addresses import household

__all__ = ["Attempt", "Guesses"]

MOST_KEYS = 65_536
"""Accounts and addresses whose attempts are remembered; past it the one seen longest ago is forgotten."""

MOST_USER_CHARS = 256

_Key = tuple[str, str]
"""A user, and an address: either may be empty, for any."""


class Attempt:
    """One attempt to log in, which may be made in `wait_s` seconds."""

    __slots__ = ("_guesses", "_keys", "_pair", "wait_s")

    def __init__(self, guesses: Guesses, pair: _Key, keys: list[_Key], wait_s: float) -> None:
        self._guesses = guesses
        self._pair = pair
        self._keys = keys
        self.wait_s = wait_s

    def succeeded(self) -> None:
        """It was no guess: it does not count, and others' guesses do not hold them up there any more."""
        self.withdraw()
        self._guesses.know(self._pair)

    def withdraw(self) -> None:
        """It was not made after all, and does not count."""
        for key in self._keys:
            self._guesses.give_back(key)


class Guesses:
    """Who tried how often. *burst* attempts are free, then there is one each *interval_s*; one may wait.

    What counts is the account, whoever tries, and the address, whatever account it tries. Who was logged in
    from their address before is counted apart from both, so that nobody can lock them out by guessing.
    An attempt counts from when it is made and not from when it has failed, or many at once would be free.
    """

    def __init__(self, burst: int, interval_s: float, now_s: Callable[[], float]) -> None:
        self._interval_s = interval_s
        self._slack_s = burst * interval_s
        self._now_s = now_s
        # When, had all attempts come evenly, the next would be due; what lies in the past counts for nothing.
        self._due_s: OrderedDict[_Key, float] = OrderedDict()
        self._known: OrderedDict[_Key, None] = OrderedDict()

    def attempt(self, user: str, address: str) -> Attempt | float:
        """Count an attempt; where that would have to wait for too long, do not, and say in how many seconds.

        *user* may be empty, for a secret that says by itself whose it is; *address* too, if there is none.
        """
        pair = user[:MOST_USER_CHARS].casefold(), household(address)
        keys = self._keys(pair)
        now_s = self._now_s()
        due_s = [max(self._due_s.get(key, 0.0), now_s) + self._interval_s for key in keys]
        wait_s = max((due - self._slack_s - now_s for due in due_s), default=0.0)
        if wait_s > self._interval_s:
            return wait_s - self._interval_s
        for key, due in zip(keys, due_s, strict=True):
            self._note(key, due)
        return Attempt(self, pair, keys, max(0.0, wait_s))

    def _keys(self, pair: _Key) -> list[_Key]:
        if pair in self._known:
            self._known.move_to_end(pair)
            return [pair]
        return [key for key in ((pair[0], ""), ("", pair[1])) if any(key)]

    def _note(self, key: _Key, due_s: float) -> None:
        self._due_s[key] = due_s
        self._due_s.move_to_end(key)
        if len(self._due_s) > MOST_KEYS:
            self._due_s.popitem(last=False)

    def give_back(self, key: _Key) -> None:
        """An attempt does not count after all."""
        due_s = self._due_s.get(key)
        if due_s is not None:
            self._due_s[key] = due_s - self._interval_s
            if due_s - self._interval_s <= self._now_s():
                del self._due_s[key]

    def know(self, pair: _Key) -> None:
        """That user was rightly logged in from that address."""
        if all(pair):
            self._known[pair] = None
            self._known.move_to_end(pair)
            if len(self._known) > MOST_KEYS:
                self._known.popitem(last=False)

"""Several ways to log in, one after the other."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred

from chatproto.rooms.account import Admission, Authenticate

__all__ = ["first_of"]


def first_of(*ways: Authenticate) -> Authenticate:
    """`authenticate` of a `Hub` that tries *ways* in order, until one says who it is."""

    @inlineCallbacks
    def authenticate(user: str, secret: str) -> Generator[Deferred[Any], Any, Admission]:
        for way in ways:
            outcome: Admission = yield maybeDeferred(way, user, secret)
            if outcome:
                return outcome
        return None

    return authenticate

"""Logging in: who waits for how long, who is asked, and what comes of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatproto.rooms.account import Account, Admission, Admitted, IAccount, TryLater
from chatproto.rooms.guesses import Attempt
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Login, Notice

if TYPE_CHECKING:
    from chatproto.rooms.session import Session

__all__ = ["log_in"]

_log = Logger(namespace="chatproto.rooms.logins")

MAX_LOGIN_FAILURES = 3


def log_in(session: Session, message: Login) -> None:
    """Answer `login`, now or later; until then the session takes up nothing else."""
    hub = session.hub
    if hub.authenticate is None:
        return session.refuse(ErrorCode.NOT_SUPPORTED, "this server has no accounts; join without login")
    if session.name is not None:
        return session.refuse(ErrorCode.NOT_ALLOWED, "log in before you join")
    if session.is_barred():
        return None
    attempt = hub.guesses.attempt(message.user, session.address)
    if not isinstance(attempt, Attempt):
        hub.record.limited("login_burst")
        return session.refuse(
            ErrorCode.RATE_LIMITED, f"too many logins were tried; try again in {math.ceil(attempt)} s"
        )
    if attempt.wait_s:
        waiting = deferLater(hub.clock, attempt.wait_s, hub.authenticate, message.user, message.secret)
        return _wait(session, message.user, attempt, waiting)
    try:
        answer = hub.authenticate(message.user, message.secret)
    except Exception:
        return _answered(session, message.user, attempt, Failure())
    if isinstance(answer, Deferred):
        return _wait(session, message.user, attempt, answer)
    return _answered(session, message.user, attempt, answer)


def _wait(session: Session, user: str, attempt: Attempt, answer: Deferred[Any]) -> None:
    session.requests.hold()
    session.standing.pending = answer
    answer.addBoth(partial(_was_waited_for, session, user, attempt)).addErrback(session.give_up)


def _was_waited_for(session: Session, user: str, attempt: Attempt, outcome: Admission | Failure) -> None:
    session.standing.pending = None
    session.requests.release()
    if session.ended:
        _let_go(outcome)
    else:
        _answered(session, user, attempt, outcome)
        session.requests.go_on()


def _let_go(outcome: Admission | Failure) -> None:
    """Nobody is there any more who could be logged in."""
    if isinstance(outcome, Admitted):
        outcome.logout()


def _answered(session: Session, user: str, attempt: Attempt, outcome: Admission | Failure) -> None:
    # The time that the answer took is not the person's.
    session.wait_for_join_again()
    if isinstance(outcome, Failure):
        later = outcome.check(TryLater)
        if later is not None:
            attempt.withdraw()
            return session.refuse(ErrorCode.RATE_LIMITED, outcome.getErrorMessage())
        _log.failure("a login could not be checked", outcome)
        outcome = None
    account: IAccount | None
    logout: Callable[[], object] | None = None
    if isinstance(outcome, Admitted):
        account, logout = outcome.account, outcome.logout
    else:
        account = _account_of(user, outcome)
    if account is not None and account.name:
        attempt.succeeded()
        session.standing.log_in(account, logout)
        if not session.is_barred():
            session.outlet.send(Notice("you are logged in"))
        return None
    session.standing.failures += 1
    if session.standing.failures >= MAX_LOGIN_FAILURES:
        return session.fail(ErrorCode.LOGIN_FAILED, "wrong user or secret, too often", "error")
    return session.refuse(ErrorCode.LOGIN_FAILED, "wrong user or secret")


def _account_of(user: str, outcome: bool | IAccount | None) -> IAccount | None:
    if isinstance(outcome, bool) or outcome is None:
        return Account(user) if outcome else None
    return outcome

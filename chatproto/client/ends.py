"""How a run of the program ends, and what its exit code says."""

from __future__ import annotations

import enum
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectError, DNSLookupError

from chatproto.client.outcomes import CannotConnect, Disconnected, Refused
from chatproto.wire.errors import ErrorCode

__all__ = ["Ended", "ExitCode", "end_of", "on_signals"]


class ExitCode(enum.IntEnum):
    """What the program ends with; 128 and its number for a signal (130: Ctrl-C)."""

    DONE = 0
    NOT_ALL_DONE = 1
    """Something that was asked for came to nothing."""
    WRONG_COMMAND_LINE = 2
    NO_CONNECTION = 3
    REFUSED = 4
    """The server does not let one in, or not in again."""


class Ended(Exception):
    """The program is to end with *code*; `str()` is a sentence for people, or nothing."""

    def __init__(self, code: int, sentence: str = "") -> None:
        super().__init__(sentence)
        self.code = code


def end_of(error: BaseException, place: str) -> Ended:
    """How a program ends that did not get into the chat at *place*. What is no fault of others is raised."""
    match error:
        case Ended():
            return error
        case CancelledError():
            return Ended(ExitCode.DONE)
        case CannotConnect() | ConnectError() | DNSLookupError():
            return Ended(ExitCode.NO_CONNECTION, f"no connection to {place}: {_phrase(error)}")
        case Refused():
            how = "; --user NAME does" if error.code == ErrorCode.LOGIN_REQUIRED else ""
            return Ended(ExitCode.REFUSED, f"refused by {place}: {error.text}{how}")
        case Disconnected():
            return Ended(ExitCode.NO_CONNECTION, str(error))
        case ValueError():
            return Ended(ExitCode.NOT_ALL_DONE, str(error))
    raise error


def _phrase(error: BaseException) -> str:
    if isinstance(error, DNSLookupError):
        return "there is no host of that name"
    return str(error).rstrip(".")


def on_signals(reactor: Any, end: Callable[[int], object]) -> Callable[[], None]:
    """Have *end* called with the exit code when a signal asks the program to end; returns what undoes that.

    The reactor's own answer to these would say nothing about the signal in the exit code.
    """
    before: dict[signal.Signals, Any] = {}

    def caught(number: int, frame: object) -> None:
        reactor.callFromThread(end, 128 + number)

    def install() -> None:
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(name) is not signal.SIG_IGN:
                before[name] = signal.signal(name, caught)

    def restore() -> None:
        for name, was in before.items():
            with suppress(TypeError, ValueError):
                signal.signal(name, was)

    reactor.callWhenRunning(install)  # after the reactor has put in its own
    return restore

"""A second SIGTERM or SIGINT, which says that there is no time to end in peace."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.logger import Logger

__all__ = ["SecondSignal"]

_log = Logger(namespace="chatproto")

_HANDLERS = {signal.SIGTERM: "sigTerm", signal.SIGINT: "sigInt"}


class SecondSignal:
    """While the server ends, calls *hurry* in the reactor's thread for the next signal, once.

    The one after that kills the process, whatever it is at. Twisted's own handlers would log an error for
    each, as the reactor is told to stop again. Where others handle signals, those go on.
    """

    def __init__(self, reactor: Any, hurry: Callable[[], None]) -> None:
        self._reactor = reactor
        self._hurry = hurry

    def start(self) -> None:
        """The first has come, or whatever else made the server end."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number, name in _HANDLERS.items():
            twisted = getattr(self._reactor, name, None)
            if twisted is not None and signal.getsignal(number) == twisted:
                signal.signal(number, self._signalled)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        for each in _HANDLERS:
            if signal.getsignal(each) == self._signalled:
                signal.signal(each, signal.SIG_DFL)
        self._reactor.callFromThread(self._decide)

    def _decide(self) -> None:
        _log.info("told to end once more: at once, then")
        self._hurry()

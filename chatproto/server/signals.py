"""SIGHUP, which asks a server to read its file again, and is also how a terminal says that it is gone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.logger import Logger

__all__ = ["Hangup"]

_log = Logger(namespace="chatproto")


class Hangup:
    """Calls *reload* in the reactor's thread for each SIGHUP, but *end* when that tells of a lost terminal.

    A signal may come in the middle of anything, so nothing is done where it comes.
    """

    def __init__(self, reactor: Any, reload: Callable[[], None], end: Callable[[], None]) -> None:
        self._reactor = reactor
        self._reload = reload
        self._end = end
        self._before: Any = None
        self._had_terminal = False

    def start(self) -> None:
        """From now on; only the main thread can have signals."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._had_terminal = _has_terminal()
        self._before = signal.signal(signal.SIGHUP, self._signalled)

    def stop(self) -> None:
        """As it was before."""
        if self._before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGHUP, self._before)
            self._before = None

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._decide)

    def _decide(self) -> None:
        if self._had_terminal and not _has_terminal():
            # `twistd -n chat` in a window that was closed would go on without anybody knowing.
            _log.info("the terminal is gone, and the server with it; as a daemon it stays")
            self._end()
        else:
            self._reload()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True

"""A line of the log for what happens to each connection, by its id. What is said never gets here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.logger import Logger, LogLevel

from chatproto.net.face import Face
from chatproto.rooms.session import Session
from chatproto.wire.errors import ErrorCode

__all__ = ["NAMESPACE", "Allowance", "EventLog"]

NAMESPACE = "chatproto.people"
"""What the log knows these events by."""

_log = Logger(namespace=NAMESPACE)

BURST = 30
"""Lines that one connection may cause one after the other..."""

INTERVAL_S = 1.0
"""...and the time after which it may cause one more."""

_LEVELS = {f"refused {code.label}": LogLevel.warn for code in ErrorCode if code.fatal}


class Allowance:
    """So many at once, and one more after each *interval_s*. Times are seconds of one clock."""

    __slots__ = ("_burst", "_interval_s", "_left", "_since_s", "n_refused")

    def __init__(self, burst: int, interval_s: float) -> None:
        self._burst = burst
        self._interval_s = interval_s
        self._left = float(burst)
        self._since_s = 0.0
        self.n_refused = 0

    def take(self, now_s: float) -> bool:
        """Whether there is one left, which is then used; else it is counted in `n_refused`."""
        self._left = min(self._burst, self._left + max(0.0, now_s - self._since_s) / self._interval_s)
        self._since_s = now_s
        if self._left < 1:
            self.n_refused += 1
            return False
        self._left -= 1
        return True


@dataclass(slots=True)
class _Connection:
    address: str
    face: str
    begun_s: float
    allowance: Allowance = field(default_factory=lambda: Allowance(BURST, INTERVAL_S))


class EventLog:
    """A `Witness` that logs. Who causes very many lines has some of them only counted, in their last one.

    *monotonic* gives seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._connections: dict[int, _Connection] = {}

    def __call__(self, event: str, session: Session, **details: str) -> None:
        """Log that *event* happened."""
        now_s = self._monotonic()
        connection = self._connections.get(session.id)
        if connection is None:
            face = session.outlet.kind if isinstance(session.outlet, Face) else ""
            connection = _Connection(session.address or "unix", face, now_s)
            if not session.ended:
                self._connections[session.id] = connection
        known: dict[str, object] = {
            "event": event,
            "connection": session.id,
            "address": connection.address,
            "face": connection.face,
        }
        if session.name is not None:
            known["nick"] = session.nick_text
        if event == "ended":
            self._connections.pop(session.id, None)
            known["seconds"] = round(now_s - connection.begun_s, 3)
            if connection.allowance.n_refused:
                known["unlogged"] = connection.allowance.n_refused
        elif not connection.allowance.take(now_s):
            return
        level = _LEVELS.get(f"{event} {details.get('error')}", LogLevel.info)
        _log.emit(level, "connection {connection} {event}", **known, **details)

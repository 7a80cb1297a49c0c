"""Where the log goes and what its lines look like: twistd's own, or a JSON object each (`--log-format json`).

A log can be filled by whoever makes the server complain. So both are bounded: in lines for each complaint and
for all, and in the files that are kept.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import IO, Any, cast

from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    formatEvent,
    textFileLogObserver,
)
from twisted.python import usage
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile
from zope.interface import implementer

from chatproto.server.eventlog import NAMESPACE, Allowance

__all__ = ["JSON", "TEXT", "BoundedObserver", "json_line", "json_observer", "log_with", "twistd_observer"]

TEXT = "text"
JSON = "json"

FILE_BYTES = 10 * 1024 * 1024
OLD_FILES = 10
"""The file that is written to is put aside when it is so long, and so many are kept beside it."""

COMPLAINTS = 20
COMPLAINT_INTERVAL_S = 10.0
"""Warnings and errors with the same words: so many at once, then one in that time."""

LINES = 2_000
LINE_INTERVAL_S = 0.01
"""Lines of all kinds: so many at once, then a hundred a second."""

MOST_KINDS = 1_000
"""Of complaints told apart; their words stand in programs, so there are not many."""

TEXT_CHARS = 2_000
TRACEBACK_CHARS = 16_000
"""Where what is logged is cut off."""

_KEYS = (
    *("connection", "address", "face", "nick", "old", "room", "error", "reason", "action", "target"),
    *("seconds", "unlogged"),
)
"""What a line may have beside time, level and event, in this order."""


def json_line(event: LogEvent) -> str:
    """*event* as one line: a JSON object in ASCII, whatever is in it."""
    level = event.get("log_level") or LogLevel.info
    when = datetime.fromtimestamp(event.get("log_time", 0.0), UTC)
    line: dict[str, object] = {
        "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": level.name,
    }
    is_of_people = event.get("log_namespace") == NAMESPACE
    line["event"] = event["event"] if is_of_people else "log"
    line.update((key, event[key]) for key in _KEYS if isinstance(event.get(key), str | int | float))
    if not is_of_people:
        line["source"] = str(event.get("log_namespace", ""))
        line["text"] = _cut(formatEvent(event) or "", TEXT_CHARS)
        failure = event.get("log_failure")
        if isinstance(failure, Failure):
            line["text"] = line["text"] or _cut(failure.getErrorMessage(), TEXT_CHARS)
            line["traceback"] = _cut(failure.getTraceback(), TRACEBACK_CHARS)
    return json.dumps(line) + "\n"


def _cut(text: str, most_chars: int) -> str:
    return text if len(text) <= most_chars else f"{text[:most_chars]}..."


def json_observer(out: IO[Any]) -> ILogObserver:
    """Writes `json_line` to *out*, within bounds. For `twist`, and for applications."""
    return BoundedObserver(FileLogObserver(out, json_line))


@implementer(ILogObserver)
class BoundedObserver:
    """Passes to *observer* what is not too much, and says how much was. *monotonic* gives seconds."""

    def __init__(self, observer: ILogObserver, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._observer = observer
        self._monotonic = monotonic
        self._lines = Allowance(LINES, LINE_INTERVAL_S)
        self._complaints: dict[tuple[object, object], Allowance] = {}
        self._unlogged = 0

    def __call__(self, event: LogEvent) -> None:
        """Pass on *event*, unless there were too many (ILogObserver)."""
        now_s = self._monotonic()
        if not (self._may_complain(event, now_s) and self._lines.take(now_s)):
            self._unlogged += 1
            return
        unlogged, self._unlogged = self._unlogged, 0
        if unlogged:
            self._observer(_note(unlogged, event))
        self._observer(event)

    def _may_complain(self, event: LogEvent, now_s: float) -> bool:
        level = event.get("log_level")
        if level is None or level < LogLevel.warn or event.get("log_namespace") == NAMESPACE:
            return True
        words = event.get("log_namespace"), event.get("log_format")
        known = self._complaints.get(words)
        if known is None:
            if len(self._complaints) >= MOST_KINDS:
                self._complaints.clear()
            known = self._complaints[words] = Allowance(COMPLAINTS, COMPLAINT_INTERVAL_S)
        return known.take(now_s)


def _note(unlogged: int, event: LogEvent) -> LogEvent:
    return {
        "log_level": LogLevel.warn,
        "log_namespace": "chatproto",
        "log_system": "chatproto#warn",
        "log_time": event.get("log_time", 0.0),
        "log_format": "{unlogged} lines were too many and are not in this log",
        "unlogged": unlogged,
    }


def log_with(twistd: MutableMapping[str, Any], log_format: str) -> None:
    """Have `twistd`, or `twist`, log in that format, by its options; nothing is opened yet.

    A `--logger` of the operator's own stays. Raises UsageError for what does not go together.
    """
    if log_format not in (TEXT, JSON):
        raise usage.UsageError(f"--log-format is {TEXT} or {JSON}, not {log_format!r}")
    if "logFile" in twistd:  # twist
        if log_format == JSON:
            twistd["fileLogObserverFactory"] = json_observer
    elif twistd.get("syslog"):
        if log_format == JSON:
            raise usage.UsageError("--log-format json goes to a file or to standard output, not to --syslog")
    elif not twistd.get("logger"):
        # It wants the name of something that it can call, and calls it with nothing.
        twistd["logger"] = f"{__name__}.{twistd_observer.__name__}"
        _told.update(twistd=twistd, log_format=log_format)


_told: dict[str, Any] = {}
"""What `log_with` was called with; a process has one log."""


def twistd_observer() -> ILogObserver:
    """What `twistd` logs with, as `log_with` has chosen it."""
    out = _log_file(_told["twistd"])
    return json_observer(out) if _told["log_format"] == JSON else BoundedObserver(textFileLogObserver(out))


def _log_file(twistd: Mapping[str, Any]) -> IO[Any]:
    """As `twistd` chooses it: standard output, or a file that SIGUSR1 puts aside."""
    path = twistd.get("logfile")
    is_daemon = not twistd.get("nodaemon")
    if path == "-" and is_daemon:
        sys.exit("Daemons cannot log to stdout, exiting!")
    if path == "-" or not (path or is_daemon):
        return sys.stdout
    file = LogFile.fromFullPath(path or "twistd.log", rotateLength=FILE_BYTES, maxRotatedFiles=OLD_FILES)
    if not signal.getsignal(signal.SIGUSR1):

        def put_aside(number: int, frame: object) -> None:
            from twisted.internet import reactor

            cast(Any, reactor).callFromThread(file.rotate)

        signal.signal(signal.SIGUSR1, put_aside)
    return cast(IO[Any], file)

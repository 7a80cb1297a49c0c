"""The moderation on disk: the rules that are in force, and the audit log of every act of an operator.

Both are written by one thread, which nobody who talks waits for. The rules are one small file that is
replaced as a whole, so that a crash leaves either the old or the new; the audit log only grows.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger

from chatproto.rooms.moderation import Rule

__all__ = ["Act", "Ledger", "LedgerUnusable"]

_log = Logger(namespace="chatproto.rooms.ledger")

FORMAT_VERSION = 1


class LedgerUnusable(Exception):
    """The rules cannot be read, or the audit log not be written; the text is one sentence."""


@dataclass(frozen=True, slots=True)
class Act:
    """What an operator did, one line of the audit log; *time* is ISO 8601, *room* empty for the server."""

    time: str
    operator: str
    act: str
    target: str
    room: str
    seconds: int
    reason: str

    def line(self) -> str:
        """As JSON, in ASCII: nothing in it can act on a terminal or end the line."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})


class Ledger:
    """Keeps rules in the file *rules_path* and acts in *audit_path*; None: not at all.

    `rules` is what was in force when it was opened. Raises `LedgerUnusable`, and changes nothing, for a file
    that cannot be used. Answers are given in *reactor*.
    """

    def __init__(
        self, reactor: IReactorFromThreads, rules_path: str | None = None, audit_path: str | None = None
    ) -> None:
        # twistd changes its folder when it becomes a daemon.
        self.rules_path = None if rules_path is None else os.path.abspath(rules_path)
        self.audit_path = None if audit_path is None else os.path.abspath(audit_path)
        self._call = reactor.callFromThread
        self._on_disk: tuple[int, int, int] | None = None
        self.rules: list[Rule] = [] if self.rules_path is None else self._read(self.rules_path)
        if self.audit_path is not None:
            try:
                os.close(_open_to_append(self.audit_path))
            except OSError as error:
                raise _unusable("the audit log", self.audit_path, error) from error
        self._waiting: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def keep(self, act: Act, rules: Sequence[Rule]) -> Deferred[str]:
        """Write *act*, and *rules*, which are in force from now on.

        Fires when both are on the disk, with the empty string, or else with why not, as part of a sentence.
        """
        kept: Deferred[str] = Deferred()
        in_force = [rule.to_json() for rule in rules]
        self._put(lambda: self._call(kept.callback, self._keep(act, in_force)))
        return kept

    def close(self) -> Deferred[None]:
        """Fires when everything is written. Nothing may be kept after it."""
        closed: Deferred[None] = Deferred()
        if self._thread is None:
            closed.callback(None)
        else:
            self._put(lambda: self._call(closed.callback, None))
            self._waiting.put(None)
            self._thread = None
        return closed

    def _put(self, do: Callable[[], None]) -> None:
        self._waiting.put(do)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="chat moderation writer", daemon=True)
            self._thread.start()

    # --- in the thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (do := self._waiting.get()) is not None:
            do()

    def _keep(self, act: Act, rules: list[dict[str, Any]]) -> str:
        trouble = ""
        try:
            if self.audit_path is not None:
                _append(self.audit_path, f"{act.line()}\n".encode())
        except OSError as error:
            trouble = f"the audit log cannot be written, {_reason(error)}"
        try:
            if self.rules_path is not None and (rules or self._on_disk is not None):
                self._write(self.rules_path, rules)
        except OSError as error:
            trouble = f"the rules cannot be written, {_reason(error)}"
        if trouble:
            self._call(_log.error, "{trouble}", trouble=trouble)
        return trouble

    def _write(self, path: str, rules: list[dict[str, Any]]) -> None:
        if _identity(path) != self._on_disk:
            raise OSError("another program has changed them, and the server must be started again")
        new_path = f"{path}-new"
        lines = ",\n".join(json.dumps(rule) for rule in rules)
        text = f'{{"moderation": "chatproto", "version": {FORMAT_VERSION}, "rules": [\n{lines}\n]}}\n'
        with suppress(FileNotFoundError):
            os.unlink(new_path)
        with open(os.open(new_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as new:
            new.write(text)
            new.flush()
            os.fsync(new.fileno())
        os.replace(new_path, path)
        self._on_disk = _identity(path)
        _sync_folder(path)

    # --- at the start ---------------------------------------------------------------------------------------

    def _read(self, path: str) -> list[Rule]:
        try:
            self._on_disk = _identity(path)
            if self._on_disk is None:
                return []
            with open(path, encoding="utf-8") as file:
                found = json.load(file)
            if not isinstance(found, dict) or found.get("moderation") != "chatproto":
                raise ValueError("they are not this program's")
            if found.get("version") != FORMAT_VERSION:
                raise ValueError("a newer version of this program made them")
            return [Rule.from_json(rule) for rule in found["rules"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unusable("the rules", path, error) from error


def _unusable(what: str, path: str, error: Exception) -> LedgerUnusable:
    return LedgerUnusable(f"{what} cannot be used, {_reason(error)}: {path}")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return "they are damaged" if isinstance(error, json.JSONDecodeError | KeyError) else str(error)


def _identity(path: str) -> tuple[int, int, int] | None:
    """Which file it is and when it was written; None if there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _open_to_append(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _append(path: str, line: bytes) -> None:
    # Opened each time: who rotates logs moves the file away, and what is written then belongs into a new one.
    file = _open_to_append(path)
    try:
        found = os.fstat(file)
        is_file = stat.S_ISREG(found.st_mode)
        if is_file and found.st_size and os.pread(file, 1, found.st_size - 1) != b"\n":
            line = b"\n" + line  # a crash left half a line
        if os.write(file, line) < len(line):
            os.ftruncate(file, found.st_size)
            raise OSError("the disk is full")
        if is_file:
            os.fdatasync(file)
    finally:
        os.close(file)


def _sync_folder(path: str) -> None:
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

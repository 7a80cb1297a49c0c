"""Where the control socket is: a file of mode 0600 that is there while the server is."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import time
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory

from chatproto.control.lines import address_of
from chatproto.server.listening import adopted

__all__ = ["ControlSocket", "ControlUnusable"]

BACKLOG = 16

LOCK_TRIES = 40
LOCK_TRY_S = 0.05
"""How long one waits for another server that is just starting in the same folder."""


class ControlUnusable(Exception):
    """There can be no control socket there; the text is a phrase."""


class ControlSocket:
    """A Unix socket at *path*, which only its owner, and root, may open. Raises ControlUnusable.

    It is in place of one that a server has left behind, but never of one that somebody still listens on.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._name = os.path.basename(self.path)
        self._port: IListeningPort | None = None
        try:
            # The folder stays open, so that what is removed in the end is what was made.
            self._folder = os.open(os.path.dirname(self.path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ControlUnusable(_reason(error)) from None
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._lock()
            self._make_room()
            self._bind()
            fcntl.flock(self._folder, fcntl.LOCK_UN)
        except OSError as error:
            self._close()
            raise ControlUnusable(_reason(error)) from None
        except ControlUnusable:
            self._close()
            raise

    def listen(self, reactor: Any, factory: Factory[Any]) -> None:
        """Have *factory* answer there from now on."""
        self._port = adopted(reactor, self._socket.fileno(), factory)
        self._socket.close()  # the port has a descriptor of its own

    def remove(self) -> None:
        """It is over: nobody listens there any more, and the file is gone, unless it is another's by now."""
        if self._port is not None:
            self._port.stopListening()
        with suppress(OSError):
            if self._made == self._identity():
                os.unlink(self._name, dir_fd=self._folder)
        self._close()

    def _lock(self) -> None:
        """Let nobody else look at the file, or make it, meanwhile."""
        for _ in range(LOCK_TRIES):
            with suppress(BlockingIOError):
                return fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            time.sleep(LOCK_TRY_S)
        raise ControlUnusable("somebody else has its folder locked")

    def _make_room(self) -> None:
        """Remove what a server has left behind that ended without a word."""
        try:
            found = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise ControlUnusable("there is something of that name, which is no socket")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            try:
                probe.connect(address_of(self.path, self._folder))
            except ConnectionRefusedError:
                if found.st_uid != os.geteuid():
                    raise ControlUnusable(f"user {found.st_uid} has left a socket there") from None
                os.unlink(self._name, dir_fd=self._folder)
                return
            except BlockingIOError:
                pass  # there is a queue before it
        raise ControlUnusable("another server has it")

    def _bind(self) -> None:
        # No thread of the server's own makes files yet.
        before = os.umask(0o177)
        try:
            self._socket.bind(address_of(self.path, self._folder))
        finally:
            os.umask(before)
        self._made = self._identity()
        self._socket.listen(BACKLOG)

    def _identity(self) -> tuple[int, int]:
        found = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        return found.st_dev, found.st_ino

    def _close(self) -> None:
        self._socket.close()
        os.close(self._folder)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()

"""The program's end of the control socket: asks, and reads what is answered."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from chatproto.control.lines import (
    MAX_ANSWER_BYTES,
    VERSION,
    Lines,
    NotALine,
    address_of,
    line_of,
    object_of,
    peer_uid,
)
from chatproto.text import tame

__all__ = ["NoServer", "Refused", "Server"]

PATIENCE_S = 60.0
"""In which a server says something."""


class NoServer(Exception):
    """There is nobody to ask, or no answer; the text is one sentence."""


class Refused(Exception):
    """The server does not do it; the text is one sentence of the server's."""


class Server:
    """The one that has its control socket at *path*. Raises NoServer, or Refused where one is not let in."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self._lines = Lines(MAX_ANSWER_BYTES)
        self._received: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE_S)
        try:
            folder = os.open(os.path.dirname(self._path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._socket.connect(address_of(self._path, folder))
                self._check_peer(os.fstat(folder))
            finally:
                os.close(folder)
        except OSError as error:
            raise NoServer(self._why_not(error)) from None
        greeting = self._next()
        if greeting.get("control") != "chatproto":
            raise NoServer(f"{self._path} is no control socket of a chat server")
        if greeting.get("version") != VERSION:
            other = tame(str(greeting.get("server")))
            raise NoServer(f"the server is another version, {other}; take the chatproto-ctl of that")

    def ask(self, request: dict[str, Any], *, has_time: bool = False) -> Iterator[dict[str, Any]]:
        """Ask, and have the rows of the answer as they come; the last is what is said when it is done.

        Each is `{"row": ...}` or `{"done": ...}`. What *has_time* may take any time. Raises NoServer and
        Refused.
        """
        with suppress(OSError):  # if it is gone, it has said why
            # A signal would end this program without a word.
            self._socket.sendall(line_of(request), socket.MSG_NOSIGNAL)
        self._socket.settimeout(None if has_time else PATIENCE_S)
        while True:
            found = self._next()
            yield found
            if "row" not in found:
                return

    def _check_peer(self, folder: os.stat_result) -> None:
        """Raise NoServer where somebody may have put a socket there to be taken for the server."""
        uid, own = peer_uid(self._socket), os.geteuid()
        if uid in (own, 0):
            return
        # Root asks whatever server there is; but where everybody may make files, only the folder's owner's.
        if own == 0 and (uid == folder.st_uid or not folder.st_mode & stat.S_IWOTH):
            return
        raise NoServer(f"at {self._path} it is user {uid} who listens, and not you or root; nothing is asked")

    def _next(self) -> dict[str, Any]:
        while not self._received:
            try:
                data = self._socket.recv(65_536)
            except TimeoutError:
                raise NoServer(f"the server says nothing for {PATIENCE_S:g} s") from None
            except OSError:
                data = b""
            if not data:
                raise NoServer("the server is gone")
            try:
                self._received = self._lines.receive(data)
            except NotALine as refusal:
                raise NoServer(f"that is no control socket of a chat server: {refusal}") from None
        try:
            found = object_of(self._received.pop(0))
        except NotALine:
            raise NoServer(f"{self._path} is no control socket of a chat server") from None
        if "refused" in found:
            raise Refused(str(found["refused"]))
        return found

    def _why_not(self, error: OSError) -> str:
        if isinstance(error, ConnectionRefusedError):
            if not Path(self._path).is_socket():
                return f"{self._path} is no socket; --socket PATH says where the server has it"
            return f"nobody listens at {self._path}: the server that made it is gone"
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return f"there is no control socket at {self._path}; --socket PATH says where the server has it"
        if isinstance(error, PermissionError):
            return f"{self._path} is only for the user as whom the server runs, and root"
        return f"{self._path} cannot be connected to: {(error.strerror or str(error)).lower()}"

"""The network between a browser and the server: it can be cut, fall silent, and lead to another server."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class Cable:
    """A port of its own whose connections are carried to `server_port`."""

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self._silent = threading.Event()
        self._carried: list[socket.socket] = []
        self._is_cut = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        self._listener.close()

    def cut(self) -> None:
        """End all connections, and all that are tried from now on."""
        self._is_cut = True
        for end in self._carried:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._carried.clear()

    def fall_silent(self) -> None:
        """Carry nothing more over the connections that there are; nobody is told."""
        self._silent.set()

    def mend(self, server_port: int = 0) -> None:
        """Carry again, perhaps to another server."""
        self.server_port = server_port or self.server_port
        self._silent.clear()
        self._is_cut = False

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._is_cut:
                    raise OSError("the cable is cut")
                far = socket.create_connection(("127.0.0.1", self.server_port))
            except OSError:
                near.close()
                continue
            self._carried += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65_536):
                if self._silent.is_set():
                    return
                other.sendall(data)
        with suppress(OSError):
            if not self._silent.is_set():
                other.shutdown(socket.SHUT_WR)

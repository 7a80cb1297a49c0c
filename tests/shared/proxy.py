"""A link to a store that a test can cut: bytes stay where they are, as with a cable that is pulled out."""

from __future__ import annotations

import selectors
import socket
import threading
from types import TracebackType
from typing import Self

__all__ = ["Proxy"]


class Proxy:
    """Passes on what comes on its own `port` to *target_port* and back, in a thread of its own."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._passing = threading.Event()
        self._passing.set()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        self._passing.set()
        self._thread.join()
        for plain in (self._listening, *self._pairs):
            plain.close()
        self._selector.close()

    @property
    def url(self) -> str:
        """Of the store behind it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self) -> None:
        """Pass on nothing any more, and close nothing: what is sent waits here."""
        self._passing.clear()

    def mend(self) -> None:
        """Pass on what waits, and everything after it."""
        self._passing.set()

    def _run(self) -> None:
        while not self._is_over:
            for key, _ in self._selector.select(0.02):
                self._passing.wait()
                if key.fileobj is self._listening:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._pairs:
                    self._pass_on(key.fileobj)

    def _accept(self) -> None:
        one, _ = self._listening.accept()
        other = socket.create_connection(("127.0.0.1", self._target_port))
        self._pairs |= {one: other, other: one}
        for plain in (one, other):
            self._selector.register(plain, selectors.EVENT_READ)

    def _pass_on(self, plain: socket.socket) -> None:
        try:
            data = plain.recv(2**16)
            if data:
                self._pairs[plain].sendall(data)
                return
        except OSError:
            pass
        for end in (plain, self._pairs[plain]):
            self._selector.unregister(end)
            del self._pairs[end]
            end.close()

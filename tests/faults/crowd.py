"""Many clients in one thread, none of which ever blocks another."""

from __future__ import annotations

import itertools
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TypeVar

from forms import Form, Frames
from live import PATIENCE_S

from chatproto.wire.messages import Message

M = TypeVar("M", bound=Message)

fresh_ids = itertools.count(1)
"""For `say`: the server knows an id again under the same nickname, also on another connection."""


class Caller:
    """One client. `heard` is called with each message that comes.

    `received` has all of them, in order, unless `keeps` is set to False; `came` is their number.
    """

    def __init__(self, crowd: Crowd, connected: socket.socket, form: Form) -> None:
        self.crowd = crowd
        self.form = form
        self.socket = connected
        self.received: list[Message] = []
        self.came = 0
        self.keeps = True
        self.at_end = False
        self.is_gone = False
        self.heard: Callable[[Caller, Message], None] | None = None
        self._unsent = b""
        connected.setblocking(False)
        crowd.selector.register(connected, selectors.EVENT_READ, self)
        self._write()

    def send(self, *messages: Message) -> None:
        """Send now what the socket takes, and the rest when it takes it."""
        self.form.say(*messages)
        self._write()

    def of(self, kind: type[M]) -> list[M]:
        """Of what came, the messages of one kind."""
        return [message for message in self.received if isinstance(message, kind)]

    def half_close(self) -> None:
        """Send nothing more, but go on reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Be gone."""
        if not self.is_gone:
            self.is_gone = True
            if self.socket.fileno() in self.crowd.selector.get_map():
                self.crowd.selector.unregister(self.socket)
            self.socket.close()

    def reset(self) -> None:
        """Be gone as a crash is: the other side gets a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def ready(self, events: int) -> None:
        """The socket can do something."""
        if events & selectors.EVENT_WRITE:
            self._write()
        if events & selectors.EVENT_READ and not self.is_gone:
            self._read()

    def _write(self) -> None:
        self._unsent += self.form.output()
        try:
            sent = self.socket.send(self._unsent) if self._unsent else 0
        except BlockingIOError:
            sent = 0
        self._unsent = self._unsent[sent:]
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        if self.crowd.selector.get_key(self.socket).events != wanted:
            self.crowd.selector.modify(self.socket, wanted, self)

    def _read(self) -> None:
        try:
            data = self.socket.recv(2**18)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        messages = self.form.receive(data)
        if not data:
            self.at_end = True
            self.crowd.selector.unregister(self.socket)
            return
        with suppress(ConnectionError):
            self._write()  # what the form itself has to answer
        for message in messages:
            self.came += 1
            if self.keeps:
                self.received.append(message)
            if self.heard is not None:
                self.heard(self, message)
            if self.is_gone:
                return


class Crowd:
    """Callers, and the loop that serves them all."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.selector = selectors.DefaultSelector()
        self.callers: list[Caller] = []

    def __enter__(self) -> Crowd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for caller in self.callers:
            caller.close()
        self.selector.close()

    def call(self, form: Form | None = None) -> Caller:
        """One more client, that has said nothing yet; it speaks frames unless *form* is another."""
        connected = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        caller = Caller(self, connected, form or Frames())
        self.callers.append(caller)
        return caller

    def run_once(self, timeout_s: float = 0.1) -> None:
        """Serve who can be served; wait for someone if nobody can."""
        for key, events in self.selector.select(timeout_s):
            key.data.ready(events)

    def run_until(self, holds: Callable[[], bool], what: str) -> None:
        """Serve everybody until something holds. Fails only after `PATIENCE_S` in which nothing came."""
        last_s, before = time.monotonic(), -1
        while not holds():
            self.run_once()
            came = sum(caller.came for caller in self.callers)
            if came != before:
                last_s, before = time.monotonic(), came
            assert time.monotonic() - last_s < PATIENCE_S, f"nothing comes any more, and not yet: {what}"

    def run_for(self, seconds: float) -> None:
        """Serve everybody for a while."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            self.run_once(left_s)

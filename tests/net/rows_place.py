"""The server of test_rows.py, and the people who make its rows happen."""

from __future__ import annotations

import socket
import sys
from itertools import count
from pathlib import Path

from forms import form_named
from live import Framed, Server

from chatproto.wire.messages import (
    End,
    Error,
    Join,
    Login,
    Message,
    Ping,
    Pong,
)

COMMAND = [sys.executable, str(Path(__file__).with_name("rows_server.py"))]

FORMS = ("frames", "bin", "json")

_numbers = count(1)


class Client(Framed):
    """A client that notes which kinds it sent."""

    def __init__(self, port: int, form: str) -> None:
        super().__init__(port, form_named(form))
        self.sent: set[type[Message]] = set()

    def send(self, *messages: Message) -> None:
        self.sent.update(map(type, messages))
        super().send(*messages)

    def forget(self) -> None:
        """Empty `received`."""
        self.received.clear()
        self._seen = 0


class Place:
    """A room of its own on the server, and everyone who came to it, all speaking in one form."""

    def __init__(self, server: Server, form: str) -> None:
        self.server = server
        self.form = form
        self.number = next(_numbers)
        self.room = f"room{self.number}"
        self.clients: list[Client] = []

    def connect(self) -> Client:
        client = Client(self.server.port, self.form)
        self.clients.append(client)
        return client

    def nick(self, nick: str) -> str:
        """A nickname that no other test uses."""
        return f"{nick}{self.number}"

    def join(self, nick: str, *, user: str = "someone", limit: int = 0) -> Client:
        """Someone who is in the room."""
        client = self.connect()
        client.send(Login(user, "right"), Join(self.nick(nick), self.room, 0, 0, limit))
        client.until(End)
        client.forget()
        return client

    def join_slowly(self, nick: str) -> Client:
        """Someone in the room with a small buffer, so that it is soon full."""
        client = self.connect()
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        client.send(Login("someone", "right"), Join(self.nick(nick), self.room))
        client.until(End)
        return client

    def last_error(self) -> Error:
        """What the last who was refused something was told last."""
        return self.last_refused().of(Error)[-1]

    def last_refused(self) -> Client:
        """The last of those who were refused something."""
        return [client for client in self.clients if client.of(Error)][-1]

    @property
    def sent(self) -> set[type[Message]]:
        return set().union(*(client.sent for client in self.clients))

    @property
    def received(self) -> list[Message]:
        return [message for client in self.clients for message in client.received]


class RowsServer(Server):
    """The server, and in each form someone who came at once and says who they are never."""

    def __init__(self) -> None:
        super().__init__(command=COMMAND)
        self.strangers = {form: Client(self.port, form) for form in FORMS}
        for stranger in self.strangers.values():
            stranger.send(Ping(1))
            stranger.until(Pong)

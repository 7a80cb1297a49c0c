"""People with a WebSocket in memory."""

from __future__ import annotations

from forms import FORMS, WebSocket
from net.memory import Chat

from chatproto.wire.messages import (
    Join,
    Message,
)

KINDS = ("bin", "json", "plain")


class Person:
    """Someone with a WebSocket in memory."""

    def __init__(self, chat: Chat, form: str | WebSocket = "json") -> None:
        made = FORMS[form]() if isinstance(form, str) else form
        assert isinstance(made, WebSocket)
        self.form = made
        self.chat = chat
        self.line = chat.connect()
        self._flush()
        assert self.read() == []

    def _flush(self) -> None:
        output = self.form.output()
        if output:
            self.line.send(output)

    def send(self, *messages: Message) -> None:
        """Send messages in one piece."""
        self.form.say(*messages)
        self._flush()

    def send_raw(self, *messages: str | bytes) -> None:
        """Send messages in one piece, whatever is in them."""
        for message in messages:
            self.form.send(message)
        self._flush()

    def read(self) -> list[Message]:
        """What comes, until nothing does any more; pings and the close frame are answered."""
        messages = []
        while data := self.line.received():
            messages += self.form.receive(data)
            self._flush()
        return messages

    def types(self) -> list[str]:
        """The types of what comes."""
        return [message.type for message in self.read()]

    @property
    def closed(self) -> tuple[int, str] | None:
        """The server's close code and reason; the connection is gone then."""
        close = self.form.peer.close_rcvd
        if close is None:
            return None
        assert not self.line.connected
        return close.code, close.reason


def joined(chat: Chat, nick: str, form: str | WebSocket = "json") -> Person:
    """Someone who is in the default room and has read everything."""
    person = Person(chat, form)
    person.send(Join(nick))
    assert person.types() == ["welcome", "roster", "end"]
    return person


def handshake(*more: str, path: str = "/chat", host: str = "localhost") -> bytes:
    """An opening handshake with further header lines."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode()

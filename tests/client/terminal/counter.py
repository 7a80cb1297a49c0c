"""A whole terminal client without a terminal: a scripted server, keys that are pressed, and the picture."""

from __future__ import annotations

from typing import Any

from client.scripted import ScriptedEndpoint, ScriptedServer, granted
from twisted.internet.task import Clock

from chatproto.client.client import ChatClient
from chatproto.client.terminal.desk import Desk
from chatproto.client.terminal.doing import Doing
from chatproto.client.terminal.hearing import Hearing
from chatproto.client.terminal.keys import Keys
from chatproto.client.terminal.picture import draw
from chatproto.wire.messages import Chat, Message, Ping

__all__ = ["Counter"]


class _Ears(Hearing):
    doing: Doing

    def gave_up(self, refusal: Any) -> None:
        self.doing.gave_up(refusal)


class Counter:
    """*ann* at the counter of a scripted server."""

    def __init__(self, columns: int = 80, rows: int = 16, *, left_off: int = 0) -> None:
        self.clock = Clock()
        self.endpoint = ScriptedEndpoint(self.clock)
        self.desk = Desk("the server", "ann", self.clock)
        ears = _Ears(self.desk)
        self.client = ChatClient(self.endpoint, "ann", ears, clock=self.clock, retry_policy=lambda n: 1.0)
        self.doing = ears.doing = Doing(self.desk, self.client, lambda room: left_off)
        self.keys = Keys(self.desk, self.doing)
        self.rings = 0
        self.draws = 0
        self.desk.watch(self._changed, self._ring)
        self.size = (columns, rows)

    def _ring(self) -> None:
        self.rings += 1

    def _changed(self) -> None:
        self.draws += 1

    @property
    def server(self) -> ScriptedServer:
        """The newest connection, seen from the server."""
        return self.endpoint.servers[-1]

    def begin(self, *chats: Chat, rooms: tuple[str, ...] = ("lobby",), **how: Any) -> Counter:
        """Connect, and be let into *rooms*."""
        self.client.start()
        self.doing.begin(list(rooms))
        self.server.answer(*granted(*chats, room=rooms[0], **how))
        for room in rooms[1:]:
            self.server.answer(*granted(room=room, welcome=False))
        self.sent()
        assert self.picture
        return self

    def sent(self) -> list[Message]:
        """What was sent since one looked last, without the pings."""
        return [message for message in self.server.received if not isinstance(message, Ping)]

    def answer(self, *messages: Message) -> None:
        """The server sends these."""
        self.server.answer(*messages)

    def press(self, *keys: str) -> None:
        """Press keys, by urwid's names; longer texts are typed."""
        for key in keys:
            self.keys.press([key])

    def type(self, text: str, *keys: str) -> None:
        """Type *text*, then press keys."""
        self.keys.press(list(text))
        self.press(*keys)

    def paste(self, text: str) -> None:
        """Paste *text*, as a terminal does it."""
        names = {"\n": "enter", "\t": "tab"}
        self.keys.press(
            ["begin paste", *(names.get(character, character) for character in text), "end paste"]
        )

    @property
    def picture(self) -> list[str]:
        """The rows of the screen."""
        drawn = draw(self.desk, *self.size)
        return ["".join(text for _, text in row).rstrip() for row in drawn.rows]

    @property
    def body(self) -> list[str]:
        """The conversation: what stands right of the names, without what is empty."""
        shown = [row.partition("│ ")[2] or row for row in self.picture[1:-2]]
        return [row for row in shown if row]

    @property
    def bar(self) -> str:
        """The places."""
        return self.picture[0].strip()

    @property
    def status(self) -> str:
        """The line above what is typed."""
        return self.picture[-2].strip()

    @property
    def typed(self) -> str:
        """What is being typed, with its prompt."""
        return self.picture[-1]

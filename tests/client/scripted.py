"""A server that does what the test says, events that are written down, and an endpoint in memory."""

from __future__ import annotations

from typing import Any, TypeVar

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from chatproto.client.conversation import Conversation
from chatproto.client.events import ChatEvents
from chatproto.client.outcomes import Refused
from chatproto.wire.chat import FrameDecoder, encode_frame
from chatproto.wire.messages import Chat, End, Join, Message, Ping, Pong, Roster, Side, Welcome

EPOCH = 7
FIRST_ID = 100
EVERYTHING = 65_535
"""The most that a join can ask for: no client can know how much it missed."""

T = TypeVar("T")


class Heard(ChatEvents):
    """Every event as a tuple of its name and what it came with."""

    def __init__(self) -> None:
        self.all: list[tuple[Any, ...]] = []

    def __getattribute__(self, name: str) -> Any:
        if name in vars(ChatEvents) and not name.startswith("_"):
            return lambda *what: self.all.append((name, *what))
        return super().__getattribute__(name)

    def of(self, name: str) -> list[Any]:
        """What came with the events of one name: the one thing, or a tuple."""
        return [
            what[0] if len(what) == 1 else what
            for kind, *rest in self.all
            if kind == name
            for what in [tuple(rest)]
        ]

    @property
    def seqs(self) -> list[int]:
        """The sequence numbers of the chats, in the order in which they were told."""
        return [chat.seq for chat in self.of("chat")]


def chat(seq: int, text: str = "", nick: str = "bob", room: str = "lobby") -> Chat:
    """What *bob* said."""
    return Chat(room, seq, seq * 1_000, nick, text or f"text {seq}")


def granted(
    *chats: Chat,
    room: str = "lobby",
    last: int = 0,
    status: int = 0,
    welcome: bool = True,
    epoch: int = EPOCH,
) -> list[Message]:
    """The answer to a join."""
    last = max([last, *(said.seq for said in chats)])
    first_sent, last_sent = (chats[0].seq, chats[-1].seq) if chats else (0, 0)
    opening: list[Message] = [Welcome(1, "ann", epoch, "scripted")] if welcome else []
    return [*opening, Roster(room, last, 1, ("ann",)), *chats, End(room, first_sent, last_sent, status)]


def result(deferred: Deferred[T]) -> T:
    """What a Deferred has fired with; the test fails where it has not, or raises what it failed with."""
    results: list[T] = []
    failures: list[Failure] = []
    deferred.addCallbacks(results.append, failures.append)
    if failures:
        failures[0].raiseException()
    assert results, "it has not fired"
    return results[0]


def is_waiting(deferred: Deferred[Any]) -> bool:
    """Whether a Deferred has not fired."""
    return not deferred.called or isinstance(deferred.result, Deferred)


class Paper:
    """A conversation and its carrier, on paper: `sent` has what it sent and was not asked about yet."""

    def __init__(self, nick: str = "ann", **settings: int) -> None:
        self.heard = Heard()
        self.put_offs: list[int] = []
        self.verdicts: list[Refused] = []
        self.closings: list[tuple[str, float]] = []
        self.times_opened = 0
        self._decoder = FrameDecoder(Side.SERVER)
        self._sent: list[Message] = []
        self.conversation = Conversation(nick, self.heard, self, first_id=FIRST_ID, **settings)

    # Carrier

    def send(self, frame: bytes) -> None:
        self._sent += self._decoder.receive(frame)
        assert self._decoder.fault is None

    def opened(self) -> None:
        self.times_opened += 1

    def put_off(self, attempt: int) -> None:
        self.put_offs.append(attempt)

    def gave_up(self, refusal: Refused) -> None:
        self.verdicts.append(refusal)

    def closing(self, reason: str, retry_s: float) -> None:
        self.closings.append((reason, retry_s))

    # The server

    @property
    def sent(self) -> list[Message]:
        """What was sent since one looked last, without the pings."""
        return [message for message in self.sent_with_pings if not isinstance(message, Ping)]

    @property
    def sent_with_pings(self) -> list[Message]:
        """What was sent since one looked last."""
        sent, self._sent = self._sent, []
        return sent

    def answer(self, *messages: Message) -> None:
        """The server sends these."""
        for message in messages:
            self.conversation.received(message)

    def let_in(self, *chats: Chat, **how: Any) -> None:
        """Connect, join the default room and be let in; forget what was sent for that."""
        self.conversation.connected()
        joined = self.conversation.join("lobby")
        self.answer(*granted(*chats, **how))
        result(joined)
        del self._sent[:]

    def reconnect(self) -> list[Message]:
        """Lose the connection and get the next one; what is sent on it."""
        self.conversation.disconnected("the cable broke")
        del self._sent[:]
        self.conversation.connected()
        return self.sent

    def answer_pings(self) -> None:
        """Answer every ping that was sent."""
        self.answer(*(Pong(message.token) for message in self.sent_with_pings if isinstance(message, Ping)))


class ScriptedServer(StringTransport):
    """One connection, seen from the server. What the client closes is closed when the clock moves."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.protocol: IProtocol | None = None
        self.is_open = True
        self.was_aborted = False
        self._clock = clock
        self._decoder = FrameDecoder(Side.SERVER)

    @property
    def received(self) -> list[Message]:
        """What the client sent since one looked last."""
        data = self.value()
        self.clear()
        messages = self._decoder.receive(data)
        assert self._decoder.fault is None
        return messages

    @property
    def received_joins(self) -> list[Join]:
        """The same, joins only."""
        return [message for message in self.received if isinstance(message, Join)]

    def answer(self, *messages: Message) -> None:
        """Send messages, in one go."""
        self.answer_bytes(b"".join(map(encode_frame, messages)))

    def answer_bytes(self, data: bytes) -> None:
        """Send bytes."""
        assert self.protocol is not None
        self.protocol.dataReceived(data)

    def close(self, error: Exception | None = None) -> None:
        """Close the connection, or let it end with *error*."""
        if self.is_open:
            assert self.protocol is not None
            self.is_open = False
            self.protocol.connectionLost(Failure(error or ConnectionDone()))

    def loseConnection(self) -> None:
        self._clock.callLater(0, self.close)

    def abortConnection(self) -> None:
        self.was_aborted = True
        self._clock.callLater(0, self.close)


@implementer(IStreamClientEndpoint)
class ScriptedEndpoint:
    """Where the scripted server is; each connection is put into `servers`."""

    def __init__(self, clock: Clock) -> None:
        self.servers: list[ScriptedServer] = []
        self.attempts_s: list[float] = []
        self.is_up = True
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        self.attempts_s.append(self._clock.seconds())
        if not self.is_up:
            return fail(ConnectionRefusedError())
        server = ScriptedServer(self._clock)
        server.protocol = protocolFactory.buildProtocol(None)  # type: ignore[arg-type]
        assert server.protocol is not None
        server.protocol.makeConnection(server)
        self.servers.append(server)
        return succeed(server.protocol)


def refusal_of(deferred: Deferred[Any]) -> Refused:
    """What a Deferred has failed with, that the server refused something."""
    with pytest.raises(Refused) as caught:
        result(deferred)
    return caught.value

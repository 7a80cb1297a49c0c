"""What the tests of the send queue share: owners, transports that wait, queues on plain sockets."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from chatproto.net.sendqueue import SendQueue, Turn
from chatproto.wire.prepared import Prepared

MOST_BYTES = 1_000_000
STALL_S = 10.0
ENTRY_BYTES = 64
"""What an entry counts beside its bytes."""
SEND_BUFFER_BYTES = 212_992 // 2
"""What is asked for to have the buffer that Linux gives by default, whatever a machine is set to give."""


def as_is(source: bytes) -> bytes:
    """The form of what is bytes already."""
    return source


def of_topic(data: bytes, topic: object = "lobby", position: int = 1) -> Prepared:
    """Something that may be dropped."""
    return Prepared(data, topic, position)


class TurnByTurn(Clock):
    """A clock of which a reactor's turn can be ended: what is due happens, and nothing that it leads to."""

    def end_turn(self) -> None:
        for call in self.getDelayedCalls():
            if call.getTime() <= self.seconds() and call.active():
                due: Any = call
                self.calls.remove(due)
                due.called = 1
                due.func(*due.args, **due.kw)


class Owner:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.then: Callable[[], object] = lambda: None

    def queueDrained(self) -> None:
        self.told.append("drained")
        self.then()

    def queueBroken(self) -> None:
        self.told.append("broken")
        self.then()

    def queueFlushed(self) -> None:
        self.told.append("flushed")
        self.then()

    def queueStalled(self) -> None:
        self.told.append("stalled")
        self.then()


class Pieces(StringTransport):
    """As Twisted's transport over a socket: keeps what it is given, sends it when the socket takes bytes,
    and calls its pull producer when all is gone."""

    def __init__(self, plain: socket.socket | None) -> None:
        super().__init__()
        self.plain = plain
        self.pieces: list[bytes] = []
        self.unsent = bytearray()

    def registerProducer(self, producer: IPullProducer | IPushProducer, streaming: bool) -> None:
        super().registerProducer(producer, streaming)
        if not streaming:
            producer.resumeProducing()

    def write(self, data: bytes) -> None:
        assert type(data) is bytes
        self.pieces.append(data)
        self.unsent += data

    def become_writable(self) -> None:
        """What the reactor does when the socket takes bytes."""
        if not self.unsent:
            return
        assert self.plain is not None
        try:
            del self.unsent[: self.plain.send(self.unsent)]
        except BlockingIOError:
            return
        if not self.unsent and self.producer is not None:
            self.producer.resumeProducing()


class Buffer(Pieces):
    """As a transport that lies above another: says to its push producer when it has enough."""

    def __init__(self, enough_bytes: int = 65_536) -> None:
        super().__init__(None)
        self.enough_bytes = enough_bytes
        self.sent = bytearray()

    def write(self, data: bytes) -> None:
        super().write(data)
        if len(self.unsent) > self.enough_bytes and self.producer is not None:
            self.producer.pauseProducing()

    def become_writable(self) -> None:
        self.sent += self.unsent
        self.unsent.clear()
        if self.producer is not None:
            self.producer.resumeProducing()


class InMemory:
    """A queue that goes through a transport in memory, on a clock that the test moves."""

    def __init__(self, transport: StringTransport | None = None, max_queued_bytes: int = MOST_BYTES) -> None:
        self.clock = TurnByTurn()
        self.turn = Turn(self.clock, STALL_S)
        self.owner = Owner()
        self.transport = transport or StringTransport()
        self.queue = SendQueue(self.transport, self.owner, self.turn, as_is, max_queued_bytes)

    def end_turn(self) -> None:
        self.clock.end_turn()

    def sent(self) -> bytes:
        """What was given to the transport since this was last asked."""
        data = self.transport.value()
        self.transport.clear()
        return bytes(data)


class OnSocket:
    """A queue that writes to a socket itself; `end` is the socket's other end."""

    def __init__(
        self,
        kind: int = socket.SOCK_STREAM,
        *,
        max_queued_bytes: int = MOST_BYTES,
        send_buffer_bytes: int = SEND_BUFFER_BYTES,
        form: Callable[[bytes], bytes] = as_is,
    ) -> None:
        self.plain, self.end = socket.socketpair(socket.AF_UNIX, kind)
        self.plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
        self.plain.setblocking(False)
        self.end.setblocking(False)
        self.clock = TurnByTurn()
        self.turn = Turn(self.clock, STALL_S)
        self.owner = Owner()
        self.transport = Pieces(self.plain)
        self.queue = SendQueue(self.transport, self.owner, self.turn, form, max_queued_bytes, self.plain)

    def __enter__(self) -> OnSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.plain.close()
        self.end.close()

    def end_turn(self) -> None:
        self.clock.end_turn()

    def read(self, most_bytes: int = 2**20) -> bytes:
        """What is there, at most so much; of a packet socket, one packet."""
        try:
            return self.end.recv(most_bytes)
        except BlockingIOError:
            return b""

    def packets(self) -> list[bytes]:
        """Everything that is there, as it was read."""
        return list(iter(self.read, b""))

    def block(self) -> bytes:
        """Write so much that the socket takes no more; what was written."""
        data = b"b" * 2**20
        self.queue.write(data)
        self.end_turn()
        assert self.queue.blocked
        return data

    def drain(self) -> bytes:
        """Read, and let the transport write, until nothing comes any more."""
        received = bytearray()
        while True:
            self.transport.become_writable()
            self.end_turn()
            data = b"".join(self.packets())
            received += data
            if not data and not self.transport.unsent:
                return bytes(received)

"""A chat whose connections are in memory: a factory on a clock that the test moves, and its clients' ends."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, ITCPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from chatproto.limits import Limits
from chatproto.net.face import Face
from chatproto.net.factory import ChatFactory
from chatproto.net.sendqueue import SendQueue
from chatproto.rooms.hub import Hub
from chatproto.wire.chat import FrameDecoder, encode_frame
from chatproto.wire.deflate import Deflate
from chatproto.wire.messages import Message, Side

NOWHERE = "* you are in no room; /join one first"
"""What a line says where somebody is in no room."""


@implementer(ITCPTransport)
class Line(StringTransport):
    """One connection: the server's transport, and what the client does at its other end.

    As a real one it closes in a turn of its own, delivers nothing while reading is paused, and tells a
    protocol that can be half-closed when the client has sent its last byte.
    """

    protocol: Any

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.was_aborted = False
        self.closes_too = True  # when the server has sent its last byte
        self.output_is_over = False
        self._waiting: list[bytes] = []
        self._input_is_over = False

    # --- what the client does -----------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send bytes; they are delivered as soon as the server reads."""
        self._waiting.append(data)
        self._deliver()

    def send_messages(self, *messages: Message) -> None:
        """Send frames, in one piece."""
        self.send(b"".join(map(encode_frame, messages)))

    def type(self, *lines: str) -> None:
        """Send lines, in one piece."""
        self.send("".join(f"{line}\n" for line in lines).encode())

    def end_input(self) -> None:
        """Send nothing more, but still read."""
        self._input_is_over = True
        self._deliver()

    def vanish(self, reason: Exception | None = None) -> None:
        """Lose the connection."""
        if self.connected:
            self.connected = False
            self.producerState = "stopped"
            if self.producer is not None:
                self.producer.stopProducing()
            self.protocol.connectionLost(Failure(reason or ConnectionLost()))

    def received(self) -> bytes:
        """What came since this was last asked."""
        self.clock.advance(0)
        data = self.value()
        self.clear()
        return bytes(data)

    def lines(self) -> list[str]:
        """The lines that came since this was last asked."""
        text = self.received().decode()
        assert text.endswith("\r\n") or not text
        return text.split("\r\n")[:-1]

    def messages(self) -> list[Message]:
        """The messages that came since this was last asked."""
        decoder = FrameDecoder(Side.CLIENT, 2**24 - 1)
        messages = decoder.receive(self.received())
        assert decoder.fault is None
        assert decoder.buffered_bytes == 0
        return messages

    # --- the transport ------------------------------------------------------------------------------------

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def setTcpKeepAlive(self, enabled: bool) -> None:
        pass

    def getTcpNoDelay(self) -> bool:
        return True

    def getTcpKeepAlive(self) -> bool:
        return True

    def loseWriteConnection(self) -> None:
        assert not isinstance(self.producer, SendQueue), "with it a real one would not half-close"
        self.output_is_over = True
        self.clock.callLater(0, self._half_close)

    def _half_close(self) -> None:
        if self.connected:
            self.protocol.writeConnectionLost()
            if self.closes_too:
                self.end_input()

    def unregisterProducer(self) -> None:
        self.producer = None  # as a real one, which does not ask whether there was one

    def write(self, data: bytes) -> None:
        if self.connected and not self.disconnecting and not self.output_is_over:
            super().write(data)

    def loseConnection(self) -> None:
        assert not isinstance(self.producer, SendQueue), "with it a real one would not close"
        self._end(ConnectionDone())

    def abortConnection(self) -> None:
        self.was_aborted = True
        self._end(ConnectionLost())

    def resumeProducing(self) -> None:
        if self.connected and not self.disconnecting:
            super().resumeProducing()
            self.clock.callLater(0, self._deliver)

    def pauseProducing(self) -> None:
        self.producerState = "paused"

    def _end(self, reason: Exception) -> None:
        if not self.disconnecting:
            self.disconnecting = True
            self.clock.callLater(0, self.vanish, reason)

    def _deliver(self) -> None:
        while self.connected and not self.disconnecting and self.producerState == "producing":
            if self._waiting:
                self.protocol.dataReceived(self._waiting.pop(0))
            elif self._input_is_over:
                self._input_is_over = False
                self.producerState = "paused"
                half_closeable = IHalfCloseableProtocol(self.protocol, None)
                if half_closeable is None:
                    self.vanish(ConnectionDone())
                else:
                    half_closeable.readConnectionLost()
            else:
                return


class Chat:
    """A server: one factory, on a clock whose seconds are also its wall clock's."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        origins: Collection[str] = (),
        deflate: Deflate | None = None,
        **hub: Any,
    ) -> None:
        self.clock = Clock()
        if limits is None:
            limits = Limits(max_messages_per_s=0)  # where time stands still, anybody would be too fast
        self.hub = Hub(self.clock, None, limits, wall_clock=self.clock.seconds, **hub)
        self.factory = ChatFactory(self.hub, origins=origins, deflate=deflate, zone=UTC)

    def connect(self) -> Line:
        """A connection on which nothing was said yet."""
        line = Line(self.clock)
        line.protocol = self.factory.buildProtocol(None)
        line.protocol.makeConnection(line)
        return line

    def person(self, nick: str, *rooms: str) -> Line:
        """Someone with `nc` who is in the default room, and then in *rooms*; they have read everything."""
        line = self.connect()
        line.type(nick, *(f"/join {room}" for room in rooms))
        line.received()
        return line

    def faces(self) -> list[type[Face]]:
        """What the connections have turned out to speak, those in the chat."""
        return [type(connection) for connection in self.factory.connections]

    def is_empty(self) -> bool:
        """Whether nothing is left of anybody: no connection, no session, no timer."""
        return not (
            self.factory.connections
            or self.factory.fronts
            or self.hub.sessions
            or self.hub.rooms
            or self.clock.getDelayedCalls()
        )


def said_by(chat: Chat, line: Line, *typed: str) -> list[str]:
    """What *line* shows after someone typed something."""
    line.lines()
    line.type(*typed)
    return line.lines()

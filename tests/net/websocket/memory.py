"""WebSockets in memory, on a clock that the test moves: one connection of the layer's, and its peer's end."""

from __future__ import annotations

from typing import Any

from net.memory import Line
from net.queues import TurnByTurn
from net.websocket.applications import Recorder
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from wire.websocket_model import frame, other
from zope.interface import implementer

from chatproto.net.websocket.connections import Connections
from chatproto.websocket import (
    Accepted,
    Deflate,
    Request,
    WebSocketClientEndpoint,
    WebSocketFactory,
    WebSocketLimits,
    WebSocketTransport,
)
from chatproto.wire.deflate import agree
from chatproto.wire.handshake import accept_key
from chatproto.wire.headers import format_extension, parse_extensions
from chatproto.wire.messages import Side
from chatproto.wire.websocket import Event, Opcode, WebSocketDecoder

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
URL = "ws://server.example/path"


def request_bytes(*more: str, start: str = "GET /path HTTP/1.1", without: str = "") -> bytes:
    """An opening handshake, with *more* headers and without the one that is named."""
    lines = [
        "Host: server.example",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
    ]
    kept = [line for line in lines if not without or not line.startswith(f"{without}:")]
    return "\r\n".join([start, *kept, *more, "", ""]).encode("latin-1")


def answer_bytes(request: bytes, *more: str) -> bytes:
    """The answer to a client's *request* that opens the WebSocket."""
    [key] = [line[19:] for line in request.decode().split("\r\n") if line.startswith("Sec-WebSocket-Key: ")]
    lines = ["HTTP/1.1 101 Yes", "Upgrade: websocket", "Connection: Upgrade", *more]
    return "\r\n".join([*lines, f"Sec-WebSocket-Accept: {accept_key(key)}", "", ""]).encode()


class SlowLine(Line):
    """A line whose other end takes nothing while `takes` is False; it holds `room_bytes` until then."""

    takes = True
    room_bytes = 0

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.held = bytearray()

    def write(self, data: bytes) -> None:
        if self.takes or not self.connected:
            super().write(data)
            return
        self.held += data
        if len(self.held) > self.room_bytes and self.producer is not None:
            self.producer.pauseProducing()

    def take(self) -> None:
        """Take what is held, and what comes."""
        self.takes = True
        held, self.held = bytes(self.held), bytearray()
        super().write(held)
        if self.producer is not None:
            self.producer.resumeProducing()


@implementer(IStreamClientEndpoint)
class ToLine:
    """An endpoint to whoever holds the other end of *line*."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        protocol = protocolFactory.buildProtocol(None)  # type: ignore[arg-type]
        assert protocol is not None
        self._line.protocol = protocol
        protocol.makeConnection(self._line)
        return succeed(protocol)


class Place:
    """One connection of the layer's on *side*, which is open, with its *application*; the test is the peer.

    *agreed* is what is agreed on for compression; the test's end has it too.
    """

    def __init__(
        self,
        side: Side = Side.SERVER,
        application: Any = None,
        *,
        limits: WebSocketLimits | None = None,
        agreed: Deflate | None = None,
        accepted: Accepted | None = None,
        behind: bytes = b"",
    ) -> None:
        self.side = side
        self.clock = TurnByTurn()
        self.line = SlowLine(self.clock)
        self.application: Any = Recorder() if application is None else application
        self.accepted = accepted
        if agreed is not None:
            self.deflater = agreed.deflater(side is Side.SERVER)
        inflate = agreed.inflater(side is Side.SERVER) if agreed else None
        self.decoder = WebSocketDecoder(other(side), 2**24, None, inflate)
        self.connections: Connections
        if side is Side.SERVER:
            self._serve(limits, agreed, behind)
        else:
            self._connect(limits, agreed, behind)

    def _serve(self, limits: WebSocketLimits | None, agreed: Deflate | None, behind: bytes) -> None:
        factory = WebSocketFactory(self, limits=limits, deflate=agreed, reactor=self.clock)
        self.connections = factory.connections
        self.line.protocol = factory.buildProtocol(None)
        self.line.protocol.makeConnection(self.line)
        offer = (
            [] if agreed is None else ["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"]
        )
        self.line.send(request_bytes(*offer) + behind)
        head, _, rest = self.line.received().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        self._rest = rest

    def _connect(self, limits: WebSocketLimits | None, agreed: Deflate | None, behind: bytes) -> None:
        endpoint = WebSocketClientEndpoint(
            ToLine(self.line), URL, limits=limits, deflate=agreed, reactor=self.clock
        )
        self.connections = endpoint.connections
        opened: Deferred[Any] = Deferred.fromCoroutine(endpoint.connect(self))
        self.failures: list[Any] = []
        opened.addErrback(self.failures.append)
        request = self.line.received()
        more = []
        if agreed is not None:
            [offers] = [
                line[25:] for line in request.decode().split("\r\n") if line.startswith("Sec-WebSocket-E")
            ]
            chosen = agree(parse_extensions([offers.lstrip()]), agreed)
            assert chosen is not None
            more.append(f"Sec-WebSocket-Extensions: {format_extension(chosen[1])}")
        self.line.send(answer_bytes(request, *more) + behind)
        self._rest = self.line.received()

    def buildProtocol(self, request: Request | str) -> Any:
        return self.accepted or self.application

    @property
    def transport(self) -> WebSocketTransport:
        """The layer's."""
        transport = self.line.protocol
        assert isinstance(transport, WebSocketTransport)
        return transport

    def frame(self, opcode: int, payload: bytes = b"", **how: Any) -> bytes:
        """A frame of the peer's; with `deflate=True` it is compressed."""
        if how.pop("deflate", False):
            payload, how["rsv"] = self.deflater.compress(payload), 4
        return frame(opcode, payload, to=self.side, **how)

    def send(self, opcode: int, payload: bytes = b"", **how: Any) -> None:
        """Have the peer send a frame."""
        self.line.send(self.frame(opcode, payload, **how))

    def came(self) -> list[Event]:
        """What came to the peer since this was last asked; the reactor's turn ends before."""
        rest, self._rest = self._rest, b""
        events = self.decoder.receive(rest + self.line.received())
        assert self.decoder.fault is None
        return events

    def turn(self, times: int = 1) -> None:
        """Let the reactor go round, until nothing is to be done at once any more."""
        self.clock.pump([0] * times)

    def single_turn(self) -> None:
        """Let the reactor go round once."""
        self.clock.end_turn()

    def wait(self, seconds: float, answers: bool = True) -> None:
        """Let time pass, in eighths of a second; the peer answers pings, or does not."""
        for _ in range(round(seconds * 8)):
            self.clock.advance(0.125)
            if answers:
                for event in self.came():
                    if event.opcode is Opcode.PING:
                        assert isinstance(event.data, bytes)
                        self.send(Opcode.PONG, event.data)

    def is_gone(self) -> bool:
        """Whether nothing is left of the connection: no place among the others, no timer."""
        return not (len(self.connections) or self.clock.getDelayedCalls() or self.line.connected)

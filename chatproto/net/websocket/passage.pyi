from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from typing_extensions import disjoint_base

from chatproto.net.sendqueue import SendQueue
from chatproto.net.websocket.connections import Connections
from chatproto.net.websocket.interfaces import Application, Opening
from chatproto.net.websocket.transport import WebSocketTransport
from chatproto.wire.connection import WebSocketConnection
from chatproto.wire.prepared import Prepared
from chatproto.wire.websocket import Event

__all__ = ["BEHIND", "BYTES_PER_TURN", "EVENTS_PER_TURN", "Passage", "broadcast"]

BEHIND: int
BYTES_PER_TURN: int
EVENTS_PER_TURN: int

@disjoint_base
class Passage:
    queue: SendQueue
    opening: Opening | None
    rtt_s: float | None
    _application: Application | None
    _connection: WebSocketConnection
    _connections: Connections
    _content: Callable[[Any], str | bytes] | None
    _pending: deque[Event] | None
    _unread: deque[memoryview] | None
    _ping: tuple[bytes, float] | None
    _high_water_bytes: int
    _paused: int
    _filled: bool
    _heard: bool
    _inflates: bool
    _sends_plainly: bool
    _silenced: bool
    @property
    def is_open(self) -> bool: ...
    def dataReceived(self, data: bytes) -> None: ...
    def _work(self) -> None: ...
    def sendTextMessage(self, text: str) -> None: ...
    def sendBytesMessage(self, data: bytes | bytearray | memoryview) -> None: ...
    def send(self, message: Prepared) -> None: ...

def broadcast(transports: Iterable[WebSocketTransport], message: Prepared | str | bytes) -> None: ...

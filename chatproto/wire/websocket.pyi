from enum import IntEnum
from typing import Protocol, final

from chatproto.wire.closing import CloseFault
from chatproto.wire.messages import Side

__all__ = ["Event", "Inflate", "Opcode", "WebSocketDecoder", "sort_events"]

class Opcode(IntEnum):
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10

class Inflate(Protocol):
    def decompress(self, data: bytes, max_bytes: int) -> bytes: ...
    def finish(self, max_bytes: int) -> bytes: ...

@final
class Event:
    __match_args__ = ("opcode", "data", "code")
    @property
    def opcode(self) -> Opcode: ...
    @property
    def data(self) -> str | bytes: ...
    @property
    def code(self) -> int: ...
    def __init__(self, opcode: int, data: str | bytes, code: int = 0) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class WebSocketDecoder:
    @property
    def max_message_bytes(self) -> int: ...
    @property
    def max_frame_bytes(self) -> int: ...
    @property
    def fault(self) -> CloseFault | None: ...
    @property
    def buffered_bytes(self) -> int: ...
    def __init__(
        self,
        side: Side,
        max_message_bytes: int = 1_048_576,
        max_frame_bytes: int | None = None,
        inflate: Inflate | None = None,
    ) -> None: ...
    def receive(self, data: bytes | bytearray | memoryview) -> list[Event]: ...

def sort_events(
    events: list[Event], is_open: bool, is_client: bool
) -> tuple[list[Event], bytes, Event | None]: ...

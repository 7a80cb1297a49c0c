"""Applications for the tests of the WebSocket layer: they remember what they were told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure

from chatproto.websocket import (
    ConnectionBroken,
    ConnectionClosed,
    WebSocketProtocol,
    WebSocketTransport,
)

Reaction = Callable[["Recorder"], object]


class Recorder(WebSocketProtocol):
    """Remembers what it was told; a reaction is called with it when it is told what that is named for."""

    def __init__(self, **reactions: Reaction) -> None:
        assert all(hasattr(WebSocketProtocol, name) for name in reactions)
        self.reactions: dict[str, Reaction] = reactions
        self.told: list[str] = []
        self.heard: list[str | bytes] = []
        self.pongs: list[bytes] = []
        self.end: ConnectionClosed | ConnectionBroken | None = None

    def _tell(self, name: str) -> None:
        self.told.append(name)
        self.reactions.get(name, lambda _: None)(self)

    def negotiationStarted(self, transport: WebSocketTransport) -> None:
        super().negotiationStarted(transport)
        self._tell("negotiationStarted")

    def negotiationFinished(self) -> None:
        self._tell("negotiationFinished")

    def textMessageReceived(self, message: str) -> None:
        assert type(message) is str
        self.heard.append(message)
        self._tell("textMessageReceived")

    def bytesMessageReceived(self, data: bytes) -> None:
        assert type(data) is bytes
        self.heard.append(data)
        self._tell("bytesMessageReceived")

    def pongReceived(self, payload: bytes) -> None:
        self.pongs.append(payload)
        self._tell("pongReceived")

    def sendQueueFilled(self) -> None:
        self._tell("sendQueueFilled")

    def sendQueueDrained(self) -> None:
        self._tell("sendQueueDrained")

    def connectionLost(self, reason: Failure) -> None:
        assert isinstance(reason.value, ConnectionClosed | ConnectionBroken)
        assert self.end is None, "it is called once"
        self.end = reason.value
        self._tell("connectionLost")

    @property
    def ended_with(self) -> tuple[type, int, str] | None:
        """How it ended, to be compared."""
        return None if self.end is None else (type(self.end), self.end.code, self.end.reason)


class Echo(Recorder):
    """Sends everything back."""

    def textMessageReceived(self, message: str) -> None:
        super().textMessageReceived(message)
        self.transport.sendTextMessage(message)

    def bytesMessageReceived(self, data: bytes) -> None:
        super().bytesMessageReceived(data)
        self.transport.sendBytesMessage(data)


def dropping(way: str) -> Recorder:
    """An application that drops the connection at the start, by the method of that name."""
    return Recorder(negotiationStarted=lambda application: getattr(application.transport, way)())


class Applications:
    """A factory for either side: `made` has the applications, `requests` what they were made for."""

    def __init__(self, make: Callable[[], Any] = Recorder) -> None:
        self._make = make
        self.made: list[Any] = []
        self.requests: list[Any] = []

    def buildProtocol(self, request: Any) -> Any:
        self.requests.append(request)
        self.made.append(self._make())
        return self.made[-1]


class Deciding:
    """A factory that does what the test says with each request, or URL."""

    def __init__(self, decide: Callable[[Any], Any]) -> None:
        self._decide = decide

    def buildProtocol(self, request: Any) -> Any:
        return self._decide(request)


class Giving:
    """A factory that always gives the same."""

    def __init__(self, given: Any) -> None:
        self._given = given

    def buildProtocol(self, request: Any) -> Any:
        return self._given

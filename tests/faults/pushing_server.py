"""A WebSocket server whose applications do what an echo does not; which of them, the path says.

    python pushing_server.py [--deflate] [listen=ENDPOINT] [LIMIT=NUMBER ...]

It prints how each connection ended. `/` echoes. The others:
`/push/N` sends messages of N bytes for ever, whatever it is told of the queue.
`/produce/N` does so too, but stops while the send queue has enough.
`/close` closes as soon as a text comes, and `/abort` drops the connection then.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import endpoints, reactor
from twisted.internet.interfaces import IListeningPort
from twisted.python.failure import Failure

from chatproto.websocket import (
    Deflate,
    Refused,
    Request,
    WebSocketFactory,
    WebSocketLimits,
    WebSocketProtocol,
)

clock: Any = reactor


class Echo(WebSocketProtocol):
    """Sends everything back, and prints its end."""

    path = "/"

    def textMessageReceived(self, message: str) -> None:
        """Send it back."""
        self.transport.sendTextMessage(message)

    def bytesMessageReceived(self, data: bytes) -> None:
        """Send it back."""
        self.transport.sendBytesMessage(data)

    def connectionLost(self, reason: Failure) -> None:
        """Say so."""
        print(f"{self.path} ended: {type(reason.value).__name__} {reason.value}", flush=True)


class Push(Echo):
    """Sends without end."""

    def __init__(self, size: int, heeds: bool) -> None:
        self._message = bytes(size)
        self._heeds = heeds
        self._may_send = True
        self._is_over = False

    def negotiationFinished(self) -> None:
        """Begin."""
        self._send()

    def _send(self) -> None:
        if self._is_over:
            return
        for _ in range(max(1, 65_536 // len(self._message))):
            if self._may_send or not self._heeds:
                self.transport.sendBytesMessage(self._message)
        if self._may_send or not self._heeds:
            clock.callLater(0, self._send)

    def sendQueueFilled(self) -> None:
        """Wait, perhaps."""
        self._may_send = False

    def sendQueueDrained(self) -> None:
        """Go on."""
        self._may_send = True
        if self._heeds:
            self._send()

    def connectionLost(self, reason: Failure) -> None:
        """There is nobody any more."""
        self._is_over = True
        super().connectionLost(reason)


class End(Echo):
    """Closes, or drops the connection."""

    def __init__(self, aborts: bool) -> None:
        self._aborts = aborts

    def textMessageReceived(self, message: str) -> None:
        """That is enough."""
        if self._aborts:
            self.transport.abortConnection()
        else:
            self.transport.loseConnection(1000, "that is enough")


class Applications:
    """The application that the path names."""

    def buildProtocol(self, request: Request) -> WebSocketProtocol:
        """Make it."""
        made: Echo
        match request.path.split("/")[1:]:
            case [""]:
                made = Echo()
            case ["push" | "produce" as kind, size]:
                made = Push(int(size), kind == "produce")
            case ["close" | "abort" as kind]:
                made = End(kind == "abort")
            case _:
                raise Refused(404)
        made.path = request.path
        return made


def main() -> None:
    """Serve until it is stopped."""
    options = sys.argv[1:]
    deflate = Deflate() if "--deflate" in options else None
    given = dict(option.split("=", 1) for option in options if option != "--deflate")
    listen = given.pop("listen", "tcp:0:interface=127.0.0.1:backlog=1024")
    bounds: dict[str, Any] = {
        name: float(value) if name.endswith("_s") else int(value) for name, value in given.items()
    }
    factory = WebSocketFactory(Applications(), limits=WebSocketLimits(**bounds), deflate=deflate)

    def say(port: IListeningPort) -> None:
        address: Any = port.getHost()
        print(f"listening on {address.host} port {address.port}", flush=True)

    endpoint = endpoints.serverFromString(reactor, listen)
    endpoint.listen(factory).addCallback(say)
    clock.run()


if __name__ == "__main__":
    main()

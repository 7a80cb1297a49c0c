"""A server that sends each text to all its clients, and counts how often that was compressed.

It says where it listens as `twistd chat` does, and answers `count` with the count.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import TCP4ServerEndpoint

from chatproto.websocket import (
    Deflate,
    Request,
    WebSocketFactory,
    WebSocketProtocol,
    WebSocketTransport,
    broadcast,
)
from chatproto.wire.deflate import Deflater

reactor: Any = _reactor

compressed = 0
transports: set[WebSocketTransport] = set()


class Member(WebSocketProtocol):
    def negotiationFinished(self) -> None:
        transports.add(self.transport)

    def textMessageReceived(self, message: str) -> None:
        if message == "count":
            self.transport.sendTextMessage(str(compressed))
        else:
            broadcast(transports, message)

    def connectionLost(self, reason: object) -> None:
        transports.discard(self.transport)


class Members:
    def buildProtocol(self, request: Request) -> Member:
        return Member()


def counted(self: Deflater, payload: bytes | bytearray | memoryview) -> bytes:
    global compressed
    compressed += 1
    return compress(self, payload)


if __name__ == "__main__":
    compress = Deflater.compress
    Deflater.compress = counted  # type: ignore[method-assign]
    endpoint = TCP4ServerEndpoint(reactor, 0, backlog=1_024, interface="127.0.0.1")
    listening = endpoint.listen(WebSocketFactory(Members(), deflate=Deflate()))
    listening.addCallback(
        lambda port: print(f"listening on 127.0.0.1 port {port.getHost().port}", flush=True)
    )
    reactor.run()

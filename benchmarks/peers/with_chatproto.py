"""Echo and broadcast on `chatproto.websocket`.

`with_chatproto.py echo|broadcast PORT [deflate] [CERTIFICATE]`: a PEM file, with its key in it, for TLS.
"""

from __future__ import annotations

import sys

from twisted.internet import endpoints, reactor

from chatproto.websocket import (
    Deflate,
    Request,
    WebSocketFactory,
    WebSocketProtocol,
    WebSocketTransport,
    broadcast,
    gathering,
)

task, port, *more = sys.argv[1:]
transports: dict[WebSocketTransport, None] = {}


class Echo(WebSocketProtocol):
    """Sends everything back."""

    def bytesMessageReceived(self, data: bytes) -> None:
        """Send it back."""
        self.transport.sendBytesMessage(data)


class Broadcast(WebSocketProtocol):
    """Sends everything to everybody."""

    def negotiationFinished(self) -> None:
        """One more."""
        transports[self.transport] = None

    def bytesMessageReceived(self, data: bytes) -> None:
        """Send it to all."""
        broadcast(transports, data)

    def connectionLost(self, reason: object) -> None:
        """One less."""
        transports.pop(self.transport, None)


class ServerFactory:
    """Everybody is welcome."""

    def buildProtocol(self, request: Request) -> WebSocketProtocol:
        """Make one for each connection."""
        return Echo() if task == "echo" else Broadcast()


deflates = "deflate" in more
certificates = [word for word in more if word != "deflate"]
endpoint = f"tcp:{port}:backlog=4096:interface=127.0.0.1"
if certificates:
    pem = certificates[0]
    endpoint = f"ssl:{port}:backlog=4096:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
factory = WebSocketFactory(ServerFactory(), deflate=Deflate() if deflates else None)
endpoints.serverFromString(gathering(reactor), endpoint).listen(factory)
reactor.run()

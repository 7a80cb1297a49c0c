"""Echo and broadcast on `chatproto.websocket`.

`with_chatproto.py echo|broadcast PORT [deflate] [prompt=CERTIFICATE|ssl=CERTIFICATE]`: a PEM file, with its
key in it, for TLS by the factory of ours or the endpoint of Twisted's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from twisted.internet import endpoints, reactor
from twisted.internet.ssl import PrivateCertificate

from chatproto.websocket import (
    Deflate,
    PromptTLSFactory,
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


given = {name: value for name, _, value in (word.partition("=") for word in more)}
endpoint = f"tcp:{port}:backlog=4096:interface=127.0.0.1"
factory: Any = WebSocketFactory(ServerFactory(), deflate=Deflate() if "deflate" in given else None)
if "ssl" in given:
    pem = given["ssl"]
    endpoint = f"ssl:{port}:backlog=4096:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
elif "prompt" in given:
    certificate = PrivateCertificate.loadPEM(Path(given["prompt"]).read_bytes())
    factory = PromptTLSFactory(certificate.options(), False, factory)
endpoints.serverFromString(gathering(reactor), endpoint).listen(factory)
reactor.run()

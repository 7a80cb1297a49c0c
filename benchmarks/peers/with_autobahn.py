"""Echo and broadcast on Autobahn with Twisted: `with_autobahn.py echo|broadcast PORT [deflate]`."""

from __future__ import annotations

import sys

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOfferAccept
from twisted.internet import reactor

task, port, *more = sys.argv[1:]
connections: set[Connection] = set()


class Connection(WebSocketServerProtocol):
    """Sends everything back, or to everybody."""

    def onOpen(self) -> None:
        """One more."""
        connections.add(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Send it back, or to all."""
        if task == "echo":
            self.sendMessage(payload, isBinary)
        elif more:  # what is prepared cannot be compressed
            for connection in connections:
                connection.sendMessage(payload, isBinary)
        else:
            prepared = self.factory.prepareMessage(payload, isBinary)
            for connection in connections:
                connection.sendPreparedMessage(prepared)

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:
        """One less."""
        connections.discard(self)


factory = WebSocketServerFactory(f"ws://127.0.0.1:{port}")
factory.protocol = Connection
if more:
    factory.setProtocolOptions(
        perMessageCompressionAccept=lambda offers: PerMessageDeflateOfferAccept(offers[0])
    )
reactor.listenTCP(int(port), factory, backlog=4096, interface="127.0.0.1")
reactor.run()

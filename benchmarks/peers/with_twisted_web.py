"""Echo and broadcast on `twisted.web.websocket`: `with_twisted_web.py echo|broadcast PORT`."""

from __future__ import annotations

import sys

from twisted.internet import endpoints, reactor
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from twisted.web.websocket import WebSocketProtocol, WebSocketResource, WebSocketTransport

task, port = sys.argv[1:]
applications: set[Application] = set()


class Application:
    """Sends everything back, or to everybody."""

    transport: WebSocketTransport

    def negotiationStarted(self, transport: WebSocketTransport) -> None:
        """Remember what it sends by."""
        self.transport = transport

    def negotiationFinished(self) -> None:
        """One more."""
        applications.add(self)

    def bytesMessageReceived(self, data: bytes | bytearray) -> None:
        """Send it back, or to all."""
        if task == "echo":
            self.transport.sendBytesMessage(bytes(data))
        else:
            for application in applications:
                application.transport.sendBytesMessage(bytes(data))

    def textMessageReceived(self, message: str) -> None:
        """Nothing sends text."""

    def pongReceived(self, payload: bytes) -> None:
        """Nothing asks for one."""

    def connectionLost(self, reason: Failure) -> None:
        """One less."""
        applications.discard(self)


class ServerFactory:
    """Everybody is welcome."""

    def buildProtocol(self, request: Request) -> WebSocketProtocol:
        """Make one for each connection."""
        return Application()


root = Resource()
root.putChild(b"chat", WebSocketResource(ServerFactory()))
site = Site(root)
site.noisy = False
endpoints.serverFromString(reactor, f"tcp:{port}:backlog=4096:interface=127.0.0.1").listen(site)
reactor.run()

"""The layer itself; with the argument `resource` its servers are places in a site of twisted.web."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from interop.peers.commands import Conversations, Report, Terms
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, DeferredLock, maybeDeferred
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.ssl import Certificate, DefaultOpenSSLContextFactory
from twisted.python.failure import Failure
from twisted.web.client import BrowserLikePolicyForHTTPS
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data

from chatproto.websocket import (
    Accepted,
    ConnectionBroken,
    ConnectionClosed,
    Deflate,
    HandshakeFailed,
    Refused,
    Request,
    WebSocketClientEndpoint,
    WebSocketFactory,
    WebSocketProtocol,
    WebSocketResource,
)

reactor: Any = _reactor

_PAGE = b"""<!doctype html>
<title>A page of the site's own</title>
<script>
  const socket = new WebSocket(`ws://${location.host}/`);
  socket.onopen = () => socket.send("from a page of this site");
</script>
"""


class _Open(WebSocketProtocol):
    def __init__(self, report: Report) -> None:
        self._report = report

    def negotiationFinished(self) -> None:
        self._report.opened(self, self.transport.subprotocol)

    def textMessageReceived(self, message: str) -> None:
        self._report.message(message)

    def bytesMessageReceived(self, data: bytes) -> None:
        self._report.message(data)

    def pongReceived(self, payload: bytes) -> None:
        self._report.pong(payload)

    def connectionLost(self, reason: Failure) -> None:
        ended = reason.value
        assert isinstance(ended, ConnectionClosed | ConnectionBroken), reason
        self._report.closed(ended.code, ended.reason, isinstance(ended, ConnectionClosed))

    async def send(self, pieces: Sequence[str | bytes]) -> None:
        (message,) = pieces
        if isinstance(message, str):
            self.transport.sendTextMessage(message)
        else:
            self.transport.sendBytesMessage(message)

    async def ping(self, payload: bytes) -> None:
        self.transport.ping(payload)

    async def close(self, code: int, reason: str) -> None:
        self.transport.loseConnection(code, reason)


class _Server:
    def __init__(self, terms: Terms, report: Report) -> None:
        self._terms = terms
        self._report = report

    def buildProtocol(self, request: Request) -> Accepted:
        if self._terms.refusal is not None:
            raise Refused(*self._terms.refusal)
        chosen = next((name for name in self._terms.subprotocols if name in request.subprotocols), None)
        return Accepted(_Open(self._report), chosen)


class _Client:
    def __init__(self, report: Report) -> None:
        self._report = report

    def buildProtocol(self, url: str) -> _Open:
        return _Open(self._report)


class Layer:
    """Its limits are the usual ones."""

    def __init__(self, is_resource: bool) -> None:
        self._is_resource = is_resource

    async def listen(self, terms: Terms, report: Report) -> tuple[int, Callable[[], Awaitable[None]]]:
        """Listen on a free port."""
        server = _Server(terms, report)
        factory: Any
        if self._is_resource:
            root = Resource()
            root.putChild(b"", WebSocketResource(server, origins=terms.origins, deflate=_deflate(terms)))
            root.putChild(b"page", Data(_PAGE, "text/html"))
            factory = Site(root)
        else:
            factory = WebSocketFactory(server, origins=terms.origins, deflate=_deflate(terms))
        endpoint: IStreamServerEndpoint
        if terms.tls is None:
            endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        else:
            certificate, key = terms.tls
            tls = DefaultOpenSSLContextFactory(key, certificate)
            endpoint = SSL4ServerEndpoint(reactor, 0, tls, interface="127.0.0.1")
        port = await endpoint.listen(factory)

        async def stop() -> None:
            await maybeDeferred(port.stopListening)

        return port.getHost().port, stop

    async def connect(self, url: str, terms: Terms, report: Report) -> None:
        """Connect, and report how it went."""
        endpoint = WebSocketClientEndpoint.new(
            reactor, url, subprotocols=terms.subprotocols, deflate=_deflate(terms), tlsPolicy=_policy(terms)
        )
        try:
            await endpoint.connect(_Client(report))
        except HandshakeFailed as failed:
            report.refused(failed.status, failed.body.decode())


def _deflate(terms: Terms) -> Deflate | None:
    return None if terms.deflate is None else Deflate(**terms.deflate)


def _policy(terms: Terms) -> BrowserLikePolicyForHTTPS | None:
    """Trusts the server's certificate and no other."""
    if terms.tls is None:
        return None
    return BrowserLikePolicyForHTTPS(Certificate.loadPEM(Path(terms.tls[0]).read_bytes()))


def _carry_out(commands: BinaryIO) -> None:
    """Carry out *commands*, one after the other; called from a thread that may wait for them."""
    conversations = Conversations(Layer("resource" in sys.argv))
    one_by_one = DeferredLock()

    def perform(line: bytes) -> Deferred[None]:
        return Deferred.fromCoroutine(conversations.perform(line))

    for line in commands:
        reactor.callFromThread(one_by_one.run, perform, line)
    reactor.callFromThread(reactor.stop)


if __name__ == "__main__":
    reactor.callInThread(_carry_out, sys.stdin.buffer)
    reactor.run()

"""The WebSocket layer on real sockets: as a factory, as a resource, and plain sockets as its peers."""

from __future__ import annotations

import http.client
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from net.loopback import End, LoopbackCase, reactor
from net.websocket.applications import Recorder
from net.websocket.memory import request_bytes
from twisted.internet.interfaces import IListeningPort
from twisted.internet.tcp import Connection
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from wire.websocket_model import frame

from chatproto.websocket import WebSocketFactory, WebSocketResource
from chatproto.wire.messages import Side
from chatproto.wire.websocket import Event, WebSocketDecoder


@dataclass(frozen=True)
class Response:
    """An answer of HTTP; `rest` came behind it."""

    status: int
    headers: dict[str, str]
    body: str
    rest: bytes


class _Bytes:
    """What `HTTPResponse` takes for a socket."""

    def __init__(self, stream: io.BytesIO) -> None:
        self._stream = stream

    def makefile(self, mode: str) -> io.BytesIO:
        return self._stream


def parsed(data: bytes) -> Response:
    """The response that *data* begins with."""
    if data.startswith(b"HTTP/1.1 101 "):
        head, _, rest = data.partition(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:]]
        return Response(101, {name.lower(): value for name, value in lines}, "", rest)
    stream = io.BytesIO(data)
    stream.close = lambda: None  # type: ignore[method-assign]
    response = http.client.HTTPResponse(_Bytes(stream))  # type: ignore[arg-type]
    response.begin()
    body = response.read().decode()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Response(response.status, headers, body, stream.read())


class Page(Resource):
    """A page of a site, as long as the query says."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        size = int(request.args.get(b"size", [b"6"])[0])
        return (b"a page" * (size // 6 + 1))[:size]


class Peer:
    """A client's end of a connection whose WebSocket is open, or will be."""

    def __init__(self, end: End, rest: bytes = b"", decoder: WebSocketDecoder | None = None) -> None:
        self.end = end
        self.events: list[Event] = []
        self.decoder = decoder or WebSocketDecoder(Side.CLIENT, 2**26)
        self._read_bytes = len(end.received)
        self.events += self.decoder.receive(rest)

    def send(self, opcode: int, payload: bytes = b"", **how: Any) -> None:
        """Send a frame."""
        self.end.send(frame(opcode, payload, to=Side.SERVER, **how))

    def read(self, most_bytes: int = 2**16) -> None:
        """Take what is there."""
        self.end.read(most_bytes)
        self.events += self.decoder.receive(bytes(self.end.received[self._read_bytes :]))
        self._read_bytes = len(self.end.received)
        assert self.decoder.fault is None


class WebSocketCase(LoopbackCase):
    """Servers and peers that are gone when a test is over, with everything that belongs to them."""

    as_resource = False
    """Whether servers are a resource in a site, at `/path`, beside a page at `/page`."""

    def setUp(self) -> None:
        def connections() -> list[Connection]:
            return [reader for reader in reactor.getReaders() if isinstance(reader, Connection)]

        async def nothing_is_left() -> None:
            await self.until(lambda: not connections(), "a connection is left open")

        self.addCleanup(nothing_is_left)

    async def serve(self, factory: Any, kind: str = "tcp", **options: Any) -> tuple[IListeningPort, Any]:
        """Listen until the test is over: the port, and the layer's factory or resource."""
        layer: Any = (WebSocketResource if self.as_resource else WebSocketFactory)(factory, **options)
        if self.as_resource:
            root = Resource()
            root.putChild(b"path", layer)
            root.putChild(b"page", Page())
            site: Any = Site(root)
            self.site = site
            port = await self.listen(site, kind)
        else:
            port = await self.listen(layer, kind)
        self.addCleanup(layer.shut_down)
        return port, layer

    async def asked(self, end: End, data: bytes | None = None) -> Response:
        """The answer to a request that needs none to follow; a refused one is read to its end."""
        if data is not None:
            end.send(data)

        def has_come() -> bool:
            end.read()
            head, found, rest = bytes(end.received).partition(b"\r\n\r\n")
            if head.startswith(b"HTTP/1.1 101 "):
                return bool(found)
            lengths = [
                line[16:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
            ]
            is_whole = bool(found and lengths) and len(rest) >= int(lengths[0])
            return end.at_end or is_whole or rest.endswith(b"0\r\n\r\n")

        await self.until(has_come, f"no answer: {bytes(end.received)!r}")
        return parsed(bytes(end.received))

    async def opened(
        self, port: IListeningPort, *headers: str, kind: str = "tcp", behind: bytes = b"", **how: Any
    ) -> Peer:
        """A peer whose WebSocket is open."""
        end = self.connect(port, kind, **how)
        await self.shake_hands(end)
        response = await self.asked(end, request_bytes(*headers) + behind)
        assert response.status == 101, response
        return Peer(end, response.rest)

    async def ended(self, application: Recorder) -> None:
        """Wait until an application is told of the end."""
        await self.until(lambda: application.end, f"it was only told {application.told}")

    async def has_heard(self, application: Recorder, count: int = 1) -> None:
        """Wait until an application has been given so many messages."""
        await self.until(lambda: len(application.heard) >= count, f"it only heard {application.heard[-3:]}")

    async def emptied(self, layer: Any) -> None:
        """Wait until a factory, resource or endpoint has no connection any more."""
        await self.until(lambda: not len(layer.connections), "connections are left")

    async def heard(self, peer: Peer, holds: Callable[[], object] | int) -> list[Event]:
        """What *peer* has heard, when that is so much or when something holds."""

        def is_so() -> bool:
            peer.read()
            return len(peer.events) >= holds if isinstance(holds, int) else bool(holds())

        await self.until(is_so, f"only {peer.events[-3:]} came")
        return peer.events

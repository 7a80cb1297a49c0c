"""WebSockets for Twisted, server and client: everything that users of the layer need.

The interface is that of `twisted.web.websocket`, and more: limits, compression, subprotocols, liveness,
prepared messages, refusals. See `docs/howto.md`.
"""

from __future__ import annotations

from chatproto.limits import WebSocketLimits
from chatproto.net.gathering import gathering
from chatproto.net.prompttls import PromptTLSFactory
from chatproto.net.websocket.client import WebSocketClientEndpoint
from chatproto.net.websocket.factory import WebSocketFactory
from chatproto.net.websocket.interfaces import (
    Accepted,
    Application,
    ClientFactory,
    ConnectionBroken,
    ConnectionClosed,
    Refused,
    ServerFactory,
    WebSocketProtocol,
)
from chatproto.net.websocket.passage import broadcast
from chatproto.net.websocket.resource import WebSocketResource
from chatproto.net.websocket.transport import WebSocketTransport
from chatproto.wire.closing import CloseCode
from chatproto.wire.connection import End
from chatproto.wire.deflate import Deflate
from chatproto.wire.handshake import HandshakeFailed, Request
from chatproto.wire.prepared import Prepared as PreparedMessage

__all__ = [
    "Accepted",
    "Application",
    "ClientFactory",
    "CloseCode",
    "ConnectionBroken",
    "ConnectionClosed",
    "Deflate",
    "End",
    "HandshakeFailed",
    "PreparedMessage",
    "PromptTLSFactory",
    "Refused",
    "Request",
    "ServerFactory",
    "WebSocketClientEndpoint",
    "WebSocketFactory",
    "WebSocketLimits",
    "WebSocketProtocol",
    "WebSocketResource",
    "WebSocketTransport",
    "broadcast",
    "gathering",
]

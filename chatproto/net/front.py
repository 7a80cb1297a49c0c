"""One port: the first bytes tell what a connection speaks (docs/protocol.md, section 6)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IProtocol,
    ISSLTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from chatproto.net.chat import ChatProtocol
from chatproto.net.frames import FrameProtocol
from chatproto.net.lines import LineProtocol
from chatproto.net.site import SiteChannel
from chatproto.net.sockets import tune
from chatproto.net.websocket.transport import WebSocketTransport

if TYPE_CHECKING:
    from chatproto.net.factory import ChatFactory

__all__ = ["Front"]

SILENCE_S = 1.0
"""After which a connection gets the line form: a person at nc waits to be spoken to."""

# RFC 9110, section 9, RFC 5789, and the preface of HTTP/2 (RFC 9113, section 3.4)
_METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH", b"PRI")
_HTTP = re.compile(rb"(?:" + b"|".join(_METHODS) + rb")(?![A-Za-z0-9!#$%&'*+.^_`|~-])")


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class Front(Protocol):
    """Looks at the first bytes of a connection and then steps out of the way."""

    def __init__(self, factory: ChatFactory) -> None:
        self.factory = factory
        self._begun = b""
        self._face: IProtocol | None = None
        self._silence: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Wait for the first bytes, but not for long."""
        assert self.transport is not None
        limits = self.factory.hub.limits
        tune(self.transport, limits.lag_timeout_s)
        self.factory.fronts.add(self)
        # Before the handshake of TLS is complete nobody can say anything, and it may take more than a second.
        silence_s = limits.join_timeout_s if ISSLTransport.providedBy(self.transport) else SILENCE_S
        self._silence = self.factory.hub.clock.callLater(silence_s, self._fell_silent)

    def handshakeCompleted(self) -> None:
        """The TLS is open, and the silence begins (IHandshakeListener)."""
        if self._silence is not None:
            self._silence.reset(SILENCE_S)

    def dataReceived(self, data: bytes) -> None:
        """Decide, if these bytes suffice."""
        self._begun += data
        if self._begun[0] == 0:
            self._become(FrameProtocol(self.factory))
        elif _could_become_http(self._begun):
            # The silence begins anew; the names of methods are short, so this ends.
            assert self._silence is not None
            self._silence.reset(SILENCE_S)
        elif _HTTP.match(self._begun):
            self._become_http()
        else:
            self._become(LineProtocol(self.factory))

    def _fell_silent(self) -> None:
        if self._begun in _METHODS:
            self._become_http()
        else:
            self._become(LineProtocol(self.factory))

    def _become_http(self) -> None:
        assert self.transport is not None
        channel = self.factory.site.buildProtocol(self.transport.getPeer())
        self._become(channel, self._received_by_http)

    def _received_by_http(self, data: bytes) -> None:
        """What comes goes to the channel, until a WebSocket has taken the connection over."""
        channel = self._face
        assert isinstance(channel, SiteChannel)
        if channel.taken_over_by is None:
            channel.dataReceived(data)
        else:
            self._face = channel.taken_over_by  # and the channel may go
            self.dataReceived = self._face.dataReceived
            self._face.dataReceived(data)

    def _become(self, face: IProtocol, data_received: Callable[[bytes], None] | None = None) -> None:
        """Hand the connection to *face*: from now on its transport's calls go straight there."""
        self._stop_waiting()
        transport, begun = self.transport, self._begun
        assert transport is not None
        self._face = face
        self._begun = b""
        self.dataReceived = data_received or face.dataReceived  # type: ignore[method-assign, assignment]
        face.makeConnection(transport)
        if begun:
            face.dataReceived(begun)

    def _stop_waiting(self) -> None:
        if self._silence is not None and self._silence.active():
            self._silence.cancel()
        self._silence = None

    def close(self) -> None:
        """The server goes away: end a connection that has no session, which would be told `goodbye`."""
        if isinstance(self._face, SiteChannel):
            self._face.close()
        elif self.transport is not None and not isinstance(self._face, ChatProtocol | WebSocketTransport):
            self.transport.abortConnection()  # type: ignore[attr-defined]

    def readConnectionLost(self) -> None:
        """The peer sends nothing more (IHalfCloseableProtocol)."""
        if self._face is None:
            if not self._begun:
                assert self.transport is not None
                self._stop_waiting()
                self.transport.loseConnection()
                return
            self._fell_silent()
        half_closeable = IHalfCloseableProtocol(self._face, None)
        if half_closeable is not None:
            half_closeable.readConnectionLost()
        else:
            assert self.transport is not None
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Nothing more can be sent (IHalfCloseableProtocol)."""
        half_closeable = IHalfCloseableProtocol(self._face, None)
        if half_closeable is not None:
            half_closeable.writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        self._stop_waiting()
        self.factory.fronts.discard(self)
        self.transport = None
        face, self._face = self._face, None
        # Bound methods of the face would keep both alive for the garbage collector.
        self.__dict__.pop("dataReceived", None)
        try:
            if face is not None:
                face.connectionLost(reason)
        finally:
            self.factory.connection_gone()


def _could_become_http(begun: bytes) -> bool:
    """Whether these bytes are a method, or the beginning of one, with nothing after it yet."""
    return any(method.startswith(begun) for method in _METHODS)

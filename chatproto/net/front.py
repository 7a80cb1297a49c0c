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

from chatproto.net.admission import Place, TurnedAway
from chatproto.net.chat import ChatProtocol
from chatproto.net.frames import FrameProtocol
from chatproto.net.lastwords import LastWords, words_for
from chatproto.net.lines import LineProtocol
from chatproto.net.notspoken import not_spoken
from chatproto.net.site import SiteChannel
from chatproto.net.sockets import tune
from chatproto.net.websocket.transport import WebSocketTransport

if TYPE_CHECKING:
    from chatproto.net.factory import ChatFactory

__all__ = ["FACES", "Front"]

FACES = frozenset({"web", "frames", "lines"})
"""What a connection may speak."""

SILENCE_S = 1.0
"""After which a connection gets the line form: a person at nc waits to be spoken to."""

TURNED_AWAY_S = 2.0
"""What somebody has to read why they are not let in. They hold a descriptor, so it is little."""

# RFC 9110, section 9, RFC 5789, and the preface of HTTP/2 (RFC 9113, section 3.4)
_METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH", b"PRI")
_HTTP = re.compile(rb"(?:" + b"|".join(_METHODS) + rb")(?![A-Za-z0-9!#$%&'*+.^_`|~-])")


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class Front(Protocol):
    """Looks at the first bytes of a connection and then steps out of the way.

    `faces` are those that may be spoken where it came in. Somebody who is *turned_away* is told so.
    """

    faces: frozenset[str] = FACES

    def __init__(self, factory: ChatFactory, turned_away: TurnedAway | None = None) -> None:
        self.factory = factory
        self.place: Place | None = None
        self._turned_away = turned_away
        self._begun = b""
        self._face: IProtocol | None = None
        self._silence: IDelayedCall | None = None
        self._shakes_hands = False

    def connectionMade(self) -> None:
        """Wait for the first bytes, but not for long."""
        assert self.transport is not None
        limits = self.factory.hub.limits
        self.factory.fronts.add(self)
        if self._turned_away is None:
            self.place = self.factory.admission.take(self.transport.getPeer())
            tune(self.transport, limits.lag_timeout_s)
        # Before the handshake of TLS is complete nobody can say anything, and it may take more than a second.
        self._shakes_hands = ISSLTransport.providedBy(self.transport)
        shaking_s = limits.join_timeout_s if self._turned_away is None else TURNED_AWAY_S
        silence_s = shaking_s if self._shakes_hands else SILENCE_S
        self._silence = self.factory.hub.clock.callLater(silence_s, self._is_late)

    def handshakeCompleted(self) -> None:
        """The TLS is open, and the silence begins (IHandshakeListener)."""
        self._shakes_hands = False
        if self._silence is not None:
            self._silence.reset(SILENCE_S)

    def dataReceived(self, data: bytes) -> None:
        """Decide, if these bytes suffice."""
        self._begun += data
        if self._begun[0] == 0:
            self._become_if_spoken("frames", FrameProtocol)
        elif _could_become_http(self._begun):
            # The silence begins anew; the names of methods are short, so this ends.
            assert self._silence is not None
            self._silence.reset(SILENCE_S)
        elif _HTTP.match(self._begun):
            self._become_http()
        else:
            self._become_if_spoken("lines", LineProtocol)

    def _is_late(self) -> None:
        # Perhaps it was the server that stood still. What came meanwhile is read before the next turn.
        self._silence = self.factory.hub.clock.callLater(0, self._fell_silent)

    def _fell_silent(self) -> None:
        if self._shakes_hands and not self._begun:
            # Nobody can be spoken to, and a person's time to think of a nickname is no time for a handshake.
            self.close()
        elif self._begun in _METHODS:
            self._become_http()
        else:
            self._become_if_spoken("lines", LineProtocol)

    def _become_if_spoken(self, name: str, face: type[FrameProtocol | LineProtocol]) -> None:
        if self._is_turned_away(name):
            return
        if name in self.faces:
            self._become(face(self.factory))
        else:
            self._refuse(name)

    def _refuse(self, name: str) -> None:
        self._become(LastWords(not_spoken(name, self.faces), self.factory.hub.clock, TURNED_AWAY_S))

    def _is_turned_away(self, name: str) -> bool:
        """Whether there is no place for this connection; whoever speaks *name* is then told so."""
        assert self.transport is not None
        if self.place is not None:
            # A wrapper may have learnt only from the first bytes where they come from.
            self._turned_away = self.place.move(self.transport.getPeer())
        if self._turned_away is not None:
            self._turn_away(name, self._turned_away)
        return self._turned_away is not None

    def _turn_away(self, name: str, turned_away: TurnedAway) -> None:
        self._become(LastWords(words_for(name, turned_away), self.factory.hub.clock, TURNED_AWAY_S))

    def _become_http(self) -> None:
        if self._is_turned_away("web"):
            return
        if "web" not in self.faces:
            self._refuse("web")
            return
        assert self.transport is not None
        assert self.place is not None
        site = self.factory.site
        straight = site.straight(self._begun, self.transport, self.place)
        if isinstance(straight, TurnedAway):
            self._turn_away("web", straight)
        elif straight is not None:
            self._become(straight)
        else:
            channel = site.buildProtocol(self.transport.getPeer())
            channel.place = self.place
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

    @property
    def is_undecided(self) -> bool:
        """Whether it is not known yet what is spoken here, and will be soon."""
        return self._face is None and self.transport is not None and not self._shakes_hands

    def cut(self) -> None:
        """Drop the connection at once, whoever has it."""
        if self.transport is not None:
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
        if self.place is not None:
            self.place.give_back()
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

"""For whoever is not let in: one sentence, in the form of what they speak, and the end."""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IReactorTime, ISSLTransport, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from chatproto.net.admission import TurnedAway
from chatproto.wire.chat import encode_frame
from chatproto.wire.errors import ErrorCode
from chatproto.wire.http import Refusal
from chatproto.wire.messages import Error, Goodbye

__all__ = ["LastWords", "words_for"]


class LastWords(Protocol):
    """Says *words* on a connection, and ends it within *close_timeout_s*."""

    def __init__(self, words: bytes, clock: IReactorTime, close_timeout_s: float) -> None:
        self._words = words
        self._clock = clock
        self._close_timeout_s = close_timeout_s
        self._closing: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Say it, and send nothing more."""
        transport = self.transport
        assert transport is not None
        transport.write(self._words)
        # Not even TLS, which waits for the peer to end it too, may hold the connection longer.
        self._closing = self._clock.callLater(
            self._close_timeout_s,
            transport.abortConnection,  # type: ignore[attr-defined]
        )
        if ITCPTransport.providedBy(transport) and not ISSLTransport.providedBy(transport):
            # What still comes is thrown away: closing a socket with unread input would take the words away.
            transport.loseWriteConnection()
        else:
            transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """They are gone."""
        if self._closing is not None and self._closing.active():
            self._closing.cancel()


def words_for(face: str, refusal: TurnedAway) -> bytes:
    """What somebody who speaks *face* ("web", "frames" or "lines") is told."""
    if face == "frames":
        goodbye = Goodbye(1_000 * refusal.retry_s, refusal.text)
        return encode_frame(Error(ErrorCode.RATE_LIMITED, 0, refusal.text)) + encode_frame(goodbye)
    if face == "web":
        retry_after = (("Retry-After", str(refusal.retry_s)),)
        return Refusal(refusal.http_status, f"{refusal.text.capitalize()}.\n", retry_after).encode()
    return f"* {refusal.text}\r\n".encode()

"""Listening behind a proxy that says, before anything else, whom each connection comes from.

Twisted's own wrapper for the PROXY protocol loses a connection whose first packet has fewer bytes than it
looks at, waits for ever for one that sends none, and stays between the transport and what is behind it.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocolFactory,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from chatproto.net.peers import TrustedPeers, stream_address
from chatproto.wire.proxyheader import ProxyHeaderDecoder

__all__ = ["ProxiedFactory"]

_log = Logger(namespace="chatproto")

TELL_EVERY_S = 60.0
"""So often the log tells of connections that were turned away: strangers make as many as they like."""


@implementer(IHalfCloseableProtocol)
class _Proxied(Protocol):
    """Reads the header of one connection, and then steps out of the way for good."""

    def __init__(self, factory: ProxiedFactory) -> None:
        self._factory = factory
        self._header = ProxyHeaderDecoder()
        self._timeout: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Wait for the header, but not for long."""
        factory = self._factory
        factory.waiting.add(self)
        self._timeout = factory.clock.callLater(factory.timeout_s(), self.close)

    def dataReceived(self, data: bytes) -> None:
        """A part of the header is there, or all of it with what follows."""
        rest = self._header.receive(data)
        if self._header.fault:
            self._factory.turn_away(self.transport.getPeer(), self._header.fault)  # type: ignore[union-attr]
            self.close()
        elif self._header.is_complete:
            self._step_aside(rest)

    def _step_aside(self, rest: bytes) -> None:
        transport = self.transport
        assert transport is not None
        self._done()
        header = self._header
        if header.source is not None and header.destination is not None:
            # Whoever asks the transport, above TLS too, is told of the client. Itself it never asks.
            transport.getPeer = _always(stream_address(*header.source))  # type: ignore[method-assign]
            transport.getHost = _always(stream_address(*header.destination))  # type: ignore[method-assign]
        protocol = self._factory.behind.buildProtocol(transport.getPeer())
        if protocol is None:
            transport.abortConnection()  # type: ignore[attr-defined]
            return
        transport.protocol = protocol  # type: ignore[attr-defined]
        protocol.makeConnection(transport)
        if rest:
            protocol.dataReceived(rest)

    def close(self) -> None:
        """End it: there is nobody yet to be told anything."""
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    def readConnectionLost(self) -> None:
        """The proxy sends nothing more (IHalfCloseableProtocol), and said nothing: it only looked."""
        self.close()

    def writeConnectionLost(self) -> None:
        """Nothing can be sent (IHalfCloseableProtocol), and nothing will be."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone before the header was there."""
        self._done()

    def _done(self) -> None:
        self._factory.waiting.discard(self)
        if self._timeout is not None and self._timeout.active():
            self._timeout.cancel()
        self._timeout = None


class ProxiedFactory(Factory):
    """For connections that come by proxies: *behind* gets them without the header, as if from their clients.

    Only *trusted* peers are taken, as anybody else could claim any address. The header must be there within
    the seconds that *timeout_s* gives.
    """

    noisy = False

    def __init__(
        self,
        behind: IProtocolFactory,
        trusted: TrustedPeers,
        clock: IReactorTime,
        timeout_s: Callable[[], float],
    ) -> None:
        self.behind = behind
        self.trusted = trusted
        self.clock = clock
        self.timeout_s = timeout_s
        self.waiting: set[_Proxied] = set()
        self._told_at_s = -TELL_EVERY_S
        self._untold = 0

    def logPrefix(self) -> str:
        """As what Twisted's log has it."""
        return "chat behind a proxy"

    def doStart(self) -> None:
        """It is listened."""
        super().doStart()
        self.behind.doStart()

    def doStop(self) -> None:
        """It is listened no more: who has not said yet where they come from is gone."""
        self.behind.doStop()
        super().doStop()
        for proxied in list(self.waiting):
            proxied.close()

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """One connection, if it is a proxy's."""
        if not self.trusted.trusts(addr):
            self.turn_away(addr, "it is no trusted proxy's")
            return None
        return _Proxied(self)

    def turn_away(self, addr: object, why: str) -> None:
        """Have it in the log, but not each of many."""
        now_s = self.clock.seconds()
        if now_s - self._told_at_s < TELL_EVERY_S:
            self._untold += 1
            return
        others = f", and {self._untold} more since" if self._untold else ""
        place = getattr(addr, "host", None) or "a Unix socket"
        _log.warn("a connection from {place} was closed: {why}{others}", place=place, why=why, others=others)
        self._told_at_s, self._untold = now_s, 0


def _always(address: IAddress) -> Callable[[], IAddress]:
    return lambda: address

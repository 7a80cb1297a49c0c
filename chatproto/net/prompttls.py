"""TLS that writes at once, for what writes once in a turn of the reactor, as `SendQueue` does.

Twisted's own TLS waits a turn for more, as many programs write a little at a time. Then it leaves the record
to the transport under it, which has the reactor watch the socket, be told that there is room, and watch it no
more: most of what a delivery costs. Here each write is encrypted at once and goes straight to the socket.
That is allowed because of two promises of Twisted's: a transport whose buffer is empty does not touch the
socket for writing, and a pull producer is called back exactly when the buffer has become empty.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

from twisted.internet.interfaces import IPullProducer, IPushProducer, ITransport
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import directlyProvides, implementer, providedBy

from chatproto.net.sockets import plain_socket

__all__ = ["PromptTLSFactory"]


class _PromptTransport:
    """*transport*, but what is written goes to its plain socket, *handle*, itself while nothing waits.

    Its one producer, which is a push producer, is paused when it writes while something does.
    """

    def __init__(self, transport: Any, handle: socket.socket) -> None:
        self.transport = transport
        self._handle = handle
        self._producer: Any = None
        self._is_waiting = False
        self._room = _Room(self)
        directlyProvides(self, providedBy(transport))
        transport.registerProducer(self._room, False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def write(self, data: bytes) -> None:
        """Send what the socket takes now; the transport sends the rest (ITransport)."""
        try:
            sent_bytes = 0 if self._is_waiting else self._handle.send(data)
        except OSError:
            sent_bytes = 0  # there is no room; or it is broken or closed, which the transport finds or knows
        if sent_bytes < len(data):
            self._is_waiting = True
            self.transport.write(data[sent_bytes:])
            # Each time, as TLS has it go on after a handshake though something may wait here.
            if self._producer is not None:
                self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Write all of them (ITransport)."""
        self.write(b"".join(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Have *producer* paused and resumed, not before it writes (IConsumer)."""
        if self._producer is not None:
            raise RuntimeError("there is a producer already")
        self._producer = producer

    def unregisterProducer(self) -> None:
        """Forget the producer (IConsumer)."""
        self._producer = None

    def loseConnection(self) -> None:
        """Close when everything is sent (ITransport)."""
        # For a pull producer the transport would wait, in case it has more.
        self.transport.unregisterProducer()
        self.transport.registerProducer(self._room, True)
        self.transport.loseConnection()

    def abortConnection(self) -> None:
        """Close at once, and send nothing more (ITCPTransport)."""
        self._is_waiting = True  # for what has no effect any more
        self.transport.abortConnection()

    def has_room(self) -> None:
        """The transport's buffer is empty."""
        if self._is_waiting:
            self._is_waiting = False
            if self._producer is not None:
                self._producer.resumeProducing()

    def is_gone(self) -> None:
        """The connection is gone."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()


@implementer(IPullProducer, IPushProducer)
class _Room:
    """What the transport tells how full it is. Of its own it is asked to pause reading, by the same names."""

    def __init__(self, prompt: _PromptTransport) -> None:
        self._prompt = prompt

    def pauseProducing(self) -> None:
        """Too much waits; the producer is paused as soon as anything does (IPushProducer)."""

    def resumeProducing(self) -> None:
        """Nothing waits (IPullProducer, IPushProducer)."""
        self._prompt.has_room()

    def stopProducing(self) -> None:
        """It is gone (IProducer)."""
        self._prompt.is_gone()


class _PromptTLS(TLSMemoryBIOProtocol):
    transport: Any

    def makeConnection(self, transport: ITransport) -> None:
        """Begin with the handshake (IProtocol)."""
        handle = plain_socket(transport)
        super().makeConnection(transport if handle is None else _PromptTransport(transport, handle))

    def abortConnection(self) -> None:
        """Close at once (ITCPTransport)."""
        # Before the end of TLS is written: with that a peer would take what it has for all that there was.
        self.transport.abortConnection()
        super().abortConnection()


class PromptTLSFactory(TLSMemoryBIOFactory):
    """Twisted's `TLSMemoryBIOFactory`, for protocols that write once in a turn and not a little at a time.

    Where something lies between it and a stream socket it only does without the wait.
    """

    protocol = _PromptTLS

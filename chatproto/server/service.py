"""The chat as a Twisted service: listens, says where, and ends cleanly."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatproto.limits import Limits
from chatproto.net.factory import ChatFactory
from chatproto.rooms.hub import Hub

__all__ = ["ChatService", "NotListening"]

_log = Logger(namespace="chatproto")

RETRY_MS = 1_000
"""When clients should come back after the server was told to end."""


class NotListening(SystemExit, Exception):
    """The server cannot listen where it was told to; the text is one sentence.

    A SystemExit, so that `twistd -n` prints the sentence alone and exits with 1; an Exception, so that a
    daemon passes it to the process that started it.
    """


class ChatService(Service):
    """Listens on *endpoints*, strings as `serverFromString` takes them, and serves one hub on all of them.

    Nothing is opened before `privilegedStartService`: `twistd` forks between making and starting it.
    """

    name = "chat"

    def __init__(
        self, endpoints: Sequence[str], *, limits: Limits | None = None, default_room: str = "lobby", reactor: Any = None
    ) -> None:
        self.endpoints = tuple(endpoints)
        self.limits = limits or Limits()
        self.default_room = default_room
        self.ports: list[IListeningPort] = []
        self._reactor = reactor
        self.factory: ChatFactory | None = None

    def privilegedStartService(self) -> None:
        """Listen, while ports below 1024 may still be had."""
        super().privilegedStartService()
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = reactor
        hub = Hub(self._reactor, limits=self.limits, default_room=self.default_room)
        self.factory = ChatFactory(hub)
        for description in self.endpoints:
            outcome: list[IListeningPort | Failure] = []
            listening = serverFromString(self._reactor, description).listen(self.factory)
            listening.addBoth(outcome.append)
            if not outcome:
                # No endpoint of Twisted's does this, but one of a plugin's may.
                listening.addErrback(lambda _: None)
                raise NotListening(f"{description} does not listen at once, which this server needs")
            if isinstance(outcome[0], Failure):
                self._close_ports()
                raise NotListening(_why_not(description, outcome[0]))
            self.ports.append(outcome[0])

    def startService(self) -> None:
        """Say where it listens and how to connect."""
        if self.factory is None:
            self.privilegedStartService()
        super().startService()
        for port in self.ports:
            for line in _how_to_connect(port.getHost()):
                _log.info("{line}", line=line)

    def stopService(self) -> Deferred[Any]:
        """Stop listening, say `goodbye`, and be done when everybody had the chance to read it."""
        super().stopService()
        factory, self.factory = self.factory, None
        closing = self._close_ports()
        if factory is not None:
            closing.append(factory.shut_down(RETRY_MS))
        return DeferredList(closing)

    def _close_ports(self) -> list[Deferred[Any]]:
        ports, self.ports = self.ports, []
        closing = [port.stopListening() for port in ports]
        return [waiting for waiting in closing if waiting is not None]


def _why_not(description: str, failure: Failure) -> str:
    error = failure.value
    if isinstance(error, CannotListenError):
        reason = error.socketError.strerror if isinstance(error.socketError, OSError) else str(error.socketError)
        return f"cannot listen on {description}: {(reason or str(error.socketError)).lower()}"
    return f"cannot listen on {description}: {error}"


def _how_to_connect(address: object) -> list[str]:
    """One line for each way in."""
    if isinstance(address, IPv4Address | IPv6Address):
        host = address.host
        if host in ("0.0.0.0", "::"):
            host = socket.gethostname()
        place = f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"
        return [
            f"listening on {address.host} port {address.port}",
            f"talk: nc {host} {address.port}    or: chatproto-connect {place} --nick NAME",
        ]
    if isinstance(address, UNIXAddress):
        path = address.name.decode() if isinstance(address.name, bytes) else str(address.name)
        return [f"listening on {path}", f"talk: nc -U {path}"]
    return [f"listening on {address}"]

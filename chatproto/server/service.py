"""The chat as a Twisted service: listens, says where, and ends cleanly."""

from __future__ import annotations

import re
import resource
import socket
from collections.abc import Collection, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.selectreactor import SelectReactor
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatproto.limits import HistoryLimits, Limits
from chatproto.net.factory import ChatFactory
from chatproto.rooms.hub import Hub
from chatproto.rooms.sqlite import SqliteLog
from chatproto.rooms.sqlite_file import HistoryUnusable
from chatproto.wire.deflate import Deflate

__all__ = ["ChatService", "NotStarted"]

_log = Logger(namespace="chatproto")

RETRY_MS = 1_000
"""When clients should come back after the server was told to end."""

BACKLOG = 1_024
"""Connections that the kernel holds for an endpoint that says nothing else. Twisted's 50 is less than what
comes back at once after a restart."""


class NotStarted(SystemExit, Exception):
    """The server cannot listen, or keep its history, where it was told to; the text is one sentence.

    A SystemExit, so that `twistd -n` prints the sentence alone and exits with 1; an Exception, so that a
    daemon passes it to the process that started it. The latter shows only the beginning, so the reason comes
    first.
    """


class _Door(Factory):
    """What listens until there is a chat, which is before anything is accepted."""

    noisy = False

    def __init__(self) -> None:
        self.chat: ChatFactory | None = None

    def logPrefix(self) -> str:
        """As what Twisted's log has it."""
        return "chat"

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        return None if self.chat is None else self.chat.buildProtocol(addr)


class ChatService(Service):
    """Listens on *endpoints*, strings as `serverFromString` takes them, and serves one hub on all of them.

    What is said is kept in the file *history*, within *history_limits*, or without it in memory. *origins*
    and *deflate* are for WebSockets, as `ChatResource` has them.

    Nothing is opened before `privilegedStartService`: `twistd` forks between making and starting it. The
    history is opened when the privileges are gone, as it is needed later too.
    """

    name = "chat"

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        limits: Limits | None = None,
        history: str | None = None,
        history_limits: HistoryLimits | None = None,
        default_room: str = "lobby",
        origins: Collection[str] = (),
        deflate: Deflate | None = None,
        reactor: Any = None,
    ) -> None:
        self.endpoints = tuple(endpoints)
        self.limits = limits or Limits()
        self.history = history
        self.history_limits = history_limits or HistoryLimits()
        self.default_room = default_room
        self.origins = tuple(origins)
        self.deflate = deflate
        self.ports: list[IListeningPort] = []
        self._reactor = reactor
        self._door = _Door()
        self._log: SqliteLog | None = None
        self.factory: ChatFactory | None = None

    def privilegedStartService(self) -> None:
        """Listen, while ports below 1024 may still be had."""
        super().privilegedStartService()
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = reactor
        _allow_descriptors(self._reactor)
        for description in self.endpoints:
            outcome = self._listen(description)
            if isinstance(outcome, str):
                self._close_ports()
                raise NotStarted(f"cannot listen, {outcome}: {description}")
            self.ports.append(outcome)

    def startService(self) -> None:
        """Open the history, let people in, and say where it listens and how to connect."""
        if not self.ports:
            self.privilegedStartService()
        if self.history is not None:
            try:
                self._log = SqliteLog(self.history, self._reactor, self.limits, self.history_limits)
            except HistoryUnusable as error:
                self._close_ports()
                raise NotStarted(f"{error}; name another file, or mend this one") from None
        super().startService()
        hub = Hub(self._reactor, self._log, self.limits, default_room=self.default_room)
        self.factory = self._door.chat = ChatFactory(hub, origins=self.origins, deflate=self.deflate)
        self.factory.doStart()
        if self._log is None:
            _log.info("what is said is kept in memory, and forgotten with this process")
        else:
            _log.info("what is said is kept in {path}", path=self._log.path)
        for port in self.ports:
            for line in _how_to_connect(port.getHost()):
                _log.info("{line}", line=line)

    def stopService(self) -> Deferred[Any]:
        """Stop listening, say `goodbye`, and be done when everybody had the chance to read it.

        What was said until then is kept.
        """
        super().stopService()
        factory, self.factory = self.factory, None
        self._door.chat = None
        closing = self._close_ports()
        if factory is not None:
            factory.doStop()
            closing.append(factory.shut_down(RETRY_MS))
        stopped: Deferred[Any] = DeferredList(closing)
        log, self._log = self._log, None
        if log is not None:
            stopped.addCallback(lambda _: log.close())
        return stopped

    def _listen(self, description: str) -> IListeningPort | str:
        """The port, or why there is none."""
        listening: Deferred[IListeningPort] = maybeDeferred(
            lambda: serverFromString(self._reactor, _with_backlog(description)).listen(self._door)
        )
        outcome: list[IListeningPort | str] = []
        listening.addCallbacks(outcome.append, lambda failure: outcome.append(_reason(failure)))
        if outcome:
            return outcome[0]
        # No endpoint of Twisted's needs time, but one of a plugin's may; what comes of it is not wanted then.
        listening.addCallback(lambda _: isinstance(outcome[0], str) or outcome[0].stopListening())
        return "it does not do so at once"

    def _close_ports(self) -> list[Deferred[Any]]:
        ports, self.ports = self.ports, []
        closing = [port.stopListening() for port in ports]
        return [waiting for waiting in closing if waiting is not None]


def _allow_descriptors(reactor: object) -> None:
    """Let this process have all the files, and so connections, that it may ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard or isinstance(reactor, SelectReactor):  # select() breaks past 1,024 descriptors
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        # A hard limit that is infinite is more than some systems allow.
        _log.warn("at most {soft} files can be open: {error}", soft=soft, error=error)
    else:
        _log.info("at most {hard} files can be open, instead of {soft}", hard=hard, soft=soft)


def _with_backlog(description: str) -> str:
    """An endpoint string that says how many connections may wait to be accepted."""
    kind, *arguments = re.split(r"(?<!\\):", description)
    unnamed = [argument for argument in arguments if "=" not in argument]
    if kind not in ("tcp", "tcp6", "ssl", "unix") or len(unnamed) > 1 or ":backlog=" in description:
        return description
    return f"{description}:backlog={BACKLOG}"


def _reason(failure: Failure) -> str:
    error: object = failure.value
    if isinstance(error, CannotListenError):
        error = error.socketError
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    # It stands within a sentence; but AF_UNIX stays AF_UNIX.
    begin = reason[:1].lower() if reason[1:2].islower() else reason[:1]
    return f"{begin}{reason[1:].rstrip('.')}"


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

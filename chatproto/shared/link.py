"""The connections to the store: opened, looked after, and opened again for as long as it takes."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IAddress, IDelayedCall, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from chatproto.shared.address import StoreAddress
from chatproto.shared.peoplescripts import SCRIPTS as PEOPLE_SCRIPTS
from chatproto.shared.resp import NO_STORE, ConnectionGone, Reply, StoreConnection, StoreRefusal
from chatproto.shared.scripts import SCRIPTS

__all__ = ["ANSWER_TIMEOUT_S", "Link", "StoreFacts"]

_log = Logger(namespace="chatproto.shared")

ANSWER_TIMEOUT_S = 5.0
"""Within which the store must answer something, or the connection counts as lost."""

LOOK_EVERY_S = 1.0
LEAST_WAIT_S = 0.1
MOST_WAIT_S = 5.0

STEADY_S = 10.0
"""A connection that held for so long is worth having again at once; before that the pauses get longer."""

LEAST_VERSION = (6, 2)


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What the store says of itself. *run* is another after each start, and on each machine. *is_durable*:
    it writes what it promises to the disk before it answers."""

    run: str
    is_durable: bool


class _Unfit(Exception):
    """What was reached is not to be used; the text is part of a sentence."""


class Link:
    """Two connections to the store at *address*: one for commands, one that listens.

    *opened* is called when both are there and the store was found to be fit, *lost* when one of them is gone,
    or nothing could be reached. *heard* and *subscribed* are those of `StoreConnection`; *channels* are
    listened to from the beginning. What was told to an
    earlier connection and has not been answered is either done when *opened* is called, or will never be.
    """

    def __init__(
        self,
        address: StoreAddress,
        reactor: Any,
        *,
        channels: list[bytes],
        opened: Callable[[StoreFacts], None],
        lost: Callable[[str], None],
        heard: Callable[[bytes, bytes], None],
        subscribed: Callable[[bytes], None],
    ) -> None:
        self.address = address
        self.is_open = False
        self.n_opened = 0
        self._reactor = reactor
        self._channels = channels
        self._opened = opened
        self._lost = lost
        self._heard = heard
        self._subscribed = subscribed
        self._connections: list[StoreConnection] = []
        self._before: tuple[str, list[int]] = ("", [])  # a run of the store, and our connections to it
        self._failures = 0
        self._lost_why = ""
        self._opened_s = 0.0
        self._next: IDelayedCall | None = None
        self._is_closed = False
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor

    def start(self) -> None:
        """Open it, and keep it open."""
        self._looking.start(LOOK_EVERY_S, now=False)
        self._open()

    def close(self) -> None:
        """Be done with it."""
        self._is_closed = True
        self.is_open = False
        if self._looking.running:
            self._looking.stop()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._drop()

    # --- while it is open -----------------------------------------------------------------------------------

    @property
    def commands(self) -> StoreConnection:
        """The connection for commands; only while `is_open`."""
        return self._connections[0]

    @property
    def listening(self) -> StoreConnection:
        """The connection that listens; only while `is_open`."""
        return self._connections[1]

    def reopen(self, why: str) -> None:
        """What is there is of no use any more: look for another."""
        if self.is_open:
            self._fell(why)

    # --- keeping it open ------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._next = None
        opening = self._opening()
        opening.addErrback(self._could_not_open)

    def _could_not_open(self, failure: Any) -> None:
        if failure.check(_Unfit, StoreRefusal, ConnectionGone):
            why = failure.getErrorMessage()
        elif failure.check(OSError, ValueError) or failure.type.__module__.startswith(
            ("twisted.internet", "OpenSSL")
        ):
            why = failure.getErrorMessage().rstrip(".") or failure.type.__name__
        else:
            _log.failure("the store could not be opened", failure)
            why = "something unexpected happened"
        self._fell(why)

    @inlineCallbacks
    def _opening(self) -> Generator[Deferred[Any], Any, None]:
        self._drop()
        endpoint = yield self._endpoint()
        for _ in range(2):
            connecting: Deferred[Any] = endpoint.connect(_Connecting(self))
            connection = yield connecting.addTimeout(ANSWER_TIMEOUT_S, self._reactor)
            if self._is_closed:
                connection.abort()
                return
            self._connections.append(connection)
            yield self._introduce(connection)
        if len(self._connections) < 2:  # the first was lost while the second was on its way
            raise ConnectionGone(self._lost_why)
        facts = yield self._examine()
        run, ids = self._before
        if run == facts.run:
            # What these still have to say must not take effect after we have looked.
            for id in ids:
                try:
                    yield self._told("CLIENT", "KILL", "ID", id)
                except StoreRefusal as refusal:
                    _log.warn(
                        "what was in doubt may yet take effect, as the store ends no connections: {why}",
                        why=str(refusal),
                    )
        ids = []
        for connection in self._connections:
            ids.append((yield _ask(connection, "CLIENT", "ID")))
        self._before = facts.run, ids
        # If that is refused the refusal is what answers the PING.
        self.listening.subscribe(self._channels)
        yield _ask(self.listening, "PING")
        for script in (*SCRIPTS, *PEOPLE_SCRIPTS):
            yield self._told("SCRIPT", "LOAD", script.text)
        if self._is_closed:
            return
        self._opened_s = self._reactor.seconds()
        self.is_open = True
        self.n_opened += 1
        self._opened(facts)

    def _told(self, *words: str | int) -> Deferred[Any]:
        return _ask(self._connections[0], *words)

    @inlineCallbacks
    def _introduce(self, connection: StoreConnection) -> Generator[Deferred[Any], Any, None]:
        address = self.address
        if address.password:
            login = (address.user, address.password) if address.user else (address.password,)
            yield _ask(connection, "AUTH", *login)
        if address.database:
            yield _ask(connection, "SELECT", address.database)

    @inlineCallbacks
    def _examine(self) -> Generator[Deferred[Any], Any, StoreFacts]:
        found = yield self._told("INFO")
        if not isinstance(found, bytes):
            raise _Unfit(NO_STORE)
        facts = dict(
            line.split(":", 1) for line in found.decode("utf-8", "replace").splitlines() if ":" in line
        )
        version = tuple(
            int(part) for part in facts.get("redis_version", "0").split(".")[:2] if part.isdigit()
        )
        if "redis_version" not in facts:
            raise _Unfit(NO_STORE)
        if version < LEAST_VERSION:
            raise _Unfit(f"it is of version {facts['redis_version']}, and needs to be 6.2 or later")
        if facts.get("cluster_enabled") == "1":
            raise _Unfit(
                "it is a node of a cluster, whose redirections are not followed; "
                "use a store by itself, or one behind Sentinel"
            )
        if facts.get("role") != "master":
            raise _Unfit("it is a replica, and only the master can keep anything")
        if facts.get("loading") == "1":
            raise _Unfit("it is still reading its own data")
        if facts.get("maxmemory", "0") != "0" and facts.get("maxmemory_policy") != "noeviction":
            _log.warn(
                "the store forgets what it likes when its memory is full; set maxmemory-policy to noeviction"
            )
        try:
            said = yield self._told("CONFIG", "GET", "appendfsync")
        except StoreRefusal:
            said = []  # not everybody is told
        is_durable = facts.get("aof_enabled") == "1" and said == [b"appendfsync", b"always"]
        return StoreFacts(facts.get("run_id", ""), is_durable)

    # --- where it is ----------------------------------------------------------------------------------------

    @inlineCallbacks
    def _endpoint(self) -> Generator[Deferred[Any], Any, IStreamClientEndpoint]:
        address = self.address
        if address.path:
            return UNIXClientEndpoint(self._reactor, address.path, ANSWER_TIMEOUT_S)
        host, port = address.hosts[0]
        if address.service:
            host, port = yield self._ask_sentinels()
        return self._endpoint_at(host, port)

    def _endpoint_at(self, host: str, port: int) -> IStreamClientEndpoint:
        endpoint: IStreamClientEndpoint = HostnameEndpoint(self._reactor, host, port, ANSWER_TIMEOUT_S)
        if self.address.is_tls:
            endpoint = wrapClientTLS(optionsForClientTLS(host), endpoint)
        return endpoint

    @inlineCallbacks
    def _ask_sentinels(self) -> Generator[Deferred[Any], Any, tuple[str, int]]:
        why = ""
        for host, port in self.address.hosts:
            sentinel: StoreConnection | None = None
            try:
                connecting: Deferred[Any] = self._endpoint_at(host, port).connect(_Connecting(self))
                sentinel = yield connecting.addTimeout(ANSWER_TIMEOUT_S, self._reactor)
                assert sentinel is not None
                asking = _ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.address.service)
                asking.addTimeout(ANSWER_TIMEOUT_S, self._reactor)
                found = yield asking
                if found is not None:
                    return found[0].decode(), int(found[1])
                why = f"no Sentinel knows a service {self.address.service!r}"
            except Exception as error:
                said = "" if isinstance(error, TimeoutError) else f": {error or type(error).__name__}"
                why = why or f"Sentinel {host}:{port} does not answer{said}"
            finally:
                if sentinel is not None:
                    sentinel.abort()
        raise _Unfit(why)

    # --- losing it ------------------------------------------------------------------------------------------

    def connection_lost(self, connection: StoreConnection, why: str) -> None:
        """One of the connections is gone."""
        if connection in self._connections:
            if self.is_open:
                self._fell(why)
            else:
                self._lost_why = why
                self._drop()

    def _look(self) -> None:
        now_s = self._reactor.seconds()
        for connection in list(self._connections):
            if connection.is_owed and now_s - connection.newest_s > ANSWER_TIMEOUT_S:
                # While it is being opened that fails by this.
                connection.abort(f"it has not answered for {ANSWER_TIMEOUT_S:g} s")
                self.reopen(f"it has not answered for {ANSWER_TIMEOUT_S:g} s")
            elif self.is_open and not connection.is_owed:
                connection.ping()

    def _fell(self, why: str) -> None:
        if self.is_open and self._reactor.seconds() - self._opened_s > STEADY_S:
            self._failures = 0
        self.is_open = False
        self._drop()
        if self._is_closed:
            return
        wait_s = min(MOST_WAIT_S, LEAST_WAIT_S * 2 ** min(self._failures, 10)) * random.uniform(0.5, 1)
        self._failures += 1
        if self._next is None:
            self._next = self._reactor.callLater(wait_s, self._open)
        self._lost(why)

    def _drop(self) -> None:
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.abort()


class _Connecting(Factory):
    """Makes the connections of one link."""

    noisy = False

    def __init__(self, link: Link) -> None:
        self._link = link

    def buildProtocol(self, addr: IAddress | None) -> StoreConnection:
        link = self._link
        return StoreConnection(link._reactor, link.connection_lost, link._heard, link._subscribed)


def _ask(connection: StoreConnection, *words: str | int) -> Deferred[Any]:
    """The answer to a command; fails with StoreRefusal or ConnectionGone."""
    answer: Deferred[Any] = Deferred()

    def then(reply: Reply) -> None:
        if isinstance(reply, Exception):
            answer.errback(reply)
        else:
            answer.callback(reply)

    connection.execute(then, *words)
    return answer

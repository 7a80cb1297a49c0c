"""A class written for `twisted.web.websocket` under that and under this layer, and one against the other."""

from __future__ import annotations

import inspect
from functools import partial
from itertools import product
from typing import Any

import pytest
from net.loopback import LoopbackCase, reactor
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from twisted.web import websocket as of_twisted
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

import chatproto.websocket as ours

PRODUCED = 300
PRODUCED_BYTES = 10_000


class Counter:
    """Sends everything back with a number before it, does as it is told, and knows Twisted's names only."""

    def __init__(self) -> None:
        self.log: list[object] = []
        self.pongs: list[bytes] = []
        self.count = 0
        self.received_bytes = 0
        self.transport: Any = None

    def negotiationStarted(self, transport: of_twisted.WebSocketTransport) -> None:
        self.transport = transport
        self.log.append("started")

    def negotiationFinished(self) -> None:
        self.log.append("finished")
        self.transport.sendTextMessage("welcome")
        self.transport.sendBytesMessage(b"\0\xff")

    def textMessageReceived(self, message: str) -> None:
        self.count += 1
        self.log.append(message)
        match message:
            case "close":
                self.transport.loseConnection()
            case "close with a code":
                self.transport.loseConnection(3_000)
            case "ping":
                self.transport.ping(b"from the server")
            case _:
                self.transport.sendTextMessage(f"{self.count}: {message}")

    def bytesMessageReceived(self, data: bytes | bytearray) -> None:
        self.count += 1
        self.received_bytes += len(data)
        if len(data) < PRODUCED_BYTES:
            self.log.append(bytes(data))
            self.transport.sendBytesMessage(b"%d: " % self.count + bytes(data))

    def pongReceived(self, payload: bytes) -> None:
        # When a pong comes among messages is not laid down: whoever answers may do so at once.
        self.pongs.append(bytes(payload))

    def connectionLost(self, reason: Failure) -> None:
        self.log.append(("lost", reason.check(ConnectionDone)))


class Listener(Counter):
    """The client's: it only listens, and keeps what it hears."""

    def negotiationFinished(self) -> None:
        self.log.append("finished")

    def textMessageReceived(self, message: str) -> None:
        self.log.append(message)

    def bytesMessageReceived(self, data: bytes | bytearray) -> None:
        self.log.append(bytes(data))


@implementer(IPushProducer)
class Producer:
    """Sends many messages on a transport, as fast as that has it."""

    def __init__(self, transport: Any) -> None:
        self.left = PRODUCED
        self._transport = transport
        self._is_paused = False
        transport.attachProducer(self)
        self._produce()

    def _produce(self) -> None:
        while self.left and not self._is_paused:
            self.left -= 1
            self._transport.sendBytesMessage(bytes(PRODUCED_BYTES))
            if not self.left:
                self._transport.detachProducer()
                self._transport.sendTextMessage("all produced")

    def pauseProducing(self) -> None:
        self._is_paused = True

    def resumeProducing(self) -> None:
        self._is_paused = False
        self._produce()

    def stopProducing(self) -> None:
        self._is_paused = True


class Counters:
    """A factory for servers, whoever asks."""

    def __init__(self) -> None:
        self.made: list[Counter] = []

    def buildProtocol(self, request: Any) -> Counter:
        self.made.append(Counter())
        return self.made[-1]


class Listeners:
    """A factory for clients, whoever asks."""

    def buildProtocol(self, url: str) -> Listener:
        return Listener()


def _twisted_resource(counters: Counters) -> Any:
    return Site(_at_path(of_twisted.WebSocketResource(counters)))


def _our_resource(counters: Counters) -> Any:
    return Site(_at_path(ours.WebSocketResource(counters)))


def _our_factory(counters: Counters) -> Any:
    return ours.WebSocketFactory(counters)


def _at_path(resource: Any) -> Resource:
    root = Resource()
    root.putChild(b"path", resource)
    return root


SERVERS = {
    "twisted's resource": _twisted_resource,
    "our resource": _our_resource,
    "our factory": _our_factory,
}
CLIENTS: dict[str, Any] = {
    "twisted's client": of_twisted.WebSocketClientEndpoint,
    "our client": ours.WebSocketClientEndpoint,
}
WELCOME = ["started", "finished", "welcome", b"\0\xff"]


class Equivalence(LoopbackCase):
    async def talk(self, server: str, client: str) -> tuple[Counter, Any]:
        """Both ends of a connection that is open, when the client has been welcomed."""
        counters = Counters()
        port = await self.listen(SERVERS[server](counters))
        address: Any = port.getHost()
        endpoint = CLIENTS[client].new(reactor, f"ws://127.0.0.1:{address.port}/path")
        listener = await endpoint.connect(Listeners())
        await self.until(lambda: listener.log == WELCOME, f"{server} and {client}: {listener.log}")
        [counter] = counters.made
        assert counter.log == ["started", "finished"]
        return counter, listener

    async def until_logged(self, application: Counter, last: object) -> None:
        await self.until(lambda: application.log[-1] == last, f"{application.log}")

    async def until_over(self, *applications: Counter) -> None:
        def are_over() -> bool:
            return all(it.log[-1] in (("lost", ConnectionDone), ("lost", None)) for it in applications)

        await self.until(are_over, f"{[it.log for it in applications]}")

    async def test_messages_pings_and_pongs(self) -> None:
        for server, client in product(SERVERS, CLIENTS):
            counter, listener = await self.talk(server, client)
            listener.transport.sendTextMessage("grüße")
            listener.transport.sendBytesMessage(b"bytes")
            listener.transport.ping(b"from the client")
            listener.transport.ping()
            listener.transport.sendTextMessage("ping")
            listener.transport.sendTextMessage("end")
            await self.until_logged(listener, "4: end")
            await self.until(partial(len, counter.pongs))
            assert listener.log[4:] == ["1: grüße", b"2: bytes", "4: end"], (server, client)
            assert listener.pongs == [b"from the client", b""], (server, client)
            assert counter.log[2:] == ["grüße", b"bytes", "ping", "end"], (server, client)
            assert counter.pongs == [b"from the server"], (server, client)
            listener.transport.loseConnection()
            await self.until_over(counter, listener)

    async def test_the_client_closes(self) -> None:
        for server, client in product(SERVERS, CLIENTS):
            counter, listener = await self.talk(server, client)
            listener.transport.sendTextMessage("last")
            await self.until_logged(listener, "1: last")
            listener.transport.loseConnection()
            await self.until_over(counter, listener)
            assert counter.log[2:] == ["last", ("lost", ConnectionDone)], (server, client)
            assert listener.log[4:] == ["1: last", ("lost", ConnectionDone)], (server, client)

    async def test_the_server_closes(self) -> None:
        for (server, client), word in product(product(SERVERS, CLIENTS), ("close", "close with a code")):
            counter, listener = await self.talk(server, client)
            listener.transport.sendTextMessage(word)
            await self.until_over(counter, listener)
            assert counter.log[2:] == [word, ("lost", ConnectionDone)], (server, client)
            assert listener.log[4:] == [("lost", ConnectionDone)], (server, client)

    async def test_the_client_has_a_producer(self) -> None:
        for server, client in product(SERVERS, CLIENTS):
            counter, listener = await self.talk(server, client)
            producer = Producer(listener.transport)
            await self.until_logged(listener, f"{PRODUCED + 1}: all produced")
            assert counter.received_bytes == PRODUCED * PRODUCED_BYTES, (server, client)
            assert producer.left == 0
            listener.transport.loseConnection()
            await self.until_over(counter, listener)

    async def test_a_second_producer_is_refused_and_one_that_is_detached_makes_room(self) -> None:
        for client in CLIENTS:
            _, listener = await self.talk("our factory", client)
            listener.transport.attachProducer(Idle())
            with pytest.raises(RuntimeError):
                listener.transport.attachProducer(Idle())
            listener.transport.detachProducer()
            listener.transport.attachProducer(Idle())
            listener.transport.detachProducer()
            listener.transport.loseConnection()
            await self.until_over(listener)


@implementer(IPushProducer)
class Idle:
    """Produces nothing."""

    def pauseProducing(self) -> None:
        """Nothing to pause."""

    def resumeProducing(self) -> None:
        """Nothing to resume."""

    def stopProducing(self) -> None:
        """Nothing to stop."""


def test_the_names_are_twisteds_and_what_they_take_too() -> None:
    for theirs, own in (
        (of_twisted.WebSocketTransport, ours.WebSocketTransport),
        (of_twisted.WebSocketProtocol, ours.WebSocketProtocol),
    ):
        for name, method in vars(theirs).items():
            if inspect.isfunction(method) and not name.startswith("_"):
                expected = list(inspect.signature(method).parameters.values())
                given = list(inspect.signature(getattr(own, name)).parameters.values())
                assert [it.name for it in given[: len(expected)]] == [it.name for it in expected], name
                assert [it.default for it in given[: len(expected)]] == [it.default for it in expected], name
                assert all(it.default is not it.empty for it in given[len(expected) :]), name

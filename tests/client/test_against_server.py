"""The client against the real server, over loopback TCP."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

from client.scripted import Heard
from live import PATIENCE_S, free_port
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from chatproto.client import ChatClient, Refused
from chatproto.limits import Limits
from chatproto.net.factory import ChatFactory
from chatproto.rooms.hub import Hub
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Chat

reactor: Any = _reactor


async def until(holds: Callable[[], object], what: str = "") -> None:
    """Wait until something holds."""
    deadline_s = reactor.seconds() + PATIENCE_S
    while not holds():
        if reactor.seconds() > deadline_s:
            raise AssertionError(what or "it did not come to hold")
        await deferLater(reactor, 0.01)


class Half(Protocol):
    """One end of the cable. What it receives goes to the other end, or nowhere."""

    def __init__(self, cable: Cable) -> None:
        self.cable = cable
        self.other: Half | None = None
        self.swallows = False
        self.waiting = b""
        self.is_lost = False

    def dataReceived(self, data: bytes) -> None:
        if self.swallows:
            return
        if self.other is None or self.other.transport is None:
            self.waiting += data
        else:
            self.other.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_lost = True
        if self.other is not None and not self.cable.keeps_the_far_end and self.other.transport is not None:
            self.other.transport.loseConnection()

    def cut(self) -> None:
        if self.transport is not None and not self.is_lost:
            cast(Any, self.transport).abortConnection()


class Cable(Factory):
    """Lies between client and server: may swallow what either says, and be cut at either end."""

    noisy = False

    def __init__(self, port_number: int) -> None:
        self.port_number = port_number
        self.near: list[Half] = []
        self.far: list[Half] = []
        self.keeps_the_far_end = False

    def buildProtocol(self, addr: object) -> Half:
        near, far = Half(self), Half(self)
        near.other = far
        self.near.append(near)
        self.far.append(far)

        def joined(connected: Any) -> None:
            far.other = near
            assert far.transport is not None
            far.transport.write(near.waiting)

        class Far(Factory):
            noisy = False

            def buildProtocol(self, addr: object) -> Half:
                return far

        TCP4ClientEndpoint(reactor, "127.0.0.1", self.port_number).connect(cast(Any, Far())).addCallback(
            joined
        )
        return near

    def cut(self) -> None:
        """Cut what lies there now."""
        for half in self.near:
            half.cut()


class AgainstServer(TestCase):
    """A hub on a port of its own."""

    timeout = 4 * PATIENCE_S

    def setUp(self) -> None:
        self.hub = Hub(reactor)
        self.port = self.listen(ChatFactory(self.hub), free_port())  # nobody's while nobody listens
        self.number = self.port.getHost().port

    def listen(self, factory: Any, number: int = 0) -> Any:
        port: IListeningPort = reactor.listenTCP(number, factory, interface="127.0.0.1")
        self.addCleanup(self.close, port, factory)
        return port

    async def close(self, port: Any, factory: Any) -> None:
        await maybeDeferred(port.stopListening)
        if isinstance(factory, ChatFactory):
            for front in list(factory.fronts):
                if front.transport is not None:
                    cast(Any, front.transport).abortConnection()
            await until(lambda: not factory.fronts and not factory.connections)
            for call in reactor.getDelayedCalls():
                if "Turn._sweep" in str(call):
                    call.cancel()  # looks once more, a few seconds after the last connection
        else:
            for half in [*factory.near, *factory.far]:
                half.cut()
            await until(lambda: all(half.is_lost for half in factory.near))

    def server(self, number: int) -> IStreamClientEndpoint | str:
        """What a client is told of the server on that port."""
        return TCP4ClientEndpoint(reactor, "127.0.0.1", number)

    def client(self, nick: str, number: int = 0, **settings: Any) -> tuple[ChatClient, Heard]:
        heard = Heard()
        settings.setdefault("retry_policy", lambda attempt: 0.05)
        client = ChatClient(self.server(number or self.number), nick, heard, **settings)
        self.addCleanup(client.stop)
        client.start()
        return client, heard

    def factory(self) -> ChatFactory:
        factory: ChatFactory = self.port.factory
        return factory

    def kept(self, room: str = "lobby") -> list[Chat]:
        oldest, newest = self.hub.log.bounds(room)
        chats = self.hub.log.read(room, oldest, newest, 2**30)
        assert isinstance(chats, list)
        return chats


class Talking(AgainstServer):
    async def test_everything_once(self) -> None:
        ann, ann_heard = self.client("ann")
        bob, bob_heard = self.client("bob")
        entered = await ann.join()
        assert (entered.room, entered.nicks, entered.last) == ("lobby", ("ann",), 0)
        assert (await bob.join("lobby")).total == 2
        receipt = await ann.say("", "hi")
        assert receipt.seq == 1
        await until(lambda: bob_heard.seqs)
        (chat,) = bob_heard.of("chat")
        assert (chat.nick, chat.text, chat.time) == ("ann", "hi", receipt.time_ms)
        assert (await bob.tell("ann", "psst")).seq == 0
        await until(lambda: ann_heard.of("told"))
        assert (await bob.who("lobby")).nicks == ("ann", "bob")
        assert await bob.history("lobby", limit=5) == [chat]
        assert await bob.search("lobby", "HI") == [chat]
        assert await bob.rename("rob") == "rob"
        await until(lambda: ann_heard.of("renamed"))
        assert await ann.ping() < PATIENCE_S
        await bob.leave("lobby")
        await until(lambda: ann_heard.of("left"))
        for waiting, code in (
            (bob.who("lobby"), ErrorCode.NOT_IN_ROOM),
            (bob.tell("nobody", "hi"), ErrorCode.NO_SUCH_NICK),
            (ann.say("lobby", "\x07"), ErrorCode.BAD_TEXT),
            (ann.join("a b"), ErrorCode.BAD_ROOM),
            (ann.rename("rob"), ErrorCode.NICK_TAKEN),
            (ann.search("lobby", "?"), ErrorCode.BAD_TEXT),
            (ann.login("ann", "secret"), ErrorCode.NOT_SUPPORTED),
            (ann.moderate(1, "lobby", "rob"), ErrorCode.NOT_ALLOWED),
        ):
            refusal = await self.assertFailure(cast("Deferred[Any]", waiting), Refused)
            assert cast(Refused, refusal).code == code
        assert ann_heard.of("missing") == []
        await ann.stop()
        assert "ann" not in [session.nick_text for session in self.hub.sessions.values()]

    async def test_a_nickname_that_somebody_has(self) -> None:
        ann, _ = self.client("ann")
        await ann.join()
        eve, _ = self.client("ANN")
        refusal = await self.assertFailure(eve.join(), Refused)
        assert cast(Refused, refusal).code == ErrorCode.NICK_TAKEN
        assert await eve.rename("eve") == "eve"
        await eve.join()

    async def test_many_requests_at_once_are_answered_in_order(self) -> None:
        ann, heard = self.client("ann")
        bob, _ = self.client("bob")
        await ann.join("lobby")
        await bob.join("lobby")
        said = [bob.say("lobby", f"text {number}") for number in range(300)]
        asked: list[Deferred[Any]] = []
        for number in range(90):  # in all of these rooms at once, if no leave came before the last join
            asked.append(ann.history("lobby", limit=3))
            asked.append(ann.who("lobby"))
            asked.append(ann.join(f"room{number}").addCallback(lambda entered: ann.leave(entered.room)))
            if number % 10 == 0:
                await deferLater(reactor, 0)
        for waiting in [*said, *asked]:
            await waiting
        await until(lambda: len(heard.seqs) == 300)
        assert heard.seqs == list(range(1, 301))
        assert heard.of("missing") == []

    async def test_who_is_kicked_stays_away(self) -> None:
        self.hub.authenticate = lambda user, secret: secret == "right"
        self.hub.operators = frozenset({"op"})
        operator, _ = self.client("op")
        assert await operator.login("op", "right") == "you are logged in"
        await operator.join("lobby")
        ann, heard = self.client("ann")
        await ann.join("lobby")
        assert "kicked" in await operator.moderate(1, "lobby", "ann", reason="spam")
        await until(lambda: heard.of("left"))
        assert ann.rooms == ()
        wrong, _ = self.client("wrong")
        refusal = await self.assertFailure(wrong.login("op", "wrong"), Refused)
        assert cast(Refused, refusal).code == ErrorCode.LOGIN_FAILED


class ComingBack(AgainstServer):
    async def test_after_a_reset(self) -> None:
        ann, heard = self.client("ann")
        bob, _ = self.client("bob")
        await ann.join("lobby")
        await ann.join("two")
        await bob.join("lobby")
        for round_number in range(3):
            await bob.say("lobby", f"before {round_number}")
            for connection in list(self.factory().connections):
                if connection.session.nick_text == "ann":
                    cast(Any, connection).transport.abortConnection()
            said = [bob.say("lobby", f"meanwhile {round_number} {number}") for number in range(20)]
            for receipt in said:
                await receipt
            await until(lambda: len(heard.seqs) == self.kept()[-1].seq)
        assert heard.seqs == list(range(1, 64))
        assert heard.of("missing") == []
        assert len(heard.of("disconnected")) == 3
        await until(lambda: len(heard.of("connected")) == 4)
        assert (await ann.who("two")).nicks == ("ann",)

    async def test_what_was_not_acknowledged_is_said_once(self) -> None:
        cable = Cable(self.number)
        ann, heard = self.client("ann", self.listen(cable).getHost().port)
        bob, bob_heard = self.client("bob")
        await ann.join("lobby")
        await bob.join("lobby")
        cable.far[0].swallows = True
        receipts = [ann.say("lobby", f"text {number}") for number in range(3)]
        told = ann.tell("bob", "psst")
        await until(lambda: len(bob_heard.seqs) == 3)
        await until(lambda: bob_heard.of("told"))
        await bob.say("lobby", "from bob")
        assert not any(receipt.called for receipt in receipts)
        cable.cut()
        assert [(await receipt).seq for receipt in receipts] == [1, 2, 3]
        await told
        await until(lambda: heard.seqs)
        assert heard.seqs == [4]
        assert [chat.text for chat in self.kept()] == ["text 0", "text 1", "text 2", "from bob"]
        assert len(bob_heard.of("told")) == 1
        assert heard.of("missing") == []

    async def test_what_never_arrived_is_said_once(self) -> None:
        cable = Cable(self.number)
        ann, _ = self.client("ann", self.listen(cable).getHost().port)
        await ann.join("lobby")
        cable.near[0].swallows = True
        receipt = ann.say("lobby", "hi")
        await deferLater(reactor, 0.05)
        assert self.hub.log.bounds("lobby")[1] == 0
        cable.cut()
        assert (await receipt).seq == 1
        assert [chat.text for chat in self.kept()] == ["hi"]

    async def test_while_the_lost_session_still_holds_the_nickname(self) -> None:
        cable = Cable(self.number)
        cable.keeps_the_far_end = True
        ann, heard = self.client("ann", self.listen(cable).getHost().port, max_refusals=1_000)
        await ann.join("lobby")
        cable.near[0].cut()
        await until(lambda: len(cable.near) == 2)
        cable.keeps_the_far_end = False
        receipt = ann.say("lobby", "hi")
        await deferLater(reactor, 0.3)
        assert not ann.open
        assert not receipt.called
        cable.far[0].cut()
        assert (await receipt).seq == 1
        assert heard.of("refused") == []

    async def test_a_server_that_is_dead(self) -> None:
        cable = Cable(self.number)
        ann, heard = self.client("ann", self.listen(cable).getHost().port, ping_interval_s=0.3)
        await ann.join("lobby")
        cable.far[0].swallows = True
        await until(lambda: len(heard.of("connected")) == 2)
        assert re.search(r"silent for \d+ s", heard.of("disconnected")[0])

    async def restart(self, hub: Hub) -> float:
        """Stop the server with `goodbye`, start another on the same port; when it listened."""
        await self.port.stopListening()
        await self.factory().shut_down(400, "back in a minute")
        self.hub = hub
        self.port = self.listen(ChatFactory(hub), self.number)
        listening_s: float = reactor.seconds()
        return listening_s

    async def test_a_restart_that_keeps_the_history(self) -> None:
        ann, heard = self.client("ann")
        bob, _ = self.client("bob")
        await ann.join("lobby")
        await bob.join("lobby")
        await bob.say("lobby", "before")
        await until(lambda: heard.seqs)
        stopped_s = reactor.seconds()
        restarted = Deferred.fromCoroutine(self.restart(self.hub))
        receipt = bob.say("lobby", "meanwhile")
        await restarted
        assert (await receipt).seq == 2
        assert reactor.seconds() - stopped_s >= 0.39
        await until(lambda: len(heard.seqs) == 2)
        assert heard.of("disconnected") == ["back in a minute"]
        assert heard.of("missing") == []
        assert heard.seqs == [1, 2]

    async def test_a_restart_that_forgets_everything(self) -> None:
        ann, heard = self.client("ann")
        await ann.join("lobby")
        other, _ = self.client("bob")
        await other.join("lobby")
        await other.say("lobby", "before")
        await until(lambda: heard.seqs)
        await self.restart(Hub(reactor))
        assert (await other.say("lobby", "after")).seq == 1
        await until(lambda: len(heard.seqs) == 2)
        assert heard.of("missing") == [("lobby", 0, 0)]
        assert [chat.text for chat in heard.of("chat")] == ["before", "after"]


LIMITS = Limits(max_queued_bytes=65_536, max_room_log_bytes=2**27, message_burst=100_000)


class Slowly(AgainstServer):
    def setUp(self) -> None:
        self.hub = Hub(reactor, limits=LIMITS)
        self.port = self.listen(ChatFactory(self.hub), free_port())  # nobody's while nobody listens
        self.number = self.port.getHost().port

    async def test_a_reader_that_stops_for_a_while_misses_nothing(self) -> None:
        ann, heard = self.client("ann")
        bob, _ = self.client("bob")
        await ann.join("lobby")
        await bob.join("lobby")
        ann.pauseProducing()
        text = "x" * 4_000
        for _ in range(10):
            for receipt in [bob.say("lobby", text) for _ in range(400)]:
                await receipt
        assert len(heard.seqs) < 4000
        ann.resumeProducing()
        own = await ann.say("lobby", "my own")
        await bob.say("lobby", "the end")
        await until(lambda: heard.seqs and heard.seqs[-1] == own.seq + 1)
        assert heard.seqs == [seq for seq in range(1, own.seq + 2) if seq != own.seq]
        assert heard.of("lagged")
        assert heard.of("missing") == []
        assert heard.of("disconnected") == []

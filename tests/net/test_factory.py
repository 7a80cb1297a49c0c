"""The factory: several on one hub, and the way in which one ends."""

from __future__ import annotations

import pytest
from net.loopback import KINDS, LoopbackCase, TurnClock, messages
from net.memory import Chat, Line

from chatproto.limits import Limits
from chatproto.net.factory import ChatFactory
from chatproto.rooms.hub import Hub
from chatproto.wire.chat import encode_frame
from chatproto.wire.messages import Goodbye, Join, Message

LIMITS = Limits(close_timeout_s=5)
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class TwoFactories(Chat):
    """Two ports of one chat."""

    def __init__(self) -> None:
        super().__init__(LIMITS)
        self.other = ChatFactory(self.hub)

    def person_at_the_other(self, nick: str) -> Line:
        first, self.factory = self.factory, self.other
        try:
            return self.person(nick)
        finally:
            self.factory = first


class TestSeveral:
    def test_people_of_all_factories_of_a_hub_talk(self) -> None:
        chat = TwoFactories()
        alice, bob = chat.person("alice"), chat.person_at_the_other("bob")
        alice.lines()
        bob.type("hi")
        assert alice.lines() == ["[lobby 00:00] bob: hi"]
        assert len(chat.factory.connections) == len(chat.other.connections) == 1

    def test_each_ends_by_itself(self) -> None:
        chat = TwoFactories()
        alice, bob = chat.person("alice"), chat.person_at_the_other("bob")
        alice.lines()
        ended = chat.other.shut_down()
        assert bob.lines() == ["* goodbye: the server is shutting down"]
        assert not bob.connected
        assert ended.called
        assert alice.lines() == ["* bob left lobby (shutdown)"]
        assert alice.connected
        alice.type("/who")
        assert alice.lines() == ["* in lobby: alice"]

    def test_what_ends_tells_only_those_who_stay(self) -> None:
        chat = TwoFactories()
        leaving = [chat.person_at_the_other(f"guest{i}") for i in range(3)]
        for line in leaving:
            line.lines()
        chat.other.shut_down()
        for line in leaving:
            assert line.lines() == ["* goodbye: the server is shutting down"]


class TestShuttingDown:
    def test_without_connections_it_is_over_at_once(self) -> None:
        assert Chat().factory.shut_down().called

    def test_goodbye_says_when_to_come_back_and_why(self) -> None:
        chat = Chat()
        line = chat.connect()
        line.send_messages(Join("alice"))
        line.messages()
        chat.factory.shut_down(250, "an update")
        assert line.messages() == [Goodbye(250, "an update")]

    def test_it_is_over_when_the_last_connection_has_gone(self) -> None:
        chat = Chat(LIMITS)
        lines = [chat.person("alice"), chat.person("bob"), chat.connect()]
        for line in lines:
            line.closes_too = False
        ended = chat.factory.shut_down()
        chat.clock.advance(0)
        assert not lines[2].connected  # it had no session, which could be told anything
        for line in lines[:2]:
            assert not ended.called
            line.vanish()
        assert ended.called
        assert chat.is_empty()

    def test_whoever_does_not_go_is_made_to(self) -> None:
        chat = Chat(LIMITS)
        alice = chat.person("alice")
        alice.closes_too = False
        ended = chat.factory.shut_down()
        chat.clock.advance(LIMITS.close_timeout_s - 0.1)
        assert not ended.called
        chat.clock.advance(0.2)
        chat.clock.advance(0)
        assert ended.called
        assert not alice.connected
        assert chat.is_empty()

    def test_whoever_takes_nothing_is_made_to_go_too(self) -> None:
        chat = Chat(LIMITS)
        alice = chat.person("alice")
        assert alice.producer is not None
        alice.producer.pauseProducing()
        ended = chat.factory.shut_down()
        chat.clock.advance(LIMITS.close_timeout_s + 0.1)
        chat.clock.advance(0)
        assert ended.called
        assert alice.was_aborted

    @pytest.mark.parametrize("first", [b"", b"GE", b"GET /", REQUEST])
    def test_connections_without_a_session_end_at_once(self, first: bytes) -> None:
        chat = Chat()
        line = chat.connect()
        if first:
            line.send(first)
        ended = chat.factory.shut_down()
        chat.clock.advance(0)
        assert ended.called
        assert chat.is_empty()

    def test_one_that_has_not_joined_is_told_goodbye(self) -> None:
        chat = Chat()
        line = chat.connect()
        chat.clock.advance(1)
        line.lines()
        chat.factory.shut_down()
        assert line.lines() == ["* goodbye: the server is shutting down"]

    def test_one_that_is_closing_already_is_waited_for(self) -> None:
        chat = Chat(LIMITS)
        alice = chat.person("alice")
        alice.closes_too = False
        alice.type("/quit")
        ended = chat.factory.shut_down()
        assert alice.lines() == ["* bye, alice"]
        assert not ended.called
        alice.vanish()
        assert ended.called

    def test_a_mistake_at_the_end_of_one_connection_does_not_keep_it_waiting(self) -> None:
        chat = Chat()
        alice = chat.person("alice")
        (connection,) = chat.factory.connections

        def fail(reason: str = "") -> None:
            raise RuntimeError("a session's mistake")

        connection.session.lost = fail  # type: ignore[method-assign]
        alice.closes_too = False
        ended = chat.factory.shut_down()
        with pytest.raises(RuntimeError):
            alice.vanish()
        assert ended.called

    def test_it_can_be_asked_for_more_than_once(self) -> None:
        chat = Chat()
        alice = chat.person("alice")
        ended = [chat.factory.shut_down() for _ in range(3)]
        assert alice.lines() == ["* goodbye: the server is shutting down"]
        assert all(each.called for each in ended)
        assert chat.factory.shut_down().called

    def test_someone_who_comes_afterwards_is_served(self) -> None:
        """Whoever wants nobody to come stops listening first."""
        chat = Chat()
        chat.factory.shut_down()
        assert chat.person("alice").connected


class TestOnSockets(LoopbackCase):
    def setUp(self) -> None:
        self.clock = TurnClock()
        self.factory = ChatFactory(Hub(self.clock, limits=LIMITS))

    async def test_goodbye_arrives_before_the_end(self) -> None:
        for kind in KINDS:
            end = self.connect(await self.listen(self.factory, kind), kind)
            await self.shake_hands(end)
            end.send(encode_frame(Join("alice")))
            await self.until(lambda: self.factory.connections)
            for connection in self.factory.connections:
                connection.queue.write(encode_frame(Join("x" * 60_000)) * 40)  # whatever, but much
            ended = self.factory.shut_down()
            received: list[Message] = messages(await self.until_end(end))
            assert received[-1] == Goodbye(1_000, "the server is shutting down"), kind
            assert not end.was_reset
            end.close()
            await ended
            assert self.clock.calls == []

    async def test_connections_in_every_state_are_gone_within_the_time(self) -> None:
        for kind in KINDS:
            port = await self.listen(self.factory, kind)
            states = (b"", b"GE", REQUEST, b"\0", b"alice\n", encode_frame(Join("bob")))
            ends = [self.connect(port, kind) for _ in states]
            for end, first in zip(ends, states, strict=True):
                await self.shake_hands(end)
                if first:
                    end.send(first)
            await self.until(lambda: len(self.factory.connections) == 3)
            ended = self.factory.shut_down()
            await self.turns(10)
            self.clock.advance(LIMITS.close_timeout_s + 0.1)
            await ended
            assert not self.factory.fronts
            for end in ends:
                end.close()

"""In which order and how much at a time the requests of one person are taken up."""

from __future__ import annotations

from rooms.outlets import Broken, Failures, join

from chatproto.limits import Limits
from chatproto.rooms.turns import TURN_REQUESTS
from chatproto.testing import ChatInMemory, Person
from chatproto.wire.messages import History, Left, Message, Nick, Ping, Pong, Say, Who


class TestOrder:
    def test_requests_are_answered_in_their_order(self, chat: ChatInMemory) -> None:
        ann = chat.join("ann")
        ann.forget()
        ann.ask(Ping(1), Say(7, "", "hi"), Who(""), History("", 0, 5), Ping(2), Nick("bea"), Ping(3))
        kinds = [message.type for message in ann.received]
        assert kinds == ["pong", "ack", "roster", "chat", "end", "pong", "renamed", "pong"]

    def test_so_many_are_taken_up_in_one_turn(self, chat: ChatInMemory) -> None:
        ann = chat.join("ann")
        ann.forget()
        ann.ask(*(Ping(number) for number in range(TURN_REQUESTS * 2 + 1)))
        assert len(ann.received) == TURN_REQUESTS
        assert not ann.is_read_from
        ann.ask(Ping(9_999))
        assert len(ann.received) == TURN_REQUESTS
        chat.pass_time()
        assert ann.received == [Pong(number) for number in [*range(TURN_REQUESTS * 2 + 1), 9_999]]
        assert ann.is_read_from
        assert chat.clock.getDelayedCalls() == []

    def test_one_who_asks_for_much_does_not_keep_others_waiting(self, chat: ChatInMemory) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.ask(*[Ping(1)] * (TURN_REQUESTS * 3))
        bob.ask(Ping(2))
        assert bob.got(Pong) == [Pong(2)]

    def test_what_waits_goes_when_the_session_ends(self, chat: ChatInMemory) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.ask(*[Say(0, "", "hi")] * (TURN_REQUESTS + 5))
        ann.disconnect()
        chat.pass_time()
        assert len(bob.chats) == TURN_REQUESTS

    def test_something_called_stands_for_what_it_gives(self, chat: ChatInMemory) -> None:
        ann = chat.join("ann")
        ann.forget()
        seen: list[int] = []
        ann.ask(Ping(1), lambda: seen.append(len(ann.received)), lambda: Ping(2), Ping(3))
        assert ann.received == [Pong(1), Pong(2), Pong(3)]
        assert seen == [1]

    def test_something_called_that_breaks_ends_that_session_alone(
        self, chat: ChatInMemory, failures: Failures
    ) -> None:
        def broken() -> Message:
            raise Broken

        ann, bob = chat.join("ann"), chat.join("bob")
        ann.ask(Ping(1), broken, Ping(2))
        assert ann.got(Pong) == [Pong(1)]
        assert not ann.is_connected
        assert bob.got(Left) == [Left("lobby", "ann", "error")]
        assert failures.take() == ["Broken"]


class TestReading:
    """Who does not read what they asked for is not read from."""

    def test_requests_wait_while_answers_are_not_read(self) -> None:
        chat = ChatInMemory(Limits(max_queued_bytes=16_384, max_messages_per_s=0))
        ann = chat.join("ann")
        ann.stop_reading()
        for _ in range(100):
            ann.ask(*[Ping(1)] * 20)
            chat.pass_time()
        assert ann.queued_bytes <= 16_384 / 2 + 100
        assert not ann.is_read_from
        ann.read()
        chat.pass_time()
        assert len(ann.got(Pong)) == 2_000
        assert ann.is_read_from

    def test_who_reads_is_read_from(self, chat: ChatInMemory) -> None:
        ann = chat.join("ann")
        for _ in range(50):
            ann.ask(Ping(1))
            assert ann.is_read_from

    def test_each_pause_has_its_resume(self) -> None:
        class Counting(Person):
            calls = ""

            def pause(self) -> None:
                super().pause()
                self.calls += "p"

            def resume(self) -> None:
                super().resume()
                self.calls += "r"

        chat = ChatInMemory(Limits(max_queued_bytes=16_384, max_messages_per_s=0))
        ann = join(Counting, chat, "ann")
        for _ in range(3):
            ann.stop_reading()
            for _ in range(10):
                ann.ask(*[Ping(1)] * 100)
                chat.pass_time()
            ann.read()
            chat.pass_time()
        assert ann.calls == "pr" * (len(ann.calls) // 2)
        assert ann.calls

"""What only a log that answers later can show: in which order it is, and what happens meanwhile."""

from __future__ import annotations

import pytest
from rooms.outlets import AsyncLog, Broken, Failures, Restless, assert_nothing_is_left, join
from rooms.worlds import KIB, SMALL, outline, seqs
from twisted.internet.defer import Deferred

from chatproto.rooms.log import MemoryLog
from chatproto.rooms.turns import MAX_UNANSWERED
from chatproto.testing import ChatInMemory
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Ack, Chat, Join, Left, Ping, Pong, Say


class TestLater:
    """What only a log that answers later can show."""

    def setup_method(self) -> None:
        self.log = AsyncLog(MemoryLog(SMALL, lambda: 0.0))
        self.chat = ChatInMemory(SMALL, self.log)

    def say(self, count: int, text: str = "x") -> None:
        for _ in range(count):
            self.chat.hub.say("", "bot", text)
        while self.log.appends:
            self.log.step(self.log.appends)

    def test_the_ack_comes_after_everyone_has_it(self) -> None:
        ann, bob = self.chat.join("ann"), join(Restless, self.chat, "bob")
        acks_then: list[int] = []
        bob.on_publish = lambda message: acks_then.append(len(ann.got(Ack)))
        ann.say("hi", id=7)
        assert bob.chats == []
        self.log.step(self.log.appends)  # kept, and told
        assert bob.chats == [("ann", "hi")]
        assert ann.got(Ack) == []
        self.log.step(self.log.appends)
        assert ann.got(Ack) == [Ack(7, 1, 0)]
        assert acks_then == [0]

    def test_acks_come_in_the_order_of_what_was_said(self) -> None:
        ann = self.chat.join("ann")
        for id in (5, 6, 7):
            ann.say("hi", id=id)
        self.log.settle()
        assert [(ack.id, ack.seq) for ack in ann.got(Ack)] == [(5, 1), (6, 2), (7, 3)]

    def test_other_requests_do_not_wait_for_it(self) -> None:
        ann = self.chat.join("ann")
        ann.ask(Say(7, "", "hi"), Ping(1))
        assert ann.received[-1] == Pong(1)

    def test_one_person_keeps_only_so_much_of_the_log_busy(self) -> None:
        ann, bob = self.chat.join("ann"), self.chat.join("bob")
        for _ in range(20):
            ann.ask(*(Say(0, "", "hi") for _ in range(100)))
            self.chat.pass_time()
        assert len(self.log.appends) == MAX_UNANSWERED
        assert not ann.is_read_from
        bob.say("may I?")
        assert len(self.log.appends) == MAX_UNANSWERED + 1
        while self.log.owes:
            self.log.settle()
            self.chat.pass_time()
        assert len(bob.chats) == 2_000
        assert ann.is_read_from

    def test_one_who_is_gone_before_it_is_kept_has_said_it(self) -> None:
        ann, bob = self.chat.join("ann"), self.chat.join("bob")
        ann.say("hi", id=7)
        ann.disconnect()
        ann.forget()
        self.log.settle()
        assert bob.chats == [("ann", "hi")]
        assert ann.received == []

    def test_one_who_left_the_room_before_it_is_kept_gets_the_ack(self) -> None:
        ann, bob = self.chat.join("ann"), self.chat.join("bob")
        ann.say("hi", id=7)
        ann.leave("lobby")
        self.log.settle()
        assert bob.chats == [("ann", "hi")]
        assert [ack.seq for ack in ann.got(Ack)] == [1]

    def test_one_who_left_and_came_back_before_it_is_kept_gets_it_as_what_was_said_before(self) -> None:
        ann, bob = self.chat.join("ann"), self.chat.join("bob")
        ann.say("hi", id=7)
        ann.leave("lobby")
        ann.join("lobby", limit=10)
        self.log.settle()
        bob.say("ho")
        self.log.settle()
        assert ann.chats == [("ann", "hi"), ("bob", "ho")]

    @pytest.mark.parametrize("steps", range(9))
    def test_between_the_replay_and_what_is_live_nothing_is_lost_or_doubled(self, steps: int) -> None:
        self.say(3)
        bob = self.chat.join("bob")
        ann = self.chat.join("ann", limit=10)
        for _ in range(4):
            bob.say("live")
        # Reads and appends overtake each other in every way.
        for number in range(16):
            waiting = self.log.reads if number < steps or not self.log.appends else self.log.appends
            if waiting:
                self.log.step(waiting)
        self.log.settle()
        assert outline(ann) == ["welcome", "roster", (1, 3), "end", (4, 7)]

    def test_one_read_is_under_way_at_a_time(self) -> None:
        self.say(60, KIB)
        ann = self.chat.join("ann", limit=100)
        for _ in range(5):
            ann.session.drained()
            self.chat.pass_time()
            assert len(self.log.reads) == 1

    def test_one_who_does_not_read_is_not_read_for_again_and_again(self) -> None:
        self.say(60, KIB)
        ann = self.chat.connect()
        ann.stop_reading()
        ann.ask(Join("ann", "", 0, 0, 100))
        self.log.settle()
        self.chat.pass_time()
        assert not self.log.owes
        ann.read()
        self.log.settle()
        self.chat.pass_time()
        self.log.settle()
        assert seqs(ann)

    @pytest.mark.parametrize("kind", ["raises", "fails", "fails later"])
    @pytest.mark.parametrize("question", ["join", "lag", "history"])
    def test_a_log_that_cannot_be_read_ends_the_session_cleanly(
        self, kind: str, question: str, failures: Failures
    ) -> None:
        class Unreadable(AsyncLog):
            def read(self, room: str, first: int, last: int, max_bytes: int) -> Deferred[list[Chat]]:
                if self.failing is not None and kind == "raises":
                    raise self.failing
                return super().read(room, first, last, max_bytes)

        log = Unreadable(MemoryLog(SMALL, lambda: 0.0), fired=kind != "fails later")
        chat = ChatInMemory(SMALL, log)
        ann, bob = chat.join("ann"), chat.join("bob")
        log.settle()
        if question == "lag":
            ann.stop_reading()
        for _ in range(40):
            chat.hub.say("", "bot", KIB)
            log.settle()
        log.failing = Broken()
        if question == "join":
            ann.leave("lobby")
            ann.join("", limit=10)
        elif question == "history":
            ann.history()
        ann.read()
        for _ in range(5):
            chat.pass_time()
            log.settle()
        assert ann.errors == [ErrorCode.TOO_SLOW]
        assert not ann.is_connected
        assert bob.got(Left)[-1] == Left("lobby", "ann", "error")
        assert failures.take() == ["Broken"]
        bob.disconnect()
        assert_nothing_is_left(chat.hub, chat.clock)

    def test_a_log_that_contradicts_itself_ends_the_session_instead_of_asking_for_ever(
        self, failures: Failures
    ) -> None:
        class Forgetful(MemoryLog):
            def read(self, room: str, first: int, last: int, max_bytes: int) -> list[Chat]:
                return []

        chat = ChatInMemory(log=Forgetful())
        chat.hub.say("", "bot", "x")
        ann = chat.join("ann", limit=1)
        assert not ann.is_connected
        assert failures.take() == ["RuntimeError"]

    def test_one_who_falls_further_behind_during_a_read_gets_everything_once(self) -> None:
        ann = self.chat.join("ann", "a")
        ann.join("lobby")
        ann.forget()
        ann.stop_reading()
        self.say(40, KIB)
        ann.read()
        ann.stop_reading()
        self.chat.pass_time()
        assert len(self.log.reads) == 1
        self.log.step(self.log.reads)  # found, and not yet given
        for _ in range(40):
            self.chat.hub.say("a", "bot", KIB)
            self.log.step(self.log.appends)
            self.log.step(self.log.appends)
        ann.read()
        for _ in range(50):
            self.log.settle()
            self.chat.pass_time()
        assert seqs(ann, "lobby") == list(range(1, 41))
        assert seqs(ann, "a") == list(range(1, 41))

    def test_what_waits_from_a_former_stay_does_not_move_the_replay_on(self) -> None:
        self.say(20)
        ann = self.chat.join("ann", "a")
        ann.join("lobby")
        ann.forget()
        ann.stop_reading()
        self.say(2)  # 21 and 22 wait
        ann.leave("lobby")
        ann.join("lobby", limit=22)
        assert self.log.reads  # and nothing of the replay is there yet
        for _ in range(30):
            self.chat.hub.say("a", "bot", KIB)
            self.log.step(self.log.appends)
            self.log.step(self.log.appends)
        ann.read()
        for _ in range(10):
            self.chat.pass_time()
            self.log.settle()
        assert seqs(ann) == list(range(1, 23))

    def test_what_waited_for_a_replay_goes_on_when_one_is_thrown_out_of_it(self) -> None:
        self.say(3)
        ann = self.chat.connect()
        ann.ask(Join("ann", "", 0, 0, 3), Ping(1))
        self.chat.hub.leave(ann.session, "lobby", "kicked")
        self.chat.pass_time()
        assert ann.got(Pong) == [Pong(1)]  # the log has still not answered

    def test_one_who_leaves_during_a_read_gets_nothing_of_it(self) -> None:
        self.say(3)
        op = self.chat
        ann = self.chat.join("ann", limit=3)
        op.hub.leave(ann.session, "lobby", "kicked")
        ann.forget()
        ann.ask(Ping(1))
        self.log.settle()
        self.chat.pass_time()
        assert ann.received == [Pong(1)]

    def test_one_who_leaves_during_a_read_and_comes_back_gets_what_they_ask_for_then(self) -> None:
        self.say(5)
        ann = self.chat.join("ann", limit=5)
        self.chat.hub.leave(ann.session, "lobby", "kicked")
        ann.forget()
        ann.join("lobby", limit=2)
        self.chat.pass_time()
        self.log.settle()
        self.chat.pass_time()
        assert outline(ann) == ["roster", (4, 5), "end"]

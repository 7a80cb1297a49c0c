"""How one person's session ends, and what is still done for them before; protocol, 2."""

from __future__ import annotations

import pytest
from rooms.outlets import AsyncLog, Broken, Failures, Faulty, Restless, assert_nothing_is_left, join
from twisted.internet.defer import Deferred

from chatproto.limits import Limits
from chatproto.rooms.log import MemoryLog, NotStored
from chatproto.rooms.turns import TURN_REQUESTS
from chatproto.testing import ChatInMemory
from chatproto.wire.errors import ErrorCode, ProtocolError
from chatproto.wire.messages import (
    Ack,
    Error,
    History,
    Join,
    Leave,
    Left,
    Login,
    Message,
    Ping,
    Pong,
    Say,
    Search,
)


class TestEndOfInput:
    def test_who_only_stops_sending_gets_their_answers_first(self, chat: ChatInMemory) -> None:
        ann, bob = chat.connect(), chat.join("bob")
        ann.ask(Join("ann"), Say(7, "", "hi"), History("", 0, 10), Ping(1))
        ann.session.finish_input()
        assert [message.type for message in ann.received] == [
            "welcome",
            "roster",
            "end",
            "ack",
            "chat",
            "end",
            "pong",
        ]
        assert not ann.is_connected
        assert bob.chats == [("ann", "hi")]
        assert bob.got(Left) == [Left("lobby", "ann", "closed")]

    def test_more_than_one_turns_requests_are_answered(self, chat: ChatInMemory) -> None:
        ann = chat.join("ann")
        ann.ask(*[Ping(1)] * (TURN_REQUESTS * 2))
        ann.session.finish_input()
        assert ann.is_connected
        chat.pass_time()
        assert len(ann.got(Pong)) == TURN_REQUESTS * 2
        assert not ann.is_connected

    def test_who_reads_slowly_still_gets_all_answers(self) -> None:
        chat = ChatInMemory(Limits(max_queued_bytes=16_384, max_messages_per_s=0))
        ann = chat.join("ann")
        ann.stop_reading()
        ann.ask(*[Ping(1)] * 5_000)
        ann.session.finish_input()
        chat.pass_time()
        assert len(ann.got(Pong)) == 0
        ann.read()
        chat.pass_time()
        assert len(ann.got(Pong)) == 5_000
        assert not ann.is_connected

    def test_nothing_asked_nothing_answered(self, chat: ChatInMemory) -> None:
        person = chat.connect()
        person.session.finish_input()
        assert not person.is_connected
        assert_nothing_is_left(chat.hub, chat.clock)

    @pytest.mark.parametrize("more", [[], [Join("ann"), Ping(1)]], ids=["nothing more", "more"])
    def test_a_login_under_way_is_answered(self, more: list[Message]) -> None:
        checked: Deferred[bool] = Deferred()
        chat = ChatInMemory(authenticate=lambda user, secret: checked)
        person = chat.connect()
        person.ask(Login("ann", "right"), *more)
        person.session.finish_input()
        assert person.is_connected
        checked.callback(True)
        answers = ["welcome", "roster", "end", "pong"] if more else []
        assert [message.type for message in person.received] == ["notice", *answers]
        assert not person.is_connected

    @pytest.mark.parametrize("ending", ["end of input", "leave", "malformed"])
    def test_a_say_that_the_log_has_not_answered_is_answered_first(self, ending: str) -> None:
        log = AsyncLog(MemoryLog(wall_clock=lambda: 0.0))
        chat = ChatInMemory(log=log)
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.forget()
        ann.say("hi", id=7)
        if ending == "end of input":
            ann.session.finish_input()
        elif ending == "leave":
            ann.ask(Leave(""), Ping(1))
            ann.ask(Ping(2))
        else:
            ann.ask(ProtocolError(ErrorCode.MALFORMED, "no sense"), Ping(1))
            ann.ask(Ping(2))
        assert ann.received == []
        assert ann.is_connected
        log.settle()
        assert ann.received[0] == Ack(7, 1, 0)
        assert [message.type for message in ann.received[1:]] == (["error"] if ending == "malformed" else [])
        assert not ann.is_connected
        reason = {"end of input": "closed", "leave": "left", "malformed": "error"}[ending]
        assert [message.type for message in bob.received[3:]] == ["chat", "left"]
        assert bob.got(Left) == [Left("lobby", "ann", reason)]
        chat.pass_time()
        bob.disconnect()
        assert_nothing_is_left(chat.hub, chat.clock)

    @pytest.mark.parametrize("error", [NotStored("full"), Broken()])
    def test_a_say_that_fails_late_is_refused_first(self, error: Exception, failures: Failures) -> None:
        log = AsyncLog(MemoryLog())
        chat = ChatInMemory(log=log)
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.say("hi", id=7)
        ann.session.finish_input()
        log.failing = error
        log.settle()
        [refusal] = ann.got(Error)
        assert (refusal.code, refusal.id) == (ErrorCode.NOT_STORED, 7)
        assert not ann.is_connected
        assert bob.chats == []
        assert failures.take() == ([] if isinstance(error, NotStored) else ["Broken"])

    @pytest.mark.parametrize("question", [History("", 0, 5), Search("", "hi", 5)], ids=["history", "search"])
    def test_what_was_just_said_is_in_the_answer_to_what_is_asked_next(self, question: Message) -> None:
        log = AsyncLog(MemoryLog(wall_clock=lambda: 0.0))
        chat = ChatInMemory(log=log)
        ann = chat.join("ann")
        ann.forget()
        ann.ask(Say(7, "", "hi"), Say(8, "", "hi again"), question, Ping(1))
        assert ann.received == []
        log.settle()
        assert [message.type for message in ann.received] == ["ack", "ack", "chat", "chat", "end", "pong"]

    def test_a_question_is_answered_too_when_what_was_said_before_is_refused(self) -> None:
        log = AsyncLog(MemoryLog(wall_clock=lambda: 0.0))
        chat = ChatInMemory(log=log)
        ann = chat.join("ann")
        ann.ask(Say(7, "", "hi"), History("", 0, 5))
        ann.forget()
        log.failing = NotStored("full")
        while log.appends:
            log.step(log.appends)
        log.failing = None
        log.settle()
        assert [message.type for message in ann.received] == ["error", "end"]

    def test_who_is_gone_before_the_answer_asks_nothing_more(self) -> None:
        log = AsyncLog(MemoryLog(wall_clock=lambda: 0.0))
        chat = ChatInMemory(log=log)
        ann = chat.join("ann")
        ann.forget()
        ann.ask(Say(7, "", "hi"), History("", 0, 5))
        ann.disconnect()
        log.settle()
        chat.pass_time()
        assert ann.received == []
        assert_nothing_is_left(chat.hub, chat.clock)


class TestEnds:
    def test_a_fault_ends_the_session_after_what_came_before_it(self, chat: ChatInMemory) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.forget()
        ann.ask(Say(7, "", "hi"), ProtocolError(ErrorCode.TOO_BIG, "too big"), Say(8, "", "lost"))
        assert ann.received == [Ack(7, 1, 0), Error(ErrorCode.TOO_BIG, 0, "too big")]
        assert not ann.is_connected
        assert bob.chats == [("ann", "hi")]

    def test_what_comes_after_the_end_is_ignored(self, chat: ChatInMemory) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.leave()
        ann.forget()
        ann.session.receive([Say(7, "", "hi")])
        ann.session.finish_input()
        ann.session.stalled()
        ann.session.drained()
        ann.session.lost()
        ann.session.fail(ErrorCode.MALFORMED, "no sense", "error")
        assert ann.received == []
        assert bob.chats == []
        assert bob.got(Left) == [Left("lobby", "ann", "left")]

    def test_who_takes_nothing_for_too_long_is_sent_away(self, chat: ChatInMemory) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.stop_reading()
        ann.session.stalled()
        assert ann.is_connected  # the last words wait
        ann.read()
        assert ann.errors == [ErrorCode.TOO_SLOW]
        assert not ann.is_connected
        assert bob.got(Left) == [Left("lobby", "ann", "too slow")]

    def test_an_outlet_that_breaks_while_its_own_request_is_answered_ends_its_session_alone(
        self, chat: ChatInMemory, failures: Failures
    ) -> None:
        ann, bob = join(Faulty, chat, "ann"), chat.join("bob")
        ann.raises_in = {"send"}
        ann.ask(Ping(1))
        assert ann.session.ended
        assert bob.got(Left) == [Left("lobby", "ann", "error")]
        assert failures.take() == ["Broken"]
        bob.disconnect()
        assert_nothing_is_left(chat.hub, chat.clock)

    def test_an_outlet_that_breaks_in_a_later_turn_ends_its_session_too(
        self, chat: ChatInMemory, failures: Failures
    ) -> None:
        ann = join(Faulty, chat, "ann")
        ann.ask(*[Ping(1)] * (TURN_REQUESTS + 1))
        ann.raises_in = {"send", "finish"}
        chat.pass_time()
        assert failures.take() == ["Broken", "Broken"]
        assert_nothing_is_left(chat.hub, chat.clock)

    def test_a_session_that_ends_while_its_request_is_taken_up_says_no_more(self, chat: ChatInMemory) -> None:
        ann, bob = join(Restless, chat, "ann"), chat.join("bob")
        ann.forget()
        ann.on_send = lambda message: ann.session.end("closed")
        ann.ask(Ping(1), Ping(2), Say(7, "", "hi"))
        assert ann.received == [Pong(1)]
        assert bob.chats == []

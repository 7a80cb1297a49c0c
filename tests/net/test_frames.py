"""The face for programs: length-prefixed frames (docs/protocol.md, sections 1 to 3)."""

from __future__ import annotations

import pytest
from net.memory import Chat, Line
from wire.streams import FAULTS, in_two, one_by_one

from chatproto.limits import Limits
from chatproto.wire.chat import encode_frame
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import (
    Ack,
    Error,
    History,
    Join,
    Joined,
    Leave,
    Login,
    Nick,
    Ping,
    Pong,
    Roster,
    Say,
    Welcome,
)
from chatproto.wire.messages import Chat as Said

FAULT_CODES = {name: ErrorCode.TOO_BIG if name == "too big" else ErrorCode.MALFORMED for name in FAULTS}


def joined(chat: Chat, nick: str) -> Line:
    """Someone who speaks frames, is in the default room and has read everything."""
    line = chat.connect()
    line.send_messages(Join(nick))
    line.received()
    return line


def errors(line: Line) -> list[int]:
    """The codes of the errors that came since this was last asked."""
    return [message.code for message in line.messages() if isinstance(message, Error)]


class TestTalk:
    def test_a_session_goes_from_welcome_to_goodbye(self) -> None:
        chat = Chat()
        alice, bob = joined(chat, "alice"), joined(chat, "bob")
        assert alice.messages() == [Joined("lobby", "bob")]
        bob.send_messages(Say(7, "", "hi"), Ping(9))
        assert bob.messages() == [Ack(7, 1, 0), Pong(9)]
        assert alice.messages() == [Said("lobby", 1, 0, "bob", "hi")]
        bob.send_messages(Leave(""))
        assert [message.type for message in alice.messages()] == ["left"]
        assert not bob.connected
        assert alice.connected

    def test_welcome_says_who_one_is(self) -> None:
        chat = Chat()
        line = chat.connect()
        line.send_messages(Join("alice", "ops"))
        welcome, roster, _ = line.messages()
        assert welcome == Welcome(1, "alice", chat.hub.log.epoch, chat.hub.server)
        assert roster == Roster("ops", 0, 1, ("alice",))

    def test_any_cut_is_the_same_talk(self) -> None:
        data = b"".join(map(encode_frame, [Join("alice"), Say(1, "", "hi"), Ping(2)]))
        for pieces in [*in_two(data), tuple(one_by_one(data))]:
            line = Chat().connect()
            for piece in pieces:
                if piece:
                    line.send(piece)
            assert [message.type for message in line.messages()] == [
                "welcome",
                "roster",
                "end",
                "ack",
                "pong",
            ]

    def test_everybody_gets_the_same_bytes(self) -> None:
        chat = Chat()
        lines = [joined(chat, f"reader{i}") for i in range(5)]
        for line in lines:
            line.received()
        joined(chat, "alice").send_messages(Say(0, "", "hi"))
        assert len({line.received() for line in lines}) == 1


@pytest.mark.parametrize("fault", FAULTS)
class TestFaults:
    def test_a_fault_is_answered_and_closes(self, fault: str) -> None:
        line = joined(chat := Chat(), "alice")
        line.send(FAULTS[fault])
        assert errors(line) == [FAULT_CODES[fault]]
        assert not line.connected
        assert chat.is_empty()

    def test_what_came_before_it_takes_effect_and_is_answered(self, fault: str) -> None:
        chat = Chat()
        bob = joined(chat, "bob")
        line = joined(chat, "alice")
        bob.received()
        line.send(encode_frame(Say(1, "", "hi")) + FAULTS[fault])
        assert [message.type for message in line.messages()] == ["ack", "error"]
        assert [message.type for message in bob.messages()] == ["chat", "left"]

    def test_what_comes_after_it_does_not(self, fault: str) -> None:
        chat = Chat()
        bob = joined(chat, "bob")
        line = joined(chat, "alice")
        bob.received()
        line.send(FAULTS[fault] + encode_frame(Say(1, "", "hi")))
        line.send(encode_frame(Say(2, "", "hi")))
        assert errors(line) == [FAULT_CODES[fault]]
        assert [message.type for message in bob.messages()] == ["left"]

    def test_before_the_session_is_open_it_is_the_same(self, fault: str) -> None:
        line = Chat().connect()
        line.send(FAULTS[fault])
        assert errors(line) == [FAULT_CODES[fault]]
        assert not line.connected

    def test_in_any_cut(self, fault: str) -> None:
        for first, second in in_two(FAULTS[fault]):
            line = joined(Chat(), "alice")
            for piece in (first, second):
                if piece:
                    line.send(piece)
            assert errors(line) == [FAULT_CODES[fault]], (first, second)


class TestBeforeTheSessionIsOpen:
    @pytest.mark.parametrize("message", [Say(1, "", "hi"), Nick("bob"), History("", 0, 10)])
    def test_anything_but_joining_ends_it(self, message: Say | Nick | History) -> None:
        line = Chat().connect()
        line.send_messages(message)
        assert errors(line) == [ErrorCode.JOIN_FIRST]
        assert not line.connected

    def test_ping_login_and_leave_do_not_need_a_session(self) -> None:
        line = Chat().connect()
        line.send_messages(Ping(1), Login("alice", "secret"), Leave(""))
        assert [message.type for message in line.messages()] == ["pong", "error"]
        assert not line.connected

    def test_a_refused_nickname_may_be_followed_by_another(self) -> None:
        chat = Chat()
        joined(chat, "alice")
        line = chat.connect()
        line.send_messages(Join("alice"), Join("\a"), Join("bob"))
        assert [message.type for message in line.messages()] == ["error", "error", "welcome", "roster", "end"]

    def test_whoever_does_not_join_in_time_is_told_and_closed(self) -> None:
        chat = Chat(Limits(join_timeout_s=3))
        line = chat.connect()
        line.send(b"\0")
        chat.clock.advance(2.9)
        assert line.received() == b""
        chat.clock.advance(0.2)
        assert errors(line) == [ErrorCode.TIMEOUT]
        assert not line.connected
        assert chat.is_empty()


class TestLimits:
    def test_a_frame_of_the_limit_is_taken_and_one_byte_more_is_not(self) -> None:
        limits = Limits(max_frame_bytes=2_000, max_text_bytes=900)
        for size_bytes, code in ((2_000, ErrorCode.BAD_TEXT), (2_001, ErrorCode.TOO_BIG)):
            line = joined(Chat(limits), "alice")
            empty = len(encode_frame(Say(1, "", ""))) - 4
            line.send_messages(Say(1, "", "x" * (size_bytes - empty)))
            assert errors(line) == [code]

    def test_a_length_over_the_limit_is_refused_before_its_bytes_come(self) -> None:
        line = joined(Chat(), "alice")
        line.send((65_537).to_bytes(4, "big"))
        assert errors(line) == [ErrorCode.TOO_BIG]

    def test_requests_of_one_read_are_taken_up_in_their_order(self) -> None:
        line = joined(Chat(), "alice")
        line.send_messages(*map(Ping, range(1_000)))
        line.clock.pump([0] * 50)
        assert [message.token for message in line.messages() if isinstance(message, Pong)] == list(
            range(1_000)
        )


class TestEndOfInput:
    def test_what_was_sent_takes_effect_and_is_answered(self) -> None:
        chat = Chat()
        bob = joined(chat, "bob")
        line = chat.connect()
        line.send_messages(Join("alice"), Say(5, "", "hi"), Ping(6))
        line.end_input()
        assert [message.type for message in line.messages()] == ["welcome", "roster", "end", "ack", "pong"]
        assert not line.connected
        assert [message.type for message in bob.messages()] == ["joined", "chat", "left"]

    def test_more_than_a_turn_takes_up_is_answered_too(self) -> None:
        chat = Chat()
        line = chat.connect()
        line.send_messages(Join("alice"), *(Say(i, "", f"{i}") for i in range(1, 301)))
        line.end_input()
        chat.clock.pump([0] * 20)
        acks = [message for message in line.messages() if isinstance(message, Ack)]
        assert [ack.id for ack in acks] == list(range(1, 301))
        assert not line.connected
        assert chat.is_empty()

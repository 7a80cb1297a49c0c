"""What is counted, and told, of what happens to people."""

from __future__ import annotations

from typing import Any

import pytest

from chatproto.limits import Limits
from chatproto.rooms.log import NotStored
from chatproto.rooms.session import Session
from chatproto.testing import ChatInMemory
from chatproto.wire.errors import ErrorCode, ProtocolError
from chatproto.wire.messages import Join, Login, Moderate


class Heard:
    """A witness that remembers."""

    def __init__(self, chat: ChatInMemory) -> None:
        self.events: list[tuple[str, int, dict[str, str]]] = []
        chat.hub.record.witness = self

    def __call__(self, event: str, session: Session, **details: str) -> None:
        self.events.append((event, session.id, details))

    def of(self, session: Session) -> list[Any]:
        """What happened to one session: events, with their details where they have any."""
        return [
            (event, *details.values()) if details else event
            for event, id, details in self.events
            if id == session.id
        ]


@pytest.fixture
def chat() -> ChatInMemory:
    return ChatInMemory(Limits(max_queued_bytes=20_000))


@pytest.fixture
def heard(chat: ChatInMemory) -> Heard:
    return Heard(chat)


class TestWitness:
    def test_hears_of_a_session_from_its_beginning_to_its_end(self, chat: ChatInMemory, heard: Heard) -> None:
        ann = chat.join("ann")
        ann.join("tea")
        ann.rename("anna")
        ann.leave("tea")
        ann.disconnect()
        assert heard.of(ann.session) == [
            "connected",
            ("joined", "lobby"),
            ("joined", "tea"),
            ("renamed", "ann"),
            ("left", "tea", "left"),
            ("ended", "closed"),
        ]

    def test_hears_only_of_the_end_when_it_takes_somebody_out_of_rooms(
        self, chat: ChatInMemory, heard: Heard
    ) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.leave()
        chat.hub.shut_down([bob.session], 0, "bye")
        assert heard.of(ann.session)[-1] == ("ended", "left")
        assert heard.of(bob.session)[-1] == ("ended", "shutdown")
        assert not [event for event, _, _ in heard.events if event == "left"]

    def test_hears_of_refusals_by_their_name(self, chat: ChatInMemory, heard: Heard) -> None:
        ann = chat.join("ann")
        ann.say("hi", room="nowhere")
        ann.say("")
        assert heard.of(ann.session)[-2:] == [("refused", "not-in-room"), ("refused", "bad-text")]

    def test_hears_of_a_fatal_error_before_the_end(self, chat: ChatInMemory, heard: Heard) -> None:
        ann = chat.join("ann")
        ann.ask(ProtocolError(ErrorCode.MALFORMED, "what is that?"))
        assert heard.of(ann.session)[-2:] == [("refused", "malformed"), ("ended", "error")]

    def test_never_gets_to_see_what_was_said(self, chat: ChatInMemory, heard: Heard) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.say("a secret")
        ann.say("a secret\x07")
        ann.tell("bob", "a secret")
        ann.tell("nobody", "a secret")
        ann.ask(Join("a secret nick", "a secret room"))
        assert bob.chats == [("ann", "a secret")]
        assert "secret" not in repr(heard.events)

    def test_hears_that_somebody_lags_once_until_they_have_caught_up(
        self, chat: ChatInMemory, heard: Heard
    ) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        for lags in (1, 2):
            bob.stop_reading()
            for _ in range(20):
                ann.say("x" * 4_000)
            assert heard.of(bob.session).count("lagged") == chat.hub.record.lags == lags
            assert bob.session.catch_up.is_lagging
            bob.read()
            while bob.session.catch_up.is_lagging:
                chat.pass_time(0)
            assert len(bob.chats) == 20 * lags

    def test_who_reads_a_replay_on_joining_does_not_lag(self, chat: ChatInMemory, heard: Heard) -> None:
        ann = chat.join("ann")
        for _ in range(20):
            ann.say("x" * 4_000)
        bob = chat.connect()
        bob.stop_reading()
        bob.ask(Join("bob", "", limit=100))
        assert not bob.session.catch_up.is_lagging
        assert chat.hub.record.lags == 0

    def test_hears_what_operators_do_and_to_whom(self) -> None:
        chat = ChatInMemory(authenticate=lambda user, secret: True, operators={"root"})
        heard = Heard(chat)
        ann, root = chat.join("ann"), chat.connect()
        root.ask(Login("root", "a secret"), Join("root"))
        root.ask(Moderate(1, "", "ann", 0, "a secret reason"))
        assert ("moderated", "kick", "lobby", "ann") in heard.of(root.session)
        assert ("left", "lobby", "kicked") in heard.of(ann.session)
        assert "secret" not in repr(heard.events)


class TestCounts:
    def test_begin_with_all_errors_and_reasons_at_nothing(self, chat: ChatInMemory) -> None:
        record = chat.hub.record
        assert set(record.refusals) == set(ErrorCode)
        assert set(record.ends) == {"left", "closed", "timeout", "too slow", "kicked", "shutdown", "error"}
        assert not any(record.refusals.values())
        assert not any(record.ends.values())

    def test_messages_are_those_that_were_kept_whoever_said_them(self, chat: ChatInMemory) -> None:
        ann = chat.join("ann")
        ann.say("one", id=1)
        ann.say("one", id=1)
        ann.say("")
        chat.hub.say("lobby", "bot", "two")
        assert chat.hub.record.messages == 2

    def test_private_messages_are_those_that_somebody_got(self, chat: ChatInMemory) -> None:
        ann, _ = chat.join("ann"), chat.join("bob")
        ann.tell("bob", "hi", id=1)
        ann.tell("bob", "hi", id=1)
        ann.tell("nobody", "hi")
        assert chat.hub.record.private_messages == 1

    def test_refusals_are_counted_by_their_code(self, chat: ChatInMemory) -> None:
        ann = chat.join("ann")
        chat.join("ann")
        ann.say("")
        ann.ask(ProtocolError(ErrorCode.MALFORMED, "what is that?"))
        refusals = {code: number for code, number in chat.hub.record.refusals.items() if number}
        assert refusals == {ErrorCode.NICK_TAKEN: 1, ErrorCode.BAD_TEXT: 1, ErrorCode.MALFORMED: 1}

    def test_what_the_history_cannot_keep_is_a_refusal(
        self, chat: ChatInMemory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def append(*said: object) -> None:
            raise NotStored("the disk is full")

        ann = chat.join("ann")
        monkeypatch.setattr(chat.hub.log, "append", append)
        ann.say("hi")
        assert chat.hub.record.refusals[ErrorCode.NOT_STORED] == 1
        assert chat.hub.record.messages == 0

    def test_ends_are_counted_by_their_reason(self, chat: ChatInMemory) -> None:
        chat.join("ann").disconnect()
        chat.join("bob").leave()
        chat.connect()
        chat.pass_time(chat.hub.limits.join_timeout_s)
        ends = {reason: number for reason, number in chat.hub.record.ends.items() if number}
        assert ends == {"closed": 1, "left": 1, "timeout": 1}
        assert chat.hub.n_sessions == 3

"""The public testing aids do what they say."""

from __future__ import annotations

import re
import textwrap

import pytest

import chatproto.testing
from chatproto import testing
from chatproto.limits import Limits
from chatproto.rooms.log import MemoryLog
from chatproto.rooms.outlet import Outlet
from chatproto.testing import ChatInMemory, Person
from chatproto.wire.chat import encode_frame
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import (
    Ack,
    Chat,
    End,
    Error,
    History,
    Joined,
    Left,
    Message,
    Notice,
    Ping,
    Pong,
    Renamed,
    Roster,
    Told,
    Welcome,
)
from chatproto.wire.prepared import Prepared


def test_the_public_names_are_these() -> None:
    assert testing.__all__ == ["ChatInMemory", "Person"]


def test_the_example_of_the_documentation_runs() -> None:
    documentation = chatproto.testing.__doc__ or ""
    [shown] = re.findall(r"\n\n((?:    .*\n)+)", documentation)
    namespace = dict(vars(testing))
    exec(compile(textwrap.dedent(shown), "chatproto.testing", "exec"), namespace)
    assert namespace["bob"].chats == [("alice", "hi")]


class TestChat:
    def test_time_is_the_clocks_and_the_wall_clocks(self) -> None:
        chat = ChatInMemory()
        chat.pass_time(3)
        chat.pass_time(1.5)
        assert chat.hub.now_ms() == 4_500
        chat.hub.say("", "bot", "hi")
        [kept] = chat.join("ann", limit=1).got(Chat)
        assert kept.time == 4_500

    def test_the_hub_is_made_as_one_says(self) -> None:
        log = MemoryLog()
        limits = Limits(max_rooms=7)
        chat = ChatInMemory(limits, log, default_room="foyer")
        assert (chat.hub.limits, chat.hub.log, chat.hub.default_room) == (limits, log, "foyer")

    def test_a_new_connection_has_said_nothing(self) -> None:
        person = ChatInMemory().connect()
        assert person.received == []
        assert person.session.nick_text == ""

    def test_joining_may_ask_for_what_was_said(self) -> None:
        chat = ChatInMemory()
        chat.join("ann", "tea").say("one", "tea")
        bob = chat.join("bob", "tea", epoch=chat.hub.log.epoch, after=0, limit=5)
        assert bob.chats == [("ann", "one")]

    def test_time_lets_happen_what_is_due(self) -> None:
        chat = ChatInMemory(Limits(join_timeout_s=10))
        person = chat.connect()
        chat.pass_time(9)
        assert person.errors == []
        chat.pass_time(2)
        assert person.errors == [ErrorCode.TIMEOUT]

    def test_no_time_lets_the_turn_end(self) -> None:
        chat = ChatInMemory()
        ann = chat.join("ann")
        ann.ask(*[Ping(1)] * 100)
        assert len(ann.got(Pong)) < 100
        chat.pass_time()
        assert len(ann.got(Pong)) == 100


class TestWhatAPersonDoes:
    def test_every_verb_is_the_request_of_that_name(self) -> None:
        chat = ChatInMemory()
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.forget()
        ann.say("hi", id=1)
        ann.tell("bob", "psst", id=2)
        ann.join("tea", limit=3)
        ann.rename("zoe")
        ann.who()
        ann.history(limit=1)
        ann.leave("lobby")
        ann.ask(Ping(3))
        ann.leave()
        kinds = [type(message) for message in ann.received]
        assert kinds == [Ack, Ack, Roster, End, Renamed, Roster, Chat, End, Pong]
        assert not ann.is_connected
        assert [type(message) for message in bob.received[3:]] == [Chat, Told, Renamed, Left]

    def test_several_requests_go_in_one_go(self) -> None:
        ann = ChatInMemory().join("ann")
        ann.forget()
        ann.ask(Ping(1), History("", 0, 1), Ping(2))
        assert ann.received == [Pong(1), End("lobby", 0, 0, 0), Pong(2)]

    def test_who_is_gone_is_told_nothing(self) -> None:
        chat = ChatInMemory()
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.disconnect()
        ann.forget()
        bob.say("hi")
        chat.pass_time(100)
        assert ann.received == []
        assert not ann.is_connected
        assert [left.reason for left in bob.got(Left)] == ["closed"]


class TestWhatAPersonGot:
    def test_it_is_everything_in_order(self) -> None:
        chat = ChatInMemory()
        ann = chat.join("ann")
        assert [type(message) for message in ann.received] == [Welcome, Roster, End]

    def test_it_can_be_had_by_kind(self) -> None:
        chat = ChatInMemory()
        ann = chat.join("ann")
        chat.join("bob")
        assert ann.got(Joined) == [Joined("lobby", "bob")]
        assert ann.got(Left) == []

    def test_chats_are_of_every_room(self) -> None:
        chat = ChatInMemory()
        ann, bob = chat.join("ann"), chat.join("bob")
        for person in (ann, bob):
            person.join("tea")
        ann.say("one")
        ann.say("two", "tea")
        assert bob.chats == [("ann", "one"), ("ann", "two")]

    def test_errors_are_their_codes(self) -> None:
        ann = ChatInMemory().join("ann")
        ann.say("", id=1)
        ann.tell("nobody", "hi")
        assert ann.errors == [ErrorCode.BAD_TEXT, ErrorCode.NO_SUCH_NICK]

    def test_it_can_be_forgotten(self) -> None:
        ann = ChatInMemory().join("ann")
        ann.forget()
        assert ann.received == []


class TestNotReading:
    def test_what_is_sent_waits(self) -> None:
        chat = ChatInMemory()
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.forget()
        ann.stop_reading()
        bob.say("one")
        bob.say("two")
        assert ann.received == []
        frames = [encode_frame(Chat("lobby", seq, 0, "bob", text)) for seq, text in ((1, "one"), (2, "two"))]
        assert ann.queued_bytes == sum(map(len, frames))
        ann.read()
        assert ann.chats == [("bob", "one"), ("bob", "two")]
        assert ann.queued_bytes == 0
        bob.say("three")
        assert ann.chats[-1] == ("bob", "three")

    def test_waiting_is_bounded_by_the_limit(self) -> None:
        chat = ChatInMemory(Limits(max_queued_bytes=16_384))
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.stop_reading()
        for _ in range(100):
            bob.say("x" * 1_000)
        assert ann.queued_bytes <= 16_384
        ann.read()
        chat.pass_time()
        assert len(ann.chats) == 100

    def test_who_asks_and_does_not_read_is_not_read_from(self) -> None:
        chat = ChatInMemory(Limits(max_queued_bytes=16_384))
        ann = chat.join("ann")
        assert ann.is_read_from
        ann.stop_reading()
        while ann.is_read_from:
            ann.ask(Ping(1))
            assert ann.queued_bytes < 16_384
        ann.read()
        chat.pass_time()
        assert ann.is_read_from

    def test_the_last_words_are_read_before_the_connection_closes(self) -> None:
        chat = ChatInMemory()
        ann = chat.join("ann")
        ann.stop_reading()
        ann.session.stalled()
        assert ann.is_connected
        ann.read()
        assert ann.errors == [ErrorCode.TOO_SLOW]
        assert not ann.is_connected


class TestOutlet:
    """A person is an outlet as good as a real one."""

    @pytest.fixture
    def person(self) -> Person:
        person = ChatInMemory().join("ann")
        person.forget()
        return person

    def test_it_has_everything_that_an_outlet_needs(self, person: Person) -> None:
        outlet: Outlet = person
        names = [name for name in vars(Outlet) if not name.startswith("_")]
        assert len(names) >= 8
        assert [name for name in names if not hasattr(outlet, name)] == []

    def test_publish_refuses_past_the_bound_and_send_never_does(self) -> None:
        person = ChatInMemory(Limits(max_queued_bytes=4_096, max_text_bytes=1_000)).join("ann")
        person.stop_reading()
        notice = Notice("x" * 1_000)
        taken = [person.publish(Prepared(notice)) for _ in range(5)]
        assert taken == [True, True, True, True, False]
        person.send(notice)
        assert person.queued_bytes == 5 * len(encode_frame(notice))

    def test_drop_takes_what_can_be_replayed_and_says_from_where(self, person: Person) -> None:
        person.stop_reading()
        person.send(Pong(1))
        for topic, position in (("a", 5), ("b", 7), ("a", 6), ("a", 4)):
            person.publish(Prepared(Notice("x"), topic, position))
        person.publish(Prepared(Notice("stays")))
        assert person.drop() == {"a": 4, "b": 7}
        assert person.drop() == {}
        assert person.queued_bytes == len(encode_frame(Pong(1))) + len(encode_frame(Notice("stays")))
        person.read()
        assert person.received == [Pong(1), Notice("stays")]

    def test_notify_is_answered_later_and_once_nothing_waits(self) -> None:
        chat = ChatInMemory()
        person = chat.join("ann")
        calls: list[int] = []
        person.session.drained = lambda: calls.append(person.queued_bytes)  # type: ignore[method-assign]
        person.notify()
        assert calls == []
        chat.pass_time()
        assert calls == [0]
        person.stop_reading()
        person.send(Pong(1))
        person.notify()
        chat.pass_time()
        assert calls == [0]
        person.read()
        assert calls == [0]
        chat.pass_time()
        assert calls == [0, 0]

    @pytest.mark.parametrize("way", ["send", "publish"])
    def test_nothing_is_taken_after_the_end(self, person: Person, way: str) -> None:
        person.stop_reading()
        person.send(Pong(1))
        person.finish()
        if way == "send":
            person.send(Pong(2))
        else:
            assert person.publish(Prepared(Pong(2)))  # as a queue that is closed
        person.read()
        assert person.received == [Pong(1)]
        assert not person.is_connected

    def test_nothing_is_taken_after_the_connection_is_lost(self, person: Person) -> None:
        person.disconnect()
        person.send(Pong(1))
        assert person.publish(Prepared(Pong(2)))
        person.notify()
        assert person.received == []
        assert person.queued_bytes == 0

    def test_pause_and_resume_show(self, person: Person) -> None:
        person.pause()
        assert not person.is_read_from
        person.resume()
        assert person.is_read_from


def test_what_is_received_are_messages() -> None:
    ann = ChatInMemory().join("not a nick")
    [error] = ann.received
    assert isinstance(error, Message)
    assert isinstance(error, Error)

"""Nobody leaves before their last words: what the log owes an answer for is told first, then who left."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from rooms.outlets import AsyncLog, Failures, Faulty, assert_nothing_is_left, join
from rooms.pumped import PumpedLog

from chatproto.limits import HistoryLimits, Limits
from chatproto.rooms.account import Account
from chatproto.rooms.hub import LAST_WORDS_S
from chatproto.rooms.log import MemoryLog, NotStored
from chatproto.testing import ChatInMemory, Person
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import (
    Ack,
    Chat,
    Error,
    Join,
    Joined,
    Leave,
    Left,
    Login,
    Moderate,
    Nick,
    Ping,
    Pong,
    Renamed,
    Roster,
    Say,
    Welcome,
)

KICK, BAN = 1, 2


@pytest.fixture
def log() -> AsyncLog:
    """It answers when the test says so."""
    return AsyncLog(MemoryLog(wall_clock=lambda: 0.0))


@pytest.fixture
def chat(log: AsyncLog) -> ChatInMemory:
    return chat_on(log)


def chat_on(log: AsyncLog | PumpedLog, **limits: int) -> ChatInMemory:
    """A chat in which `op` may log in and moderate, and nobody is too fast."""
    pace = Limits(max_messages_per_s=0.0, max_history_reads_per_s=0.0, rename_interval_s=0.0, **limits)
    return ChatInMemory(pace, log, authenticate=lambda user, secret: True, operators=["op"])


def operator(chat: ChatInMemory) -> Person:
    op = chat.connect()
    op.ask(Login("op", "secret"), Join("op"))
    return op


def told(person: Person) -> list[str]:
    """Who said what, came, went and changed their nickname, in the order in which it came to *person*."""
    found = []
    for message in person.received:
        match message:
            case Chat():
                found.append(f"{message.nick}: {message.text}")
            case Joined() | Left():
                found.append(f"{message.type} {message.nick}")
            case Renamed():
                found.append(f"{message.old} is {message.new}")
    return found


def is_gone(person: Person) -> None:
    person.disconnect()


def takes_nothing(person: Person) -> None:
    person.session.stalled()


def is_ended(person: Person) -> None:
    person.session.end("kicked")


def leaves_the_room(person: Person) -> None:
    person.leave("lobby")


def is_put_out(person: Person) -> None:
    person.session.hub.leave(person.session, "lobby", "kicked")


ENDS = (is_gone, takes_nothing, is_ended)
EVERY_WAY_OUT = pytest.mark.parametrize("go", [*ENDS, leaves_the_room, is_put_out])


class TestOrder:
    @EVERY_WAY_OUT
    def test_left_comes_after_what_was_said_last(
        self, chat: ChatInMemory, log: AsyncLog, go: Callable[[Person], None]
    ) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        log.settle()
        bob.forget()
        ann.ask(Say(1, "", "first"), Say(2, "", "last"))
        go(ann)
        assert told(bob) == []
        log.settle()
        assert told(bob) == ["ann: first", "ann: last", "left ann"]

    @EVERY_WAY_OUT
    def test_until_then_they_are_counted_as_here(
        self, chat: ChatInMemory, log: AsyncLog, go: Callable[[Person], None]
    ) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        log.settle()
        ann.say("last")
        go(ann)
        bob.who()
        assert (bob.got(Roster)[-1].total, bob.got(Roster)[-1].nicks) == (2, ("bob", "ann"))
        log.settle()
        bob.who()
        assert (bob.got(Roster)[-1].total, bob.got(Roster)[-1].nicks) == (1, ("bob",))

    @EVERY_WAY_OUT
    def test_it_comes_when_the_last_is_refused_too(
        self, chat: ChatInMemory, log: AsyncLog, go: Callable[[Person], None]
    ) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        log.settle()
        bob.forget()
        ann.say("nobody sees it", id=1)
        go(ann)
        log.failing = NotStored("full")
        log.settle()
        assert told(bob) == ["left ann"]

    @EVERY_WAY_OUT
    def test_it_comes_at_once_where_nothing_waits(
        self, chat: ChatInMemory, log: AsyncLog, go: Callable[[Person], None]
    ) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.say("hi")
        log.settle()
        bob.forget()
        go(ann)
        assert told(bob) == ["left ann"]
        assert chat.clock.getDelayedCalls() == []

    def test_nobody_waits_for_a_log_that_answers_at_once(self) -> None:
        chat = ChatInMemory()
        ann, bob = chat.join("ann"), chat.join("bob")
        bob.forget()
        ann.say("hi")
        ann.disconnect()
        assert told(bob) == ["ann: hi", "left ann"]
        assert chat.clock.getDelayedCalls() == []

    def test_each_room_waits_for_what_was_said_there(self, chat: ChatInMemory, log: AsyncLog) -> None:
        ann, bob, cid, dora = (
            chat.join("ann"),
            chat.join("bob"),
            chat.join("cid", "b"),
            chat.join("dora", "c"),
        )
        for room in "bc":
            ann.join(room)
        log.settle()
        for other in (bob, cid, dora):
            other.forget()
        ann.ask(Say(1, "lobby", "here"), Say(2, "b", "there"))
        ann.disconnect()
        assert told(dora) == ["left ann"]
        log.step(log.appends)
        log.step(log.appends)
        assert (told(bob), told(cid)) == (["ann: here", "left ann"], [])
        log.settle()
        assert told(cid) == ["ann: there", "left ann"]

    def test_a_new_nickname_comes_after_what_was_said_under_the_old_one(
        self, chat: ChatInMemory, log: AsyncLog
    ) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        log.settle()
        bob.forget()
        ann.ask(Say(1, "", "as ann"), Nick("bea"), Say(2, "", "as bea"))
        assert chat.hub.nicks.find("ann") is ann.session
        log.settle()
        assert told(bob) == ["ann: as ann", "ann is bea", "bea: as bea"]
        assert ann.errors == []


class TestMeanwhile:
    def test_who_is_gone_is_in_the_roster_until_they_have_left(
        self, chat: ChatInMemory, log: AsyncLog
    ) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        log.settle()
        ann.say("last")
        ann.disconnect()
        bob.who()
        assert sorted(bob.got(Roster)[-1].nicks) == ["ann", "bob"]
        cid = chat.join("cid", limit=10)
        log.settle()
        assert sorted(cid.got(Roster)[-1].nicks) == ["ann", "bob", "cid"]
        assert told(cid)[-2:] == ["ann: last", "left ann"]
        bob.who()
        assert bob.got(Roster)[-1].total == 2

    def test_a_room_stays_as_long_as_somebody_leaves_it(self, chat: ChatInMemory, log: AsyncLog) -> None:
        ann = chat.join("ann", "a")
        log.settle()
        ann.say("last", "a")
        ann.disconnect()
        cid = chat.join("cid", "a", limit=10)
        log.settle()
        assert told(cid) == ["ann: last", "left ann"]
        cid.disconnect()
        assert_nothing_is_left(chat.hub, chat.clock)

    def test_who_left_a_room_neither_hears_nor_speaks_there(self, chat: ChatInMemory, log: AsyncLog) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        log.settle()
        ann.forget()
        ann.ask(Say(1, "", "last"), Leave("lobby"), Say(2, "", "no more"), Ping(3))
        bob.rename("bea")
        bob.say("about ann")
        log.settle()
        assert [error.id for error in ann.got(Error)] == [2]
        assert ann.errors == [ErrorCode.NOT_IN_ROOM]
        assert [ack.id for ack in ann.got(Ack)] == [1]
        assert ann.got(Pong) == [Pong(3)]
        assert told(ann) == []

    def test_who_left_a_room_goes_on_in_others(self, chat: ChatInMemory, log: AsyncLog) -> None:
        ann, bob, cid = chat.join("ann"), chat.join("bob"), chat.join("cid", "b")
        ann.join("b")
        log.settle()
        bob.forget()
        ann.ask(Say(1, "", "last"), Leave("lobby"), Say(2, "b", "on and on"))
        log.step(log.appends)
        log.step(log.appends)
        assert told(bob) == ["ann: last", "left ann"]
        ann.say("and on", "b")
        log.settle()
        assert cid.chats == [("ann", "on and on"), ("ann", "and on")]

    def test_who_comes_back_into_a_room_has_left_it_first(self, chat: ChatInMemory, log: AsyncLog) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        log.settle()
        ann.forget()
        bob.forget()
        ann.ask(Say(1, "", "last"), Leave("lobby"))
        ann.join("lobby", limit=5)
        ann.say("again", id=2)
        log.settle()
        assert told(bob) == ["ann: last", "left ann", "joined ann", "ann: again"]
        assert [message.type for message in ann.received] == ["ack", "roster", "chat", "end", "ack"]

    def test_who_is_put_out_while_they_leave_has_left_once(self, chat: ChatInMemory, log: AsyncLog) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        log.settle()
        bob.forget()
        ann.say("last")
        ann.leave("lobby")
        is_put_out(ann)
        ann.disconnect()
        log.settle()
        assert bob.got(Left) == [Left("lobby", "ann", "left")]
        bob.disconnect()
        assert_nothing_is_left(chat.hub, chat.clock)

    def test_a_private_message_does_not_reach_who_is_gone(self, chat: ChatInMemory, log: AsyncLog) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        log.settle()
        ann.say("last")
        ann.disconnect()
        bob.tell("ann", "psst", id=1)
        assert bob.errors == [ErrorCode.NO_SUCH_NICK]

    @pytest.mark.parametrize("target", ["ann", "server:ann"])
    def test_who_is_gone_cannot_be_kicked(self, chat: ChatInMemory, log: AsyncLog, target: str) -> None:
        ann, op = chat.join("ann"), operator(chat)
        log.settle()
        ann.say("last")
        ann.disconnect()
        op.ask(Moderate(KICK, "lobby", target, 0, ""))
        assert op.errors == [ErrorCode.NO_SUCH_NICK]

    @pytest.mark.parametrize("action", [KICK, BAN])
    @pytest.mark.parametrize("target", ["ann", "server:ann"])
    def test_who_is_kicked_is_heard_to_the_end_and_says_no_more(
        self, chat: ChatInMemory, log: AsyncLog, action: int, target: str
    ) -> None:
        ann, bob, op = chat.join("ann"), chat.join("bob"), operator(chat)
        log.settle()
        bob.forget()
        ann.say("last", id=1)
        op.ask(Moderate(action, "lobby", target, 0, ""))
        ann.say("no more", id=2)
        log.settle()
        assert told(bob) == ["ann: last", "left ann"]
        assert bob.got(Left) == [Left("lobby", "ann", "kicked")]


class TestNickname:
    def test_who_comes_back_at_once_waits_and_is_let_in(self, chat: ChatInMemory, log: AsyncLog) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        log.settle()
        bob.forget()
        ann.say("last")
        ann.disconnect()
        again = chat.join("ann", limit=5)
        assert again.received == []
        log.settle()
        assert again.errors == []
        assert [message.type for message in again.received] == ["welcome", "roster", "chat", "end"]
        assert told(bob) == ["ann: last", "left ann", "joined ann"]

    def test_who_takes_it_by_renaming_waits_too(self, chat: ChatInMemory, log: AsyncLog) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        log.settle()
        bob.forget()
        ann.say("last")
        ann.disconnect()
        bob.ask(Nick("Ann"), Ping(1))
        assert bob.received == []
        log.settle()
        assert told(bob) == ["ann: last", "left ann", "bob is Ann"]
        assert bob.got(Pong) == [Pong(1)]

    def test_of_several_the_first_gets_it(self, chat: ChatInMemory, log: AsyncLog) -> None:
        ann = chat.join("ann")
        log.settle()
        ann.say("last")
        ann.disconnect()
        first, second = chat.join("ann"), chat.join("ann")
        assert second.errors == [ErrorCode.NICK_TAKEN]
        log.settle()
        assert [welcome.id for welcome in first.got(Welcome)] == [first.session.id]

    def test_who_waited_and_went_stands_in_nobodys_way(self, chat: ChatInMemory, log: AsyncLog) -> None:
        ann = chat.join("ann")
        log.settle()
        ann.say("last")
        ann.disconnect()
        chat.join("ann").disconnect()
        again = chat.join("ann")
        log.settle()
        assert again.session.nick_text == "ann"
        again.disconnect()
        assert_nothing_is_left(chat.hub, chat.clock)

    def test_who_waits_is_let_in_when_the_log_is_given_up(self, chat: ChatInMemory, log: AsyncLog) -> None:
        ann = chat.join("ann")
        log.settle()
        ann.say("last")
        ann.disconnect()
        again = chat.connect()
        chat.pass_time(LAST_WORDS_S - 1)
        again.ask(Join("ann"))
        chat.pass_time(1)
        assert again.session.nick_text == "ann"

    def test_an_account_takes_its_own_from_who_still_speaks(self, log: AsyncLog) -> None:
        chat = ChatInMemory(
            None, log, authenticate=lambda user, secret: Account(user, nicks=frozenset({"ann"}))
        )
        stranger, bob = chat.join("ann"), chat.join("bob")
        log.settle()
        bob.forget()
        stranger.say("last")
        ann = chat.connect()
        ann.ask(Login("ann", "secret"), Join("ann"))
        assert not stranger.is_connected
        log.settle()
        assert told(bob) == ["ann: last", "left ann", "joined ann"]
        assert ann.errors == []


class TestBounds:
    def test_a_log_that_does_not_answer_is_waited_for_so_long(
        self, chat: ChatInMemory, log: AsyncLog
    ) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        log.settle()
        bob.forget()
        ann.say("in doubt")
        ann.disconnect()
        chat.pass_time(LAST_WORDS_S - 0.1)
        assert told(bob) == []
        chat.pass_time(0.2)
        assert told(bob) == ["left ann"]
        again = chat.join("ann")
        assert again.session.nick_text == "ann"
        log.settle()
        assert told(bob) == ["left ann", "joined ann", "ann: in doubt"]
        assert chat.hub.nicks.find("ann") is again.session
        for person in (again, bob):
            person.disconnect()
        assert_nothing_is_left(chat.hub, chat.clock)

    def test_whom_the_server_shuts_out_it_does_not_wait_for(self, chat: ChatInMemory, log: AsyncLog) -> None:
        ann, bob, cid = chat.join("ann"), chat.join("bob"), chat.join("cid")
        log.settle()
        bob.forget()
        for person in (ann, cid):
            person.say("last")
        ann.disconnect()
        chat.hub.shut_down([cid.session], 0, "goodbye")
        assert told(bob) == ["left ann", "left cid"]
        chat.hub.shut_down([bob.session], 0, "goodbye")
        assert_nothing_is_left(chat.hub, chat.clock)
        log.settle()
        assert_nothing_is_left(chat.hub, chat.clock)

    def test_the_place_in_a_full_room_is_ones_own_until_one_is_back(self, log: AsyncLog) -> None:
        chat = chat_on(log, max_people_per_room=2, max_sessions=2)
        ann, bob = chat.join("ann"), chat.join("bob")
        log.settle()
        ann.say("last")
        ann.disconnect()
        assert chat.join("cid").errors == [ErrorCode.RATE_LIMITED]
        again = chat.join("ann")
        log.settle()
        assert again.errors == []
        again.disconnect()
        assert chat.join("cid").errors == []
        assert bob.is_connected

    def test_how_many_are_waited_for_is_bounded_by_what_the_log_takes_on(self, tmp_path: Path) -> None:
        log = PumpedLog(tmp_path / "history", history=HistoryLimits(max_unkept_bytes=4_096))
        chat = chat_on(log)
        bob = chat.join("bob")
        log.settle()
        assert bob.got(Roster)
        for number in range(100):
            passer = chat.join(f"passer{number}")
            passer.say("x" * 1_000)
            passer.disconnect()
        assert 0 < chat.hub.n_people - 1 <= 4
        log.settle()
        bob.who()
        assert bob.got(Roster)[-1].nicks == ("bob",)
        bob.disconnect()
        assert_nothing_is_left(chat.hub, chat.clock)
        log.close_now()

    def test_nothing_holds_on_to_them_when_they_have_left(self, chat: ChatInMemory, log: AsyncLog) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        log.settle()
        ann.say("last", id=7)
        ann.disconnect()
        log.settle()
        session = weakref.ref(ann.session)
        del ann
        gc.collect()
        assert session() is None
        assert bob.is_connected

    def test_one_whose_outlet_breaks_at_the_answer_has_left_at_once(
        self, chat: ChatInMemory, log: AsyncLog, failures: Failures
    ) -> None:
        ann, bob = join(Faulty, chat, "ann"), chat.join("bob")
        ann.join("b")
        log.settle()
        bob.forget()
        ann.ask(Say(1, "", "last"), Leave("lobby"), Say(2, "b", "elsewhere"))
        ann.raises_in = {"send"}
        log.settle()
        assert told(bob) == ["ann: last", "left ann"]
        assert "Broken" in failures.take()
        bob.disconnect()
        assert_nothing_is_left(chat.hub, chat.clock)

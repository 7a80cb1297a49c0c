"""What one person's session does: protocol, sections 2 and 3."""

from __future__ import annotations

import pytest
from rooms.outlets import Broken, Failures, Faulty, assert_nothing_is_left, join

from chatproto.limits import Limits
from chatproto.rooms.log import MemoryLog, NotStored, Receipt
from chatproto.rooms.requests import _BEFORE_JOIN, _DISPATCH
from chatproto.testing import ChatInMemory, Person
from chatproto.version import __version__
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import (
    MESSAGES,
    Ack,
    Chat,
    End,
    Error,
    History,
    Join,
    Joined,
    Leave,
    Login,
    Message,
    Moderate,
    Nick,
    Ping,
    Pong,
    Roster,
    Say,
    Search,
    Tell,
    Told,
    Welcome,
    Who,
)

CLIENT_MESSAGES: dict[type[Message], Message] = {
    Join: Join("ann"),
    Say: Say(1, "", "hi"),
    Leave: Leave("lobby"),
    Nick: Nick("bea"),
    Who: Who(""),
    History: History("", 0, 10),
    Tell: Tell(1, "bob", "hi"),
    Ping: Ping(1),
    Login: Login("ann", "secret"),
    Search: Search("", "hi", 10),
    Moderate: Moderate(1, "", "bob", 0, ""),
}
"""One of each kind."""


def error_of(person: Person) -> Error:
    """The one error that came, and nothing after it."""
    [error] = person.got(Error)
    assert person.received[-1] == error
    return error


class FailingLog(MemoryLog):
    """A log that raises what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.append_raises: Exception | None = None
        self.read_raises: Exception | None = None

    def append(self, room: str, nick: str, key: str, id: int, text: str, sender: int) -> Receipt:
        if self.append_raises is not None:
            raise self.append_raises
        return super().append(room, nick, key, id, text, sender)

    def read(self, room: str, first: int, last: int, max_bytes: int) -> list[Chat]:
        if self.read_raises is not None:
            raise self.read_raises
        return super().read(room, first, last, max_bytes)


class TestTable:
    def test_every_kind_that_a_client_may_send_is_taken_up(self) -> None:
        assert (
            set(_DISPATCH) == {cls for kind, cls in MESSAGES.items() if kind < 0x80} == set(CLIENT_MESSAGES)
        )

    def test_what_may_come_before_join_is_what_the_protocol_says(self) -> None:
        assert {Login, Join, Ping, Leave} == _BEFORE_JOIN


class TestJoin:
    def test_who_joins_gets_welcome_then_roster_then_what_is_kept_then_end_then_what_is_said(
        self, chat: ChatInMemory
    ) -> None:
        ann = chat.join("ann")
        ann.say("one")
        ann.say("two")
        bob = chat.join("bob", limit=10)
        ann.say("three")
        kinds = [type(message) for message in bob.received]
        assert kinds == [Welcome, Roster, Chat, Chat, End, Chat]
        assert [message.seq for message in bob.got(Chat)] == [1, 2, 3]
        assert bob.got(Roster) == [Roster("lobby", 2, 2, ("ann", "bob"))]
        assert bob.got(End) == [End("lobby", 1, 2, 0)]
        assert bob.got(Chat)[0] == Chat("lobby", 1, 0, "ann", "one")

    def test_welcome_says_who_one_is_and_where(self, chat: ChatInMemory) -> None:
        ann = chat.join("  Ann ")
        assert ann.got(Welcome) == [
            Welcome(ann.session.id, "Ann", chat.hub.log.epoch, f"chatproto/{__version__}")
        ]

    def test_everyone_else_there_is_told_and_nobody_elsewhere(self, chat: ChatInMemory) -> None:
        ann, elsewhere = chat.join("ann"), chat.join("eve", "elsewhere")
        bob = chat.join("bob")
        assert ann.got(Joined) == [Joined("lobby", "bob")]
        assert bob.got(Joined) == elsewhere.got(Joined) == []

    def test_the_empty_room_is_the_default_room(self) -> None:
        chat = ChatInMemory(default_room="foyer")
        ann = chat.join("ann", "")
        assert [roster.room for roster in ann.got(Roster)] == ["foyer"]
        bob = chat.join("bob", "foyer")
        ann.say("to the empty room", "")
        bob.say("to its name", "foyer")
        assert (bob.chats, ann.chats) == ([("ann", "to the empty room")], [("bob", "to its name")])

    def test_another_join_enters_another_room_without_a_second_welcome(self, chat: ChatInMemory) -> None:
        ann = chat.join("ann")
        ann.forget()
        ann.join("tea")
        assert ann.received == [Roster("tea", 0, 1, ("ann",)), End("tea", 0, 0, 0)]

    def test_a_join_for_a_room_one_is_in_is_ignored(self, chat: ChatInMemory) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.say("hi")
        for person in (ann, bob):
            person.forget()
        bob.join("lobby", limit=10)
        bob.ask(Join("BOB", "", 0, 0, 10))
        assert bob.received == ann.received == []

    def test_a_join_under_another_nickname_is_refused(self, chat: ChatInMemory) -> None:
        ann = chat.join("ann")
        ann.ask(Join("bea", "tea"))
        assert error_of(ann).code == ErrorCode.BAD_NICK
        assert list(chat.hub.rooms) == ["lobby"]

    @pytest.mark.parametrize("nick", ["Ann", " ann", "ａｎｎ"])
    def test_a_join_under_another_form_of_ones_nickname_enters(self, chat: ChatInMemory, nick: str) -> None:
        ann = chat.join("ann")
        ann.ask(Join(nick, "tea"))
        assert ann.errors == []
        assert ann.got(Roster)[-1] == Roster("tea", 0, 1, ("ann",))

    @pytest.mark.parametrize("nick", ["", " ", "two words", "x" * 33, "a\nb", "*", "a\u202eb"])
    def test_a_nickname_that_is_none_is_refused(self, chat: ChatInMemory, nick: str) -> None:
        ann = chat.join(nick)
        assert error_of(ann).code == ErrorCode.BAD_NICK
        assert ann.got(Welcome) == []

    @pytest.mark.parametrize("room", ["two words", "x" * 65, "/slash", "a\nb"])
    def test_a_room_that_is_none_is_refused(self, chat: ChatInMemory, room: str) -> None:
        ann = chat.join("ann", room)
        assert error_of(ann).code == ErrorCode.BAD_ROOM
        assert chat.hub.rooms == {}

    def test_who_was_refused_may_try_again(self, chat: ChatInMemory) -> None:
        ann = chat.join("not a nick")
        ann.ask(Join("ann", "not a room"), Join("ann"))
        assert [type(message) for message in ann.received] == [Error, Error, Welcome, Roster, End]

    def test_a_refused_join_does_not_take_the_nickname(self, chat: ChatInMemory) -> None:
        chat.join("ann", "not a room")
        assert chat.join("ann").errors == []

    def test_a_session_may_be_in_so_many_rooms(self) -> None:
        chat = ChatInMemory(Limits(max_rooms_per_session=2))
        ann = chat.join("ann", "a")
        ann.join("b")
        ann.join("c")
        assert error_of(ann).code == ErrorCode.TOO_MANY_ROOMS
        ann.leave("a")
        ann.join("c")
        assert [roster.room for roster in ann.got(Roster)] == ["a", "b", "c"]

    def test_the_server_has_so_many_rooms(self) -> None:
        chat = ChatInMemory(Limits(max_rooms=2))
        chat.join("ann", "a")
        bob = chat.join("bob", "b")
        bob.join("c")
        assert error_of(bob).code == ErrorCode.TOO_MANY_ROOMS
        bob.join("a")
        assert bob.got(Roster)[-1].room == "a"

    def test_ids_grow_and_none_is_used_twice(self, chat: ChatInMemory) -> None:
        ids = []
        for _ in range(5):
            person = chat.join("ann")
            ids.append(person.got(Welcome)[0].id)
            person.disconnect()
        assert ids == sorted(set(ids))
        assert ids[0] > 0


class TestBeforeJoin:
    @pytest.mark.parametrize("kind", [cls for cls in CLIENT_MESSAGES if cls not in _BEFORE_JOIN])
    def test_anything_else_is_a_fatal_error(self, chat: ChatInMemory, kind: type[Message]) -> None:
        person = chat.connect()
        person.ask(CLIENT_MESSAGES[kind], Ping(1))
        [error] = person.received
        assert isinstance(error, Error)
        assert (error.code, error.id) == (ErrorCode.JOIN_FIRST, 0)
        assert not person.is_connected

    def test_ping_is_answered(self, chat: ChatInMemory) -> None:
        person = chat.connect()
        person.ask(Ping(7))
        assert person.received == [Pong(7)]

    def test_leave_ends_the_session(self, chat: ChatInMemory) -> None:
        person = chat.connect()
        person.leave()
        assert person.received == []
        assert not person.is_connected

    def test_leaving_a_room_is_an_error_and_not_fatal(self, chat: ChatInMemory) -> None:
        person = chat.connect()
        person.leave("lobby")
        assert error_of(person).code == ErrorCode.NOT_IN_ROOM
        assert person.is_connected

    def test_who_does_not_join_in_time_is_sent_away(self) -> None:
        chat = ChatInMemory(Limits(join_timeout_s=10))
        person = chat.connect()
        person.ask(Ping(1))
        chat.pass_time(9.9)
        assert person.is_connected
        chat.pass_time(0.2)
        assert error_of(person).code == ErrorCode.TIMEOUT
        assert not person.is_connected
        assert_nothing_is_left(chat.hub, chat.clock)

    def test_who_joined_in_time_stays(self) -> None:
        chat = ChatInMemory(Limits(join_timeout_s=10))
        person = chat.join("ann")
        chat.pass_time(1_000)
        assert person.is_connected
        assert person.errors == []

    def test_a_refused_join_does_not_stop_the_clock(self) -> None:
        chat = ChatInMemory(Limits(join_timeout_s=10))
        person = chat.join("not a nick")
        chat.pass_time(11)
        assert person.errors == [ErrorCode.BAD_NICK, ErrorCode.TIMEOUT]


class TestNicknames:
    @pytest.mark.parametrize(
        ("held", "wanted"),
        [
            ("ann", "ann"),
            ("ann", "ANN"),
            ("Ann", " ann "),
            ("änn", "ÄNN"),
            ("änn", "a\u0308nn"),
            ("ann", "ａｎｎ"),
        ],
    )
    def test_a_nickname_is_taken_in_every_case_and_unicode_form(
        self, chat: ChatInMemory, held: str, wanted: str
    ) -> None:
        chat.join(held)
        other = chat.join(wanted)
        assert error_of(other).code == ErrorCode.NICK_TAKEN
        assert other.is_connected

    def test_a_nickname_that_looks_like_a_held_one_is_taken(self, chat: ChatInMemory) -> None:
        chat.join("Bill")
        assert chat.join("BiII").errors == [ErrorCode.NICK_TAKEN]

    def test_a_nickname_is_taken_in_every_room(self, chat: ChatInMemory) -> None:
        chat.join("ann", "a")
        assert chat.join("ann", "b").errors == [ErrorCode.NICK_TAKEN]

    def test_leaving_every_room_does_not_release_it(self, chat: ChatInMemory) -> None:
        ann = chat.join("ann")
        ann.leave("lobby")
        assert chat.join("ann").errors == [ErrorCode.NICK_TAKEN]
        ann.join("tea")
        assert ann.got(Roster)[-1].nicks == ("ann",)

    def test_a_rename_releases_the_old_one_and_takes_the_new_one(self, chat: ChatInMemory) -> None:
        ann = chat.join("ann")
        ann.rename("bea")
        assert chat.join("ann").errors == []
        assert chat.join("bea").errors == [ErrorCode.NICK_TAKEN]

    def test_a_refused_rename_changes_nothing(self, chat: ChatInMemory) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.rename("BOB")
        ann.rename("two words")
        assert ann.errors == [ErrorCode.NICK_TAKEN, ErrorCode.BAD_NICK]
        assert ann.session.nick_text == "ann"
        assert bob.errors == []
        assert chat.join("ann").errors == [ErrorCode.NICK_TAKEN]

    def test_one_may_change_the_case_of_ones_own(self, chat: ChatInMemory) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.rename("Ann")
        ann.say("hi")
        assert bob.chats == [("Ann", "hi")]
        assert chat.join("ann").errors == [ErrorCode.NICK_TAKEN]

    def test_renames_come_in_bursts_and_then_slowly(self) -> None:
        chat = ChatInMemory(Limits(rename_burst=2, rename_interval_s=5))
        ann = chat.join("ann")
        for number in range(3):
            ann.rename(f"ann{number}")
        assert ann.errors == [ErrorCode.RATE_LIMITED]
        assert ann.session.nick_text == "ann1"
        chat.pass_time(4.9)
        ann.rename("ann3")
        assert ann.session.nick_text == "ann1"
        chat.pass_time(0.2)
        ann.rename("ann4")
        ann.rename("ann5")
        assert ann.session.nick_text == "ann4"
        chat.pass_time(1_000)
        for number in range(6, 9):
            ann.rename(f"ann{number}")
        assert ann.session.nick_text == "ann7"

    def test_renames_are_not_limited_with_an_interval_of_0(self) -> None:
        chat = ChatInMemory(Limits(rename_burst=1, rename_interval_s=0))
        ann = chat.join("ann")
        for number in range(10):
            ann.rename(f"ann{number}")
        assert ann.errors == []


class TestSay:
    def test_everyone_else_in_the_room_gets_it_and_the_speaker_the_ack(self, chat: ChatInMemory) -> None:
        ann, bob, eve = chat.join("ann"), chat.join("bob"), chat.join("eve", "elsewhere")
        chat.pass_time(1.5)
        for person in (ann, bob, eve):
            person.forget()
        ann.say("hi", id=7)
        assert bob.received == [Chat("lobby", 1, 1_500, "ann", "hi")]
        assert ann.received == [Ack(7, 1, 1_500)]
        assert eve.received == []

    def test_without_an_id_there_is_no_ack(self, chat: ChatInMemory) -> None:
        ann = chat.join("ann")
        ann.forget()
        ann.say("hi")
        assert ann.received == []
        assert chat.hub.log.bounds("lobby") == (1, 1)

    def test_numbers_are_the_rooms(self, chat: ChatInMemory) -> None:
        ann = chat.join("ann", "a")
        ann.join("b")
        for id, room in enumerate(["a", "b", "a"], 1):
            ann.say("hi", room, id=id)
        assert [(ack.id, ack.seq) for ack in ann.got(Ack)] == [(1, 1), (2, 1), (3, 2)]

    def test_an_id_that_comes_again_is_acknowledged_again_and_nobody_gets_it_twice(
        self, chat: ChatInMemory
    ) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        for _ in range(3):
            ann.say("hi", id=7)
            chat.pass_time(1)
        assert ann.got(Ack) == [Ack(7, 1, 0)] * 3
        assert bob.chats == [("ann", "hi")]

    def test_an_id_is_known_after_coming_back(self, chat: ChatInMemory) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.say("hi", id=7)
        ann.disconnect()
        again = chat.join("ANN")
        again.say("hi", id=7)
        assert again.got(Ack) == ann.got(Ack)
        assert bob.chats == [("ann", "hi")]

    def test_an_id_under_another_nickname_is_another(self, chat: ChatInMemory) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.say("hi", id=7)
        bob.say("hi", id=7)
        ann.rename("bea")
        ann.say("hi", id=7)
        assert [ack.seq for ack in ann.got(Ack) + bob.got(Ack)] == [1, 3, 2]

    def test_one_speaks_only_where_one_is(self, chat: ChatInMemory) -> None:
        ann, bob = chat.join("ann", "a"), chat.join("bob", "b")
        ann.say("hi", "b", id=7)
        error = error_of(ann)
        assert (error.code, error.id) == (ErrorCode.NOT_IN_ROOM, 7)
        assert bob.chats == []

    def test_one_does_not_speak_where_one_was(self, chat: ChatInMemory) -> None:
        ann = chat.join("ann")
        ann.leave("lobby")
        ann.say("hi", id=7)
        assert error_of(ann).code == ErrorCode.NOT_IN_ROOM

    @pytest.mark.parametrize("text", ["", "x" * 4_097, "ä" * 2_049, "a\x00b", "a\x1bb", "\x7f", "\r"])
    def test_a_text_that_may_not_be_said_is_refused(self, chat: ChatInMemory, text: str) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.say(text, id=7)
        ann.tell("bob", text, id=8)
        assert [(error.code, error.id) for error in ann.got(Error)] == [
            (ErrorCode.BAD_TEXT, 7),
            (ErrorCode.BAD_TEXT, 8),
        ]
        assert [message.type for message in bob.received] == ["welcome", "roster", "end"]

    @pytest.mark.parametrize("text", ["x" * 4_096, "ä" * 2_048, "a\nb\tc", "\u202e"])
    def test_a_text_at_the_limit_is_said_as_it_is(self, chat: ChatInMemory, text: str) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.say(text)
        assert bob.chats == [("ann", text)]

    def test_what_the_log_refuses_nobody_sees(self) -> None:
        log = FailingLog()
        chat = ChatInMemory(log=log)
        ann, bob = chat.join("ann"), chat.join("bob")
        log.append_raises = NotStored("the disk is full")
        ann.say("hi", id=7)
        assert error_of(ann) == Error(ErrorCode.NOT_STORED, 7, "the disk is full")
        assert bob.chats == []
        log.append_raises = None
        ann.say("hi", id=7)
        assert bob.chats == [("ann", "hi")]

    def test_a_log_that_breaks_is_the_speakers_error_and_no_more(self, failures: Failures) -> None:
        log = FailingLog()
        chat = ChatInMemory(log=log)
        ann, bob = chat.join("ann"), chat.join("bob")
        log.append_raises = Broken()
        ann.ask(Say(7, "", "hi"), Ping(1))
        assert ann.received[-1] == Pong(1)
        [error] = ann.got(Error)
        assert (error.code, error.id) == (ErrorCode.NOT_STORED, 7)
        assert bob.chats == []
        assert failures.take() == ["Broken"]
        log.append_raises = None
        ann.say("hi")
        assert bob.chats == [("ann", "hi")]


class TestTell:
    def test_it_reaches_that_person_alone(self, chat: ChatInMemory) -> None:
        ann, bob, eve = chat.join("ann"), chat.join("bob", "elsewhere"), chat.join("eve")
        chat.pass_time(2)
        ann.forget()
        ann.tell("BOB", "psst", id=7)
        assert bob.got(Told) == [Told(2_000, "ann", "psst")]
        assert eve.got(Told) == []
        assert ann.received == [Ack(7, 0, 2_000)]

    def test_without_an_id_there_is_no_ack(self, chat: ChatInMemory) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.forget()
        ann.tell("bob", "psst")
        assert ann.received == []
        assert len(bob.got(Told)) == 1

    def test_one_may_tell_oneself(self, chat: ChatInMemory) -> None:
        ann = chat.join("ann")
        ann.tell("ann", "remember the milk", id=7)
        assert [type(message) for message in ann.received[-2:]] == [Told, Ack]

    @pytest.mark.parametrize("nick", ["nobody", "", "two words", "x" * 10_000, "\ud800"])
    def test_a_nickname_that_nobody_holds_is_an_error(self, chat: ChatInMemory, nick: str) -> None:
        ann = chat.join("ann")
        ann.tell(nick, "psst", id=7)
        error = error_of(ann)
        assert (error.code, error.id) == (ErrorCode.NO_SUCH_NICK, 7)

    def test_an_id_that_comes_again_is_acknowledged_again_and_not_delivered(self, chat: ChatInMemory) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.tell("bob", "psst", id=7)
        chat.pass_time(1)
        ann.disconnect()
        again = chat.join("Ann")
        again.tell("bob", "psst", id=7)
        assert again.got(Ack) == [Ack(7, 0, 0)]
        assert len(bob.got(Told)) == 1

    def test_it_is_acknowledged_again_though_the_other_is_gone(self, chat: ChatInMemory) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.tell("bob", "psst", id=7)
        bob.disconnect()
        ann.tell("bob", "psst", id=7)
        assert ann.errors == []
        assert len(ann.got(Ack)) == 2

    def test_the_ids_of_say_and_tell_do_not_meet(self, chat: ChatInMemory) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.say("hi", id=7)
        ann.tell("bob", "psst", id=7)
        assert len(bob.got(Told)) == 1

    def test_what_was_refused_may_be_sent_again(self, chat: ChatInMemory) -> None:
        ann = chat.join("ann")
        ann.tell("bob", "psst", id=7)
        bob = chat.join("bob")
        ann.tell("bob", "psst", id=7)
        assert len(bob.got(Told)) == 1

    def test_someone_who_does_not_read_gets_nothing_and_the_teller_knows(self) -> None:
        chat = ChatInMemory(Limits(max_queued_bytes=16_384))
        ann, bob = chat.join("ann"), chat.join("bob")
        bob.stop_reading()
        for id in range(1, 20):
            ann.tell("bob", "x" * 1_000, id=id)
        told, refused = ann.got(Ack), ann.got(Error)
        assert len(told) + len(refused) == 19
        assert refused
        assert {error.code for error in refused} == {ErrorCode.NOT_STORED}
        assert [error.id for error in refused] == list(range(len(told) + 1, 20))
        bob.read()
        assert len(bob.got(Told)) == len(told)
        ann.tell("bob", "now?", id=19)
        assert bob.got(Told)[-1].text == "now?"

    def test_someone_whose_outlet_breaks_hurts_only_themselves(
        self, chat: ChatInMemory, failures: Failures
    ) -> None:
        ann, bob = chat.join("ann"), join(Faulty, chat, "bob")
        bob.raises_in = {"publish"}
        ann.tell("bob", "psst", id=7)
        error = error_of(ann)
        assert (error.code, error.id) == (ErrorCode.NOT_STORED, 7)
        assert failures.take() == ["Broken"]
        assert ann.is_connected
        chat.pass_time()
        assert not bob.is_connected


class TestQuestions:
    def test_who_is_answered_with_the_roster(self, chat: ChatInMemory) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.say("hi")
        bob.forget()
        bob.who()
        assert bob.received == [Roster("lobby", 1, 2, ("ann", "bob"))]

    def test_a_roster_has_at_most_1000_names_and_counts_all(self) -> None:
        chat = ChatInMemory(Limits(announce_limit=0))
        for number in range(1_001):
            last = chat.join(f"n{number}x")
        [roster] = last.got(Roster)
        assert (roster.total, len(roster.nicks)) == (1_001, 1_000)

    @pytest.mark.parametrize("kind", [Who, History, Leave])
    def test_a_room_one_is_not_in_is_an_error(self, chat: ChatInMemory, kind: type[Message]) -> None:
        chat.join("bob", "tea")
        ann = chat.join("ann")
        question = {Who: Who("tea"), History: History("tea", 0, 10), Leave: Leave("tea")}[kind]
        ann.ask(question)
        error = error_of(ann)
        assert (error.code, error.id) == (ErrorCode.NOT_IN_ROOM, 0)

    def test_ping_is_answered_with_its_token(self, chat: ChatInMemory) -> None:
        ann = chat.join("ann")
        ann.ask(Ping(0), Ping(2**53 - 1))
        assert ann.got(Pong) == [Pong(0), Pong(2**53 - 1)]

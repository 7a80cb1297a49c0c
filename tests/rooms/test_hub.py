"""The hub: what reaches whom, in which order, and that nobody is hurt by somebody else."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
from rooms.outlets import AsyncLog, Broken, Failures, Faulty, Restless, assert_nothing_is_left, join

from chatproto.limits import Limits
from chatproto.rooms.hub import Hub
from chatproto.rooms.log import MemoryLog, NotStored, Receipt
from chatproto.rooms.names import NameRefused
from chatproto.testing import ChatInMemory, Person
from chatproto.text import TextRefused
from chatproto.wire.chat import encode_frame
from chatproto.wire.errors import ErrorCode, ProtocolError
from chatproto.wire.messages import (
    Chat,
    End,
    Error,
    Goodbye,
    Join,
    Joined,
    Leave,
    Left,
    Login,
    Message,
    Moderate,
    Nick,
    Notice,
    Ping,
    Pong,
    Renamed,
    Roster,
    Say,
    Told,
)


def moderating_chat(limits: Limits | None = None) -> ChatInMemory:
    """A chat in which every login is right and `op` is an operator."""
    return ChatInMemory(limits, authenticate=lambda user, secret: True, operators=["op"])


def operator(chat: ChatInMemory, nick: str = "op", room: str = "") -> Person:
    person = chat.connect()
    person.ask(Login("op", "secret"), Join(nick, room))
    return person


def leaves(person: Person) -> None:
    person.leave()


def is_gone(person: Person) -> None:
    person.disconnect()


def times_out(person: Person) -> None:
    person.is_connected = False
    person.session.lost("timeout")


def takes_nothing(person: Person) -> None:
    person.session.stalled()


def sends_nonsense(person: Person) -> None:
    person.ask(ProtocolError(ErrorCode.MALFORMED, "no sense"))


def stops_sending(person: Person) -> None:
    person.session.finish_input()


def is_shut_down(person: Person) -> None:
    person.session.hub.shut_down([person.session], 1_000, "goodbye")


def asks_what_breaks(person: Person) -> None:
    def broken() -> Message:
        raise Broken

    person.ask(broken)


ENDS: list[tuple[Callable[[Person], None], str]] = [
    (leaves, "left"),
    (is_gone, "closed"),
    (stops_sending, "closed"),
    (times_out, "timeout"),
    (takes_nothing, "too slow"),
    (sends_nonsense, "error"),
    (asks_what_breaks, "error"),
    (is_shut_down, "shutdown"),
]
EVERY_END = pytest.mark.parametrize(("end", "reason"), ENDS, ids=[end.__name__ for end, _ in ENDS])


class TestEnds:
    @EVERY_END
    def test_everyone_in_each_room_is_told_once_and_why(
        self, chat: ChatInMemory, end: Callable[[Person], None], reason: str, failures: Failures
    ) -> None:
        ann, bob, eve = chat.join("ann", "a"), chat.join("bob", "a"), chat.join("eve", "b")
        ann.join("b")
        elsewhere = chat.join("dora", "elsewhere")
        end(ann)
        chat.pass_time(100)
        assert bob.got(Left) == [Left("a", "ann", reason)]
        assert eve.got(Left) == [Left("b", "ann", reason)]
        assert [*ann.got(Left), *elsewhere.got(Left)] == []
        failures.take()

    @EVERY_END
    def test_nothing_is_left_of_it(
        self, chat: ChatInMemory, end: Callable[[Person], None], reason: str, failures: Failures
    ) -> None:
        ann = chat.join("ann", "a")
        ann.join("b")
        end(ann)
        assert_nothing_is_left(chat.hub, chat.clock)
        failures.take()

    @EVERY_END
    def test_the_nickname_is_free_again(
        self, chat: ChatInMemory, end: Callable[[Person], None], reason: str, failures: Failures
    ) -> None:
        ann = chat.join("ann")
        ann.rename("bea")
        end(ann)
        assert chat.join("BEA").errors == []
        failures.take()

    @EVERY_END
    def test_a_second_end_changes_nothing(
        self, chat: ChatInMemory, end: Callable[[Person], None], reason: str, failures: Failures
    ) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        end(ann)
        ann.session.lost()
        ann.session.stalled()
        chat.hub.forget(ann.session, "closed")
        chat.hub.leave(ann.session, "lobby", "closed")
        chat.hub.shut_down([ann.session], 0, "")
        assert bob.got(Left) == [Left("lobby", "ann", reason)]
        failures.take()

    @pytest.mark.parametrize("end", [end for end, _ in ENDS if end is not asks_what_breaks])
    def test_an_ended_session_is_not_kept_alive(
        self, chat: ChatInMemory, end: Callable[[Person], None]
    ) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.say("hi", id=7)
        bob.tell("ann", "psst", id=7)
        bob.say("hi")
        end(ann)
        chat.pass_time(100)
        bob.say("the room's tuple is made anew")
        session = weakref.ref(ann.session)
        del ann
        gc.collect()
        assert session() is None

    def test_leaving_a_room_is_told_there_and_not_to_oneself(self, chat: ChatInMemory) -> None:
        ann, bob, eve = chat.join("ann", "a"), chat.join("bob", "a"), chat.join("eve", "b")
        ann.join("b")
        ann.forget()
        ann.leave("a")
        assert ann.received == []
        assert bob.got(Left) == [Left("a", "ann", "left")]
        assert eve.got(Left) == []
        ann.say("still here", "b")
        assert eve.chats == [("ann", "still here")]

    def test_who_left_a_room_hears_no_more_of_it(self, chat: ChatInMemory) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.leave("lobby")
        ann.forget()
        bob.say("gone?")
        bob.rename("bo")
        chat.join("eve")
        bob.disconnect()
        assert ann.received == []


class TestRenaming:
    def test_everyone_who_shares_a_room_gets_it_once_and_oneself_too(self, chat: ChatInMemory) -> None:
        ann, bob = chat.join("ann", "a"), chat.join("bob", "a")
        eve, dora = chat.join("eve", "b"), chat.join("dora", "elsewhere")
        for person in (ann, bob):
            person.join("b")
            person.join("c")
        ann.rename("bea")
        assert ann.got(Renamed) == bob.got(Renamed) == eve.got(Renamed) == [Renamed("ann", "bea")]
        assert dora.got(Renamed) == []

    def test_someone_without_a_room_is_told_that_it_worked(self, chat: ChatInMemory) -> None:
        ann = chat.join("ann")
        ann.leave("lobby")
        ann.rename("bea")
        assert ann.got(Renamed) == [Renamed("ann", "bea")]

    def test_nothing_is_moved_by_it(self, chat: ChatInMemory) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.rename("zoe")
        bob.who()
        assert bob.got(Roster)[-1].nicks == ("zoe", "bob")
        assert [*bob.got(Joined), *bob.got(Left)] == []
        ann.say("hi", id=7)
        bob.say("ho")
        assert bob.chats == [("zoe", "hi")]
        assert ann.chats == [("bob", "ho")]

    def test_what_was_said_keeps_the_old_name(self, chat: ChatInMemory) -> None:
        ann = chat.join("ann")
        ann.say("one")
        ann.rename("zoe")
        ann.say("two")
        assert chat.join("bob", limit=10).chats == [("ann", "one"), ("zoe", "two")]

    def test_it_is_told_in_a_crowd_too(self) -> None:
        chat = ChatInMemory(Limits(announce_limit=0))
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.rename("zoe")
        assert bob.got(Renamed) == [Renamed("ann", "zoe")]

    def test_left_says_the_name_that_was_known_last(self, chat: ChatInMemory) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.rename("zoe")
        ann.disconnect()
        assert bob.got(Left) == [Left("lobby", "zoe", "closed")]


class TestCrowds:
    def test_in_a_crowd_nobody_is_told_who_comes_and_goes(self) -> None:
        chat = ChatInMemory(Limits(announce_limit=3))
        people = [chat.join(f"n{number}x") for number in range(5)]
        first = people[0]
        assert [joined.nick for joined in first.got(Joined)] == ["n1x", "n2x"]
        people[4].disconnect()  # there were 5
        people[3].disconnect()  # 4
        people[2].disconnect()  # 3
        assert [left.nick for left in first.got(Left)] == ["n2x"]
        first.who()
        assert first.got(Roster)[-1].total == 2

    def test_roster_has_the_number(self) -> None:
        chat = ChatInMemory(Limits(announce_limit=2))
        for number in range(5):
            last = chat.join(f"n{number}x")
        assert last.got(Roster)[0].total == 5

    def test_a_roster_fits_into_a_frame(self) -> None:
        chat = ChatInMemory(Limits(max_frame_bytes=2_048, max_text_bytes=1_000))
        room = "r" * 64
        for number in range(100):
            last = chat.join(f"{number:02}" + "é" * 28, room)
        [roster] = last.got(Roster)
        assert roster.total == 100
        assert 20 < len(roster.nicks) < 40
        assert len(encode_frame(roster)) - 4 <= 2_048


class TestShuttingDown:
    def test_everyone_gets_goodbye_and_only_who_stays_is_told_who_left(self, chat: ChatInMemory) -> None:
        people = [chat.join(nick) for nick in ("ann", "bob", "eve")]
        stays = chat.join("dora")
        for person in (*people, stays):
            person.forget()
        chat.hub.shut_down([person.session for person in people], 1_500, "back soon")
        for person in people:
            assert person.received == [Goodbye(1_500, "back soon")]
            assert not person.is_connected
        assert [message.nick for message in stays.got(Left)] == ["ann", "bob", "eve"]
        assert {message.reason for message in stays.got(Left)} == {"shutdown"}
        stays.disconnect()
        assert_nothing_is_left(chat.hub, chat.clock)

    def test_who_has_not_joined_gets_goodbye_too(self, chat: ChatInMemory) -> None:
        person = chat.connect()
        chat.hub.shut_down([person.session], 0, "")
        assert [type(message) for message in person.received] == [Goodbye]
        assert_nothing_is_left(chat.hub, chat.clock)

    def test_nothing_more_is_taken_up(self) -> None:
        chat = ChatInMemory(Limits(max_queued_bytes=16_384, announce_limit=0))
        for _ in range(50):
            chat.hub.say("lobby", "bot", "x" * 1_000)
        ann = chat.connect()
        ann.stop_reading()
        ann.ask(*_join_and_much_more())
        ann.forget()
        chat.hub.shut_down([ann.session], 0, "")
        ann.read()
        chat.pass_time()
        assert [*ann.got(Error), *ann.got(Pong)] == []
        assert isinstance(ann.received[-1], Goodbye)
        assert_nothing_is_left(chat.hub, chat.clock)

    def test_someone_whose_outlet_breaks_keeps_nobody_from_being_told(
        self, chat: ChatInMemory, failures: Failures
    ) -> None:
        ann, bob, eve = join(Faulty, chat, "ann"), join(Faulty, chat, "bob"), chat.join("eve")
        ann.raises_in = {"send"}
        bob.raises_in = {"finish"}
        chat.hub.shut_down([person.session for person in (ann, bob, eve)], 0, "")
        assert isinstance(eve.received[-1], Goodbye)
        assert failures.take() == ["Broken", "Broken"]
        assert not ann.is_connected  # it is finished all the same
        assert_nothing_is_left(chat.hub, chat.clock)


def _join_and_much_more() -> list[Message]:
    return [Join("ann", "", 0, 0, 50), Join("ann", "tea"), Say(0, "nowhere", "hi"), Ping(1)]


class TestBrokenOutlets:
    """Someone whose outlet raises hurts nobody else."""

    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_what_is_said_reaches_everyone_else(
        self, chat: ChatInMemory, place: int, failures: Failures
    ) -> None:
        speaker = chat.join("speaker")
        people: list[Person] = []
        for number in range(3):
            kind = Faulty if number == place else Person
            people.append(join(kind, chat, f"n{number}x"))
        faulty = people[place]
        assert isinstance(faulty, Faulty)
        faulty.raises_in = {"publish"}
        speaker.say("one", id=7)
        speaker.say("two", id=8)
        for number, person in enumerate(people):
            assert person.chats == ([] if number == place else [("speaker", "one"), ("speaker", "two")])
        assert speaker.errors == []
        assert set(failures.take()) == {"Broken"}

    @pytest.mark.parametrize("cause", ["chat", "joined", "left", "renamed"])
    def test_the_one_is_sent_away_rather_than_left_with_a_hole(
        self, chat: ChatInMemory, cause: str, failures: Failures
    ) -> None:
        ann, bob, faulty = chat.join("ann"), chat.join("bob"), join(Faulty, chat, "zoe")
        faulty.raises_in = {"publish"}
        {
            "chat": lambda: ann.say("hi"),
            "joined": lambda: chat.join("eve"),
            "left": lambda: ann.leave("lobby"),
            "renamed": lambda: ann.rename("bea"),
        }[cause]()
        chat.pass_time()
        assert faulty.raised
        assert not faulty.is_connected
        assert Left("lobby", "zoe", "error") in bob.got(Left)
        assert set(failures.take()) == {"Broken"}

    def test_hundreds_of_them_end_one_by_one(self, chat: ChatInMemory, failures: Failures) -> None:
        faulty = [join(Faulty, chat, f"n{number}x") for number in range(300)]
        ann = chat.join("ann")
        for person in faulty:
            person.raises_in = {"publish"}
        ann.say("hi", id=7)
        chat.pass_time()
        assert ann.errors == []
        assert set(failures.take()) == {"Broken"}
        ann.disconnect()
        chat.pass_time()
        assert_nothing_is_left(chat.hub, chat.clock)

    def test_one_who_is_kicked_is_out_though_they_cannot_be_told(self, failures: Failures) -> None:
        chat = moderating_chat()
        op, faulty = operator(chat), join(Faulty, chat, "zoe")
        faulty.raises_in = {"send"}
        op.ask(Moderate(1, "", "zoe", 0, ""))
        assert op.got(Left) == [Left("lobby", "zoe", "kicked")]
        assert isinstance(op.received[-1], Notice)
        assert set(failures.take()) == {"Broken"}


class TestReentrancy:
    """Outlets that do something in the very moment in which something reaches them."""

    def test_one_who_ends_others_while_something_is_said(self, chat: ChatInMemory) -> None:
        first, restless, last = chat.join("first"), join(Restless, chat, "restless"), chat.join("last")
        speaker = chat.join("speaker")

        def end_all(message: Message) -> None:
            restless.on_publish = lambda message: None
            for person in (first, last, restless):
                person.disconnect()

        restless.on_publish = end_all
        speaker.say("hi", id=7)
        assert first.chats == [("speaker", "hi")]
        assert last.chats == []
        assert [left.nick for left in speaker.got(Left)] == ["first", "last", "restless"]
        speaker.disconnect()
        assert_nothing_is_left(chat.hub, chat.clock)

    def test_one_who_is_taken_out_of_the_room_meanwhile_gets_nothing_more_of_it(
        self, chat: ChatInMemory
    ) -> None:
        restless, last, speaker = join(Restless, chat, "restless"), chat.join("last"), chat.join("speaker")
        restless.on_publish = lambda message: chat.hub.leave(last.session, "lobby", "kicked")
        speaker.say("hi")
        assert last.chats == []
        assert last.is_connected

    def test_one_who_leaves_while_something_is_said(self, chat: ChatInMemory) -> None:
        restless, last, speaker = join(Restless, chat, "restless"), chat.join("last"), chat.join("speaker")
        restless.on_publish = lambda message: restless.leave("lobby")
        speaker.say("hi")
        chat.pass_time()
        assert [type(message) for message in last.received[-2:]] == [Chat, Left]
        assert last.got(Left) == [Left("lobby", "restless", "left")]

    def test_left_is_told_once_though_an_outlet_ends_that_session_again(self, chat: ChatInMemory) -> None:
        ann, restless, last = chat.join("ann"), join(Restless, chat, "restless"), chat.join("last")
        restless.on_publish = lambda message: ann.disconnect()
        ann.leave("lobby")
        assert last.got(Left) == [Left("lobby", "ann", "left")]
        assert ann.session.ended

    def test_an_answer_to_what_is_said_comes_after_it_for_everyone(self, chat: ChatInMemory) -> None:
        bot, last, ann = join(Restless, chat, "bot"), chat.join("last"), chat.join("ann")
        bot.on_publish = lambda message: bot.say("pong") if isinstance(message, Chat) else None
        ann.say("ping")
        chat.pass_time()
        assert [(chat.seq, chat.text) for chat in last.got(Chat)] == [(1, "ping"), (2, "pong")]
        assert ann.chats == [("bot", "pong")]

    def test_what_code_says_meanwhile_comes_after_it_for_everyone(self, chat: ChatInMemory) -> None:
        restless, last, ann = join(Restless, chat, "restless"), chat.join("last"), chat.join("ann")

        def answer(message: Message) -> None:
            if isinstance(message, Chat) and message.text == "ping":
                chat.hub.say("", "bot", "pong")

        restless.on_publish = answer
        ann.say("ping")
        for person in (restless, last):
            assert [(chat.seq, chat.text) for chat in person.got(Chat)] == [(1, "ping"), (2, "pong")]

    def test_one_who_joins_meanwhile_gets_it_once(self, chat: ChatInMemory) -> None:
        restless, ann = join(Restless, chat, "restless"), chat.join("ann")
        newcomers: list[Person] = []

        def bring(message: Message) -> None:
            if isinstance(message, Chat):
                newcomers.append(chat.join(f"n{message.seq}x", limit=100))

        restless.on_publish = bring
        ann.say("one")
        ann.say("two")
        chat.pass_time()
        for newcomer in newcomers:
            assert newcomer.chats == [("ann", "one"), ("ann", "two")]

    def test_one_who_catches_up_meanwhile_gets_it_once(self) -> None:
        chat = ChatInMemory(Limits(max_queued_bytes=16_384))
        restless, slow, ann = join(Restless, chat, "restless"), chat.join("slow"), chat.join("ann")
        slow.stop_reading()
        for number in range(40):
            ann.say(f"{number} " + "x" * 1_000)

        def let_it_read(message: Message) -> None:
            slow.read()
            slow.session.drained()

        restless.on_publish = let_it_read
        ann.say("last")
        chat.pass_time()
        assert [chat.seq for chat in slow.got(Chat)] == list(range(1, 42))

    def test_one_who_greets_is_heard_by_whom_they_greet(self, chat: ChatInMemory) -> None:
        bot = join(Restless, chat, "bot")
        bot.on_publish = lambda message: (
            bot.say(f"hello {message.nick}") if isinstance(message, Joined) else None
        )
        ann = chat.join("ann")
        chat.pass_time()
        assert ann.chats == [("bot", "hello ann")]

    @pytest.mark.parametrize("limit", [0, 10])
    def test_one_who_is_thrown_out_while_others_are_told_that_they_came(self, limit: int) -> None:
        chat = ChatInMemory()
        restless, last = join(Restless, chat, "restless"), chat.join("last")
        restless.say("hi")

        def throw_out(message: Message) -> None:
            if isinstance(message, Joined):
                person = chat.hub.nicks.find(message.nick)
                assert person is not None
                chat.hub.leave(person, "lobby", "kicked")

        restless.on_publish = throw_out
        ann = chat.join("ann", limit=limit)
        chat.pass_time()
        assert [message.type for message in ann.received] == ["welcome"]
        assert [type(message) for message in last.received[-2:]] == [Joined, Left]
        restless.on_publish = lambda message: None
        ann.join("lobby")
        assert len(ann.got(Roster)) == 1
        ann.ask(Ping(1))
        assert ann.got(Pong) == [Pong(1)]

    def test_one_who_ends_while_others_are_told_that_they_came(self, chat: ChatInMemory) -> None:
        restless, last = join(Restless, chat, "restless"), chat.join("last")
        newcomer = chat.connect()
        restless.on_publish = lambda message: newcomer.disconnect() if isinstance(message, Joined) else None
        newcomer.join("")  # no nickname yet
        newcomer.ask(*_join_and_much_more()[:1])
        assert [type(message) for message in last.received[-2:]] == [Joined, Left]
        restless.disconnect()
        last.disconnect()
        assert_nothing_is_left(chat.hub, chat.clock)

    def test_one_who_is_kicked_in_the_midst_of_a_replay_goes_on_afterwards(self) -> None:
        chat = moderating_chat(Limits(max_queued_bytes=16_384))
        for _ in range(50):
            chat.hub.say("", "bot", "x" * 1_000)
        op = operator(chat, room="elsewhere")
        ann = chat.connect()
        ann.stop_reading()
        join_lobby, *_ = _join_and_much_more()
        ann.ask(join_lobby, Ping(1), join_lobby)
        witness = chat.join("witness")
        op.ask(Moderate(1, "", "ann", 0, ""))
        ann.read()
        chat.pass_time()
        assert [type(message) for message in witness.received[-2:]] == [Left, Joined]
        kinds = [type(message) for message in ann.received if not isinstance(message, Chat)]
        assert kinds[-4:] == [Left, Pong, Roster, End]
        assert ann.got(End)[-1] == End("lobby", 1, 50, 0)

    def test_the_order_of_rooms_and_people_stays_when_the_room_empties_meanwhile(
        self, chat: ChatInMemory
    ) -> None:
        restless, ann = join(Restless, chat, "restless"), chat.join("ann")

        def empty(message: Message) -> None:
            ann.disconnect()
            restless.disconnect()

        restless.on_publish = empty
        ann.say("hi")
        assert_nothing_is_left(chat.hub, chat.clock)
        bob = chat.join("bob", limit=10)
        assert bob.chats == [("ann", "hi")]


class TestCode:
    """What an application does with the hub."""

    def test_it_says_something_under_any_name(self, chat: ChatInMemory) -> None:
        ann = chat.join("ann")
        chat.pass_time(1)
        assert chat.hub.say("", "deploy", "build 17 is live") == Receipt(1, 1_000)
        assert ann.got(Chat) == [Chat("lobby", 1, 1_000, "deploy", "build 17 is live")]

    def test_nobody_needs_to_be_there(self, chat: ChatInMemory) -> None:
        chat.hub.say("tea", "deploy", "hi")
        assert chat.join("ann", "tea", limit=1).chats == [("deploy", "hi")]

    @pytest.mark.parametrize(
        ("room", "nick"), [("two words", "bot"), ("", ""), ("", "two words"), ("x" * 65, "bot")]
    )
    def test_it_cannot_use_names_that_nobody_can_have(self, chat: ChatInMemory, room: str, nick: str) -> None:
        with pytest.raises(NameRefused):
            chat.hub.say(room, nick, "hi")

    @pytest.mark.parametrize("text", ["", "\x00", "x" * 5_000])
    def test_it_cannot_say_what_nobody_can_say(self, chat: ChatInMemory, text: str) -> None:
        with pytest.raises(TextRefused):
            chat.hub.say("", "bot", text)

    def test_it_is_told_what_is_not_stored(self) -> None:
        chat = ChatInMemory(Limits(max_rooms=1))
        ann = chat.join("ann")
        ann.say("hi")
        with pytest.raises(NotStored):
            chat.hub.say("tea", "bot", "hi")

    def test_it_gets_a_deferred_from_a_log_that_answers_later(self) -> None:
        log = AsyncLog(MemoryLog(wall_clock=lambda: 2.0))
        chat = ChatInMemory(log=log)
        ann = chat.join("ann")
        receipts: list[Receipt] = []
        answer = chat.hub.say("", "bot", "hi")
        assert not isinstance(answer, Receipt)
        answer.addCallback(receipts.append)
        assert ann.chats == []
        log.settle()
        assert receipts == [Receipt(1, 2_000)]
        assert ann.chats == [("bot", "hi")]

    def test_login_required_needs_something_that_checks(self) -> None:
        with pytest.raises(ValueError, match="authenticate"):
            ChatInMemory(login_required=True)

    def test_the_default_room_is_a_room(self) -> None:
        with pytest.raises(NameRefused):
            ChatInMemory(default_room="two words")

    def test_hubs_do_not_share_anything(self) -> None:
        one, other = ChatInMemory(), ChatInMemory()
        ann = one.join("ann")
        assert other.join("ann").errors == []
        other.hub.say("", "bot", "hi")
        assert ann.chats == []
        assert isinstance(one.hub, Hub)


def test_nobody_is_sent_their_own(chat: ChatInMemory) -> None:
    ann, bob = chat.join("ann"), chat.join("bob")
    for person in (ann, bob):
        person.join("tea")
    ann.say("hi")
    ann.say("ho", "tea")
    assert ann.chats == []
    assert bob.chats == [("ann", "hi"), ("ann", "ho")]


def test_what_is_told_alone_is_seen_by_nobody_else(chat: ChatInMemory) -> None:
    ann, bob, eve = chat.join("ann"), chat.join("bob"), chat.join("eve")
    ann.tell("bob", "psst")
    eve.history()
    assert len(bob.got(Told)) == 1
    assert [message.type for message in eve.received] == ["welcome", "roster", "end", "end"]


def test_the_log_knows_in_which_rooms_there_are_people() -> None:
    class Noting(MemoryLog):
        def __init__(self) -> None:
            super().__init__()
            self.notes: list[str] = []

        def enter(self, room: str) -> None:
            super().enter(room)
            self.notes.append(f"people in {room}")

        def leave(self, room: str) -> None:
            super().leave(room)
            self.notes.append(f"nobody in {room}")

    log = Noting()
    chat = ChatInMemory(log=log)
    ann, bob = chat.join("ann", "a"), chat.join("bob", "a")
    ann.join("b")
    assert log.notes == ["people in a", "people in b"]
    ann.leave("a")
    ann.disconnect()
    assert log.notes[2:] == ["nobody in b"]
    chat.hub.shut_down([bob.session], 0, "")
    assert log.notes[3:] == ["nobody in a"]
    chat.join("eve", "a")
    assert log.notes[4:] == ["people in a"]


def test_rooms_exist_while_people_are_in_them(chat: ChatInMemory) -> None:
    ann, bob = chat.join("ann", "a"), chat.join("bob", "a")
    ann.join("b")
    assert set(chat.hub.rooms) == {"a", "b"}
    ann.ask(Leave("a"), Leave("b"))
    assert set(chat.hub.rooms) == {"a"}
    bob.ask(Nick("bo"))
    bob.disconnect()
    assert chat.hub.rooms == {}

"""Who may not enter or speak, and who says so."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from chatproto.rooms.moderation import Action, Moderation
from chatproto.testing import ChatInMemory, Person
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Ack, Chat, Error, Join, Left, Login, Moderate, Notice, Ping, Pong, Roster

KICK, BAN, UNBAN, MUTE, UNMUTE = Action


@pytest.fixture
def chat() -> ChatInMemory:
    """A chat with accounts, in which `op` is an operator and `guest` is not."""
    return ChatInMemory(authenticate=lambda user, secret: True, operators=["op"])


def log_in(chat: ChatInMemory, account: str, nick: str, room: str = "") -> Person:
    person = chat.connect()
    person.ask(Login(account, "secret"), Join(nick, room))
    return person


@pytest.fixture
def op(chat: ChatInMemory) -> Person:
    """An operator, who is not in the room."""
    return log_in(chat, "op", "op", "elsewhere")


def order(op: Person, action: int, nick: str, *, room: str = "", seconds: int = 0, reason: str = "") -> None:
    op.forget()
    op.ask(Moderate(action, room, nick, seconds, reason))


class TestList:
    """`Moderation` by itself."""

    @pytest.mark.parametrize("action", [BAN, MUTE])
    def test_what_is_set_holds_until_it_is_lifted(self, action: Action) -> None:
        clock = Clock()
        moderation = Moderation(clock)
        assert not moderation.holds(action, "a", "bob")
        moderation.set(action, "a", "bob", 0)
        clock.advance(10_000_000)
        assert moderation.holds(action, "a", "bob")
        assert moderation.lift(action, "a", "bob")
        assert not moderation.holds(action, "a", "bob")
        assert not moderation.lift(action, "a", "bob")

    def test_it_may_have_an_end(self) -> None:
        clock = Clock()
        moderation = Moderation(clock)
        moderation.set(MUTE, "a", "bob", 60)
        clock.advance(59)
        assert moderation.holds(MUTE, "a", "bob")
        clock.advance(1)
        assert not moderation.holds(MUTE, "a", "bob")
        assert not moderation.lift(MUTE, "a", "bob")

    def test_the_last_word_counts(self) -> None:
        clock = Clock()
        moderation = Moderation(clock)
        moderation.set(BAN, "a", "bob", 0)
        moderation.set(BAN, "a", "bob", 10)
        clock.advance(11)
        assert not moderation.holds(BAN, "a", "bob")

    def test_it_is_for_one_room_one_nickname_and_one_thing(self) -> None:
        moderation = Moderation(Clock())
        moderation.set(BAN, "a", "bob", 0)
        assert not moderation.holds(BAN, "b", "bob")
        assert not moderation.holds(BAN, "a", "bo")
        assert not moderation.holds(MUTE, "a", "bob")

    def test_what_has_ended_takes_no_memory(self) -> None:
        clock = Clock()
        moderation = Moderation(clock)
        for number in range(1_000):
            moderation.set(MUTE, "a", f"n{number}", 1)
            clock.advance(1)
        [entries] = [value for value in vars(moderation).values() if isinstance(value, dict)]
        assert len(entries) == 1


class TestWho:
    @pytest.mark.parametrize("action", list(Action))
    def test_only_operators_may(self, chat: ChatInMemory, action: Action) -> None:
        bob = chat.join("bob")
        for person in (chat.join("ann"), log_in(chat, "guest", "op")):
            order(person, action, "bob", seconds=10)
            assert person.errors == [ErrorCode.NOT_ALLOWED]
        assert [*bob.got(Notice), *bob.got(Left)] == []
        bob.say("hi", id=7)
        assert len(bob.got(Ack)) == 1

    def test_it_is_the_account_that_counts_and_not_the_nickname(self, chat: ChatInMemory) -> None:
        boss = log_in(chat, "op", "boss")
        chat.join("bob")
        order(boss, MUTE, "bob")
        assert boss.errors == []

    def test_without_operators_nobody_may(self) -> None:
        chat = ChatInMemory()
        ann = chat.join("ann")
        order(ann, KICK, "ann")
        assert ann.errors == [ErrorCode.NOT_ALLOWED]


class TestRefusals:
    @pytest.mark.parametrize("action", [0, 6, 255])
    def test_an_action_that_is_none(self, chat: ChatInMemory, op: Person, action: int) -> None:
        order(op, action, "bob")
        assert op.errors == [ErrorCode.NOT_SUPPORTED]

    def test_a_room_that_is_none(self, op: Person) -> None:
        order(op, BAN, "bob", room="two words")
        assert op.errors == [ErrorCode.BAD_ROOM]

    def test_a_nickname_that_is_none(self, op: Person) -> None:
        order(op, BAN, "two words")
        assert op.errors == [ErrorCode.BAD_NICK]

    def test_a_reason_that_may_not_be_said(self, chat: ChatInMemory, op: Person) -> None:
        bob = chat.join("bob")
        order(op, KICK, "bob", reason="\x1b[2J")
        assert op.errors == [ErrorCode.BAD_TEXT]
        assert bob.got(Left) == []

    @pytest.mark.parametrize("nick", ["nobody", "op"])
    def test_someone_who_is_not_in_the_room_cannot_be_kicked(self, op: Person, nick: str) -> None:
        order(op, KICK, nick)
        assert op.errors == [ErrorCode.NO_SUCH_NICK]


class TestKick:
    def test_one_is_out_and_all_are_told(self, chat: ChatInMemory, op: Person) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        bob.forget()
        order(op, KICK, "bob", reason="spam")
        assert ann.got(Left) == [Left("lobby", "bob", "kicked")]
        assert bob.received == [Notice("you were kicked out of lobby: spam"), Left("lobby", "bob", "kicked")]
        assert op.received == [Notice("bob was kicked out of lobby: spam")]
        bob.say("hi", id=7)
        assert bob.errors == [ErrorCode.NOT_IN_ROOM]

    def test_one_stays_in_other_rooms_and_may_come_back(self, chat: ChatInMemory, op: Person) -> None:
        bob = chat.join("bob")
        bob.join("tea")
        order(op, KICK, "bob")
        bob.forget()
        bob.say("hi", "tea", id=7)
        bob.join("lobby")
        assert [type(message) for message in bob.received[:2]] == [Ack, Roster]
        assert bob.errors == []

    def test_an_operator_may_kick_themselves(self, chat: ChatInMemory) -> None:
        op = log_in(chat, "op", "op")
        ann = chat.join("ann")
        order(op, KICK, "op")
        assert op.got(Left) == ann.got(Left) == [Left("lobby", "op", "kicked")]
        op.ask(Ping(1))
        assert op.received[-1] == Pong(1)


class TestBan:
    def test_one_is_out_and_does_not_get_in_again(self, chat: ChatInMemory, op: Person) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        order(op, BAN, "bob")
        assert ann.got(Left) == [Left("lobby", "bob", "kicked")]
        assert bob.got(Notice) == [Notice("you were banned from lobby")]
        bob.join("")
        assert bob.errors == [ErrorCode.NOT_ALLOWED]
        bob.join("tea")
        assert bob.errors == [ErrorCode.NOT_ALLOWED]  # no other came

    def test_it_holds_for_who_comes_back(self, chat: ChatInMemory, op: Person) -> None:
        chat.join("bob").disconnect()
        order(op, BAN, "bob")
        again = chat.join("BOB")
        assert again.errors == [ErrorCode.NOT_ALLOWED]
        assert again.session.nick_text == ""  # the nickname is not held by someone who is not in

    def test_it_ends(self, chat: ChatInMemory, op: Person) -> None:
        order(op, BAN, "bob", seconds=60)
        chat.pass_time(59)
        assert chat.join("bob").errors == [ErrorCode.NOT_ALLOWED]
        chat.pass_time(1)
        assert chat.join("bob").errors == []

    def test_it_is_lifted(self, chat: ChatInMemory, op: Person) -> None:
        order(op, BAN, "bob")
        order(op, UNBAN, "Bob")
        assert op.received == [Notice("Bob was let back into lobby")]
        assert chat.join("bob").errors == []


class TestMute:
    def test_one_hears_but_is_not_heard(self, chat: ChatInMemory, op: Person) -> None:
        ann, bob = chat.join("ann"), chat.join("bob")
        order(op, MUTE, "bob")
        assert bob.got(Notice) == [Notice("you were muted in lobby")]
        bob.say("hi", id=7)
        [error] = bob.got(Error)
        assert (error.code, error.id) == (ErrorCode.NOT_ALLOWED, 7)
        assert ann.got(Chat) == []
        ann.say("bob?")
        assert bob.chats == [("ann", "bob?")]

    def test_one_is_heard_elsewhere(self, chat: ChatInMemory, op: Person) -> None:
        bob = chat.join("bob")
        bob.join("tea")
        order(op, MUTE, "bob")
        bob.say("hi", "tea", id=7)
        assert len(bob.got(Ack)) == 1

    def test_it_ends(self, chat: ChatInMemory, op: Person) -> None:
        bob = chat.join("bob")
        order(op, MUTE, "bob", seconds=60)
        chat.pass_time(61)
        bob.say("hi", id=7)
        assert bob.errors == []

    def test_it_is_lifted(self, chat: ChatInMemory, op: Person) -> None:
        bob = chat.join("bob")
        order(op, MUTE, "bob")
        order(op, UNMUTE, "bob")
        assert bob.got(Notice)[-1] == Notice("you were given back the word in lobby")
        bob.say("hi", id=7)
        assert bob.errors == []

    def test_it_holds_for_who_is_not_there_yet(self, chat: ChatInMemory, op: Person) -> None:
        order(op, MUTE, "bob", room="tea")
        bob = chat.join("bob", "tea")
        bob.say("hi", "tea", id=7)
        assert bob.errors == [ErrorCode.NOT_ALLOWED]

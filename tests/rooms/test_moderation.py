"""Who may not enter or speak, and who says so."""

from __future__ import annotations

import json

import pytest
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from chatproto.rooms.addresses import parse_address
from chatproto.rooms.log import REMOVED, NotStored
from chatproto.rooms.moderation import MOST_RULES, Action, Kind, Moderation, Rule, Target, Who
from chatproto.rooms.orders import OrderRefused
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


class Rules:
    """`Moderation` by itself, on a clock."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.moderation = Moderation(lambda: self.now_ms)

    def set(self, action: Action, room: str, target: Target, seconds: int = 0) -> bool:
        until_ms = self.now_ms + seconds * 1000 if seconds else 0
        return self.moderation.set(Rule(action, room, target, until_ms))

    def holds(self, action: Action, room: str, who: Who) -> bool:
        return self.moderation.find(action, room, who) is not None


def who(nick: str = "", account: str | None = None, address: str = "", is_operator: bool = False) -> Who:
    return Who(nick, account, parse_address(address), is_operator)


BOB = Target(Kind.NICK, "bob")


@pytest.fixture
def rules() -> Rules:
    return Rules()


class TestRules:
    @pytest.mark.parametrize("action", [BAN, MUTE])
    def test_what_is_set_holds_until_it_is_lifted(self, rules: Rules, action: Action) -> None:
        assert not rules.holds(action, "a", who("bob"))
        rules.set(action, "a", BOB)
        rules.now_ms += 10**13
        assert rules.holds(action, "a", who("bob"))
        assert rules.moderation.lift(action, "a", BOB)
        assert not rules.holds(action, "a", who("bob"))
        assert not rules.moderation.lift(action, "a", BOB)

    @pytest.mark.parametrize(
        ("target", "person"),
        [
            (BOB, who("bob")),
            (Target(Kind.ACCOUNT, "bob"), who("x", "bob")),
            (Target(Kind.ADDRESS, "192.0.2.0/24"), who("x", None, "192.0.2.7")),
            (Target(Kind.ALL), who("x")),
        ],
    )
    def test_it_may_have_an_end(self, rules: Rules, target: Target, person: Who) -> None:
        rules.set(MUTE, "a", target, 60)
        rules.now_ms += 59_999
        assert rules.holds(MUTE, "a", person)
        rules.now_ms += 1
        assert not rules.holds(MUTE, "a", person)
        assert not rules.moderation.lift(MUTE, "a", target)

    def test_the_last_word_counts(self, rules: Rules) -> None:
        rules.set(BAN, "a", BOB)
        rules.set(BAN, "a", BOB, 10)
        rules.now_ms += 11_000
        assert not rules.holds(BAN, "a", who("bob"))

    def test_it_is_for_one_room_one_nickname_and_one_thing(self, rules: Rules) -> None:
        rules.set(BAN, "a", BOB)
        assert not rules.holds(BAN, "b", who("bob"))
        assert not rules.holds(BAN, "a", who("bo", "bob"))
        assert not rules.holds(MUTE, "a", who("bob"))

    def test_it_is_for_an_account_under_any_nickname(self, rules: Rules) -> None:
        rules.set(BAN, "a", Target(Kind.ACCOUNT, "bob"))
        assert rules.holds(BAN, "a", who("x", "bob"))
        assert not rules.holds(BAN, "a", who("bob", "ann"))
        assert not rules.holds(BAN, "a", who("bob"))

    @pytest.mark.parametrize(
        ("network", "within", "without"),
        [
            ("192.0.2.7/32", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.0/24", "::ffff:192.0.2.9", "::ffff:192.0.3.9"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("2001:db8::/32", "2001:db8::1", "192.0.2.1"),
            ("10.0.0.0/8", "10.9.8.7", ""),
        ],
    )
    def test_it_is_for_a_network(self, rules: Rules, network: str, within: str, without: str) -> None:
        rules.set(BAN, "a", Target(Kind.ADDRESS, "198.51.100.0/25"))
        rules.set(BAN, "a", Target(Kind.ADDRESS, network))
        assert rules.holds(BAN, "a", who("x", None, within))
        assert not rules.holds(BAN, "a", who("x", None, without))
        rules.moderation.lift(BAN, "a", Target(Kind.ADDRESS, network))
        assert not rules.holds(BAN, "a", who("x", None, within))

    def test_what_is_for_all_is_not_for_operators(self, rules: Rules) -> None:
        rules.set(BAN, "a", Target(Kind.ALL))
        assert rules.holds(BAN, "a", who("x"))
        assert not rules.holds(BAN, "a", who("x", is_operator=True))

    def test_what_has_ended_takes_no_memory_and_no_place(self, rules: Rules) -> None:
        for number in range(MOST_RULES):
            rules.set(MUTE, "a", Target(Kind.NICK, f"n{number}"), 1)
        assert not rules.set(MUTE, "a", BOB)
        assert rules.set(MUTE, "a", Target(Kind.NICK, "n0"), 1)
        rules.now_ms += 1_000
        assert rules.set(MUTE, "a", BOB)
        assert rules.moderation.rules == [Rule(MUTE, "a", BOB)]

    @pytest.mark.parametrize(
        "found",
        [
            None,
            {},
            {"action": "kick", "room": "a", "kind": "nick", "value": "x", "until_ms": 0, "reason": ""},
            {"action": "ban", "room": "a", "kind": "message", "value": "1", "until_ms": 0, "reason": ""},
            {"action": "ban", "room": "a", "kind": "address", "value": "x", "until_ms": 0, "reason": ""},
            {"action": "ban", "room": 1, "kind": "nick", "value": "x", "until_ms": 0, "reason": ""},
            {"action": "ban", "room": "a", "kind": "nick", "value": "x", "until_ms": -1, "reason": ""},
            {"action": "ban", "room": "a", "kind": "nick", "value": "x", "until_ms": "1", "reason": ""},
        ],
    )
    def test_what_is_no_rule_is_refused(self, found: object) -> None:
        with pytest.raises(ValueError, match=r"."):
            Rule.from_json(found)


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

    @pytest.mark.parametrize(
        "target", ["", "address:", "address:x", "address:0.0.0.0/0", "account:", "message:x", "last:", "x:y"]
    )
    def test_a_target_that_is_none(self, op: Person, target: str) -> None:
        order(op, BAN, target)
        assert op.errors == [ErrorCode.BAD_NICK]

    @pytest.mark.parametrize(
        ("action", "target"),
        [(BAN, "message:1"), (MUTE, "last:bob"), (KICK, "server:message:1"), (KICK, "*"), (KICK, "server:*")],
    )
    def test_what_cannot_be_done_to_a_target(self, op: Person, action: Action, target: str) -> None:
        order(op, action, target)
        assert op.errors == [ErrorCode.NOT_SUPPORTED]

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


def connect(chat: ChatInMemory, nick: str, address: str, account: str = "", room: str = "") -> Person:
    """Someone from an address."""
    person = Person(chat)
    person.session.standing.address = address
    if account:
        person.ask(Login(account, "secret"))
    person.ask(Join(nick, room))
    return person


class TestAccountsAndAddresses:
    """Whoever is meant is put out under each of their names, and does not get in under another."""

    @pytest.mark.parametrize("target", ["account:mal", "address:192.0.2.0/24", "address:192.0.2.66"])
    def test_a_ban_is_for_all_of_their_sessions(self, chat: ChatInMemory, op: Person, target: str) -> None:
        ann = connect(chat, "ann", "198.51.100.1", "guest")
        bad = [connect(chat, nick, "192.0.2.66", "mal") for nick in ("mal", "mel")]
        elsewhere = connect(chat, "mil", "192.0.2.66", "mal", "tea")
        order(op, BAN, target, reason="spam")
        assert [left.nick for left in ann.got(Left)] == ["mal", "mel"]
        assert bad[0].got(Notice)[-1] == Notice("you were banned from lobby: spam")
        assert op.received == [Notice(f"{target} was banned from lobby: spam")]
        elsewhere.join("")
        again = connect(chat, "mol", "192.0.2.66", "mal")
        assert elsewhere.errors == again.errors == [ErrorCode.NOT_ALLOWED]
        assert again.got(Error)[0].text == "you are banned from lobby: spam"
        order(op, UNBAN, target)
        again.join("")
        again.ask(Join("mol"))
        assert again.session.members

    @pytest.mark.parametrize("target", ["server:mal", "server:account:mal", "server:address:192.0.2.66"])
    def test_a_ban_from_the_server_ends_sessions_and_logins(
        self, chat: ChatInMemory, op: Person, target: str
    ) -> None:
        ann = connect(chat, "ann", "198.51.100.1", "guest", "tea")
        bad = connect(chat, "mal", "192.0.2.66", "mal", "tea")
        order(op, BAN, target, seconds=60)
        assert not bad.is_connected
        assert bad.received[-1] == Error(
            ErrorCode.NOT_ALLOWED, 0, "you were banned from this server for 60 s"
        )
        assert ann.got(Left) == [Left("tea", "mal", "kicked")]
        again = connect(chat, "mal", "192.0.2.66", "mal", "cup")
        assert not again.is_connected
        assert again.received[-1] == Error(
            ErrorCode.NOT_ALLOWED, 0, "you are banned from this server until 1970-01-01 00:01 UTC"
        )
        chat.pass_time(60)
        assert connect(chat, "mal", "192.0.2.66", "mal", "cup").session.members

    def test_a_banned_address_costs_no_login(self, chat: ChatInMemory, op: Person) -> None:
        asked: list[str] = []

        def authenticate(user: str, secret: str) -> bool:
            asked.append(user)
            return True

        chat.hub.authenticate = authenticate
        order(op, BAN, "server:address:192.0.2.0/24")
        bad = connect(chat, "mal", "192.0.2.66", "mal")
        assert (asked, bad.is_connected) == ([], False)

    def test_a_kick_is_for_all_of_them_and_they_may_come_back(self, chat: ChatInMemory, op: Person) -> None:
        bad = connect(chat, "mal", "192.0.2.66")
        order(op, KICK, "address:192.0.2.66")
        assert bad.got(Left) == [Left("lobby", "mal", "kicked")]
        bad.join("")
        assert bad.errors == []
        order(op, KICK, "server:address:192.0.2.66")
        assert not bad.is_connected
        order(op, KICK, "address:192.0.2.66")
        assert op.errors == [ErrorCode.NO_SUCH_NICK]

    def test_a_mute_from_the_server_is_for_every_room_and_for_one_person_too(
        self, chat: ChatInMemory, op: Person
    ) -> None:
        ann, bad = chat.join("ann"), connect(chat, "mal", "192.0.2.66", "", "tea")
        order(op, MUTE, "server:address:192.0.2.66")
        bad.say("hi", "tea", id=7)
        bad.tell("ann", "hi", id=8)
        assert [(error.code, error.id) for error in bad.got(Error)] == [(12, 7), (12, 8)]
        assert ann.chats == []


class TestEvading:
    def test_another_nickname_does_not_end_a_mute(self, chat: ChatInMemory, op: Person) -> None:
        bob = chat.join("bob")
        order(op, MUTE, "bob")
        bob.rename("rob")
        bob.say("hi", id=7)
        assert bob.errors == [ErrorCode.NOT_ALLOWED] * 2

    def test_nobody_takes_a_nickname_that_is_banned_where_they_are(
        self, chat: ChatInMemory, op: Person
    ) -> None:
        order(op, BAN, "bob")
        order(op, BAN, "server:rob")
        ann = chat.join("ann")
        ann.rename("bob")
        ann.rename("rob")
        assert ann.errors == [ErrorCode.NOT_ALLOWED] * 2
        assert ann.session.nick_text == "ann"


class TestLock:
    def test_nobody_new_gets_in_but_operators(self, chat: ChatInMemory, op: Person) -> None:
        ann = chat.join("ann")
        op.join("lobby")
        order(op, BAN, "*", reason="party")
        assert op.received == [Notice("lobby was locked: only operators get in: party")]
        assert ann.got(Notice) == op.received
        bob = chat.join("bob")
        assert bob.got(Error)[0].text == "lobby is locked: party"
        op.leave("lobby")
        op.join("lobby")
        ann.say("hi")
        assert op.chats == [("ann", "hi")]
        order(op, UNBAN, "*")
        assert chat.join("bob").errors == []

    def test_a_silenced_room_is_for_operators(self, chat: ChatInMemory, op: Person) -> None:
        ann = chat.join("ann")
        op.join("lobby")
        order(op, MUTE, "*")
        ann.say("hi", id=7)
        op.say("quiet", id=8)
        assert ann.got(Error) == [Error(ErrorCode.NOT_ALLOWED, 7, "only operators may speak in lobby")]
        assert ann.chats == [("op", "quiet")]
        order(op, UNMUTE, "*")
        ann.say("hi", id=9)
        assert op.chats == [("ann", "hi")]


class TestRemoving:
    def test_who_comes_later_sees_that_something_was_removed(self, chat: ChatInMemory, op: Person) -> None:
        ann = chat.join("ann")
        for text in ("one", "two", "three"):
            ann.say(text)
        order(op, KICK, "message:2", reason="spam")
        assert op.received == [Notice("message 2 of lobby was removed: spam")]
        assert chat.join("bob", limit=10).chats == [("ann", "one"), ("ann", REMOVED), ("ann", "three")]

    def test_the_last_message_of_somebody_is_found(self, chat: ChatInMemory, op: Person) -> None:
        ann, bob = chat.join("ann"), chat.join("Bob")
        for text in ("one", "two"):
            bob.say(text)
        ann.say("three")
        bob.disconnect()
        order(op, KICK, "last:BOB")
        order(op, KICK, "last:bob")
        assert chat.join("cid", limit=10).chats == [("Bob", REMOVED), ("Bob", REMOVED), ("ann", "three")]
        order(op, KICK, "last:bob")
        assert op.errors == [ErrorCode.NOT_SUPPORTED]

    @pytest.mark.parametrize("target", ["message:0", "message:2", "message:9999999999999999", "last:bob"])
    def test_what_is_not_there_cannot_be(self, chat: ChatInMemory, op: Person, target: str) -> None:
        chat.join("ann").say("one")
        order(op, KICK, target)
        assert op.errors == [ErrorCode.NOT_SUPPORTED]

    def test_a_log_that_removes_nothing_says_so(
        self, chat: ChatInMemory, op: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def remove(room: str, seq: int) -> bool:
            raise NotImplementedError

        monkeypatch.setattr(chat.hub.log, "remove", remove)
        order(op, KICK, "message:1")
        assert op.errors == [ErrorCode.NOT_SUPPORTED]

    def test_a_history_that_is_out_of_reach_is_a_refusal_and_no_failure_of_the_server(
        self, chat: ChatInMemory, op: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def remove(room: str, seq: int) -> bool:
            raise NotStored("the history cannot be reached at the moment; nobody saw it")

        monkeypatch.setattr(chat.hub.log, "remove", remove)
        order(op, KICK, "message:1")
        assert op.got(Error)[0].code == ErrorCode.RATE_LIMITED


class TestSessions:
    def test_those_of_an_account_are_listed_and_ended(self, chat: ChatInMemory) -> None:
        chat.pass_time(5)
        connect(chat, "ann", "192.0.2.1", "guest")
        other = connect(chat, "ann2", "192.0.2.2", "guest", "tea")
        chat.join("bob")
        orders = chat.hub.orders
        first, second = orders.sessions("guest")
        assert (first.nick, first.address, first.rooms, first.began_ms) == (
            "ann",
            "192.0.2.1",
            ("lobby",),
            5_000,
        )
        assert (second.account, second.rooms) == ("guest", ("tea",))
        assert len(orders.sessions()) == 3
        assert orders.end_session(second.id, "guest", account="guest") == f"session {second.id} was ended"
        assert not other.is_connected
        assert [facts.nick for facts in orders.sessions("guest")] == ["ann"]

    def test_nobody_ends_those_of_others(self, chat: ChatInMemory) -> None:
        person = connect(chat, "ann", "192.0.2.1", "guest")
        for id, account in ((person.session.id, "other"), (999, None)):
            with pytest.raises(OrderRefused, match="there is no such session"):
                chat.hub.orders.end_session(id, "x", account=account)
        assert person.is_connected


class TestAudit:
    def test_every_act_is_logged_with_who_did_what_to_whom(self, chat: ChatInMemory, op: Person) -> None:
        lines: list[dict[str, object]] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            if event["log_namespace"] == "chatproto.audit":
                lines.append(json.loads(event["line"]))

        bob = chat.join("bob")
        bob.say("hi")
        globalLogPublisher.addObserver(observe)
        try:
            order(op, MUTE, "bob", seconds=60, reason="größe\nx")
            order(op, KICK, "message:1")
            order(op, KICK, "nobody")
            order(bob, KICK, "op")
            order(op, UNBAN, "bob")
            order(op, BAN, "server:address:192.0.2.0/24")
            chat.hub.orders.end_session(bob.session.id, "control")
        finally:
            globalLogPublisher.removeObserver(observe)
        time = "1970-01-01T00:00:00.000Z"
        shown = [tuple(line.values()) for line in lines]
        assert shown == [
            (time, "op", "mute", "bob", "lobby", 60, "größe\nx"),
            (time, "op", "remove", "message:1", "lobby", 0, ""),
            (time, "op", "ban", "address:192.0.2.0/24", "", 0, ""),
            (time, "control", "end", f"session:{bob.session.id}", "", 0, ""),
        ]

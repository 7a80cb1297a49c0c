"""How the line form speaks with people: at the door, on one screen, and when something cannot be done."""

from __future__ import annotations

from typing import Any

import pytest
from net.memory import Chat, Line
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from chatproto.limits import Limits
from chatproto.net.linecommands import COMMANDS
from chatproto.net.lineform import wrapped
from chatproto.rooms.log import MemoryLog, NotStored, Receipt

UNTOLD = "* nothing of what you sent was said"
QUESTION = "* what is your nickname?"


def arriving(chat: Chat, *typed: str) -> list[str]:
    """What someone new is told after the greeting, when they type one line after the other."""
    return answered(chat.connect(), *typed)[1:]


def answered(line: Line, *typed: str) -> list[str]:
    """What is shown when someone types one line after the other, each a read of its own."""
    for text in typed:
        line.type(text)
    return line.lines()


def unwrapped(lines: list[str]) -> list[str]:
    """Lines, those that were broken for the window in one piece."""
    whole: list[str] = []
    for line in lines:
        if line.startswith("*   "):
            whole[-1] += line[3:]
        else:
            whole.append(line)
    return whole


class TestTakenNicknames:
    OFFER = "* {} is free: press return to take it, or type another nickname"

    def test_return_takes_the_free_one(self) -> None:
        chat = Chat()
        chat.person("alice")
        line = chat.connect()
        assert answered(line, "alice")[-1] == self.OFFER.format("alice2")
        assert "* in lobby: alice, alice2" in answered(line, "")

    def test_another_can_be_typed(self) -> None:
        chat = Chat()
        chat.person("alice")
        assert "* in lobby: alice, carol" in arriving(chat, "alice", "carol")

    def test_who_answers_with_a_taken_one_again_is_offered_another(self) -> None:
        chat = Chat()
        chat.person("alice")
        chat.person("bob")
        shown = arriving(chat, "alice", "bob")
        assert shown[-1] == self.OFFER.format("bob2")

    def test_return_says_nothing_where_nothing_is_offered(self) -> None:
        chat = Chat()
        chat.person("alice")
        assert arriving(chat, "", "", "alice", "a/b", "")[-1] == "* choose another nickname"

    def test_what_was_free_may_be_taken_meanwhile(self) -> None:
        chat = Chat()
        chat.person("alice")
        line = chat.connect()
        answered(line, "alice")
        chat.person("alice2")
        assert answered(line, "")[-1].endswith("type another nickname")
        assert len(chat.hub.sessions) == 3

    def test_one_that_looks_like_another_is_answered_with_one_that_does_not(self) -> None:
        chat = Chat()
        for nick in ("bill", "bill2", "bill3"):
            chat.person(nick)
        assert arriving(chat, "BiII")[-1] == self.OFFER.format("BiII4")

    @pytest.mark.parametrize("nick", ["x" * 32, "李" * 32, "שלום", "ali_", "ann9"])
    def test_the_free_one_is_a_nickname_that_is_really_free(self, nick: str) -> None:
        chat = Chat()
        for number in range(12):
            line = chat.connect()
            line.type(nick)
            if number:
                assert unwrapped(line.lines())[-1].endswith(
                    "press return to take it, or type another nickname"
                )
                line.type("")
            assert any("in lobby: " in shown for shown in line.lines())
        assert len(chat.hub.nicks) == 12

    def test_without_a_free_one_another_is_asked_for(self) -> None:
        chat = Chat()
        for ending in ("", *"23456789", "_", *map(str, range(10, 30))):
            chat.person(f"ann{ending}")
        assert arriving(chat, "ann")[-1] == "* choose another nickname"

    def test_who_asks_for_help_first_can_still_take_it(self) -> None:
        chat = Chat()
        chat.person("alice")
        assert arriving(chat, "alice", "/help", "")[-1] == "* in lobby: alice, alice2"

    def test_whoever_goes_on_trying_has_time(self) -> None:
        chat = Chat(Limits(nickname_timeout_s=20))
        chat.person("alice")
        line = chat.connect()
        for _ in range(4):
            line.type("alice")
            chat.clock.advance(15)
        assert line.connected
        chat.clock.advance(6)
        assert line.lines()[-1] == "* nobody joined within 20 s"


class TestAtTheDoor:
    def test_help_shows_what_can_be_typed_there(self) -> None:
        shown = arriving(Chat(), "/help")
        assert [word for line in shown for word in line.split() if word[0] == "/"] == ["/help", "/quit"]
        accounts = Chat(authenticate=lambda user, secret: True)
        assert any("/login USER SECRET" in line for line in arriving(accounts, "/help"))

    def test_one_can_leave_again(self) -> None:
        chat = Chat()
        line = chat.connect()
        assert answered(line, "/quit")[-1] == "* bye"
        assert not line.connected

    @pytest.mark.parametrize("typed", ["/who", "/join ops", "/msg bob hi", "/nick alice"])
    def test_a_command_for_those_who_are_in_has_to_wait(self, typed: str) -> None:
        assert arriving(Chat(), typed) == ["* say your nickname first"]

    def test_an_unknown_command_is_no_nickname(self) -> None:
        assert arriving(Chat(), "/jion ops") == ["* there is no command /jion; did you mean /join?"]

    @pytest.mark.parametrize("first", ["/who", "/jion", "a/b", "\x01", "/login"])
    def test_a_script_that_was_not_let_in_says_nothing_under_any_nickname(self, first: str) -> None:
        chat = Chat()
        script = chat.connect()
        script.type(first, "deployed")
        assert script.lines()[-1] == UNTOLD
        assert not script.connected
        assert chat.hub.log.bounds("lobby") == (1, 0)

    def test_nor_one_whose_first_line_is_not_utf8(self) -> None:
        script = Chat().connect()
        script.send(b"\xfcber\ndeployed\n")
        assert script.lines()[-1] == UNTOLD
        assert not script.connected

    def test_nor_one_whose_input_ends_there(self) -> None:
        chat = Chat()
        chat.person("bot")
        script = chat.connect()
        script.send(b"bot")
        script.end_input()
        assert script.lines()[-2:] == ["* bot2 is free", UNTOLD]
        assert not script.connected


class TestLoggingIn:
    @staticmethod
    def chat(**hub: Any) -> Chat:
        return Chat(authenticate=lambda user, secret: secret == "hunter2", operators=["root"], **hub)

    def test_whoever_logs_in_is_asked_for_a_nickname_then(self) -> None:
        chat = self.chat()
        line = chat.connect()
        assert answered(line, "/login root hunter2") == [
            "* welcome to chatproto; what is your nickname?",
            "* you are logged in",
            QUESTION,
        ]
        assert "* in lobby: boss" in answered(line, "boss")
        bob = chat.person("bob")
        line.type("/kick bob")
        assert bob.lines()[0] == "* you were kicked out of lobby"

    def test_a_server_that_demands_it_says_so_first_and_again(self) -> None:
        chat = self.chat(login_required=True)
        line = chat.connect()
        assert answered(line, "boss") == [
            "* welcome to chatproto; /login USER SECRET first",
            "* log in before you join",
            "* /login USER SECRET, then your nickname",
        ]
        assert "* in lobby: boss" in answered(line, "/login root hunter2", "boss")

    def test_the_secret_is_never_shown(self) -> None:
        for secret in ("hunter2", "hunter3"):
            line = self.chat().connect()
            assert secret not in "".join(answered(line, f"/login root {secret}"))

    def test_a_wrong_one_can_be_tried_again_but_not_for_ever(self) -> None:
        line = self.chat().connect()
        assert answered(line, "/login root 1")[1:] == [
            "* wrong user or secret",
            "* try again with /login USER SECRET",
        ]
        assert answered(line, "/login root 2", "/login root 3")[-1] == "* wrong user or secret, too often"
        assert not line.connected

    def test_who_and_with_what_is_needed(self) -> None:
        usage = "* /login USER SECRET: who, and with what?"
        assert arriving(self.chat(), "/login", "/login root", "/login root ") == [usage] * 3

    def test_a_script_that_failed_to_says_nothing_without(self) -> None:
        chat = self.chat()
        script = chat.connect()
        script.type("/login root wrong", "bot", "deployed")
        assert script.lines()[1:] == ["* wrong user or secret", UNTOLD]
        assert not script.connected

    def test_a_script_waits_for_the_answer(self) -> None:
        answer: Deferred[bool] = Deferred()
        chat = Chat(authenticate=lambda user, secret: answer, login_required=True)
        script = chat.connect()
        script.type("/login root hunter2", "bot", "deployed")
        script.end_input()
        assert len(script.lines()) == 1
        answer.callback(True)
        assert script.lines()[-1] == "* in lobby: bot"
        assert chat.hub.log.bounds("lobby") == (1, 1)

    def test_it_is_too_late_for_who_is_in(self) -> None:
        chat = self.chat()
        (shown,) = unwrapped(answered(chat.person("alice"), "/login root hunter2"))
        assert shown.startswith("* you are in already")

    def test_a_server_without_accounts_says_so(self) -> None:
        assert arriving(Chat(), "/login root x") == ["* this server has no accounts; join without login"]


class TestHelp:
    def test_it_names_every_command_that_is_for_the_person(self) -> None:
        shown = "\n".join(answered(Chat().person("alice"), "/help"))
        for name, command in COMMANDS.items():
            is_for_others = command.is_for_operators or command.is_for_accounts or name == "login"
            assert (command.usage in shown) != is_for_others, name
        assert "//TEXT" in shown
        assert "Times are UTC." in shown

    def test_operators_have_theirs_too(self) -> None:
        chat = Chat(operators=["root"])
        boss = chat.person("boss")
        next(iter(chat.hub.sessions.values())).account = "root"
        shown = "\n".join(unwrapped(answered(boss, "/help")))
        assert "/ban NICK [SECONDS] [WHY]" in shown

    @pytest.mark.parametrize("columns", [40, 60, 79, 80, 132])
    @pytest.mark.parametrize("is_operator", [False, True])
    def test_it_fits_a_screen(self, columns: int, is_operator: bool) -> None:
        chat = Chat(operators=["root"])
        line = telnet(chat, columns)
        line.type("boss")
        if is_operator:
            next(iter(chat.hub.sessions.values())).account = "root"
        line.lines()
        shown = answered(line, "/help")
        assert all(len(text) <= columns for text in shown)
        assert len(shown) <= 24 - 2  # with the line that was typed, and the one to type in


def telnet(chat: Chat, columns: int) -> Line:
    """Someone whose telnet has told the width of its window."""
    line = chat.connect()
    line.send(b"\xff\xfb\x1f\xff\xfa\x1f" + columns.to_bytes(2, "big") + b"\x00\x18\xff\xf0")
    assert b"\xff\xfd\x1f" in line.received()
    return line


class TestWidth:
    def crowd(self) -> Chat:
        chat = Chat()
        for number in range(30):
            chat.person(f"somebody{number}")
        return chat

    @pytest.mark.parametrize("columns", [30, 80, 200])
    def test_a_roster_is_broken_between_names(self, columns: int) -> None:
        line = telnet(self.crowd(), columns)
        shown = answered(line, "alice")[1:]
        assert len(shown) > 1
        assert all(len(text) <= columns for text in shown)
        assert unwrapped(shown)[0].split(", ")[1:] == [*(f"somebody{n}" for n in range(1, 30)), "alice"]

    def test_a_window_that_nobody_told_of_has_eighty_columns(self) -> None:
        line = self.crowd().connect()
        shown = answered(line, "alice")[2:]
        assert 70 < max(map(len, shown)) <= 80

    @pytest.mark.parametrize("columns", [0, 1, 19])
    def test_one_that_says_it_is_as_good_as_none_is_not_believed(self, columns: int) -> None:
        line = telnet(self.crowd(), columns)
        assert 70 < max(map(len, answered(line, "alice")[1:])) <= 80

    def test_what_people_say_is_never_broken(self) -> None:
        chat = Chat()
        bob = chat.person("bob")
        alice = telnet(chat, 30)
        alice.type("alice")
        alice.lines()
        bob.type("long " * 100)
        assert len(alice.lines()) == 1

    def test_wide_characters_have_two_columns_and_marks_none(self) -> None:
        assert wrapped("漢字 漢字 漢字", 11) == ["* 漢字 漢字", "*   漢字"]
        assert wrapped("e\u0301e\u0301 e\u0301e\u0301 ee", 8) == ["* e\u0301e\u0301 e\u0301e\u0301", "*   ee"]

    def test_a_word_that_is_wider_than_the_window_stays_whole(self) -> None:
        assert wrapped("x" * 50 + " y", 20) == ["* " + "x" * 50, "*   y"]

    def test_a_line_that_goes_on_cannot_be_taken_for_one_that_begins(self) -> None:
        for columns in range(20, 60):
            for line in wrapped("in lobby: bob and" * 10, columns)[1:]:
                assert line.startswith("*   ")
                assert line[4] != " "


class TestSayingWhichLineIsMeant:
    def test_what_was_typed_last_is_meant_without_words(self) -> None:
        chat = Chat()
        alice = chat.person("alice")
        (shown,) = answered(alice, "a\x01b")
        assert shown.startswith("* The message contains")

    def test_of_several_the_one_is_quoted(self) -> None:
        chat = Chat()
        alice = chat.person("alice")
        alice.type("fine", "not\x01fine", "fine again")
        (shown,) = unwrapped(alice.lines())
        assert shown.startswith('* not said: "not\ufffdfine": The message contains U+0001')

    def test_a_long_one_is_cut(self) -> None:
        chat = Chat()
        alice = chat.person("alice")
        alice.type("\x01" + "word " * 100, "fine")
        (shown,) = unwrapped(alice.lines())
        assert '"\ufffd' + "word " * 7 + "word…" in shown

    def test_what_the_history_could_not_keep_is_told_with_its_line(self) -> None:
        """Error 13 comes when the disk has failed, which may be much later."""
        log = LateLog()
        chat = Chat()
        chat.hub.log = log
        log.start(lambda chat, sender: None)
        alice = chat.person("alice")
        alice.type("one", "two", "three")
        assert alice.lines() == []
        log.answers[1].errback(NotStored("the disk is full; nobody saw it"))
        assert alice.lines() == ['* not said: "two": the disk is full; nobody saw it']
        log.answers[2].errback(NotStored("the disk is full; nobody saw it"))
        assert alice.lines() == ["* the disk is full; nobody saw it"]
        log.answers[0].callback(Receipt(1, 0))
        assert alice.lines() == []

    def test_no_two_lines_of_any_two_people_have_one_id(self) -> None:
        """Or the log would take the second for the first said again, and nobody would get it."""
        chat = Chat()
        bob = chat.person("bob")
        for _ in range(3):
            alice = chat.person("alice")
            alice.type("same", "same")
            alice.vanish()
        assert [line for line in bob.lines() if line.startswith("[")] == ["[lobby 00:00] alice: same"] * 6


class LateLog(MemoryLog):
    """A log that answers when the test says so."""

    def __init__(self) -> None:
        super().__init__(Limits(), Clock().seconds)
        self.answers: list[Deferred[Receipt]] = []

    def append(self, *said: Any) -> Deferred[Receipt]:  # type: ignore[override]
        self.answers.append(Deferred())
        return self.answers[-1]


class TestDays:
    def test_what_was_said_on_another_day_says_which(self) -> None:
        chat = Chat()
        bob = chat.person("bob")
        bob.type("good night")
        chat.clock.advance(86_400)
        bob.type("good morning")
        assert answered(chat.connect(), "alice")[-2:] == [
            "[lobby 1970-01-01 00:00] bob: good night",
            "[lobby 00:00] bob: good morning",
        ]


class TestGoneAtOnce:
    """`printf 'bot\\ndeployed\\n' > /dev/tcp/HOST/PORT`: whoever sends and goes is heard."""

    def test_what_a_script_sent_takes_effect_after_it_is_gone(self) -> None:
        chat = Chat()
        bob = chat.person("bob")
        script = chat.connect()
        script.type("bot", *map(str, range(200)))
        script.vanish()
        chat.clock.pump([0] * 10)
        assert bob.lines() == [
            "* bot joined lobby",
            *(f"[lobby 00:00] bot: {number}" for number in range(200)),
            "* bot left lobby (closed)",
        ]
        bob.vanish()
        assert chat.is_empty()

    def test_also_where_the_log_takes_its_time(self) -> None:
        prepared: Deferred[None] = Deferred()
        chat = Chat()
        bob = chat.person("bob", "ops")
        bob.lines()
        chat.hub.log.prepare = lambda room: None if prepared.called else prepared  # type: ignore[method-assign]
        script = chat.connect()
        script.type("bot", "/join ops", "deployed")
        script.vanish()
        assert bob.lines() == []
        prepared.callback(None)
        chat.clock.pump([0] * 3)
        assert "[ops 00:00] bot: deployed" in bob.lines()
        bob.vanish()
        assert chat.is_empty()

    def test_but_not_for_ever(self) -> None:
        chat = Chat(Limits(close_timeout_s=5))
        chat.hub.log.prepare = lambda room: Deferred()  # type: ignore[method-assign]
        script = chat.connect()
        script.type("bot", "deployed")
        script.vanish()
        assert not chat.is_empty()
        chat.clock.advance(5)
        assert chat.is_empty()

    def test_a_server_that_shuts_down_ends_it(self) -> None:
        chat = Chat()
        chat.hub.log.prepare = lambda room: Deferred()  # type: ignore[method-assign]
        script = chat.connect()
        script.type("bot", "deployed")
        script.vanish()
        gone = chat.factory.shut_down()
        chat.clock.advance(0)
        assert gone.called
        assert chat.is_empty()

    def test_one_that_was_only_reading_is_gone_at_once(self) -> None:
        chat = Chat()
        alice = chat.person("alice")
        alice.vanish()
        assert chat.is_empty()

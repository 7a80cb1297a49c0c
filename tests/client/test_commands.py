"""chatproto.client.commands."""

from __future__ import annotations

from typing import Any

import pytest
from client.scripted import ScriptedEndpoint, chat, granted, is_waiting
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from chatproto.client.client import ChatClient
from chatproto.client.commands import Commands
from chatproto.client.plain import PlainScreen
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import (
    Ack,
    End,
    Error,
    History,
    Leave,
    Message,
    Moderate,
    Nick,
    Ping,
    Pong,
    Roster,
    Say,
    Search,
    Tell,
    Who,
)


class Desk:
    """Someone at the keyboard, in the lobby of a scripted server."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.endpoint = ScriptedEndpoint(self.clock)
        self.shown: list[str] = []
        screen = PlainScreen(self.shown.append)
        self.client = ChatClient(self.endpoint, "ann", screen, clock=self.clock)
        self.has_quit = False
        self.commands = Commands(self.client, screen, self.clock, self._quit)
        self.client.join("lobby")
        self.client.start()
        self.server = self.endpoint.servers[0]
        self.server.answer(*granted(room="lobby"))
        self.server.received  # noqa: B018 - forget it
        self.shown.clear()

    def _quit(self) -> None:
        self.has_quit = True

    def type(self, line: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self.commands.take(line))

    def sent(self) -> list[Message]:
        return [message for message in self.server.received if not isinstance(message, Ping)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("hi", "hi"),
        (" /who", " /who"),
        ("//who", "/who"),
        ("//", "/"),
        ("/me waves", "/me waves"),
        ("a\tb", "a\tb"),
    ],
)
def test_lines_are_said(line: str, message: str) -> None:
    desk = Desk()
    done = desk.type(line)
    (said,) = desk.sent()
    assert isinstance(said, Say)
    assert (said.room, said.text) == ("lobby", message)
    assert is_waiting(done)
    desk.server.answer(Ack(said.id, 1, 0))
    assert not is_waiting(done)
    assert desk.shown == []
    assert desk.commands.failure == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/leave", Leave("lobby")),
        ("/leave lobby", Leave("lobby")),
        ("/nick anna", Nick("anna")),
        ("/who", Who("lobby")),
        ("/who lobby", Who("lobby")),
        ("/history", History("lobby", 1, 20)),
        ("/history 5", History("lobby", 1, 5)),
        ("/search green build", Search("lobby", "green build", 50)),
        ("/kick bob", Moderate(1, "lobby", "bob", 0, "")),
        ("/kick bob 60 seconds are enough", Moderate(1, "lobby", "bob", 0, "60 seconds are enough")),
        ("/ban bob 60 too loud", Moderate(2, "lobby", "bob", 60, "too loud")),
        ("/ban bob", Moderate(2, "lobby", "bob", 0, "")),
        ("/unban bob", Moderate(3, "lobby", "bob", 0, "")),
        ("/mute bob 99999999999", Moderate(4, "lobby", "bob", 2**32 - 1, "")),
        ("/unmute bob", Moderate(5, "lobby", "bob", 0, "")),
    ],
)
def test_commands_are_sent(line: str, message: Message) -> None:
    desk = Desk()
    desk.type(line)
    assert desk.sent() == [message]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("/nope", "there is no command /nope; /help shows those that there are"),
        ("/", "there is no command /; /help shows those that there are"),
        ("/JOIN x", "there is no command /JOIN; did you mean /join?"),
        ("/jion x", "there is no command /jion; did you mean /join?"),
        ("/join", "which room? /join ROOM"),
        ("/nick", "which nickname? /nick NAME"),
        ("/msg bob", "to whom, and what? /msg NICK TEXT"),
        ("/msg", "to whom, and what? /msg NICK TEXT"),
        ("/me", "what do you do? /me ACTION"),
        ("/history x", "how many, from 1 to 65,535? /history [N]"),
        ("/history 0", "how many, from 1 to 65,535? /history [N]"),
        ("/history 65536", "how many, from 1 to 65,535? /history [N]"),
        ("/history ²", "how many, from 1 to 65,535? /history [N]"),
        ("/search", "what? /search WORDS"),
        ("/kick", "whom? /kick NICK"),
        ("/leave elsewhere", "refused: one is not in that room"),
        ("x" * 65_536, "not done: text has 65536 bytes of UTF-8, and 65535 is the most"),
    ],
)
def test_one_sentence_where_nothing_can_be_done(line: str, answer: str) -> None:
    desk = Desk()
    desk.type(line)
    assert desk.shown == [f"-- {answer}\n"]
    assert desk.commands.failure == answer
    assert desk.sent() == []


def test_nothing_is_nothing() -> None:
    desk = Desk()
    desk.type("")
    assert (desk.shown, desk.sent()) == ([], [])


def test_a_refusal_is_shown() -> None:
    desk = Desk()
    done = desk.type("hi")
    (said,) = desk.sent()
    assert isinstance(said, Say)
    desk.server.answer(Error(ErrorCode.BAD_TEXT, said.id, "too\x1blong"))
    assert not is_waiting(done)
    assert desk.shown == ["-- refused: too\ufffdlong\n"]


def test_what_comes_too_fast_is_said_again_a_little_later() -> None:
    desk = Desk()
    done = desk.type("hi")
    (said,) = desk.sent()
    assert isinstance(said, Say)
    desk.server.answer(Error(ErrorCode.RATE_LIMITED, said.id, "slowly"))
    assert desk.sent() == []
    desk.clock.advance(1)
    (again,) = desk.sent()
    assert isinstance(again, Say)
    assert again.text == "hi"
    desk.server.answer(Ack(again.id, 1, 0))
    assert not is_waiting(done)
    assert desk.shown == []


def test_rooms_are_entered_and_left() -> None:
    desk = Desk()
    desk.type("/join two")
    desk.server.answer(*granted(room="two", welcome=False))
    assert desk.shown.pop() == "-- you are in two, with ann\n"
    assert desk.commands.room == "two"
    desk.type("/join lobby")
    desk.server.answer(Roster("lobby", 0, 2, ("ann", "bob")))
    assert desk.shown.pop() == "-- you are in lobby, with ann, bob\n"
    assert desk.commands.room == "lobby"
    for left, shown in (("lobby", "you speak in two"), ("two", "you are in no room")):
        desk.type("/leave")
        desk.server.answer(*(Pong(ping.token) for ping in desk.server.received if isinstance(ping, Ping)))
        assert desk.shown.pop() == f"-- you left {left}; {shown}\n"
    for line, answer in (
        ("hi", "you are in no room; /join ROOM enters one"),
        ("/leave", "you are in no room"),
    ):
        desk.type(line)
        assert desk.shown.pop() == f"-- {answer}\n"


def test_a_message_to_one_person() -> None:
    desk = Desk()
    desk.type("/msg bob how are  you")
    (told,) = desk.sent()
    assert isinstance(told, Tell)
    assert (told.nick, told.text) == ("bob", "how are  you")


def test_answers_are_shown() -> None:
    desk = Desk()
    desk.server.answer(chat(1))
    desk.shown.clear()
    desk.type("/who")
    desk.server.answer(Roster("lobby", 1, 3, ("ann", "bob")))
    desk.type("/history")
    desk.server.answer(chat(1), End("lobby", 1, 1, 0))
    assert desk.shown[0] == "-- lobby: ann, bob and 1 more\n"
    assert desk.shown[1].endswith("] <bob> text 1\n")
    assert len(desk.shown) == 2


def test_help_names_every_command() -> None:
    desk = Desk()
    desk.type("/help")
    shown = "".join(desk.shown)
    for name in desk.commands._commands:
        assert f"/{name}" in shown or name == "help"


def test_quit() -> None:
    desk = Desk()
    desk.type("/quit")
    assert desk.has_quit


def test_a_lost_connection_is_no_reason_to_stop() -> None:
    desk = Desk()
    done: list[Any] = []
    desk.type("/who").addCallback(done.append)
    desk.server.close()
    assert done == [None]
    assert "-- not done: the server closed the connection\n" in desk.shown

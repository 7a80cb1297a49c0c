"""chatproto.client.jsonlines: the form that programs use, with a scripted server and with a real one."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from client.scripted import EPOCH, ScriptedEndpoint, chat, granted, is_waiting
from live import Server
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from chatproto.client.client import ChatClient
from chatproto.client.jsonlines import MAX_AT_A_TIME, JsonEvents, JsonRequests
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import (
    Ack,
    Chat,
    End,
    Error,
    History,
    Join,
    Joined,
    Leave,
    Left,
    Message,
    Moderate,
    Nick,
    Notice,
    Ping,
    Pong,
    Renamed,
    Roster,
    Say,
    Search,
    Tell,
    Told,
    Who,
)


class Bot:
    """A program in the lobby of a scripted server."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.endpoint = ScriptedEndpoint(self.clock)
        self.written = ""
        self.has_quit = False
        events = JsonEvents(self._write)
        self.client = ChatClient(self.endpoint, "ann", events, clock=self.clock, retry_policy=lambda n: 1.0)
        self.requests = JsonRequests(self.client, events, self._quit)
        self.client.start()
        entering: Any = Deferred.fromCoroutine(self.requests.enter("lobby"))
        assert is_waiting(entering)
        self.server = self.endpoint.servers[0]
        self.server.answer(*granted(room="lobby"))
        self.sent()

    def _write(self, text: str) -> None:
        assert text.endswith("\n")
        assert text.count("\n") == 1
        self.written += text

    def _quit(self) -> None:
        self.has_quit = True

    def ask(self, **request: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(self.requests.take(json.dumps(request)))

    def sent(self) -> list[Message]:
        return [message for message in self.server.received if not isinstance(message, Ping)]

    def told(self) -> list[dict[str, Any]]:
        """The events since one looked last."""
        written, self.written = self.written, ""
        return [json.loads(line) for line in written.splitlines()]


def test_coming_in() -> None:
    assert Bot().told() == [
        {"type": "connected", "nick": "ann", "server": "scripted", "epoch": EPOCH},
        {"type": "entered", "room": "lobby", "nicks": ["ann"], "total": 1, "last": 0, "status": 0},
    ]


def test_what_happens_has_the_protocols_own_form() -> None:
    bot = Bot()
    bot.told()
    bot.server.answer(
        chat(1, "hi\n漢\x1b"),
        Joined("lobby", "bob"),
        Renamed("bob", "rob"),
        Left("lobby", "rob", "left"),
        Told(5, "eve", "psst"),
        Notice("lunch"),
        Roster("lobby", 1, 1, ("ann",)),
    )
    assert "\\u6f22\\u001b" in bot.written
    assert bot.written.isascii()
    assert bot.told() == [
        {"type": "chat", "room": "lobby", "seq": 1, "time": 1_000, "nick": "bob", "text": "hi\n漢\x1b"},
        {"type": "joined", "room": "lobby", "nick": "bob"},
        {"type": "renamed", "old": "bob", "new": "rob"},
        {"type": "left", "room": "lobby", "nick": "rob", "reason": "left"},
        {"type": "told", "time": 5, "nick": "eve", "text": "psst"},
        {"type": "notice", "text": "lunch"},
        {"type": "roster", "room": "lobby", "last": 1, "total": 1, "nicks": ["ann"]},
    ]


def test_the_connection_is_spoken_of_too() -> None:
    bot = Bot()
    bot.told()
    bot.server.close()
    assert bot.told() == [
        {"type": "disconnected", "reason": "the server closed the connection"},
        {"type": "reconnecting", "delay_ms": 1_000},
    ]
    bot.clock.advance(1)
    bot.endpoint.servers[1].answer(*granted(room="lobby", epoch=8, last=3, status=2))
    assert [event["type"] for event in bot.told()] == ["connected", "roster", "missing"]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"type": "leave"}, Leave("lobby")),
        ({"type": "nick", "nick": "anna"}, Nick("anna")),
        ({"type": "who"}, Who("lobby")),
        ({"type": "who", "room": ""}, Who("lobby")),
        ({"type": "join", "room": "two", "limit": 5}, Join("ann", "two", 0, 0, 5)),
        ({"type": "history", "limit": 5}, History("lobby", 1, 5)),
        ({"type": "search", "query": "words"}, Search("lobby", "words", 50)),
        (
            {"type": "moderate", "action": "ban", "nick": "bob", "seconds": 9, "reason": "why"},
            Moderate(2, "lobby", "bob", 9, "why"),
        ),
    ],
)
def test_requests_are_sent(request_: dict[str, Any], message: Message) -> None:
    bot = Bot()
    bot.ask(**request_)
    assert bot.sent() == [message]


@pytest.mark.parametrize(
    ("request_", "answers", "event"),
    [
        (
            {"type": "who", "id": 1},
            [Roster("lobby", 2, 1, ("ann",))],
            {"type": "roster", "id": 1, "room": "lobby", "last": 2, "total": 1, "nicks": ["ann"]},
        ),
        (
            {"type": "search", "room": "ops", "query": "x", "id": "a"},
            [chat(1, "x", room="ops"), End("ops", 1, 1, 0)],
            {
                "type": "messages",
                "id": "a",
                "room": "ops",
                "messages": [
                    {"type": "chat", "room": "ops", "seq": 1, "time": 1_000, "nick": "bob", "text": "x"}
                ],
            },
        ),
        (
            {"type": "nick", "nick": "anna", "id": 2},
            [Renamed("ann", "anna")],
            {"type": "done", "id": 2, "nick": "anna"},
        ),
        (
            {"type": "moderate", "action": "kick", "nick": "bob", "id": 3},
            [Notice("bob is out")],
            {"type": "done", "id": 3, "text": "bob is out"},
        ),
        (
            {"type": "join", "room": "two", "id": 4},
            granted(room="two", welcome=False),
            {"type": "entered", "id": 4, "room": "two", "nicks": ["ann"], "total": 1, "last": 0, "status": 0},
        ),
        (
            {"type": "history", "id": 5},
            [Error(ErrorCode.NOT_IN_ROOM, 0, "you are not there")],
            {"type": "error", "id": 5, "code": 7, "name": "not-in-room", "text": "you are not there"},
        ),
    ],
)
def test_each_request_has_one_answer(
    request_: dict[str, Any], answers: list[Message], event: dict[str, Any]
) -> None:
    bot = Bot()
    bot.told()
    bot.ask(**request_)
    bot.server.answer(*answers)
    assert event in bot.told()


def test_what_is_said_is_acknowledged_with_its_id() -> None:
    bot = Bot()
    bot.told()
    bot.ask(type="say", text="hi", id={"any": "thing"})
    bot.ask(type="tell", nick="bob", text="psst")
    said, told = bot.sent()
    assert isinstance(said, Say)
    assert isinstance(told, Tell)
    assert (said.room, said.text, told.nick, told.text) == ("lobby", "hi", "bob", "psst")
    bot.server.answer(Ack(told.id, 0, 6), Ack(said.id, 3, 5))
    assert bot.told() == [
        {"type": "ack", "nick": "bob", "seq": 0, "time": 6},
        {"type": "ack", "id": {"any": "thing"}, "room": "lobby", "seq": 3, "time": 5},
    ]
    assert bot.requests.failure == ""


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("hello", "this is not JSON"),
        ("[" * 50_000, "this is not JSON"),
        ("[]", "a request is a JSON object with a type"),
        ('{"type": 3}', "a request is a JSON object with a type"),
        ('{"type": "sing"}', "there is no request 'sing'"),
        ('{"type": "say"}', "say: text is a string, and missing"),
        ('{"type": "say", "text": 3}', "say: text is a string"),
        ('{"type": "history", "limit": -1}', "history: limit is a whole number"),
        ('{"type": "history", "limit": true}', "history: limit is a whole number"),
        ('{"type": "moderate", "action": "hug"}', "action is one of kick, ban, unban, mute, unmute"),
        ('{"type": "say", "text": "\\ud800"}', "half a surrogate pair"),
    ],
)
def test_what_makes_no_sense_is_answered_too(line: str, text: str) -> None:
    bot = Bot()
    bot.told()
    done: Deferred[None] = Deferred.fromCoroutine(bot.requests.take(line))
    assert not is_waiting(done)
    (event,) = bot.told()
    assert (event["type"], event["name"], event["code"]) == ("error", "bad-request", 0)
    assert text in event["text"]
    assert bot.requests.failure == event["text"]
    assert bot.sent() == []


def test_requests_do_not_wait_for_each_other_up_to_a_bound() -> None:
    bot = Bot()
    waits = [bot.ask(type="say", text=str(number), id=number) for number in range(MAX_AT_A_TIME + 1)]
    said = bot.sent()
    assert len(said) == MAX_AT_A_TIME
    assert [is_waiting(wait) for wait in waits] == [False] * MAX_AT_A_TIME + [True]
    assert isinstance(said[0], Say)
    bot.server.answer(Ack(said[0].id, 1, 0))
    assert len(bot.sent()) == 1
    assert not is_waiting(waits[-1])


def test_quitting_waits_for_the_answers() -> None:
    bot = Bot()
    bot.ask(type="say", text="last words")
    (said,) = bot.sent()
    assert isinstance(said, Say)
    bot.ask(type="quit")
    assert not bot.has_quit
    bot.server.answer(Ack(said.id, 1, 0))
    assert bot.has_quit
    assert bot.requests.is_quit(b'{"type": "quit"}\r')
    assert not bot.requests.is_quit(b'{"type": "say"}')
    assert not bot.requests.is_quit(b"quit")


def test_ping() -> None:
    bot = Bot()
    bot.told()
    bot.ask(type="ping", id=1)
    (ping,) = (message for message in bot.server.received if isinstance(message, Ping))
    bot.clock.advance(0.25)
    bot.server.answer(Pong(ping.token))
    assert bot.told() == [{"type": "pong", "id": 1, "round_trip_ms": 250.0}]


def converse(server: Server, said: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "chatproto.client.connect",
            f"127.0.0.1:{server.port}",
            "--nick=bot",
            "--json",
            *arguments,
        ],
        input=said,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_script_talks_through_a_pipe(server: Server) -> None:
    bob = server.join("bob", "ops")
    lines = [json.dumps({"type": "say", "text": f"line {number}", "id": number}) for number in range(300)]
    run = converse(server, "\n".join(lines), "--room", "ops")
    assert (run.returncode, run.stderr) == (0, "")
    told = [json.loads(line) for line in run.stdout.splitlines()]
    assert [event["type"] for event in told[:2]] == ["connected", "entered"]
    acks = [event for event in told if event["type"] == "ack"]
    assert [(ack["id"], ack["seq"]) for ack in acks] == [(number, number + 1) for number in range(300)]
    bob.gather(lambda: len(bob.of(Chat)) == 300, "all of it")


def test_a_request_that_came_to_nothing_is_in_the_exit_code(server: Server) -> None:
    run = converse(server, '{"type": "leave", "room": "elsewhere", "id": 1}\n{"type": "quit"}\n')
    assert run.returncode == 1
    assert json.loads(run.stdout.splitlines()[-1])["name"] == "not-in-room"
    assert run.stderr.startswith("chatproto-connect: not everything was done: ")


def test_a_nickname_that_is_taken_is_in_the_exit_code(server: Server) -> None:
    bot = server.join("bot")
    run = converse(server, "")
    assert run.returncode == 4
    assert run.stdout == ""
    bot.close()

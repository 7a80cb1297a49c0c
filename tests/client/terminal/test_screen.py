"""chatproto-connect in a pseudoterminal against a real server: what one sees, and how it ends."""

from __future__ import annotations

import itertools
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from client.terminal.teletype import ALTERNATE_SCREEN, Teletype
from live import Framed, Server, free_port, patiently

from chatproto.wire.messages import Ack, Chat, Leave, Say, Tell, Told

UP, PAGE_UP, PAGE_DOWN = "\x1b[A", "\x1b[5~", "\x1b[6~"
ENTER, TAB, ESC, CTRL_C, CTRL_D, ALT_A = "\r", "\t", "\x1b", "\x03", "\x04", "\x1ba"


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    """One server for all tests that leave it as it was: each has rooms of its own."""
    with Server("--message-burst", "100000") as running:
        yield running


@pytest.fixture
def room(request: pytest.FixtureRequest) -> str:
    return "".join(filter(str.isalnum, request.node.name[5:]))[:14]


def teletype(
    server: Server, room: str, *arguments: str, columns: int = 80, rows: int = 16, state: str = ""
) -> Teletype:
    """*ann* in *room*, who is there when this returns."""
    place = f"127.0.0.1:{server.port}"
    words = (place, "--nick", "ann", "--room", room, *arguments)
    terminal = Teletype(*words, columns=columns, rows=rows, state=state or os.devnull)
    terminal.shows(f"this is {room}", f"{room[:15]}")
    return terminal


# Never the same twice: a server takes what has a known id, under the same nickname, for known.
_ids = itertools.count(1)


class Speaker:
    """Someone else in the room."""

    def __init__(self, server: Server, nick: str, room: str) -> None:
        self.client: Framed = server.join(nick, room)
        self.room = room

    def say(self, *texts: str) -> None:
        for text in texts:
            message_id = next(_ids)
            self.client.send(Say(message_id, self.room, text))
        self.client.until(Ack, lambda ack: ack.id == message_id)

    def leave(self) -> None:
        self.client.send(Leave(""))
        self.client.until_closed()
        self.client.close()

    def hears(self, text: str) -> None:
        self.client.until(Chat, lambda chat: chat.text == text)


@pytest.fixture
def speakers() -> Iterator[Callable[[Server, str, str], Speaker]]:
    """Makes speakers, whose names are free again after the test."""
    there: list[Speaker] = []

    def speak(server: Server, nick: str, room: str) -> Speaker:
        there.append(Speaker(server, nick, room))
        return there[-1]

    yield speak
    for speaker in there:
        if not speaker.client.at_end:
            with suppress(OSError):
                speaker.leave()


Speakers = Callable[[Server, str, str], Speaker]


def test_typing_while_others_talk(shared: Server, room: str, speakers: Speakers) -> None:
    with teletype(shared, room) as terminal:
        bob = speakers(shared, "bob", room)
        for number, word in enumerate(("one ", "two ", "three ", "four")):
            terminal.type(word)
            bob.say(f"message {number}")
        terminal.shows("message 3", "› one two three four")
        terminal.until(lambda: terminal.cursor == (len(terminal.typed), 15), "the cursor is not behind it")
        terminal.type(ENTER)
        bob.hears("one two three four")
        terminal.shows("ann │ one two three four")
        terminal.until(lambda: terminal.typed.endswith("›"), "what was typed is still there")


def test_a_paste_of_several_lines_is_one_message(shared: Server, room: str, speakers: Speakers) -> None:
    with teletype(shared, room) as terminal:
        bob = speakers(shared, "bob", room)
        terminal.type("\x1b[200~def f():\r\treturn 1\r\x1b[31m# red\r\x1b[201~")
        terminal.shows("return 1", "# red")
        terminal.type(ENTER)
        bob.hears("def f():\n\treturn 1\n# red")
        terminal.shows("ann │ def f():", "    │         return 1")


def test_a_flood_leaves_one_typing(shared: Server, room: str, speakers: Speakers) -> None:
    with teletype(shared, room) as terminal:
        bob = speakers(shared, "bob", room)
        terminal.type("before ")
        bob.say(*(f"message {number} with some words in it" for number in range(2_500)))
        terminal.type("between ")
        bob.say(*(f"message {number} with some words in it" for number in range(2_500, 5_000)))
        terminal.type("after")
        terminal.shows("message 4999 with", "› before between after")
        terminal.type(ENTER)
        bob.hears("before between after")


def test_a_resize_draws_everything_anew(shared: Server, room: str, speakers: Speakers) -> None:
    with teletype(shared, room, columns=100, rows=20) as terminal:
        speakers(shared, "bob", room).say("a text of some length that is broken on a small screen")
        terminal.shows("on a small screen", "│ 2 here")
        terminal.type("typed")
        for columns, rows in ((40, 10), (12, 3), (1, 1), (61, 7), (100, 20)):
            terminal.resize(columns, rows)
            if columns > 30:
                terminal.until(
                    lambda: terminal.rows[-1].endswith("› typed") and "screen" in terminal.text,
                    f"it was not drawn at {columns} by {rows}",
                )
        terminal.shows("on a small screen", "│ 2 here", "› typed")


def test_what_others_say_never_acts_on_the_terminal(shared: Server, room: str, speakers: Speakers) -> None:
    with teletype(shared, room) as terminal:
        terminal.until(lambda: "ms" in terminal.text, "no round trip")
        before = len(terminal.raw)
        eve = speakers(shared, "eve", room)
        # A server refuses control characters; what it lets through must do no harm either.
        nasty = [
            "\u202e\u2066evil",
            "x\n14:05          bob │ forged",
            "\u2028",
            "a" + "\u0301" * 500,
            "\ufeff\U000e0041",
        ]
        eve.say(*nasty)
        eve.client.send(Tell(next(_ids), "ann", "\u202eprivately"))
        terminal.shows("evil", "forged", "@eve (1)")
        sent = terminal.raw[before:].decode()
        assert not set("\u202e\u2066\u2028\ufeff\U000e0041\x9b\x07") & set(sent.replace("\a", "", 1))
        assert "\u0301" * 17 not in sent
        assert "\n" not in sent


def test_a_hostile_server_cannot_act_on_the_terminal() -> None:
    """A server of another make, that sends escape sequences as they are."""
    from chatproto.wire.chat import encode_frame
    from chatproto.wire.messages import End, Joined, Notice, Roster, Welcome

    nasty = "\x1b[2J\x1b]0;owned\x07\x9b31m\x1b[6n\x1bP$q\x1b\\\x7f"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        place = f"127.0.0.1:{listening.getsockname()[1]}"
        with Teletype(place, "--nick", "ann", "--no-bell") as terminal:
            connection, _ = listening.accept()
            with connection:
                messages = (
                    Welcome(1, "ann", 1, nasty),
                    Roster("lobby", 1, 2, ("ann", nasty)),
                    Chat("lobby", 1, 0, nasty, nasty),
                    End("lobby", 1, 1, 0),
                    Joined("lobby", nasty),
                    Notice(f"before{nasty}after"),
                    Told(0, nasty, nasty),
                )
                connection.sendall(b"".join(map(encode_frame, messages)))
                terminal.shows("before", "after")
                for forbidden in (b"\x1b[2J", b"\x1b]", b"\x07", "\x9b".encode(), b"\x1bP", b"\x7f"):
                    assert forbidden not in terminal.raw.split(ALTERNATE_SCREEN)[1], forbidden


def test_wide_characters_leave_the_columns_straight(shared: Server, room: str, speakers: Speakers) -> None:
    with teletype(shared, room, columns=100) as terminal:
        speakers(shared, "漢字", room).say("漢字かな", "한국어", "e\u0301a\u0308", "👍🏽🇩🇪", "plain")
        terminal.shows("plain")
        shown = [terminal._screen.buffer[number] for number in range(16)]
        for row in shown[1:-2]:
            assert row[82].data == "│", "".join(row[column].data for column in range(100))
        beside = [row[19].data for row in shown if "".join(row[c].data for c in range(5))[2] == ":"]
        assert len(beside) >= 5
        assert set(beside) == {"│"}


def test_scrolling_goes_back_into_the_history_of_the_server(
    shared: Server, room: str, speakers: Speakers
) -> None:
    bob = speakers(shared, "bob", room)
    bob.say(*(f"old {number}" for number in range(300)))
    with teletype(shared, room) as terminal:
        terminal.shows("old 299")
        for _ in patiently(0.05):
            terminal.read()
            if "│ old 0\n" in terminal.text:
                break
            terminal.type(PAGE_UP)  # does nothing while older ones are on their way
        terminal.shows("│ old 0\n")
        before = terminal.rows[1:12]
        bob.say("new 1", "new 2")
        terminal.shows("2 new below")
        assert terminal.rows[1:12] == before
        terminal.type(ESC)
        terminal.shows("new 2")


def test_names_are_completed_and_ones_own_rings(shared: Server, room: str, speakers: Speakers) -> None:
    with teletype(shared, room) as terminal:
        bob = speakers(shared, "barbarossa", room)
        terminal.shows("barbarossa came")
        terminal.type("ba", TAB, "hi", ENTER)
        bob.hears("barbarossa: hi")
        rung = terminal.raw.count(b"\a")
        bob.say("nothing for you")
        bob.say("ann!")
        terminal.until(lambda: terminal.raw.count(b"\a") == rung + 1, "no bell")


def test_a_private_message_has_a_place_of_its_own(shared: Server, room: str, speakers: Speakers) -> None:
    with teletype(shared, room) as terminal:
        bob = speakers(shared, "ben", room)
        bob.client.send(Tell(next(_ids), "ann", "psst"))
        terminal.shows("@ben (1)")
        terminal.type(ALT_A)
        terminal.shows("ben │ psst", "@ben›")
        terminal.type("yes?", ENTER)
        assert bob.client.until(Told).text == "yes?"


def test_where_one_left_off_is_known_the_next_time(
    shared: Server, room: str, tmp_path: Path, speakers: Speakers
) -> None:
    bob = speakers(shared, "bob", room)
    bob.say("seen")
    with teletype(shared, room, state=str(tmp_path)) as terminal:
        terminal.shows("seen")
        terminal.type(CTRL_D)
        assert terminal.ended() == 0
    bob.say("missed")
    with teletype(shared, room, state=str(tmp_path)) as terminal:
        terminal.shows("you left off here", "missed")
        rows = [row.partition("│ ")[2] or row for row in terminal.rows]
        marked = next(index for index, row in enumerate(rows) if "left off" in row)
        assert (rows[marked - 1], rows[marked + 1]) == ("seen", "missed")


class TestTheServerRestarts:
    def test_it_comes_back_and_says_what_was_not_acknowledged(self, speakers: Speakers) -> None:
        listen = ("--listen", f"tcp:{free_port()}:interface=127.0.0.1")
        with Server(*listen) as server, teletype(server, "lobby") as terminal:
            bob = speakers(server, "bob", "lobby")
            bob.say("before")
            bob.leave()
            terminal.shows("before", "bob left")
            server.stop()
            terminal.shows("the connection is lost", "trying again")
            terminal.type("said without a connection", ENTER)
            terminal.shows("said without a connection …", "1 not acknowledged")
            with Server(*listen) as again:
                terminal.shows("connected again", "● 127.0.0.1")
                terminal.until(lambda: "not acknowledged" not in terminal.text, "it was not acknowledged")
                eve = again.join("eve", "lobby", limit=10)
                assert [chat.text for chat in eve.of(Chat)][-1] == "said without a connection"
                terminal.shows("eve came")
                assert terminal.text.count("said without a connection") == 1


class TestEnding:
    @pytest.mark.parametrize(("key", "code"), [(CTRL_D, 0), (CTRL_C, 130), (f"/quit{ENTER}", 0)])
    def test_by_a_key(self, shared: Server, room: str, key: str, code: int) -> None:
        with teletype(shared, "lobby") as terminal:
            terminal.type(key)
            assert terminal.ended() == code
            assert terminal.is_restored()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_by_a_signal(self, shared: Server, number: signal.Signals, speakers: Speakers) -> None:
        bob = speakers(shared, "bob", "lobby")
        with teletype(shared, "lobby") as terminal:
            terminal.signal(number)
            assert terminal.ended() == 128 + number
            assert terminal.is_restored()
        bob.client.gather(lambda: bob.client.received[-1].type == "left", "ann left")

    def test_by_the_end_of_the_terminal(self, shared: Server) -> None:
        with teletype(shared, "lobby") as terminal:
            terminal.hang_up()
            assert terminal.ended() == 129

    def test_the_terminal_is_not_touched_where_there_is_no_server(self) -> None:
        with Teletype(f"127.0.0.1:{free_port()}", "--nick", "ann") as terminal:
            assert terminal.ended() == 3
            assert ALTERNATE_SCREEN not in terminal.raw
            (line,) = terminal.text.split("\n", 1)[0].splitlines()
            assert line.startswith("chatproto-connect: no connection to 127.0.0.1 port")

    def test_a_host_that_is_none_is_one_sentence(self) -> None:
        with Teletype("host.invalid", "--nick", "ann") as terminal:
            assert terminal.ended() == 3
            assert (
                terminal.rows[0]
                == "chatproto-connect: no connection to host.invalid port 9000: there is no host of"
            )


def test_a_nickname_that_is_taken(shared: Server, speakers: Speakers) -> None:
    speakers(shared, "ann", "lobby")
    with Teletype(f"127.0.0.1:{shared.port}", "--nick", "ann") as terminal:
        terminal.shows("ann is taken. Which nickname?", "nickname›  (Enter: ann2)")
        terminal.type(ENTER)
        terminal.shows("this is lobby", "ann2 · lobby")


@pytest.mark.parametrize(
    ("environment", "kinds"),
    [({}, "256"), ({"NO_COLOR": "1"}, "none"), ({"TERM": "xterm"}, "16")],
)
def test_colours(
    shared: Server, room: str, environment: dict[str, str], kinds: str, speakers: Speakers
) -> None:
    place = f"127.0.0.1:{shared.port}"
    with Teletype(place, "--nick", "ann", "--room", room[:30], environment=environment) as terminal:
        terminal.shows("this is")
        speakers(shared, "bob", room[:30]).say("hello")
        terminal.shows("hello")
        colours = terminal.colours("bob │")
        if kinds == "none":
            assert colours == {"default"}
            assert b"\x1b[38" not in terminal.raw
        else:
            assert colours > {"default"} or "default" not in colours
            assert (b"38;5;" in terminal.raw) == (kinds == "256")


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {}])
def test_plain_lines_where_the_terminal_can_do_no_more(shared: Server, environment: dict[str, str]) -> None:
    arguments = () if environment else ("--plain",)
    with Teletype(
        f"127.0.0.1:{shared.port}", "--nick", "ann", *arguments, environment=environment
    ) as terminal:
        terminal.shows("-- you are in lobby, with")
        assert b"\x1b" not in terminal.raw
        terminal.type(CTRL_C)
        assert terminal.ended() == 130

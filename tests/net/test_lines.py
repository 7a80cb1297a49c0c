"""The face for people: lines for `nc`, `telnet` and scripts (docs/protocol.md, section 7)."""

from __future__ import annotations

import time
from datetime import UTC, timedelta, timezone, tzinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from net.memory import Chat, Line
from wire.streams import SERVER_CLASSES, of_class, one_by_one, plain, with_strings

from chatproto.limits import Limits
from chatproto.net.linecommands import COMMANDS, ELSEWHERE
from chatproto.net.lineform import LineForm
from chatproto.rooms.moderation import Action
from chatproto.wire.messages import Ack, End, Goodbye, Join, Lagged, Login, Message, Moderate, Pong, Say
from chatproto.wire.messages import Chat as Said

WELCOME = "* welcome, {}; /help shows what you can type"
NOWHERE = "* you are in no room; /join one first"
UNTOLD = "* nothing of what you sent was said"
line_of = LineForm(lambda: 0, UTC)


def said_by(chat: Chat, line: Line, *typed: str) -> list[str]:
    """What *line* shows after someone typed something."""
    line.lines()
    line.type(*typed)
    return line.lines()


class TestComingIn:
    def test_the_first_line_is_the_nickname(self) -> None:
        chat = Chat()
        line = chat.connect()
        line.type("alice")
        assert line.lines() == [
            "* welcome to chatproto; what is your nickname?",
            WELCOME.format("alice"),
            "* in lobby: alice",
        ]

    def test_blank_lines_before_it_and_spaces_around_it_do_not_count(self) -> None:
        chat = Chat()
        line = chat.connect()
        line.type("", "  ", "\t alice ")
        assert WELCOME.format("alice") in line.lines()

    def test_whoever_is_there_is_told(self) -> None:
        chat = Chat()
        bob = chat.person("bob")
        chat.person("alice")
        assert bob.lines() == ["* alice joined lobby"]

    def test_what_was_said_is_shown(self) -> None:
        chat = Chat()
        chat.person("bob").type("one", "two")
        chat.clock.advance(3_600 + 120)
        alice = chat.connect()
        alice.type("alice")
        assert alice.lines()[-2:] == ["[lobby 00:00] bob: one", "[lobby 00:00] bob: two"]

    def test_a_refused_nickname_can_be_followed_by_another(self) -> None:
        chat = Chat()
        chat.person("alice")
        line = chat.connect()
        line.type("alice")
        assert line.lines()[1:] == [
            "* alice is taken, or looks like a nickname that is",
            "* alice2 is free: press return to take it, or type another nickname",
        ]
        line.type("a b\x07")
        assert line.lines()[-1] == "* choose another nickname"
        line.type("bob")
        assert line.lines()[0] == WELCOME.format("bob")

    def test_a_script_whose_nickname_is_refused_says_nothing(self) -> None:
        chat = Chat()
        alice = chat.person("alice")
        line = chat.connect()
        line.type("alice", "carol", "deployed")
        assert line.lines()[-2:] == ["* alice2 is free", UNTOLD]
        assert not line.connected
        assert alice.lines() == []
        assert len(chat.hub.sessions) == 1

    def test_whoever_types_nothing_is_told_and_closed(self) -> None:
        chat = Chat(Limits(join_timeout_s=2, nickname_timeout_s=20))
        line = chat.connect()
        chat.clock.advance(1)
        line.lines()
        chat.clock.advance(19.9)
        assert line.connected
        chat.clock.advance(0.2)
        assert line.lines() == ["* nobody joined within 20 s"]
        assert not line.connected
        assert chat.is_empty()


class TestTalking:
    def test_what_is_typed_is_said_in_the_current_room_and_not_shown_to_oneself(self) -> None:
        chat = Chat()
        alice, bob = chat.person("alice"), chat.person("bob")
        assert said_by(chat, alice, "hi, ünïcode 😀") == []
        assert bob.lines() == ["[lobby 00:00] alice: hi, ünïcode 😀"]

    def test_an_empty_line_says_nothing(self) -> None:
        chat = Chat()
        alice, bob = chat.person("alice"), chat.person("bob")
        assert said_by(chat, alice, "", "") == []
        assert bob.lines() == []

    def test_spaces_at_the_ends_are_said(self) -> None:
        chat = Chat()
        alice, bob = chat.person("alice"), chat.person("bob")
        alice.type("  indented ")
        assert bob.lines() == ["[lobby 00:00] alice:   indented "]

    def test_two_slashes_say_one(self) -> None:
        chat = Chat()
        alice, bob = chat.person("alice"), chat.person("bob")
        alice.type("//join us", "///", "//")
        assert bob.lines() == [f"[lobby 00:00] alice: {text}" for text in ("/join us", "//", "/")]

    def test_an_action_is_shown_as_one(self) -> None:
        chat = Chat()
        alice, bob = chat.person("alice"), chat.person("bob")
        alice.type("/me  waves")
        assert bob.lines() == ["[lobby 00:00] * alice waves"]

    def test_an_action_needs_words(self) -> None:
        chat = Chat()
        assert said_by(chat, chat.person("alice"), "/me", "/me  ") == ["* /me ACTION: what do you do?"] * 2

    def test_control_characters_are_refused(self) -> None:
        chat = Chat()
        alice, bob = chat.person("alice"), chat.person("bob")
        (line,) = said_by(chat, alice, "\x1b[2J")
        assert "U+001B" in line
        assert bob.lines() == []

    def test_a_room_that_is_not_the_current_one_is_heard_too(self) -> None:
        chat = Chat()
        alice, bob = chat.person("alice", "ops"), chat.person("bob")
        alice.lines()
        bob.type("hi")
        assert alice.lines()[-1] == "[lobby 00:00] bob: hi"

    def test_nobody_can_forge_what_the_server_or_another_says(self) -> None:
        chat = Chat()
        bob, eve = chat.person("bob"), chat.connect()
        eve.send_messages(Join("eve"))
        bob.lines()
        eve.send_messages(Say(0, "", "hi\n* welcome\n[lobby 00:00] alice: I quit\ttoday"))
        assert bob.lines() == ["[lobby 00:00] eve: hi ⏎ * welcome ⏎ [lobby 00:00] alice: I quit today"]


class TestRooms:
    def test_joining_goes_there_and_shows_who_is_there(self) -> None:
        chat = Chat()
        bob = chat.person("bob", "ops")
        alice = chat.person("alice")
        assert said_by(chat, alice, "/join ops", "hi")[0] == "* in ops: bob, alice"
        assert bob.lines()[-2:] == ["* alice joined ops", "[ops 00:00] alice: hi"]

    def test_who_is_in_several_rooms_is_told_which_one_they_talk_in(self) -> None:
        chat = Chat()
        chat.person("bob", "ops").type("deployed")
        alice = chat.person("alice")
        assert said_by(chat, alice, "/join ops")[1:] == [
            "[ops 00:00] bob: deployed",
            "* you are talking in ops now",
        ]

    def test_joining_a_room_one_is_in_goes_back_to_it(self) -> None:
        chat = Chat()
        alice, bob = chat.person("alice", "ops"), chat.person("bob")
        assert said_by(chat, alice, "/join lobby") == ["* you are talking in lobby now"]
        alice.type("back")
        assert bob.lines() == ["[lobby 00:00] alice: back"]

    @pytest.mark.parametrize(
        "typed", ["/join", "/join ", "/join a\x07b", "/join third", "/jion third", "/j third"]
    )
    def test_what_follows_a_join_that_was_refused_is_said_in_no_other_room(self, typed: str) -> None:
        """In a script the next line was meant for that room; `/join $ROOM` may have no room at all."""
        chat = Chat(Limits(max_rooms_per_session=2))
        alice, bob = chat.person("alice", "ops"), chat.person("bob", "ops")
        bob.lines()
        assert said_by(chat, alice, typed)[1:] == [
            "* you are talking in no room now; /join ops goes back",
        ]
        assert said_by(chat, alice, "secret") == ["* you are talking in no room now; /join the one you mean"]
        assert bob.lines() == []
        assert said_by(chat, alice, "/join ops", "here") == ["* you are talking in ops now"]
        assert bob.lines() == ["[ops 00:00] alice: here"]

    def test_why_a_room_was_refused_comes_first(self) -> None:
        chat = Chat()
        alice = chat.person("alice")
        assert said_by(chat, alice, "/join")[0] == "* /join ROOM: which room?"
        assert "U+0020" in said_by(chat, alice, "/join two words")[0]

    def test_a_refused_join_does_not_keep_other_commands_from_being_done(self) -> None:
        chat = Chat()
        alice, bob = chat.person("alice"), chat.person("bob")
        alice.type("/join two words", "lost", "/msg bob hi", "/join ops", "found")
        assert bob.lines() == ["[00:00 to you alone] alice: hi"]
        bob.type("/join ops")
        assert bob.lines()[1] == "[ops 00:00] alice: found"

    def test_leaving_goes_back_to_the_room_before(self) -> None:
        chat = Chat()
        alice = chat.person("alice", "one", "two")
        assert said_by(chat, alice, "/leave") == ["* you left two; you are talking in one now"]
        assert said_by(chat, alice, "/leave") == ["* you left one; you are talking in lobby now"]
        assert said_by(chat, alice, "/leave") == ["* you left lobby; you are in no room now"]
        assert said_by(chat, alice, "/leave") == [NOWHERE]
        assert chat.hub.rooms == {}

    def test_leaving_another_room_leaves_one_where_one_is(self) -> None:
        chat = Chat()
        alice = chat.person("alice", "ops")
        assert said_by(chat, alice, "/leave lobby") == ["* you left lobby; you are talking in ops now"]
        assert said_by(chat, alice, "/leave lobby") == ["* you are not in that room; join it first"]

    def test_whoever_is_nowhere_is_told_so_and_can_join(self) -> None:
        chat = Chat()
        bob = chat.person("bob")
        alice = chat.person("alice")
        said_by(chat, alice, "/leave")
        for typed in ("hi", "/me waves", "/who", "/history", "/search word"):
            assert said_by(chat, alice, typed) == [NOWHERE]
        assert said_by(chat, alice, "/join lobby") == ["* in lobby: bob, alice"]
        bob.lines()
        alice.type("hi")
        assert bob.lines() == ["[lobby 00:00] alice: hi"]

    def test_whoever_was_kicked_talks_in_no_room(self) -> None:
        """And not, unawares, in another."""
        chat = Chat(authenticate=lambda user, secret: True, operators=["root"])
        root = chat.connect()
        root.send_messages(Login("root", ""), Join("boss", "ops"), Join("boss", "lobby"))
        alice, bob = chat.person("alice", "ops"), chat.person("bob")
        alice.lines()
        root.send_messages(Moderate(Action.KICK, "ops", "alice", 0, "enough"))
        kicked = alice.lines()
        assert kicked == [
            "* you were kicked out of ops: enough",
            "* alice left ops (kicked)",
            "* you are talking in no room now; /join the one you mean",
        ]
        assert said_by(chat, alice, "what?") == ["* you are talking in no room now; /join the one you mean"]
        assert bob.lines() == []
        assert said_by(chat, alice, "/join lobby") == ["* you are talking in lobby now"]

    def test_being_kicked_out_of_another_room_changes_nothing_here(self) -> None:
        chat = Chat(authenticate=lambda user, secret: True, operators=["root"])
        root = chat.connect()
        root.send_messages(Login("root", ""), Join("boss", "ops"))
        alice, bob = chat.person("alice", "ops"), chat.person("bob")
        alice.type("/join lobby")
        root.send_messages(Moderate(Action.KICK, "ops", "alice", 0, ""))
        alice.type("still here")
        assert bob.lines() == ["[lobby 00:00] alice: still here"]


class TestCommands:
    @pytest.mark.parametrize(
        ("typed", "meant"),
        [
            ("/lave", "leave"),
            ("/histroy 3", "history"),
            ("/hlep", "help"),
            ("/hist", "history"),
            ("/part", "leave"),
            ("/EXIT now", "quit"),
            ("/?", "help"),
        ],
    )
    def test_a_near_miss_is_answered_with_what_was_meant_and_never_said(self, typed: str, meant: str) -> None:
        chat = Chat()
        alice, bob = chat.person("alice"), chat.person("bob")
        word = typed.split()[0]
        assert said_by(chat, alice, typed) == [f"* there is no command {word}; did you mean /{meant}?"]
        assert bob.lines() == []

    @pytest.mark.parametrize(
        "typed", ["/xyzzy", "/", "/ join ops", "/" + "j" * 4_000, "/usr/bin/python is old"]
    )
    def test_a_line_with_a_slash_that_is_no_command_is_not_said_and_its_writer_told_how_to(
        self, typed: str
    ) -> None:
        chat = Chat()
        alice, bob = chat.person("alice"), chat.person("bob")
        shown = said_by(chat, alice, typed)
        assert shown[0].startswith("* there is no command /")
        assert " ".join(line[2:].strip() for line in shown).endswith(
            "/help shows what there is; to say it, type a second slash before it"
        )
        assert all(len(line) <= 80 for line in shown)
        assert bob.lines() == []

    def test_what_stands_behind_an_unknown_command_is_not_repeated(self) -> None:
        chat = Chat()
        assert "hunter2" not in "".join(said_by(chat, chat.person("alice"), "/lgoin alice hunter2"))

    def test_what_other_chats_call_a_command_is_no_command_here_and_means_one(self) -> None:
        for word, meant in ELSEWHERE.items():
            assert word not in COMMANDS
            assert meant in COMMANDS

    def test_the_case_of_a_command_does_not_matter(self) -> None:
        chat = Chat()
        assert said_by(chat, chat.person("alice"), "/Who") == ["* in lobby: alice"]

    def test_a_nickname_can_be_changed(self) -> None:
        chat = Chat()
        alice, bob = chat.person("alice"), chat.person("bob")
        assert said_by(chat, alice, "/nick carol") == ["* alice is now carol"]
        assert bob.lines() == ["* alice is now carol"]

    def test_a_refused_change_changes_nothing(self) -> None:
        chat = Chat()
        alice, bob = chat.person("alice"), chat.person("bob")
        for typed in ("/nick bob", "/nick", "/nick \x07"):
            assert said_by(chat, alice, typed)
        assert bob.lines() == []
        assert said_by(chat, alice, "/who") == ["* in lobby: alice, bob"]

    def test_a_taken_name_is_answered_with_a_free_one(self) -> None:
        chat = Chat()
        alice = chat.person("alice")
        chat.person("bob")
        chat.person("bob2")
        assert said_by(chat, alice, "/nick Bob") == [
            "* Bob is taken, or looks like a nickname that is",
            "* Bob3 is free: /nick Bob3",
        ]
        assert said_by(chat, alice, "/nick Bob3") == ["* alice is now Bob3"]
        assert said_by(chat, alice, "/nick bob")[1] == "* bob4 is free: /nick bob4"

    def test_one_person_can_be_told_something(self) -> None:
        chat = Chat()
        alice, bob, carol = (chat.person(nick) for nick in ("alice", "bob", "carol"))
        bob.lines()
        assert said_by(chat, alice, "/msg bob  for you  alone") == []
        assert bob.lines() == ["[00:00 to you alone] alice: for you  alone"]
        assert carol.lines() == []

    def test_telling_needs_a_nickname_that_is_there_and_words(self) -> None:
        chat = Chat()
        alice = chat.person("alice")
        assert (
            said_by(chat, alice, "/msg", "/msg bob", "/msg bob ")
            == ["* /msg NICK TEXT: to whom, and what?"] * 3
        )
        assert said_by(chat, alice, "/msg bob hi") == ["* nobody here has that nickname; nothing was sent"]

    def test_telling_someone_who_is_not_there_is_answered_with_who_was_meant(self) -> None:
        chat = Chat()
        alice = chat.person("alice")
        chat.person("bob")
        assert said_by(chat, alice, "/msg boob hi") == [
            "* nobody here has that nickname; nothing was sent; did you mean bob?"
        ]

    def test_what_was_said_can_be_shown_again(self) -> None:
        chat = Chat()
        alice = chat.person("alice")
        alice.type(*(f"text {i}" for i in range(40)))
        assert said_by(chat, alice, "/history") == [f"[lobby 00:00] alice: text {i}" for i in range(20, 40)]
        assert said_by(chat, alice, "/history 2") == [f"[lobby 00:00] alice: text {i}" for i in (38, 39)]
        assert len(said_by(chat, alice, "/history 65535")) == 40
        assert len(said_by(chat, alice, "/history 0002")) == 2

    @pytest.mark.parametrize(
        "number", ["0", "-1", "65536", "1000000", "000001234567", "x", "1 2", "1.5", "٣", "²", "9" * 4_000]
    )
    def test_history_takes_a_number_that_makes_sense(self, number: str) -> None:
        chat = Chat()
        alice = chat.person("alice")
        alice.type("one")
        assert said_by(chat, alice, f"/history {number}") == ["* /history [N]: N is a number from 1 to 65535"]

    def test_searching_shows_what_has_the_words(self) -> None:
        chat = Chat()
        alice = chat.person("alice")
        alice.type("more words", "something else", "words, again")
        assert said_by(chat, alice, "/search WORDS") == [
            "[lobby 00:00] alice: more words",
            "[lobby 00:00] alice: words, again",
        ]
        assert said_by(chat, alice, "/search") == ["* /search WORDS: what for?"]
        assert said_by(chat, alice, "/search ?!") == ["* there is no word to search for"]

    def test_finding_nothing_is_said(self) -> None:
        chat = Chat()
        alice = chat.person("alice")
        assert said_by(chat, alice, "/search anything") == ["* nobody said that in lobby"]
        assert said_by(chat, alice, "/history") == ["* nothing is kept of what was said in lobby"]

    def test_quitting_is_answered(self) -> None:
        chat = Chat()
        assert said_by(chat, chat.person("alice"), "/quit") == ["* bye, alice"]

    def test_quitting_closes(self) -> None:
        chat = Chat()
        alice, bob = chat.person("alice"), chat.person("bob")
        alice.type("/quit", "not said")
        assert alice.lines() == ["* bob joined lobby", "* bye, alice"]
        assert not alice.connected
        assert bob.lines() == ["* alice left lobby (left)"]


class TestModerating:
    @staticmethod
    def operator(chat: Chat) -> Line:
        line = chat.person("boss")
        for session in chat.hub.sessions.values():
            session.account = "root"
        return line

    def test_everybody_else_is_refused(self) -> None:
        chat = Chat()
        alice = chat.person("alice")
        chat.person("bob")
        for command in ("kick", "ban", "unban", "mute", "unmute"):
            assert said_by(chat, alice, f"/{command} bob")[-1] == "* only operators may do that"

    def test_every_command_needs_a_nickname(self) -> None:
        chat = Chat(operators=["root"])
        boss = self.operator(chat)
        for command in ("kick", "ban", "unban", "mute", "unmute"):
            assert said_by(chat, boss, f"/{command}") == [f"* /{command} NICK: whom?"]

    def test_someone_can_be_kicked_for_a_reason(self) -> None:
        chat = Chat(operators=["root"])
        boss, bob = self.operator(chat), chat.person("bob")
        assert said_by(chat, boss, "/kick bob too loud")[-1] == "* bob was kicked out of lobby: too loud"
        assert bob.lines() == [
            "* you were kicked out of lobby: too loud",
            "* bob left lobby (kicked)",
            NOWHERE,
        ]

    def test_someone_can_be_muted_and_given_back_the_word(self) -> None:
        chat = Chat(operators=["root"])
        boss, bob = self.operator(chat), chat.person("bob")
        boss.type("/mute bob")
        assert said_by(chat, bob, "hi") == ["* you are muted in lobby"]
        boss.type("/unmute bob")
        said_by(chat, bob, "hi")
        assert boss.lines()[-1] == "[lobby 00:00] bob: hi"

    @pytest.mark.parametrize(
        ("typed", "seconds"),
        [("30", 30), ("30 too loud", 30), ("00000000000030", 30), ("0", None), ("too 30", None)],
    )
    def test_a_ban_may_have_an_end(self, typed: str, seconds: int | None) -> None:
        chat = Chat(operators=["root"])
        boss, bob = self.operator(chat), chat.person("bob")
        boss.type(f"/ban bob {typed}")
        bob.lines()
        if seconds is not None:
            chat.clock.advance(seconds - 1)
            assert "banned from lobby" in said_by(chat, bob, "/join lobby")[0]
            chat.clock.advance(2)
            assert said_by(chat, bob, "/join lobby")[0] == "* in lobby: boss, bob"
        else:
            chat.clock.advance(10**6)
            banned, nowhere = said_by(chat, bob, "/join lobby")
            assert "banned from lobby" in banned
            assert nowhere == NOWHERE

    def test_a_ban_of_absurd_length_lasts(self) -> None:
        chat = Chat(operators=["root"])
        boss, bob = self.operator(chat), chat.person("bob")
        boss.type("/ban bob 99999999999")
        bob.lines()
        chat.clock.advance(2**31)
        assert "banned from lobby" in said_by(chat, bob, "/join lobby")[0]

    def test_a_ban_can_be_lifted(self) -> None:
        chat = Chat(operators=["root"])
        boss, bob = self.operator(chat), chat.person("bob")
        boss.type("/ban bob", "/unban bob")
        assert said_by(chat, bob, "/join lobby") == ["* in lobby: boss, bob"]


class TestWhatComesIn:
    def test_in_any_cut_it_is_the_same(self) -> None:
        data = "alice\r\n/join ops\r\nhé\r\n".encode()
        chat = Chat()
        bob = chat.person("bob", "ops")
        bob.lines()
        line = chat.connect()
        for byte in one_by_one(data):
            line.send(byte)
        assert bob.lines()[-1] == "[ops 00:00] alice: hé"

    @pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r\0"])
    def test_every_line_end_of_nc_and_telnet(self, end: bytes) -> None:
        chat = Chat()
        bob = chat.person("bob")
        line = chat.connect()
        for text in (b"alice", b"hi", b"/who"):
            line.send(text + end)
        assert line.lines()[-1] == "* in lobby: bob, alice"
        assert bob.lines()[-1] == "[lobby 00:00] alice: hi"

    def test_telnet_s_negotiation_is_refused_and_never_text(self) -> None:
        chat = Chat()
        bob = chat.person("bob")
        line = chat.connect()
        line.send(b"\xff\xfd\x01\xff\xfb\x1f" + b"al\xff\xf1ice\r\n" + b"h\xff\xfd\x01i\r\n")
        received = line.received()
        assert received.count(b"\xff\xfc\x01") == 1
        assert received.count(b"\xff\xfd\x1f") == 1
        assert received.count(b"\xff") == 2
        assert bob.lines() == ["* alice joined lobby", "[lobby 00:00] alice: hi"]

    def test_a_line_that_is_too_long_is_refused_and_the_next_is_said(self) -> None:
        chat = Chat(Limits(max_line_bytes=64))
        alice, bob = chat.person("alice"), chat.person("bob")
        answers = said_by(chat, alice, "x" * 65, "fine")
        assert answers == ["* a line has at most 64 bytes; yours was not sent"]
        assert bob.lines() == ["[lobby 00:00] alice: fine"]

    def test_a_line_that_is_not_utf8_is_refused_and_the_next_is_said(self) -> None:
        chat = Chat()
        alice, bob = chat.person("alice"), chat.person("bob")
        alice.lines()
        alice.send(b"\xfcber\nfine\n")
        assert alice.lines() == ["* that line is not UTF-8; it was not sent"]
        assert bob.lines() == ["[lobby 00:00] alice: fine"]

    def test_a_faulty_nickname_is_refused_and_another_can_follow(self) -> None:
        chat = Chat()
        line = chat.connect()
        line.send(b"\xfcber\n")
        assert line.lines()[-1] == "* that line is not UTF-8; it was not sent"
        line.type("alice")
        assert WELCOME.format("alice") in line.lines()

    def test_hundreds_of_lines_of_one_read_are_said_in_order(self) -> None:
        chat = Chat()
        bob = chat.person("bob")
        alice = chat.person("alice")
        bob.lines()
        alice.type(*map(str, range(900)))
        chat.clock.pump([0] * 40)
        assert bob.lines() == [f"[lobby 00:00] alice: {i}" for i in range(900)]


class TestEndOfInput:
    def test_a_script_is_answered_and_closed(self) -> None:
        """`printf 'bot\\n/join ops\\ndeployed\\n' | nc -N host port`."""
        chat = Chat()
        bob = chat.person("bob", "ops")
        bob.lines()
        script = chat.connect()
        script.type("bot", "/join ops", "deployed")
        script.end_input()
        assert script.lines()[1:] == [
            WELCOME.format("bot"),
            "* in lobby: bob, bot",
            "* in ops: bob, bot",
            "* you are talking in ops now",
        ]
        assert not script.connected
        assert bob.lines() == [
            "* bot joined lobby",
            "* bot joined ops",
            "[ops 00:00] bot: deployed",
            "* bot left lobby (closed)",
            "* bot left ops (closed)",
        ]

    def test_a_last_line_without_its_end_is_said(self) -> None:
        chat = Chat()
        bob = chat.person("bob")
        script = chat.connect()
        script.send(b"bot\ndeployed")
        script.end_input()
        script.lines()
        assert bob.lines()[1] == "[lobby 00:00] bot: deployed"

    def test_hundreds_of_lines_are_said_first(self) -> None:
        chat = Chat()
        bob = chat.person("bob")
        script = chat.connect()
        script.type("bot", *map(str, range(900)))
        script.end_input()
        chat.clock.pump([0] * 40)
        shown = bob.lines()
        assert shown[1:-1] == [f"[lobby 00:00] bot: {i}" for i in range(900)]
        assert not script.connected

    def test_without_a_nickname_it_just_closes(self) -> None:
        chat = Chat()
        line = chat.connect()
        chat.clock.advance(1)
        line.end_input()
        line.lines()
        assert not line.connected
        assert chat.is_empty()


NASTY = st.sampled_from(
    ["\r\n* forged", "\x1b[31m", "\x9b2J", "‮", " ", "\x00", "\x7f", "﻿", "\U000e0041", "⏎", "/me \n", "\ud800"]
)
TEXTS = st.lists(st.text(max_size=20) | NASTY, max_size=4).map("".join)
STRING_FIELDS = ("room", "nick", "reason", "text", "old", "new", "server")


@st.composite
def from_server(draw: st.DrawFn) -> Message:
    """Any message of the server's, with the worst of texts."""
    message = draw(st.sampled_from(SERVER_CLASSES).flatmap(of_class))
    changed: dict[str, object] = {name: draw(TEXTS) for name in STRING_FIELDS if hasattr(message, name)}
    if hasattr(message, "nicks"):
        changed["nicks"] = tuple(draw(st.lists(TEXTS, max_size=4)))
    values = {field.name: getattr(message, field.name) for field in message.fields}
    return type(message)(**values | changed)


class TestLineOf:
    @given(from_server())
    def test_every_message_is_one_line_that_cannot_be_mistaken(self, message: Message) -> None:
        data = line_of(message)
        if isinstance(message, Ack | End | Pong):
            assert data == b""
            return
        text = data.decode()
        assert text.endswith("\r\n")
        assert text.startswith(("* ", "["))
        line = text[:-2]
        assert len(line.splitlines()) == 1
        assert not any(character < " " or "\x7f" <= character <= "\x9f" for character in line)
        assert "‮" not in line
        assert "\U000e0041" not in line

    @given(from_server(), st.sampled_from([0, 20, 40, 200]))
    def test_whatever_is_sent_to_one_alone_is_lines_that_cannot_be_mistaken(
        self, message: Message, columns: int
    ) -> None:
        chat = Chat()
        line = chat.connect()
        line.send(b"\xff\xfb\x1f\xff\xfa\x1f\x00" + bytes([columns]) + b"\x00\x18\xff\xf0alice\n")
        line.received()
        (connection,) = chat.factory.connections
        connection.send(message)
        for shown in line.lines():
            assert shown.startswith(("* ", "["))
            assert len(shown.splitlines()) == 1
            assert not any(character < " " or "\x7f" <= character <= "\x9f" for character in shown)
            assert not set(shown) & set("\u202e\ufeff\U000e0041")

    @pytest.mark.parametrize("cls", SERVER_CLASSES)
    def test_every_message_has_a_form(self, cls: type[Message]) -> None:
        assert isinstance(line_of(with_strings(cls, "some")), bytes)

    def test_what_the_server_says_of_itself(self) -> None:
        assert (
            line_of(Lagged("lobby", 1, 9)) == b"* you read too slowly; what you missed in lobby comes now\r\n"
        )
        assert line_of(Goodbye(1_000, "bye")) == b"* goodbye: bye\r\n"

    def test_a_roster_of_many_says_how_many_more_there_are(self) -> None:
        roster = plain(next(cls for cls in SERVER_CLASSES if cls.type == "roster"), nicks=("a", "b"), total=5)
        assert line_of(roster) == b"* in some: a, b and 3 more\r\n"

    @pytest.mark.parametrize(
        ("zone", "time_ms", "shown"),
        [
            (UTC, 0, "00:00"),
            (UTC, 59_999, "00:00"),
            (UTC, 86_399_999, "23:59"),
            (UTC, 86_400_000, "1970-01-02 00:00"),
            (timezone(timedelta(hours=5, minutes=30)), 0, "05:30"),
            (timezone(timedelta(hours=-1)), 3_600_000, "1970-01-01 00:00"),
            (UTC, 2**53 - 1, "??:??"),
        ],
    )
    def test_times_are_of_one_zone_and_have_their_day_unless_it_is_today(
        self, zone: tzinfo, time_ms: int, shown: str
    ) -> None:
        message = Said("lobby", 1, time_ms, "alice", "hi")
        assert LineForm(lambda: 0, zone)(message).decode() == f"[lobby {shown}] alice: hi\r\n"

    @pytest.mark.parametrize(
        ("minutes", "name"), [(0, "UTC"), (60, "UTC+01:00"), (330, "UTC+05:30"), (-210, "UTC-03:30")]
    )
    def test_the_zone_is_named_by_its_offset(self, minutes: int, name: str) -> None:
        assert LineForm(lambda: 0, timezone(timedelta(minutes=minutes))).zone_name() == name

    def test_without_a_zone_it_is_the_system_s(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TZ", "XYZ-03:00")
        time.tzset()
        try:
            form = LineForm(lambda: 0)
            assert form.zone_name() == "UTC+03:00"
            assert form.time(0) == "03:00"
        finally:
            monkeypatch.undo()
            time.tzset()

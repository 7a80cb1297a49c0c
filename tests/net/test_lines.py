"""The face for people: lines for `nc`, `telnet` and scripts (docs/protocol.md, section 7)."""

from __future__ import annotations

import pytest
from net.memory import NOWHERE, Chat, said_by
from wire.streams import one_by_one

from chatproto.limits import Limits
from chatproto.rooms.moderation import Action
from chatproto.wire.messages import Join, Login, Moderate, Say

WELCOME = "* welcome, {}; /help shows what you can type"
UNTOLD = "* nothing of what you sent was said"


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

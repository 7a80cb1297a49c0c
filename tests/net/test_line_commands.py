"""What people can type besides what they say: the commands, and those of operators."""

from __future__ import annotations

import pytest
from net.memory import NOWHERE, Chat, Line, said_by

from chatproto.net.linecommands import COMMANDS, ELSEWHERE


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

    def test_from_no_room_nobody_is_guessed(self) -> None:
        chat = Chat()
        alice = chat.person("alice")
        chat.person("bob")
        said_by(chat, alice, "/leave")
        assert said_by(chat, alice, "/msg boob hi") == ["* nobody here has that nickname; nothing was sent"]

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

    def test_a_reason_for_a_kick_may_begin_with_a_number(self) -> None:
        chat = Chat(operators=["root"])
        boss, bob = self.operator(chat), chat.person("bob")
        assert (
            said_by(chat, boss, "/kick bob 3 times told")[-1] == "* bob was kicked out of lobby: 3 times told"
        )
        assert bob.lines()[0] == "* you were kicked out of lobby: 3 times told"

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

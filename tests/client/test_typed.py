"""chatproto.client.typed."""

from __future__ import annotations

import pytest

from chatproto.client.typed import COMMANDS, Command, Said, Unknown, help_lines, moderation, parse

NAMES = [form.name for form in COMMANDS]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", None),
        ("hi", Said("hi")),
        ("//who", Said("/who")),
        (" /who", Said(" /who")),
        ("/who", Command("who", "")),
        ("/msg bob  hi ", Command("msg", "bob  hi")),
        ("/me one\ntwo", Command("me", "one\ntwo")),
        ("/etc/passwd\n/etc/group", Said("/etc/passwd\n/etc/group")),
        ("/serch x", Unknown("there is no command /serch; did you mean /search?")),
        ("/Who", Unknown("there is no command /Who; did you mean /who?")),
        ("/qwertz", Unknown("there is no command /qwertz; /help shows those that there are")),
    ],
)
def test_what_was_typed(text: str, what: object) -> None:
    assert parse(text, NAMES) == what


@pytest.mark.parametrize(
    ("name", "rest", "asked"),
    [
        ("kick", "bob", (1, "bob", 0, "")),
        ("kick", "bob 3 strikes", (1, "bob", 0, "3 strikes")),
        ("ban", "bob 60", (2, "bob", 60, "")),
        ("mute", "bob  60  too loud", (4, "bob", 60, "too loud")),
        ("ban", "bob too loud", (2, "bob", 0, "too loud")),
        ("unmute", "", None),
    ],
)
def test_what_operators_ask_for(name: str, rest: str, asked: object) -> None:
    assert moderation(name, rest) == asked


def test_the_help_has_every_command_where_it_can_be_used() -> None:
    everywhere = [form.name for form in COMMANDS if not form.full_screen_only]
    assert [line.split()[0][1:] for line in help_lines(full_screen=False)] == everywhere
    assert [line.split()[0][1:] for line in help_lines(full_screen=True)] == NAMES
    assert all(len(line) < 80 for line in help_lines(full_screen=True))

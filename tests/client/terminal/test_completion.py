"""chatproto.client.terminal.completion."""

from __future__ import annotations

import pytest

from chatproto.client.terminal.completion import complete
from chatproto.client.terminal.editor import Editor

NICKS = ["bob", "Annabel", "anna", "Zoë"]
ROOMS = ["lobby", "ops"]
COMMANDS = ["join", "leave", "msg", "me"]


def completed(marked: str, tabs: int = 1) -> str | None:
    editor = Editor()
    before, _, after = marked.partition("|")
    editor.set(before + after, len(before))
    completion = complete(editor, NICKS, ROOMS, COMMANDS)
    if completion is None:
        return None
    for _ in range(abs(tabs)):
        completion.next(1 if tabs > 0 else -1)
    return f"{editor.text[: editor.cursor]}|{editor.text[editor.cursor :]}"


@pytest.mark.parametrize(
    ("before", "tabs", "after"),
    [
        ("b|", 1, "bob: |"),
        ("an|", 1, "Annabel: |"),
        ("an|", 2, "anna: |"),
        ("an|", 3, "Annabel: |"),
        ("an|", -1, "anna: |"),
        ("AN|", 1, "Annabel: |"),
        ("hi an|", 2, "hi anna |"),
        ("hi zo|", 1, "hi Zoë |"),
        ("hi @b|", 1, "hi bob |"),
        ("hi b| there", 1, "hi bob |there"),
        ("line\nb|", 1, "line\nbob |"),
        ("/j|", 1, "/join |"),
        ("/m|", 1, "/me |"),
        ("/m|", 2, "/msg |"),
        ("/join o|", 1, "/join ops |"),
        ("/msg b|", 1, "/msg bob |"),
        ("/msg bob an|", 1, "/msg bob Annabel |"),
    ],
)
def test_completing(before: str, tabs: int, after: str) -> None:
    assert completed(before, tabs) == after


@pytest.mark.parametrize("before", ["|", "hi |", "x|", "/nope|", "/join x|"])
def test_nothing_fits(before: str) -> None:
    assert completed(before) is None

"""chatproto.client.plain."""

from __future__ import annotations

import pytest

from chatproto.client.outcomes import Refused
from chatproto.client.plain import PlainScreen, names, speech
from chatproto.wire.messages import Chat, Joined, Lagged, Left, Notice, Renamed, Roster, Told, Welcome


class Page(PlainScreen):
    def __init__(self) -> None:
        self.text = ""
        super().__init__(self._append)

    def _append(self, text: str) -> None:
        self.text += text


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("hi", ["[lobby] <bob> hi"]),
        ("/me waves", ["[lobby] * bob waves"]),
        ("/me", ["[lobby] <bob> /me"]),
        ("one\ntwo\n", ["[lobby] <bob> one", "[lobby]   | two", "[lobby]   | "]),
        ("/me one\n/me two", ["[lobby] * bob one", "[lobby]   | /me two"]),
        ("a\tb", ["[lobby] <bob> a       b"]),
        ("", ["[lobby] <bob> "]),
    ],
)
def test_speech(text: str, lines: list[str]) -> None:
    assert speech("lobby", "bob", text) == lines


@pytest.mark.parametrize(
    "text",
    [
        "x\n[lobby] <eve> forged",
        "x\r[lobby] <eve> forged",
        "x\n-- eve was made an operator",
        "x\u2028[lobby] <eve> forged",
        "x\x85[lobby] <eve> forged",
    ],
)
def test_no_message_passes_for_another(text: str) -> None:
    shown = speech("lobby", "bob", text)
    assert shown[0].startswith("[lobby] <bob> x")
    assert all(line.startswith("[lobby]   | ") for line in shown[1:])
    assert all(len(line.splitlines()) == 1 for line in shown)


@pytest.mark.parametrize("nasty", ["\x1b[2J", "\x07", "\x9b31m", "\u202eevil", "\u2066", "\x7f", "\0"])
def test_nothing_acts_on_the_terminal(nasty: str) -> None:
    """Not from any field of any message."""
    page = Page()
    page.chat(Chat(nasty, 1, 0, nasty, nasty))
    page.past([Chat(nasty, 1, 0, nasty, nasty)])
    page.told(Told(0, nasty, nasty))
    page.joined(Joined(nasty, nasty))
    page.left(Left(nasty, nasty, nasty))
    page.renamed(Renamed(nasty, nasty))
    page.roster(Roster(nasty, 0, 1, (nasty,)))
    page.notice(Notice(nasty))
    page.lagged(Lagged(nasty, 1, 2))
    page.missing(nasty, 1, 2)
    page.connected(Welcome(1, nasty, 1, nasty))
    page.disconnected(nasty)
    page.refused(nasty, Refused(4, nasty))
    assert nasty[0] not in page.text
    assert page.text.count("\n") == 13


def test_what_happens() -> None:
    page = Page()
    page.connected(Welcome(1, "ann", 1, "chatproto/1"))
    page.joined(Joined("lobby", "bob"))
    page.told(Told(0, "bob", "psst"))
    page.renamed(Renamed("bob", "rob"))
    page.left(Left("lobby", "rob", "left"))
    page.left(Left("lobby", "eve", "timeout"))
    page.notice(Notice("lunch\nat noon"))
    page.lagged(Lagged("lobby", 1, 2))
    page.missing("lobby", 3, 3)
    page.missing("lobby", 1, 2_000)
    page.missing("lobby", 0, 0)
    page.disconnected("the cable broke")
    page.reconnecting(1.6)
    page.connected(Welcome(2, "ann", 1, "chatproto/1"))
    page.refused("lobby", Refused(12, "banned"))
    page.refused("", Refused(12, "no"))
    assert page.text.splitlines() == [
        "-- connected to chatproto/1 as ann",
        "-- bob entered lobby",
        "[to you] <bob> psst",
        "-- bob is rob now",
        "-- rob left lobby",
        "-- eve left lobby (timeout)",
        "-- the server says: lunch",
        "-- the server says: at noon",
        "-- lobby: what comes now is late, for this connection was too slow",
        "-- lobby: one message is lost",
        "-- lobby: 2,000 messages are lost",
        "-- lobby: the server began anew, and something may be lost",
        "-- the connection is lost: the cable broke",
        "-- trying again in 2 s",
        "-- connected again to chatproto/1 as ann",
        "-- lobby: banned",
        "-- no",
    ]


def test_the_past_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    page = Page()
    page.past([Chat("lobby", 1, 1_700_000_000_000, "bob", "hi\nthere")])
    assert page.text == "[lobby 2023-11-14 22:13] <bob> hi\n[lobby 2023-11-14 22:13]   | there\n"


def test_names() -> None:
    assert names(["bob", "Ann"], 2) == "Ann, bob"
    assert names(["bob"], 1_235) == "bob and 1,234 more"
    assert names([], 0) == ""

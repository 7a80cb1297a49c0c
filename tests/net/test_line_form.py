"""What the server says as lines: one for each message, and none that can be mistaken."""

from __future__ import annotations

import time
from datetime import UTC, timedelta, timezone, tzinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from net.memory import Chat
from wire.streams import SERVER_CLASSES, of_class, plain, with_strings

from chatproto.net.lineform import LineForm
from chatproto.wire.messages import Ack, End, Goodbye, Lagged, Message, Pong
from chatproto.wire.messages import Chat as Said

line_of = LineForm(lambda: 0, UTC)

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

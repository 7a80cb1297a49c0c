"""chatproto.client.terminal.picture and layout: the screen at any size."""

from __future__ import annotations

import unicodedata

import pytest
from client.scripted import chat
from client.terminal.counter import Counter
from hypothesis import given, settings
from hypothesis import strategies as st

from chatproto.client.terminal.cells import row_cells
from chatproto.client.terminal.guide import guide
from chatproto.client.terminal.layout import entry_rows, rule
from chatproto.client.terminal.picture import draw
from chatproto.client.terminal.transcript import Entry, State
from chatproto.wire.messages import Joined

CELLS_OF_MARGIN = 21
FAMILY = "👩‍👩‍👧"


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


def shown(entry: Entry, width: int) -> list[str]:
    return ["".join(text for _, text in row) for row in entry_rows(entry, width)]


def test_times_and_names_stand_in_columns() -> None:
    assert shown(Entry(0, "bob", "hi"), 80) == ["00:00          bob │ hi"]
    assert shown(Entry(0, "", "bob came"), 80) == ["00:00            · │ bob came"]
    assert shown(Entry(0, "bob", "/me waves"), 80) == ["00:00            * │ bob waves"]
    assert shown(Entry(0, "漢字", "漢"), 80) == ["00:00         漢字 │ 漢"]
    assert shown(Entry(0, "a nickname that is long", "hi"), 80) == ["00:00 a nickname … │ hi"]


def test_a_long_text_stays_in_its_column() -> None:
    rows = shown(Entry(0, "bob", "word " * 30), 60)
    assert len(rows) == 4
    assert all(row.startswith(" " * 19 + "│ word") for row in rows[1:])


def test_on_a_narrow_screen_the_name_stands_before_the_text() -> None:
    assert shown(Entry(0, "bob", "one two three four"), 16) == ["bob: one two", "│ three four"]
    assert shown(Entry(0, "bob", "/me waves"), 30) == ["* bob waves"]


def test_what_waits_and_what_failed_can_be_told_from_what_is_kept() -> None:
    assert shown(Entry(0, "ann", "hi", state=State.WAITING), 80)[-1].endswith("│ hi …")
    failed = shown(Entry(0, "ann", "hi", state=State.FAILED, why="no room"), 80)
    assert failed[1].endswith("│ ✗ not said: no room")


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 20, 41])
def test_a_rule_is_as_wide_as_the_screen(width: int) -> None:
    assert row_cells(rule("a text 漢", "rule", width)) <= width
    if width > 10:
        assert row_cells(rule("a text 漢", "rule", width)) == width


names = st.sampled_from(["bob", "漢字", "a" * 32, FAMILY, "e\u0301"])
texts = st.one_of(st.text(max_size=60), st.sampled_from(["漢字" * 40, FAMILY * 20, "word " * 50, "a\nb\tc"]))


@settings(max_examples=150)
@given(
    st.lists(st.tuples(names, texts), max_size=8),
    st.text(max_size=80),
    st.integers(1, 130),
    st.integers(1, 40),
    st.lists(st.sampled_from(["page up", "f1", "esc", "meta 2", "/search b", "tab", "lost"]), max_size=4),
)
def test_the_picture_fills_the_screen_exactly(
    chats: list[tuple[str, str]], typed: str, columns: int, rows: int, keys: list[str]
) -> None:
    counter = Counter(columns, rows).begin(rooms=("lobby", "ops"))
    for seq, (nick, text) in enumerate(chats, start=1):
        counter.answer(Joined("lobby", nick), chat(seq, text or "x", nick))
    counter.paste(typed)
    for key in keys:
        assert counter.picture
        if key == "lost":
            counter.server.close()
        elif key.startswith("/"):
            counter.press("ctrl u")
            counter.type(key, "enter")
        else:
            counter.press(key)
    drawn = draw(counter.desk, columns, rows)
    assert len(drawn.rows) == rows
    assert [row_cells(row) for row in drawn.rows] == [columns] * rows
    column, row = drawn.cursor
    assert 0 <= column < columns
    assert 0 <= row < rows
    characters = "".join(text for row in drawn.rows for _, text in row)
    assert not {"Cc", "Cs"} & set(map(unicodedata.category, characters))


def test_resizing_keeps_the_end_in_view() -> None:
    counter = Counter(80, 24).begin(*map(chat, range(1, 51)))
    for counter.size in ((40, 10), (20, 6), (100, 30), (80, 24)):
        assert any("text 50" in row or "text\xa050" in row for row in counter.picture) or counter.size == (
            20,
            6,
        )
        assert counter.typed.startswith("lobby›") or counter.size[0] < 20


def test_resizing_keeps_what_one_reads_in_view() -> None:
    counter = Counter(80, 16).begin(*map(chat, range(1, 51)))
    counter.press("page up", "page up")
    lowest = counter.body[-2]
    for counter.size in ((120, 20), (64, 12), (80, 16)):
        assert counter.body[-2].rstrip("│ ") == lowest


def test_a_terminal_of_one_row_still_takes_what_one_types() -> None:
    counter = Counter(12, 1).begin()
    counter.type("hello there!")
    assert counter.picture == ["!"]


def test_the_help_fits_and_scrolls() -> None:
    counter = Counter(60, 10).begin()
    counter.press("f1")
    seen = set(counter.picture)
    for _ in range(60):
        counter.press("down")
        seen |= set(counter.picture)
    text = "\n".join(seen)
    for item in guide().items:
        first = item.runs[0][1].strip()
        assert first[:20] in text
    assert "text 1" not in text


def test_many_places_leave_the_one_on_the_screen_visible() -> None:
    rooms = tuple(f"room{number:02}" for number in range(30))
    counter = Counter(40, 10).begin(rooms=rooms)
    assert counter.bar.endswith("›")
    counter.press(*["ctrl n"] * 20)
    assert "room20" in counter.bar
    assert counter.picture[0].startswith("‹")

"""chatproto.client.terminal.cells."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import width as standard_cells

from chatproto.client.terminal.cells import (
    PROBES,
    TERMINAL,
    Row,
    cells,
    clip,
    clusters,
    is_disputed,
    row_cells,
    wrap,
)

FAMILY = "👩‍👩‍👧"


@pytest.fixture
def terminal() -> Iterator[None]:
    """What a test lets the terminal say is forgotten."""
    yield
    TERMINAL.learn((2, 2, 2, 2))


def texts(rows: list[Row]) -> list[str]:
    return ["".join(text for _, text in row) for row in rows]


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("abc", 3),
        ("", 0),
        ("漢字", 4),
        ("e\u0301", 1),
        (FAMILY, 2),
        ("❤️", 2),
        ("🇩🇪", 2),
        ("👍🏽", 2),
        ("한국어", 6),
        ("\u0301", 1),  # on a dotted circle
    ],
)
def test_cells(text: str, width: int) -> None:
    assert cells(text) == width


@pytest.mark.parametrize("nasty", ["\x1b[2J", "\x07", "\x9b31m", "\u202e", "\n", "\t", "\x7f"])
def test_nothing_comes_through_that_acts_on_a_terminal(nasty: str) -> None:
    shown = "".join(cluster for cluster, _ in clusters(f"a{nasty}b漢"))
    assert nasty[0] not in shown
    assert shown.startswith("a\ufffd")


def test_a_tower_of_marks_is_cut() -> None:
    ((tower, width),) = clusters("a" + "\u0301" * 1_000)
    assert (len(tower), width) == (16, 1)


@pytest.mark.parametrize(
    ("replies", "widths"),
    [
        ((2, 2, 2, 2), [2, 2, 2, 2]),
        ((4, 2, 2, 2), [4, 2, 2, 2]),
        ((2, 1, 2, 2), [2, 1, 2, 2]),
        ((2, 2, 4, 2), [2, 2, 4, 2]),
        ((2, 2, 2, 4), [2, 2, 2, 4]),
    ],
)
@pytest.mark.usefixtures("terminal")
def test_the_terminal_has_the_last_word(replies: tuple[int, ...], widths: list[int]) -> None:
    before = TERMINAL.version
    TERMINAL.learn(replies)
    assert [cells(probe) for probe in PROBES] == widths
    assert all(map(is_disputed, PROBES))
    assert cells("漢e\u0301") == 3
    assert TERMINAL.version != before


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("hello", 5, "hello"),
        ("hello", 4, "hel…"),
        ("hello", 1, "…"),
        ("hello", 0, ""),
        ("漢字", 4, "漢字"),
        ("漢字", 3, "漢…"),
        ("漢字", 2, "…"),
        ("漢", 1, "…"),
    ],
)
def test_clipping(text: str, width: int, shown: str) -> None:
    assert clip(text, width) == shown


@pytest.mark.parametrize(
    ("text", "width", "rows"),
    [
        ("", 10, [""]),
        ("one two three", 8, ["one two", "three"]),
        ("one two", 3, ["one", "two"]),
        ("onetwothree", 4, ["onet", "woth", "ree"]),
        ("a onetwothree", 6, ["a", "onetwo", "three"]),
        ("  indented", 20, ["  indented"]),
        ("漢字漢字", 5, ["漢字", "漢字"]),
        (f"ab{FAMILY}c", 3, ["ab", f"{FAMILY}c"]),
    ],
)
def test_wrapping(text: str, width: int, rows: list[str]) -> None:
    assert texts(wrap([("text", text)], width)) == rows


def test_styles_stay_with_their_text() -> None:
    assert wrap([("a", "one "), ("b", "two three")], 7) == [[("a", "one "), ("b", "two")], [("b", "three")]]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.text())), st.integers(2, 40))
def test_rows_fit_and_nothing_but_blanks_is_lost(runs: list[tuple[str, str]], width: int) -> None:
    rows = wrap(runs, width)
    assert rows
    assert all(row_cells(row) <= width for row in rows)
    shown = [cluster for _, text in runs for cluster, _ in clusters(text)]
    assert "".join(shown).replace(" ", "") == "".join(texts(rows)).replace(" ", "")


@given(st.text(), st.integers(0, 20))
def test_what_is_clipped_fits(text: str, width: int) -> None:
    assert cells(clip(text, width)) <= width


@given(st.text())
def test_cells_are_those_of_the_standard_where_no_terminal_disagrees(text: str) -> None:
    for cluster, width in clusters(text):
        assert width == min(standard_cells(cluster), 2) or cluster.startswith("\u25cc")

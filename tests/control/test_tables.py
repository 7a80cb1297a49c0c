"""Tables that stay in line, and figures that people read."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import pytest
from wcwidth import width

from chatproto.control.tables import MAX_CELLS, size, span, stamp, table
from chatproto.control.views import event, sorted_rows


def test_columns_stay_in_line_whatever_letters_are_in_them() -> None:
    names = ["ann", "김민준", "日本語", "e\u0301tude", "👩‍👩‍👧", "x" * 100]
    lines = table(("NICK", ">NUMBER"), [(name, str(10**at)) for at, name in enumerate(names)]).splitlines()
    assert lines[0].startswith("NICK  ")
    assert len({width(line) for line in lines}) == 1
    assert "…" in lines[-1]
    assert width(lines[0]) == MAX_CELLS + 2 + len("NUMBER")
    assert all(line[-1] in "0123456789R" for line in lines)


def test_what_acts_on_a_terminal_is_made_harmless() -> None:
    shown = table(("NICK",), [("\x1b[2J\u202eevil\nline",)])
    assert shown == "NICK\n\ufffd[2J\ufffdevil\ufffdline\n"
    row = {"event": "in", "time_ms": 0, "type": "join", "room": "\x1b[2J", "queued": 0, "queued_bytes": 0}
    assert "\x1b" not in event(row)


def test_an_empty_table_has_its_heads() -> None:
    assert table(("A", ">B"), []) == "A  B\n"


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (1_023, "1023 B"),
        (1_024, "1.0 KiB"),
        (64_000, "62 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 30, "3.0 GiB"),
    ],
)
def test_sizes(n_bytes: int, text: str) -> None:
    assert size(n_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.04, "0.0 s"),
        (2.5, "2.5 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3_900, "1 h 5 min"),
        (86_400, "1 d"),
        (8 * 86_400, "1 w 1 d"),
        (95, "1 min 35 s"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_a_moment_further_than_any_calendar_goes_is_for_ever() -> None:
    assert stamp(2**62) == "for ever"


@pytest.mark.parametrize(
    ("by", "ids"),
    [("id", [1, 2, 3]), ("queue", [2, 3, 1]), ("rtt", [3, 1, 2]), ("nick", [3, 1, 2])],
)
def test_connections_are_sorted_by_what_one_looks_for(by: str, ids: list[int]) -> None:
    rows: list[dict[str, Any]] = [
        {"id": 1, "queued_bytes": 0, "rtt_ms": 1.0, "nick": "b"},
        {"id": 2, "queued_bytes": 9, "rtt_ms": None, "nick": "c"},
        {"id": 3, "queued_bytes": 5, "rtt_ms": 7.5, "nick": "a"},
    ]
    assert [row["id"] for row in sorted_rows(rows, Namespace(sort=by))] == ids

"""chatproto.client.terminal.leftoff."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatproto.client.terminal.leftoff import LeftOff, state_path


def test_the_next_run_knows_where_this_one_ended(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.json"
    LeftOff(path, "host").save({"lobby": 7, "ops": 1}, 5)
    LeftOff(path, "other").save({"lobby": 9}, 6)
    LeftOff(path, "host").save({"ops": 3}, 5)
    again = LeftOff(path, "host")
    assert (again.seen("lobby", 5), again.seen("ops", 5), again.seen("dev", 5)) == (7, 3, 0)
    assert LeftOff(path, "other").seen("lobby", 6) == 9
    assert [file.name for file in path.parent.iterdir()] == ["state.json"]


def test_a_server_that_counts_anew_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    LeftOff(path, "host").save({"lobby": 7}, 5)
    assert LeftOff(path, "host").seen("lobby", 6) == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"host": 3}',
        '{"host": {"lobby": 3}}',
        '{"host": {"lobby": ["x", 1]}}',
        "[" * 9_999,
    ],
)
def test_a_file_that_makes_no_sense_counts_as_empty(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text)
    left_off = LeftOff(path, "host")
    assert left_off.seen("lobby", 1) == 0
    left_off.save({"lobby": 7}, 1)
    assert LeftOff(path, "host").seen("lobby", 1) == 7


def test_a_place_that_cannot_be_written_is_let_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    left_off = LeftOff(tmp_path / "file" / "state.json", "host")
    left_off.save({"lobby": 7}, 1)
    assert left_off.seen("lobby", 1) == 0


def test_it_is_where_the_desktop_has_such_things(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert state_path() == Path("/somewhere/chatproto/left-off.json")
    monkeypatch.setenv("XDG_STATE_HOME", "")
    monkeypatch.setenv("HOME", "/home/ann")
    assert state_path() == Path("/home/ann/.local/state/chatproto/left-off.json")

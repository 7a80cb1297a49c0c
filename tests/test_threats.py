"""docs/threats.md tells no lies: the limits, tests and files that it names are there, and no limit lacks."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from chatproto.limits import HistoryLimits, Limits, WebSocketLimits

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "threats.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in PAGE.splitlines()
    if line.startswith("| ") and line.count("|") == 5
]

LIMITS = {
    **{known.name: known.default for kind in (Limits, HistoryLimits) for known in fields(kind)},
    **{f"WebSocketLimits.{known.name}": known.default for known in fields(WebSocketLimits)},
}
SAID = re.findall(r"`((?:WebSocketLimits\.)?[a-z_]+)` \(([\d,.]+)(?:: [^)]*)?\)", PAGE)
TESTS = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)))
FILES = sorted(set(re.findall(r"`([\w/-]+\.(?:py|pyx|js|md))(?:::\w+)?`", PAGE)))


@cache
def functions(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize(("path", "name"), TESTS)
def test_a_test_that_is_named_is_there(path: str, name: str) -> None:
    assert name.startswith("test_")
    assert name in functions(ROOT / "tests" / path)


@pytest.mark.parametrize("path", FILES)
def test_a_file_that_is_named_is_there(path: str) -> None:
    assert any((ROOT / folder / path).exists() for folder in ("", "tests", "chatproto"))


def test_limits_that_are_named_exist_with_that_default() -> None:
    assert len(SAID) > 50
    for name, default in SAID:
        assert float(default.replace(",", "")) == LIMITS[name], name


def test_every_limit_has_its_place() -> None:
    assert LIMITS.keys() - {name for name, _ in SAID} == set()


def test_every_attack_has_what_bounds_it_and_a_test_or_what_is_left() -> None:
    attacks = [row for row in ROWS if row[0] != "attack"]
    assert len(attacks) > 50
    for attack, bounds, shown, left in attacks:
        assert attack
        assert bounds
        assert shown or left, attack
        assert not shown or re.fullmatch(r"`[\w/]+\.py(::\w+)?`(, `[\w/]+\.py(::\w+)?`)*", shown), attack
    assert [row[0] for row in attacks if not row[2]] == ["lying"]

"""docs/tables.py: the tables of docs/protocol.md are made from the code, and are current."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def tables(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(DOCS / "tables.py"), *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A copy of the protocol's page with a table that is not current."""
    stale = tmp_path / "protocol.md"
    text = (DOCS / "protocol.md").read_text("utf-8")
    stale.write_text(text.replace("token:u64", "token:u32"), "utf-8")
    assert stale.read_text("utf-8") != text
    return stale


def test_the_tables_are_current() -> None:
    found = tables("--check")
    assert (found.returncode, found.stderr) == (0, "")


def test_the_check_says_what_to_do_and_changes_nothing(page: Path) -> None:
    before = page.read_text("utf-8")
    found = tables("--check", "--page", str(page))
    assert found.returncode == 1
    assert found.stderr == f"The tables in {page} are not current: run python docs/tables.py\n"
    assert page.read_text("utf-8") == before


def test_the_tables_are_rewritten_in_place_and_the_rest_is_left_alone(page: Path) -> None:
    assert tables("--page", str(page)).returncode == 0
    assert page.read_text("utf-8") == (DOCS / "protocol.md").read_text("utf-8")


def test_a_page_that_lost_a_marker_is_refused(page: Path) -> None:
    page.write_text(page.read_text("utf-8").replace("<!-- table: errors -->", ""), "utf-8")
    found = tables("--page", str(page))
    assert found.returncode != 0
    assert "the page has each of the tables client, server, errors once" in found.stderr

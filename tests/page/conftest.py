"""Browsers for the tests of the page."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from live import Server

if TYPE_CHECKING:
    from page.people import Person
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, driven by Playwright."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed")
    from page.people import chromium_at

    with chromium_at(path) as browser:
        yield browser


@pytest.fixture
def person(chromium: Browser, server: Server) -> Iterator[Callable[..., Person]]:
    """Makes people at browsers. No page of theirs may have complained when the test is over."""
    from page.people import Person

    people: list[Person] = []

    def make(nick: str = "", port: int = 0, url: str = "", **options: Any) -> Person:
        made = Person(chromium, url or f"http://127.0.0.1:{port or server.port}/", **options)
        people.append(made)
        if nick:
            made.enter(nick)
        return made

    yield make
    for made in people:
        made.context.close()
    assert [fault for made in people for fault in made.faults] == []

"""The page in short: two people talk, one of them is hostile, one reloads. The rest is in the slow tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from live import Server
from page.people import Person, say
from playwright.sync_api import expect

pytestmark = pytest.mark.system


def test_two_people_talk_and_one_reloads(person: Callable[..., Person], server: Server) -> None:
    ann, bob = person("ann"), person("bob")
    ann.type("hello")
    bob.sees("hello")
    bob.type("hi ann")
    ann.sees("hello", "hi ann")
    hostile = "<img src=x onerror=alert(1)> <script>alert(2)</script>"
    say(server.join("mallory"), hostile)
    ann.sees("hello", "hi ann", hostile)
    expect(ann.log.locator(".text :not(mark)")).to_have_count(0)
    ann.page.reload()
    expect(ann.page.locator("#own-nick")).to_have_text("ann")
    ann.sees("hello", "hi ann", hostile)
    ann.type("back again")
    bob.sees_last("back again")

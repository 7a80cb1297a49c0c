"""Whoever cannot see well, or has no mouse: axe finds nothing, and everything goes by the keyboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from live import Server
from page.people import NARROW, WIDE, Person
from playwright.sync_api import Page, expect

from chatproto.wire.messages import Ack, Chat, Say, Tell

pytestmark = [pytest.mark.system, pytest.mark.slow]

People = Callable[..., Person]

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
LOOKS = [
    pytest.param({"color_scheme": scheme, "viewport": size}, id=f"{scheme}-{size['width']}")
    for scheme in ("light", "dark")
    for size in (WIDE, NARROW)
]


def violations(page: Page) -> list[str]:
    """What axe finds, with the elements concerned."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm install --prefix tests/page")
    page.evaluate(AXE.read_text("utf-8"))
    found: dict[str, Any] = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    assert found["passes"]
    return [
        f"{violation['id']}: {violation['help']}: {node['html'][:200]} {node.get('failureSummary', '')}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


def talk(server: Server) -> Any:
    """Something of everything."""
    bob = server.join("bob")
    bob.send(Say(1, "", "hello ann, see https://a.example/x"), Say(2, "", "/me waves"), Say(3, "", "a\nb"))
    for nick in ["carla", "dmitri", "eve", "фёдор", "grace", "李", "ivan", "judy", "mallory"]:
        other = server.join(nick)
        other.send(Say(1, "", f"I am {nick}"), Say(2, "", "and I have more to say"))
        other.until(Ack, lambda ack: ack.id == 2)
        other.close()
    return bob


@pytest.mark.parametrize("look", LOOKS)
class TestAxeFindsNothing:
    def test_at_the_door(self, person: People, look: dict[str, Any]) -> None:
        me = person(**look)
        assert violations(me.page) == []
        me.page.keyboard.press("Enter")
        expect(me.page.get_by_role("alert")).not_to_be_empty()
        assert violations(me.page) == []

    def test_in_the_chat(self, person: People, server: Server, look: dict[str, Any]) -> None:
        bob = talk(server)
        ann = person("ann", **look)
        ann.type("mine", "x" * 5_000)
        expect(ann.log.locator(".refused")).to_have_count(1)
        bob.send(Tell(9, "ann", "psst"))
        expect(ann.page.locator("#person-list .badge")).to_have_text("1 unread")
        assert violations(ann.page) == []
        if look["viewport"] == NARROW:
            for name in ("Conversations", "People"):
                ann.page.get_by_role("button", name=name, exact=True).click()
                ann.page.wait_for_timeout(300)
                assert violations(ann.page) == []
                ann.page.keyboard.press("Escape")

    def test_in_the_dialogs(self, person: People, server: Server, look: dict[str, Any]) -> None:
        _bob = talk(server)
        ann = person("ann", **look)
        ann.type("/help")
        assert violations(ann.page) == []
        ann.page.keyboard.press("Escape")
        ann.type("/search hello")
        expect(ann.page.locator("#search-count")).to_have_text("1 message")
        assert violations(ann.page) == []
        ann.page.keyboard.press("Escape")
        expect(ann.page.locator("#search")).to_be_hidden()

    def test_without_a_connection(self, person: People, server: Server, look: dict[str, Any]) -> None:
        _bob = talk(server)
        ann = person("ann", **look)
        server.process.kill()
        ann.sees_banner("Not connected")
        ann.type("is anybody there?")
        expect(ann.log.locator(".waiting")).to_have_count(1)
        assert violations(ann.page) == []

    def test_and_nothing_is_wider_than_the_window(
        self, person: People, server: Server, look: dict[str, Any]
    ) -> None:
        bob = talk(server)
        bob.send(Say(7, "", "x" * 3_000), Say(8, "", "https://a.example/" + "y" * 500))
        ann = person("ann", **look)
        ann.page.set_viewport_size({"width": min(look["viewport"]["width"], 320), "height": 500})
        ann.sees_last("https://a.example/" + "y" * 500)
        for place in (ann.page.locator("html"), ann.log):
            assert place.evaluate("one => one.scrollWidth <= one.clientWidth")


class TestTheKeyboardAlone:
    def test_comes_in_talks_and_leaves(self, person: People, server: Server) -> None:
        bob = server.join("bob")
        ann = person()
        keys = ann.page.keyboard
        expect(ann.page.get_by_label("Your name here")).to_be_focused()
        keys.type("ann")
        keys.press("Enter")
        expect(ann.page.get_by_label("Message in lobby")).to_be_focused()
        keys.type("hello")
        keys.press("Enter")
        assert bob.until(Chat).text == "hello"
        keys.type("/help")
        keys.press("Enter")
        expect(ann.page.get_by_role("dialog")).to_be_visible()
        keys.press("Escape")
        keys.type("/quit")
        keys.press("Enter")
        expect(ann.page.get_by_label("Your name here")).to_be_focused()

    def test_reaches_everything_and_sees_where_it_is(self, person: People, server: Server) -> None:
        _bob = server.join("bob")
        ann = person("ann")
        reached = []
        for _ in range(30):
            ann.page.keyboard.press("Tab")
            outlined = ann.page.evaluate(
                """() => {
                    const one = document.activeElement
                    const shown = [one, one.closest('.composer')].filter(Boolean)
                    const isOutlined = shown.some((it) => getComputedStyle(it).outlineStyle !== 'none')
                    const name = one.getAttribute('aria-label') ?? one.innerText ?? ''
                    return [name, one === document.body || isOutlined]
                }"""
            )
            reached.append(outlined)
        names = [name for name, _ in reached]
        assert {"lobby", "Leave lobby", "Enter the room", "Messages in lobby", "Send"} <= set(names)
        assert {"Change your name", "Leave the chat", "Search this room", "Help"} <= set(names)
        assert [name for name, is_outlined in reached if not is_outlined] == []

    def test_opens_and_closes_the_sides_of_a_narrow_window(self, person: People) -> None:
        ann = person("ann", viewport=NARROW)
        button = ann.page.get_by_role("button", name="Conversations", exact=True)
        button.focus()
        ann.page.keyboard.press("Enter")
        expect(button).to_have_attribute("aria-expanded", "true")
        expect(ann.page.locator("#room-list .tab")).to_be_focused()
        ann.page.keyboard.press("Escape")
        expect(button).to_be_focused()
        expect(button).to_have_attribute("aria-expanded", "false")
        expect(ann.page.locator("#rooms")).to_be_hidden()

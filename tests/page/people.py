"""People at browsers: Chromium with the page in it, and what they do and see there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from live import PATIENCE_S, Framed
from playwright.sync_api import Browser, Page, expect, sync_playwright

from chatproto.wire.messages import Ack, Say

SWITCHES = [
    "--no-sandbox",  # whoever runs the tests may be root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    # Nobody else is anywhere.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
]
WIDE = {"width": 1280, "height": 800}
NARROW = {"width": 390, "height": 780}

# What the network says when a test has cut it.
_EXPECTED = re.compile(r"net::ERR_|^WebSocket connection to .* failed: Connection closed before")

expect.set_options(timeout=PATIENCE_S * 1_000)


@contextmanager
def chromium_at(path: str) -> Iterator[Browser]:
    """A Chromium that runs."""
    # Playwright holds the thread's event loop, so that nobody else can have one meanwhile.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=SWITCHES)
        yield browser
        browser.close()


def say(client: Framed, *texts: str, room: str = "") -> None:
    """Let a client that is no browser say these, and wait until all have their place."""
    first = len(client.of(Ack))
    client.send(*(Say(first + index, room, text) for index, text in enumerate(texts, 1)))
    client.gather(lambda: len(client.of(Ack)) == first + len(texts), "all are acknowledged")


class Person:
    """Somebody with a browser of their own. `faults` has what the page complained about."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        settings: dict[str, Any] = {"locale": "en-GB", "timezone_id": "Europe/Berlin", "viewport": WIDE}
        self.context = browser.new_context(**(settings | options))
        self.context.set_default_timeout(PATIENCE_S * 1_000)
        self.url = url
        self.faults: list[str] = []
        self.page = self.open_tab()

    def open_tab(self) -> Page:
        """A tab with the page in it."""
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda line: self._note(line.type, line.text))
        page.on("dialog", lambda dialog: self.faults.append(f"a dialog: {dialog.message}"))
        page.goto(self.url)
        return page

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not _EXPECTED.search(text):
            self.faults.append(text)

    # --- what they do -------------------------------------------------------------------------------------

    def enter(self, nick: str) -> None:
        """Come in under a name, and be there."""
        self.page.get_by_label("Your name here").fill(nick)
        self.page.keyboard.press("Enter")
        expect(self.page.locator("#own-nick")).to_have_text(nick)
        expect(self.page.locator("#room-about")).to_contain_text("p")

    def type(self, *texts: str) -> None:
        """Write texts, and send each."""
        for text in texts:
            self.page.locator("#composer-text").fill(text)
            self.page.locator("#composer-text").press("Enter")

    def open_conversation(self, name: str) -> None:
        """Choose it at the side."""
        self.page.locator(".tab", has_text=name).click()
        expect(self.page.locator("#room-name")).to_have_text(name)

    # --- what they see ------------------------------------------------------------------------------------

    @property
    def log(self) -> Any:
        """The messages of the conversation that is open."""
        return self.page.locator(".log:not([hidden])")

    @property
    def texts(self) -> list[str]:
        """What is said there, in its order."""
        return list(self.log.locator(".message .text").all_inner_texts())

    def sees(self, *texts: str) -> None:
        """These are there, and confirmed, and nothing else."""
        expect(self.log.locator(".message .text")).to_have_text(list(texts))
        expect(self.log.locator(".message.waiting")).to_have_count(0)

    def sees_last(self, text: str) -> None:
        """This is the last that is there."""
        expect(self.log.locator(".message .text").last).to_have_text(text)

    def sees_note(self, text: str) -> None:
        """A line of the page's own says so."""
        expect(self.log.locator(".note", has_text=text)).to_have_count(1)

    def sees_banner(self, text: str) -> None:
        """The connection is not as it should be, and the page says so."""
        expect(self.page.locator("#banner")).to_contain_text(text)

    def sees_no_banner(self) -> None:
        """The connection is as it should be."""
        expect(self.page.locator("#banner")).to_be_hidden()

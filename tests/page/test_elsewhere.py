"""The page below a path of somebody's site, and chat.js in somebody's own page."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from live import Server, eventually, free_port, listens
from page.people import Person, say
from playwright.sync_api import Browser, expect

from chatproto.wire.messages import Chat

pytestmark = [pytest.mark.system, pytest.mark.slow]

EXAMPLE = Path(__file__).parents[2] / "examples" / "website.py"

PAGE = """<!doctype html>
<title>somebody's page</title>
<ul id="heard"></ul>
<script type="module">
import { Chat } from "http://127.0.0.1:%(port)d/chat.js"
const heard = document.getElementById("heard")
const chat = new Chat({ url: "ws://127.0.0.1:%(port)d/chat", nick: "page", subprotocol: "%(subprotocol)s" })
const show = (text) => heard.append(Object.assign(document.createElement("li"), { textContent: text }))
chat.addEventListener("chat", ({ detail }) => show(`${detail.nick}: ${detail.text}`))
const { chats, nicks } = await chat.join("lobby")
show(`${nicks.join()}; ${chats.map(({ text }) => text).join()}`)
const said = await chat.say("lobby", "hello \\u{1f44b} from elsewhere").receipt
show(`acknowledged as ${said.seq}`)
show((await chat.history("lobby")).chats.map(({ text }) => text).join())
show((await chat.search("lobby", "elsewhere")).chats.length)
show(await chat.rename("other"))
</script>
"""


@contextmanager
def served(pages: list[str]) -> Iterator[str]:
    """A site with one page, the last of these; its origin."""

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/" else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            if self.path == "/":
                self.wfile.write(pages[-1].encode())

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{site.server_port}"
        site.shutdown()


@pytest.mark.parametrize("subprotocol", ["chat.v1.json", "chat.v1.bin"])
def test_somebody_s_own_page_talks_by_chat_js(chromium: Browser, subprotocol: str) -> None:
    pages: list[str] = []
    with served(pages) as origin, Server("--origin", origin) as server:
        pages.append(PAGE % {"port": server.port, "subprotocol": subprotocol})
        bob = server.join("bob")
        say(bob, "before")
        page = chromium.new_page()
        page.goto(origin)
        assert bob.until(Chat).text == "hello \U0001f44b from elsewhere"
        expect(page.locator("li").nth(4)).to_have_text("other")
        say(bob, "hi page")
        expect(page.locator("li")).to_have_text(
            [
                "bob,page; before",
                "acknowledged as 2",
                "before,hello \U0001f44b from elsewhere",
                "1",
                "other",
                "bob: hi page",
            ]
        )
        page.close()


def test_the_page_works_below_a_path_of_another_site(person: Callable[..., Person]) -> None:
    port = free_port()
    site = subprocess.Popen([sys.executable, str(EXAMPLE), f"tcp:{port}:interface=127.0.0.1"])
    try:
        eventually(lambda: listens(port))
        ann = person("ann", url=f"http://127.0.0.1:{port}/talk")
        assert ann.page.url.startswith(f"http://127.0.0.1:{port}/talk/")
        bob = person("bob", url=f"http://127.0.0.1:{port}/talk/")
        ann.type("hello")
        bob.sees("hello")
    finally:
        site.terminate()
        site.wait()

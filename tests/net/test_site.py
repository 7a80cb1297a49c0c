"""The page over HTTP: on the one port, and in a site of one's own."""

from __future__ import annotations

from http.client import HTTPConnection
from importlib.resources import files
from typing import Any
from urllib.parse import urljoin

import pytest
from live import PATIENCE_S, Server, patiently
from net.memory import Chat, Line
from net.webpeople import handshake
from twisted.internet.task import Clock
from twisted.web.resource import Resource
from twisted.web.server import Site

from chatproto import ChatResource, Hub, PageResource

FILES = {
    file.name: file.read_bytes()
    for file in files("chatproto.page").iterdir()
    if file.is_file() and not file.name.endswith(".py")
}
TYPES = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}


class Answer:
    """One answer, taken apart."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        status, *fields = head.decode().split("\r\n")
        self.status = int(status.split()[1])
        self.headers = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}


def asked(line: Line, path: str, *fields: str, method: str = "GET") -> Answer:
    line.send("\r\n".join([f"{method} {path} HTTP/1.1", "Host: chat.example", *fields, "", ""]).encode())
    return Answer(line.received())


def answer(path: str, *fields: str, method: str = "GET") -> Answer:
    return asked(Chat().connect(), path, *fields, method=method)


PATHS = [("/" if name == "index.html" else f"/{name}", name) for name in sorted(FILES)]


@pytest.mark.parametrize(("path", "name"), PATHS)
class TestFiles:
    def test_get_sends_the_file_with_its_type(self, path: str, name: str) -> None:
        found = answer(path)
        assert (found.status, found.body) == (200, FILES[name])
        kind = name.rpartition(".")[2]
        assert found.headers["content-type"] == TYPES.get(kind, "text/javascript; charset=utf-8")
        assert found.headers["content-length"] == str(len(FILES[name]))

    def test_head_sends_the_same_without_the_file(self, path: str, name: str) -> None:
        got, head = answer(path), answer(path, method="HEAD")
        different = {"date"}
        assert head.status == 200
        assert head.body == b""
        assert {k: v for k, v in head.headers.items() if k not in different} == {
            k: v for k, v in got.headers.items() if k not in different
        }

    def test_who_has_it_is_told_that_it_is_current(self, path: str, name: str) -> None:
        etag = answer(path).headers["etag"]
        for field in (etag, f"W/{etag}", f'"old", {etag}', "*"):
            found = answer(path, f"If-None-Match: {field}")
            assert (found.status, found.body) == (304, b"")
            assert found.headers["etag"] == etag
            assert found.headers["cache-control"] == "no-cache"

    def test_who_has_another_gets_it(self, path: str, name: str) -> None:
        etag = answer(path).headers["etag"]
        for field in ('"old"', etag.strip('"'), '""', ""):
            assert answer(path, f"If-None-Match: {field}").status == 200

    def test_nothing_may_run_but_what_is_here(self, path: str, name: str) -> None:
        headers = answer(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy.pop("default-src") == "'none'"
        for directive in ("script-src", "style-src", "img-src", "connect-src"):
            assert policy.pop(directive) == "'self'"
        for directive in ("base-uri", "form-action", "frame-ancestors", "trusted-types"):
            assert policy.pop(directive) == "'none'"
        assert policy == {"require-trusted-types-for": "'script'"}
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"

    def test_only_the_protocol_s_part_is_for_pages_from_elsewhere(self, path: str, name: str) -> None:
        headers = answer(path).headers
        is_shared = name == "chat.js"
        assert headers.get("access-control-allow-origin") == ("*" if is_shared else None)
        assert headers["cross-origin-resource-policy"] == ("cross-origin" if is_shared else "same-origin")

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
    def test_other_methods_are_refused(self, path: str, name: str, method: str) -> None:
        found = answer(path, "Content-Length: 0", method=method)
        assert (found.status, found.headers["allow"]) == (405, "GET, HEAD")

    def test_there_is_nothing_below(self, path: str, name: str) -> None:
        assert answer(f"{path.rstrip('/')}/more").status == 404


def test_different_files_have_different_tags() -> None:
    tags = {answer(path).headers["etag"] for path, _ in PATHS}
    assert len(tags) == len({FILES[name] for _, name in PATHS})


@pytest.mark.parametrize(
    "path",
    [
        "/index.html",
        "/__init__.py",
        "/..",
        "/../__init__.py",
        "/%2e%2e/__init__.py",
        "/page",
        "//",
        "/PAGE.JS",
        "/%00",
    ],
)
def test_there_is_nothing_else(path: str) -> None:
    found = answer(path)
    assert found.status == 404
    assert found.headers["content-type"] == "text/plain; charset=utf-8"
    assert found.headers["x-content-type-options"] == "nosniff"
    assert found.body.startswith(b"There is no page here.")
    assert "etag" not in found.headers


def test_who_wants_a_websocket_is_told_where_there_is_one() -> None:
    line = Chat().connect()
    line.send(handshake(path="/"))
    found = Answer(line.received())
    assert found.status == 404
    assert b"its WebSocket at /chat" in found.body


def test_a_query_changes_nothing() -> None:
    assert answer("/?from=mail").body == FILES["index.html"]


def test_several_requests_of_one_connection_are_answered_one_after_the_other() -> None:
    line = Chat().connect()
    for path, name in PATHS:
        assert asked(line, path).body == FILES[name]


def test_a_page_s_connection_may_become_a_websocket() -> None:
    line = Chat().connect()
    assert asked(line, "/").status == 200
    line.send(handshake())
    assert line.received().startswith(b"HTTP/1.1 101 ")


class TestPipelining:
    def test_who_does_not_read_gets_no_more_answers_than_one_past_the_bound(self) -> None:
        line = Chat().connect()
        line.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        line.received()
        # What a transport does when too much waits in it.
        channel: Any = line.producer
        channel.pauseProducing()
        line.protocol.dataReceived(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
        assert line.received() == b""
        channel.resumeProducing()
        assert line.received().count(b"HTTP/1.1 200 ") == 100

    def test_requests_without_end_in_one_piece_do_not_fill_the_memory(self) -> None:
        with Server() as server, server.raw(receive_buffer_bytes=4_096) as plain:
            warm = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
            warm.request("GET", "/chat.js")
            size = len(warm.getresponse().read())
            warm.close()
            before = server.rss_bytes()
            request = b"GET /chat.js HTTP/1.1\r\nHost: x\r\n\r\n"
            count = 60_000 // len(request)
            plain.sendall(request * count)  # asks for some 60 MB, and reads nothing
            worst = before
            for _ in zip(range(50), patiently(), strict=False):
                worst = max(worst, server.rss_bytes())
            assert count * size > 50_000_000
            assert worst - before < 8_000_000


class Mounted:
    """The page at `/talk` in a site of one's own."""

    def __init__(self) -> None:
        self.clock = Clock()
        root = Resource()
        root.putChild(b"talk", PageResource(ChatResource(Hub(self.clock))))
        self.site: Any = Site(root, reactor=self.clock)

    def ask(self, path: str, *headers: str, method: str = "GET") -> Answer:
        line = Line(self.clock)
        line.protocol = self.site.buildProtocol(None)
        line.protocol.makeConnection(line)
        return asked(line, path, *headers, method=method)


class TestMounted:
    def test_the_page_and_its_files_are_below_the_place(self) -> None:
        assert Mounted().ask("/talk/").body == FILES["index.html"]
        assert Mounted().ask("/talk/page.js").body == FILES["page.js"]

    def test_the_chat_is_beside_the_page(self) -> None:
        found = Mounted().ask("/talk/chat")
        assert found.status == 426
        assert "upgrade" in found.headers

    def test_other_methods_are_refused_without_the_slash(self) -> None:
        assert Mounted().ask("/talk", "Content-Length: 0", method="POST").status == 405

    @pytest.mark.parametrize("before", ["", "/prefix", "/a/b"])
    def test_without_the_slash_one_is_sent_to_the_page_behind_any_proxy(self, before: str) -> None:
        found = Mounted().ask("/talk")
        assert found.status == 308
        place = urljoin(f"https://chat.example{before}/talk", found.headers["location"])
        assert place == f"https://chat.example{before}/talk/"

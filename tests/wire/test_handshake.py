"""chatproto.wire.handshake over chatproto.wire.http: the opening handshake (RFC 6455, section 4)."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import time
from collections.abc import Iterable, Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire.streams import PROPERTY, cuts, in_two, one_by_one

from chatproto.wire.deflate import Deflate
from chatproto.wire.handshake import (
    Answer,
    ClientHandshake,
    HandshakeFailed,
    Request,
    accept_key,
    check_request,
    make_answer,
    origin_allowed,
)
from chatproto.wire.headers import Headers
from chatproto.wire.http import Head, HeadReader, Refusal, parse_request

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # the example of RFC 6455, section 1.3, with what is answered to it
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

GOOD = (
    "Host: example.com",
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
)


def request_bytes(*more: str, start: str = "GET /chat HTTP/1.1", without: str = "") -> bytes:
    """A good request, with *more* headers and without the one that is named."""
    lines = [line for line in GOOD if not without or not line.startswith(without + ":")]
    return "\r\n".join([start, *lines, *more, "", ""]).encode("latin-1")


def judged(
    pieces: bytes | Iterable[bytes],
    *,
    max_bytes: int = 16_384,
    max_headers: int = 100,
    is_secure: bool = False,
) -> tuple[Request | Refusal | None, bytes]:
    """What a server makes of *pieces*, and what is left behind the request."""
    reader = HeadReader(max_bytes, max_headers)
    rest = b""
    head: bytes | None = None
    for piece in [pieces] if isinstance(pieces, bytes) else pieces:
        if head is not None:
            rest += piece
            continue
        head = reader.receive(piece)
        if head is not None:
            rest = reader.rest
    if head is None:
        return reader.fault, b""
    parsed = parse_request(head)
    return (parsed if isinstance(parsed, Refusal) else check_request(parsed, "peer", is_secure)), rest


def requested(
    *more: str, without: str = "", start: str = "GET /chat HTTP/1.1", is_secure: bool = False
) -> Request:
    """A request that is taken."""
    found, _ = judged(request_bytes(*more, without=without, start=start), is_secure=is_secure)
    assert isinstance(found, Request), found
    return found


def refused(*more: str, without: str = "", start: str = "GET /chat HTTP/1.1") -> Refusal:
    """The refusal of a request."""
    return refused_bytes(request_bytes(*more, without=without, start=start))


def refused_bytes(data: bytes) -> Refusal:
    found, _ = judged(data)
    assert isinstance(found, Refusal), found
    return found


def read_response(data: bytes, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """A response as the standard library reads it: it must be all of *data*."""

    class Connected:
        def __init__(self) -> None:
            self.file = io.BytesIO(data)

        def makefile(self, mode: str) -> io.BytesIO:
            return self.file

    connected = Connected()
    response = http.client.HTTPResponse(cast(Any, connected), method=method)
    response.begin()
    body = response.read()
    left = connected.file.read() if not connected.file.closed else b""
    assert left == b""
    headers = {name.lower(): value for name, value in response.getheaders()}
    assert len(headers) == len(response.getheaders())
    return response.status, headers, body


def test_the_key_is_answered_as_in_the_example_of_the_rfc() -> None:
    assert accept_key(KEY) == ACCEPT


# --- requests that are taken --------------------------------------------------------------------------------

# Header by header what these clients send, in their order and spelling.
CLIENTS = {
    "curl": (
        "GET /chat HTTP/1.1",
        "Host: localhost:8080",
        "User-Agent: curl/8.11.0",
        "Accept: */*",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {KEY}",
    ),
    "Firefox": (
        "GET /chat?room=lobby HTTP/1.1",
        "Host: chat.example.com",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
        "Accept: */*",
        "Accept-Language: en-US,en;q=0.5",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "Sec-WebSocket-Version: 13",
        "Origin: https://chat.example.com",
        "Sec-WebSocket-Protocol: chat.v1.bin, chat.v1.json",
        "Sec-WebSocket-Extensions: permessage-deflate",
        f"Sec-WebSocket-Key: {KEY}",
        "DNT: 1",
        "Sec-GPC: 1",
        "Connection: keep-alive, Upgrade",
        "Cookie: session=0123456789abcdef; theme=dark",
        "Sec-Fetch-Dest: empty",
        "Sec-Fetch-Mode: websocket",
        "Sec-Fetch-Site: same-origin",
        "Pragma: no-cache",
        "Cache-Control: no-cache",
        "Upgrade: websocket",
    ),
    "Chromium": (
        "GET /chat HTTP/1.1",
        "Host: 127.0.0.1:8080",
        "Connection: Upgrade",
        "Pragma: no-cache",
        "Cache-Control: no-cache",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "HeadlessChrome/131.0.0.0 Safari/537.36",
        "Upgrade: websocket",
        "Origin: http://127.0.0.1:8080",
        "Sec-WebSocket-Version: 13",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "Accept-Language: en-US,en;q=0.9",
        "Cookie: a=b",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        "Sec-WebSocket-Protocol: chat.v1.json",
    ),
    "Safari": (
        "GET /chat HTTP/1.1",
        "Host: chat.example.com",
        "Origin: https://chat.example.com",
        "Pragma: no-cache",
        "Accept: */*",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-Fetch-Site: same-origin",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Extensions: permessage-deflate",
        "Cache-Control: no-cache",
        "Sec-Fetch-Mode: websocket",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Accept-Encoding: gzip, deflate",
        "Sec-Fetch-Dest: websocket",
    ),
    "Node ws": (
        "GET /chat HTTP/1.1",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {KEY}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        "Sec-WebSocket-Protocol: chat.v1.bin,chat.v1.json",
        "Host: localhost:8080",
    ),
    "Node's own": (
        "GET /chat HTTP/1.1",
        "host: localhost:8080",
        "connection: upgrade",
        "upgrade: websocket",
        f"sec-websocket-key: {KEY}",
        "sec-websocket-version: 13",
        "sec-websocket-extensions: permessage-deflate; client_max_window_bits",
        "accept: */*",
        "accept-language: *",
        "sec-fetch-mode: websocket",
        "user-agent: node",
        "pragma: no-cache",
        "cache-control: no-cache",
        "accept-encoding: gzip, deflate",
    ),
    "websockets": (
        "GET /chat HTTP/1.1",
        "Host: localhost:8080",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        "User-Agent: Python/3.11 websockets/17.4",
    ),
    "aiohttp": (
        "GET /chat HTTP/1.1",
        "Host: localhost:8080",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
        "client_no_context_takeover; server_max_window_bits=12; client_max_window_bits",
        "Accept: */*",
        "Accept-Encoding: gzip, deflate",
        "User-Agent: Python/3.11 aiohttp/3.11",
    ),
    "a proxy": (
        "GET http://Chat.example.com:8080/chat?a=b HTTP/1.1",
        "HOST:chat.example.com:8080",
        "UPGRADE:h2c, WebSocket ,HTTP/2.0",
        "CONNECTION:\tkeep-alive",
        "Connection: \tUPGRADE , HTTP2-Settings",
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        "Sec-Websocket-Version:13 \t ",
        f"sec-websocket-KEY:{KEY}",
        "Sec-WebSocket-Protocol: chat.v1.bin",
        "Sec-WebSocket-Protocol: ,chat.v1.json,",
        "Sec-WebSocket-Extensions: x-webkit-deflate-frame",
        'Sec-WebSocket-Extensions: permessage-deflate ; server_max_window_bits = "10"',
        "Via: 1.1 proxy (\xe9\xff)",
        "X-Forwarded-For: 192.0.2.1",
        "X-Empty:",
        "Content-Length: 0",
    ),
}


@pytest.mark.parametrize("lines", CLIENTS.values(), ids=CLIENTS)
class TestRealClient:
    def data(self, lines: Sequence[str]) -> bytes:
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def test_is_taken_and_answered(self, lines: Sequence[str]) -> None:
        found, _ = judged(self.data(lines))
        assert isinstance(found, Request), found
        assert found.path == "/chat"
        assert found.key == KEY
        subprotocol = found.subprotocols[-1] if found.subprotocols else None
        answer, response = make_answer(found, subprotocol, Deflate())
        head, end, rest = response.partition(b"\r\n\r\n")
        assert (end, rest) == (b"\r\n\r\n", b"")
        assert head.split(b"\r\n")[0] == b"HTTP/1.1 101 Switching Protocols"
        assert f"Sec-WebSocket-Accept: {ACCEPT}".encode() in head.split(b"\r\n")
        offers_deflate = any("permessage-deflate" in line for line in lines)
        assert (answer.deflate is not None) is offers_deflate is (b"permessage-deflate" in head)
        assert origin_allowed(found)

    def test_is_taken_in_any_cut_in_two(self, lines: Sequence[str]) -> None:
        data = self.data(lines) + b"\x81\x00\r\n\r\n"
        for pieces in in_two(data):
            found, rest = judged(pieces)
            assert isinstance(found, Request)
            assert rest == b"\x81\x00\r\n\r\n"


class TestRequest:
    def test_shows_the_application_what_came(self) -> None:
        request = requested(
            "Cookie: session=1; theme=dark",
            "Cookie: theme=light",
            "Origin: http://example.com",
            "X-Thing: a",
            "x-thing: b",
            "Sec-WebSocket-Protocol: one, two",
            start="GET /a%20b/?x=1&y=%C3%A9&x=2&z HTTP/1.1",
        )
        assert request.path == "/a%20b/"
        assert request.query_string == "x=1&y=%C3%A9&x=2&z"
        assert request.query == {"x": ["1", "2"], "y": ["é"], "z": [""]}
        assert request.cookies == {"session": "1", "theme": "dark"}
        assert request.headers["X-THING"] == "a, b"
        assert request.subprotocols == ("one", "two")
        assert request.origin == "http://example.com"
        assert request.host == "example.com"
        assert (request.peer, request.is_secure) == ("peer", False)

    def test_cannot_be_changed(self) -> None:
        with pytest.raises(AttributeError):
            requested().path = "/other"  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("target", "path", "query"),
        [
            ("/", "/", ""),
            ("/?", "/", ""),
            ("/a?b?c", "/a", "b?c"),
            ("//a//b", "//a//b", ""),
            ("/%zz%", "/%zz%", ""),
            ('/{a}|[b]^`\\"<>', '/{a}|[b]^`\\"<>', ""),
            ("http://example.com", "/", ""),
            ("HTTPS://example.com?a", "/", "a"),
            ("ws://[::1]:80/a?b", "/a", "b"),
            ("/http://example.com/", "/http://example.com/", ""),
        ],
    )
    def test_may_have_any_path_that_http_allows(self, target: str, path: str, query: str) -> None:
        request = requested(start=f"GET {target} HTTP/1.1")
        assert (request.path, request.query_string) == (path, query)

    def test_is_for_the_host_of_an_absolute_target(self) -> None:
        assert requested(start="GET http://other.example:81/ HTTP/1.1").host == "other.example:81"

    @pytest.mark.parametrize(
        "host", ["a", "a.", "a_b:80", "127.0.0.1", "[::1]", "[fe80::1%25eth0]:8080", "a:"]
    )
    def test_may_have_any_host(self, host: str) -> None:
        assert requested(f"Host: {host}", without="Host").host == host

    def test_may_be_of_a_later_http_1(self) -> None:
        assert requested(start="GET / HTTP/1.9").path == "/"

    @pytest.mark.parametrize("n_bytes", [0, 1, 5, 70_000])
    def test_leaves_what_follows_it(self, n_bytes: int) -> None:
        frames = b"\x82" * n_bytes
        for pieces in (
            [request_bytes() + frames],
            [request_bytes(), frames],
            one_by_one(request_bytes() + frames[:9]),
        ):
            found, rest = judged(pieces)
            assert isinstance(found, Request)
            assert rest in (frames, frames[:9])

    def test_costs_byte_by_byte_what_its_bytes_cost(self) -> None:
        def cost_s(n_bytes: int) -> float:
            data = request_bytes("X: " + "x" * n_bytes)
            reader = HeadReader(max_bytes=2**20)
            started_s = time.process_time()
            heads = [head for piece in one_by_one(data) if (head := reader.receive(piece)) is not None]
            assert heads == [data[:-4]]
            return time.process_time() - started_s

        # 16 times the bytes: looking through all of them each time would be some 256 times the work.
        assert min(cost_s(2**18) for _ in range(2)) < 64 * min(cost_s(2**14) for _ in range(5))


# --- requests that are refused ------------------------------------------------------------------------------


class TestRefusedRequest:
    @pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "CONNECT", "get", "GETT", "PUT"])
    def test_with_another_method_is_told_which_is_allowed(self, method: str) -> None:
        refusal = refused(start=f"{method} /chat HTTP/1.1")
        assert refusal.status == 405
        status, headers, body = read_response(refusal.encode(), method)
        assert (status, headers["allow"]) == (405, "GET")
        assert bool(body) is (method != "HEAD")

    @pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/3.1"])
    def test_of_another_http_is_told_so(self, version: str) -> None:
        assert refused(start=f"GET /chat {version}").status == 505
        refusal = refused(start=f"HEAD /chat {version}")
        assert (refusal.status, refusal.body) == (505, "")

    def test_of_http_2_itself_is_told_so(self) -> None:
        assert refused_bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status == 505

    @pytest.mark.parametrize(
        "upgrade",
        [(), ("Upgrade: h2c",), ("Upgrade: websocket/13",), ("Upgrade: websockets",), ("Upgrade:",)],
    )
    def test_that_does_not_upgrade_is_told_to(self, upgrade: tuple[str, ...]) -> None:
        refusal = refused(*upgrade, without="Upgrade")
        status, headers, body = read_response(refusal.encode())
        assert (status, headers["upgrade"], headers["sec-websocket-version"]) == (426, "websocket", "13")
        assert headers["connection"] == "close, Upgrade"
        assert body

    @pytest.mark.parametrize(
        "version",
        [
            (),
            *(
                (f"Sec-WebSocket-Version: {value}",)
                for value in ("8", "0", "14", "013", "13, 8", "+13", "", "1 3")
            ),
        ],
    )
    def test_of_another_version_is_told_which(self, version: tuple[str, ...]) -> None:
        refusal = refused(*version, without="Sec-WebSocket-Version")
        status, headers, _ = read_response(refusal.encode())
        assert (status, headers["sec-websocket-version"], headers["upgrade"]) == (426, "13", "websocket")

    @pytest.mark.parametrize(
        "line",
        [
            "GET  /chat HTTP/1.1",
            " GET /chat HTTP/1.1",
            "GET /chat HTTP/1.1 ",
            "GET /chat  HTTP/1.1",
            "GET\t/chat\tHTTP/1.1",
            "GET /chat",
            "GET /a b HTTP/1.1",
            "GET /chat http/1.1",
            "GET /chat HTTP/1.10",
            "GET /chat HTTP/11",
            "GET /chat HTTP/1.",
            "GET /ch\xe9t HTTP/1.1",
            "G=T /chat HTTP/1.1",
            "",
            "GET /chat#top HTTP/1.1",
            "GET chat HTTP/1.1",
            "GET * HTTP/1.1",
            "GET example.com:80 HTTP/1.1",
            "GET ftp://example.com/ HTTP/1.1",
            "GET http:///chat HTTP/1.1",
            "GET http://user@example.com/ HTTP/1.1",
            "GET http://example.com:port/ HTTP/1.1",
            "GET http://example.com/#top HTTP/1.1",
            "GET http://example.com#top HTTP/1.1",
            "GET ?a HTTP/1.1",
        ],
    )
    def test_with_a_line_that_is_none_is_bad(self, line: str) -> None:
        assert refused(start=line).status == 400

    @pytest.mark.parametrize(
        ("without", "lines"),
        [
            ("Host", ()),
            ("Host", ("Host:",)),
            ("Host", ("Host: a b",)),
            ("Host", ("Host: a/b",)),
            ("Host", ("Host: user@a",)),
            ("Host", ("Host: a:b",)),
            ("Host", ("Host: a:123456",)),
            ("Host", ("Host: ::1",)),
            ("Host", ("Host: [::1",)),
            ("Host", ("Host: a?",)),
            ("Host", ("Host: \xe9.example",)),
            ("", ("Host: example.com",)),
            ("", ("host: example.com",)),
            ("", (f"Sec-WebSocket-Key: {KEY}",)),
            ("", ("SEC-WEBSOCKET-VERSION: 13",)),
            ("", ("Origin: http://a", "Origin: http://a")),
            ("Connection", ()),
            ("Connection", ("Connection: keep-alive",)),
            ("Connection", ("Connection: Upgraded",)),
            ("Connection", ("Connection: Up grade",)),
            ("Connection", ('Connection: "Upgrade"',)),
            ("Upgrade", ('Upgrade: "websocket"',)),
            ("Upgrade", ("Upgrade: websocket h2c",)),
            ("Sec-WebSocket-Key", ()),
            *(
                ("Sec-WebSocket-Key", (f"Sec-WebSocket-Key: {key}",))
                for key in (
                    "",
                    "dGhlIHNhbXBsZSBub25jZQ",
                    "dGhlIHNhbXBsZSBub25jZQ=",
                    "dGhlIHNhbXBsZSBub25jZQ===",
                    "dGhlIHNhbXBsZSBub25jZ===",
                    "dGhlIHNhbXBsZSBub25jZQQ=",
                    "dGhlIHNhbXBsZSBub25jZQQQ",
                    "dGhlIHNhbXBsZSBub25j",
                    "dGhlIHNhbXBsZSBub25-ZQ==",
                    "dGhlIHNhbXBsZSBub25 ZQ==",
                    "dGhlIHNhbXBsZSBub25jZQ==, x",
                )
            ),
            ("", ("Sec-WebSocket-Protocol: a, a",)),
            ("", ("Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b, a")),
            ("", ("Sec-WebSocket-Protocol: a b",)),
            ("", ('Sec-WebSocket-Protocol: "a"',)),
            ("", ("Sec-WebSocket-Extensions: a b",)),
            ("", ("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=",)),
            ("", ('Sec-WebSocket-Extensions: a; b="c d"',)),
        ],
    )
    def test_that_breaks_the_handshake_is_bad(self, without: str, lines: tuple[str, ...]) -> None:
        assert refused(*lines, without=without).status == 400

    @pytest.mark.parametrize(
        "lines",
        [
            ("Content-Length: 1",),
            ("Content-Length: 00",),
            ("Content-Length: +0",),
            ("Content-Length: 0, 0",),
            ("Content-Length: 0", "Content-Length: 0"),
            ("Content-Length: 0", "content-length: 5"),
            ("Content-Length:",),
            ("Transfer-Encoding: chunked",),
            ("Transfer-Encoding: identity",),
            ("transfer-encoding:",),
            ("Transfer-Encoding : chunked",),
            ("Transfer-Encoding\t: chunked",),
            (" Transfer-Encoding: chunked",),
            ("X: a", " folded"),
            ("X: a", "\tfolded"),
            ("X: a", ""),
            ("X",),
            (":",),
            (": a",),
            ("X Y: a",),
            ("X\xe9: a",),
            ("(X): a",),
            ("X: a\x00",),
            ("X\x00: a",),
            ("X: a\x0b",),
            ("X: a\x7f",),
            ("X: a\nHost: b",),
            ("X: a\rHost: b",),
            ("X: a\r",),
            ("\rX: a",),
            ("X: a\n",),
            ("\nX: a",),
            ("X: a\x00\nTransfer-Encoding: chunked",),
        ],
    )
    def test_that_two_readers_could_read_in_two_ways_is_bad(self, lines: tuple[str, ...]) -> None:
        data = request_bytes(*lines)
        if lines == ("X: a", ""):
            # An empty line ends the head: what is behind it is not read as HTTP.
            found, rest = judged(data)
            assert isinstance(found, Request)
            assert rest == b"\r\n"
            return
        assert refused_bytes(data).status == 400
        first = request_bytes(without="Host").replace(
            b"\r\n\r\n", b"\r\n" + "\r\n".join([*lines, "Host: a", "", ""]).encode("latin-1")
        )
        assert refused_bytes(first).status == 400

    @pytest.mark.parametrize("data", [b"\r\n", b"\n", b"\r\r\n", b"\0"])
    def test_with_something_before_it_is_bad(self, data: bytes) -> None:
        assert refused_bytes(data + request_bytes() if data != b"\r\n" else b"\r\n\r\n").status == 400

    @pytest.mark.parametrize(
        "data", [b"GET / HTTP/1.1\n", b"\x16\x03\x01\x02\x00\x01", b"GET /\r\0", b"\0\0\0\5", b"GET / \x7f"]
    )
    def test_that_can_never_become_one_is_bad_at_once(self, data: bytes) -> None:
        for pieces in ([data], one_by_one(data)):
            found, _ = judged(pieces)
            assert isinstance(found, Refusal)
            assert found.status == 400

    def test_that_is_not_whole_is_waited_for(self) -> None:
        for end in range(len(request_bytes())):
            assert judged(request_bytes()[:end]) == (None, b"")


class TestBounds:
    @pytest.mark.parametrize("pieces", [lambda data: [data], one_by_one, lambda data: [data[:-3], data[-3:]]])
    def test_of_bytes_hold_to_the_byte(self, pieces: Any) -> None:
        data = request_bytes("X: " + "x" * 5_000)
        size = len(data) - 4  # without the blank line
        assert isinstance(judged(pieces(data), max_bytes=size)[0], Request)
        for too_few in (size - 1, size - 2, size - 3, size - 4, size - 5, 100):
            found, _ = judged(pieces(data), max_bytes=too_few)
            assert isinstance(found, Refusal)
            assert found.status == 431

    def test_of_bytes_do_not_count_what_follows(self) -> None:
        data = request_bytes()
        found, rest = judged(data + b"x" * 100_000, max_bytes=len(data) - 4)
        assert isinstance(found, Request)
        assert len(rest) == 100_000

    def test_of_headers_hold_to_the_header(self) -> None:
        assert isinstance(judged(request_bytes("A:", "B:"), max_headers=len(GOOD) + 2)[0], Request)
        found, _ = judged(request_bytes("A:", "B:"), max_headers=len(GOOD) + 1)
        assert isinstance(found, Refusal)
        assert found.status == 431

    @pytest.mark.parametrize("line", [b"X: " + b"x" * 100_000, b"X: y\r\n", b"\xff", b"GET /"])
    def test_hold_for_a_head_that_never_ends(self, line: bytes) -> None:
        reader = HeadReader()
        fed_bytes = 0
        while reader.fault is None:
            assert reader.receive(line) is None
            fed_bytes += len(line)
            assert fed_bytes <= 16_384 + 4 + len(line)
        assert reader.fault.status == 431
        assert len(reader._begun) == 0
        assert reader.receive(b"\r\n\r\n") is None


class TestRefusal:
    def test_is_a_response_of_its_own(self) -> None:
        refusal = Refusal(403, "Straße nach nirgendwo\n", (("X-Why", "because"),))
        status, headers, body = read_response(refusal.encode())
        assert (status, headers["x-why"], headers["connection"]) == (403, "because", "close")
        assert headers["content-type"] == "text/plain; charset=utf-8"
        assert body.decode() == "Straße nach nirgendwo\n"

    @pytest.mark.parametrize("status", [200, 204, 205, 301, 304, 401, 418, 429, 499, 500, 503, 599])
    def test_may_have_any_status_but_an_interim_one(self, status: int) -> None:
        found, _, body = read_response(Refusal(status).encode())
        assert (found, body) == (status, b"")

    def test_may_have_a_content_type_of_its_own(self) -> None:
        _, headers, _ = read_response(Refusal(401, "{}", (("content-type", "application/json"),)).encode())
        assert headers["content-type"] == "application/json"

    def test_has_a_body_that_can_be_sent_whatever_it_is(self) -> None:
        assert read_response(Refusal(400, "a\ud800b").encode())[2] == b"a?b"

    @pytest.mark.parametrize("status", [0, 99, 100, 101, 199, 600, 1000, -1])
    def test_has_no_other_status(self, status: int) -> None:
        with pytest.raises(ValueError, match="200 to 599"):
            Refusal(status)

    @pytest.mark.parametrize("status", [204, 205, 304])
    def test_has_no_body_where_http_has_none(self, status: int) -> None:
        with pytest.raises(ValueError, match="no body"):
            Refusal(status, "x")

    @pytest.mark.parametrize(
        "header",
        [
            ("Content-Length", "7"),
            ("transfer-encoding", "chunked"),
            ("Connection", "keep-alive"),
            ("X\r\nY", "a"),
            ("X:", "a"),
            ("", "a"),
            ("X", "a\r\nY: b"),
            ("X", "a\n"),
            ("X", "é"),
            ("X", "a\0"),
            ("É", "a"),
            ("X ", "a"),
        ],
    )
    def test_has_no_header_that_would_break_it(self, header: tuple[str, str]) -> None:
        with pytest.raises(ValueError, match=r"header|application"):
            Refusal(403, "", (header,))


# --- any bytes ----------------------------------------------------------------------------------------------

SHORT = (
    b"GET / HTTP/1.1\r\nHost:a\r\nUpgrade:websocket\r\nConnection:Upgrade\r\n"
    b"Sec-WebSocket-Version:13\r\nSec-WebSocket-Key:dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def is_judged(data: bytes) -> Request | Refusal | None:
    """What a server makes of *data*: a request to answer, a refusal to send, or it waits."""
    found, rest = judged(data)
    if isinstance(found, Refusal):
        assert found.status in (400, 405, 426, 431, 505)
        assert (
            read_response(found.encode(), "HEAD" if data.startswith(b"HEAD ") else "GET")[0] == found.status
        )
    elif isinstance(found, Request):
        assert data.endswith(rest)
        assert make_answer(found, None, Deflate())[1].startswith(b"HTTP/1.1 101 ")
    return found


def test_every_corruption_of_one_byte_is_judged() -> None:
    assert isinstance(is_judged(SHORT), Request)
    taken = 0
    refusals: dict[int, int] = {}
    seen: dict[Refusal, None] = {}
    for at in range(len(SHORT)):
        for byte in range(256):
            found, rest = judged(SHORT[:at] + bytes([byte]) + SHORT[at + 1 :])
            if isinstance(found, Refusal):
                refusals[found.status] = refusals.get(found.status, 0) + 1
                seen[found] = None
            elif found is not None:
                assert rest == b""
                taken += 1
            else:
                assert at >= len(SHORT) - 4  # its end does not come
    for refusal in seen:
        assert read_response(refusal.encode())[0] == refusal.status
    assert set(refusals) == {400, 405, 426, 505}
    # Other keys, paths, hosts, and letters of the other case are good; the rest of the 256 are not.
    assert taken < len(SHORT) * 256 * 0.2


@pytest.mark.parametrize("change", ["left out", "doubled", "swapped with the next", "cut off from there"])
def test_every_byte_that_is_elsewhere_is_judged(change: str) -> None:
    for at in range(len(SHORT)):
        before, byte, after = SHORT[:at], SHORT[at : at + 1], SHORT[at + 1 :]
        is_judged(
            {
                "left out": before + after,
                "doubled": before + byte + byte + after,
                "swapped with the next": before + after[:1] + byte + after[1:],
                "cut off from there": before + b"\r\n\r\n",
            }[change]
        )


LINES = [line.encode() for line in GOOD] + [
    b"Host: b",
    b"Content-Length: 0",
    b"Transfer-Encoding: chunked",
    b" folded",
    b"X",
    b"X : a",
    b"\xff: \xff",
    b"X: \xff",
    b"X:\0",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    b"Sec-WebSocket-Protocol: a, b",
    b"",
]


@PROPERTY
@given(st.data())
def test_the_same_bytes_give_the_same_in_any_cut(data: st.DataObject) -> None:
    lines = data.draw(st.lists(st.sampled_from(LINES) | st.binary(max_size=10), max_size=9))
    if data.draw(st.booleans()):
        lines[:0] = [line.encode() for line in GOOD]
    end = data.draw(st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"]))
    whole = end.join([b"GET / HTTP/1.1", *lines, b"", b""]) + data.draw(st.binary(max_size=5))
    bounds: dict[str, Any] = {
        "max_bytes": data.draw(st.integers(0, 400)) if data.draw(st.booleans()) else 16_384,
        "max_headers": data.draw(st.sampled_from([0, 5, 6, 100])),
    }

    def outcome(pieces: Iterable[bytes]) -> Any:
        found, rest = judged(pieces, **bounds)
        return (found.headers, found.path, rest) if isinstance(found, Request) else found

    expected = outcome([whole])
    assert outcome(data.draw(cuts(whole))) == expected
    assert outcome(one_by_one(whole)) == expected


# --- the answer ---------------------------------------------------------------------------------------------


class TestAnswer:
    def test_is_what_the_rfc_says(self) -> None:
        answer, data = make_answer(requested())
        assert data == (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + ACCEPT.encode() + b"\r\n\r\n"
        )
        assert answer == Answer(None, None)

    def test_names_the_subprotocol_that_was_chosen(self) -> None:
        answer, data = make_answer(requested("Sec-WebSocket-Protocol: a, b"), "b")
        assert answer.subprotocol == "b"
        assert b"\r\nSec-WebSocket-Protocol: b\r\n" in data

    @pytest.mark.parametrize("subprotocol", ["c", "A", "", "a, b"])
    def test_names_none_that_was_not_offered(self, subprotocol: str) -> None:
        with pytest.raises(ValueError, match="does not offer"):
            make_answer(requested("Sec-WebSocket-Protocol: a, b"), subprotocol)

    def test_says_what_was_agreed_on(self) -> None:
        request = requested("Sec-WebSocket-Extensions: other, permessage-deflate; client_no_context_takeover")
        want = Deflate(server_no_context_takeover=False)
        answer, data = make_answer(request, deflate=want)
        assert answer.deflate == Deflate(server_no_context_takeover=False, client_no_context_takeover=True)
        line = b"Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover"
        assert line in data.split(b"\r\n")

    @pytest.mark.parametrize("deflate", [None, Deflate()])
    def test_says_nothing_of_compression_that_one_side_does_not_want(self, deflate: Deflate | None) -> None:
        request = (
            requested("Sec-WebSocket-Extensions: permessage-deflate") if deflate is None else requested()
        )
        answer, data = make_answer(request, deflate=deflate)
        assert answer.deflate is None
        assert b"Extensions" not in data

    def test_takes_headers_of_the_application(self) -> None:
        answer, data = make_answer(requested(), headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        assert b"\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n" in data
        assert answer.headers.all("set-cookie") == ["a=1", "b=2"]

    @pytest.mark.parametrize(
        "name",
        [
            "Upgrade",
            "connection",
            "Content-Length",
            "Transfer-Encoding",
            "Sec-WebSocket-Accept",
            "sec-websocket-x",
            "X\r\nY",
            "X Y",
        ],
    )
    def test_takes_none_that_belong_to_the_handshake(self, name: str) -> None:
        with pytest.raises(ValueError, match=r"header|application"):
            make_answer(requested(), headers=[(name, "a")])


# --- Origin -------------------------------------------------------------------------------------------------


class TestOrigin:
    @pytest.mark.parametrize(
        ("host", "origin", "allowed"),
        [
            ("example.com", None, True),
            ("example.com", "http://example.com", True),
            ("example.com", "https://example.com", True),  # TLS may end before this server
            ("Example.COM", "http://example.com", True),
            ("example.com", "HTTP://EXAMPLE.com", True),
            ("example.com:80", "http://example.com", True),
            ("example.com", "http://example.com:80", True),
            ("example.com:443", "https://example.com", True),
            ("example.com", "https://example.com:443", True),
            ("example.com:", "http://example.com", True),
            ("example.com:8080", "http://example.com:8080", True),
            ("127.0.0.1:8080", "http://127.0.0.1:8080", True),
            ("[::1]:8080", "http://[::1]:8080", True),
            ("[::1]", "http://[::1]", True),
            ("example.com:8080", "http://example.com", False),
            ("example.com", "http://example.com:8080", False),
            ("example.com:443", "http://example.com", False),
            ("example.com:80", "https://example.com", False),
            ("example.com", "http://www.example.com", False),
            ("www.example.com", "http://example.com", False),
            ("example.com", "http://example.com.evil.net", False),
            ("example.com", "http://evil.net", False),
            ("example.com", "http://evil.net/example.com", False),
            ("example.com", "http://evil.net#example.com", False),
            ("example.com", "http://example.com@evil.net", False),
            ("example.com", "http://evil.net@example.com", False),
            ("example.com", "http://example.com/", False),
            ("example.com", "http://example.com http://evil.net", False),
            ("example.com", "http://evil.net, http://example.com", False),
            ("example.com", "ftp://example.com", False),
            ("example.com", "ws://example.com", False),
            ("example.com", "//example.com", False),
            ("example.com", "example.com", False),
            ("example.com", "", False),
            ("example.com", "null", False),
            ("null", "null", False),
            ("example.com", "*", False),
            ("example.com", "http://", False),
            ("example.com", "file://", False),
        ],
    )
    def test_is_this_server_by_default(self, host: str, origin: str | None, allowed: bool) -> None:
        origins = () if origin is None else (f"Origin: {origin}",)
        request = requested(f"Host: {host}", *origins, without="Host")
        assert origin_allowed(request) is allowed
        assert origin_allowed(request, ["*"])

    @pytest.mark.parametrize(
        ("origin", "listed"),
        [
            ("http://app.example", "http://app.example"),
            ("http://app.example", "HTTP://App.Example:80"),
            ("https://app.example:443", "https://app.example"),
            ("null", "null"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("file://", "file://"),
        ],
    )
    def test_may_be_listed(self, origin: str, listed: str) -> None:
        request = requested(f"Origin: {origin}")
        assert not origin_allowed(request)
        assert origin_allowed(request, [listed])
        assert origin_allowed(request, {"http://other.example", listed})
        assert not origin_allowed(
            request, ["http://other.example", "https://app.example:444", "app.example", "nul"]
        )

    def test_of_this_server_is_allowed_beside_a_list(self) -> None:
        assert origin_allowed(requested("Origin: http://example.com"), ["http://app.example"])

    def test_over_tls_must_be_of_tls(self) -> None:
        assert origin_allowed(requested("Origin: https://example.com", is_secure=True))
        assert not origin_allowed(requested("Origin: http://example.com", is_secure=True))
        assert not origin_allowed(requested("Origin: http://example.com:443", is_secure=True))
        assert origin_allowed(requested("Origin: http://example.com", is_secure=True), ["http://example.com"])

    def test_compares_with_the_host_of_an_absolute_target(self) -> None:
        request = requested("Origin: http://example.com", start="GET http://other.example/ HTTP/1.1")
        assert not origin_allowed(request)


# --- the client ---------------------------------------------------------------------------------------------

WANT = Deflate(server_no_context_takeover=True)
AGREED = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover"


def client(deflate: Deflate | None = None, **settings: Any) -> ClientHandshake:
    """A client with the key of the RFC's example, that offers the subprotocols `a` and `b`."""
    key = base64.b64decode(KEY)
    return ClientHandshake("example.com", key=key, subprotocols=["a", "b"], deflate=deflate, **settings)


def answer_bytes(*more: str, start: str = "HTTP/1.1 101 Switching Protocols", without: str = "") -> bytes:
    """A good answer, with *more* headers and without the one that is named."""
    lines = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {ACCEPT}"]
    lines = [line for line in lines if not without or not line.startswith(without + ":")]
    return "\r\n".join([start, *lines, *more, "", ""]).encode("latin-1")


def failure(data: bytes, deflate: Deflate | None = None, **settings: Any) -> HandshakeFailed:
    """How *data* fails a client: the same in one piece and byte by byte."""
    with pytest.raises(HandshakeFailed) as caught:
        client(deflate, **settings).receive(data)
    with pytest.raises(HandshakeFailed) as again:
        list(map(client(deflate, **settings).receive, one_by_one(data)))
    assert str(again.value) == str(caught.value)
    assert again.value.status == caught.value.status
    return caught.value


class TestClientRequest:
    def test_is_what_the_rfc_says(self) -> None:
        handshake = ClientHandshake(
            "example.com:8080",
            "/chat?a=b",
            subprotocols=["a", "b"],
            deflate=WANT,
            headers=[("Origin", "http://example.com"), ("Cookie", "a=1")],
            key=base64.b64decode(KEY),
        )
        assert handshake.request.decode().split("\r\n") == [
            "GET /chat?a=b HTTP/1.1",
            "Host: example.com:8080",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {KEY}",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: a, b",
            f"{AGREED}; client_max_window_bits",
            "Origin: http://example.com",
            "Cookie: a=1",
            "",
            "",
        ]

    def test_says_nothing_that_was_not_asked_for(self) -> None:
        request = ClientHandshake("example.com").request
        assert b"Protocol" not in request
        assert b"Extensions" not in request

    def test_has_a_key_of_16_bytes_that_is_new(self) -> None:
        keys = set()
        for _ in range(20):
            found, _ = judged(ClientHandshake("example.com").request)
            assert isinstance(found, Request)
            assert len(base64.b64decode(found.key)) == 16
            keys.add(found.key)
        assert len(keys) == 20

    @pytest.mark.parametrize(
        "settings",
        [
            {"host": ""},
            {"host": "a b"},
            {"host": "a/b"},
            {"host": "a\r\nX: y"},
            {"host": "user@a"},
            {"host": "é.example"},
            {"host": "::1"},
            {"target": ""},
            {"target": "chat"},
            {"target": "/a b"},
            {"target": "/a#b"},
            {"target": "/é"},
            {"target": "/\r\nX: y"},
            {"subprotocols": [""]},
            {"subprotocols": ["a b"]},
            {"subprotocols": ["a,b"]},
            {"subprotocols": ["a", "a"]},
            {"subprotocols": ["a\r\nX: y"]},
            {"key": b"short"},
            {"headers": [("Host", "b")]},
            {"headers": [("upgrade", "h2c")]},
            {"headers": [("Connection", "close")]},
            {"headers": [("Content-Length", "5")]},
            {"headers": [("Transfer-Encoding", "chunked")]},
            {"headers": [("Sec-WebSocket-Key", KEY)]},
            {"headers": [("Sec-WebSocket-Extensions", "x")]},
            {"headers": [("X", "a\r\nY: b")]},
            {"headers": [("X Y", "a")]},
        ],
    )
    def test_that_cannot_be_sent_is_refused_at_once(self, settings: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"."):
            ClientHandshake(**{"host": "example.com"} | settings)


class TestClientAnswer:
    @pytest.mark.parametrize(
        ("more", "without", "deflate", "expected"),
        [
            ((), "", None, (None, None)),
            ((), "", WANT, (None, None)),
            (("Sec-WebSocket-Protocol: b",), "", None, ("b", None)),
            ((AGREED,), "", WANT, (None, WANT)),
            (
                (
                    AGREED
                    + "; client_no_context_takeover; client_max_window_bits=9; server_max_window_bits=10",
                ),
                "",
                WANT,
                (
                    None,
                    Deflate(
                        server_no_context_takeover=True,
                        client_no_context_takeover=True,
                        client_max_window_bits=9,
                        server_max_window_bits=10,
                    ),
                ),
            ),
            (("UPGRADE: WebSocket",), "Upgrade", None, (None, None)),
            (("connection: keep-alive", "Connection: UPGRADE"), "Connection", None, (None, None)),
            ((f"SEC-WEBSOCKET-ACCEPT:\t {ACCEPT} ",), "Sec-WebSocket-Accept", None, (None, None)),
            (("Server: \xe9", "Set-Cookie: a=1", "Set-Cookie: b=2"), "", None, (None, None)),
            (("Sec-WebSocket-Extensions:",), "", None, (None, None)),
        ],
    )
    def test_that_fits_is_taken(
        self, more: tuple[str, ...], without: str, deflate: Deflate | None, expected: Any
    ) -> None:
        answer = client(deflate).receive(answer_bytes(*more, without=without))
        assert answer is not None
        assert (answer.subprotocol, answer.deflate) == expected

    def test_shows_the_headers(self) -> None:
        answer = client().receive(answer_bytes("Set-Cookie: a=1", "Set-Cookie: b=2"))
        assert answer is not None
        assert answer.headers.all("set-cookie") == ["a=1", "b=2"]

    @pytest.mark.parametrize(
        "start", ["HTTP/1.1 101", "HTTP/1.1 101 ", "HTTP/1.1 101 Fine\xe9", "HTTP/1.2 101 X"]
    )
    def test_may_have_any_phrase(self, start: str) -> None:
        assert client().receive(answer_bytes(start=start)) is not None

    def test_leaves_what_follows_it(self) -> None:
        data = answer_bytes() + b"\x81\x02\r\n"
        for cut in range(len(data) + 1):
            handshake = client()
            answer = handshake.receive(data[:cut])
            if answer is None:
                assert cut < len(data) - 4
                assert handshake.receive(data[cut:]) is not None
                assert handshake.rest == b"\x81\x02\r\n"
            else:
                assert handshake.rest + data[cut:] == b"\x81\x02\r\n"

    @pytest.mark.parametrize(
        ("more", "without"),
        [
            ((), "Upgrade"),
            (("Upgrade: websocket",), ""),
            (("Upgrade: h2c",), "Upgrade"),
            (("Upgrade: websocket, h2c",), "Upgrade"),
            (("Upgrade: websocketx",), "Upgrade"),
            ((), "Connection"),
            (("Connection: close",), "Connection"),
            (("Connection: Up grade",), "Connection"),
            ((), "Sec-WebSocket-Accept"),
            (("Sec-WebSocket-Accept:",), "Sec-WebSocket-Accept"),
            ((f"Sec-WebSocket-Accept: {ACCEPT.lower()}",), "Sec-WebSocket-Accept"),
            ((f"Sec-WebSocket-Accept: {ACCEPT[:-1]}",), "Sec-WebSocket-Accept"),
            ((f"Sec-WebSocket-Accept: {KEY}",), "Sec-WebSocket-Accept"),
            ((f"Sec-WebSocket-Accept: {ACCEPT}",), ""),
            (("Sec-WebSocket-Protocol: c",), ""),
            (("Sec-WebSocket-Protocol: A",), ""),
            (("Sec-WebSocket-Protocol: a, b",), ""),
            (("Sec-WebSocket-Protocol:",), ""),
            (("Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: a"), ""),
            (("Sec-WebSocket-Extensions: other",), ""),
            ((AGREED + ", other",), ""),
            ((AGREED, AGREED), ""),
            (
                ("Sec-WebSocket-Extensions: permessage-deflate",),
                "",
            ),  # server_no_context_takeover was asked for
            ((AGREED + "; client_max_window_bits",), ""),
            ((AGREED + "; client_max_window_bits=16",), ""),
            ((AGREED + "; server_max_window_bits=7",), ""),
            ((AGREED + "; other",), ""),
            ((AGREED + "; server_no_context_takeover",), ""),
            ((AGREED + ";",), ""),
            ((" folded",), ""),
            (("X : a",), ""),
            (("X",), ""),
        ],
    )
    def test_that_breaks_section_4_1_fails(self, more: tuple[str, ...], without: str) -> None:
        failed = failure(answer_bytes(*more, without=without), WANT)
        assert failed.status == 101
        assert str(failed)

    def test_agrees_to_nothing_that_was_not_offered(self) -> None:
        assert failure(answer_bytes(AGREED), None).status == 101
        with pytest.raises(HandshakeFailed):
            ClientHandshake("example.com", key=base64.b64decode(KEY)).receive(
                answer_bytes("Sec-WebSocket-Protocol: a")
            )

    def test_to_another_key_fails(self) -> None:
        with pytest.raises(HandshakeFailed, match="does not answer the key"):
            ClientHandshake("example.com").receive(answer_bytes())

    @pytest.mark.parametrize(
        "start",
        [
            "HTTP/1.0 101 Switching Protocols",
            "HTTP/2 101",
            "HTTP/2.0 101 X",
            "http/1.1 101 X",
            "HTTP/1.1  101 X",
            "HTTP/1.1 0101 X",
            "HTTP/1.1 1O1 X",
            "HTTP/1.1 600 X",
            "HTTP/1.1 099 X",
            "HTTP/1.1 101X",
            "ICY 200 OK",
            "SSH-2.0-OpenSSH_9.2",
            "",
        ],
    )
    def test_of_another_protocol_fails(self, start: str) -> None:
        assert failure(answer_bytes(start=start)).status in (0, 101)

    @pytest.mark.parametrize(
        "status", [200, 201, 204, 301, 302, 307, 308, 400, 401, 403, 404, 407, 426, 429, 500, 503]
    )
    def test_that_refuses_is_told_with_its_status_and_headers(self, status: int) -> None:
        data = answer_bytes(
            "Location: ws://elsewhere.example/", "Content-Length: 5", start=f"HTTP/1.1 {status} So be it"
        )
        failed = failure(data + b"Sorry")
        assert failed.status == status
        assert str(failed) == f"the server answered {status} So be it"
        assert failed.headers["location"] == "ws://elsewhere.example/"
        with pytest.raises(HandshakeFailed) as caught:
            client().receive(data + b"Sor")
        assert caught.value.body == b"Sor"

    def test_that_refuses_over_http_1_0_is_told_too(self) -> None:
        assert failure(b"HTTP/1.0 503 Busy\r\n\r\n").status == 503

    def test_that_refuses_puts_nothing_dangerous_into_a_log(self) -> None:
        failed = failure(b"HTTP/1.1 403 \x9b31m\xff\ttab" + b"x" * 1_000 + b"\r\n\r\n")
        assert str(failed).isascii()
        assert str(failed).isprintable()
        assert len(str(failed)) < 200

    @pytest.mark.parametrize(
        "refusal", [Refusal(403, "Go away.\n"), Refusal(200), Refusal(426, "", (("Upgrade", "websocket"),))]
    )
    def test_of_our_own_server_that_refuses_is_understood(self, refusal: Refusal) -> None:
        with pytest.raises(HandshakeFailed) as caught:
            client().receive(refusal.encode())
        assert caught.value.status == refusal.status
        assert caught.value.body.decode() == refusal.body

    def test_may_come_after_interim_ones(self) -> None:
        hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        data = b"HTTP/1.1 100 Continue\r\n\r\n" + hints * 3 + answer_bytes() + b"rest"
        handshake = client()
        assert handshake.receive(data) is not None
        assert handshake.rest == b"rest"
        handshake = client()
        answers = [answer for piece in one_by_one(data) if (answer := handshake.receive(piece)) is not None]
        assert len(answers) == 1
        assert failure(hints + b"HTTP/1.1 404 Not Found\r\n\r\n").status == 404

    def test_that_never_comes_is_not_waited_for_without_end(self) -> None:
        assert failure(b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000).status == 0
        assert failure(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000).status == 0
        assert failure(b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 101 + b"\r\n").status == 0
        assert failure(answer_bytes(), max_bytes=100).status == 0
        assert failure(b"HTTP/1.1 101 X\nUpgrade: websocket\n\n").status == 0
        assert client(max_headers=3).receive(answer_bytes()) is not None


@pytest.mark.parametrize(
    "deflate", [None, WANT, Deflate(server_no_context_takeover=False, client_max_window_bits=9)]
)
@pytest.mark.parametrize("subprotocol", [None, "a", "b"])
def test_client_and_server_come_to_the_same(subprotocol: str | None, deflate: Deflate | None) -> None:
    handshake = client(deflate)
    request, _ = judged(handshake.request)
    assert isinstance(request, Request)
    assert request.subprotocols == ("a", "b")
    answer, data = make_answer(request, subprotocol, deflate)
    found = handshake.receive(data)
    assert found is not None
    assert (
        (found.subprotocol, found.deflate) == (answer.subprotocol, answer.deflate) == (subprotocol, deflate)
    )


@pytest.mark.parametrize("change", range(4))
def test_every_corruption_of_an_answer_is_judged(change: int) -> None:
    good = answer_bytes(AGREED, "Sec-WebSocket-Protocol: a")
    source = hashlib.sha256(good).digest() * (len(good) // 32 + 1)
    taken = 0
    reasons: set[str] = set()
    for at in range(len(good)):
        for byte in {source[at], 0, 10, 13, 32, 44, 58, 59, 61, 255, good[at] ^ 0x20}:
            middle = (bytes([byte]), bytes([byte, good[at]]), b"", good[at : at + 1] * 2)[change]
            try:
                taken += client(WANT).receive(good[:at] + middle + good[at + 1 :]) is not None
            except HandshakeFailed as failed:
                reasons.add(str(failed))
    assert 0 < taken < len(good) * 11 * 0.4
    assert len(reasons) > 5
    assert all(map(str.isprintable, reasons))


# --- what is wired by others --------------------------------------------------------------------------------


def test_a_head_from_another_parser_is_checked_as_well() -> None:
    headers = Headers(
        [
            ("Host", "a"),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", KEY),
            ("Sec-WebSocket-Version", "13"),
        ]
    )
    found = check_request(Head("GET", "/", headers), ("127.0.0.1", 1), True)
    assert isinstance(found, Request)
    assert (found.peer, found.is_secure) == (("127.0.0.1", 1), True)


class TestPeers:
    """`wsproto` and `websockets` on the other side."""

    def test_wsproto_takes_the_answer(self) -> None:
        wsproto = pytest.importorskip("wsproto", reason="wsproto is not installed")
        events, extensions = wsproto.events, pytest.importorskip("wsproto.extensions")
        peer = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        offer = events.Request(
            "example.com", "/chat", extensions=[extensions.PerMessageDeflate()], subprotocols=["a"]
        )
        request, _ = judged(peer.send(offer))
        assert isinstance(request, Request)
        _, data = make_answer(request, "a", Deflate())
        peer.receive_data(data)
        (accepted,) = peer.events()
        assert isinstance(accepted, events.AcceptConnection)
        assert accepted.subprotocol == "a"
        assert len(accepted.extensions) == 1

    def test_wsproto_understands_a_refusal(self) -> None:
        wsproto = pytest.importorskip("wsproto", reason="wsproto is not installed")
        peer = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        peer.send(wsproto.events.Request("example.com", "/chat"))
        peer.receive_data(Refusal(403, "Go away.\n").encode())
        rejected, body, *_ = peer.events()
        assert rejected.status_code == 403
        assert bytes(body.data) == b"Go away.\n"

    def test_wsproto_answers_the_client(self) -> None:
        wsproto = pytest.importorskip("wsproto", reason="wsproto is not installed")
        extensions = pytest.importorskip("wsproto.extensions")
        peer = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        handshake = client(Deflate())
        peer.receive_data(handshake.request)
        next(iter(peer.events()))
        accept = wsproto.events.AcceptConnection(
            subprotocol="b", extensions=[extensions.PerMessageDeflate(server_no_context_takeover=True)]
        )
        answer = handshake.receive(peer.send(accept))
        assert answer is not None
        assert answer.subprotocol == "b"
        assert answer.deflate is not None

    def test_websockets_takes_the_answer(self) -> None:
        peer_module = pytest.importorskip("websockets.client", reason="websockets is not installed")
        uri = pytest.importorskip("websockets.uri")
        deflate = pytest.importorskip("websockets.extensions.permessage_deflate")
        peer = peer_module.ClientProtocol(
            uri.parse_uri("ws://example.com/chat"),
            subprotocols=["a"],
            extensions=[deflate.ClientPerMessageDeflateFactory(client_max_window_bits=True)],
        )
        peer.send_request(peer.connect())
        request, _ = judged(b"".join(peer.data_to_send()))
        assert isinstance(request, Request)
        peer.receive_data(make_answer(request, "a", Deflate())[1])
        assert peer.handshake_exc is None
        assert peer.state.name == "OPEN"
        assert peer.subprotocol == "a"

    def test_websockets_answers_the_client(self) -> None:
        peer_module = pytest.importorskip("websockets.server", reason="websockets is not installed")
        deflate = pytest.importorskip("websockets.extensions.permessage_deflate")
        peer = peer_module.ServerProtocol(
            subprotocols=["b"],
            extensions=[deflate.ServerPerMessageDeflateFactory(server_no_context_takeover=True)],
        )
        handshake = client(Deflate())
        peer.receive_data(handshake.request)
        (request,) = peer.events_received()
        peer.send_response(peer.accept(request))
        answer = handshake.receive(b"".join(peer.data_to_send()))
        assert answer is not None
        assert answer.subprotocol == "b"
        assert answer.deflate is not None

"""chatproto.wire.handshake: what a server makes of a request (RFC 6455, section 4.2.1)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire.handshakes import (
    GOOD,
    KEY,
    judged,
    read_response,
    refused,
    refused_bytes,
    request_bytes,
    requested,
)
from wire.streams import cuts, one_by_one

from chatproto.wire.deflate import Deflate
from chatproto.wire.handshake import (
    Request,
    check_request,
    make_answer,
)
from chatproto.wire.headers import Headers
from chatproto.wire.http import Head, HeadReader, Refusal


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

        # 64 times the bytes: looking through all of them each time would be up to 4,096 times the work.
        assert min(cost_s(2**18) for _ in range(2)) < 512 * min(cost_s(2**12) for _ in range(5))


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

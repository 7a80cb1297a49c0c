"""chatproto.wire.handshake: answers and refusals (RFC 6455, section 4.2.2), and whose pages may open it."""

from __future__ import annotations

import pytest
from wire.handshakes import (
    ACCEPT,
    KEY,
    read_response,
    requested,
)

from chatproto.wire.deflate import Deflate
from chatproto.wire.handshake import (
    Answer,
    accept_key,
    make_answer,
    origin_allowed,
)
from chatproto.wire.http import Refusal


def test_the_key_is_answered_as_in_the_example_of_the_rfc() -> None:
    assert accept_key(KEY) == ACCEPT


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

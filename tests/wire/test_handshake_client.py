"""chatproto.wire.handshake: a client's request, and what it makes of an answer (RFC 6455, section 4.1)."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from wire.handshakes import (
    ACCEPT,
    AGREED,
    KEY,
    WANT,
    answer_bytes,
    client,
    failure,
    judged,
)
from wire.streams import one_by_one

from chatproto.wire.deflate import Deflate
from chatproto.wire.handshake import (
    ClientHandshake,
    HandshakeFailed,
    Request,
    make_answer,
)
from chatproto.wire.http import Refusal


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

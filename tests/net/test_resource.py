"""How the chat is opened over WebSocket: on the one port, and in a site of one's own."""

from __future__ import annotations

from typing import Any

import pytest
from forms import FORMS, WebSocket
from net.memory import Chat
from net.webpeople import KINDS, handshake, joined
from wire.streams import in_two, one_by_one

from chatproto.limits import Limits
from chatproto.net.webchat import BinFace, JsonFace
from chatproto.wire.messages import (
    Join,
    Ping,
    Say,
)


def answer(request: bytes, **chat: Any) -> tuple[int, str]:
    """The status and the text of the answer to a request."""
    line = Chat(**chat).connect()
    line.send(request)
    head, _, body = line.received().decode().partition("\r\n\r\n")
    return int(head.split()[1]), body


class TestOpening:
    @pytest.mark.parametrize(
        ("offered", "chosen"),
        [
            (None, None),
            ("chat.v1.bin", "chat.v1.bin"),
            ("chat.v1.json", "chat.v1.json"),
            ("chat.v1.bin, chat.v1.json", "chat.v1.bin"),
            ("chat.v1.json, chat.v1.bin", "chat.v1.json"),
            ("chat.v2.json, chat.v1.bin", "chat.v1.bin"),
        ],
    )
    def test_the_first_subprotocol_that_the_server_knows_is_spoken(
        self, offered: str | None, chosen: str | None
    ) -> None:
        chat = Chat()
        line = chat.connect()
        line.send(handshake(*([f"Sec-WebSocket-Protocol: {offered}"] if offered else [])))
        head = line.received().decode().lower().split("\r\n")
        assert head[0] == "http/1.1 101 switching protocols"
        assert [header for header in head if header.startswith("sec-websocket-protocol")] == (
            [f"sec-websocket-protocol: {chosen}"] if chosen else []
        )
        assert chat.faces() == [BinFace if chosen == "chat.v1.bin" else JsonFace]

    def test_a_client_of_another_protocol_is_refused(self) -> None:
        status, said = answer(handshake("Sec-WebSocket-Protocol: mqtt, chat.v2.bin"))
        assert status == 400
        assert "The subprotocols here are chat.v1.bin and chat.v1.json.\n" in said

    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            (b"GET /chat HTTP/1.1\r\nHost: localhost\r\n\r\n", 426),
            (handshake(path="/"), 404),
            (handshake(path="/chat/"), 404),
            (handshake(path="/chat/room"), 404),
            (handshake(path="/chats"), 404),
            (handshake(path="/elsewhere/chat"), 404),
            (b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 405),
            (b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        ],
    )
    def test_anything_else_is_answered_over_http(self, request_bytes: bytes, status: int) -> None:
        assert answer(request_bytes)[0] == status

    def test_a_query_changes_nothing(self) -> None:
        assert answer(handshake(path="/chat?a=b"))[0] == 101

    @pytest.mark.parametrize(
        ("origin", "origins", "status"),
        [
            ("http://chat.example:9000", (), 101),
            ("https://chat.example:9000", (), 101),  # TLS may end before this server
            ("http://chat.example", (), 403),
            ("http://evil.example", (), 403),
            ("null", (), 403),
            ("http://friend.example", ("http://friend.example",), 101),
            ("http://friend.example:8080", ("http://friend.example",), 403),
            ("http://evil.example", ("http://friend.example",), 403),
            ("http://evil.example", ("*",), 101),
        ],
    )
    def test_only_its_own_pages_and_those_it_names_may_open_it(
        self, origin: str, origins: tuple[str, ...], status: int
    ) -> None:
        request = handshake(f"Origin: {origin}", host="chat.example:9000")
        assert answer(request, origins=origins)[0] == status

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_comes_behind_the_handshake_is_not_lost_in_any_cut(self, kind: str) -> None:
        form = FORMS[kind]()
        assert isinstance(form, WebSocket)
        opening = form.output()
        # Before the answer is there `websockets` sends nothing, so another one of its kind has to.
        other = joined(Chat(), "someone", kind)
        other.form.say(Join("ann"), Say(1, "", "hi"), Ping(2))
        data = opening + other.form.output()
        for pieces in [[data], list(one_by_one(data)), *map(list, in_two(data))]:
            line = Chat().connect()
            for piece in pieces:
                if piece:
                    line.send(piece)
            fresh = FORMS[kind]()
            fresh_opening = fresh.output()
            assert len(fresh_opening) == len(opening)
            head, _, rest = line.received().partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            assert [message.type for message in other.form.receive(rest)] == [
                "welcome",
                "roster",
                "end",
                "ack",
                "pong",
            ]

    def test_a_second_request_of_a_connection_may_open_it(self) -> None:
        chat = Chat()
        line = chat.connect()
        line.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert line.received().startswith(b"HTTP/1.1 200 ")
        line.send(handshake())
        assert line.received().startswith(b"HTTP/1.1 101 ")
        assert chat.faces() == [JsonFace]

    def test_a_request_that_trickles_in_has_no_more_time_for_it(self) -> None:
        chat = Chat(Limits(join_timeout_s=10))
        line = chat.connect()
        for byte in one_by_one(handshake()[:100]):
            if line.connected and not line.disconnecting:
                line.send(byte)
                chat.clock.advance(0.15)
        chat.clock.advance(0)
        assert not line.connected
        chat.clock.advance(20)
        assert chat.is_empty()

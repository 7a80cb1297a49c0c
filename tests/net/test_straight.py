"""A WebSocket that is opened by a connection's first bytes, without twisted.web: what is, and what is not."""

from __future__ import annotations

import re
from datetime import UTC
from typing import Any

import pytest
from net.memory import Chat, Line
from net.webpeople import Person, handshake
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from chatproto.limits import Limits, WebSocketLimits
from chatproto.net.factory import ChatFactory
from chatproto.net.peers import TrustedPeers
from chatproto.net.websocket.resource import WebSocketResource
from chatproto.wire.chat import encode_frame
from chatproto.wire.messages import Join

OPENED = handshake("Sec-WebSocket-Protocol: chat.v1.bin")
PROXY = "192.168.1.1/32"  # whom connections in memory come from


class Watched(Chat):
    """A chat that counts the HTTP channels it makes, behind a proxy if that is wanted."""

    def __init__(self, limits: Limits | None = None, *, proxies: tuple[str, ...] | None = None, **more: Any):
        super().__init__(limits, **more)
        if proxies is not None:
            self.factory = ChatFactory(self.hub, zone=UTC, trusted_peers=TrustedPeers(proxies))
        self.channels: list[object] = []
        build = self.factory.site.buildProtocol

        def counted(peer: Any) -> Any:
            self.channels.append(peer)
            return build(peer)

        self.factory.site.buildProtocol = counted  # type: ignore[method-assign]


def asked(chat: Chat, *pieces: bytes) -> tuple[Line, bytes]:
    line = chat.connect()
    for piece in pieces:
        line.send(piece)
    return line, re.sub(rb"(?i)\r\nDate: [^\r]+", b"", line.received())


def whole(data: bytes) -> tuple[bytes, ...]:
    """One piece."""
    return (data,)


def cut(data: bytes) -> tuple[bytes, ...]:
    """Two pieces, the first of which is no whole head."""
    return data[:20], data[20:]


class TestWhatGoesStraight:
    @pytest.mark.parametrize("path", ["/chat", "/chat?", "/chat?a=b"])
    def test_a_handshake_in_one_piece_has_no_http_channel(self, path: str) -> None:
        chat = Watched()
        _, answer = asked(chat, handshake(path=path))
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert not chat.channels

    def test_it_is_answered_as_one_that_comes_in_pieces(self) -> None:
        for more in ((), ("Sec-WebSocket-Protocol: x, chat.v1.bin",), ("Origin: http://localhost",)):
            data = handshake(*more)
            answers = [sorted(asked(Chat(), *pieces)[1].split(b"\r\n")) for pieces in ((data,), cut(data))]
            assert answers[0] == answers[1]

    @pytest.mark.parametrize("name", ["bin", "json"])
    def test_what_comes_behind_it_is_taken(self, name: str) -> None:
        chat = Watched()
        person = Person(chat, name)
        person.send(Join("alice"))
        assert person.types() == ["welcome", "roster", "end"]
        assert not chat.channels

    def test_what_comes_in_the_same_piece_is_taken(self) -> None:
        chat = Watched()
        frame = encode_frame(Join("alice"))[4:]
        masked = bytes([0x82, 0x80 | len(frame), 0, 0, 0, 0]) + frame
        line, _ = asked(chat, OPENED + masked)
        assert [session.name and session.name.text for session in chat.hub.sessions.values()] == ["alice"]
        line.vanish()
        assert chat.is_empty()
        assert not chat.channels

    def test_it_may_come_after_a_plain_request(self) -> None:
        chat = Watched()
        line, answer = asked(chat, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        line.send(OPENED)
        assert line.received().startswith(b"HTTP/1.1 101 ")
        assert len(chat.channels) == 1


REFUSED = {
    "no upgrade": b"GET /chat HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no host": handshake().replace(b"Host: localhost\r\n", b""),
    "two hosts": handshake("Host: other"),
    "an old version": handshake().replace(b"Version: 13", b"Version: 8"),
    "no key": handshake().replace(b"Sec-WebSocket-Key", b"X"),
    "a body": handshake("Content-Length: 1") + b"x",
    "chunks": handshake("Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "a page from elsewhere": handshake("Origin: https://evil.example"),
    "an unknown subprotocol": handshake("Sec-WebSocket-Protocol: x"),
    "a word twice": handshake("Sec-WebSocket-Protocol: x, x"),
    "HTTP/1.0": handshake().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "another method": handshake().replace(b"GET", b"POST"),
    "another path": handshake(path="/chatter"),
    "a path below": handshake(path="/chat/x"),
    "too many headers": handshake(*(f"X-{i}: y" for i in range(101))),
    "a long head": handshake("X: " + "y" * 16_300),
    "a malformed header": handshake("no header"),
    "a bare line feed": handshake("X: y").replace(b"X: y\r\n", b"X: y\n"),
}


class TestWhatDoesNot:
    @pytest.mark.parametrize("name", REFUSED)
    def test_a_refusal_is_the_same_in_one_piece_as_in_two(self, name: str) -> None:
        chat, other = Watched(), Watched()
        line, answer = asked(chat, *whole(REFUSED[name]))
        cut_line, expected = asked(other, *cut(REFUSED[name]))
        assert answer == expected
        assert not answer.startswith(b"HTTP/1.1 101 ")
        assert line.disconnecting == cut_line.disconnecting
        assert len(chat.channels) == len(other.channels) == 1
        assert not chat.hub.sessions

    def test_a_server_that_is_shut_refuses_it(self) -> None:
        chat = Watched()
        chat.factory._chat.shut_down()
        assert asked(chat, OPENED)[1].startswith(b"HTTP/1.1 503 ")

    def test_where_the_web_is_not_spoken_it_is_not_opened(self) -> None:
        chat = Watched()
        line = Line(chat.clock)
        line.protocol = front = chat.factory.buildProtocol(None)
        front.faces = frozenset({"frames"})  # type: ignore[attr-defined]
        front.makeConnection(line)
        line.send(OPENED)
        assert b"101 Switching" not in line.received()
        assert not chat.hub.sessions

    def test_a_mistake_in_opening_is_an_error_of_the_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        chat = Watched()
        monkeypatch.setattr(chat.factory._chat, "buildProtocol", lambda request: 1 / 0)
        assert asked(chat, OPENED)[1].startswith(b"HTTP/1.1 500 ")
        assert not chat.hub.sessions


class TestADecisionThatTakesTime:
    def test_it_is_asked_for_by_the_site(self) -> None:
        cancelled: list[Deferred[Any]] = []

        class Slow:
            def buildProtocol(self, request: object) -> Deferred[Any]:
                return Deferred(cancelled.append)

        limits = WebSocketLimits(max_connections=1)
        resource = WebSocketResource(Slow(), limits=limits, reactor=Clock())
        for _ in range(2):  # the place of the first is free again
            read = resource.read(OPENED + b"more")
            assert read is not None
            head, rest = read
            assert rest == b"more"
            assert resource.straight(head, rest, None, False) is None
        assert len(cancelled) == 2


class TestBehindAProxy:
    def test_a_trusted_one_says_whose_it_is(self) -> None:
        chat = Watched(proxies=(PROXY,))
        asked(chat, handshake("X-Forwarded-For: 9.9.9.9, 203.0.113.7"))
        assert [session.address for session in chat.hub.sessions.values()] == ["203.0.113.7"]
        assert not chat.channels

    @pytest.mark.parametrize("proxies", [None, ("10.0.0.0/8",)])
    def test_another_is_not_believed(self, proxies: tuple[str, ...] | None) -> None:
        chat = Watched(proxies=proxies)
        asked(chat, handshake("X-Forwarded-For: 203.0.113.7"))
        assert [session.address for session in chat.hub.sessions.values()] == ["192.168.1.1"]

    def test_its_clients_count_for_themselves_and_are_refused_once(self) -> None:
        limits = Limits(max_messages_per_s=0, max_connections_per_address=2)
        for made in (whole, cut):
            chat = Watched(limits, proxies=(PROXY,))
            one, other = (handshake(f"X-Forwarded-For: 203.0.113.{i}") for i in (1, 2))
            lines = [asked(chat, *made(one))[0] for _ in range(2)]
            refusal = asked(chat, *made(one))[1]
            assert refusal.startswith(b"HTTP/1.1 429 ")
            assert b"\r\nretry-after: 10\r\n" in refusal.lower()
            assert refusal.endswith(b"\r\n\r\nThere are too many connections from your address; close one.\n")
            assert chat.hub.record.limited_by["max_connections_per_address"] == 1
            assert asked(chat, *made(other))[1].startswith(b"HTTP/1.1 101 ")
            lines[0].vanish()
            assert asked(chat, *made(one))[1].startswith(b"HTTP/1.1 101 ")

"""URLs of WebSockets: where they lead, and what is wrong with others, in one sentence each."""

from __future__ import annotations

import re

import pytest
from net.memory import Line
from net.websocket.applications import Recorder
from net.websocket.memory import ToLine
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock

from chatproto.websocket import WebSocketClientEndpoint


def requested(url: str) -> tuple[str, str]:
    """The target and the host that are asked for."""
    clock = Clock()
    line = Line(clock)
    endpoint = WebSocketClientEndpoint(ToLine(line), url, reactor=clock)
    connecting = Deferred.fromCoroutine(endpoint.connect(_NoFactory()))
    connecting.addErrback(lambda failure: None)
    start, host = line.received().decode().split("\r\n")[:2]
    connecting.cancel()
    return start.removeprefix("GET ").removesuffix(" HTTP/1.1"), host.removeprefix("Host: ")


class _NoFactory:
    def buildProtocol(self, url: str) -> Recorder:
        return Recorder()


@pytest.mark.parametrize(
    ("url", "target", "host"),
    [
        ("ws://example.org", "/", "example.org"),
        ("ws://example.org/", "/", "example.org"),
        ("ws://example.org:80/", "/", "example.org"),
        ("wss://example.org:443/", "/", "example.org"),
        ("ws://example.org:/", "/", "example.org"),
        ("ws://example.org:443/", "/", "example.org:443"),
        ("wss://example.org:80/", "/", "example.org:80"),
        ("ws://example.org/a/b;c?d=e&f=%20#", "/a/b;c?d=e&f=%20", "example.org"),
        ("ws://example.org?x=1", "/?x=1", "example.org"),
        ("ws://example.org//a//b/../c", "//a//b/../c", "example.org"),
        ("ws://example.org/a b/ä?ö=ü", "/a%20b/%C3%A4?%C3%B6=%C3%BC", "example.org"),
        ("WS://Example.ORG/Path", "/Path", "Example.ORG"),
        ("ws://bücher.example/", "/", "xn--bcher-kva.example"),
        ("ws://a_service:9001/", "/", "a_service:9001"),
        ("ws://127.0.0.1:9001/", "/", "127.0.0.1:9001"),
        ("ws://[::1]/", "/", "[::1]"),
        ("ws://[2001:db8::1]:9001/x", "/x", "[2001:db8::1]:9001"),
    ],
)
def test_what_is_asked_for(url: str, target: str, host: str) -> None:
    assert requested(url) == (target, host)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("ws://127.0.0.1", "127.0.0.1", 80),
        ("wss://127.0.0.1", "127.0.0.1", 443),
        ("wss://127.0.0.1:9001", "127.0.0.1", 9001),
    ],
)
def test_where_it_leads(url: str, host: str, port: int) -> None:
    reactor = MemoryReactorClock()
    connecting = Deferred.fromCoroutine(WebSocketClientEndpoint.new(reactor, url).connect(_NoFactory()))
    connecting.addErrback(lambda failure: None)
    assert [client[:2] for client in reactor.tcpClients] == [(host, port)]
    connecting.cancel()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "http://example.org/",
        "https://example.org/",
        "ws:example.org",
        "ws:///path",
        "//example.org/",
        " ws://example.org/",
        "ws://example.org:port/",
        "ws://example.org:0/",
        "ws://example.org:65536/",
        "ws://example.org:-1/",
        "ws://exa mple.org/",
        "ws://example.org\r\nX: y/",
        "ws://[::1/",
        "ws://[1.2.3.4.5]/",
        "ws://[::g]/",
        "ws://ex\0ample.org/",
        "ws://" + "ä" * 70 + ".example/",
        "ws://someone:secret@example.org/",
        "ws://example.org/#fragment",
    ],
)
def test_what_is_none_is_refused_in_one_sentence(url: str) -> None:
    clock = Clock()
    for make in (
        lambda: WebSocketClientEndpoint(ToLine(Line(clock)), url, reactor=clock),
        lambda: WebSocketClientEndpoint.new(MemoryReactorClock(), url),
    ):
        with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
            make()
        sentence = str(caught.value)
        assert not re.search(r"[.?!]\s+[A-Z]", sentence.replace(repr(url), "")), sentence
        assert "secret" not in sentence


@pytest.mark.parametrize(
    ("headers", "subprotocols"),
    [
        ([("Host", "elsewhere")], ()),
        ([("Sec-WebSocket-Key", "x")], ()),
        ([("Connection", "close")], ()),
        ([("X-Split", "a\r\nb: c")], ()),
        ([("X Space", "a")], ()),
        ((), ("a b",)),
        ((), ("twice", "twice")),
    ],
)
def test_what_cannot_be_sent_is_refused_before_anything_is(
    headers: list[tuple[str, str]], subprotocols: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=r"header|application to set|different words"):
        WebSocketClientEndpoint.new(
            MemoryReactorClock(), "ws://example.org/", headers=headers, subprotocols=subprotocols
        )

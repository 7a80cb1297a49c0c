"""chatproto.wire.handshake with the handshakes of others."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from wire.handshakes import (
    ACCEPT,
    KEY,
    client,
    judged,
)
from wire.streams import in_two

from chatproto.wire.deflate import Deflate
from chatproto.wire.handshake import (
    Request,
    make_answer,
    origin_allowed,
)
from chatproto.wire.http import Refusal

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

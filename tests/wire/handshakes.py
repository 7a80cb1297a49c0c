"""Opening handshakes (RFC 6455, section 4), and what either side makes of them."""

from __future__ import annotations

import base64
import http.client
import io
from collections.abc import Iterable
from typing import Any, cast

import pytest
from wire.streams import one_by_one

from chatproto.wire.deflate import Deflate
from chatproto.wire.handshake import (
    ClientHandshake,
    HandshakeFailed,
    Request,
    check_request,
)
from chatproto.wire.http import HeadReader, Refusal, parse_request

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

"""Feed the opening handshake and the inflater bytes that nobody would send: do they keep their promises?

`python tests/fuzz/fuzz_handshake.py --inputs 1000000` tries that many inputs and prints the seed that makes
the same ones again. Whatever the bytes:

- a server finds a request that a plain reading of the bytes also finds good, and that can be answered, or a
  refusal that is HTTP itself, or it waits; never an exception; and the same in one piece and in any cut;
- a client finds an answer that a plain reading also finds good, or fails, or waits; the same in any cut;
- an inflater gives at most what it may, the same as zlib, or a fault with a code; the same in any cut.
"""

from __future__ import annotations

import base64
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

# What is tried is an installed chatproto, if there is one.
sys.path += map(str, Path(__file__).resolve().parents[1:3])

from fuzz.trying import Seeded, expect, hexed, try_all

from chatproto.wire.deflate import Deflate, InflateError, Inflater
from chatproto.wire.handshake import (
    Answer,
    ClientHandshake,
    HandshakeFailed,
    Request,
    check_request,
    make_answer,
    origin_allowed,
)
from chatproto.wire.http import HeadReader, Refusal, parse_request

RAW_KEY = b"0123456789abcdef"
KEY = base64.b64encode(RAW_KEY)
ACCEPT = b"BACScCJPNqyz+UBoqMH89VmURoA="
MAX_HEAD_BYTES = 600
MAX_MESSAGE_BYTES = 2_000
TAIL = b"\0\0\xff\xff"

REQUEST_LINES = (
    b"GET /chat?a=b HTTP/1.1",
    b"GET / HTTP/1.1",
    b"GET http://a/ HTTP/1.1",
    b"HEAD / HTTP/1.1",
    b"GET / HTTP/1.0",
)
REQUEST = (
    b"Host: example.com:8080",
    b"Upgrade: websocket",
    b"Connection: keep-alive, Upgrade",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: " + KEY,
)
REQUEST_MORE = (
    b"Origin: http://example.com:8080",
    b"Origin: null",
    b"Sec-WebSocket-Protocol: chat.v1.bin, chat.v1.json",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    b'Sec-WebSocket-Extensions: x; y="z", permessage-deflate; server_max_window_bits=9',
    b"Cookie: a=b; c=d",
    b"Content-Length: 0",
    b"Content-Length: 7",
    b"Transfer-Encoding: chunked",
    b"Host: b",
    b"X-Long: " + b"x" * 300,
    b" folded",
)
ANSWER_LINES = (
    b"HTTP/1.1 101 Switching Protocols",
    b"HTTP/1.1 101",
    b"HTTP/1.1 403 Forbidden",
    b"HTTP/1.1 103 Hint",
)
ANSWER = (b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: " + ACCEPT)
ANSWER_MORE = (
    b"Sec-WebSocket-Protocol: chat.v1.bin",
    b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover",
    b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_max_window_bits=9",
    b"Content-Length: 5",
    b"Set-Cookie: a=b",
    b"X-Long: " + b"x" * 300,
)
INTERESTING = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"=",
    b'"',
    b"\xff",
    b"\r\n\r\n",
    b"\r\n ",
    b"/",
)


Check = Callable[[bytes, list[bytes], Counter[str]], None]


class Inputs(Seeded):
    """An endless row of inputs, the same for the same *seed*."""

    def draw(self, number: int) -> tuple[Check, bytes, list[bytes]]:
        """What is to be tried, an input for it and the same in pieces."""
        make, check = (
            (self.request, check_server),
            (self.answer, check_client),
            (self.compressed, check_inflater),
        )[number % 3]
        data = make()
        return check, data, self.cut(data)

    def check(self, found: Counter[str], *drawn: Any) -> None:
        """The one that it is for."""
        check, data, pieces = drawn
        check(data, pieces, found)

    def show(self, *drawn: Any) -> str:
        """What was tried, and the pieces."""
        check, _, pieces = drawn
        return f"{check.__name__}\n  {hexed(pieces)}"

    def request(self) -> bytes:
        """A request, most often with something wrong."""
        return self._damaged(self._head(REQUEST_LINES, REQUEST, REQUEST_MORE), INTERESTING)

    def answer(self) -> bytes:
        """An answer, most often with something wrong; some come after another."""
        head = self._head(ANSWER_LINES, ANSWER, ANSWER_MORE)
        if self._random.random() < 0.1:
            head = self._head(ANSWER_LINES[-1:], (), ANSWER_MORE) + head
        return self._damaged(head, INTERESTING)

    def compressed(self) -> bytes:
        """A compressed message without its tail, most often with something wrong."""
        chance, choice = self._random.random, self._random.choice
        data = b""
        for _ in range(int(chance() * 3) + 1):
            stream = zlib.compressobj(
                choice((0, 1, 6, 9)), zlib.DEFLATED, -choice((9, 12, 15)), 9, choice((0, 2, 4))
            )
            piece = choice(
                (b"", b"hello", b"ab" * 600, self._random.randbytes(200), bytes(range(97, 123)) * 20)
            )
            data += stream.compress(piece)
            data += stream.flush(zlib.Z_FINISH if chance() < 0.2 else zlib.Z_SYNC_FLUSH)
        data = data[:-4] if data.endswith(TAIL) else data + b"\0"
        return self._damaged(data, (b"\3\0", TAIL, b"\0" + TAIL, b"\xff\xff", b"\1\0\0\xff\xff", b"\0"))

    def _head(self, starts: tuple[bytes, ...], needed: tuple[bytes, ...], more: tuple[bytes, ...]) -> bytes:
        chance = self._random.random
        lines = [*needed, *(line for line in more if chance() < 0.15)]
        self._random.shuffle(lines)
        start = starts[int(chance() * len(starts))] if chance() < 0.3 else starts[0]
        return b"\r\n".join([start, *lines, b"", b""]) + self._random.choice(
            (b"", b"", b"\x81\x05hello", b"\r\n\r\n")
        )

    def _damaged(self, data: bytes, interesting: tuple[bytes, ...]) -> bytes:
        chance = self._random.random
        damaged = bytearray(data)
        while damaged and chance() < 0.45:
            at = int(chance() * len(damaged))
            kind = int(chance() * 6)
            if kind == 0:
                damaged[at] ^= 1 << int(chance() * 8)
            elif kind == 1:
                damaged[at] = int(chance() * 256)
            elif kind == 2:
                damaged[at:at] = self._random.choice(interesting)
            elif kind == 3:
                del damaged[at : at + 1 + int(chance() * 3)]
            elif kind == 4:
                damaged[at : at + 1] = self._random.choice(interesting)
            elif chance() < 0.2:
                del damaged[at:]
        return bytes(damaged)


# --- a server's side ----------------------------------------------------------------------------------------


def serve(pieces: Iterable[bytes]) -> tuple[Request | Refusal | None, bytes]:
    """What a server finds in *pieces*, and what is left."""
    reader = HeadReader(MAX_HEAD_BYTES, 12)
    head: bytes | None = None
    rest = b""
    for piece in pieces:
        if head is not None:
            rest += piece
            continue
        head = reader.receive(piece)
        rest = reader.rest
    if head is None:
        return reader.fault, b""
    parsed = parse_request(head)
    return (parsed if isinstance(parsed, Refusal) else check_request(parsed)), rest


def plain_lines(data: bytes) -> tuple[bytes, dict[bytes, list[bytes]]]:
    """The first line and the headers, read with no regard to speed. Raises Broken for a line that is none."""
    head = data.partition(b"\r\n\r\n")[0]
    first, *lines = head.split(b"\r\n")
    headers: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        expect(
            bool(colon) and re.fullmatch(rb"[!#-'*+\-.^-z|~0-9A-Z]+", name) is not None, "headers have names"
        )
        headers.setdefault(name.lower(), []).append(value.strip())
    return first, headers


def check_server(data: bytes, pieces: list[bytes], found: Counter[str]) -> None:
    """A server keeps its promises for *data*."""
    result, rest = serve([data])
    again, rest_again = serve(pieces)
    if result is None:
        expect(b"\r\n\r\n" not in data, "a request that is whole is judged")
        expect(again is None, "the same in any cut")
        found["waiting"] += 1
    elif isinstance(result, Refusal):
        expect(again == result, "the same in any cut")
        status_line, headers = plain_lines(result.encode())
        body = result.encode().partition(b"\r\n\r\n")[2]
        expect(re.fullmatch(rb"HTTP/1\.1 [45]\d\d [A-Za-z ]+", status_line) is not None, "a refusal is HTTP")
        expect(headers[b"content-length"] == [str(len(body)).encode()], "a refusal says its length")
        found[str(result.status)] += 1
    else:
        expect(isinstance(again, Request) and again.headers == result.headers, "the same in any cut")
        expect(rest == rest_again, "the same in any cut")
        check_request_plainly(result, data, rest)
        found["taken"] += 1


def check_request_plainly(request: Request, data: bytes, rest: bytes) -> None:
    """*request* is good by a plain reading of *data*, too."""
    head = data.partition(b"\r\n\r\n")[0]
    expect(head + b"\r\n\r\n" + rest == data, "what follows a request is kept")
    expect(len(head) <= MAX_HEAD_BYTES, "a request is within its bounds")
    expect(
        not re.search(rb"[^\t\r\n -~\x80-\xff]|(?<!\r)\n|\r(?!\n)|\r\n[ \t]", head),
        "no control characters, no folding",
    )
    first, headers = plain_lines(data)
    expect(re.fullmatch(rb"GET \S+ HTTP/1\.[1-9]", first) is not None, "a request is GET")
    for name in (b"host", b"sec-websocket-key", b"sec-websocket-version"):
        expect(len(headers.get(name, [])) == 1, "what must come once comes once")
    expect(b"transfer-encoding" not in headers, "a request has no body")
    expect(headers.get(b"content-length", [b"0"]) == [b"0"], "a request has no body")
    expect(headers[b"sec-websocket-version"] == [b"13"], "the version is 13")
    expect(headers[b"sec-websocket-key"] == [request.key.encode()], "the key is the one that came")
    expect(len(base64.b64decode(request.key)) == 16, "the key has 16 bytes")
    expect(b"websocket" in b",".join(headers[b"upgrade"]).lower(), "it is to upgrade to a WebSocket")
    expect(b"upgrade" in b",".join(headers[b"connection"]).lower(), "it is to upgrade")
    expect(request.path.startswith("/") and "?" not in request.path, "a request has a path")
    origin_allowed(request, ["null", "http://a"])
    expect(
        isinstance(request.query, dict) and isinstance(request.cookies, dict), "query and cookies can be read"
    )
    answer, response = make_answer(
        request, request.subprotocols[0] if request.subprotocols else None, Deflate()
    )
    status_line, headers = plain_lines(response)
    expect(status_line == b"HTTP/1.1 101 Switching Protocols", "a request can be answered")
    if request.key == KEY.decode():
        expect(headers[b"sec-websocket-accept"] == [ACCEPT], "the key is answered")
    expect(
        (answer.deflate is None) is (b"sec-websocket-extensions" not in headers), "what is agreed on is said"
    )


# --- a client's side ----------------------------------------------------------------------------------------


def connect(pieces: Iterable[bytes]) -> tuple[Answer | HandshakeFailed | None, bytes]:
    """What a client finds in *pieces*, and what is left."""
    client = ClientHandshake(
        "example.com",
        subprotocols=["chat.v1.bin"],
        deflate=Deflate(server_no_context_takeover=True),
        key=RAW_KEY,
        max_bytes=MAX_HEAD_BYTES,
        max_headers=12,
    )
    answer: Answer | None = None
    rest = b""
    for piece in pieces:
        if answer is not None:
            rest += piece
            continue
        try:
            answer = client.receive(piece)
        except HandshakeFailed as failed:
            return failed, b""
        rest = client.rest
    return answer, rest


def check_client(data: bytes, pieces: list[bytes], found: Counter[str]) -> None:
    """A client keeps its promises for *data*."""
    result, rest = connect([data])
    again, rest_again = connect(pieces)
    expect(type(again) is type(result), "the same in any cut")
    if isinstance(result, HandshakeFailed):
        expect(isinstance(again, HandshakeFailed) and again.status == result.status, "the same in any cut")
        expect(str(again) == str(result) and str(result).isprintable(), "a failure is one plain sentence")
        found["failed"] += 1
    elif result is None:
        found["unanswered"] += 1
    else:
        expect(again == result and rest == rest_again, "the same in any cut")
        expect(data.endswith(rest), "what follows an answer is kept")
        expect(
            re.search(rb"(?i)\r\nSec-WebSocket-Accept:[ \t]*" + re.escape(ACCEPT), data) is not None,
            "the key is answered",
        )
        expect(re.search(rb"HTTP/1\.[1-9] 101", data) is not None, "the status is 101")
        expect(result.subprotocol in (None, "chat.v1.bin"), "the subprotocol was offered")
        deflate = result.deflate
        expect(deflate is None or deflate.server_no_context_takeover is True, "what was asked for is done")
        found["answered"] += 1


# --- compressed messages ------------------------------------------------------------------------------------


def inflate(inflater: Inflater, pieces: Iterable[bytes]) -> bytes | None:
    """What *pieces* stand for; None if they are faulty."""
    message = b""
    try:
        for piece in pieces:
            message += inflater.decompress(piece, MAX_MESSAGE_BYTES - len(message))
            expect(len(message) <= MAX_MESSAGE_BYTES, "no more comes out than may")
        return message + inflater.finish(MAX_MESSAGE_BYTES - len(message))
    except InflateError as fault:
        expect(fault.code in (1007, 1009) and 0 < len(fault.reason) <= 123, "a fault has a code and a reason")
        return None


def inflate_plainly(data: bytes) -> bytes:
    """What zlib makes of *data* and the tail, as far as it goes."""
    message = b""
    data += TAIL
    while data:
        stream = zlib.decompressobj(-15)
        message += stream.decompress(data)
        data = stream.unused_data
    return message


def check_inflater(data: bytes, pieces: list[bytes], found: Counter[str]) -> None:
    """Inflaters keep their promises for *data*."""
    for takes_over in (False, True):
        inflater = Inflater(15, takes_over)
        message = inflate(inflater, [data])
        expect(inflate(Inflater(15, takes_over), pieces) == message, "the same in any cut")
        if message is None:
            found["faulty"] += 1
            continue
        found["inflated"] += 1
        expect(message == (inflate_plainly(data) if data else b""), "an inflater gives what zlib gives")
        expect(
            inflate(inflater, [b"\xcaH\xcd\xc9\xc9\x07\x00"]) == b"hello", "the next message is not harmed"
        )


if __name__ == "__main__":
    sys.exit(try_all(Inputs, "Feed handshakes and the inflater bytes that nobody would send."))

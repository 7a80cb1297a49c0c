"""The opening handshake, both sides, as bytes: no socket, no clock (RFC 6455, sections 4 and 9)."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import parse_qs

from chatproto.wire.deflate import Deflate, agree, check_answer, make_offer
from chatproto.wire.headers import (
    TOKEN,
    Extension,
    HeaderFault,
    Headers,
    format_extension,
    parse_cookies,
    parse_extensions,
    parse_protocols,
    parse_tokens,
)
from chatproto.wire.http import (
    END_OF_HEAD,
    FRAMING_HEADERS,
    STATUS_LINE,
    Head,
    HeadReader,
    Refusal,
    body_for,
    checked_names,
    parse_head,
)

__all__ = [
    "Answer",
    "ClientHandshake",
    "HandshakeFailed",
    "Request",
    "accept_key",
    "check_origin",
    "check_request",
    "make_answer",
    "origin_allowed",
]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3

_HOST_PORT = r"(\[[0-9A-Za-z:.%~_-]++\]|[0-9A-Za-z._~!$&'()*+,;=%-]++)(?::(\d{1,5})?)?"
_PATH = re.compile(r"/[!\"$-~]*+")  # no fragment (RFC 6455, section 3)
_ABSOLUTE = re.compile(rf"(?i:https?|wss?)://({_HOST_PORT})((?:[/?].*+)?)")
_HOST = re.compile(_HOST_PORT)
_ORIGIN = re.compile(rf"([A-Za-z][A-Za-z0-9+.-]*+)://{_HOST_PORT}")
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")  # 16 bytes

_TOKEN = re.compile(TOKEN)

_DEFAULT_PORTS = {"http": 80, "https": 443}

_MAX_PHRASE_CHARS = 100


def _checked_additions(headers: Iterable[tuple[str, str]], *own: str) -> None:
    """See that *headers* can be added to a handshake, and contradict nothing in it. Raises ValueError."""
    for name in checked_names(headers):
        if name in FRAMING_HEADERS or name in own or name.startswith("sec-websocket-"):
            raise ValueError(f"{name} is not for the application to set")


def accept_key(key: str) -> str:
    """What a server answers to a `Sec-WebSocket-Key` (RFC 6455, section 4.2.2, step 5.4)."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


# --- server (RFC 6455, sections 4.2 and 4.4) ----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """A client's opening handshake, read-only. `peer` and `is_secure` are as `check_request` was told."""

    headers: Headers
    path: str
    """As it was sent: percent signs and all."""
    query_string: str
    host: str
    """With its port, if one was given."""
    key: str
    subprotocols: tuple[str, ...]
    """What the client offers, in its order."""
    extensions: tuple[Extension, ...]
    peer: object = None
    is_secure: bool = False

    @property
    def origin(self) -> str | None:
        """Where the page is from that opens the WebSocket; None where no browser does it."""
        values = self.headers.all("origin")
        return ", ".join(values) if values else None

    @cached_property
    def query(self) -> dict[str, list[str]]:
        """The values of each name in the query, decoded."""
        return parse_qs(self.query_string, keep_blank_values=True)

    @cached_property
    def cookies(self) -> dict[str, str]:
        """The cookies that the client sends back."""
        return parse_cookies(self.headers.all("cookie"))


def check_request(head: Head, peer: object = None, is_secure: bool = False) -> Request | Refusal:
    """The opening handshake that *head* is, or the refusal of one that is not (RFC 6455, section 4.2.1).

    *peer* and *is_secure* (the client speaks TLS with this server) are what the application is to know of it.
    """
    if head.method != "GET":
        return Refusal(405, body_for(head.method, "A WebSocket is opened with GET.\n"), (("Allow", "GET"),))
    headers = head.headers
    try:
        host = headers.one("host")
        if host is None or not _HOST.fullmatch(host):
            return Refusal(400, "The request needs one valid Host.\n")
        target = head.target
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is not None:  # what proxies are sent; its host then counts (RFC 9112, section 3.2.2)
            host, target = absolute[1], absolute[4]
            target = target if target.startswith("/") else "/" + target
        if not _PATH.fullmatch(target):
            return Refusal(400, "The request needs a path.\n")
        # A body would be the beginning of the frames to one reader, and of the next request to another.
        if "transfer-encoding" in headers or headers.one("content-length") not in (None, "0"):
            return Refusal(400, "An opening handshake has no body.\n")
        upgrades = parse_protocols(headers.all("upgrade"))
        connection = parse_tokens(headers.all("connection"))
        version = headers.one("sec-websocket-version")
        key = headers.one("sec-websocket-key")
        subprotocols = parse_tokens(headers.all("sec-websocket-protocol"))
        extensions = parse_extensions(headers.all("sec-websocket-extensions"))
        headers.one("origin")
    except HeaderFault as fault:
        return Refusal(400, f"The request is malformed: {fault}.\n")
    if not _has(upgrades, "websocket"):
        return Refusal(426, "This is a WebSocket.\n", _UPGRADE)
    if not _has(connection, "upgrade"):
        return Refusal(400, "Connection must have the word Upgrade.\n")
    if version != "13":
        return Refusal(426, "This server speaks version 13 of the WebSocket protocol.\n", _UPGRADE)
    if key is None or not _KEY.fullmatch(key):
        return Refusal(400, "Sec-WebSocket-Key must be 16 bytes in base64.\n")
    if len(set(subprotocols)) != len(subprotocols):  # RFC 6455, section 11.3.4
        return Refusal(400, "Sec-WebSocket-Protocol has a word twice.\n")
    path, _, query_string = target.partition("?")
    return Request(
        headers=headers,
        path=path,
        query_string=query_string,
        host=host,
        key=key,
        subprotocols=tuple(subprotocols),
        extensions=tuple(extensions),
        peer=peer,
        is_secure=is_secure,
    )


_UPGRADE = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))  # RFC 6455, section 4.4


def _has(words: Iterable[str], word: str) -> bool:
    return word in map(str.lower, words)


def origin_allowed(request: Request, allowed: Collection[str] = ()) -> bool:
    """Whether the page that opens the WebSocket is of this server, or of an origin in *allowed*.

    No Origin: not a browser, which a page could have misled. `"*"` allows all; `"null"`, which sandboxed
    pages and files have, is an origin as any other. Without `is_secure` TLS may end at a proxy, so that pages
    from HTTPS are taken for this server's as those from HTTP are; with it those from HTTP are not, which
    anybody on the way could have written.
    """
    origin = request.origin
    if origin is None or "*" in allowed:
        return True
    if _comparable(origin) in map(_comparable, allowed):
        return True
    found = _ORIGIN.fullmatch(origin)
    host = _HOST.fullmatch(request.host)
    if found is None or host is None:
        return False
    scheme = found[1].lower()
    if scheme not in _DEFAULT_PORTS or (request.is_secure and scheme == "http"):
        return False
    return _comparable(origin) == _comparable(f"{scheme}://{request.host}")


def check_origin(origin: str) -> None:
    """Raise ValueError, with one sentence, for what is of no use in the *allowed* of `origin_allowed`."""
    if origin not in ("*", "null") and not _ORIGIN.fullmatch(origin):
        raise ValueError(
            f"{origin!r} is no origin: https://host or https://host:port, with nothing behind it"
        )


def _comparable(origin: str) -> tuple[str, ...]:
    """*origin* as it compares: without case, and with the port that its scheme has (RFC 6454, section 4)."""
    found = _ORIGIN.fullmatch(origin.lower())
    if found is None:
        return (origin.lower(),)
    return found[1], found[2], str(int(found[3]) if found[3] else _DEFAULT_PORTS.get(found[1], ""))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handshake came to: the subprotocol, and what was agreed on for permessage-deflate.

    Each is None where there is none. `headers` are the server's, to a client; a server has those it added.
    """

    subprotocol: str | None
    deflate: Deflate | None
    headers: Headers = field(default_factory=Headers)


def make_answer(
    request: Request,
    subprotocol: str | None = None,
    deflate: Deflate | None = None,
    headers: Sequence[tuple[str, str]] = (),
) -> tuple[Answer, bytes]:
    """What was agreed with a client, and the response 101 that says so (RFC 6455, section 4.2.2).

    *subprotocol* must be one that the client offers, *deflate* is what this side wants (None: no
    compression), *headers* are added. Raises ValueError for a subprotocol that was not offered, and for a
    header that is none or belongs to the handshake.
    """
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_key(request.key)}",
    ]
    if subprotocol is not None:
        if subprotocol not in request.subprotocols:
            raise ValueError(f"the client does not offer {subprotocol!r}")
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    agreement = agree(request.extensions, deflate) if deflate is not None else None
    if agreement is not None:
        lines.append(f"Sec-WebSocket-Extensions: {format_extension(agreement[1])}")
    if headers:
        _checked_additions(headers)
        lines += [f"{name}: {value}" for name, value in headers]
    answer = Answer(subprotocol, agreement[0] if agreement else None, Headers(headers))
    return answer, "\r\n".join(lines).encode() + END_OF_HEAD


# --- client (RFC 6455, section 4.1) -------------------------------------------------------------------------


class HandshakeFailed(Exception):
    """The server did not open a WebSocket; `str()` is one sentence.

    `status` is that of HTTP (0: nothing that could be read), with the answer's `headers`. `body` is what has
    come behind them; the rest of it, if it is wanted, is to be read as they say.
    """

    def __init__(
        self, reason: str, status: int = 0, headers: Headers | None = None, body: bytes = b""
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = Headers() if headers is None else headers
        self.body = body


class ClientHandshake:
    """One opening handshake of a client: `request` is what to send, `receive` judges what comes.

    *host* is as it stands in the URL (with the port, unless it is the scheme's own), *target* begins with a
    slash. Redirects are not followed: they fail as any other refusal does. Raises ValueError for what cannot
    be sent, and for headers that belong to the handshake.
    """

    def __init__(
        self,
        host: str,
        target: str = "/",
        *,
        subprotocols: Sequence[str] = (),
        deflate: Deflate | None = None,
        headers: Sequence[tuple[str, str]] = (),
        key: bytes | None = None,
        max_bytes: int = 16_384,
        max_headers: int = 100,
    ) -> None:
        if not _HOST.fullmatch(host):
            raise ValueError(f"{host!r} is no host, with or without a port")
        if not _PATH.fullmatch(target):
            raise ValueError(f"{target!r} is no path that can be asked for")
        if not all(map(_TOKEN.fullmatch, subprotocols)) or len(set(subprotocols)) != len(subprotocols):
            raise ValueError("subprotocols are different words")
        if key is not None and len(key) != 16:
            raise ValueError(f"a key has 16 bytes, not {len(key)}")
        _checked_additions(headers, "host")
        self._key = base64.b64encode(os.urandom(16) if key is None else key).decode()
        self._subprotocols = tuple(subprotocols)
        self._deflate = deflate
        self._max_bytes, self._max_headers = max_bytes, max_headers
        self._reader = HeadReader(max_bytes, max_headers)
        self.rest = b""
        """What came behind the answer: the first frames."""
        lines = [
            f"GET {target} HTTP/1.1",
            f"Host: {host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {self._key}",
            "Sec-WebSocket-Version: 13",
        ]
        if subprotocols:
            lines.append(f"Sec-WebSocket-Protocol: {', '.join(subprotocols)}")
        if deflate is not None:
            lines.append(f"Sec-WebSocket-Extensions: {format_extension(make_offer(deflate))}")
        lines += [f"{name}: {value}" for name, value in headers]
        self.request = "\r\n".join(lines).encode() + END_OF_HEAD

    def receive(self, data: bytes) -> Answer | None:
        """What the server agreed on, once its answer is complete; None before. Raises HandshakeFailed.

        Interim responses, as `103 Early Hints`, are passed over (RFC 9110, section 15.2).
        """
        while True:
            reader = self._reader
            head = reader.receive(data)
            if reader.fault is not None:
                raise HandshakeFailed("the answer is too long, or is not HTTP")
            if head is None:
                return None
            # All heads together have what one may have: interim responses must come to an end.
            self._max_bytes = max(0, self._max_bytes - len(head) - len(END_OF_HEAD))
            self._reader = HeadReader(self._max_bytes, self._max_headers)
            data = reader.rest
            try:
                answer = self.check(head)
            except HandshakeFailed as refused:
                if not 100 <= refused.status < 200 or refused.status == 101:
                    refused.body = data
                    raise
                continue
            self.rest = data
            return answer

    def check(self, head: bytes) -> Answer:
        """What the server agreed on in an answer with *head*.

        Raises HandshakeFailed for all that section 4.1 names.
        """
        found = STATUS_LINE.fullmatch(head.partition(b"\r\n")[0].decode("latin-1"))
        if found is None:
            raise HandshakeFailed("the answer is not HTTP/1.1")
        status = int(found[2])
        try:
            _, headers = parse_head(head)
        except HeaderFault as fault:
            raise HandshakeFailed(f"the answer is malformed: {fault}", status) from None
        if status != 101:
            phrase = re.sub(r"[^ -~]", "?", found[3] or "")[:_MAX_PHRASE_CHARS]
            raise HandshakeFailed(f"the server answered {status} {phrase}".rstrip(), status, headers)
        try:
            if found[1] == "0":
                raise HeaderFault("it is HTTP/1.0")
            return self._agreed(headers)
        except ValueError as fault:
            raise HandshakeFailed(f"the answer does not open a WebSocket: {fault}", status, headers) from None

    def _agreed(self, headers: Headers) -> Answer:
        """What section 4.1 has the client check, step by step."""
        if (headers.one("upgrade") or "").lower() != "websocket":  # step 2
            raise HeaderFault("Upgrade is not websocket")
        if not _has(parse_tokens(headers.all("connection")), "upgrade"):  # step 3
            raise HeaderFault("Connection has not the word Upgrade")
        if headers.one("sec-websocket-accept") != accept_key(self._key):  # step 4
            raise HeaderFault("Sec-WebSocket-Accept does not answer the key")
        extensions = parse_extensions(headers.all("sec-websocket-extensions"))  # step 5
        deflate: Deflate | None = None
        if extensions:
            if self._deflate is None or len(extensions) > 1:
                raise HeaderFault("an extension was not offered")
            deflate = check_answer(extensions[0], self._deflate)
        subprotocol = headers.one("sec-websocket-protocol")  # step 6
        if subprotocol is not None and subprotocol not in self._subprotocols:
            raise HeaderFault("the subprotocol was not offered")
        return Answer(subprotocol, deflate, headers)

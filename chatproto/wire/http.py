"""HTTP/1.1 as far as the opening handshake goes: heads of messages, and refusals (RFC 9110; RFC 9112)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from chatproto.wire.headers import TOKEN, HeaderFault, Headers

__all__ = [
    "END_OF_HEAD",
    "FRAMING_HEADERS",
    "STATUS_LINE",
    "Head",
    "HeadReader",
    "Refusal",
    "body_for",
    "checked_names",
    "parse_head",
    "parse_request",
]

END_OF_HEAD = b"\r\n\r\n"
_VISIBLE = bytes([*b"\t", *range(0x20, 0x7F), *range(0x80, 0x100)])  # what a line may have in it

_VALUE = r"[\t\x20-\x7e\x80-\xff]*+"
_LINES = re.compile(rf"{TOKEN}:{_VALUE}(?:\r\n{TOKEN}:{_VALUE})*+")
_REQUEST_LINE = re.compile(rf"({TOKEN}) ([!-~]++) HTTP/(\d)\.(\d)")
STATUS_LINE = re.compile(rf"HTTP/1\.(\d) ([1-5]\d\d)(?: ({_VALUE}))?")

_NAME = re.compile(TOKEN)
_HEADER_TEXT = re.compile(r"[\t\x20-\x7e]*+")

# What only the message itself may say: a second time it would end it elsewhere, or contradict it.
FRAMING_HEADERS = frozenset({"connection", "content-length", "transfer-encoding", "upgrade"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is no: *status* of HTTP, *body* for people, and headers beside the usual ones.

    A health check may be answered so as well, with 200. Raises ValueError for what is no response, and for
    headers that `encode` writes itself.
    """

    status: int
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ValueError(f"a refusal has a status from 200 to 599, not {self.status}")
        if self.body and not self._may_have_body:
            raise ValueError(f"a response {self.status} has no body")
        for name in checked_names(self.headers):
            if name in FRAMING_HEADERS - {"upgrade"}:
                raise ValueError(f"{name} is not for the application to set")

    @property
    def _may_have_body(self) -> bool:
        return self.status not in (204, 205, 304)

    def encode(self) -> bytes:
        """The response, after which the connection is closed."""
        body = self.body.encode(errors="replace")
        names = {name.lower() for name, _ in self.headers}
        lines = [f"HTTP/1.1 {self.status} {_phrase(self.status)}"]
        # Whoever sends Upgrade says so in Connection (RFC 9110, section 7.8).
        lines.append("Connection: close, Upgrade" if "upgrade" in names else "Connection: close")
        if body and "content-type" not in names:
            lines.append("Content-Type: text/plain; charset=utf-8")
        if self._may_have_body:
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join(lines).encode() + END_OF_HEAD + body


@dataclass(frozen=True, slots=True)
class Head:
    """The first part of an HTTP request, as it came."""

    method: str
    target: str
    headers: Headers


class HeadReader:
    """Reads the head of an HTTP message from bytes in any cut, within bounds.

    `fault` is the refusal (400 or 431) once there is one. What came behind the head is in `rest`.
    """

    __slots__ = ("_begun", "_checked_bytes", "fault", "max_bytes", "max_headers", "rest")

    def __init__(self, max_bytes: int = 16_384, max_headers: int = 100) -> None:
        self.max_bytes = max_bytes
        self.max_headers = max_headers
        self.fault: Refusal | None = None
        self.rest = b""
        self._begun = bytearray()
        self._checked_bytes = 0

    def receive(self, data: bytes) -> bytes | None:
        """The head without the blank line at its end, once it is complete; None before, and after a fault.

        MUST give the same head, rest and fault in any cut. A line that can never be one is a fault at once:
        who ends lines with LF alone would wait for an answer. To be called no more once there is a head.
        """
        if self.fault is not None:
            return None
        begun = self._begun
        begun += data
        bound = self.max_bytes + len(END_OF_HEAD)
        # Both searches begin where the last ones ended: byte by byte would cost the square of the whole.
        end = begun.find(END_OF_HEAD, max(0, self._checked_bytes - 3), bound)
        piece = begun[self._checked_bytes : bound if end < 0 else end]
        if end < 0 and piece.endswith(b"\r"):
            del piece[-1:]  # half a line's end, perhaps
        self._checked_bytes += len(piece)
        if len(piece.translate(None, _VISIBLE)) != 2 * piece.count(b"\r\n"):
            self._fail(Refusal(400, "The request has control characters, or lines that CRLF does not end.\n"))
        elif end < 0 and len(begun) >= bound:
            self._fail(Refusal(431, f"The request's head has more than {self.max_bytes} bytes.\n"))
        elif end >= 0:
            self._begun = bytearray()
            if begun.count(b"\r\n", 0, end) > self.max_headers:
                self._fail(Refusal(431, f"The request has more than {self.max_headers} headers.\n"))
            else:
                self.rest = bytes(begun[end + len(END_OF_HEAD) :])
                return bytes(begun[:end])
        return None

    def _fail(self, fault: Refusal) -> None:
        self.fault = fault
        self._begun = bytearray()


def parse_request(head: bytes) -> Head | Refusal:
    """A request's head. Anything but strict HTTP/1.1, or a later one of the same kind, is refused."""
    try:
        first, headers = parse_head(head)
    except HeaderFault as fault:
        return Refusal(400, f"The request is malformed: {fault}.\n")
    start = _REQUEST_LINE.fullmatch(first)
    if start is None:
        return Refusal(400, "The request line is malformed.\n")
    if start[3] != "1" or start[4] == "0":
        return Refusal(505, body_for(start[1], "A WebSocket is opened with HTTP/1.1.\n"))
    return Head(start[1], start[2], headers)


def parse_head(head: bytes) -> tuple[str, Headers]:
    """The first line, and the headers (RFC 9112, section 5). Raises HeaderFault for one that is malformed.

    That is a line without a colon, with blanks before it, or folded, and control characters anywhere.
    """
    start, crlf, lines = head.decode("latin-1").partition("\r\n")
    if not crlf:
        return start, Headers()
    if not _LINES.fullmatch(lines):
        raise HeaderFault("a header line is malformed")
    fields = [line.partition(":") for line in lines.split("\r\n")]
    return start, Headers([(name, value.strip(" \t")) for name, _, value in fields])


def checked_names(headers: Iterable[tuple[str, str]]) -> list[str]:
    """The names of *headers*, in lower case. Raises ValueError for what would be another, or half of one."""
    names = []
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _HEADER_TEXT.fullmatch(value):
            raise ValueError(f"{name!r}: {value!r} is no header")
        names.append(name.lower())
    return names


def body_for(method: str, body: str) -> str:
    """*body*, unless the client reads none (RFC 9110, section 9.3.2)."""
    return "" if method == "HEAD" else body


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""

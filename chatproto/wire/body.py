"""The body of an HTTP response, as far as it is wanted (RFC 9112, sections 6 and 7)."""

from __future__ import annotations

import re

from chatproto.wire.headers import Headers

__all__ = ["BodyReader"]

_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_CRLF_BYTES = 2
_MAX_LINE_BYTES = 1_024  # of a chunk's size with its extensions, or of a trailer


class BodyReader:
    """Reads a body from bytes in any cut; *status* and *headers* say how it ends.

    `body` is what has come of it, at most *max_bytes*. `is_over` is True once nothing more is wanted: it is
    whole, or long enough, or malformed. Until then the end of the connection is its end.
    """

    __slots__ = ("_body", "_chunk_bytes", "_in_trailers", "_is_chunked", "_line", "_wanted_bytes", "is_over")

    def __init__(self, status: int, headers: Headers, max_bytes: int) -> None:
        self._body = bytearray()
        self._wanted_bytes = max_bytes
        encoding = headers.get("transfer-encoding")
        self._is_chunked = encoding is not None and encoding.lower() == "chunked"
        self._chunk_bytes = 0  # still to come of a chunk, with the CRLF behind it
        self._in_trailers = False
        self._line = b""
        length = headers.get("content-length", "")
        if encoding is None and re.fullmatch(r"[0-9]{1,18}", length):
            self._wanted_bytes = min(max_bytes, int(length))
        self.is_over = not self._wanted_bytes or status < 200 or status in (204, 304)

    @property
    def body(self) -> bytes:
        """What has come."""
        return bytes(self._body)

    def receive(self, data: bytes) -> None:
        """Take what came. MUST come to the same in any cut."""
        if not self._is_chunked:
            self._take(data)
            return
        while data and not self.is_over:
            if self._chunk_bytes:
                piece, data = data[: self._chunk_bytes], data[self._chunk_bytes :]
                self._take(piece[: max(0, self._chunk_bytes - _CRLF_BYTES)])
                self._chunk_bytes -= len(piece)
                continue
            self._line, end, data = (self._line + data).partition(b"\r\n")
            if len(self._line) > _MAX_LINE_BYTES:
                self.is_over = True
            elif end:
                line, self._line = self._line, b""
                self._take_line(line)

    def _take(self, content: bytes) -> None:
        if not self.is_over:
            self._body += content[: self._wanted_bytes]
            self._wanted_bytes -= min(len(content), self._wanted_bytes)
            self.is_over = not self._wanted_bytes

    def _take_line(self, line: bytes) -> None:
        """The size of a chunk, or a line behind the last one."""
        size = _CHUNK_SIZE.fullmatch(line)
        if self._in_trailers:
            self.is_over = not line
        elif size is None:
            self.is_over = True
        elif int(size[1], 16):
            self._chunk_bytes = int(size[1], 16) + _CRLF_BYTES
        else:
            self._in_trailers = True

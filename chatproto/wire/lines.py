"""Lines from `nc` and `telnet`: bytes to lines in any cut, with telnet's option negotiation taken out.

docs/protocol.md, section 7; RFC 854 (telnet), RFC 1143 (why an option is answered once).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["LineDecoder", "LineFault"]

_IAC, _DONT, _DO, _WONT, _WILL, _SB, _SE = 255, 254, 253, 252, 251, 250, 240
_REFUSAL = {_DO: _WONT, _WILL: _DONT}
_NEGOTIATION = frozenset(bytes([verb]) for verb in (_DO, _DONT, _WILL, _WONT))  # one more byte follows
_LINE_END = re.compile(rb"\r\n|\r\0|\n")


@dataclass(frozen=True, slots=True)
class LineFault:
    """A line that could not be taken; `reason` is one sentence. The lines after it are fine."""

    reason: str


class LineDecoder:
    """The lines of one connection. A line ends with LF, CR LF or telnet's CR NUL.

    A line of more than *max_line_bytes* is skipped up to its end and never kept. `replies` has what telnet
    wants to hear back, each option refused once; the caller takes it with `take_replies`.
    """

    def __init__(self, max_line_bytes: int = 4_096) -> None:
        self.max_line_bytes = max_line_bytes
        self._line = bytearray()
        self._skipping = False
        self._after_cr = False
        self._command = b""  # an IAC sequence that has begun
        self._in_subnegotiation = False
        self._refused: set[tuple[int, int]] = set()
        self._replies = bytearray()

    @property
    def buffered_bytes(self) -> int:
        """How many bytes of an unfinished line are kept."""
        return len(self._line)

    def receive(self, data: bytes) -> list[str | LineFault]:
        """The lines that *data* completes. MUST give the same however the bytes are cut."""
        if self._command or self._in_subnegotiation or _IAC in data:
            data = self._without_telnet(data)
        found: list[str | LineFault] = []
        if self._after_cr and data:
            self._after_cr = False
            data = b"\r" + data
        if data.endswith(b"\r"):
            # Only the next byte tells whether this ends the line.
            self._after_cr = True
            data = data[:-1]
        *ended, rest = _LINE_END.split(data)
        for part in ended:
            self._keep(part, found)
            self._end_line(found)
        self._keep(rest, found)
        return found

    def finish(self) -> list[str | LineFault]:
        """The input is over: a last line without its end counts as one."""
        found: list[str | LineFault] = []
        if self._line:
            self._end_line(found)
        return found

    def take_replies(self) -> bytes:
        """What is to be sent back to a telnet that wants to negotiate."""
        replies, self._replies = bytes(self._replies), bytearray()
        return replies

    def _keep(self, part: bytes, found: list[str | LineFault]) -> None:
        if self._skipping:
            return
        if len(self._line) + len(part) > self.max_line_bytes:
            self._skipping = True
            self._line.clear()
            found.append(LineFault(f"a line has at most {self.max_line_bytes} bytes; yours was not sent"))
            return
        self._line += part

    def _end_line(self, found: list[str | LineFault]) -> None:
        line, self._line = self._line, bytearray()
        if self._skipping:
            self._skipping = False
            return
        try:
            found.append(line.decode())
        except UnicodeDecodeError:
            found.append(LineFault("that line is not UTF-8; it was not sent"))

    def _without_telnet(self, data: bytes) -> bytes:
        """*data* without IAC sequences (RFC 854), each option offered or asked for refused once."""
        data, self._command = self._command + data, b""
        text = bytearray()
        start = 0
        while (place := data.find(_IAC, start)) >= 0:
            if not self._in_subnegotiation:
                text += data[start:place]
            start = place + (3 if data[place + 1 : place + 2] in _NEGOTIATION else 2)
            if start > len(data):
                self._command = data[place:]
                return bytes(text)
            verb = data[place + 1]
            if start == place + 3:
                self._refuse(verb, data[place + 2])
            elif verb == _SB:
                self._in_subnegotiation = True
            elif verb == _SE:
                self._in_subnegotiation = False
            elif verb == _IAC and not self._in_subnegotiation:
                text.append(verb)
        if not self._in_subnegotiation:
            text += data[start:]
        return bytes(text)

    def _refuse(self, verb: int, option: int) -> None:
        refusal = _REFUSAL.get(verb)
        if refusal is not None and (verb, option) not in self._refused:
            self._refused.add((verb, option))
            self._replies += bytes([_IAC, refusal, option])

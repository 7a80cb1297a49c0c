"""Lines from `nc` and `telnet`: bytes to lines in any cut, as a terminal edits them.

docs/protocol.md, section 7; RFC 854 (telnet, in `chatproto.wire.telnet`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from chatproto.wire.telnet import ERASE_CHARACTER, ERASE_LINE, Signal, TelnetFilter

__all__ = ["LineDecoder", "LineFault", "Signal"]

_LINE_END = re.compile(rb"\r[\n\0]?|\n")
_DELETE = b"\x7f"  # what most terminals send for the backspace key
_EDIT = re.compile(rb"([%b%b%b])" % (ERASE_CHARACTER, _DELETE, ERASE_LINE))


@dataclass(frozen=True, slots=True)
class LineFault:
    """A line that could not be taken; `reason` is one sentence. The lines after it are fine."""

    reason: str
    is_too_long: bool = field(default=False, compare=False)


Heard = list[str | LineFault | Signal]


class LineDecoder:
    """The lines of one connection, and what its telnet asks for between them.

    A line ends with LF, CR LF, telnet's CR NUL, or the bare CR of a terminal in raw mode. Backspace and DEL
    take back a character, Ctrl-U all of the line, as from a terminal that does not edit by itself.

    A line of more than *max_line_bytes* is skipped up to its end and never kept. What telnet wants to hear
    back is taken with `take_replies`.
    """

    def __init__(self, max_line_bytes: int = 4_096) -> None:
        self.max_line_bytes = max_line_bytes
        self._telnet = TelnetFilter()
        self._line = bytearray()
        self._skipping = False
        self._after_cr = False

    @property
    def buffered_bytes(self) -> int:
        """How many bytes of an unfinished line are kept."""
        return len(self._line)

    @property
    def columns(self) -> int:
        """The width of the window that a telnet told of; 0 if none did."""
        return self._telnet.columns

    def receive(self, data: bytes) -> Heard:
        """The lines that *data* completes. MUST give the same however the bytes are cut."""
        found: Heard = []
        if not self._telnet.touches(data):
            self._take(data, found)
            return found
        for piece in self._telnet.receive(data):
            if isinstance(piece, Signal):
                found.append(piece)
            elif piece:
                self._take(piece, found)
        return found

    def finish(self) -> Heard:
        """The input is over: a last line without its end counts as one."""
        found: Heard = []
        if self._line:
            self._end_line(found)
        return found

    def take_replies(self) -> bytes:
        """What is to be sent back to a telnet that wants to negotiate."""
        return self._telnet.take_replies()

    def _take(self, text: bytes, found: Heard) -> None:
        # A line is complete with its CR, for nothing more may come; what belongs to it is passed over then.
        if self._after_cr and text[:1] in (b"\n", b"\0"):
            text = text[1:]
            self._after_cr = False
        if not text:
            return
        self._after_cr = text.endswith(b"\r")
        *ended, rest = _LINE_END.split(text)
        for part in ended:
            self._keep(part, found)
            self._end_line(found)
        self._keep(rest, found)

    def _keep(self, part: bytes, found: Heard) -> None:
        if not _EDIT.search(part):
            self._append(part, found)
            return
        for piece in _EDIT.split(part):
            if piece == ERASE_LINE:
                self._line.clear()
            elif piece in (ERASE_CHARACTER, _DELETE):
                self._erase_character()
            else:
                self._append(piece, found)

    def _append(self, part: bytes, found: Heard) -> None:
        if self._skipping:
            return
        if len(self._line) + len(part) > self.max_line_bytes:
            self._skipping = True
            self._line.clear()
            reason = f"a line has at most {self.max_line_bytes} bytes; yours was not sent"
            found.append(LineFault(reason, is_too_long=True))
            return
        self._line += part

    def _erase_character(self) -> None:
        while self._line and self._line[-1] & 0xC0 == 0x80:  # its bytes after the first
            self._line.pop()
        if self._line:
            self._line.pop()

    def _end_line(self, found: Heard) -> None:
        line, self._line = self._line, bytearray()
        if self._skipping:
            self._skipping = False
            return
        try:
            found.append(line.decode())
        except UnicodeDecodeError:
            found.append(LineFault("that line is not UTF-8; it was not sent"))

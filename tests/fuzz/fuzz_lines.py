"""Feed the line form bytes that nobody would send, telnet's above all, and see that it keeps its promises.

`python tests/fuzz/fuzz_lines.py --inputs 1000000` tries that many inputs and prints the seed that makes the
same ones again. Whatever the bytes:

- a decoder gives what a plain reading gives, `read_plainly`, one byte after the other: lines, faults,
  signals, replies and the width of the window; never an exception; and the same in one piece and in any cut;
- no line has a line end, a telnet command or an editing key in it, and none is longer than it may be;
- no more than one line is kept, and what is sent back is bounded, whatever is asked.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# What is tried is an installed chatproto, if there is one.
sys.path += map(str, Path(__file__).resolve().parents[1:3])

from fuzz.trying import Seeded, expect, hexed, try_all

from chatproto.wire.lines import LineDecoder, LineFault, Signal

Heard = list[str | LineFault | Signal]

IAC, DONT, DO, WONT, WILL, SB, SE = 255, 254, 253, 252, 251, 250, 240
NAWS, TIMING_MARK = 31, 6
SIGNALS = {
    246: Signal.ARE_YOU_THERE,
    244: Signal.INTERRUPT,
    238: Signal.INTERRUPT,
    236: Signal.INTERRUPT,
}
MOST_REPLIES_BYTES = 3 * (2 * 256 + 2)
"""Each option refused in each direction, the window's size asked for, and its end confirmed."""

LIMITS = (1, 2, 4, 9, *[64] * 8)
PIECES = (
    *(b"\n", b"\r", b"\r\n", b"\r\0", b"\0", b"\r\r\n", b"\n\r", b"\r\0\0"),
    *(b"\x08", b"\x7f", b"\x15", b"\x08\x08\x08", bytes([IAC, 247]), bytes([IAC, 248])),
    *(b"hello", b"/join ops", b"x" * 9, b"y" * 70, "é".encode(), "漢字".encode(), "😀".encode()),
    *(b"\xc3", b"\xe2\x82", b"\xf0\x9f", b"\x80", b"\xfe", b"\xed\xa0\x80"),
    *(bytes([IAC, command]) for command in range(236, 256)),
    *(
        bytes([IAC, verb, option])
        for verb in (DO, DONT, WILL, WONT)
        for option in (0, 1, 3, 6, 24, 31, 86, 255)
    ),
    *(bytes([IAC, SB, NAWS, 0, width, 0, 24, IAC, SE]) for width in (0, 13, 40, 132)),
    bytes([IAC, SB, NAWS, IAC, IAC, IAC, IAC, 0, 24, IAC, SE]),
    bytes([IAC, SB, NAWS, 0, 80, 0, IAC, SE]),
    bytes([IAC, SB, NAWS, 0, 80, 0, 24, 0, IAC, SE]),
    bytes([IAC, SB, 24, 0, *b"xterm", IAC, SE]),
    bytes([IAC, SB, 201, *b"Core.Hello {}\r\n", IAC, SE]),
    bytes([IAC, WILL, NAWS]),
    bytes([IAC, WILL, NAWS, IAC, SB, NAWS, 0, 77, 0, 24, IAC, SE]),
    bytes([IAC, WONT, NAWS]),
    bytes([IAC, IAC]),
    bytes([IAC, 65]),
)


class PlainReader:
    """The line form read as docs/protocol.md and RFC 854 have it, byte by byte, without regard to speed."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.heard: Heard = []
        self.replies = b""
        self.columns = 0
        self.line: list[int] | None = []  # None: too long, to be skipped
        self._command: list[int] = []
        self._parameters: list[int] | None = None
        self._answered: set[tuple[int, int]] = set()
        self._has_asked = self._tells_size = self._gave_up = False
        self._last_was_cr = False

    def read(self, byte: int) -> None:
        """One byte."""
        if self._command:
            self._command.append(byte)
            if len(self._command) == 3 or byte not in (DO, DONT, WILL, WONT):
                command, self._command = self._command, []
                self._obey(command)
        elif byte == IAC:
            self._command = [IAC]
        else:
            self._pass(byte)

    def end(self) -> None:
        """The input is over."""
        if self.line:
            self._end_line()

    def _pass(self, byte: int) -> None:
        if self._parameters is not None:
            self._parameters.append(byte)
        else:
            self._text(byte)

    def _text(self, byte: int) -> None:
        belongs, self._last_was_cr = self._last_was_cr and byte in (0, 10), byte == 13
        if belongs:
            return
        if byte in (10, 13):
            self._end_line()
        elif self.line is None:
            return
        elif byte in (8, 127):
            while self.line and 0x80 <= self.line[-1] < 0xC0:
                self.line.pop()
            del self.line[-1:]
        elif byte == 21:
            self.line = []
        elif len(self.line) == self.limit_bytes:
            self.line = None
            self.heard.append(LineFault(f"a line has at most {self.limit_bytes} bytes; yours was not sent"))
        else:
            self.line.append(byte)

    def _end_line(self) -> None:
        line, self.line = self.line, []
        if line is None:
            return
        try:
            self.heard.append(bytes(line).decode())
        except UnicodeDecodeError:
            self.heard.append(LineFault("that line is not UTF-8; it was not sent"))

    def _obey(self, command: list[int]) -> None:
        verb = command[1]
        if verb == IAC:
            self._pass(IAC)
            return
        if self._parameters is not None:
            told, self._parameters = self._parameters, None
            if verb == SE and self._tells_size and len(told) == 5 and told[0] == NAWS:
                self.columns = told[1] * 256 + told[2]
        if verb == SB:
            self._parameters = []
        elif verb in SIGNALS:
            self.heard.append(SIGNALS[verb])
        elif verb == 247:
            self._text(8)
        elif verb == 248:
            self._text(21)
        elif verb < 236:
            self._text(IAC)
            self._text(verb)
        elif verb in (DO, WILL):
            self._answer(verb, command[2])
        elif verb == WONT and command[2] == NAWS and self._tells_size:
            self._tells_size, self._gave_up, self.columns = False, True, 0
            self.replies += bytes([IAC, DONT, NAWS])

    def _answer(self, verb: int, option: int) -> None:
        if not self._has_asked:
            self._has_asked = True
            self.replies += bytes([IAC, DO, NAWS])
        if (verb, option) == (DO, TIMING_MARK):
            self.heard.append(Signal.TIMING_MARK)
        elif (verb, option) == (WILL, NAWS) and not self._gave_up:
            self._tells_size = True
        elif (verb, option) not in self._answered:
            self._answered.add((verb, option))
            self.replies += bytes([IAC, WONT if verb == DO else DONT, option])


def read_plainly(limit_bytes: int, data: bytes) -> tuple[Heard, bytes, int, int]:
    """What *data* is, read byte by byte: what is heard, the replies, the width, and the bytes kept."""
    reader = PlainReader(limit_bytes)
    for byte in data:
        reader.read(byte)
    kept_bytes = len(reader.line or [])
    reader.end()
    return reader.heard, reader.replies, reader.columns, kept_bytes


class Inputs(Seeded):
    """An endless row of inputs, the same for the same *seed*."""

    def draw(self, number: int) -> tuple[int, bytes, list[bytes]]:
        """A bound, an input and the same in pieces."""
        data = self.next()
        return self.limit_bytes(), data, self.cut(data)

    def check(self, found: Counter[str], *drawn: Any) -> None:
        """See the promises above."""
        heard = check(*drawn)
        for line in heard:
            if isinstance(line, Signal):
                found[line.name.lower()] += 1
            elif isinstance(line, LineFault):
                found["too long" if line.is_too_long else "not utf8"] += 1
            else:
                found["lines"] += 1
        found["nothing"] += not heard

    def show(self, *drawn: Any) -> str:
        """The bound, and the pieces."""
        limit_bytes, _, pieces = drawn
        return f"max_line_bytes {limit_bytes}\n  {hexed(pieces)}"

    def next(self) -> bytes:
        """The next input: some of what terminals and telnets send, often with something wrong."""
        chance = self._random.random
        if chance() < 0.05:
            return self._random.randbytes(int(chance() * 40))
        pieces = [PIECES[int(chance() * len(PIECES))] for _ in range(int(chance() * 9))]
        data = bytearray(b"".join(pieces))
        while data and chance() < 0.4:
            place = int(chance() * len(data))
            if chance() < 0.3:
                data[place] = int(chance() * 256)
            elif chance() < 0.5:
                del data[place : place + 1 + int(chance() * 3)]
            else:
                data[place:place] = PIECES[int(chance() * len(PIECES))]
        return bytes(data)

    def limit_bytes(self) -> int:
        """A `max_line_bytes`."""
        return LIMITS[int(self._random.random() * len(LIMITS))]


def decode(limit_bytes: int, pieces: Iterable[bytes]) -> tuple[Heard, bytes, int, int]:
    """What a new decoder makes of *pieces*, as `read_plainly` has it."""
    decoder = LineDecoder(limit_bytes)
    heard: Heard = []
    replies = b""
    for piece in pieces:
        heard += decoder.receive(piece)
        replies += decoder.take_replies()
        expect(decoder.buffered_bytes <= limit_bytes, "no more than one line is kept")
    kept_bytes = decoder.buffered_bytes
    heard += decoder.finish()
    expect(not decoder.take_replies(), "the end of the input needs no reply")
    return heard, replies, decoder.columns, kept_bytes


def check(limit_bytes: int, data: bytes, pieces: list[bytes]) -> Heard:
    """Decode *data* whole and in *pieces* and see that every promise is kept; what was heard."""
    found = decode(limit_bytes, [data])
    expect(found == read_plainly(limit_bytes, data), "a decoder gives what a plain reading gives")
    expect(decode(limit_bytes, pieces) == found, "the same bytes give the same in any cut")
    heard, replies, columns, _ = found
    expect(len(replies) <= MOST_REPLIES_BYTES, "what is sent back is bounded")
    expect(0 <= columns < 65_536, "a width is a number of two bytes")
    for line in heard:
        if isinstance(line, str):
            expect(len(line.encode()) <= limit_bytes, "no line is too long")
            expect(not set(line) & set("\n\r\x08\x7f\x15"), "no line has an end or a key in it")
    return heard


if __name__ == "__main__":
    sys.exit(try_all(Inputs, "Feed the line form bytes that nobody would send."))

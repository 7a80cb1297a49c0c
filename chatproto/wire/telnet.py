"""Telnet in a stream of text (RFC 854): taken out, refused politely, and used where that serves a person.

A `telnet` that was not told to negotiate is silent, so nothing is sent until the other side has begun:
whoever uses `nc` never sees a byte of this.
"""

from __future__ import annotations

import re
from enum import Enum

__all__ = ["ERASE_CHARACTER", "ERASE_LINE", "MARK", "Signal", "TelnetFilter"]

_IAC, _DONT, _DO, _WONT, _WILL, _SB, _SE = 255, 254, 253, 252, 251, 250, 240
_EL, _EC, _AYT, _IP, _ABORT, _EOF = 248, 247, 246, 244, 238, 236
_FIRST_COMMAND = _EOF
_IDLE = re.compile(rb"(?:\xff[\xef\xf1-\xf3\xf5\xf9])+")  # commands that ask for nothing here, however many
_NEGOTIATION = frozenset((_DO, _DONT, _WILL, _WONT))  # one more byte follows
_REFUSAL = {_DO: _WONT, _WILL: _DONT}

_TIMING_MARK = 6  # RFC 860
_WINDOW_SIZE = 31  # RFC 1073
_WINDOW_SIZE_BYTES = 4

ERASE_CHARACTER, ERASE_LINE = b"\x08", b"\x15"
"""What stands in the text for telnet's EC and EL: the characters that a terminal sends for the same."""

MARK = bytes((_IAC, _WILL, _TIMING_MARK))
"""The answer to `Signal.TIMING_MARK`."""


class Signal(Enum):
    """What a telnet asks for beside the text; each stands at its place in it."""

    ARE_YOU_THERE = "are you there?"
    INTERRUPT = "stop"
    TIMING_MARK = "tell when you have come as far as this"


class TelnetFilter:
    """The telnet of one connection. `columns` is the width of its window, 0 while that is not known.

    The only option that is agreed to is that the client tells the size of its window (NAWS); it is asked for
    when the client has begun to negotiate. Every other one is refused, and refused once (RFC 1143 says why).
    What a subnegotiation carries is kept only as far as a window's size goes, so nothing here grows.
    """

    def __init__(self) -> None:
        self.columns = 0
        self._begun = b""  # a sequence whose end has not come
        self._parameters: bytearray | None = None  # of a subnegotiation, its option first
        self._answered: set[tuple[int, int]] = set()
        self._asked_for_size = False
        self._tells_size = False
        self._gave_size_up = False
        self._replies = bytearray()

    def touches(self, data: bytes) -> bool:
        """Whether *data* may have to do with telnet; what it does not touch is text as it is."""
        return _IAC in data or bool(self._begun) or self._parameters is not None

    def receive(self, data: bytes) -> list[bytes | Signal]:
        """The text in *data*, and what is asked for between. Gives the same however the bytes are cut."""
        data, self._begun = self._begun + data, b""
        found: list[bytes | Signal] = []
        text = bytearray()
        start = 0
        while (place := data.find(_IAC, start)) >= 0:
            if start < place:
                self._pass(data[start:place], text)
            if self._parameters is None and (idle := _IDLE.match(data, place)):
                start = idle.end()
                continue
            command = data[place + 1 : place + 3]
            if len(command) < (2 if command and command[0] in _NEGOTIATION else 1):
                self._begun, start = data[place:], len(data)
                break
            verb = command[0]
            start = place + (3 if verb in _NEGOTIATION else 2)
            if self._parameters is not None and verb != _IAC:
                # Also where SE is missing: whatever it is instead is not lost with what it interrupts.
                self._end_subnegotiation(self._parameters, is_whole=verb == _SE)
            if verb == _IAC:
                self._pass(b"\xff", text)
            elif verb in _NEGOTIATION:
                signal = self._negotiate(verb, command[1])
                if signal is not None:
                    found += [bytes(text), signal]
                    text.clear()
            elif verb in _SIGNALS:
                found += [bytes(text), _SIGNALS[verb]]
                text.clear()
            elif verb == _SB:
                self._parameters = bytearray()
            elif verb in _ERASURES:
                text += _ERASURES[verb]
            elif verb < _FIRST_COMMAND:
                # No telnet sends this. It is text in some other encoding, which is to be told, not mended.
                text += data[place:start]
        self._pass(data[start:], text)
        found.append(bytes(text))
        return found

    def take_replies(self) -> bytes:
        """What is to be sent back."""
        replies, self._replies = bytes(self._replies), bytearray()
        return replies

    def _pass(self, piece: bytes, text: bytearray) -> None:
        if self._parameters is None:
            text += piece
        else:
            # One byte more than a window's size has, so that what is too long is known.
            self._parameters += piece[: 1 + _WINDOW_SIZE_BYTES + 1 - len(self._parameters)]

    def _end_subnegotiation(self, parameters: bytearray, *, is_whole: bool) -> None:
        self._parameters = None
        option, size = parameters[:1], parameters[1:]
        if not (is_whole and self._tells_size):
            return
        if option == bytes((_WINDOW_SIZE,)) and len(size) == _WINDOW_SIZE_BYTES:
            self.columns = int.from_bytes(size[:2], "big")

    def _negotiate(self, verb: int, option: int) -> Signal | None:
        if verb not in _REFUSAL:
            if (verb, option) == (_WONT, _WINDOW_SIZE) and self._tells_size:
                # A change is confirmed. It is the last one: nobody can have such answers without end.
                self._tells_size, self._gave_size_up, self.columns = False, True, 0
                self._replies += bytes((_IAC, _DONT, _WINDOW_SIZE))
            return None
        if not self._asked_for_size:
            # Certainly a telnet; and whoever has offered it takes this for the answer.
            self._asked_for_size = True
            self._replies += bytes((_IAC, _DO, _WINDOW_SIZE))
        if (verb, option) == (_DO, _TIMING_MARK):
            return Signal.TIMING_MARK  # not a state but a question, so it has an answer each time
        if (verb, option) == (_WILL, _WINDOW_SIZE) and not self._gave_size_up:
            self._tells_size = True
        elif (verb, option) not in self._answered:
            self._answered.add((verb, option))
            self._replies += bytes((_IAC, _REFUSAL[verb], option))
        return None


_SIGNALS = {
    _AYT: Signal.ARE_YOU_THERE,
    _IP: Signal.INTERRUPT,
    _ABORT: Signal.INTERRUPT,
    _EOF: Signal.INTERRUPT,
}
_ERASURES = {_EC: ERASE_CHARACTER, _EL: ERASE_LINE}

"""Feed the JSON form text that nobody would send, and see that it keeps its promises.

`python tests/fuzz/fuzz_json.py --inputs 1000000` tries that many inputs and prints the seed that makes the
same ones again. Whatever the text:

- either side gives what a plain reading of the protocol gives, `read_plainly`: a message, a fault, or for a
  client nothing; and never an exception;
- a message becomes JSON and a frame, and itself again from both; a client's frame is hardly longer than the
  text it came in, so that a short text need not be measured;
- a fault is one short sentence that repeats nothing of the text.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

# What is tried is an installed chatproto, if there is one.
sys.path += map(str, Path(__file__).resolve().parents[1:3])

from fuzz.trying import Seeded, expect, try_all

from chatproto.wire.chat import FrameDecoder, encode_frame
from chatproto.wire.errors import ErrorCode, ProtocolError
from chatproto.wire.jsonform import from_json, to_json
from chatproto.wire.messages import MAX_U64, MESSAGES, FieldType, Message, Side

MAXIMA = {FieldType.U8: 2**8 - 1, FieldType.U16: 2**16 - 1, FieldType.U32: 2**32 - 1, FieldType.U64: MAX_U64}
STRINGS = ("", "a", "lobby", "\0\x7f", "Åsa-李", "👋🏽\n", '"\\/', "x" * 300, "\ud83d", "é" * 40_000)
NUMBERS = (0, 1, 7, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, MAX_U64, MAX_U64 + 1, -1, 10**30)
ODD: tuple[Any, ...] = (
    float("nan"),
    None,
    True,
    False,
    1.0,
    1e300,
    -0.0,
    [],
    {},
    ["a"],
    ["a", 1],
    {"a": []},
    "1",
    [[]],
)
INTERESTING = (
    *'"{}[]:,\\ \t\r\n\0\x7f',
    *("NaN", "Infinity", "-Infinity", "null", "true", "1e5", "-0", "01", "0x1", ".5", "1.", "\\u0041"),
    *("\\ud83d", "\\ud83d\\ude00", "\\x", "\ufeff", "\u2028", "é", "\U0001f600", '"type":', "//", "'"),
    "[" * 3_000,
    "9" * 5_000,
)
ABSENT_FIELDS_BYTES = 16
"""What a frame has for them, at most, beyond what a text has around the others."""

PRINTABLE_CHARS = 200
"""The most that a fault's reason has."""


# --- what the protocol says ---------------------------------------------------------------------------------


def read_plainly(side: Side, text: str) -> Message | str | None:
    """What *text* is: a message, the word `malformed`, or None for what a client passes over."""
    try:
        shown = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return "malformed"
    if not isinstance(shown, dict) or not isinstance(shown.get("type"), str):
        return "malformed"
    for kind, cls in MESSAGES.items():
        if cls.type == shown["type"] and (kind < 0x80) is (side is Side.SERVER):
            values = {}
            for field in cls.fields:
                value = shown.get(field.name, _EMPTY[field.type])
                if not _fits(value, field.type):
                    return "malformed"
                values[field.name] = tuple(value) if field.type is FieldType.STRS else value
            return cls(**values)
    return "malformed" if side is Side.SERVER else None


_EMPTY: dict[FieldType, Any] = {**dict.fromkeys(MAXIMA, 0), FieldType.STR: "", FieldType.STRS: []}


def _refuse(name: str) -> None:
    raise ValueError(name)


def _fits(value: Any, kind: FieldType) -> bool:
    if kind is FieldType.STRS:
        return (
            isinstance(value, list)
            and len(value) < 2**16
            and all(_fits(each, FieldType.STR) for each in value)
        )
    if kind is FieldType.STR:
        try:
            return isinstance(value, str) and len(value.encode("utf-8")) < 2**16
        except UnicodeEncodeError:
            return False
    return type(value) is int and 0 <= value <= MAXIMA[kind]


# --- inputs -------------------------------------------------------------------------------------------------


class Inputs(Seeded):
    """An endless row of texts, the same for the same *seed*."""

    def draw(self, number: int) -> tuple[str]:
        """One text."""
        return (self.text(),)

    def check(self, found: Counter[str], *drawn: Any) -> None:
        """See the promises above."""
        check(drawn[0], found)

    def show(self, *drawn: Any) -> str:
        """The beginning of the text, in ASCII."""
        return ascii(drawn[0][:2_000])

    def text(self) -> str:
        """A message, most often with something wrong."""
        chance = self._random.random
        shown: Any = self._object()
        if chance() < 0.02:
            shown = self._random.choice((shown, *ODD, "hi", 7))
        ascii_only = chance() < 0.3
        try:
            text = json.dumps(shown, ensure_ascii=ascii_only, indent=1 if chance() < 0.1 else None)
        except ValueError:
            text = "{}"
        return self._damaged(text)

    def _object(self) -> dict[str, Any]:
        chance, choice = self._random.random, self._random.choice
        cls = choice(tuple(MESSAGES.values()))
        fields = [(field.name, self._value(field.type)) for field in cls.fields if chance() < 0.9]
        fields.append(("type", cls.type if chance() < 0.95 else choice(("", "shout", "Say", *ODD))))
        if chance() < 0.2:
            fields.append((choice(("mood", "", "id", "kind", "é")), choice((*NUMBERS, *STRINGS, *ODD))))
        self._random.shuffle(fields)
        return dict(fields)

    def _value(self, kind: FieldType) -> Any:
        chance, choice = self._random.random, self._random.choice
        if chance() < 0.04:
            return choice((*NUMBERS, *STRINGS, *ODD))
        if kind is FieldType.STRS:
            return [choice(STRINGS[:8]) for _ in range(int(chance() * 5))]
        if kind is FieldType.STR:
            return choice(STRINGS[:8]) if chance() < 0.97 else choice(STRINGS)
        return choice(NUMBERS[:4]) if chance() < 0.8 else choice(NUMBERS)

    def _damaged(self, text: str) -> str:
        chance = self._random.random
        while text and chance() < 0.25:
            at = int(chance() * len(text))
            kind = int(chance() * 4)
            if kind == 0:
                text = text[:at] + self._random.choice(INTERESTING) + text[at:]
            elif kind == 1:
                text = text[:at] + text[at + 1 + int(chance() * 3) :]
            elif kind == 2:
                text = text[:at] + self._random.choice(INTERESTING) + text[at + 1 :]
            else:
                text = text[:at]
        return text


# --- promises -----------------------------------------------------------------------------------------------


def check(text: str, found: Counter[str]) -> None:
    """Both sides keep their promises for *text*."""
    for side in Side:
        read = from_json(text, side)
        plainly = read_plainly(side, text)
        if isinstance(read, ProtocolError):
            expect(plainly == "malformed" and read.code is ErrorCode.MALFORMED, "a fault is one")
            expect(0 < len(read.reason) <= PRINTABLE_CHARS, "a fault is one short sentence")
            expect(read.reason.isascii() and read.reason.isprintable(), "a fault repeats nothing of the text")
            found["malformed"] += 1
        elif read is None:
            expect(plainly is None and side is Side.CLIENT, "only a client passes over what it does not know")
            found["passed over"] += 1
        else:
            expect(read == plainly, "a message is what the protocol says")
            expect(from_json(to_json(read), side) == read, "a message becomes itself again from JSON")
            frame = encode_frame(read)
            expect(FrameDecoder(side, 2**24 - 1).receive(frame) == [read], "and from a frame")
            if side is Side.SERVER:
                most_bytes = len(text.encode("utf-8", "surrogatepass")) + ABSENT_FIELDS_BYTES
                expect(len(frame) <= most_bytes, "a client's frame is hardly longer than its text")
            found[read.type] += 1


if __name__ == "__main__":
    sys.exit(try_all(Inputs, "Feed the JSON form text that nobody would send."))

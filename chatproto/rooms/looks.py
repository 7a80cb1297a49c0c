"""Which names look alike: the skeletons and scripts of UTS #39.

The data is that of the package confusable-homoglyphs, read when the first name outside ASCII arrives.
"""

from __future__ import annotations

import json
import re
import unicodedata
from array import array
from bisect import bisect_right
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from string import ascii_lowercase, ascii_uppercase
from typing import Any

__all__ = ["ascii_looks", "looks_of", "script_of", "shape_of"]

_ZWNJ, _ZWJ = "\u200c", "\u200d"

# In a look `|` is what can be read as `I` or as `l`, and a capital `L` is one: all else is in small letters.
_EITHER = "|"
_MAX_READINGS = 24

# The looks of an ASCII name, as `_looks` has them, but for the `m`, which becomes `rn`. In bytes, whose
# `translate` is several times as fast as that of `str`.
_FROM = (ascii_uppercase + ascii_lowercase + "01").encode()
_ASCII_SHOWN = bytes.maketrans(_FROM, b"abcdefgh|jkLmnopqrstuvwxyz" + ascii_lowercase.encode() + b"o|")
_ASCII_CAPITALS = bytes.maketrans(_FROM, b"abcdefghijkLmnopqrstuvwxyz" * 2 + b"oi")
_ASCII_SMALL = bytes.maketrans(_FROM, ascii_lowercase.encode() * 2 + b"oi")

_DOT_ON_DOT = re.compile("([ij][\u0300-\u036f]*?)\u0307+")


def looks_of(name: str) -> frozenset[str]:
    """The skeletons (UTS #39, section 4) of a name as it is shown, in capitals and in small letters.

    Who knows `scipio` takes `SCIPIO` for the same name, and so the digits or Cyrillic capitals that are drawn
    like those. UTS #39 has one prototype for `I`, `l` and `1`; without case, that would make `i`, `l` and `L`
    one letter, and Kai the same as Kal. So what is drawn like `I` counts as `i` and as `l`, in every
    combination, but `i` itself only as `i`, `L` only as `L`, and `l` as `i` only where one expects a capital.
    """
    plain = unicodedata.normalize("NFD", name)
    small = plain[0] + plain[1:].lower() if plain[0] == "L" else plain.lower()
    capitals = _skeleton(plain.upper()).replace(_EITHER, "i")
    looks = {capitals, _skeleton(small).replace(_EITHER, "i"), *_readings(plain, _skeleton(_open(plain)))}
    return frozenset(map(_undot, looks))


def ascii_looks(name: str) -> frozenset[str]:
    """The same for a name in ASCII, without the tables."""
    letters = name.encode()
    small = letters.translate(_ASCII_SMALL).decode().replace("m", "rn")
    if name[0] == "L":
        small = "L" + small[1:]
    capitals = letters.translate(_ASCII_CAPITALS).decode().replace("m", "rn")
    shown = _open(name).encode().translate(_ASCII_SHOWN).decode().replace("m", "rn")
    return frozenset((capitals, small, *_readings(name, shown)))


def _open(name: str) -> str:
    """The name with `l` made ambiguous if all else is in capitals, as in `SClPlO`; one capital is no sign."""
    rest = name.replace("l", "")
    return name.replace("l", _EITHER) if rest.isupper() and len(rest) > 1 else name


def _readings(name: str, skeleton: str) -> Iterable[str]:
    """The skeleton with everything ambiguous read in every way; or in two ways, were they too many."""
    readings = [first + skeleton[1:] for first in "ilL"] if name[0] == "l" else [skeleton]
    ambiguous = readings[0].count(_EITHER)
    if len(readings) << ambiguous > _MAX_READINGS:
        return (skeleton.replace(_EITHER, "i"), skeleton.replace(_EITHER, "l"))
    for _ in range(ambiguous):
        readings = [reading.replace(_EITHER, letter, 1) for reading in readings for letter in "il"]
    return readings


def shape_of(character: str) -> str:
    """What a character is drawn like (UTS #39, section 4: its prototype), or the empty string."""
    return _prototypes().get(ord(character), "")


def _skeleton(text: str) -> str:
    shapes = unicodedata.normalize("NFD", text).translate(_prototypes())
    return unicodedata.normalize("NFD", "L".join(map(str.casefold, shapes.split("L"))))


def _undot(look: str) -> str:
    """A second dot on `i` or `j` is drawn over the first."""
    return _DOT_ON_DOT.sub(r"\1", look)


def _data(name: str) -> Any:
    return json.loads((files("confusable_homoglyphs") / name).read_bytes())


@cache
def _prototypes() -> dict[int, str]:
    """For each character that looks like another: what to compare instead, ready for `str.translate`.

    The package lists every pair of confusables.txt in both directions, without saying which one is the
    prototype. But the pairs form stars: a prototype is in the middle, or is longer than one character. Where
    a pair stands alone, its prototype comes second.

    To that the small capitals of Latin are added, which UTS #39 mostly leaves alone.
    """
    # The file shields right-to-left characters with marks that are no part of the data.
    pairs = {
        one.strip("\u200e"): [entry["c"].strip("\u200e") for entry in others]
        for one, others in _data("confusables.json").items()
    }
    sources: dict[str, str] = {}
    for one, others in pairs.items():
        if len(one) == len(others) == 1 and others[0] not in sources:
            sources[one] = others[0]

    final = {"l": _EITHER, "m": "rn", "M": "rn"}
    for capital in ascii_uppercase.replace("X", ""):
        shape = unicodedata.lookup(f"LATIN LETTER SMALL CAPITAL {capital}")
        shape = sources.get(shape, shape)
        if not shape.isascii():
            final[shape] = final.get(capital, capital)
    table = {ord(one): "".join(final.get(c, c) for c in shape) for one, shape in (final | sources).items()}
    del table[ord("l")]
    return table | {ord(_ZWNJ): "", ord(_ZWJ): ""}


@cache
def _script_ranges() -> tuple[array[int], array[int], list[str]]:
    """First and last code points of the ranges of Scripts.txt in order, and their scripts."""
    data = _data("categories.json")
    ranges = data["code_points_ranges"]
    names = data["iso_15924_aliases"]
    return (
        array("I", (first for first, *_ in ranges)),
        array("I", (last for _, last, *_ in ranges)),
        [names[script] for _, _, script, _ in ranges],
    )


def script_of(character: str) -> str | None:
    """The script in capitals, `COMMON`, `INHERITED`, or None for a character newer than the data."""
    firsts, lasts, scripts = _script_ranges()
    place = bisect_right(firsts, ord(character)) - 1
    return scripts[place] if place >= 0 and ord(character) <= lasts[place] else None

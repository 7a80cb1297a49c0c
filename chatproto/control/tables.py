"""Tables for people: in line whatever letters are in them, and with nothing that acts on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from wcwidth import clip, ljust, rjust, width

from chatproto.text import tame

__all__ = ["size", "span", "stamp", "table"]

MAX_CELLS = 40
"""Of one column; what is longer is cut, and has an ellipsis."""

_UNITS = ((7 * 86_400, "w"), (86_400, "d"), (3_600, "h"), (60, "min"))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """*rows* under *heads*. A head that begins with `>` is of numbers, which stand at the right."""
    lines = [[head.removeprefix(">") for head in heads], *([_cell(text) for text in row] for row in rows)]
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
    text = ""
    for line in lines:
        cells = [
            (rjust if head.startswith(">") else ljust)(cell, cells)
            for head, cell, cells in zip(heads, line, widths, strict=True)
        ]
        text += f"{'  '.join(cells).rstrip()}\n"
    return text


def _cell(text: str) -> str:
    text = tame(text)
    return text if width(text) <= MAX_CELLS else f"{clip(text, 0, MAX_CELLS - 1)}…"


def size(n_bytes: int) -> str:
    """A number of bytes, about."""
    number = float(n_bytes)
    for unit in ("B", "KiB", "MiB"):
        if number < 1_024:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 10 else f"{number:.1f} {unit}"
        number /= 1_024
    return f"{number:.1f} GiB"


def span(seconds: float) -> str:
    """A time, about: two units at most."""
    whole = int(seconds)
    for at, (unit_s, unit) in enumerate(_UNITS):
        if whole >= unit_s:
            rest_s, below = _UNITS[at + 1] if at + 1 < len(_UNITS) else (1, "s")
            rest = whole % unit_s // rest_s
            return f"{whole // unit_s} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{seconds:.1f} s" if 0 < seconds < 10 else f"{whole} s"


def stamp(time_ms: int) -> str:
    """A moment, in the time zone of this machine."""
    try:
        return f"{datetime.fromtimestamp(time_ms / 1000):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return "for ever"  # further than any calendar goes

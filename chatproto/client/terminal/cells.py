"""How many cells of a terminal a text takes, and how it is cut and broken to fit."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from wcwidth import iter_graphemes
from wcwidth import width as cells_of

from chatproto.text import tame

__all__ = [
    "PROBES",
    "TERMINAL",
    "Row",
    "Run",
    "Terminal",
    "cells",
    "clip",
    "clusters",
    "is_disputed",
    "row_cells",
    "wrap",
]

Run = tuple[str, str]
"""A style and a text that is shown in it."""
Row = list[Run]
"""One row of the screen, or a part of one."""

MAX_CLUSTER_CHARS = 16
"""Of what shares one place, such as a letter with marks; nothing that people write has as many."""

# Joined emoji, emoji by variation selector, flags, skin tones: terminals differ by what is one.
_DISPUTED = re.compile("[\u200d\ufe0e\ufe0f\U0001f1e6-\U0001f1ff\U0001f3fb-\U0001f3ff]")
_JOINER = "\u200d"

PROBES = ("\U0001f469\u200d\U0001f467", "\u2764\ufe0f", "\U0001f1eb\U0001f1f7", "\U0001f44d\U0001f3fd")
"""One of each kind that is disputed: joined emoji, by variation selector, a flag, a skin tone."""


class Terminal:
    """What the terminal makes of what is disputed: as the Unicode standard has it, until it was asked."""

    def __init__(self) -> None:
        self.joins = True
        self.widens = True
        self.pairs_flags = True
        self.pairs_tones = True
        self.version = 0
        """Another number after each change."""

    def learn(self, widths: Sequence[int]) -> None:
        """The cells that `PROBES` take."""
        joined, varied, flag, tone = widths
        self.joins, self.widens = joined <= 2, varied >= 2
        self.pairs_flags, self.pairs_tones = flag <= 2, tone <= 2
        self.version += 1

    def cells_of(self, cluster: str) -> int:
        """The cells of what shares one place by the standard; more than 2 where the terminal disagrees."""
        if cluster.isascii():
            return cells_of(cluster)
        if _JOINER in cluster and not self.joins:
            return sum(self.cells_of(part) for part in cluster.split(_JOINER))
        if "\U0001f1e6" <= cluster[0] <= "\U0001f1ff":
            return 2 * len(cluster) if not self.pairs_flags else min(cells_of(cluster), 2)
        if len(cluster) > 1 and "\U0001f3fb" <= cluster[1] <= "\U0001f3ff" and not self.pairs_tones:
            return 4
        if "\ufe0f" in cluster and not self.widens:
            return cells_of(cluster.replace("\ufe0f", ""))
        # More than two cells for one place is nothing that terminals agree on.
        return min(cells_of(cluster), 2)


TERMINAL = Terminal()
"""The one there is: a process has no other."""


def is_disputed(text: str) -> bool:
    """Whether terminals differ about the cells that *text* takes."""
    return not text.isascii() and _DISPUTED.search(text) is not None


def clusters(text: str) -> Iterator[tuple[str, int]]:
    """What of *text* shares one place, and the cells that it takes: 1 or 2 as a rule.

    *text* is made harmless first. What would take no place of its own is dropped, but for a mark without a
    letter, which gets a dotted circle to sit on.
    """
    if text.isascii() and text.isprintable():
        for character in text:
            yield character, 1
        return
    for cluster in iter_graphemes(tame(text)):
        width = TERMINAL.cells_of(cluster)
        if width <= 0:
            if unicodedata.category(cluster[0]).startswith("M"):
                yield "\u25cc" + cluster[:MAX_CLUSTER_CHARS], 1
        else:
            yield cluster[:MAX_CLUSTER_CHARS], width


def cells(text: str) -> int:
    """The cells that *text* takes in a row, as `clusters` has it."""
    if text.isascii() and text.isprintable():
        return len(text)
    return sum(width for _, width in clusters(text))


def clip(text: str, width: int) -> str:
    """As much of *text* as fits into *width* cells; an ellipsis stands for what does not."""
    if width <= 0:
        return ""
    fitting: list[str] = []
    used = ellipsis_at = 0
    used_before_ellipsis = 0
    for cluster, cluster_cells in clusters(text):
        if used + cluster_cells > width:
            return "".join(fitting[:ellipsis_at]) + "…" * (used_before_ellipsis < width)
        fitting.append(cluster)
        used += cluster_cells
        if used < width:
            ellipsis_at, used_before_ellipsis = len(fitting), used
    return "".join(fitting)


def row_cells(row: Iterable[Run]) -> int:
    """The cells of a whole row."""
    return sum(cells(text) for _, text in row)


def wrap(runs: Iterable[Run], width: int) -> list[Row]:
    """*runs* broken into rows of at most *width* cells (at least 2), between words where there are any.

    Always at least one row, which may be empty. Blanks where a row breaks are dropped.
    """
    width = max(width, 2)
    rows: list[Row] = []
    row: list[tuple[str, str, int]] = []  # style, cluster, cells
    used = 0
    for style, text in runs:
        for cluster, cluster_cells in clusters(text):
            if used + cluster_cells > width:
                if cluster == " ":
                    rows.append(_joined(row))
                    row, used = [], 0
                    continue
                row, rest = _broken(row)
                rows.append(_joined(row))
                row, used = rest, sum(part[2] for part in rest)
            row.append((style, cluster, cluster_cells))
            used += cluster_cells
    rows.append(_joined(row))
    return rows


def _broken(row: list[tuple[str, str, int]]) -> tuple[list[tuple[str, str, int]], list[tuple[str, str, int]]]:
    """*row* up to its last blank, and what comes after it; all of it where there is none."""
    for index in range(len(row) - 1, 0, -1):
        if row[index][1] == " " and any(part[1] != " " for part in row[:index]):
            return row[:index], row[index + 1 :]
    return row, []


def _joined(row: list[tuple[str, str, int]]) -> Row:
    joined: Row = []
    for style, cluster, _ in row:
        if joined and joined[-1][0] == style:
            joined[-1] = (style, joined[-1][1] + cluster)
        else:
            joined.append((style, cluster))
    return joined

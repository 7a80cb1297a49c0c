"""How an entry looks: its rows at some width, and the lines above it for the day and where one left off."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence

from chatproto.client.plain import ACTION
from chatproto.client.terminal.cells import TERMINAL, Row, Run, cells, clip, wrap
from chatproto.client.terminal.transcript import Entry, State, Transcript

__all__ = ["NICK_STYLES", "Reel", "clock_time", "day", "entry_rows", "nick_style", "rule"]

NICK_STYLES = 12
"""As many colours there are for nicknames."""
MIN_COLUMNS_CELLS = 60
"""From this width on times and names stand in columns of their own."""
NAME_CELLS = 12


def nick_style(nick: str, own: bool = False) -> str:
    """The style of a nickname, the same everywhere and each time."""
    return "own" if own else f"nick{zlib.crc32(nick.casefold().encode()) % NICK_STYLES}"


def clock_time(time_ms: int) -> str:
    """The local time of day, as `14:05`."""
    return time.strftime("%H:%M", time.localtime(time_ms / 1_000))


def day(time_ms: int) -> str:
    """The local day, as `Sunday, 22 November 2026`."""
    return time.strftime("%A, %-d %B %Y", time.localtime(time_ms / 1_000))


def rule(text: str, style: str, width: int) -> Row:
    """A line across the screen with *text* in it."""
    shown = clip(text, max(width - 6, 1))
    around = width - cells(shown) - 2
    if around < 2:
        return [(style, clip(text, width))]
    return [(style, f"{'─' * (around // 2)} {shown} {'─' * (around - around // 2)}")]


def entry_rows(entry: Entry, width: int) -> list[Row]:
    """The rows of *entry* alone."""
    text = entry.text.expandtabs(8)
    if not entry.nick:
        first, others, body = _note_margin(entry, width)
    elif text.startswith(ACTION):
        text = text.removeprefix(ACTION)
        first, others, body = _action_margin(entry, width)
    else:
        first, others, body = _speech_margin(entry, width)
    indent = cells("".join(part for _, part in others))
    rows: list[Row] = []
    for number, line in enumerate(text.split("\n")):
        # The first row may have a margin of another width, such as a name where there are no columns.
        margin = first if number == 0 else others
        start = [("", " " * (cells("".join(part for _, part in margin)) - indent))] if margin is first else []
        broken = wrap([*start, (body, line)] if start and start[0][1] else [(body, line)], width - indent)
        for index, row in enumerate(broken):
            if margin is first and index == 0:
                rows.append([*first, *_without(row, len(start[0][1]))])
            else:
                rows.append([*others, *row])
    if entry.state is State.WAITING:
        rows[-1] = _with_end(rows[-1], ("waiting", " …"), width)
    elif entry.state is State.FAILED:
        rows += [[*others, *row] for row in wrap([("failed", f"✗ not said: {entry.why}")], width - indent)]
    return rows


def _body_style(entry: Entry) -> str:
    if entry.state is State.WAITING:
        return "waiting"
    if entry.state is State.FAILED:
        return "failed"
    return "mention" if entry.mentions else "text"


def _columns(time_ms: int, style: str, name: str) -> tuple[list[Run], list[Run]]:
    shown = clip(name, NAME_CELLS)
    pad = " " * (NAME_CELLS - cells(shown))
    first = [("time", f"{clock_time(time_ms)} {pad}"), (style, shown), ("rule", " │ ")]
    return first, [("rule", " " * (6 + NAME_CELLS) + " │ ")]


def _note_margin(entry: Entry, width: int) -> tuple[list[Run], list[Run], str]:
    if width < MIN_COLUMNS_CELLS:
        return [("note", "· ")], [("note", "  ")], "note"
    return *_columns(entry.time_ms, "note", "·"), "note"


def _speech_margin(entry: Entry, width: int) -> tuple[list[Run], list[Run], str]:
    style = "mention" if entry.mentions else nick_style(entry.nick, entry.own)
    if width < MIN_COLUMNS_CELLS:
        return [(style, f"{clip(entry.nick, max(width // 2, 4))}: ")], [("rule", "│ ")], _body_style(entry)
    return *_columns(entry.time_ms, style, entry.nick), _body_style(entry)


def _action_margin(entry: Entry, width: int) -> tuple[list[Run], list[Run], str]:
    style = nick_style(entry.nick, entry.own)
    name = clip(entry.nick, max(width // 2, 4))
    if width < MIN_COLUMNS_CELLS:
        return [(style, f"* {name} ")], [("rule", "│ ")], _body_style(entry)
    first, others = _columns(entry.time_ms, style, "*")
    return [*first, (style, f"{name} ")], others, _body_style(entry)


def _without(row: Row, count: int) -> Row:
    """*row* without its first *count* blanks."""
    rest: Row = []
    for style, text in row:
        dropped = min(count, len(text) - len(text.lstrip(" ")))
        count -= dropped
        if text[dropped:]:
            rest.append((style, text[dropped:]))
    return rest


def _with_end(row: Row, end: Run, width: int) -> Row:
    if sum(cells(text) for _, text in row) + cells(end[1]) <= width:
        return [*row, end]
    return row


class Reel:
    """A transcript at some width: the rows of each entry, with what stands above it."""

    def __init__(self, transcript: Transcript, width: int) -> None:
        self.transcript = transcript
        self.width = width

    @property
    def entries(self) -> Sequence[Entry]:
        """All of them."""
        return self.transcript.entries

    def rows(self, index: int) -> list[Row]:
        """The rows of one entry."""
        entry = self.entries[index]
        is_new_day = index == 0 or day(entry.time_ms) != day(self.entries[index - 1].time_ms)
        is_marked = entry is self.transcript.mark
        key = (self.width, is_new_day, is_marked, TERMINAL.version)
        if entry.rows is not None and entry.rows[0] == key:
            return entry.rows[1]
        rows = entry_rows(entry, self.width)
        if is_marked:
            rows.insert(0, rule("you left off here", "mark", self.width))
        if is_new_day:
            rows.insert(0, rule(day(entry.time_ms), "rule", self.width))
        entry.rows = (key, rows)
        return rows

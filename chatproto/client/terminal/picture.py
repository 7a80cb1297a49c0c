"""The whole screen as rows of styled text, drawn from the desk at any size."""

from __future__ import annotations

from dataclasses import dataclass

from chatproto.client.terminal.cells import Row, cells, clip, clusters, row_cells
from chatproto.client.terminal.desk import Desk, Line
from chatproto.client.terminal.layout import Reel, nick_style, rule
from chatproto.client.terminal.places import Place

__all__ = ["Picture", "body_width", "draw"]

PEOPLE_CELLS = 18
"""The list of who is here, with the line beside it."""
MIN_COLUMNS_WITH_PEOPLE = 90
MAX_INPUT_ROWS = 6
MAX_PROMPT_CELLS = 16


@dataclass(frozen=True, slots=True)
class Picture:
    """Rows that fill the screen exactly, and the column and row of the cursor."""

    rows: list[Row]
    cursor: tuple[int, int]


def body_width(desk: Desk) -> int:
    """The cells that the conversation has across."""
    return desk.size[0] - (PEOPLE_CELLS if _people_are_shown(desk) else 0)


def draw(desk: Desk, columns: int, rows: int) -> Picture:
    """The screen of *columns* by *rows*, at least 1 by 1. What does not fit is left out from the top."""
    desk.size = (columns, rows)
    typed, (cursor_column, cursor_row) = _input(desk, columns, min(MAX_INPUT_ROWS, max(rows // 3, 1)))
    free = rows - len(typed)
    bottom = [_status(desk, columns)] if free >= 1 else []
    top = [_bar(desk, columns)] if free >= 3 else []
    height = free - len(bottom) - len(top)
    desk.body_rows = max(height, 1)
    body = _panel(desk, columns, height) if desk.panel is not None else _body(desk, columns, height)
    whole = [*top, *body, *bottom, *typed]
    return Picture(
        [_filled(row, columns) for row in whole],
        (min(cursor_column, columns - 1), len(whole) - len(typed) + cursor_row),
    )


def _filled(row: Row, columns: int) -> Row:
    """*row* in exactly *columns* cells, harmless whoever wrote it; a bar is filled up in its own style."""
    row = [(style, "".join(cluster for cluster, _ in clusters(text))) for style, text in row]
    used = row_cells(row)
    if used > columns:
        row, used = _cut(row, columns)
    if used == columns:
        return row
    last = row[-1][0] if row else ""
    return [*row, (last if last in _BARS else "", " " * (columns - used))]


_BARS = frozenset({"bar", "hint", "lost"})


def _cut(row: Row, columns: int) -> tuple[Row, int]:
    kept: Row = []
    used = 0
    for style, text in row:
        fitting = ""
        for cluster, width in clusters(text):
            if used + width > columns:
                return [*kept, (style, fitting)], used
            fitting += cluster
            used += width
        kept.append((style, fitting))
    return kept, used


# --- the conversation ---------------------------------------------------------------------------------------


def _people_are_shown(desk: Desk) -> bool:
    place = desk.current
    return (
        desk.size[0] >= MIN_COLUMNS_WITH_PEOPLE
        and desk.shows_people
        and desk.panel is None
        and not place.is_private
        and bool(place.name)
    )


def _body(desk: Desk, columns: int, height: int) -> list[Row]:
    if height <= 0:
        return []
    place = desk.current
    width = body_width(desk)
    reel = Reel(place.transcript, width)
    foot: list[Row] = []
    if not place.view.follows and height > 2:
        foot = [_foot(place, reel, width)]
    talk = place.view.rows(reel, height - len(foot))
    if not place.view.follows and len(talk) < height - len(foot) and place.transcript.entries:
        place.view.up(reel, 0, height - len(foot))  # the screen has grown past the oldest
        talk = place.view.rows(reel, height - len(foot))
    blank: list[Row] = [[] for _ in range(height - len(foot) - len(talk))]
    if place.view.follows and place.is_loading and blank:
        blank[0] = rule("older messages are on their way", "rule", width)
    shown = [*blank, *talk, *foot]
    if not _people_are_shown(desk):
        return shown
    people = _people(desk, height)
    return [[*_filled(row, width), *beside] for row, beside in zip(shown, people, strict=True)]


def _foot(place: Place, reel: Reel, width: int) -> Row:
    if place.is_loading:
        return rule("older messages are on their way", "rule", width)
    new = place.view.new_below(reel)
    below = "" if not new else "1 new below · " if new == 1 else f"{new:,} new below · "
    return rule(f"{below}Esc goes to the end", "mark" if new else "rule", width)


def _people(desk: Desk, height: int) -> list[Row]:
    place = desk.current
    shown = sorted(place.members, key=str.casefold)
    title = f"{place.total:,} here"
    room = height - 1
    if len(shown) > room or place.total > len(shown):
        shown = shown[: max(room - 1, 0)]
    rows: list[Row] = [[("rule", "│ "), ("note", title)]]
    rows += [
        [("rule", "│ "), (nick_style(nick, nick == desk.nick), clip(nick, PEOPLE_CELLS - 3))]
        for nick in shown
    ]
    rest = place.total - len(shown)
    if rest > 0 and room > 0:
        rows.append([("rule", "│ "), ("note", f"and {rest:,} more")])
    rows += [[("rule", "│")] for _ in range(height - len(rows))]
    return rows[:height]


def _panel(desk: Desk, columns: int, height: int) -> list[Row]:
    panel = desk.panel
    assert panel is not None
    if height <= 0:
        return []
    rows = panel.rows(columns, height - 2)
    keys = "Enter goes there, Esc back" if panel.choose is not None else "Esc back"
    if not panel.is_all_seen:
        keys = f"↑ ↓ PgUp PgDn, {keys}"
    blank: list[Row] = [[] for _ in range(height - 2 - len(rows))]
    return [rule(panel.title, "mark", columns), *rows, *blank, rule(keys, "rule", columns)][:height]


# --- the bars -----------------------------------------------------------------------------------------------


def _bar(desk: Desk, columns: int) -> Row:
    """All places, with what is unread; the one on the screen is always among those that fit."""
    parts: list[Row] = []
    at = 0
    for number, place in enumerate(desk.places.all, start=1):
        is_current = place is desk.current
        if is_current:
            at = len(parts)
        style = "here" if is_current else "called" if place.mentions else "unread" if place.unread else "bar"
        count = f" ({place.unread:,})" if place.unread else ""
        parts.append([(style, f" {number} {clip(place.name, 20)}{count} ")])
    first = 0
    while first < at and sum(map(row_cells, parts[first : at + 1])) > columns - 2:
        first += 1
    row: Row = [("bar", "‹" if first else " ")]
    for part in parts[first:]:
        if row_cells(row) + row_cells(part) > columns - 1:
            row.append(("bar", "›"))
            break
        row += part
    row.append(("bar", ""))
    return row


def _status(desk: Desk, columns: int) -> Row:
    hint = desk.hint or _choices(desk) or (desk.question.text if desk.question is not None else "")
    if hint:
        return [("hint", f" {clip(hint, columns - 2)} ")]
    place = desk.current
    left = [desk.nick]
    if place.is_private:
        left.append(f"alone with {place.person}")
    elif place.name:
        left.append(f"{place.name}, {place.total:,} here")
    if desk.unacknowledged:
        left.append(f"{desk.unacknowledged:,} not acknowledged")
    style, state = _connection(desk)
    left_text = f" {' · '.join(left)}"
    right = f"{state} "
    room = columns - cells(left_text) - 2
    if room < cells(right):
        if desk.line is not Line.OPEN:
            waiting = f"{desk.unacknowledged:,} not acknowledged · " if desk.unacknowledged else ""
            return [(style, f" {clip(waiting + right, columns - 1)}")]
        right = clip(right.split(" · ")[-1], max(room, 0))
    gap = max(columns - cells(left_text) - cells(right), 1)
    return [("bar", clip(left_text, columns)), ("bar", " " * gap), (style, right)]


def _connection(desk: Desk) -> tuple[str, str]:
    if desk.line is Line.OPEN:
        trip = "" if desk.round_trip_s is None else f" · {_trip(desk.round_trip_s)}"
        return "bar", f"● {desk.server}{trip}"
    if desk.line is Line.CONNECTING:
        return "bar", f"○ connecting to {desk.server}"
    wait_s = 0.0 if desk.retry_at_s is None else desk.retry_at_s - desk.clock.seconds()
    again = f"trying again in {wait_s:.0f} s" if wait_s >= 1 else "trying again"
    return "lost", f"○ no connection: {desk.why}; {again}"


def _trip(seconds: float) -> str:
    return f"{seconds * 1_000:.1f} ms" if seconds < 0.01 else f"{seconds * 1_000:.0f} ms"


def _choices(desk: Desk) -> str:
    completion = desk.completion
    if completion is None or completion.is_over:
        return ""
    words = [word.strip(" ") for word in completion.candidates]
    chosen = completion.index
    shown = [f"[{word}]" if index == chosen else word for index, word in enumerate(words)]
    return "  ".join(shown[max(chosen - 3, 0) :])


# --- what one types -----------------------------------------------------------------------------------------


def _input(desk: Desk, columns: int, max_rows: int) -> tuple[list[Row], tuple[int, int]]:
    name = "nickname" if desk.question is not None else desk.current.name
    prompt = f"{clip(name, MAX_PROMPT_CELLS)}› "
    if columns < cells(prompt) + 10:
        prompt = ""
    indent = cells(prompt)
    # One cell stays free: a terminal may scroll when the last one of the screen is written.
    texts, (column, row) = desk.editor.rows(columns - indent - 1)
    first = max(min(row - max_rows + 1, len(texts) - max_rows), 0) if len(texts) > max_rows else 0
    first = min(max(first, row - max_rows + 1), row)
    rows: list[Row] = []
    for index, text in enumerate(texts[first : first + max_rows]):
        margin = ("prompt", prompt) if index == 0 and first == 0 else ("rule", " " * indent)
        rows.append([margin, ("text", text)] if indent else [("text", text)])
    if desk.question is not None and not desk.question.editor.text:
        rows[-1] = [*rows[-1], ("note", clip(f" (Enter: {desk.question.suggestion})", columns - indent - 1))]
    return rows, (indent + column, row - first)

"""The text that one is typing, with its cursor, what was typed before, and what was cut."""

from __future__ import annotations

import re

from wcwidth import iter_graphemes

from chatproto.client.terminal.cells import clusters
from chatproto.text import tame

__all__ = ["Editor", "History"]

MAX_HISTORY = 500
MAX_TEXT_CHARS = 65_536

_NOT_TYPED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_WORD = re.compile(r"\w+|[^\w\s]+")


class History:
    """What was sent before, the oldest first; shared by all places."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, text: str) -> None:
        """Remember *text*."""
        if text and (not self.lines or self.lines[-1] != text):
            self.lines.append(text)
            del self.lines[:-MAX_HISTORY]


class Editor:
    """One text; positions count characters, and the cursor never stands within what shares one place."""

    def __init__(self, history: History | None = None) -> None:
        self.text = ""
        self.cursor = 0
        self.history = history if history is not None else History()
        self._recalled: int | None = None  # index into the history
        self._begun = ""  # before it was recalled
        self._cut = ""

    def set(self, text: str, cursor: int | None = None) -> None:
        """Have *text*, with the cursor at its end unless told."""
        self.text = text[:MAX_TEXT_CHARS]
        self.cursor = len(self.text) if cursor is None else min(cursor, len(self.text))

    def insert(self, text: str) -> None:
        """Type *text*, or paste it: any line ending is a newline, other control characters are dropped."""
        clean = _NOT_TYPED.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
        clean = clean[: MAX_TEXT_CHARS - len(self.text)]
        self.text = self.text[: self.cursor] + clean + self.text[self.cursor :]
        self.cursor += len(clean)

    def take(self) -> str:
        """The text, which is remembered; the editor is empty then."""
        text = self.text
        self.history.add(text)
        self._recalled = None
        self.set("")
        return text

    # --- moving ---------------------------------------------------------------------------------------------

    def left(self) -> None:
        """One place to the left."""
        self.cursor = self._before(self.cursor)

    def right(self) -> None:
        """One place to the right."""
        self.cursor = self._after(self.cursor)

    def home(self) -> None:
        """To the beginning of the line."""
        self.cursor = self.text.rfind("\n", 0, self.cursor) + 1

    def end(self) -> None:
        """To the end of the line."""
        newline = self.text.find("\n", self.cursor)
        self.cursor = len(self.text) if newline < 0 else newline

    def word_left(self) -> None:
        """To the beginning of the word."""
        starts = [word.start() for word in _WORD.finditer(self.text) if word.start() < self.cursor]
        self.cursor = starts[-1] if starts else 0

    def word_right(self) -> None:
        """To the end of the word."""
        found = _WORD.search(self.text, self.cursor)
        self.cursor = found.end() if found else len(self.text)

    def up(self) -> None:
        """A line up; from the first line on what was sent before."""
        start = self.text.rfind("\n", 0, self.cursor)
        if start >= 0 and self._recalled is None:
            column = self.cursor - start - 1
            above = self.text.rfind("\n", 0, start) + 1
            self.cursor = min(above + column, start)
        else:
            self._recall(-1)

    def down(self) -> None:
        """A line down; from the last line on what was sent after."""
        newline = self.text.find("\n", self.cursor)
        if newline >= 0 and self._recalled is None:
            column = self.cursor - self.text.rfind("\n", 0, self.cursor) - 1
            end = self.text.find("\n", newline + 1)
            self.cursor = min(newline + 1 + column, len(self.text) if end < 0 else end)
        else:
            self._recall(1)

    # --- cutting --------------------------------------------------------------------------------------------

    def backspace(self) -> None:
        """Delete what is left of the cursor."""
        self._delete(self._before(self.cursor), self.cursor)

    def delete(self) -> None:
        """Delete what is under the cursor."""
        self._delete(self.cursor, self._after(self.cursor))

    def cut_to_end(self) -> None:
        """Cut the rest of the line, or the newline where there is no rest."""
        start = self.cursor
        self.end()
        end = self.cursor if self.cursor > start else self._after(start)
        self._cut_out(start, end)

    def cut_to_start(self) -> None:
        """Cut the line up to the cursor."""
        end = self.cursor
        self.home()
        self._cut_out(self.cursor, end)

    def cut_word(self) -> None:
        """Cut the word left of the cursor."""
        end = self.cursor
        self.word_left()
        self._cut_out(self.cursor, end)

    def cut_word_right(self) -> None:
        """Cut the word right of the cursor."""
        start = self.cursor
        self.word_right()
        self._cut_out(start, self.cursor)

    def paste_cut(self) -> None:
        """Insert what was cut last."""
        self.insert(self._cut)

    # --- showing --------------------------------------------------------------------------------------------

    def rows(self, width: int) -> tuple[list[str], tuple[int, int]]:
        """The text in rows of at most *width* cells, and the column and row of the cursor."""
        width = max(width, 2)
        rows = [""]
        used = 0
        cursor = (0, 0)
        position = 0
        for part in _places(self.text):
            if position == self.cursor:
                cursor = (used, len(rows) - 1)
            shown, cells_wide = _shown(part)
            if part == "\n":
                rows.append("")
                used = 0
            else:
                if used + cells_wide > width:
                    rows.append("")
                    used = 0
                    if position == self.cursor:
                        cursor = (0, len(rows) - 1)
                rows[-1] += shown
                used += cells_wide
            position += len(part)
        if position <= self.cursor:
            if used >= width:
                rows.append("")
                used = 0
            cursor = (used, len(rows) - 1)
        return rows, cursor

    # --- inside ---------------------------------------------------------------------------------------------

    def _before(self, position: int) -> int:
        start = 0
        for part in _places(self.text):
            if start + len(part) >= position:
                return start
            start += len(part)
        return start

    def _after(self, position: int) -> int:
        start = 0
        for part in _places(self.text):
            start += len(part)
            if start > position:
                return start
        return len(self.text)

    def _delete(self, start: int, end: int) -> None:
        self.text = self.text[:start] + self.text[end:]
        self.cursor = start

    def _cut_out(self, start: int, end: int) -> None:
        if end > start:
            self._cut = self.text[start:end]
            self._delete(start, end)

    def _recall(self, step: int) -> None:
        lines = self.history.lines
        index = len(lines) if self._recalled is None else self._recalled
        if self._recalled is not None and index < len(lines) and self.text != lines[index]:
            index, self._recalled = len(lines), None  # it was changed, and is a new text now
        if not 0 <= index + step <= len(lines) or (self._recalled is None and step > 0):
            return
        if self._recalled is None:
            self._begun = self.text
        index += step
        self._recalled = index if index < len(lines) else None
        self.set(lines[index] if index < len(lines) else self._begun)


def _places(text: str) -> list[str]:
    """*text* cut where the cursor may stand."""
    if text.isascii():
        return list(text)
    return [
        part
        for line in re.split(r"(\n)", text)
        for part in (iter_graphemes(line) if line != "\n" else (line,))
    ]


def _shown(part: str) -> tuple[str, int]:
    """What stands for one place of the text, and its cells."""
    if part == "\t":
        return "  ", 2
    shown = list(clusters(tame(part)))
    if not shown:
        return "\ufffd", 1  # it takes no place, and must not be overlooked
    return "".join(cluster for cluster, _ in shown), sum(width for _, width in shown)

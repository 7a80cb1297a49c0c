"""A list that lies over the conversation until it is put away: help, who is here, what was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chatproto.client.terminal.cells import Row, Run, wrap

__all__ = ["Item", "Panel"]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing of the list; *seq* is its place in the room if it can be gone to."""

    runs: tuple[Run, ...]
    seq: int = 0


class Panel:
    """*items* under a *title*. Where *choose* is given one of them is selected, and Enter calls it."""

    def __init__(
        self, title: str, items: Sequence[Item], choose: Callable[[Item], None] | None = None
    ) -> None:
        self.title = title
        self.items = items
        self.choose = choose
        self.selected = max(len(items) - 1, 0) if choose is not None else -1
        self._top = 0
        self._height = 1
        self._count = 0

    def move(self, step: int) -> None:
        """Select another, or scroll."""
        if self.choose is not None:
            self.selected = min(max(self.selected + step, 0), max(len(self.items) - 1, 0))
        else:
            self._top = min(max(self._top + step, 0), max(self._count - self._height, 0))

    def page(self, step: int) -> None:
        """The same, by the height of the list."""
        self.move(step * max(self._height - 1, 1))

    def rows(self, width: int, height: int) -> list[Row]:
        """What is to be seen of it: at most *height* rows."""
        rows: list[Row] = []
        first = last = 0
        for index, item in enumerate(self.items):
            broken = wrap(item.runs, width - 2)
            is_selected = index == self.selected
            if is_selected:
                first, last = len(rows), len(rows) + len(broken)
            for row in broken:
                if is_selected:
                    row = [("selected", text) for _, text in row]
                rows.append([("mark" if is_selected else "", "▌ " if is_selected else "  "), *row])
        self._count, self._height = len(rows), max(height, 1)
        if self.choose is not None:
            self._top = min(max(self._top, last - height), first)
        self._top = min(max(self._top, 0), max(len(rows) - height, 0))
        return rows[self._top : self._top + height]

    @property
    def is_all_seen(self) -> bool:
        """Whether it fits on the screen."""
        return self._count <= self._height

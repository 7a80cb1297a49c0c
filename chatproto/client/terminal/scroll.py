"""What part of a place is in view. What comes in, above or below, never moves what one is reading."""

from __future__ import annotations

from chatproto.client.terminal.cells import Row
from chatproto.client.terminal.layout import Reel
from chatproto.client.terminal.transcript import Entry

__all__ = ["View"]


class View:
    """Follows the end, or is held by the entry at its lower edge."""

    def __init__(self) -> None:
        self._held: Entry | None = None
        self._hidden = 0  # rows of it that lie below the edge
        self._arrivals = 0  # when one went away from the end

    @property
    def follows(self) -> bool:
        """Whether the end is in view, and stays there."""
        return self._held is None

    def to_end(self) -> None:
        """Follow the end again."""
        self._held = None
        self._hidden = 0

    def rows(self, reel: Reel, height: int) -> list[Row]:
        """What is in view: at most *height* rows."""
        index, hidden = self._edge(reel)
        taken: list[list[Row]] = []
        count = 0
        while index >= 0 and count < height:
            rows = reel.rows(index)
            rows = rows[: max(len(rows) - hidden, 0)]
            hidden = 0
            taken.append(rows)
            count += len(rows)
            index -= 1
        flat = [row for rows in reversed(taken) for row in rows]
        return flat[max(len(flat) - height, 0) :]

    def up(self, reel: Reel, count: int, height: int) -> bool:
        """Go up *count* rows; False where there were not as many, and the oldest is in view now."""
        if not reel.entries:
            return False
        index, hidden = self._edge(reel)
        self._leave_end(reel)
        hidden += count
        while index > 0 and hidden >= len(reel.rows(index)):
            hidden -= len(reel.rows(index))
            index -= 1
        hidden = min(hidden, len(reel.rows(index)))
        shown = len(reel.rows(index)) - hidden
        above = index
        while above > 0 and shown < height:
            above -= 1
            shown += len(reel.rows(above))
        self._hold(reel, index, hidden)
        if shown < height:
            self.down(reel, height - shown)
            return False
        return True

    def down(self, reel: Reel, count: int) -> None:
        """Go down *count* rows, and follow the end where it is reached."""
        if self._held is None:
            return
        index, hidden = self._edge(reel)
        while count > hidden:
            count -= hidden
            index += 1
            if index >= len(reel.entries):
                self.to_end()
                return
            hidden = len(reel.rows(index))
        hidden -= count
        if hidden == 0 and index == len(reel.entries) - 1:
            self.to_end()
        else:
            self._hold(reel, index, hidden)

    def show(self, reel: Reel, entry: Entry, height: int) -> None:
        """Have *entry* in view, in the middle if possible."""
        index = reel.transcript.entries.index(entry)
        self._leave_end(reel)
        self._hold(reel, index, 0)
        self.down(reel, max(height // 2 - 1, 0))
        if not self.follows and len(self.rows(reel, height)) < height:
            self.up(reel, 0, height)

    def new_below(self, reel: Reel) -> int:
        """How many have spoken below the view since one went up."""
        if self._held is None:
            return 0
        index, _ = self._edge(reel)
        return sum(
            1
            for entry in reel.transcript.entries[index + 1 :]
            if entry.arrival > self._arrivals and entry.nick
        )

    def _leave_end(self, reel: Reel) -> None:
        if self._held is None:
            self._arrivals = reel.transcript.arrivals

    def _hold(self, reel: Reel, index: int, hidden: int) -> None:
        self._held = reel.entries[index]
        self._hidden = hidden

    def _edge(self, reel: Reel) -> tuple[int, int]:
        """The entry at the lower edge, and how many of its rows lie below."""
        entries = reel.transcript.entries
        if self._held is not None:
            try:
                index = entries.index(self._held)
            except ValueError:  # it was forgotten, or has another place now
                self.to_end()
            else:
                return index, min(self._hidden, len(reel.rows(index)))  # there may be fewer by now
        return len(entries) - 1, 0

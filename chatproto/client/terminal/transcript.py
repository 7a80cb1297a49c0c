"""What was said in one place, in order, with what the program has to say about it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Entry", "State", "Transcript"]

MAX_ENTRIES = 5_000
"""Past this the oldest go, unless one is reading them; the server has them still."""
MAX_ENTRIES_READING = 50_000
"""Past this they go all the same."""


class State(enum.Enum):
    """How a thing that one said oneself fares."""

    KEPT = enum.auto()
    WAITING = enum.auto()
    FAILED = enum.auto()


@dataclass(slots=True, eq=False)
class Entry:
    """Something that was said, or without a *nick* a line of the program's own."""

    time_ms: int
    """Since 1970-01-01T00:00Z."""
    nick: str
    text: str
    seq: int = 0
    """Its place in the room; 0 where it has none."""
    own: bool = False
    mentions: bool = False
    """One's own name is in it."""
    state: State = State.KEPT
    why: str = ""
    """It failed."""
    epoch: int = 0
    """How often the room had begun anew before it."""
    arrival: int = 0
    """How many came before it, whatever their place is."""
    rows: tuple[object, list[list[tuple[str, str]]]] | None = field(default=None, repr=False)
    """How it was laid out last, and for what."""


class Transcript:
    """The entries of one place: in the order of the room, and what the server has not kept yet at the end."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.epoch = 0
        """How often the room began anew."""
        self.is_complete = False
        """Nothing older is to be had."""
        self.arrivals = 0
        """How many came."""
        self.mark: Entry | None = None
        """The first that came after one had left off."""
        self._left_off = False

    @property
    def oldest_seq(self) -> int:
        """The oldest sequence number since the room began anew; 0 where there is none."""
        return next((entry.seq for entry in self.entries if entry.seq and entry.epoch == self.epoch), 0)

    def seen_seq(self, *, is_all: bool) -> int:
        """The newest sequence number that was seen, which is before the mark unless *is_all* was."""
        seen = 0
        for entry in self.entries:
            if entry is self.mark and not is_all:
                break
            if entry.epoch == self.epoch:
                seen = max(seen, entry.seq)
        return seen

    def note(self, text: str, time_ms: int) -> Entry:
        """The program says *text*."""
        entry = Entry(time_ms, "", text)
        self._insert(self._end(), entry)
        return entry

    def add(self, entry: Entry) -> bool:
        """Put *entry* at its place, if it is not here yet; whether it was not."""
        if not entry.seq:
            self._insert(len(self.entries) if entry.state is State.WAITING else self._end(), entry)
            return True
        entry.epoch = self.epoch
        key = (entry.epoch, entry.seq)
        at = self._end()
        while at:
            before = self.entries[at - 1]
            if before.seq and (before.epoch, before.seq) <= key:
                if (before.epoch, before.seq) == key:
                    return False
                break
            at -= 1
        # Notes that stand behind the one before it came before it, too, unless something later came already.
        while at < len(self.entries) and not self.entries[at].seq and not self._waits(at):
            at += 1
        self._insert(at, entry)
        return True

    def add_older(self, entries: Iterable[Entry]) -> int:
        """Put *entries*, in ascending order, before all since the room began anew; how many were new."""
        oldest = self.oldest_seq
        new = [entry for entry in entries if not oldest or entry.seq < oldest]
        at = next(
            (index for index, entry in enumerate(self.entries) if entry.seq and entry.epoch == self.epoch),
            0,
        )
        for entry in new:
            entry.epoch = self.epoch
        self.entries[at:at] = new
        return len(new)

    def keep(self, entry: Entry, seq: int, time_ms: int) -> None:
        """The server has kept what waited: it gets its place."""
        if entry in self.entries:
            self.entries.remove(entry)
        was_marked = self.mark
        entry.state, entry.seq, entry.time_ms = State.KEPT, seq, time_ms
        self.add(entry)
        self.mark = was_marked

    def fail(self, entry: Entry, why: str) -> None:
        """What waited came to nothing."""
        entry.state, entry.why, entry.rows = State.FAILED, why, None
        if entry in self.entries:
            self.entries.remove(entry)
            self._insert(self._end(), entry)

    def begin_anew(self) -> None:
        """What comes from now on is numbered anew, and what was before it cannot be asked for any more."""
        self.epoch += 1
        self.is_complete = False

    def leave_off(self) -> None:
        """One does not look any more; what comes first is marked."""
        self._left_off = True
        self.mark = None

    def mark_after(self, seq: int) -> None:
        """One had left off at *seq*, when the program ran last."""
        self.mark = next(
            (
                entry
                for entry in self.entries
                if entry.seq > seq and entry.epoch == self.epoch and not entry.own
            ),
            None,
        )

    def settle(self) -> None:
        """One speaks here, and has seen what there is."""
        self._left_off = False
        self.mark = None

    def trim(self, is_reading: bool) -> None:
        """Forget the oldest, if there are too many."""
        surplus = len(self.entries) - (MAX_ENTRIES_READING if is_reading else MAX_ENTRIES)
        if surplus > 0:
            del self.entries[:surplus]
            self.is_complete = False

    def _waits(self, index: int) -> bool:
        return self.entries[index].state is State.WAITING

    def _end(self) -> int:
        """Behind everything but what waits."""
        end = len(self.entries)
        while end and self._waits(end - 1):
            end -= 1
        return end

    def _insert(self, at: int, entry: Entry) -> None:
        self.arrivals += 1
        entry.arrival = self.arrivals
        entry.rows = None
        self.entries.insert(at, entry)
        if self._left_off and entry.nick and not entry.own:
            self._left_off = False
            self.mark = entry

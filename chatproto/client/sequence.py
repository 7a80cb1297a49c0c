"""Which messages of one room have been seen: none counts twice, and none is lost unnoticed."""

from __future__ import annotations

__all__ = ["Sequence"]

MAX_SEEN_AHEAD = 4_096
"""How many messages may be seen beyond a hole before the hole is given up."""


class Sequence:
    """The sequence numbers of one room, as one client sees them (docs/protocol.md, section 3).

    A number that is skipped need not be lost. It may belong to something that the client itself said, which
    comes back only as `ack`: the hole stays open while any that was said before it showed is unacknowledged.
    """

    __slots__ = ("_doubt_id", "_last", "_reached", "_seen")

    def __init__(self) -> None:
        self._last: int | None = None
        self._seen: set[int] = set()  # beyond `_last`, which none of them follows
        self._reached = 0  # all numbers up to here have come, as far as they come at all
        self._doubt_id = 0

    @property
    def last(self) -> int | None:
        """The number up to which nothing is open: seen, or known to be lost. None before the first."""
        return self._last

    @property
    def open(self) -> bool:
        """Whether there is a hole that may still be lost."""
        return self._last is not None and self._reached > self._last

    def begin(self, last: int) -> None:
        """What comes next is *last* + 1; forget all else."""
        self.forget()
        self._last = last

    def forget(self) -> None:
        """Begin anew with whatever is seen next."""
        self._last, self._reached, self._doubt_id = None, 0, 0
        self._seen.clear()

    def see(self, seq: int) -> bool:
        """Take note of a message; False if it was seen before."""
        if self._last is None:
            self._last = seq
            return True
        if seq <= self._last or seq in self._seen:
            return False
        self._seen.add(seq)
        self._close_up()
        return True

    def reach(self, seq: int, doubt_id: int = 0) -> None:
        """Take note that all messages up to *seq* should have come, but for own ones up to *doubt_id*."""
        if self._last is not None and seq > max(self._last, self._reached):
            self._reached, self._doubt_id = seq, doubt_id

    def lost(self, oldest_unacknowledged_id: int = 0) -> list[tuple[int, int]]:
        """The holes, as first and last numbers, that nothing can fill any more; they count as closed then.

        *oldest_unacknowledged_id* is that of what the client said in this room and has no `ack` for, else 0.
        """
        if self._last is None or self._reached <= self._last:
            return []
        if 0 < oldest_unacknowledged_id <= self._doubt_id and len(self._seen) < MAX_SEEN_AHEAD:
            return []
        holes = []
        for seq in [*sorted(seq for seq in self._seen if seq <= self._reached), self._reached + 1]:
            if seq > self._last + 1:
                holes.append((self._last + 1, seq - 1))
            self._last = seq
        self._last = self._reached
        self._seen = {seq for seq in self._seen if seq > self._reached}
        self._close_up()
        return holes

    def _close_up(self) -> None:
        assert self._last is not None
        while self._last + 1 in self._seen:
            self._last += 1
            self._seen.remove(self._last)

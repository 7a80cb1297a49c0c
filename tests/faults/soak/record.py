"""What well-behaved people say and see while a soak lasts, and whether it is as the protocol promises.

What is wrong is written down and not raised, so that a soak goes on and shows all of it.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence

__all__ = ["Conversation", "Delays", "Seen"]

MOST_FAULTS = 50
"""So many are told; more say nothing new."""


class Delays:
    """Seconds from when something was planned until it had come, by when it was planned."""

    def __init__(self) -> None:
        self.planned_s = array("d")
        self.delays_s = array("d")

    def add(self, planned_s: float, now_s: float) -> None:
        """Something has come."""
        self.planned_s.append(planned_s)
        self.delays_s.append(now_s - planned_s)

    def between(self, from_s: float, until_s: float) -> list[float]:
        """Those of what was planned in a time."""
        return [
            delay_s
            for planned_s, delay_s in zip(self.planned_s, self.delays_s, strict=True)
            if from_s <= planned_s < until_s
        ]


class Seen:
    """Which numbers of a room somebody has; `upto` this one without a hole.

    Numbers of one's own come with their acknowledgement, which may be later than what was said after them.
    """

    def __init__(self) -> None:
        self.upto = 0
        self._beyond: set[int] = set()
        self._newest = 0

    def come_back(self) -> None:
        """There is a new connection, which has asked for all after `upto`."""
        self._beyond.clear()
        self._newest = self.upto

    def chat(self, seq: int, n_unanswered: int) -> str:
        """A message of the room has come; what is wrong with that, if anything.

        So many of the numbers before it may be of own messages that wait for an answer.
        """
        if seq <= self._newest or seq in self._beyond:
            return f"number {seq} came after {self._newest}"
        missing = seq - 1 - self.upto - len(self._beyond)
        self._newest = seq
        self._add(seq)
        return f"{missing} are missing before number {seq}" if missing > n_unanswered else ""

    def acknowledged(self, seq: int) -> None:
        """One's own message has this number; perhaps one hears it again."""
        if seq > self.upto:
            self._add(seq)

    def _add(self, seq: int) -> None:
        self._beyond.add(seq)
        while self.upto + 1 in self._beyond:
            self.upto += 1
            self._beyond.discard(self.upto)


class Conversation:
    """All that is said by well-behaved people, in the order of its rooms as they see it."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.rooms: defaultdict[str, dict[int, tuple[str, str]]] = defaultdict(dict)
        self.planned_s: dict[str, float] = {}
        """When each text was to be said. No text is said twice."""
        self.deliveries = Delays()
        self.acknowledgements = Delays()
        self.returns = Delays()

    def fault(self, who: str, what: str) -> None:
        """Something is not as it should be."""
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(f"{who}: {what}")

    def has_place(self, who: str, room: str, seq: int, nick: str, text: str) -> None:
        """*who* was told that this is what has the number."""
        first = self.rooms[room].setdefault(seq, (nick, text))
        if first != (nick, text):
            self.fault(who, f"number {seq} of {room} is {(nick, text)}, and {first} to somebody else")

    def newest(self, room: str) -> int:
        """The newest number that anybody was told of."""
        return max(self.rooms[room], default=0)

    def check_run(self, who: str, room: str, texts: Sequence[str]) -> None:
        """*who*, whose own words do not come back, saw just these *texts* of *room* from its beginning."""
        said = [text for _, (nick, text) in sorted(self.rooms[room].items()) if nick != who]
        if list(texts) != said:
            at = next(
                (at for at, pair in enumerate(zip(texts, said, strict=False)) if len(set(pair)) > 1), -1
            )
            self.fault(who, f"saw {len(texts)} of {len(said)} texts, other ones from {at} on")

    def check_whole(self) -> None:
        """Every room has each number, and every text that was said, once."""
        places: dict[str, tuple[str, int]] = {}
        for room, said in self.rooms.items():
            if len(said) != self.newest(room):
                self.fault(room, f"{self.newest(room) - len(said)} numbers were never seen by anybody")
            for seq, (_, text) in said.items():
                before = places.setdefault(text, (room, seq))
                if before != (room, seq) and text in self.planned_s:
                    self.fault(room, f"{text!r} is number {seq}, and {before}")
        lost = self.planned_s.keys() - places.keys()
        if lost:
            self.fault("everybody", f"{len(lost)} texts were never seen, e.g. {sorted(lost)[:3]}")

    def check_kept(self, kept: Iterable[tuple[str, int, str, str]]) -> None:
        """The history, as room, number, nickname and text, has just what was seen."""
        found: defaultdict[str, dict[int, tuple[str, str]]] = defaultdict(dict)
        for room, seq, nick, text in kept:
            found[room][seq] = (nick, text)
        for room, said in self.rooms.items():
            if found[room] != said:
                self.fault(room, f"the history has {len(found[room])} messages, people saw {len(said)}")

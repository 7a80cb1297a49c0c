"""Who may not enter or speak where, and until when. In memory, by nickname."""

from __future__ import annotations

from enum import IntEnum

from twisted.internet.interfaces import IReactorTime

__all__ = ["Action", "Moderation"]


class Action(IntEnum):
    """The `action` of a `moderate` message."""

    KICK = 1
    BAN = 2
    UNBAN = 3
    MUTE = 4
    UNMUTE = 5


class Moderation:
    """The bans and mutes of all rooms, by the comparison form of nicknames; each may have an end."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        # (action, room, nickname's key): when it ends, in the clock's seconds
        self._until_s: dict[tuple[Action, str, str], float] = {}

    def set(self, action: Action, room: str, key: str, seconds: int) -> None:
        """BAN or MUTE for *seconds*, 0: without end."""
        now_s = self._clock.seconds()
        ended = [entry for entry, until_s in self._until_s.items() if until_s <= now_s]
        for entry in ended:
            del self._until_s[entry]
        self._until_s[action, room, key] = now_s + seconds if seconds else float("inf")

    def lift(self, action: Action, room: str, key: str) -> bool:
        """End a BAN or MUTE; whether there was one."""
        was_in_force = self.holds(action, room, key)
        self._until_s.pop((action, room, key), None)
        return was_in_force

    def holds(self, action: Action, room: str, key: str) -> bool:
        """Whether a BAN or MUTE is in force."""
        return bool(self._until_s) and self._until_s.get((action, room, key), 0.0) > self._clock.seconds()

"""What waits for all connections together is bounded too: past that, those with most of it lag."""

from __future__ import annotations

from collections.abc import Collection

from chatproto.net.face import Face
from chatproto.net.sendqueue import Turn
from chatproto.rooms.hub import Hub

__all__ = ["Crowding"]

SHED_TO = 0.75
"""So far down at once, so that it is not done for every message."""


class Crowding:
    """Sees to it that no more than `max_total_queued_bytes` of *hub* wait in the queues of *turn*.

    What people in *faces* have waiting of rooms is dropped, to be replayed when they read; the largest queues
    first, so that it is the slowest who notice. What cannot be replayed is bounded for each connection.
    """

    def __init__(self, hub: Hub, turn: Turn, faces: Collection[Face]) -> None:
        self._hub = hub
        self._turn = turn
        self._faces = faces
        turn.crowded = self.shed
        self.renew()

    def renew(self) -> None:
        """Go by the limit that the hub has now."""
        self._turn.crowded_bytes = self._hub.limits.max_total_queued_bytes

    def shed(self) -> None:
        """Too much waits."""
        turn = self._turn
        most_bytes = self._hub.limits.max_total_queued_bytes
        behind = [face for face in self._faces if face.queue.blocked]
        behind.sort(key=lambda face: face.queue.queued_bytes, reverse=True)
        for face in behind:
            if turn.queued_bytes <= most_bytes * SHED_TO:
                break
            face.session.shed()
        # Where little could be dropped, to look again before there is more would be of no use.
        turn.crowded_bytes = max(most_bytes, turn.queued_bytes + most_bytes // 16)

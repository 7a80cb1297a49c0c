"""Who is let in: how many connections in all, from each address, and in each second.

What is counted for an address is there as long as it has a connection, and for the rest of a second: many
addresses, of which an attacker has plenty, take no memory that connections would not take anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

from chatproto.net.peers import TrustedPeers
from chatproto.rooms.addresses import household, parse_address
from chatproto.rooms.hub import Hub
from chatproto.rooms.pace import Pace

__all__ = ["Admission", "Place", "TurnedAway"]

EXPLAINED_PER_S = 100
"""So many that are turned away are told why in a second, each within its own face. The rest of a flood is
closed as it is accepted: what an answer takes is what the flood is after."""


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """Why somebody is not let in: the limit, the sentence for them, and when they may try again."""

    limit: str
    text: str
    retry_s: int
    http_status: int


_FULL = TurnedAway("max_connections", "the server is full; try again later", 10, 503)
_MANY = TurnedAway(
    "max_connections_per_address", "there are too many connections from your address; close one", 10, 429
)
_CROWD = TurnedAway("max_arrivals_per_s", "too many come at once; try again in a moment", 2, 503)
_HASTE = TurnedAway(
    "max_arrivals_per_address_per_s", "your address connects too often; try again in a moment", 2, 429
)


class Place:
    """One connection among those that are let in; it MUST be given back, once is enough."""

    __slots__ = ("_admission", "_household")

    def __init__(self, admission: Admission, household: str) -> None:
        self._admission: Admission | None = admission
        self._household = household

    def move(self, peer: object) -> TurnedAway | None:
        """A proxy has told that the connection is *peer*'s; why that one is not let in, if so."""
        admission = self._admission
        if admission is None or admission.counted(peer) == self._household:
            return None
        refusal = admission.refusal_for(admission.counted(peer))
        if refusal is None:
            admission.leave(self._household)
            self._household = admission.counted(peer)
            admission.enter(self._household)
        return refusal

    def give_back(self) -> None:
        """The connection is over."""
        admission, self._admission = self._admission, None
        if admission is not None:
            admission.n_connections -= 1
            admission.leave(self._household)


class Admission:
    """Lets connections in within the limits of *hub*, or says why not.

    Those of this machine and of *trusted* peers count in all, but not for their address: behind it are
    others, who are counted as soon as the proxy has said who they are.
    """

    def __init__(self, hub: Hub, trusted: TrustedPeers | None = None) -> None:
        self.hub = hub
        self.trusted = trusted or TrustedPeers()
        self.n_connections = 0
        self.most_descriptors: int | None = None
        """As many connections as this process can have, whatever the limits say; None if nobody knows."""
        self._connections: dict[str, int] = {}
        self._second = 0
        self._arrivals = 0
        self._arrivals_by: dict[str, int] = {}  # those let in in this second
        self._explained = Pace()

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._connections.keys() | self._arrivals_by.keys())

    def refusal(self, peer: object) -> TurnedAway | None:
        """Why *peer* is not let in now, which is counted; None if it is, and then MUST `take` a place."""
        limits = self.hub.limits
        self._turn_page()
        most = limits.max_connections
        if self.most_descriptors is not None:
            most = min(most or self.most_descriptors, self.most_descriptors)
        if 0 < most <= self.n_connections:
            return self._refused(_FULL)
        refusal = self.refusal_for(self.counted(peer))
        # Who is too hasty by themselves must not use up what there is for everybody.
        if refusal is None and 0 < limits.max_arrivals_per_s <= self._arrivals:
            return self._refused(_CROWD)
        return refusal

    def refusal_for(self, household: str) -> TurnedAway | None:
        """Why an address is not let in once more, if so."""
        if not household:
            return None
        limits = self.hub.limits
        self._turn_page()
        if 0 < limits.max_connections_per_address <= self._connections.get(household, 0):
            return self._refused(_MANY)
        if 0 < limits.max_arrivals_per_address_per_s <= self._arrivals_by.get(household, 0):
            return self._refused(_HASTE)
        return None

    def take(self, peer: object) -> Place:
        """Count a connection of *peer*."""
        self._turn_page()
        self._arrivals += 1
        self.n_connections += 1
        household = self.counted(peer)
        self.enter(household)
        return Place(self, household)

    def may_explain(self) -> bool:
        """Whether one more may be told why they are turned away; if so, that is counted."""
        now_s = self.hub.clock.seconds()
        if self._explained.left(now_s, EXPLAINED_PER_S, EXPLAINED_PER_S) < 1:
            return False
        self._explained.take(1, now_s, EXPLAINED_PER_S)
        return True

    def counted(self, peer: object) -> str:
        """What *peer* is counted as; empty if it is not counted."""
        host = getattr(peer, "host", None)
        address = parse_address(host) if isinstance(host, str) else None
        if address is None or address.is_loopback or self.trusted.trusts(peer):
            return ""
        return household(str(address))

    def enter(self, household: str) -> None:
        """One connection more."""
        if household:
            self._connections[household] = self._connections.get(household, 0) + 1
            self._arrivals_by[household] = self._arrivals_by.get(household, 0) + 1

    def leave(self, household: str) -> None:
        """One connection less."""
        left = self._connections.get(household, 0) - 1
        if left > 0:
            self._connections[household] = left
        else:
            self._connections.pop(household, None)

    def _refused(self, refusal: TurnedAway) -> TurnedAway:
        self.hub.record.limited(refusal.limit)
        return refusal

    def _turn_page(self) -> None:
        second = int(self.hub.clock.seconds())
        if second != self._second:
            self._second = second
            self._arrivals = 0
            self._arrivals_by = {}

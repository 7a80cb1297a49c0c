"""People on other servers that share this one's rooms, as the hub sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred

from chatproto.rooms.log import Receipt
from chatproto.rooms.names import Nick
from chatproto.wire.errors import ErrorCode

if TYPE_CHECKING:
    from chatproto.rooms.orders import Order
    from chatproto.rooms.session import Session

__all__ = ["Elsewhere", "Refused", "Stranger"]


class Refused(Exception):
    """What was asked for cannot be done; the text is one sentence, and `code` the protocol's error."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class Stranger:
    """Somebody on another server: `nick` is the nickname as it is shown."""

    __slots__ = ("nick", "place", "rooms")

    def __init__(self, place: str, nick: str) -> None:
        self.place = place
        self.nick = nick
        self.rooms: list[str] = []  # mostly one, and there may be very many strangers


class Elsewhere(Protocol):
    """What the hub tells other servers, and asks of them. What they tell is done to the hub."""

    @property
    def is_reachable(self) -> bool:
        """Whether other servers hear at the moment what they are told."""

    def claim(self, nick: Nick, session: Session) -> Deferred[bool]:
        """Let *session* have a nickname everywhere; whether it does now. Fails with Refused."""

    def release(self, nick: Nick, session: Session, but: Nick | None = None) -> None:
        """A nickname is free again, but for what it has in common with *but*, which they have as well."""

    def people(self, room: str) -> Mapping[str, Stranger]:
        """Who is in *room* on other servers, as it changes. The room MUST have been prepared."""

    def entered(self, room: str, session: Session) -> None:
        """Somebody is in *room* here."""

    def left(self, room: str, session: Session, reason: str) -> None:
        """Somebody is not in *room* here any more."""

    def renamed(self, session: Session) -> None:
        """Somebody here has another nickname."""

    def tell(self, session: Session, id: int, nick: str, text: str) -> Deferred[Receipt]:
        """Say something to one person, wherever they are. Fails with Refused."""

    def find(self, key: str, room: str) -> Deferred[bool]:
        """Whether somebody with that nickname, by its comparison form, is in *room* (empty: anywhere)."""

    def spread(self, order: Order, until_ms: int) -> None:
        """Have *order* carried out on all other servers too; its rule, if it is one, ends at *until_ms*."""

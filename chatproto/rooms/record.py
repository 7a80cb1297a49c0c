"""What happens to people, for whoever runs the server: counted, and told where somebody wants to hear it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol

from chatproto.rooms.moderation import Action
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Error

if TYPE_CHECKING:
    from chatproto.rooms.session import Session

__all__ = ["LIMITING", "REASONS", "Record", "Witness"]

REASONS = ("left", "closed", "timeout", "too slow", "kicked", "shutdown", "error")
"""Why sessions end and people leave rooms (docs/protocol.md, section 3)."""


LIMITING = (
    "max_connections",
    "max_connections_per_address",
    "max_arrivals_per_s",
    "max_arrivals_per_address_per_s",
    "max_sessions",
    "max_rooms_per_session",
    "max_rooms",
    "max_people_per_room",
    "join_timeout_s",
    "nickname_timeout_s",
    "login_burst",
    "max_bytes_before_join",
    "max_frame_bytes",
    "max_line_bytes",
    "max_text_bytes",
    "max_messages_per_s",
    "max_history_reads_per_s",
    "max_history_messages",
    "max_queued_bytes",
    "max_total_queued_bytes",
    "lag_timeout_s",
    "pong_timeout_s",
    "rename_burst",
)
"""The limits that strangers meet, as `chatproto.Limits` names them."""


_CODES: dict[int, ErrorCode] = {int(code): code for code in ErrorCode}


class Witness(Protocol):
    """Hears of what happens, as it happens. MUST not raise, nor do anything to anybody.

    It never gets to see what people say. Nicknames and rooms are what they chose, within the rules for those.
    """

    def __call__(self, event: str, session: Session, **details: str) -> None:
        """*event* happened to *session*, whose state it has already changed."""


class Record:
    """Counts, since the hub was made, of what cannot be read off its state; `witness` is told, if there is
    one."""

    def __init__(self) -> None:
        self.witness: Witness | None = None
        self.messages = 0
        self.private_messages = 0
        self.lags = 0
        self.refusals: Counter[ErrorCode] = Counter(dict.fromkeys(ErrorCode, 0))
        self.limited_by: Counter[str] = Counter(dict.fromkeys(LIMITING, 0))
        self.ends: Counter[str] = Counter(dict.fromkeys(REASONS, 0))

    def _tell(self, event: str, session: Session, **details: str) -> None:
        if self.witness is not None:
            self.witness(event, session, **details)

    def limited(self, limit: str) -> None:
        """Somebody has met *limit*, one of `LIMITING`, and was refused, slowed down or ended by it."""
        self.limited_by[limit] += 1

    def connected(self, session: Session) -> None:
        """A session has begun."""
        self._tell("connected", session)

    def joined(self, session: Session, room: str) -> None:
        """They are in a room more."""
        self._tell("joined", session, room=room)

    def left(self, session: Session, room: str, reason: str) -> None:
        """They are in a room less. Whose session ends leaves all by that, and only the end is told."""
        if not session.ended:
            self._tell("left", session, room=room, reason=reason)

    def renamed(self, session: Session, old: str) -> None:
        """They have another nickname."""
        self._tell("renamed", session, old=old)

    def refused(self, session: Session, code: ErrorCode) -> None:
        """They were answered with an error."""
        self.refusals[code] += 1
        if self.witness is not None:
            self.witness("refused", session, error=code.label)

    def lagged(self, session: Session) -> None:
        """They have begun to be too slow: what waited for them was dropped, to be replayed."""
        self.lags += 1
        self._tell("lagged", session)

    def moderated(self, operator: Session, action: Action, room: str, nick: str) -> None:
        """An operator did something to *nick*."""
        self._tell("moderated", operator, action=action.name.lower(), room=room, target=nick)

    def ended(self, session: Session) -> None:
        """A session has ended."""
        if isinstance(session.farewell, Error):
            self.refused(session, _CODES[session.farewell.code])
        self.ends[session.reason] += 1
        self._tell("ended", session, reason=session.reason)

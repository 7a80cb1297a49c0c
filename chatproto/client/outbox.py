"""What a client has said and told, and what the server has not yet acknowledged of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from twisted.internet.defer import Deferred, fail

from chatproto.client.outcomes import Receipt, TooManyWaiting
from chatproto.wire.chat import encode_frame
from chatproto.wire.messages import MAX_U64, Ack, Chat, Say, Tell

__all__ = ["Outbox", "Said"]


@dataclass(slots=True, eq=False)
class Said:
    """One `say` or `tell` that the server has not answered."""

    message: Say | Tell
    frame: bytes
    room: str | None  # None for a tell, empty for the default room until its name is known
    receipt: Deferred[Receipt]
    sent: bool = False  # on this connection
    shown: Chat | None = None  # what came in a replay and is taken for this very message


class Outbox:
    """The unacknowledged messages of a client, in the order in which they were said.

    *first_id* is the id of the first one; *max_waiting* is how many there may be at a time.
    """

    def __init__(self, first_id: int, max_waiting: int) -> None:
        self._next_id = first_id
        self._max_waiting = max_waiting
        self._waiting: dict[int, Said] = {}

    def __iter__(self) -> Iterator[Said]:
        """Those that wait now; sending or failing them meanwhile does no harm."""
        return iter(list(self._waiting.values()))

    def add(self, make: Callable[[int], Say | Tell], send: Callable[[Said], None]) -> Deferred[Receipt]:
        """Keep the message that *make* makes of its id, and let *send* send it if it can."""
        message = make(self._next_id)
        frame = encode_frame(message)
        if len(self._waiting) >= self._max_waiting:
            return fail(TooManyWaiting(f"{len(self._waiting)} messages are not acknowledged"))
        self._next_id = self._next_id % MAX_U64 + 1
        room = message.room if isinstance(message, Say) else None
        said = self._waiting[message.id] = Said(message, frame, room, Deferred())
        send(said)
        return said.receipt

    def take(self, message_id: int) -> Said | None:
        """What has that id, which waits no more."""
        return self._waiting.pop(message_id, None)

    def acknowledge(self, said: Said, ack: Ack) -> None:
        """Keep the promise that was made for *said*."""
        said.receipt.callback(Receipt(ack.seq, ack.time))

    def fail(self, error: Exception, which: Callable[[Said], bool]) -> None:
        """Give up those of which *which* is true."""
        for said in self:
            if which(said):
                del self._waiting[said.message.id]
                said.receipt.errback(error)

    def unsend(self) -> None:
        """Nothing of it was sent on the connection that comes now."""
        for said in self._waiting.values():
            said.sent = False

    def ids(self, room: str) -> list[int]:
        """The ids of what was said in *room*, the oldest first."""
        return [said.message.id for said in self._waiting.values() if said.room == room]

    def claim(self, chat: Chat) -> bool:
        """Whether *chat*, which has one's own name, is by all appearance one of these and lacks its `ack`."""
        for said in self._waiting.values():
            if said.shown is None and said.room == chat.room and said.message.text == chat.text:
                said.shown = chat
                return True
        return False

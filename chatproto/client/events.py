"""What happens in a chat, told to whoever overrides the methods of `ChatEvents`."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from chatproto.client.outcomes import Refused
from chatproto.wire.messages import Chat, Joined, Lagged, Left, Notice, Renamed, Roster, Told, Welcome

__all__ = ["ChatEvents", "tell_event"]

_log = Logger()


class ChatEvents:
    """Override what you want to hear of. Each method does nothing here.

    An exception out of a method is logged and goes no further. All text in the messages is as others wrote
    it: make it harmless before it reaches a terminal.
    """

    def chat(self, message: Chat) -> None:
        """Someone else spoke, or said something before one came.

        The messages of a room come in ascending order, each once, however often the connection is lost.
        What this client said itself does not come here: its `Receipt` has the sequence number.
        """

    def joined(self, message: Joined) -> None:
        """Someone entered a room one is in."""

    def left(self, message: Left) -> None:
        """Someone left. With one's own nickname: one was put out, and does not go back by oneself."""

    def renamed(self, message: Renamed) -> None:
        """Someone has another nickname now; it may be oneself."""

    def roster(self, message: Roster) -> None:
        """Who is in a room now.

        Comes unasked where one is back in a room, and where too much goes on to tell of each who comes.
        """

    def told(self, message: Told) -> None:
        """Someone said something to oneself alone."""

    def notice(self, message: Notice) -> None:
        """The server has a line for people to read."""

    def lagged(self, message: Lagged) -> None:
        """This client was too slow; these messages come a little later, in order."""

    def missing(self, room: str, first: int, last: int) -> None:
        """The messages *first* to *last* are lost for good.

        With 0 and 0 the sequence numbers of the room started anew, and nobody knows what was missed.
        """

    def connected(self, message: Welcome) -> None:
        """A session is open, for the first time or again."""

    def disconnected(self, reason: str) -> None:
        """The connection was lost, and not by `stop`. *reason* is a phrase, in part the server's."""

    def reconnecting(self, delay_s: float) -> None:
        """There is no connection, and the next attempt is made in *delay_s* seconds."""

    def refused(self, room: str, refusal: Refused) -> None:
        """The server does not let one back into *room*; with an empty *room*, it refused something else.

        What was asked for by a method of the client fails there, not here.
        """

    def gave_up(self, refusal: Refused) -> None:
        """The server does not take this client back, and the client has stopped."""


def tell_event(event: Callable[..., None], *what: object) -> None:
    """Call a method of the events. What it raises is logged: a fault of theirs is none of the connection."""
    try:
        event(*what)
    except Exception:
        _log.failure("{event} failed", event=event)

"""The asynchronous client."""

from __future__ import annotations

import random
import time
from typing import cast

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime, IStreamClientEndpoint
from zope.interface import implementer

from chatproto.client.address import endpoint_at, parse_address
from chatproto.client.connection import Connection, RetryPolicy
from chatproto.client.conversation import Conversation
from chatproto.client.events import ChatEvents
from chatproto.client.outcomes import Entered, Receipt
from chatproto.wire.messages import MAX_U64, Chat, Roster

__all__ = ["ChatClient"]


@implementer(IPushProducer)
class ChatClient:
    """Someone in the chat, who comes back by themselves when the connection is lost.

    *server* is `HOST`, `HOST:PORT` or a URL, `ws://HOST/chat` or `wss://HOST/chat`; or an endpoint, over
    whose stream frames are spoken.

    After each loss the client goes back to its rooms and gets what it missed: no message comes twice, and
    none is lost unnoticed (docs/protocol.md, section 3). What was said and not acknowledged is said again
    under the same id, so that nobody gets it twice.

    What comes by itself is told to *events*; each request returns a Deferred. Those fail with `Refused` for
    an `error` of the server, with `Disconnected` where the connection went before the answer came or the
    client was stopped, and with `TooManyWaiting` where *max_waiting* of their kind wait already. What does
    not fit into a frame, or has half a surrogate pair, raises ValueError at once. An empty room is the
    server's default room.

    *retry_policy* says how long to wait between attempts, as for `ClientService`; a server's `goodbye` can
    make it longer. Each *ping_interval_s* seconds the server is asked for a sign of life, and given up when
    none has come for two of them. *leave_timeout_s* is what it has to close the connection on `stop`.
    *max_refusals* is how often in a row it may refuse to take the client back because the lost session still
    holds the nickname. *max_frame_bytes* bounds what it may send at once; the default is the most that the
    protocol allows, since only the server knows its own. *clock* is the reactor unless another is given.

    A transport that takes what the events tell may use the client as its `IPushProducer`: while it is paused
    nothing is read.
    """

    def __init__(
        self,
        server: IStreamClientEndpoint | str,
        nick: str,
        events: ChatEvents | None = None,
        *,
        clock: IReactorTime | None = None,
        retry_policy: RetryPolicy | None = None,
        ping_interval_s: float = 30.0,
        leave_timeout_s: float = 5.0,
        max_waiting: int = 1_000,
        max_refusals: int = 10,
        max_frame_bytes: int = 2**24 - 1,
    ) -> None:
        if clock is None:
            from twisted.internet import reactor

            clock = cast(IReactorTime, reactor)
        endpoint = endpoint_at(clock, parse_address(server)) if isinstance(server, str) else server
        told = ChatEvents() if events is None else events
        self._clock = clock
        self._connection = Connection(
            endpoint,
            lambda carrier: Conversation(
                nick, told, carrier, first_id=_first_id(), max_waiting=max_waiting, max_refusals=max_refusals
            ),
            told,
            clock,
            retry_policy=backoffPolicy() if retry_policy is None else retry_policy,
            ping_interval_s=ping_interval_s,
            leave_timeout_s=leave_timeout_s,
            max_frame_bytes=max_frame_bytes,
        )
        self._conversation = self._connection.conversation

    # --- a service ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect, and from now on do so again whenever the connection is lost."""
        self._connection.start()

    def when_connected(self, max_attempts: int | None = None) -> Deferred[None]:
        """Fires when there is a connection, be it now or later.

        Fails with what the endpoint failed with after *max_attempts* attempts in a row (None: never), which
        is `CannotConnect` where a URL names a server without a chat, and with `CancelledError` when the
        client is stopped first. The client goes on trying until `stop`.
        """
        return self._connection.when_connected(max_attempts)

    def stop(self) -> Deferred[None]:
        """Leave politely, and fire when the connection is closed. Never fails.

        What waits for an answer fails with `Disconnected`: to have everything said, wait for the receipts
        first. After that `start` begins anew, without any room.
        """
        return self._connection.stop()

    # --- requests -------------------------------------------------------------------------------------------

    @property
    def nick(self) -> str:
        """One's nickname: as it was asked for, then as the server spells it."""
        return self._conversation.nick

    @property
    def rooms(self) -> tuple[str, ...]:
        """The rooms that one is in, or will be as soon as there is a connection, as they were joined.

        The default room is the empty string until the server has named it.
        """
        return self._conversation.rooms

    @property
    def open(self) -> bool:
        """Whether there is a session at the moment."""
        return self._conversation.open

    def join(self, room: str = "", limit: int = 0) -> Deferred[Entered]:
        """Enter *room* (1 to 64 characters), and after each lost connection again.

        The newest *limit* messages (0 to 65,535) go to `ChatEvents.chat` before this fires. Waits for a
        connection. Fails with `Refused`: nick-taken, bad-nick, bad-room, login-required, not-allowed,
        too-many-rooms; then the room is not tried again.
        """
        return self._conversation.join(room, limit)

    def leave(self, room: str = "") -> Deferred[None]:
        """Leave *room*. Fails with `Refused` (not-in-room) if it was never joined."""
        return self._conversation.leave(room)

    def say(self, room: str, text: str) -> Deferred[Receipt]:
        """Say *text* (1 to 4,096 bytes) in a room that is joined, or will be.

        Fires when the server has kept it, be it on a later connection. Fails with `Refused`: not-in-room,
        bad-text, not-allowed, not-stored, rate-limited.
        """
        return self._conversation.say(room, text)

    def tell(self, nick: str, text: str) -> Deferred[Receipt]:
        """Say *text* (1 to 4,096 bytes) to one person.

        Waits for a session, which needs a room. Fails with `Refused`: no-such-nick, bad-text, not-stored,
        rate-limited.
        """
        return self._conversation.tell(nick, text)

    def who(self, room: str = "") -> Deferred[Roster]:
        """Who is in *room*. Waits for a session. Fails with `Refused`: not-in-room."""
        return self._conversation.who(room)

    def history(self, room: str = "", before: int = 0, limit: int = 50) -> Deferred[list[Chat]]:
        """The newest *limit* messages of *room* older than the sequence number *before*, in ascending order.

        0: the newest of those that came already. Waits for a session. Fails with `Refused`: not-in-room.
        """
        return self._conversation.history(room, before, limit)

    def search(self, room: str, query: str, limit: int = 50) -> Deferred[list[Chat]]:
        """The newest *limit* messages of *room* that match *query*, in ascending order.

        Waits for a session. Fails with `Refused`: not-in-room, not-supported.
        """
        return self._conversation.search(room, query, limit)

    def rename(self, nick: str) -> Deferred[str]:
        """Take another nickname, 1 to 32 characters; fires with it as the server spells it.

        Before anything was joined this only sets the nickname to join with. Fails with `Refused`: nick-taken,
        bad-nick, rate-limited.
        """
        return self._conversation.rename(nick)

    def login(self, user: str, secret: str) -> Deferred[str]:
        """Log in on this connection or the next, and again on each one after it.

        MUST come before the first `join`. Fires with the server's line for people, which may be empty; waits
        for a connection. Fails with `Refused`: login-failed, not-supported.
        """
        return self._conversation.login(user, secret)

    def moderate(
        self, action: int, room: str, nick: str, seconds: int = 0, reason: str = ""
    ) -> Deferred[str]:
        """1 kick, 2 ban, 3 unban, 4 mute, 5 unmute *nick* in *room*, for *seconds* (0: without end).

        Fires with the server's line for people, which may be empty. Waits for a session. Fails with
        `Refused`: not-allowed, no-such-nick, not-supported.
        """
        return self._conversation.moderate(action, room, nick, seconds, reason)

    def ping(self) -> Deferred[float]:
        """The seconds until the server has answered, after the requests that were made before.

        Does not wait for a connection: fails with `Disconnected`.
        """
        asked_s = self._clock.seconds()
        return self._conversation.ping().addCallback(lambda nothing: self._clock.seconds() - asked_s)

    # --- IPushProducer --------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """Read nothing until `resumeProducing`. To the server one is a slow reader meanwhile (section 5)."""
        self._connection.pause()

    def resumeProducing(self) -> None:
        """Read again."""
        self._connection.resume()

    def stopProducing(self) -> None:
        """Nobody takes anything any more: stop."""
        self.resumeProducing()
        self.stop()


def _first_id() -> int:
    """Larger than the ids of an earlier process, unless that said 4,000 things in each ms of its life."""
    return (int(time.time() * 1_000) << 12 | random.getrandbits(11)) % MAX_U64 + 1

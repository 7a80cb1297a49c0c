"""The asynchronous client: a conversation, a connection for it, and the next one when that is lost."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, cast

from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet import error
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from chatproto.client.conversation import Conversation
from chatproto.client.events import ChatEvents, tell_event
from chatproto.client.outcomes import Disconnected, Entered, Receipt, Refused
from chatproto.wire.chat import FrameDecoder
from chatproto.wire.messages import MAX_U64, Chat, Roster, Side

__all__ = ["ChatClient"]

RetryPolicy = Callable[[int], float]
"""The seconds to wait before attempt n + 1, of n (from 1) that failed in a row."""

STOPPED = "the client was stopped"


@implementer(IPushProducer)
class ChatClient:
    """Someone in the chat, over any stream, who comes back by themselves when the connection is lost.

    After each loss the client goes back to its rooms and gets what it missed: no message comes twice, and
    none is lost unnoticed (docs/protocol.md, section 3). What was said and not acknowledged is said again under
    the same id, so that nobody gets it twice.

    What comes by itself is told to *events*; each request returns a Deferred. Those fail with `Refused` for an
    `error` of the server, with `Disconnected` where the connection went before the answer came or the client
    was stopped, and with `TooManyWaiting` where *max_waiting* of their kind wait already. An empty room is
    `lobby`. ValueError is raised at once for what does not fit into a frame, and for half a surrogate pair.

    *retry_policy* says how long to wait between attempts, as for `ClientService`; a server's `goodbye` can make
    it longer. Each *ping_interval_s* seconds the server is asked for a sign of life, and given up when none has
    come for two of them. *leave_timeout_s* is what the server has to close the connection on `stop`.
    *max_refusals* is how often in a row it may refuse to take the client back because the nickname is still held
    by the lost session. *max_frame_bytes* bounds what the server may send at once; the protocol's bound is the
    default, because only the server knows what it was set to. *clock* is the reactor unless another is given.

    As an `IPushProducer` it can be told to read nothing for a while, by a transport that takes what it tells.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
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
        self._clock = clock
        self._events = ChatEvents() if events is None else events
        self._retry_policy = retry_policy or backoffPolicy()
        self._ping_interval_s = ping_interval_s
        self._leave_timeout_s = leave_timeout_s
        self._max_frame_bytes = max_frame_bytes
        self._conversation = Conversation(
            nick, self._events, self, first_id=_first_id(), max_waiting=max_waiting, max_refusals=max_refusals
        )
        self._service = ClientService(endpoint, _LinkFactory(self), self._retry_delay_s, clock)
        self._link: _Link | None = None
        self._reason = ""  # why the connection is about to end, as far as one knows
        self._failures = 0  # since a session was open
        self._not_before_s = 0.0  # by the clock
        self._postponed: IDelayedCall | None = None
        self._stopping: list[Deferred[None]] | None = None
        self._reading = True

    # --- a service ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect, and from now on do so again whenever the connection is lost."""
        self._service.startService()

    def when_connected(self, max_attempts: int | None = None) -> Deferred[None]:
        """Fires when there is a connection, which may be now.

        Fails with what the endpoint failed with after *max_attempts* attempts in a row (None: never), and with
        `CancelledError` when the client is stopped first. The client goes on trying until `stop`.
        """
        connected: Deferred[Any] = self._service.whenConnected(failAfterFailures=max_attempts)
        return connected.addCallback(lambda link: None)

    def stop(self) -> Deferred[None]:
        """Leave politely, and fire when the connection is closed. Never fails.

        What waits for an answer fails with `Disconnected`: to have everything said, wait for the receipts
        first. After that `start` begins anew, without any room.
        """
        stopped: Deferred[None] = Deferred()
        if self._stopping is not None:
            self._stopping.append(stopped)
            return stopped
        self._stopping = [stopped]
        if self._link is not None:
            self._link.leave(self._leave_timeout_s)
        else:
            self._finish_stopping()
        return stopped

    def _finish_stopping(self) -> None:
        self._cancel_postponed()
        self._service.stopService().addCallback(self._stopped)

    def _stopped(self, nothing: object) -> None:
        waiting, self._stopping = self._stopping or [], None
        self._failures = 0
        self._conversation.end(Disconnected(STOPPED))
        for stopped in waiting:
            stopped.callback(None)

    # --- requests -------------------------------------------------------------------------------------------

    @property
    def nick(self) -> str:
        """One's nickname: as it was asked for, then as the server spells it."""
        return self._conversation.nick

    @property
    def rooms(self) -> tuple[str, ...]:
        """The rooms that one is in, or will be as soon as there is a connection, as they were joined."""
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
        """Say *text* to one person. Needs a session, waits for one, and fails, as `say` does; no-such-nick."""
        return self._conversation.tell(nick, text)

    def who(self, room: str = "") -> Deferred[Roster]:
        """Who is in *room*. Waits for a session. Fails with `Refused`: not-in-room."""
        return self._conversation.who(room)

    def history(self, room: str = "", before: int = 0, limit: int = 50) -> Deferred[list[Chat]]:
        """The newest *limit* messages of *room* older than the sequence number *before*, in ascending order.

        0 is the newest of those that came already. Waits for a session. Fails with `Refused`: not-in-room.
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
        """Log in on this connection and, kept in memory until then, on each one after it.

        MUST come before the first `join`. Fires with the server's line for people, which may be empty; waits
        for a connection. Fails with `Refused`: login-failed, not-supported.
        """
        return self._conversation.login(user, secret)

    def moderate(
        self, action: int, room: str, nick: str, seconds: int = 0, reason: str = ""
    ) -> Deferred[str]:
        """1 kick, 2 ban, 3 unban, 4 mute, 5 unmute *nick* in *room*, for *seconds* (0: without end).

        Fires with the server's line for people, which may be empty. Waits for a session. Fails with `Refused`:
        not-allowed, no-such-nick, not-in-room.
        """
        return self._conversation.moderate(action, room, nick, seconds, reason)

    def ping(self) -> Deferred[float]:
        """The seconds until the server had answered, behind all that was asked before.

        Does not wait for a connection: fails with `Disconnected`.
        """
        asked_s = self._clock.seconds()
        return self._conversation.ping().addCallback(lambda nothing: self._clock.seconds() - asked_s)

    # --- IPushProducer --------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """Read nothing until `resumeProducing`. The server takes the client for a slow reader meanwhile."""
        self._reading = False
        if self._link is not None:
            self._link.pause()

    def resumeProducing(self) -> None:
        """Read again."""
        self._reading = True
        if self._link is not None:
            self._link.resume()

    def stopProducing(self) -> None:
        """Nobody takes anything any more: stop."""
        self.resumeProducing()  # or the server's closing would not be seen
        self.stop()

    # --- what the link tells --------------------------------------------------------------------------------

    def link_made(self, link: _Link) -> None:
        """There is a connection."""
        self._link = link
        self._reason = ""
        if not self._reading:
            link.pause()
        if self._stopping is None:
            self._conversation.connected()

    def link_lost(self, failure: Failure) -> None:
        """There is none any more."""
        self._link = None
        self._cancel_postponed()
        reason = self._reason or _reason(failure)
        self._conversation.disconnected(reason)
        tell_event(self._events.disconnected, reason)
        if self._stopping is not None:
            # Not from in here: the service is told of the loss only when this has returned.
            self._clock.callLater(0, self._finish_stopping)

    def _retry_delay_s(self, attempt: int) -> float:
        # The service counts connections that failed; one that opens no session has failed too.
        self._failures += 1
        delay_s = max(self._retry_policy(self._failures), self._not_before_s - self._clock.seconds())
        if self._stopping is None:
            tell_event(self._events.reconnecting, delay_s)
        return delay_s

    # --- Carrier --------------------------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """For the conversation."""
        if self._link is not None:
            self._link.write(frame)

    def opened(self) -> None:
        """For the conversation."""
        self._failures = 0

    def put_off(self, attempt: int) -> None:
        """For the conversation."""
        self._cancel_postponed()
        self._postponed = self._clock.callLater(self._retry_policy(attempt), self._conversation.resume)

    def gave_up(self, refusal: Refused) -> None:
        """For the conversation."""
        self._reason = str(refusal)
        self.stop().addCallback(lambda nothing: tell_event(self._events.gave_up, refusal))

    def closing(self, reason: str, retry_s: float) -> None:
        """For the conversation, and for the link."""
        self._reason = self._reason or reason
        self._not_before_s = max(self._not_before_s, self._clock.seconds() + retry_s)

    def _cancel_postponed(self) -> None:
        if self._postponed is not None and self._postponed.active():
            self._postponed.cancel()


class _Link(Protocol):
    """One connection: bytes to messages, a sign of life now and then, and a bounded end."""

    def __init__(self, client: ChatClient, conversation: Conversation, clock: IReactorTime) -> None:
        self._client = client
        self._conversation = conversation
        self._clock = clock
        self._decoder = FrameDecoder(Side.CLIENT, client._max_frame_bytes)
        self._interval_s = client._ping_interval_s
        self._heard_s = 0.0
        self._reading = True
        self._leaving: IDelayedCall | None = None
        self._watch = LoopingCall(self._look)
        self._watch.clock = clock

    def connectionMade(self) -> None:
        """Begin."""
        transport = ITCPTransport(self.transport, None)
        if transport is not None:
            transport.setTcpNoDelay(True)  # what a person says is small, and waited for
        self._heard_s = self._clock.seconds()
        self._watch.start(self._interval_s, now=False)
        self._client.link_made(self)

    def dataReceived(self, data: bytes) -> None:
        """Take frames in, in any cut."""
        self._heard_s = self._clock.seconds()
        if self._decoder.fault is not None:
            return
        for message in self._decoder.receive(data):
            self._conversation.received(message)
        if self._decoder.fault is not None:
            self._abort(f"the server does not speak the protocol: {self._decoder.fault.reason}")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end."""
        if self._watch.running:
            self._watch.stop()
        if self._leaving is not None and self._leaving.active():
            self._leaving.cancel()
        self._client.link_lost(reason)

    def write(self, frame: bytes) -> None:
        """Send *frame*."""
        if self.transport is not None:
            self.transport.write(frame)

    def leave(self, timeout_s: float) -> None:
        """Ask the server to close the connection, and do it oneself if it does not within *timeout_s*."""
        self.resume()
        self._conversation.say_goodbye()
        self._leaving = self._clock.callLater(
            timeout_s, self._abort, "the server did not close the connection"
        )

    def pause(self) -> None:
        """Read nothing more for now."""
        if self._reading and self._leaving is None:
            self._reading = False
            cast(Any, self.transport).pauseProducing()

    def resume(self) -> None:
        """Read again."""
        if not self._reading:
            self._reading = True
            self._heard_s = self._clock.seconds()
            cast(Any, self.transport).resumeProducing()

    def _look(self) -> None:
        silent_s = self._clock.seconds() - self._heard_s
        if self._reading and silent_s >= 2 * self._interval_s:
            self._abort(f"the server was silent for {silent_s:.0f} s")
        else:
            self._conversation.send_sign_of_life()

    def _abort(self, reason: str) -> None:
        self._client.closing(reason, 0.0)
        if self.transport is not None:
            cast(Any, self.transport).abortConnection()


class _LinkFactory(Factory):
    noisy = False

    def __init__(self, client: ChatClient) -> None:
        self._client = client

    def buildProtocol(self, addr: IAddress | None) -> _Link:
        client = self._client
        return _Link(client, client._conversation, client._clock)


def _first_id() -> int:
    """Larger than any that an earlier process used, unless that said more than 4 in each ms of its life."""
    return (int(time.time() * 1_000) << 12 | random.getrandbits(11)) % MAX_U64 + 1


def _reason(failure: Failure) -> str:
    if isinstance(failure.value, error.ConnectionDone):
        return "the server closed the connection"
    return str(failure.value).rstrip(".")

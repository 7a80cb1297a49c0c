"""The connection of a conversation, made again whenever it is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
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
from chatproto.client.outcomes import CannotConnect, Disconnected, Refused
from chatproto.wire.chat import FrameDecoder
from chatproto.wire.messages import Side

__all__ = ["Connection", "RetryPolicy"]

RetryPolicy = Callable[[int], float]
"""The seconds to wait after n attempts, from 1, that failed in a row."""

LEAST_RETRY_S = 0.25
"""Sooner nobody comes back, whenever the server says."""


class Connection:
    """Carries a conversation over one connection after the other; see `ChatClient` for what is set here.

    *converse* makes the conversation of its carrier, which is this.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        converse: Callable[[Connection], Conversation],
        events: ChatEvents,
        clock: IReactorTime,
        *,
        retry_policy: RetryPolicy,
        ping_interval_s: float,
        leave_timeout_s: float,
        max_frame_bytes: int,
    ) -> None:
        self.conversation = converse(self)
        self.clock = clock
        self.ping_interval_s = ping_interval_s
        self.leave_timeout_s = leave_timeout_s
        self.max_frame_bytes = max_frame_bytes
        self.reading = True
        self._events = events
        self._retry_policy = retry_policy
        self._service = ClientService(
            _Attempts(endpoint, self._not_connected), _LinkFactory(self), self._retry_delay_s, clock
        )
        self._link: _Link | None = None
        self._reason = ""  # why the link is about to end, as far as one knows
        self._failures = 0  # since a session was open
        self._not_before_s = 0.0  # by the clock
        self._postponed: IDelayedCall | None = None
        self._stopping: list[Deferred[None]] | None = None
        self._verdict: Exception | None = None

    # --- what the client asks for ---------------------------------------------------------------------------

    def start(self) -> None:
        """As `ChatClient.start`."""
        self._service.startService()

    def when_connected(self, max_attempts: int | None) -> Deferred[None]:
        """As `ChatClient.when_connected`."""
        connected: Deferred[Any] = self._service.whenConnected(failAfterFailures=max_attempts)
        return connected.addCallback(lambda link: None)

    def stop(self) -> Deferred[None]:
        """As `ChatClient.stop`."""
        stopped: Deferred[None] = Deferred()
        if self._stopping is not None:
            self._stopping.append(stopped)
            return stopped
        self._stopping = [stopped]
        if self._link is not None:
            self._link.leave()
        else:
            self._stop_service_soon()
        return stopped

    def pause(self) -> None:
        """Read nothing, on this connection or the next, until `resume`."""
        self.reading = False
        if self._link is not None:
            self._link.pause()

    def resume(self) -> None:
        """Read again."""
        self.reading = True
        if self._link is not None:
            self._link.resume()

    # --- what the link tells --------------------------------------------------------------------------------

    def made(self, link: _Link) -> None:
        """There is a connection."""
        self._link = link
        self._reason = ""
        self.conversation.connected()

    def lost(self, failure: Failure) -> None:
        """There is none any more."""
        self._link = None
        self._cancel_postponed()
        reason = self._reason or _reason(failure)
        self.conversation.disconnected(reason)
        if self._stopping is None:
            tell_event(self._events.disconnected, reason)
        else:
            self._stop_service_soon()

    # --- what the conversation tells (Carrier) --------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """Send *frame*, if there is a connection."""
        if self._link is not None:
            self._link.write(frame)

    def opened(self) -> None:
        """The next attempt is the first again."""
        self._failures = 0

    def put_off(self, attempt: int) -> None:
        """Let the conversation ask again later."""
        self._cancel_postponed()
        self._postponed = self.clock.callLater(self._retry_policy(attempt), self.conversation.resume)

    def gave_up(self, refusal: Refused) -> None:
        """Stop, for good."""
        self._verdict = refusal
        self.closing(str(refusal), 0.0)
        self.stop().addCallback(lambda nothing: tell_event(self._events.gave_up, refusal))

    def closing(self, reason: str, retry_s: float) -> None:
        """Remember why the connection is going to end, and that no other is wanted for *retry_s* seconds."""
        self._reason = self._reason or reason
        self._wait(retry_s)

    # --- between connections --------------------------------------------------------------------------------

    def _retry_delay_s(self, attempt: int) -> float:
        # The service counts attempts that made no connection. One that opened no session has failed too.
        self._failures += 1
        told_s = self._not_before_s - self.clock.seconds()
        # A server that goes gives everybody another time: to wait a little longer would bring many together.
        is_told = told_s > 0 and self._failures == 1
        policy_s = self._retry_policy(self._failures)
        # Not at once, whatever it says: one that lets people in and sends them away would be asked for ever.
        delay_s = max(told_s, min(policy_s, LEAST_RETRY_S)) if is_told else max(policy_s, told_s)
        if self._stopping is None:
            tell_event(self._events.reconnecting, delay_s)
        return delay_s

    def _not_connected(self, failure: Failure) -> Failure:
        if isinstance(failure.value, CannotConnect):
            self._wait(failure.value.retry_s)
        return failure

    def _wait(self, retry_s: float) -> None:
        self._not_before_s = max(self._not_before_s, self.clock.seconds() + retry_s)

    def _stop_service_soon(self) -> None:
        # Not at once: this may be called from within the service, which cannot be stopped from there.
        self._cancel_postponed()
        self.clock.callLater(0, self._stop_service)

    def _stop_service(self) -> None:
        self._service.stopService().addCallback(self._stopped)

    def _stopped(self, nothing: None) -> None:
        waiting, self._stopping = self._stopping or [], None
        verdict, self._verdict = self._verdict, None
        self._failures = 0
        self.conversation.end(verdict or Disconnected("the client was stopped"))
        for stopped in waiting:
            stopped.callback(None)

    def _cancel_postponed(self) -> None:
        if self._postponed is not None and self._postponed.active():
            self._postponed.cancel()


class _Link(Protocol):
    """One connection: bytes to messages, a sign of life now and then, and an end that comes in time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._clock = connection.clock
        self._decoder = FrameDecoder(Side.CLIENT, connection.max_frame_bytes)
        self._heard_s = 0.0
        self._reading = True
        self._leaving: IDelayedCall | None = None
        self._watch = LoopingCall(self._look)
        self._watch.clock = connection.clock

    def connectionMade(self) -> None:
        """Begin."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)  # it is little, and people wait for it
        self._heard_s = self._clock.seconds()
        self._watch.start(self._connection.ping_interval_s, now=False)
        if not self._connection.reading:
            self.pause()
        self._connection.made(self)

    def dataReceived(self, data: bytes) -> None:
        """Take frames in, in any cut."""
        self._heard_s = self._clock.seconds()
        if self._decoder.fault is not None:
            return
        for message in self._decoder.receive(data):
            self._connection.conversation.received(message)
        if self._decoder.fault is not None:
            self._abort(f"the server does not speak the protocol: {self._decoder.fault.reason}")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End."""
        if self._watch.running:
            self._watch.stop()
        if self._leaving is not None and self._leaving.active():
            self._leaving.cancel()
        self._connection.lost(reason)

    def write(self, frame: bytes) -> None:
        """Send *frame*."""
        if self.transport is not None:
            self.transport.write(frame)

    def leave(self) -> None:
        """Ask the server to close the connection, and do it oneself where it does not."""
        self.resume()
        self._connection.conversation.say_goodbye()
        self._leaving = self._clock.callLater(
            self._connection.leave_timeout_s, self._abort, "the server did not close the connection"
        )

    def pause(self) -> None:
        """Read nothing more for now, but for the end of a connection that is being left."""
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
        """Ask for a sign of life, unless there has been none for too long."""
        silent_s = self._clock.seconds() - self._heard_s
        if self._reading and silent_s >= 2 * self._connection.ping_interval_s:
            self._abort(f"the server was silent for {silent_s:.0f} s")
        else:
            self._connection.conversation.send_ping()

    def _abort(self, reason: str) -> None:
        self._connection.closing(reason, 0.0)
        cast(Any, self.transport).abortConnection()


@implementer(IStreamClientEndpoint)
class _Attempts:
    """*endpoint*, whose failures *failed* is told as well."""

    def __init__(self, endpoint: IStreamClientEndpoint, failed: Callable[[Failure], Failure]) -> None:
        self._endpoint = endpoint
        self._failed = failed

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """As `IStreamClientEndpoint.connect`."""
        return self._endpoint.connect(protocolFactory).addErrback(self._failed)


class _LinkFactory(Factory):
    noisy = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def buildProtocol(self, addr: IAddress | None) -> _Link:
        return _Link(self._connection)


def _reason(failure: Failure) -> str:
    """How a connection ended, as a phrase."""
    if isinstance(failure.value, ConnectionDone):
        return "the server closed the connection"
    return str(failure.value).rstrip(".")

"""What a client has asked the server, anything but `say` and `tell`, and which message answers what."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, fail

from chatproto.client.membership import Membership
from chatproto.client.outcomes import Disconnected, TooManyWaiting
from chatproto.wire.chat import encode_frame
from chatproto.wire.messages import Chat, Leave, Message, Ping

__all__ = ["Request", "Requests"]


@dataclass(slots=True, eq=False)
class Request:
    """One request. The server answers them in the order in which they were made."""

    message: Message
    answer: Deferred[Any] = field(default_factory=Deferred)
    fenced: bool = False
    """It may go unanswered. A ping goes behind it, whose pong tells that nothing comes any more."""
    token: int = 0
    """Of that ping."""
    room: Membership | None = None
    """Of a join, whose answer is no single message and goes to the room."""
    chats: dict[int, Chat] = field(default_factory=dict)
    """The part of the answer that has come, by sequence number."""


class Requests:
    """The requests of a client in their order: those on their way, and those held until a session is open.

    *send* takes frames; *max_waiting* bounds the requests, and apart from them the pings.
    """

    def __init__(self, send: Callable[[bytes], None], max_waiting: int) -> None:
        self._send = send
        self._max_waiting = max_waiting
        self._held: deque[Request] = deque()
        self._sent: deque[Request] = deque()
        self._pings: dict[int, Deferred[None]] = {}
        self._next_token = 1

    def ask(self, request: Request, *, hold: bool) -> Deferred[Any]:
        """Send *request*, or *hold* it until `release`. Raises what `encode_frame` raises."""
        encode_frame(request.message)
        waiting = len(self._sent) + len(self._held)
        if waiting >= self._max_waiting:
            return fail(TooManyWaiting(f"{waiting} requests are unanswered"))
        if hold:
            self._held.append(request)
        else:
            self.send(request)
        return request.answer

    def send(self, request: Request) -> None:
        """Send *request*, however many wait."""
        self._sent.append(request)
        self._send(encode_frame(request.message))
        if request.fenced:
            request.token = self.send_ping()

    def release(self) -> None:
        """A session is open: send what was held."""
        while self._held:
            self.send(self._held.popleft())

    def ping(self) -> Deferred[None]:
        """Fires when the server has answered; see `ChatClient.ping`."""
        if len(self._pings) >= self._max_waiting:
            return fail(TooManyWaiting(f"{len(self._pings)} pings are unanswered"))
        answer: Deferred[None] = Deferred()
        self._pings[self.send_ping()] = answer
        return answer

    def send_ping(self) -> int:
        """Send a ping of which nobody waits for the answer; its token."""
        token = self._next_token
        self._next_token += 1
        self._send(encode_frame(Ping(token)))
        return token

    def asked(self, *types: type[Message]) -> Request | None:
        """The request that is being answered, if it is one of *types*."""
        if self._sent and isinstance(self._sent[0].message, types):
            return self._sent[0]
        return None

    def awaits(self, kind: type[Message]) -> bool:
        """Whether any request of that type is on its way."""
        return any(isinstance(request.message, kind) for request in self._sent)

    def take(self) -> Request | None:
        """The request that is being answered, which waits no more."""
        return self._sent.popleft() if self._sent else None

    def pong(self, token: int) -> Request | None:
        """Take a pong; the request that goes unanswered, if this is how one learns of it."""
        ping = self._pings.pop(token, None)
        if ping is not None:
            ping.callback(None)
        elif self._sent and self._sent[0].token == token:
            return self._sent.popleft()
        return None

    def disconnected(self, reason: str) -> None:
        """Nothing that is on its way will be answered; what is held stays."""
        sent, pings = list(self._sent), list(self._pings.values())
        self._sent.clear()
        self._pings.clear()
        for request in sent:
            if isinstance(request.message, Leave):
                request.answer.callback(None)  # that room is left, one way or the other
            elif request.room is None:
                request.answer.errback(Disconnected(reason))
        for ping in pings:
            ping.errback(Disconnected(reason))

    def end(self, error: Exception) -> None:
        """What is held fails."""
        held = list(self._held)
        self._held.clear()
        for request in held:
            request.answer.errback(error)

"""Whether there will be a WebSocket: what a server asks of a request, and of its application."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatproto.net.websocket.connections import Connections
from chatproto.net.websocket.interfaces import Accepted, Refused, ServerFactory
from chatproto.net.websocket.transport import WebSocketTransport
from chatproto.wire.deflate import Deflate
from chatproto.wire.handshake import Answer, Request, check_request, make_answer, origin_allowed
from chatproto.wire.http import Head, Refusal

__all__ = ["Acceptor", "Agreement"]

_log = Logger(namespace="chatproto.net.websocket")


@dataclass(frozen=True, slots=True)
class Agreement:
    """What an application and a client have agreed on, and the answer that says so."""

    request: Request
    accepted: Accepted
    answer: Answer
    data: bytes

    def open(self, transport: WebSocketTransport, rest: bytes) -> None:
        """Let the WebSocket begin on *transport*; *rest* came behind the request."""
        transport.queue.write(self.data)
        transport.open(self.answer.subprotocol, self.answer.deflate, self.accepted.content, rest)


class Acceptor:
    """Asks *factory* what to do with each request that may be asked.

    *origins* are those that may open a WebSocket beside the server's own pages; *deflate* is what the server
    wants of permessage-deflate, None for nothing.
    """

    def __init__(
        self,
        factory: ServerFactory,
        connections: Connections,
        origins: Collection[str],
        deflate: Deflate | None,
    ) -> None:
        if isinstance(origins, str):
            raise TypeError("origins is a collection of them, not a str")
        self.connections = connections
        self._factory = factory
        self._origins = tuple(origins)
        self._deflate = deflate

    def check(self, head: Head, peer: object, is_secure: bool, more: int) -> Request | Refusal:
        """The request that *head* is, or why it is refused whatever the application thinks.

        *more* is how many connections there will be that are not counted yet.
        """
        request = check_request(head, peer, is_secure)
        if isinstance(request, Refusal):
            return request
        if not origin_allowed(request, self._origins):
            return Refusal(403, "Pages from there may not open a WebSocket here.\n")
        if not self.connections.has_room(more):
            return Refusal(503, "There are too many connections. Try again later.\n")
        return request

    def decide(self, request: Request) -> Deferred[Agreement | Refusal]:
        """What the application says to *request*. Never fails, but when it is cancelled."""
        deciding: Deferred[Any] = maybeDeferred(self._factory.buildProtocol, request)
        deciding.addCallback(self._agree, request)
        deciding.addErrback(self._refuse)
        return deciding

    def _agree(self, given: Any, request: Request) -> Agreement:
        if given is None:
            raise Refused(403)
        accepted = given if isinstance(given, Accepted) else Accepted(given)
        answer, data = make_answer(request, accepted.subprotocol, self._deflate, accepted.headers)
        return Agreement(request, accepted, answer, data)

    def _refuse(self, failure: Failure) -> Refusal:
        if isinstance(failure.value, Refused):
            return failure.value.refusal
        failure.trap(Exception)
        if not failure.check(CancelledError):
            _log.failure("the application could not decide on a WebSocket", failure)
        return Refusal(500)

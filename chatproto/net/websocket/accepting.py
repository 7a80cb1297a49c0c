"""Whether there will be a WebSocket: what a server asks of a request, and of its application."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from types import CoroutineType
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
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

_NO_ROOM = Refusal(503, "There are too many connections. Try again later.\n")


@dataclass(frozen=True, slots=True)
class Agreement:
    """What an application and a client have agreed on, and the answer that says so."""

    request: Request
    accepted: Accepted
    answer: Answer
    data: bytes

    def open(self, transport: WebSocketTransport, rest: bytes, is_first: bool = True) -> None:
        """Let the WebSocket begin on *transport*; *rest* came behind the request.

        Unless the answer *is_first* on the connection, something may still be on its way out before it.
        """
        transport.queue.write(self.data)
        if not is_first:
            transport.queue.follow()
        accepted = self.accepted
        transport.open(
            self.answer.subprotocol, self.answer.deflate, accepted.content, rest, accepted.max_message_bytes
        )


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
        self.origins = tuple(origins)
        self._deflate = deflate

    def check(self, head: Head, peer: object, is_secure: bool) -> Request | Refusal:
        """The request that *head* is, to be decided on, or why it is refused whoever decides."""
        request = check_request(head, peer, is_secure)
        if isinstance(request, Refusal):
            return request
        if not origin_allowed(request, self.origins):
            return Refusal(403, "Pages from there may not open a WebSocket here.\n")
        if not self.connections.take_place(request):
            return _NO_ROOM
        return request

    def decide(self, request: Request) -> Agreement | Refusal | Deferred[Agreement | Refusal]:
        """What the application says to *request*, or will say.

        What it will say never fails; when it is cancelled, it is a refusal.
        """
        try:
            given = self._factory.buildProtocol(request)
            if not isinstance(given, Deferred | CoroutineType):
                return self._settle(self._agree(given, request), request)
        except Exception:
            return self._settle(self._refuse(Failure()), request)
        deciding: Deferred[Any] = ensureDeferred(given)
        deciding.addCallback(self._agree, request)
        deciding.addErrback(self._refuse)
        deciding.addCallback(self._settle, request)
        return deciding

    def abandon(self, deciding: Deferred[Agreement | Refusal], request: Request) -> None:
        """The client is gone: nobody needs the decision."""
        try:
            deciding.cancel()
        except Exception:
            _log.failure("the application could not cancel its decision on a WebSocket")
        self.connections.give_place(request)

    def _agree(self, given: Any, request: Request) -> Agreement:
        if given is None:
            raise Refused(403)
        accepted = given if isinstance(given, Accepted) else Accepted(given)
        if not hasattr(accepted.protocol, "negotiationStarted"):
            raise TypeError(f"buildProtocol returns an application, not {type(accepted.protocol).__name__}")
        answer, data = make_answer(request, accepted.subprotocol, self._deflate, accepted.headers)
        return Agreement(request, accepted, answer, data)

    def _refuse(self, failure: Failure) -> Refusal:
        if isinstance(failure.value, Refused):
            return failure.value.refusal
        failure.trap(Exception)
        if not failure.check(CancelledError):
            _log.failure("the application could not decide on a WebSocket", failure)
        return Refusal(500)

    def _settle(self, outcome: Agreement | Refusal, request: Request) -> Agreement | Refusal:
        if self.connections.is_shut:  # since it was asked
            outcome = _NO_ROOM
        if isinstance(outcome, Refusal):
            self.connections.give_place(request)
        return outcome

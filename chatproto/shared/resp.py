"""The store's protocol (RESP 2) on a Twisted connection: commands go out together, answers come in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

__all__ = ["NO_STORE", "ConnectionGone", "Reply", "StoreConnection", "StoreRefusal", "Then", "ignore"]


NO_STORE = "what answers there is no Redis or Valkey"


class StoreRefusal(Exception):
    """The store has not done what it was told; the text is its own."""


class ConnectionGone(Exception):
    """The connection was lost before the answer came: the command was carried out or not."""


Reply = Any
"""An int, bytes, None, a list of these, or an exception: `StoreRefusal` or `ConnectionGone`."""

Then = Callable[[Reply], None]


def ignore(reply: Reply) -> None:
    """For what is put right when the store is there again, where it is not done now."""


class StoreConnection(Protocol):
    """One connection. All that is told to it in one turn of the reactor goes out in one piece.

    *lost* is called once, after everything that waits has been told of it. *heard* gets the channel and what
    was published there, *subscribed* each channel that is listened to from then on.
    """

    def __init__(
        self,
        clock: IReactorTime,
        lost: Callable[[StoreConnection, str], None],
        heard: Callable[[bytes, bytes], None] | None = None,
        subscribed: Callable[[bytes], None] | None = None,
    ) -> None:
        self._clock = clock
        self._lost = lost
        self._heard = heard
        self._subscribed = subscribed
        import hiredis  # whoever has no store need not have it

        self._pack: Any = hiredis.pack_command
        self._reader = hiredis.Reader(protocolError=StoreRefusal, replyError=StoreRefusal)
        self._waiting: deque[Then] = deque()
        self._out: list[bytes] = []
        self._is_lost = False
        self._is_listening = False
        self._why = ""  # it is being aborted
        self.newest_s = clock.seconds()
        """When the store last gave a sign of life, or was asked something after nothing was owed."""

    @property
    def is_owed(self) -> bool:
        """Whether the store has something to answer."""
        return bool(self._waiting)

    def execute(self, then: Then, *words: bytes | str | int) -> None:
        """Have a command carried out; *then* gets the answer, always later."""
        if self._is_lost:
            self._clock.callLater(0, then, ConnectionGone())
            return
        if not self._waiting:
            self.newest_s = self._clock.seconds()
        self._waiting.append(then)
        self._write(words)

    def subscribe(self, channels: list[bytes]) -> None:
        """Listen to *channels*; from the first time on this connection is for that and `ping` alone."""
        self._is_listening = True
        self._write((b"SUBSCRIBE", *channels))

    def unsubscribe(self, channels: list[bytes]) -> None:
        """Listen to *channels* no more."""
        self._write((b"UNSUBSCRIBE", *channels))

    def ping(self) -> None:
        """Have the store give a sign of life."""
        self.execute(lambda reply: None, b"PING")

    def abort(self, why: str = "") -> None:
        """Be rid of the connection at once, and say *why*."""
        self._why = self._why or why
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    def _write(self, words: tuple[bytes | str | int, ...]) -> None:
        self._out.append(self._pack(words))
        if len(self._out) == 1:
            self._clock.callLater(0, self._flush)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self.transport is not None and not self._is_lost:
            self.transport.write(b"".join(out))

    # --- Protocol -------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Answers, in the order of the commands, and what is published."""
        self.newest_s = self._clock.seconds()
        reader = self._reader
        reader.feed(data)
        while not self._is_lost:
            try:
                reply = reader.gets()
            except StoreRefusal:
                self.abort(NO_STORE)
                return
            if reply is False:
                return
            if self._is_listening and type(reply) is list and len(reply) == 3:
                self._take_published(reply)
            elif self._waiting:
                self._waiting.popleft()(reply)
            else:
                # Listening has no answer unless it is refused.
                self.abort(str(reply) if isinstance(reply, StoreRefusal) else NO_STORE)
                return

    def _take_published(self, reply: list[Any]) -> None:
        kind, channel, what = reply
        if kind == b"message" and self._heard is not None:
            self._heard(channel, what)
        elif kind == b"subscribe" and self._subscribed is not None:
            self._subscribed(channel)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nothing more comes."""
        self._is_lost = True
        why = self._why or _in_words(reason)
        waiting, self._waiting = self._waiting, deque()
        for then in waiting:
            then(ConnectionGone(why))
        self._lost(self, why)


def _in_words(reason: Failure) -> str:
    """Why a connection was lost, as part of a sentence."""
    if reason.check(ConnectionAborted):
        return "it does not answer"
    if reason.check(ConnectionDone):
        return "it has closed the connection"
    if isinstance(reason.value, SSL.Error) and reason.value.args:
        return "TLS, " + ", ".join(str(entry[-1]) for entry in reason.value.args[0])
    return reason.getErrorMessage().rstrip(".")

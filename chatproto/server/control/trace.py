"""The trace of one connection: what comes and goes, by kind and size, and never what anybody says.

Nobody else pays for it, and nobody while nothing is traced: what is traced has, for that time, methods of its
own in front of its session's and its outlet's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall

from chatproto.net.face import Face
from chatproto.net.lines import LineProtocol
from chatproto.net.sendqueue import ENTRY_COST_BYTES
from chatproto.rooms.session import Session
from chatproto.server.control.rows import Row, depth
from chatproto.wire.chat import encode_frame
from chatproto.wire.errors import ErrorCode, ProtocolError
from chatproto.wire.messages import Error, Login, Message
from chatproto.wire.prepared import Prepared

__all__ = ["Tap", "Trace", "Watcher"]

EVERY_S = 0.05
"""How often what was seen is handed on: in one write, however busy the connection is."""

MOST_EVENTS = 500
"""Seen between two times; what is beyond is counted."""

LOOK_EVERY_S = 1.0
"""How often one looks what waits for the connection, where nothing else is seen of it."""

MAX_ROOM_CHARS = 200
"""Of a room's name, as somebody asks for it who may ask for anything."""

_SHOWN = ("id", "seq", "first", "last", "after", "before", "limit", "status", "total", "retry_ms")
"""The fields of messages that are numbers of the protocol's own; no other is shown but the room."""

_CODES: dict[int, str] = {int(code): code.label for code in ErrorCode}


class Watcher(Protocol):
    """Who has asked for a trace."""

    @property
    def is_full(self) -> bool:
        """Whether nothing can be taken at the moment, as what was given before is not read."""

    def give(self, rows: list[Row]) -> None:
        """Take these."""

    def finish(self, sentence: str) -> None:
        """That was all, for this reason."""


class Trace:
    """Tells *watcher* what happens to *session*, until `stop` or its end. *taps* are those of all traces."""

    def __init__(self, session: Session, face: Face, watcher: Watcher, taps: dict[int, Tap]) -> None:
        self._session = session
        self._face = face
        self._watcher = watcher
        self._clock = session.hub.clock
        self._events: list[Row] = []
        self._n_missed = 0
        self._next: IDelayedCall | None = None
        self._next_look: IDelayedCall | None = self._clock.callLater(LOOK_EVERY_S, self._look)
        self._last_depth: Row = {}
        self._tap = taps.get(session.id) or Tap(session, face, taps)
        self._tap.add(self._see)
        self._see({"event": "trace", **_nick(session), **depth(face)})

    def stop(self) -> None:
        """Nobody wants to know any more; harmless if it has ended."""
        self._tap.remove(self._see)
        for call in (self._next, self._next_look):
            if call is not None and call.active():
                call.cancel()

    def _see(self, event: Row) -> None:
        if len(self._events) < MOST_EVENTS:
            self._events.append({"time_ms": self._session.hub.now_ms(), **event})
        else:
            self._n_missed += 1
        if self._next is None:
            self._next = self._clock.callLater(EVERY_S, self._hand_on)

    def _hand_on(self) -> None:
        self._next = None
        is_over = self._session.ended
        if self._watcher.is_full and not is_over:
            # What is beyond the bound meanwhile is missed; nothing grows.
            self._next = self._clock.callLater(EVERY_S, self._hand_on)
            return
        events, self._events = self._events, []
        if self._n_missed:
            events.append({"event": "missed", "n": self._n_missed})
            self._n_missed = 0
        self._watcher.give(events)
        if is_over:
            self.stop()
            self._watcher.finish("its session has ended")

    def _look(self) -> None:
        self._next_look = self._clock.callLater(LOOK_EVERY_S, self._look)
        found = depth(self._face)
        known = {name: found[name] for name in ("queued_bytes", "unacknowledged_bytes", "is_blocked")}
        if known != self._last_depth:
            self._last_depth = known
            self._see({"event": "depth", **found, "lag_s": round(self._session.lag_s, 3)})


class Tap:
    """Stands in front of one session and its face while somebody watches; several may."""

    def __init__(self, session: Session, face: Face, taps: dict[int, Tap]) -> None:
        self._session = session
        self._face = face
        self._taps = taps
        self._watching: list[Callable[[Row], None]] = []
        self._is_sending = False
        # The queue's own, without a Python call between.
        self._publish, self._drop = face.publish, face.drop

    def add(self, see: Callable[[Row], None]) -> None:
        """*see* is told of everything from now on."""
        if not self._watching:
            self._put_in()
        self._watching.append(see)

    def remove(self, see: Callable[[Row], None]) -> None:
        """*see* hears no more; harmless if it does not."""
        if see in self._watching:
            self._watching.remove(see)
            if not self._watching:
                self._take_out()

    def _put_in(self) -> None:
        session, face = self._session, self._face
        self._taps[session.id] = self
        self._set_publish(self._published)
        # What stands in an object counts for more than what stands in its class.
        vars(session).update(receive=self._received, end=self._ended)
        vars(face).update(
            drop=self._dropped,
            send=self._sent,
            pause=partial(self._did, "pause"),
            resume=partial(self._did, "resume"),
            finish=partial(self._did, "finish"),
        )
        if isinstance(face, LineProtocol):
            vars(face)["show"] = self._shown

    def _take_out(self) -> None:
        session, face = self._session, self._face
        del self._taps[session.id]
        self._set_publish(self._publish)
        for name in ("receive", "end"):
            del vars(session)[name]
        for name in ("drop", "send", "pause", "resume", "finish", "show"):
            vars(face).pop(name, None)

    def _set_publish(self, publish: Callable[[Prepared], bool]) -> None:
        self._face.publish = publish
        for member in self._session.members.values():
            member.publish = publish

    def _see(self, event: str, known: Row) -> None:
        queue = self._face.queue
        row = {"event": event, **known, "queued_bytes": queue.queued_bytes, "queued": len(queue)}
        for see in tuple(self._watching):
            see(row)

    # --- what comes ---------------------------------------------------------------------------------------

    def _received(self, requests: list[Any]) -> None:
        for index, request in enumerate(requests):
            if callable(request):
                # A line, of which is not known before its turn what it means.
                self._see("in", {"type": "text"})
                requests[index] = partial(self._took_up, request)
            else:
                self._came("in", request)
        Session.receive(self._session, requests)

    def _took_up(self, request: Callable[[], Message | None]) -> Message | None:
        message = request()
        if message is not None:
            self._came("means", message)
        return message

    def _came(self, event: str, request: Message | ProtocolError) -> None:
        if isinstance(request, ProtocolError):
            self._see("fault", {"code": request.code.label, "reason": request.reason})
        elif isinstance(request, Login):
            self._see(event, {"type": request.type})  # its size would tell that of the secret
        else:
            self._see(event, {**_facts(request), "frame_bytes": _frame_bytes(request)})

    # --- what goes ----------------------------------------------------------------------------------------

    def _sent(self, message: Message) -> None:
        self._measured(_facts(message), partial(type(self._face).send, self._face, message))

    def _shown(self, lines: list[str]) -> None:
        assert isinstance(self._face, LineProtocol)
        show = partial(LineProtocol.show, self._face, lines)
        if self._is_sending:
            show()  # as a part of that
        else:
            self._measured({"type": "text"}, show)

    def _measured(self, known: Row, send: Callable[[], None]) -> None:
        before = self._sent_bytes()
        self._is_sending = True
        try:
            send()
        finally:
            self._is_sending = False
        self._see("out", {**known, "bytes": self._sent_bytes() - before})

    def _sent_bytes(self) -> int:
        queue = self._face.queue
        return queue.queued_bytes - ENTRY_COST_BYTES * len(queue)

    def _published(self, prepared: Prepared) -> bool:
        is_taken = self._publish(prepared)
        form = self._face.queue.form
        data = b"" if form is None else prepared.encoded(form)
        self._see("out" if is_taken else "full", {**_facts(prepared.source), "bytes": len(data)})
        return is_taken

    def _dropped(self) -> dict[Any, int]:
        firsts = self._drop()
        for room, seq in firsts.items():
            self._see("dropped", {"room": room, "first": seq})
        return firsts

    # --- what is done -------------------------------------------------------------------------------------

    def _did(self, name: str) -> None:
        self._see(name, {})
        getattr(type(self._face), name)(self._face)

    def _ended(self, reason: str, farewell: Message | None = None) -> None:
        if self._session.ended:
            return
        known: Row = {"reason": reason}
        if isinstance(farewell, Error):
            known["code"] = _CODES.get(farewell.code, "")
        Session.end(self._session, reason, farewell)
        self._see("end", known)


def _nick(session: Session) -> Row:
    return {"id": session.id, "nick": session.nick_text}


def _facts(message: Message) -> Row:
    """What may be shown of *message*."""
    known: Row = {"type": message.type}
    room = getattr(message, "room", None)
    if room is not None:
        known["room"] = room[:MAX_ROOM_CHARS]
    known.update((name, getattr(message, name)) for name in _SHOWN if hasattr(message, name))
    if isinstance(message, Error):
        known["code"] = _CODES.get(message.code, str(message.code))
    return known


def _frame_bytes(message: Message) -> int | None:
    """How large *message* is as a frame, in whatever form it came; None where it could be none."""
    try:
        return len(encode_frame(message))
    except ValueError:
        return None

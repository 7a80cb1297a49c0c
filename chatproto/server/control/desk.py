"""What may be asked over the control socket, and what is done then: one row for each."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from chatproto.net.face import Face
from chatproto.net.factory import ChatFactory
from chatproto.rooms.hub import Hub
from chatproto.rooms.moderation import Action
from chatproto.rooms.orders import OrderRefused, why_not
from chatproto.server.control.line import Answer, ControlFactory, NotDone
from chatproto.server.control.rows import Row, connection_rows, room_rows, rule_rows, session_rows
from chatproto.server.control.trace import Tap, Trace
from chatproto.version import __version__
from chatproto.wire.messages import MAX_U64, Moderate

if TYPE_CHECKING:
    from chatproto.server.service import ChatService

__all__ = ["Desk"]

MOST_SECONDS = 2**32 - 1
"""Of a ban: what `moderate` can say too."""

MOST_DRAIN_S = 86_400

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Desk:
    """Answers whoever runs *service*, whose *hub* and *factory* are these."""

    def __init__(self, service: ChatService, hub: Hub, factory: ChatFactory) -> None:
        self._service = service
        self._hub = hub
        self._chat = factory
        self._taps: dict[int, Tap] = {}
        self._waiting_for_end: list[Deferred[Row]] = []
        self.connections = ControlFactory(hub.clock, self.answer)

    def close(self) -> Deferred[None]:
        """The server has ended: say so to everybody who is connected. Fires when they are gone."""
        waiting, self._waiting_for_end = self._waiting_for_end, []
        for ended in waiting:
            ended.callback({"text": "the server has ended"})
        return self.connections.close()

    def answer(self, request: Mapping[str, Any], by: str) -> Answer:
        """What *request* comes to; *by* is who asks. Raises NotDone."""
        name = request.get("do")
        known = _REQUESTS.get(name) if isinstance(name, str) else None
        if known is None:
            raise NotDone(f"'do' is one of {', '.join(_REQUESTS)}")
        return known.do(self, known.checked(request), by)

    # --- seeing -------------------------------------------------------------------------------------------

    def _status(self, asked: Row, by: str) -> Answer:
        hub, chat = self._hub, self._chat
        faces: dict[str, int] = {}
        n_lagging = 0
        for face in chat.connections:
            faces[face.kind] = faces.get(face.kind, 0) + 1
            n_lagging += face.session.catch_up.is_lagging
        trouble = hub.log.trouble
        is_going = self._service.is_draining
        return Answer(
            {
                "server": __version__,
                "pid": os.getpid(),
                "uid": os.geteuid(),
                "state": "going" if is_going else "trouble" if trouble else "running",
                "trouble": trouble,
                "since_ms": self._service.began_ms,
                "now_ms": hub.now_ms(),
                "listening": list(self._service.endpoints),
                "history": self._service.history or "",
                "connections": len(chat.connections),
                "faces": faces,
                "no_face": max(0, len(chat.fronts) - len(chat.connections)),
                "people": hub.n_people,
                "rooms": len(hub.rooms),
                "lagging": n_lagging,
                "queued_bytes": chat.turn.queued_bytes,
                "messages": hub.record.messages,
                "private_messages": hub.record.private_messages,
                "rules": len(hub.moderation.rules),
                "memory_bytes": _resident_bytes(),
                "descriptors": len(os.listdir("/proc/self/fd")),
            }
        )

    def _connections(self, asked: Row, by: str) -> Answer:
        return Answer({}, connection_rows(self._hub, asked.get("room"), asked.get("lagging", False)))

    def _rooms(self, asked: Row, by: str) -> Answer:
        return Answer({}, room_rows(self._hub))

    def _rules(self, asked: Row, by: str) -> Answer:
        return Answer({}, rule_rows(self._hub, asked.get("room")))

    def _sessions(self, asked: Row, by: str) -> Answer:
        return Answer({}, session_rows(self._hub, asked["account"]))

    def _trace(self, asked: Row, by: str) -> Answer:
        session = self._hub.sessions.get(asked["id"])
        face = None if session is None else session.outlet
        if session is None or not isinstance(face, Face):
            raise NotDone("there is no such connection")
        # It begins a little later, when it may have ended.
        return Answer(lambda watcher: Trace(session, face, watcher, self._taps))

    # --- moderating ---------------------------------------------------------------------------------------

    def _moderate(self, action: Action, asked: Row, by: str, who: str) -> Answer:
        orders, room = self._hub.orders, asked.get("room")
        if who.startswith("server:"):
            raise NotDone("without a room it is the whole server; leave out server:")
        nick = who if room else f"server:{who}"
        message = Moderate(action, room or "", nick, asked.get("seconds", 0), asked.get("reason", ""))
        try:
            order = orders.read(message)
        except OrderRefused as refusal:
            raise NotDone(str(refusal)) from None
        return Answer(_told(lambda: orders.carry_out(order, by)))

    def _remove(self, asked: Row, by: str) -> Answer:
        return self._moderate(Action.KICK, asked, by, f"message:{asked['seq']}")

    def _end_session(self, asked: Row, by: str) -> Answer:
        return Answer(_told(lambda: self._hub.orders.end_session(asked["id"], by)))

    # --- running ------------------------------------------------------------------------------------------

    def _drain(self, asked: Row, by: str) -> Answer:
        service, hub = self._service, self._hub
        if service.is_draining:
            raise NotDone("the server is ending already")
        within_s = asked.get("within_s", hub.limits.drain_timeout_s)
        ended: Deferred[Row] = Deferred()
        self._waiting_for_end.append(ended)
        service.drain(within_s)
        row = {"connections": len(self._chat.connections), "within_s": within_s}
        return Answer(ended, iter([row]))

    def _reload(self, asked: Row, by: str) -> Answer:
        rows: list[Row] = []

        @implementer(ILogObserver)
        def said(event: LogEvent) -> None:
            if str(event.get("log_namespace", "")).startswith("chatproto"):
                rows.append(_said(event))

        globalLogPublisher.addObserver(said)
        try:
            self._service.reload()
        finally:
            globalLogPublisher.removeObserver(said)
        n_errors = sum(row["level"] == "error" for row in rows)
        return Answer({"errors": n_errors}, iter(rows))


def _said(event: LogEvent) -> Row:
    """A line of the log; one about a setting has its parts, too."""
    is_bad = event["log_level"] in (LogLevel.error, LogLevel.critical)
    row: Row = {"level": "error" if is_bad else "info", "text": formatEvent(event)}
    if "effect" in event:
        row.update(name=event["name"], old=event["old"], new=event["new"], holds=event["effect"])
    return row


def _told(act: Callable[[], str | Deferred[str]]) -> Deferred[Row]:
    """What to say when *act* is done, or that it is not."""

    def told(sentence: str) -> Row:
        return {"text": sentence}

    def refused(failure: Failure) -> Row:
        raise NotDone(str(why_not(failure)))

    outcome: Deferred[str] = maybeDeferred(act)  # type: ignore[call-overload]
    return outcome.addCallbacks(told, refused)


def _resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE_BYTES


# --- the table --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Field:
    """What a field of a request may be. *most* is for numbers."""

    kind: type
    is_needed: bool = False
    most: float = MAX_U64

    def refusal(self, value: object) -> str:
        """Why it cannot be *value*, as part of a sentence; empty if it can."""
        if self.kind is str:
            return "" if isinstance(value, str) and value else "is a string, and not empty"
        if self.kind is bool:
            return "" if isinstance(value, bool) else "is true or false"
        types: tuple[type, ...] = (int,) if self.kind is int else (int, float)
        is_number = isinstance(value, types) and not isinstance(value, bool)
        if is_number and 0 <= value <= self.most:  # type: ignore[operator]
            return ""
        return f"is a {'whole ' if self.kind is int else ''}number from 0 to {self.most:,}"


@dataclass(frozen=True, slots=True)
class _Request:
    """What may be asked for: what is done then, and the fields that it has."""

    do: Callable[[Desk, Row, str], Answer]
    fields: Mapping[str, _Field]

    def checked(self, request: Mapping[str, Any]) -> Row:
        """The fields of *request*. Raises NotDone for what cannot be meant: a mistyped room is no room."""
        asked = {name: value for name, value in request.items() if name != "do"}
        for name, value in asked.items():
            if name not in self.fields:
                has = ", ".join(self.fields) or "nothing"
                raise NotDone(f"{request['do']} has no {name[:40]!r}; it has {has}")
            refusal = self.fields[name].refusal(value)
            if refusal:
                raise NotDone(f"{name} {refusal}")
        for name, field in self.fields.items():
            if field.is_needed and name not in asked:
                raise NotDone(f"{request['do']} needs {name}")
        return asked


def _moderating(action: Action) -> _Request:
    fields = {"who": _Field(str, True), "room": _Field(str), "reason": _Field(str)}
    if action in (Action.BAN, Action.MUTE):
        fields["seconds"] = _Field(int, most=MOST_SECONDS)
    return _Request(lambda desk, asked, by: desk._moderate(action, asked, by, asked["who"]), fields)


_REQUESTS: dict[str, _Request] = {
    "status": _Request(Desk._status, {}),
    "connections": _Request(Desk._connections, {"room": _Field(str), "lagging": _Field(bool)}),
    "rooms": _Request(Desk._rooms, {}),
    "rules": _Request(Desk._rules, {"room": _Field(str)}),
    "sessions": _Request(Desk._sessions, {"account": _Field(str, True)}),
    "end-session": _Request(Desk._end_session, {"id": _Field(int, True)}),
    "trace": _Request(Desk._trace, {"id": _Field(int, True)}),
    **{action.name.lower(): _moderating(action) for action in Action},
    "remove": _Request(
        Desk._remove,
        {"room": _Field(str, True), "seq": _Field(int, True), "reason": _Field(str)},
    ),
    "drain": _Request(Desk._drain, {"within_s": _Field(float, most=MOST_DRAIN_S)}),
    "reload": _Request(Desk._reload, {}),
}

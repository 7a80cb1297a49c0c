"""What happens in a chat as one JSON object a line, and requests in the same form (docs/howto.md).

What the server sends has the protocol's own JSON form. Each request is answered by one object, with the `id`
of the request if it had one.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.python.failure import Failure

from chatproto.client.client import ChatClient
from chatproto.client.events import ChatEvents
from chatproto.client.outcomes import Disconnected, Receipt, Refused, TooManyWaiting
from chatproto.client.typed import ACTIONS
from chatproto.wire.jsonform import to_object
from chatproto.wire.messages import (
    Chat,
    Joined,
    Lagged,
    Left,
    Message,
    Notice,
    Renamed,
    Roster,
    Told,
    Welcome,
)

__all__ = ["JsonEvents", "JsonRequests"]

MAX_AT_A_TIME = 100
"""Requests that wait for the server; lines that come then wait too."""


class JsonEvents(ChatEvents):
    """Gives the events of a client to *write*, each as a line.

    Everything beyond ASCII is escaped, so that a line is harmless for a terminal too.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def event(self, kind: str, **fields: Any) -> None:
        """One line."""
        self._write(json.dumps({"type": kind, **fields}, separators=(",", ":")) + "\n")

    def _message(self, message: Message) -> None:
        self._write(json.dumps(to_object(message), separators=(",", ":")) + "\n")

    def chat(self, message: Chat) -> None:
        """See `ChatEvents`."""
        self._message(message)

    def joined(self, message: Joined) -> None:
        """See `ChatEvents`."""
        self._message(message)

    def left(self, message: Left) -> None:
        """See `ChatEvents`."""
        self._message(message)

    def renamed(self, message: Renamed) -> None:
        """See `ChatEvents`."""
        self._message(message)

    def roster(self, message: Roster) -> None:
        """See `ChatEvents`."""
        self._message(message)

    def told(self, message: Told) -> None:
        """See `ChatEvents`."""
        self._message(message)

    def notice(self, message: Notice) -> None:
        """See `ChatEvents`."""
        self._message(message)

    def lagged(self, message: Lagged) -> None:
        """See `ChatEvents`."""
        self._message(message)

    def missing(self, room: str, first: int, last: int) -> None:
        """See `ChatEvents`."""
        self.event("missing", room=room, first=first, last=last)

    def connected(self, message: Welcome) -> None:
        """See `ChatEvents`."""
        self.event("connected", nick=message.nick, server=message.server, epoch=message.epoch)

    def disconnected(self, reason: str) -> None:
        """See `ChatEvents`."""
        self.event("disconnected", reason=reason)

    def reconnecting(self, delay_s: float) -> None:
        """See `ChatEvents`."""
        self.event("reconnecting", delay_ms=round(delay_s * 1_000))

    def refused(self, room: str, refusal: Refused) -> None:
        """See `ChatEvents`."""
        self.event("refused", room=room, code=refusal.code, name=refusal.label, text=refusal.text)

    def gave_up(self, refusal: Refused) -> None:
        """See `ChatEvents`."""
        self.event("gave_up", code=refusal.code, name=refusal.label, text=refusal.text)


class JsonRequests:
    """Does what the lines ask for, and answers each with one event."""

    def __init__(self, client: ChatClient, events: JsonEvents, quit: Callable[[], None]) -> None:
        self.failure = ""
        """Why the last request that came to nothing did; empty if there was none."""
        self._client = client
        self._events = events
        self._quit = quit
        self._room = ""
        self._under_way = DeferredSemaphore(MAX_AT_A_TIME)
        self._requests: dict[str, Callable[[_Fields], Awaitable[tuple[str, dict[str, Any]]]]] = {
            "say": self._say,
            "tell": self._tell,
            "join": self._join,
            "leave": self._leave,
            "nick": self._nick,
            "who": self._who,
            "history": self._history,
            "search": self._search,
            "ping": self._ping,
            "moderate": self._moderate,
        }

    async def enter(self, room: str) -> None:
        """Join *room*; the first one is meant where a request names none."""
        entered = await self._client.join(room)
        self._room = self._room or entered.room
        self._events.event("entered", **_room(entered))

    async def take(self, line: str) -> None:
        """Begin what *line* asks for. Returns when there is room for the next one."""
        if not line.strip():
            return
        try:
            fields = _Fields(line)
        except ValueError as error:
            self._refuse({}, "bad-request", str(error))
            return
        if fields.kind == "quit":
            await self.settle()
            self._quit()
            return
        request = self._requests.get(fields.kind)
        if request is None:
            self._refuse(fields.id, "bad-request", f"there is no request {fields.kind!r}")
            return
        await self._under_way.acquire()
        Deferred.fromCoroutine(self._answer(request, fields)).addErrback(self._broke, fields)

    async def settle(self) -> None:
        """Return when each request is answered."""
        for _ in range(MAX_AT_A_TIME):
            await self._under_way.acquire()
        for _ in range(MAX_AT_A_TIME):
            self._under_way.release()

    def fail(self, why: str) -> None:
        """Say that a line came to nothing."""
        self._refuse({}, "bad-request", why)

    def is_quit(self, line: bytes) -> bool:
        """Whether *line* ends the program."""
        try:
            return _Fields(line.decode(errors="replace")).kind == "quit"
        except ValueError:
            return False

    async def _answer(
        self, request: Callable[[_Fields], Awaitable[tuple[str, dict[str, Any]]]], fields: _Fields
    ) -> None:
        try:
            kind, shown = await request(fields)
        except Refused as refusal:
            self._refuse(fields.id, refusal.label, refusal.text, refusal.code)
        except (Disconnected, TooManyWaiting) as error:
            self._refuse(fields.id, "disconnected", str(error))
        except ValueError as error:
            self._refuse(fields.id, "bad-request", str(error))
        else:
            self._events.event(kind, **fields.id, **shown)
        finally:
            self._under_way.release()

    def _refuse(self, given: dict[str, Any], name: str, text: str, code: int = 0) -> None:
        self.failure = text
        self._events.event("error", **given, code=code, name=name, text=text)

    def _broke(self, failure: Failure, fields: _Fields) -> None:
        self._refuse(fields.id, "fault", f"a fault of this program: {failure.getErrorMessage()}")

    # --- the requests ---------------------------------------------------------------------------------------

    async def _say(self, asked: _Fields) -> tuple[str, dict[str, Any]]:
        room = asked.text("room", self._room)
        receipt = await self._client.say(room, asked.text("text"))
        return "ack", {"room": room, **_receipt(receipt)}

    async def _tell(self, asked: _Fields) -> tuple[str, dict[str, Any]]:
        nick = asked.text("nick")
        return "ack", {"nick": nick, **_receipt(await self._client.tell(nick, asked.text("text")))}

    async def _join(self, asked: _Fields) -> tuple[str, dict[str, Any]]:
        return "entered", _room(await self._client.join(asked.text("room"), asked.number("limit", 0)))

    async def _leave(self, asked: _Fields) -> tuple[str, dict[str, Any]]:
        room = asked.text("room", self._room)
        await self._client.leave(room)
        return "done", {"room": room}

    async def _nick(self, asked: _Fields) -> tuple[str, dict[str, Any]]:
        return "done", {"nick": await self._client.rename(asked.text("nick"))}

    async def _who(self, asked: _Fields) -> tuple[str, dict[str, Any]]:
        roster = to_object(await self._client.who(asked.text("room", self._room)))
        return roster.pop("type"), roster

    async def _history(self, asked: _Fields) -> tuple[str, dict[str, Any]]:
        room = asked.text("room", self._room)
        chats = await self._client.history(room, asked.number("before", 0), asked.number("limit", 50))
        return "messages", {"room": room, "messages": list(map(to_object, chats))}

    async def _search(self, asked: _Fields) -> tuple[str, dict[str, Any]]:
        room = asked.text("room", self._room)
        chats = await self._client.search(room, asked.text("query"), asked.number("limit", 50))
        return "messages", {"room": room, "messages": list(map(to_object, chats))}

    async def _ping(self, asked: _Fields) -> tuple[str, dict[str, Any]]:
        return "pong", {"round_trip_ms": round(await self._client.ping() * 1_000, 3)}

    async def _moderate(self, asked: _Fields) -> tuple[str, dict[str, Any]]:
        action = ACTIONS.get(asked.text("action"))
        if action is None:
            raise ValueError(f"action is one of {', '.join(ACTIONS)}")
        text = await self._client.moderate(
            action,
            asked.text("room", self._room),
            asked.text("nick"),
            asked.number("seconds", 0),
            asked.text("reason", ""),
        )
        return "done", {"text": text}


class _Fields:
    """One request as it was read. Raises ValueError, with one sentence, for what is none."""

    def __init__(self, line: str) -> None:
        try:
            given = json.loads(line)
        except (ValueError, RecursionError):
            raise ValueError("this is not JSON") from None
        if not isinstance(given, dict) or not isinstance(given.get("type"), str):
            raise ValueError("a request is a JSON object with a type")
        self.kind: str = given["type"]
        self.id = {"id": given["id"]} if "id" in given else {}
        self._given = given

    def text(self, name: str, otherwise: str | None = None) -> str:
        value = self._given.get(name, otherwise)
        if name == "room" and value == "" and otherwise:
            return otherwise
        if not isinstance(value, str):
            raise ValueError(
                f"{self.kind}: {name} is a string" + ("" if name in self._given else ", and missing")
            )
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{self.kind}: {name} has half a surrogate pair") from None
        return value

    def number(self, name: str, otherwise: int) -> int:
        value = self._given.get(name, otherwise)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ValueError(f"{self.kind}: {name} is a whole number")
        return value


def _receipt(receipt: Receipt) -> dict[str, Any]:
    return {"seq": receipt.seq, "time": receipt.time_ms}


def _room(entered: Any) -> dict[str, Any]:
    return {
        "room": entered.room,
        "nicks": list(entered.nicks),
        "total": entered.total,
        "last": entered.last,
        "status": entered.status,
    }

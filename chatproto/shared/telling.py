"""Private messages to people on other servers, which are asked whether they were delivered."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from chatproto.rooms.elsewhere import Refused
from chatproto.rooms.log import Receipt
from chatproto.shared.link import ANSWER_TIMEOUT_S
from chatproto.shared.peoplescripts import FIND, NICKS, SERVERS, told_key
from chatproto.shared.resp import Reply, ignore
from chatproto.shared.scripts import server_channel
from chatproto.shared.store import Store
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Told

if TYPE_CHECKING:
    from chatproto.rooms.hub import Hub
    from chatproto.rooms.session import Session

__all__ = ["Telling"]

_UNSENT = "other servers cannot be reached at the moment; nothing was sent"


class Telling:
    """Finds people by their nickname in *store*, and tells the server that they are connected to.

    For *remember_ms* it is known which ids were delivered. A server not heard of for *lease_ms* is gone.
    """

    def __init__(self, store: Store, reactor: Any, remember_ms: int, lease_ms: bytes) -> None:
        self._store = store
        self._database = store.address.database
        self._token = store.token
        self._reactor = reactor
        self._remember_ms = remember_ms
        self._lease_ms = lease_ms
        self._asked: dict[int, Callable[[bool], None]] = {}  # whom private messages wait for, by number
        self._newest_n = 0

    def tell(self, hub: Hub, session: Session, id: int, nick: str, text: str) -> Deferred[Receipt]:
        """See `Elsewhere.tell`; *session* is one of *hub*."""
        assert session.name is not None
        own = session.name
        answer: Deferred[Receipt] = Deferred()
        told = told_key(own.key, id)
        time_ms = hub.now_ms()

        def refuse(code: ErrorCode, why: str) -> None:
            if not answer.called:
                answer.errback(Refused(code, why))

        def was_told(is_told: bool) -> None:
            if not is_told:
                refuse(ErrorCode.NOT_STORED, f"{nick} is not reading; nothing was sent")
                return
            if id:
                self._store.ask(ignore, b"SET", told, time_ms, b"PX", self._remember_ms)
            if not answer.called:
                answer.callback(Receipt(0, time_ms))

        def was_found(reply: Reply) -> None:
            if isinstance(reply, Exception):
                refuse(ErrorCode.NOT_STORED, _UNSENT)
                return
            known, owner = (part.decode() for part in reply)
            if known:
                answer.callback(Receipt(0, int(known)))
            elif not owner:
                refuse(ErrorCode.NO_SUCH_NICK, "nobody here has that nickname; nothing was sent")
            else:
                self._tell(owner, Told(time_ms, own.text, text), was_told, refuse)

        field = hub.nicks.key_of(nick)
        if field is None:
            refuse(ErrorCode.NO_SUCH_NICK, "nobody here has that nickname; nothing was sent")
        else:
            self._store.run(was_found, FIND, (SERVERS, NICKS, told), f"k{field}", self._lease_ms)
        return answer

    def _tell(
        self,
        owner: str,
        told: Told,
        was_told: Callable[[bool], None],
        refuse: Callable[[ErrorCode, str], None],
    ) -> None:
        token, _, session = owner.partition(".")
        self._newest_n += 1
        n = self._newest_n
        self._asked[n] = was_told
        what = {
            "n": n,
            "from": self._token,
            "to": int(session),
            "time": told.time,
            "nick": told.nick,
            "text": told.text,
        }

        def was_published(reply: Reply) -> None:
            if reply == 0 or isinstance(reply, Exception):
                self._asked.pop(n, None)
                refuse(ErrorCode.NOT_STORED, _UNSENT)

        def is_too_late() -> None:
            if self._asked.pop(n, None) is not None:
                refuse(
                    ErrorCode.NOT_STORED, "their server does not answer; it is not known whether they got it"
                )

        self._publish(was_published, token, "t", what)
        self._reactor.callLater(ANSWER_TIMEOUT_S, is_too_late)

    def heard(self, hub: Hub, kind: bytes, content: bytes) -> None:
        """Another server has told this one something, for one of *hub*."""
        what = json.loads(content)
        if kind == b"t":
            session = hub.sessions.get(what["to"])
            is_told = session is not None and session.tell(Told(what["time"], what["nick"], what["text"]))
            if is_told:
                hub.record.private_messages += 1
            self._publish(ignore, what["from"], "a", {"n": what["n"], "is_told": is_told})
        elif kind == b"a":
            was_told = self._asked.pop(what["n"], None)
            if was_told is not None:
                was_told(what["is_told"])

    def _publish(self, then: Callable[[Reply], None], token: str, kind: str, what: object) -> None:
        content = kind + json.dumps(what, ensure_ascii=False)
        self._store.ask(then, b"PUBLISH", server_channel(self._database, token), content)

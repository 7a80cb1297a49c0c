"""What operators order, on all servers; the rules that come of it are kept in the store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from twisted.logger import Logger

from chatproto.rooms.moderation import Action, Kind, Rule, Target
from chatproto.rooms.orders import Order
from chatproto.shared.peoplescripts import ORDER, RULES
from chatproto.shared.resp import Reply
from chatproto.shared.store import Store

if TYPE_CHECKING:
    from chatproto.rooms.hub import Hub

__all__ = ["SharedOrders"]

_log = Logger(namespace="chatproto.shared")


class SharedOrders:
    """Has *store* take the orders of this server and tell all others of them, one after the other."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._token = store.token
        self._hub: Hub | None = None
        self._is_spreading = False
        self._wants_rules = False  # those of the store, once it has the orders
        self._unspread: list[tuple[str, str, str]] = []  # orders that it has not taken, the oldest first

    def start(self, hub: Hub) -> None:
        """What other servers order is done to *hub*."""
        self._hub = hub

    def close(self) -> None:
        """Nothing is done any more that others order."""
        self._hub = None

    def renew(self) -> None:
        """Have the rules of the store, once it has taken all orders."""
        self._wants_rules = True
        self.spread_next()

    def spread(self, order: Order, until_ms: int) -> None:
        """See `Elsewhere.spread`."""
        place = rule = ""
        if order.action is not Action.KICK:
            is_ban = order.action in (Action.BAN, Action.UNBAN)
            kept = Rule(
                Action.BAN if is_ban else Action.MUTE, order.room, order.target, until_ms, order.reason
            )
            place = json.dumps([kept.action.name, kept.room, str(kept.target.kind), kept.target.value])
            rule = json.dumps(kept.to_json()) if order.action in (Action.BAN, Action.MUTE) else ""
        what = {
            "from": self._token,
            "action": int(order.action),
            "room": order.room,
            "kind": str(order.target.kind),
            "value": order.target.value,
            "shown": order.shown,
            "seconds": order.seconds,
            "reason": order.reason,
            "until_ms": until_ms,
        }
        self._unspread.append((f"o{json.dumps(what)}", place, rule))
        self.spread_next()

    def spread_next(self) -> None:
        """Have the store take the orders one after the other. To be called now and then, until it has."""
        if self._is_spreading:
            return
        if not self._unspread:
            if self._wants_rules:
                self._wants_rules = False
                self._store.ask(self._take_rules, b"HGETALL", RULES)
            return
        self._is_spreading = True

        def was_spread(reply: Reply) -> None:
            self._is_spreading = False
            if not isinstance(reply, Exception):
                del self._unspread[0]
                self.spread_next()

        self._store.run(was_spread, ORDER, (RULES,), self._store.everyone, *self._unspread[0])

    def heard(self, content: bytes) -> None:
        """An operator somewhere has ordered something."""
        what = json.loads(content)
        if self._hub is None or what["from"] == self._token:
            return
        target = Target(Kind(what["kind"]), what["value"])
        order = Order(
            Action(what["action"]), what["room"], target, what["shown"], what["seconds"], what["reason"]
        )
        self._hub.orders.follow(order, what["until_ms"])

    def _take_rules(self, reply: Reply) -> None:
        if self._hub is None or isinstance(reply, Exception):
            return
        if self._unspread:
            self._wants_rules = True  # it has been ordered meanwhile
            return
        rules = []
        for text in reply[1::2]:
            try:
                rules.append(Rule.from_json(json.loads(text)))
            except ValueError:
                _log.warn("the store has a rule that nobody understands")
        self._hub.moderation.replace(rules)

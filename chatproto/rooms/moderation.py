"""Who may not enter or speak where, and until when.

A rule is for a room or for the whole server, and for a nickname, an account, a network of addresses or
everybody. All of them are in memory; what keeps them over a restart is `chatproto.rooms.ledger`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from ipaddress import ip_network
from typing import Any, NamedTuple

from chatproto.rooms.addresses import Address, parse_network

__all__ = ["EVERYWHERE", "Action", "Kind", "Moderation", "Rule", "Target", "Who"]

EVERYWHERE = ""
"""In place of a room: the whole server."""

MOST_RULES = 10_000


class Action(IntEnum):
    """The `action` of a `moderate` message."""

    KICK = 1
    BAN = 2
    UNBAN = 3
    MUTE = 4
    UNMUTE = 5


class Kind(StrEnum):
    """What an order of an operator is about."""

    NICK = "nick"
    ACCOUNT = "account"
    ADDRESS = "address"
    ALL = "all"
    """Everybody but operators: a ban on all is a locked room."""
    MESSAGE = "message"
    """The message of that number."""
    LAST = "last"
    """The newest message of that nickname."""


class Target(NamedTuple):
    """Whom a rule is for: *value* is a nickname's comparison form, an account's name, a network, or empty."""

    kind: Kind
    value: str = ""


class Who(NamedTuple):
    """Someone, as far as rules see them."""

    nick_key: str
    account: str | None
    address: Address | None
    is_operator: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """A ban or a mute. *until_ms* is in milliseconds since 1970, 0: without end."""

    action: Action
    room: str
    target: Target
    until_ms: int = 0
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """What a file has of it."""
        return {
            "action": self.action.name.lower(),
            "room": self.room,
            "kind": str(self.target.kind),
            "value": self.target.value,
            "until_ms": self.until_ms,
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, found: Any) -> Rule:
        """The rule that `to_json` made *found* of. Raises ValueError."""
        try:
            action = Action[found["action"].upper()]
            target = Target(Kind(found["kind"]), found["value"])
            room, until_ms, reason = found["room"], found["until_ms"], found["reason"]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"a rule without {error}") from error
        texts = (room, target.value, reason)
        if action not in (Action.BAN, Action.MUTE) or target.kind in (Kind.MESSAGE, Kind.LAST):
            raise ValueError("a rule is a ban or a mute of somebody")
        if not all(isinstance(text, str) for text in texts) or type(until_ms) is not int or until_ms < 0:
            raise ValueError("a rule with a field of another type")
        if target.kind is Kind.ADDRESS:
            target = Target(Kind.ADDRESS, str(parse_network(target.value)))
        return cls(action, room, target, until_ms, reason)


_Place = tuple[Action, str, Target]


class Moderation:
    """The bans and mutes of all rooms and of the server. *now_ms* gives milliseconds since 1970."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._rules: dict[_Place, Rule] = {}
        self._totals = {Action.BAN: 0, Action.MUTE: 0}
        self._counts: Counter[tuple[Action, Kind]] = Counter()
        self._widths: Counter[tuple[int, int]] = Counter()  # of the networks: version and bits

    def has_any(self, action: Action) -> bool:
        """Whether there may be a BAN, or a MUTE, to find: asked for each message."""
        return self._totals[action] > 0

    @property
    def rules(self) -> list[Rule]:
        """What is in force, in the order in which it came."""
        self._drop_ended()
        return list(self._rules.values())

    def load(self, rules: Iterable[Rule]) -> None:
        """Begin with *rules*."""
        for rule in rules:
            self.set(rule)

    def replace(self, rules: Iterable[Rule]) -> None:
        """Have *rules* in force and no others."""
        for place in list(self._rules):
            self._forget(place)
        self.load(rules)

    def set(self, rule: Rule) -> bool:
        """Have *rule* in force, in place of an earlier one for the same; False if there are too many."""
        self._drop_ended()
        place = rule.action, rule.room, rule.target
        if place not in self._rules and len(self._rules) >= MOST_RULES:
            return False
        self._forget(place)
        self._rules[place] = rule
        self._count(place, 1)
        return True

    def lift(self, action: Action, room: str, target: Target) -> bool:
        """End a BAN or MUTE; whether there was one."""
        self._drop_ended()
        return self._forget((action, room, target))

    def find(self, action: Action, room: str, who: Who) -> Rule | None:
        """The BAN or MUTE of *room* that is in force for *who*; there may be several."""
        counts = self._counts
        found = None
        if counts[action, Kind.NICK]:
            found = self._in_force((action, room, Target(Kind.NICK, who.nick_key)))
        if found is None and who.account is not None and counts[action, Kind.ACCOUNT]:
            found = self._in_force((action, room, Target(Kind.ACCOUNT, who.account)))
        if found is None and who.address is not None and counts[action, Kind.ADDRESS]:
            found = self._find_network(action, room, who.address)
        if found is None and not who.is_operator and counts[action, Kind.ALL]:
            found = self._in_force((action, room, Target(Kind.ALL)))
        return found

    def _find_network(self, action: Action, room: str, address: Address) -> Rule | None:
        for version, bits in self._widths:
            if version == address.version:
                network = ip_network((address, bits), strict=False)
                found = self._in_force((action, room, Target(Kind.ADDRESS, str(network))))
                if found is not None:
                    return found
        return None

    def _in_force(self, place: _Place) -> Rule | None:
        rule = self._rules.get(place)
        if rule is None or (rule.until_ms and rule.until_ms <= self._now_ms()):
            return None
        return rule

    def _drop_ended(self) -> None:
        now_ms = self._now_ms()
        ended = [place for place, rule in self._rules.items() if 0 < rule.until_ms <= now_ms]
        for place in ended:
            self._forget(place)

    def _forget(self, place: _Place) -> bool:
        if self._rules.pop(place, None) is None:
            return False
        self._count(place, -1)
        return True

    def _count(self, place: _Place, change: int) -> None:
        action, _, target = place
        self._totals[action] += change
        self._counts[action, target.kind] += change
        if target.kind is Kind.ADDRESS:
            network = parse_network(target.value)
            width = network.version, network.prefixlen
            self._widths[width] += change
            if not self._widths[width]:
                del self._widths[width]

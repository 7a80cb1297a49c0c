"""What an operator sees: the connections, rooms and rules there are, one row each.

There may be very many, so they are made while they are asked for, some in each turn of the reactor. A row is
None where there is nothing to show, so that looking takes turns too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chatproto.net.face import Face
from chatproto.net.webchat import SocketFace
from chatproto.rooms.hub import Hub
from chatproto.rooms.moderation import Action, Kind, Rule
from chatproto.rooms.session import Session

__all__ = ["Row", "connection_rows", "depth", "room_rows", "rule_rows", "session_rows"]

Row = dict[str, Any]

MAX_ROOMS_SHOWN = 50
"""Of those that one connection is in; `n_rooms` has the number of all."""


def connection_rows(hub: Hub, room: str | None, is_lagging: bool) -> Iterator[Row | None]:
    """Everybody who is connected, or who is in *room*, the oldest first; perhaps only who is too slow."""
    for session in list(hub.sessions.values()):
        face = session.outlet
        is_meant = room is None or room in session.members
        is_meant = is_meant and (not is_lagging or session.catch_up.is_lagging)
        if session.ended or not is_meant or not isinstance(face, Face):
            yield None
        else:
            yield _connection_row(hub, session, face)


def _connection_row(hub: Hub, session: Session, face: Face) -> Row:
    return {
        "id": session.id,
        "nick": session.nick_text,
        "account": session.account or "",
        "face": face.kind,
        "address": session.address,
        "rooms": list(session.members)[:MAX_ROOMS_SHOWN],
        "n_rooms": len(session.members),
        "since_ms": session.began_ms,
        **depth(face),
        "lag_s": round(session.lag_s, 3),
        "lag_messages": sum(
            hub.log.bounds(name)[1] + 1 - member.next_seq
            for name, member in session.members.items()
            if not member.live
        ),
    }


def depth(face: Face) -> Row:
    """What waits for one connection, in the server and in its kernel, and how far away its peer is."""
    queue = face.queue
    ping_s = face.transport.rtt_s if isinstance(face, SocketFace) else None
    # The kernel knows how far the next machine is, which may be a proxy. A ping goes all the way.
    kernel_us = queue.round_trip_us
    rtt_ms = ping_s * 1000 if ping_s is not None else kernel_us / 1000 if kernel_us >= 0 else None
    return {
        "queued_bytes": queue.queued_bytes,
        "queued": len(queue),
        "unacknowledged_bytes": queue.undelivered_bytes - queue.queued_bytes,
        "is_blocked": queue.blocked,
        "rtt_ms": None if rtt_ms is None else round(rtt_ms, 3),
        "rtt_by": "ping" if ping_s is not None else "kernel" if rtt_ms is not None else "",
    }


def room_rows(hub: Hub) -> Iterator[Row | None]:
    """The rooms that somebody is in."""
    for_all = {(rule.action, rule.room) for rule in hub.moderation.rules if rule.target.kind is Kind.ALL}
    for room in list(hub.rooms.values()):
        everyone = room.everyone()
        if not everyone:
            continue  # they have left since
        first_seq, last_seq = hub.log.bounds(room.name)
        yield {
            "room": room.name,
            "people": len(everyone),
            "behind": sum(not member.live for member in everyone),
            "first_seq": first_seq,
            "last_seq": last_seq,
            "is_locked": (Action.BAN, room.name) in for_all,
            "is_silenced": (Action.MUTE, room.name) in for_all,
        }


def rule_rows(hub: Hub, room: str | None) -> Iterator[Row | None]:
    """The bans, mutes and locks that are in force, the oldest first; perhaps only those of *room*."""
    for rule in hub.moderation.rules:
        yield _rule_row(rule) if room is None or rule.room == room else None


def _rule_row(rule: Rule) -> Row:
    kind, value = rule.target
    return {
        "action": rule.action.name.lower(),
        "who": "*" if kind is Kind.ALL else value if kind is Kind.NICK else f"{kind}:{value}",
        "room": rule.room,
        "until_ms": rule.until_ms,
        "reason": rule.reason,
    }


def session_rows(hub: Hub, account: str) -> Iterator[Row | None]:
    """The sessions of *account*, the oldest first."""
    for facts in hub.orders.sessions(account):
        yield {
            "id": facts.id,
            "account": facts.account,
            "nick": facts.nick,
            "address": facts.address,
            "rooms": list(facts.rooms)[:MAX_ROOMS_SHOWN],
            "n_rooms": len(facts.rooms),
            "since_ms": facts.began_ms,
        }

"""How each answer looks to people."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import Any

from chatproto.control.tables import size, span, stamp, table
from chatproto.text import tame

__all__ = [
    "SORTS",
    "change",
    "connections",
    "draining",
    "event",
    "rooms",
    "rules",
    "sessions",
    "sorted_rows",
    "status",
]

Row = dict[str, Any]

SORTS = {
    "id": "id",
    "queue": "queued_bytes",
    "lag": "lag_s",
    "rtt": "rtt_ms",
    "age": "since_ms",
    "nick": "nick",
    "address": "address",
    "rooms": "n_rooms",
}
"""By what connections may be sorted, and the field for each."""

_SMALLEST_FIRST = ("id", "age", "nick", "address")

ROOMS_SHOWN = 3


def sorted_rows(rows: list[Row], chosen: argparse.Namespace) -> list[Row]:
    """*rows* as `--sort` has it, the largest first; names, ids and ages as one reads them."""
    by = getattr(chosen, "sort", "id")
    if by == "id":
        return rows  # as they come
    field = SORTS[by]
    known = [row for row in rows if row[field] is not None]
    known.sort(key=lambda row: row[field], reverse=by not in _SMALLEST_FIRST)
    return known + [row for row in rows if row[field] is None]


def status(rows: list[Row], chosen: argparse.Namespace) -> str:
    """A few lines, each with a name before it."""
    [found] = rows
    faces = [f"{number} {kind}" for kind, number in sorted(found["faces"].items())]
    if found["no_face"]:
        faces.append(f"{found['no_face']} HTTP or nothing yet")
    up_s = (found["now_ms"] - found["since_ms"]) / 1000
    state = {"going": "is ending", "trouble": f"cannot keep what is said: {found['trouble']}"}
    lines = [
        ("server", f"chatproto {found['server']}, process {found['pid']} of user {found['uid']}"),
        ("state", state.get(found["state"], "running")),
        ("up", f"{span(up_s)}, since {stamp(found['since_ms'])}"),
        ("listening", ", ".join(found["listening"])),
        ("history", found["history"] or "in memory"),
        ("connections", f"{found['connections']}" + (f" ({', '.join(faces)})" if faces else "")),
        ("people", f"{found['people']} in {found['rooms']} rooms"),
        ("messages", f"{found['messages']} in rooms, {found['private_messages']} private"),
        ("waiting", f"{size(found['queued_bytes'])}, {found['lagging']} readers lag"),
        ("rules", f"{found['rules']} bans, mutes and locks"),
        ("memory", f"{size(found['memory_bytes'])}, {found['descriptors']} open files"),
    ]
    return "".join(f"{name:<12}  {tame(text)}\n" for name, text in lines)


def connections(rows: list[Row], chosen: argparse.Namespace) -> str:
    """A row for each."""
    now_ms = datetime.now().timestamp() * 1000
    words = (">ID", "NICK", "ACCOUNT", "FACE", "ADDRESS", "ROOMS")
    numbers = (">QUEUE", ">LAG", ">BEHIND", ">RTT", ">AGE")
    shown = [
        (
            str(row["id"]),
            row["nick"] or "-",
            row["account"] or "-",
            row["face"],
            row["address"] or "unix",
            _rooms_of(row),
            f"{row['queued']}, {size(row['queued_bytes'])}" if row["queued"] else "-",
            span(row["lag_s"]) if row["lag_s"] else "blocked" if row["is_blocked"] else "-",
            str(row["lag_messages"] or "-"),
            _round_trip(row),
            span((now_ms - row["since_ms"]) / 1000),
        )
        for row in sorted_rows(rows, chosen)
    ]
    by_kernel = any(row["rtt_by"] == "kernel" for row in rows)
    note = "* by the kernel, to the next machine; the others by a ping to the client\n" if by_kernel else ""
    return f"{table((*words, *numbers), shown)}{note}"


def _rooms_of(row: Row) -> str:
    names: list[str] = row["rooms"]
    text = " ".join(names[:ROOMS_SHOWN])
    more = row["n_rooms"] - len(names[:ROOMS_SHOWN])
    return (f"{text} +{more}" if more else text) or "-"


def _round_trip(row: Row) -> str:
    if row["rtt_ms"] is None:
        return "-"
    return f"{row['rtt_ms']:.2f} ms" + ("" if row["rtt_by"] == "ping" else "*")


def rooms(rows: list[Row], chosen: argparse.Namespace) -> str:
    """A row for each, the fullest first."""
    heads = ("ROOM", ">PEOPLE", ">BEHIND", ">FIRST", ">LAST", "IS")
    shown = [
        (
            row["room"],
            str(row["people"]),
            str(row["behind"] or "-"),
            str(row["first_seq"]),
            str(row["last_seq"]),
            " ".join(word for word in ("locked", "silenced") if row[f"is_{word}"]),
        )
        for row in sorted(rows, key=lambda row: (-row["people"], row["room"]))
    ]
    return table(heads, shown)


def rules(rows: list[Row], chosen: argparse.Namespace) -> str:
    """A row for each."""
    shown = [
        (
            row["action"],
            row["who"],
            row["room"] or "whole server",
            stamp(row["until_ms"]) if row["until_ms"] else "for good",
            row["reason"],
        )
        for row in rows
    ]
    return table(("RULE", "WHO", "WHERE", "UNTIL", "REASON"), shown)


def sessions(rows: list[Row], chosen: argparse.Namespace) -> str:
    """A row for each."""
    shown = [
        (str(row["id"]), row["nick"] or "-", row["address"] or "unix", _rooms_of(row), stamp(row["since_ms"]))
        for row in rows
    ]
    return table((">ID", "NICK", "ADDRESS", "ROOMS", "SINCE"), shown)


def event(row: Row) -> str:
    """One line of a trace."""
    if row["event"] == "missed":
        return f"... {row['n']} events were missed: they came faster than they were read"
    moment = datetime.fromtimestamp(row["time_ms"] / 1000)
    head = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}  {row['event']:<7} {row.get('type', ''):<9}"
    words = [f"{name}={row[name]}" for name in row if name not in _APART and row[name] not in (None, "")]
    queue = f"{row['queued']}, {size(row['queued_bytes'])}" if row["queued"] else "empty"
    return tame(f"{head} {' '.join(words)}  queue: {queue}")


_APART = ("time_ms", "event", "type", "queued", "queued_bytes")


def draining(row: Row) -> str:
    """What the end begins with."""
    return f"the server says goodbye to {row['connections']} connections, within {span(row['within_s'])}"


def change(row: Row) -> str:
    """One line of what reading the file again came to."""
    return tame(row["text"])

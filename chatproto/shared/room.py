"""A room that a server listens to in the store, and messages on their way there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from chatproto.rooms.log import REMOVED, NotStored, Receipt
from chatproto.rooms.remembered import Remembered
from chatproto.shared.scripts import about_key, stream_key
from chatproto.wire.messages import Chat

__all__ = ["FollowedRoom", "Said", "begins_with", "entries_of", "without_text"]


class Said:
    """A message on its way into the store."""

    __slots__ = (
        "answer",
        "body",
        "cost_bytes",
        "id_key",
        "is_placed",
        "n",
        "others",
        "receipt",
        "sent_over",
        "sent_s",
    )

    def __init__(self, n: int, body: bytes, id_key: bytes, cost_bytes: int) -> None:
        self.n = n
        self.body = body
        self.id_key = id_key
        self.cost_bytes = cost_bytes
        self.sent_over = 0  # which of the connections to the store, counted from 1
        self.sent_s = 0.0
        self.is_placed = False  # the store has answered that it has a number
        self.receipt: Receipt | None = None  # once people were told of it
        self.answer: Deferred[Receipt] = Deferred()
        self.others: list[Deferred[Receipt]] = []  # for who said it again while it was in doubt

    def answer_all(self, outcome: Receipt | NotStored) -> None:
        """Tell what became of it."""
        for answer in (self.answer, *self.others):
            if isinstance(outcome, Receipt):
                answer.callback(outcome)
            else:
                answer.errback(outcome)


class FollowedRoom:
    """A room that this server listens to.

    `recent` has its newest number that people were told of and as many of its newest messages as fit into
    memory; `oldest` is the first number that is kept at all. Unless it `is_known` the two mean nothing.
    """

    __slots__ = (
        "about",
        "ahead",
        "channel",
        "gap",
        "has_people",
        "is_asked",
        "is_in_use",
        "is_known",
        "is_listened_to",
        "name",
        "newest",
        "oldest",
        "recent",
        "removed_meanwhile",
        "stream",
        "unkept",
        "waiting",
    )

    def __init__(self, name: str, channel: bytes) -> None:
        self.name = name
        self.channel = channel
        self.about = about_key(name)
        self.stream = stream_key(name)
        self.oldest = 1
        self.recent = Remembered(0)
        self.newest = 0  # that is known to be in the store
        self.ahead: dict[int, tuple[Chat, bytes]] = {}  # came before its turn, by number, with the origin
        self.gap: IDelayedCall | None = None
        self.is_known = False
        self.has_people = False  # that one knows who is there
        self.is_in_use = False
        self.is_listened_to = False
        self.is_asked = False  # the store is being asked what it has
        self.removed_meanwhile: set[int] = set()  # by number, while that is so
        self.unkept: dict[int, Said] = {}
        self.waiting: list[tuple[Callable[[], None], Callable[[Exception], None]]] = []

    def forget_gap(self) -> None:
        """What is missing is not read any more, unless it is found to be missing again."""
        if self.gap is not None:
            self.gap.cancel()
            self.gap = None


def entries_of(room: str, entries: Iterable[Any]) -> list[tuple[Chat, bytes]]:
    """What a stream has, with the origins."""
    found = []
    for id, (_, body) in entries:
        seq, _, time_ms = id.partition(b"-")
        origin, nick, text = body.split(b"\n", 2)
        found.append((Chat(room, int(seq), int(time_ms), nick.decode(), text.decode()), origin))
    return found


def begins_with(entries: list[tuple[Chat, bytes]], known: Chat) -> bool:
    """Whether the first of *entries* is *known*, which may have been removed meanwhile."""
    found = entries[0][0] if entries else None
    return found is not None and (found.seq, found.time, found.nick) == (known.seq, known.time, known.nick)


def without_text(chat: Chat) -> Chat:
    """*chat* as it is once it was removed."""
    return Chat(chat.room, chat.seq, chat.time, chat.nick, REMOVED)

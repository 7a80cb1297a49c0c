"""What is said on this server, on its way into the store: until it is known what became of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from chatproto.limits import HistoryLimits
from chatproto.rooms.log import NotStored, Receipt
from chatproto.rooms.remembered import text_cost_bytes
from chatproto.rooms.spread import Spread
from chatproto.shared.resp import ConnectionGone, Reply, StoreRefusal
from chatproto.shared.room import FollowedRoom, Said
from chatproto.shared.scripts import APPEND, id_key, keeping
from chatproto.shared.store import UNREACHABLE, Store, phrase
from chatproto.wire.messages import Chat

__all__ = ["ANSWERS_S", "Speaking"]

ANSWERS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
"""Classes of the time in which the store answers."""

LOST = "the history was out of reach; nobody saw it"

Take = Callable[[FollowedRoom, Chat, bytes, int], None]
"""A message has its place: the room, the message, its origin, and the oldest number that is kept."""


class Speaking:
    """Sends messages to *store*. *take* gets each as soon as it has a number; *settled* is called for a room
    in which nothing waits any more. What outlasts the connection that it was sent over is in doubt, and
    answered when `refuse_unsent` says that everything that the store has of the room was seen.
    """

    def __init__(
        self,
        store: Store,
        reactor: Any,
        history: HistoryLimits,
        take: Take,
        settled: Callable[[FollowedRoom], None],
    ) -> None:
        self.answers_s = Spread(ANSWERS_S)
        self.unkept_bytes = 0
        self.n_unkept = 0
        self._store = store
        self._reactor = reactor
        self._history = history
        self._take = take
        self._settled = settled
        self._own = store.token.encode()
        self._newest_n = 0
        self._remember_ms = b"%d" % int(history.remember_ids_s * 1000)
        self._keeping = keeping(history)

    def add(self, room: FollowedRoom, nick: str, key: str, id: int, text: str, sender: int) -> Said:
        """A message that is to be sent to *room*. Raises NotStored where too much waits already."""
        cost_bytes = text_cost_bytes(text)
        if self.unkept_bytes + cost_bytes > self._history.max_unkept_bytes:
            raise NotStored("the history cannot keep up; nobody saw it")
        self._newest_n += 1
        origin = b"%s.%d.%d" % (self._own, sender, self._newest_n)
        body = b"%s\n%s\n%s" % (origin, nick.encode(), text.encode())
        remembered = id and self._history.remember_ids_s
        said = Said(self._newest_n, body, id_key(room.name, key, id) if remembered else b"", cost_bytes)
        room.unkept[said.n] = said
        self.unkept_bytes += cost_bytes
        self.n_unkept += 1
        return said

    def in_doubt(self, room: FollowedRoom, key: str, id: int) -> Deferred[Receipt]:
        """The answer to come of what was sent before under the same id. Raises NotStored if there is none."""
        wanted = id_key(room.name, key, id) if id else b""
        for said in room.unkept.values() if wanted else ():
            if said.id_key == wanted:
                again: Deferred[Receipt] = Deferred()
                said.others.append(again)
                return again
        raise NotStored(UNREACHABLE)

    def send(self, room: FollowedRoom, said: Said) -> None:
        """Send a message of a room whose newest number is known."""
        if not self._store.is_open:
            self.refuse(room, said, UNREACHABLE)
            return
        said.sent_over = self._store.n_opened
        said.sent_s = self._reactor.seconds()
        keys: tuple[bytes, ...] = (room.about, room.stream)
        if said.id_key:
            keys += (said.id_key,)
        self._store.run(
            partial(self._was_tried, room, said),
            APPEND,
            keys,
            said.body,
            self._remember_ms,
            *self._keeping,
            room.channel,
        )

    def origin_of(self, origin: bytes) -> tuple[int, int]:
        """For which session of this server a message was said and its number here; 0 and 0: on another."""
        token, sender, n = origin.split(b".")
        return (int(sender), int(n)) if token == self._own else (0, 0)

    def was_told(self, room: FollowedRoom, n: int, receipt: Receipt) -> None:
        """People were told of a message of this server."""
        said = room.unkept.get(n)
        if said is not None:
            said.receipt = receipt
            if said.is_placed:
                self._answer(room, said, receipt)

    def refuse(self, room: FollowedRoom, said: Said, why: str) -> None:
        """Nothing comes of a message; harmless if it was answered."""
        if said.n in room.unkept:
            self._done(room, said)
            said.answer_all(NotStored(why))

    def refuse_all(self, room: FollowedRoom, why: str) -> None:
        """The same of all messages of a room."""
        for said in list(room.unkept.values()):
            self.refuse(room, said, why)

    def refuse_unsent(self, room: FollowedRoom) -> None:
        """All that is in the store was seen, so what was sent over a connection before is not there."""
        for said in list(room.unkept.values()):
            if said.receipt is not None:
                self._answer(room, said, said.receipt)
            elif 0 < said.sent_over < self._store.n_opened:
                if said.id_key:
                    # It was perhaps kept before, for whoever said it on a server that they have left.
                    self._store.ask(partial(self._was_looked_up, room, said), b"GET", said.id_key)
                else:
                    self.refuse(room, said, LOST)

    def _was_looked_up(self, room: FollowedRoom, said: Said, reply: Reply) -> None:
        if isinstance(reply, bytes):
            seq, time_ms = map(int, reply.split(b"-"))
            self._answer(room, said, Receipt(seq, time_ms))
        elif reply is None:  # without an answer it stays in doubt, until there is another connection
            self.refuse(room, said, LOST)

    def _was_tried(self, room: FollowedRoom, said: Said, reply: Reply) -> None:
        if isinstance(reply, ConnectionGone):
            if said.receipt is not None:
                self._answer(room, said, said.receipt)
            return  # else it is kept or not; that is seen when the store is there again
        if isinstance(reply, StoreRefusal):
            self._store.refused(reply)
            why = f"the history cannot be kept at the moment: {phrase(reply)}; nobody saw it"
            self.refuse(room, said, why)
            return
        self.answers_s.observe(self._reactor.seconds() - said.sent_s)
        self._store.did_well()
        seq, time_ms = map(int, reply[1].split(b"-"))
        if reply[0] == 1 or said.receipt is not None or seq < room.oldest:
            # Said before, or told of already; or kept no more, before anybody here was told of it. All
            # acknowledgements wait for this answer, so that they come in the order of what was said.
            self._answer(room, said, Receipt(seq, time_ms))
        elif said.n in room.unkept:
            if seq <= room.recent.last:
                # Its number belongs to another message: the store has lost that one.
                self._store.has_lost()
                return
            said.is_placed = True
            origin, nick, text = said.body.split(b"\n", 2)
            chat = Chat(room.name, seq, time_ms, nick.decode(), text.decode())
            self._take(room, chat, origin, int(reply[2]))

    def _answer(self, room: FollowedRoom, said: Said, receipt: Receipt) -> None:
        if said.n in room.unkept:
            self._done(room, said)
            said.answer_all(receipt)

    def _done(self, room: FollowedRoom, said: Said) -> None:
        del room.unkept[said.n]
        self.unkept_bytes -= said.cost_bytes
        self.n_unkept -= 1
        if not room.unkept:
            self._settled(room)

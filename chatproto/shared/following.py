"""Which rooms a server listens to in the store, and what comes from there: each message once, in its order.

It comes from wherever it is there first: what was published, the answer to what was said here, or a look at
what the store has. Numbers have no holes, so what is missing is seen, and read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from chatproto.limits import HistoryLimits, Limits
from chatproto.rooms.log import REMOVED, NotStored
from chatproto.rooms.remembered import Recent, Remembered
from chatproto.shared.link import ANSWER_TIMEOUT_S
from chatproto.shared.peoplescripts import people_key
from chatproto.shared.resp import Reply, StoreRefusal
from chatproto.shared.room import FollowedRoom, begins_with, entries_of, without_text
from chatproto.shared.scripts import LOOK, about_key, channel_of, keeping, stream_key
from chatproto.shared.store import UNREACHABLE, Store
from chatproto.wire.messages import Chat

__all__ = ["READ_MESSAGES", "Following"]

_log = Logger(namespace="chatproto.shared")

FIRST_MESSAGES = 256
"""Read into memory of a room that people enter, so that who joins need not wait for more."""

READ_MESSAGES = 1_000
"""Read at a time where some are missing."""

MAX_AHEAD = 1_000
"""Messages of a room that wait in memory for one before them. The others are read when that has come."""

GAP_S = 0.1
"""What is missing for longer than that is not on its way on the other connection, and is read."""

LOOK_AGAIN_S = 1.0
"""The pause after the store has refused to say what it has."""

LINGER_S = 10.0
"""A room without people is listened to for so long: they may be about to come."""


class Following:
    """Listens to rooms in *store*: `rooms` has them, by name.

    *has_turn* gets each message of a room when its turn comes, with its origin. *has_seen_all* is called for
    a room when everything was seen that the store has of it, and *begun_anew* when the store has lost
    something that was kept: nobody may be in a room, and nothing unkept there, once that has returned.
    """

    def __init__(
        self,
        store: Store,
        reactor: Any,
        limits: Limits,
        history: HistoryLimits,
        *,
        has_turn: Callable[[FollowedRoom, Chat, bytes], None],
        has_seen_all: Callable[[FollowedRoom], None],
        begun_anew: Callable[[], None],
    ) -> None:
        self.rooms: dict[str, FollowedRoom] = {}
        self._store = store
        self._database = store.address.database
        self._reactor = reactor
        self._limits = limits
        self._keeping = keeping(history)
        self._has_turn = has_turn
        self._has_seen_all = has_seen_all
        self._begun_anew = begun_anew
        self._by_channel: dict[bytes, FollowedRoom] = {}
        self._idle: OrderedDict[str, float] = OrderedDict()  # since when nobody needs them, in seconds
        self._left: OrderedDict[str, Chat] = OrderedDict()  # the newest of rooms not listened to any more
        self._sweeping: IDelayedCall | None = None
        self._is_ending = False
        self._recent = Recent(limits)
        store.rooms = self

    def end(self) -> None:
        """Begin nothing any more by oneself: who wants to close waits for what is unkept."""
        self._is_ending = True
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    # --- which rooms are listened to ------------------------------------------------------------------------

    def room(self, name: str) -> FollowedRoom:
        """That room, which is listened to from now on if it was not."""
        state = self.rooms.get(name)
        if state is None:
            state = self.rooms[name] = FollowedRoom(name, channel_of(self._database, name))
            self._by_channel[state.channel] = state
            self._store.subscribe([state.channel])
        return state

    def known(self, name: str) -> FollowedRoom:
        """A room of which it is known what the store has. Raises LookupError for others."""
        state = self.rooms.get(name)
        if state is None or not state.is_known:
            raise LookupError("the history was not prepared for that room")
        return state

    def when_known(
        self, state: FollowedRoom, do: Callable[[], None], fail: Callable[[Exception], None]
    ) -> None:
        """Do something when it is known what the store has of a room; in the order of the calls."""
        if state.is_known:
            do()
            return
        if not state.waiting:
            # Who waits must not wait for as long as the store is away.
            self._reactor.callLater(ANSWER_TIMEOUT_S, self._was_not_known, state, state.waiting)
        state.waiting.append((do, fail))

    def _was_not_known(self, state: FollowedRoom, waiting: list[Any]) -> None:
        if waiting and state.waiting is waiting:
            state.waiting = []
            for _, fail in waiting:
                fail(NotStored(UNREACHABLE))
            self.settle(state)

    def settle(self, state: FollowedRoom) -> None:
        """Note whether anybody needs a room."""
        if self.rooms.get(state.name) is not state:
            return
        if state.is_in_use or state.unkept or state.is_asked or state.waiting:
            self._idle.pop(state.name, None)
            return
        self._idle[state.name] = self._reactor.seconds()
        self._idle.move_to_end(state.name)
        if self._sweeping is None and not self._is_ending:
            self._sweeping = self._reactor.callLater(LINGER_S, self._sweep)

    def _sweep(self) -> None:
        """Listen no more to rooms that nobody needed for a while."""
        self._sweeping = None
        until_s = self._reactor.seconds() - LINGER_S
        forgotten = []
        while self._idle:
            name, since_s = next(iter(self._idle.items()))
            if since_s > until_s:
                self._sweeping = self._reactor.callLater(since_s - until_s, self._sweep)
                break
            state = self.rooms[name]
            self._forget(state)
            forgotten.append(state.channel)
        self._store.unsubscribe(forgotten)

    def _forget(self, state: FollowedRoom) -> None:
        self._idle.pop(state.name, None)
        del self.rooms[state.name], self._by_channel[state.channel]
        if self._store.people is not None:
            self._store.people.forgotten(state.name)
        state.forget_gap()
        newest = state.recent.get(state.recent.last) if state.is_known else None
        self._recent.forget(state.name, state.recent)
        if newest is not None:
            self._left[state.name] = without_text(newest)
            if len(self._left) > self._limits.max_rooms:
                self._left.popitem(last=False)

    # --- what the store has ---------------------------------------------------------------------------------

    def look_at_people(self, room: str | None = None) -> None:
        """Have the listener told anew who is in *room*, or in every room."""
        for name in list(self.rooms) if room is None else self.rooms.keys() & {room}:
            state = self.rooms[name]
            state.has_people = False
            if state.is_listened_to:
                self.look(state)

    def look(self, state: FollowedRoom) -> None:
        """Ask the store about a room that is listened to."""
        if state.is_asked:
            return
        state.is_asked = True
        wants_people = self._store.people is not None and not state.has_people
        # The last one that is known too: it must still be there, and still be the same.
        last = state.recent.last
        first = max(1, last) if state.is_known else 0
        most = READ_MESSAGES if state.is_known else FIRST_MESSAGES
        self._store.run(
            partial(self._was_looked_at, state, last, state.recent.get(last), most, wants_people),
            LOOK,
            (state.about, state.stream, people_key(state.name)),
            b"%d" % first,
            b"%d" % most,
            *self._keeping,
            b"%d" % wants_people,
            b"%d" % self._store.epoch,
        )

    def _was_looked_at(
        self,
        state: FollowedRoom,
        last: int,
        known: Chat | None,
        most: int,
        has_asked_for_people: bool,
        reply: Reply,
    ) -> None:
        """*last* was the newest that people here were told of, *known* that message if it was in memory."""
        state.is_asked = False
        removed, state.removed_meanwhile = state.removed_meanwhile, set()
        if self.rooms.get(state.name) is not state:
            return
        if isinstance(reply, Exception):
            self._could_not_look(state, reply)
            return
        oldest, newest, found, changes, people, is_torn = reply
        if is_torn:
            self._store.has_lost()
            return
        if self._store.people is not None and has_asked_for_people:
            state.has_people = True
            self._store.people.looked_at(state.name, changes, people)
        entries = [
            (without_text(chat) if chat.seq in removed else chat, origin)
            for chat, origin in entries_of(state.name, found)
        ]
        if not state.is_known:
            entries.reverse()
            begins = entries[0][0].seq if entries else newest + 1
            state.is_known = True
            state.oldest = oldest
            state.recent = Remembered(begins - 1)
            state.newest = max(state.newest, newest)
            for chat, _ in entries:
                self._recent.add(state.name, state.recent, chat)
            self._tell_ahead(state)
            waiting, state.waiting = state.waiting, []
            for do, _ in waiting:
                do()
        elif newest < last or (known is not None and last >= oldest and not begins_with(entries, known)):
            self._store.has_lost()
            return
        else:
            self.forget_before(state, oldest)
            state.newest = max(state.newest, newest)
            if oldest > state.recent.last + 1:
                # What nobody here was told of is not kept any more.
                self._recent.forget(state.name, state.recent)
                state.recent = Remembered(oldest - 1)
            for chat, origin in entries:
                self._take(state, chat, origin)
            if len(entries) < most:
                self._has_seen_all(state)
        if self._store.people is not None and not state.has_people and state.is_listened_to:
            self.look(state)  # they came to be wanted while only messages were asked for
        self._go_on(state)
        self.settle(state)

    def _could_not_look(self, state: FollowedRoom, error: Exception) -> None:
        if isinstance(error, StoreRefusal):
            self._store.refused(error)
        waiting, state.waiting = state.waiting, []
        for _, fail in waiting:
            fail(NotStored(UNREACHABLE))
        self.settle(state)
        is_waited_for = state.unkept or not state.has_people or state.newest > state.recent.last
        if state.is_known and is_waited_for and state.is_listened_to and state.gap is None:
            state.gap = self._reactor.callLater(LOOK_AGAIN_S, self._look_again, state)

    def _look_again(self, state: FollowedRoom) -> None:
        state.gap = None
        if state.is_listened_to and self.rooms.get(state.name) is state:
            self.look(state)

    # --- one after the other --------------------------------------------------------------------------------

    def was_placed(self, state: FollowedRoom, chat: Chat, origin: bytes, oldest: int) -> None:
        """The store has kept *chat*; the oldest that it keeps has the number *oldest*."""
        self._take(state, chat, origin)
        self.forget_before(state, oldest)

    def _take(self, state: FollowedRoom, chat: Chat, origin: bytes) -> None:
        """A message is kept: tell of it when its turn comes."""
        seq = chat.seq
        state.newest = max(state.newest, seq)
        if not state.is_known or seq > state.recent.last + 1:
            if len(state.ahead) < MAX_AHEAD:
                state.ahead.setdefault(seq, (chat, origin))  # that one may have been removed meanwhile
            self._go_on(state)
        elif seq == state.recent.last + 1:
            self._tell(state, chat, origin)
            if state.ahead:
                self._tell_ahead(state)

    def _tell_ahead(self, state: FollowedRoom) -> None:
        """Tell of what came before its turn, as far as it goes."""
        while (following := state.ahead.pop(state.recent.last + 1, None)) is not None:
            self._tell(state, *following)
        for seq in [seq for seq in state.ahead if seq <= state.recent.last]:
            del state.ahead[seq]

    def _go_on(self, state: FollowedRoom) -> None:
        """See to it that what is missing is read, unless it comes by itself."""
        if state.is_known and state.newest > state.recent.last and state.gap is None and self._store.is_open:
            state.gap = self._reactor.callLater(GAP_S, self._read_gap, state, state.recent.last)

    def _read_gap(self, state: FollowedRoom, last: int) -> None:
        state.gap = None
        if state.newest > state.recent.last and self._store.is_open:
            if state.recent.last == last and state.is_listened_to:
                self.look(state)
            else:
                self._go_on(state)

    def _tell(self, state: FollowedRoom, chat: Chat, origin: bytes) -> None:
        self._recent.add(state.name, state.recent, chat)
        self._has_turn(state, chat, origin)

    def forget_before(self, state: FollowedRoom, oldest: int) -> None:
        """*oldest* is the oldest number that the store keeps, as far as one knows."""
        if oldest > state.oldest:
            state.oldest = min(oldest, state.recent.last + 1)
            self._recent.forget_before(state.name, state.recent, state.oldest)

    def was_removed(self, state: FollowedRoom, seq: int) -> None:
        """What the message with that number said is nowhere any more."""
        if state.is_asked:
            # What is being read of the room is perhaps from before.
            state.removed_meanwhile.add(seq)
        if seq in state.ahead:
            chat, origin = state.ahead[seq]
            state.ahead[seq] = without_text(chat), origin
        if state.is_known:
            self._recent.replace(state.recent, seq, REMOVED)

    # --- what the store tells -------------------------------------------------------------------------------

    def connected(self) -> None:
        """See `RoomsListener.connected`."""
        self._store.subscribe(list(self._by_channel))
        for newest in self._left.values() if self._store.is_another else ():
            words = b"%d" % newest.seq, b"1", *self._keeping, b"0", b"%d" % self._store.epoch
            keys = about_key(newest.room), stream_key(newest.room), people_key(newest.room)
            self._store.run(partial(self._was_looked_back_at, newest), LOOK, keys, *words)

    def _was_looked_back_at(self, left: Chat, reply: Reply) -> None:
        """Of a room where nobody from here is any more: whether the store has what was told there last."""
        if not isinstance(reply, Exception) and self._left.get(left.room) is left:
            oldest, newest, found, _, _, is_torn = reply
            if (
                is_torn
                or newest < left.seq
                or (left.seq >= oldest and not begins_with(entries_of(left.room, found), left))
            ):
                self._store.has_lost()

    def disconnected(self) -> None:
        """See `RoomsListener.disconnected`."""
        for state in self.rooms.values():
            state.is_listened_to = state.has_people = False
            state.forget_gap()

    def subscribed(self, channel: bytes) -> None:
        """See `RoomsListener.subscribed`."""
        state = self._by_channel.get(channel)
        if state is not None:
            state.is_listened_to = True
            self.look(state)

    def heard(self, channel: bytes, kind: bytes, content: bytes) -> None:
        """See `RoomsListener.heard`."""
        state = self._by_channel.get(channel)
        if state is None:
            return
        if kind == b"m":
            place, origin, nick, text = content.split(b"\n", 3)
            id, _, first = place.partition(b" ")
            seq, _, time_ms = id.partition(b"-")
            self._take(state, Chat(state.name, int(seq), int(time_ms), nick.decode(), text.decode()), origin)
            if state.is_known:
                self.forget_before(state, int(first))
        elif kind == b"p" and self._store.people is not None:
            self._store.people.heard(state.name, content)
        elif kind == b"r":
            self.was_removed(state, int(content))

    def begin_anew(self) -> None:
        """See `RoomsListener.begin_anew`."""
        self._begun_anew()
        for state in list(self.rooms.values()):
            if state.is_in_use:
                _log.error("people are still in {room}, which has begun anew", room=state.name)
            self._forget(state)
            self._store.unsubscribe([state.channel])
        self._left.clear()

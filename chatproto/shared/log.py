"""The shared `RoomLog`: one stream for each room in a Redis or Valkey store, which any number of servers use.

A server listens to the rooms that it has people in. What is said comes back from there in the room's order,
to the server of whoever said it as to all others; numbers have no holes, so that one sees what is missing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from chatproto.limits import HistoryLimits, Limits
from chatproto.rooms.log import REMOVED, Found, Kept, NotStored, Receipt
from chatproto.rooms.remembered import Recent, Remembered, take_bytes, text_cost_bytes
from chatproto.rooms.spread import Spread
from chatproto.shared.following import FollowedRoom, begins_with, entries_of, without_text
from chatproto.shared.link import ANSWER_TIMEOUT_S
from chatproto.shared.peoplescripts import people_key
from chatproto.shared.resp import Reply, StoreRefusal
from chatproto.shared.scripts import (
    LOOK,
    REMOVE,
    TRIM,
    about_key,
    channel_of,
    stream_key,
)
from chatproto.shared.speaking import UNREACHABLE, Speaking
from chatproto.shared.store import Store
from chatproto.wire.messages import Chat

__all__ = ["SharedLog"]

_log = Logger(namespace="chatproto.shared")

FIRST_MESSAGES = 256
"""Read into memory of a room that people enter, so that who joins need not wait for more."""

READ_MESSAGES = 1_000
"""Read at a time where some are missing."""

MAX_AHEAD = 1_000
"""Messages of a room that wait in memory for one before them. The others are read when that has come."""

LEAST_BYTES = text_cost_bytes("")
"""Of a message in a slice, however short it is."""

GAP_S = 0.1
"""What is missing for longer than that is not on its way on the other connection, and is read."""

LOOK_AGAIN_S = 1.0
"""The pause after the store has refused to say what it has."""

LINGER_S = 10.0
"""A room without people is listened to for so long: they may be about to come."""

TRIM_EVERY_S = 30.0


class SharedLog:
    """Keeps what is said in *store*, which it opens and closes. Answers are given in *reactor*.

    Until the store was connected once `epoch` is 0 and every `prepare` waits.

    *began_anew* is called when the store has lost something that was kept: numbers may then come again, and
    `epoch` is another. Whoever is in a room must leave it before *began_anew* returns.
    """

    def __init__(
        self,
        store: Store,
        reactor: Any,
        limits: Limits | None = None,
        history: HistoryLimits | None = None,
    ) -> None:
        self.began_anew: Callable[[], None] = lambda: None
        self._store = store
        self._database = store.address.database
        self._reactor = reactor
        self._limits = limits or Limits()
        self._history = history or HistoryLimits()
        self._kept: Kept = lambda chat, sender: None
        self._rooms: dict[str, FollowedRoom] = {}
        self._by_channel: dict[bytes, FollowedRoom] = {}
        self._idle: OrderedDict[str, float] = OrderedDict()  # since when nobody needs them, in seconds
        self._left: OrderedDict[str, Chat] = OrderedDict()  # the newest of rooms not listened to any more
        self._sweeping: IDelayedCall | None = None
        self._trimming: IDelayedCall | None = None
        self._recent = Recent(self._limits)
        self._closing: Deferred[None] | None = None
        self._keeping = (
            b"%d" % self._history.max_history_room_messages,
            b"%d" % int(self._history.max_history_age_s * 1000),
        )
        self._speaking = Speaking(store, reactor, self._history, self._was_placed, self._has_settled)
        store.rooms = self

    def open(self) -> None:
        """Connect, and stay connected."""
        self._store.open()
        if self._history.max_history_age_s:
            self._trimming = self._reactor.callLater(TRIM_EVERY_S, self._trim)

    def close(self) -> Deferred[None]:
        """Keep and tell what was said so far, as far as the store answers, and nothing after it."""
        if self._closing is None:
            self._closing = Deferred()
            for call in (self._sweeping, self._trimming):
                _cancel(call)
            waiting = self._reactor.callLater(ANSWER_TIMEOUT_S if self._store.is_open else 0, self._end)
            self._closing.addBoth(partial(_cancel, waiting))
            self._end_if_all_is_kept()
        return self._closing

    def _end_if_all_is_kept(self) -> None:
        if self._closing is not None and not self._closing.called and not self._speaking.n_unkept:
            # What was told the store before goes out first.
            self._store.ask(lambda reply: self._end(), b"PING")

    def _end(self) -> None:
        assert self._closing is not None
        if self._closing.called:
            return
        self._store.close()
        for room in list(self._rooms.values()):
            self._speaking.refuse_all(room, "the history was closed; whether it is kept is not known")
            _cancel(room.gap)
        self._closing.callback(None)

    # --- what can be seen of it -----------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """See `RoomLog.epoch`."""
        return self._store.epoch

    @property
    def trouble(self) -> str:
        """See `RoomLog.trouble`."""
        return self._store.trouble

    @property
    def place(self) -> str:
        """Where the store is, without its password."""
        return str(self._store.address)

    @property
    def n_connected(self) -> int:
        """How often the store was connected."""
        return self._store.n_opened

    @property
    def answers_s(self) -> Spread:
        """How often the store answered within how many seconds that a message is kept."""
        return self._speaking.answers_s

    @property
    def unkept_bytes(self) -> int:
        """About what the messages take in memory that are on their way into the store."""
        return self._speaking.unkept_bytes

    # --- what the hub calls ---------------------------------------------------------------------------------

    def start(self, kept: Kept) -> None:
        """See `RoomLog.start`."""
        self._kept = kept

    def prepare(self, room: str) -> Deferred[None] | None:
        """See `RoomLog.prepare`."""
        state = self._state(room)
        if state.is_known:
            self._settle(state)
            return None
        answer: Deferred[None] = Deferred()
        self._when_known(state, lambda: answer.callback(None), answer.errback)
        return answer

    def enter(self, room: str) -> None:
        """See `RoomLog.enter`."""
        state = self._known(room)
        state.is_in_use = True
        self._settle(state)

    def leave(self, room: str) -> None:
        """See `RoomLog.leave`."""
        state = self._known(room)
        state.is_in_use = False
        self._settle(state)

    def append(self, room: str, nick: str, key: str, id: int, text: str, sender: int) -> Deferred[Receipt]:
        """See `RoomLog.append`. An *id* is known in the room that it was first said in."""
        if self._closing is not None:
            raise NotStored("the history is closed; nobody saw it")
        state = self._state(room)
        if not self._store.is_open:
            return self._speaking.in_doubt(state, key, id)
        said = self._speaking.add(state, nick, key, id, text, sender)
        self._when_known(
            state,
            lambda: self._speaking.send(state, said),
            lambda error: self._speaking.refuse(state, said, str(error)),
        )
        return said.answer

    def bounds(self, room: str) -> tuple[int, int]:
        """See `RoomLog.bounds`."""
        state = self._known(room)
        return state.oldest, state.recent.last

    def read(self, room: str, first: int, last: int, max_bytes: int) -> list[Chat] | Deferred[list[Chat]]:
        """See `RoomLog.read`."""
        state = self._rooms.get(room)
        if state is not None and state.is_known:
            first, last = max(first, state.oldest), min(last, state.recent.last)
            if first > last or first >= state.recent.first:
                return state.recent.slice(first, last, max_bytes)
        if first > last:
            return []
        answer: Deferred[list[Chat]] = Deferred()
        most = min(READ_MESSAGES, max_bytes // LEAST_BYTES + 1)

        def then(reply: Reply) -> None:
            if isinstance(reply, Exception):
                answer.errback(reply)
                return
            found = [chat for chat, _ in entries_of(room, reply)]
            begins = found[0].seq if found else last + 1
            if begins > first and state is not None and self._rooms.get(room) is state and state.is_known:
                # Another server has let go of it, which one may not have heard yet, or it is lost.
                self._forget_before(state, begins)
                if state.is_listened_to:
                    self._look(state)
            answer.callback(take_bytes(found, max_bytes))

        self._store.ask(then, b"XRANGE", stream_key(room), first, last, b"COUNT", most)
        return answer

    def search(self, room: str, words: Sequence[str], limit: int) -> Found:
        """See `RoomLog.search`: the store cannot."""
        raise NotImplementedError

    def pick(self, room: str, seqs: Sequence[int], max_bytes: int) -> list[Chat] | Deferred[list[Chat]]:
        """See `RoomLog.pick`."""
        state = self._rooms.get(room)
        if state is not None and state.is_known and (not seqs or seqs[0] >= state.recent.first):
            kept = map(state.recent.get, seqs)
            return take_bytes((chat for chat in kept if chat is not None), max_bytes)
        if not seqs:
            return []
        answer: Deferred[list[Chat]] = Deferred()
        wanted = seqs[: max_bytes // LEAST_BYTES + 1]
        found: list[Chat] = []

        def then(is_last: bool, reply: Reply) -> None:
            if not isinstance(reply, Exception):
                found.extend(chat for chat, _ in entries_of(room, reply))
            if is_last:
                if isinstance(reply, Exception):
                    answer.errback(reply)
                else:
                    answer.callback(take_bytes(found, max_bytes))

        for seq in wanted:
            self._store.ask(partial(then, seq == wanted[-1]), b"XRANGE", stream_key(room), seq, seq)
        return answer

    def remove(self, room: str, seq: int) -> Deferred[bool]:
        """See `RoomLog.remove`. Takes the store about a millisecond for each 1,000 messages of the room."""
        answer: Deferred[bool] = Deferred()
        state = self._state(room)

        def then(reply: Reply) -> None:
            if isinstance(reply, Exception):
                answer.errback(reply)
                return
            if reply:
                self._was_removed(state, seq)
            answer.callback(bool(reply))

        stream = stream_key(room)
        self._when_known(
            state,
            lambda: self._store.run(
                then, REMOVE, (stream, stream + b":new"), b"%d" % seq, REMOVED, state.channel
            ),
            answer.errback,
        )
        return answer

    # --- for people -----------------------------------------------------------------------------------------

    @property
    def remember_ms(self) -> int:
        """For how long an id is remembered, in milliseconds."""
        return max(1, int(self._history.remember_ids_s * 1000))

    def look_at_people(self, room: str | None = None) -> None:
        """Have the listener told anew who is in *room*, or in every room."""
        for name in list(self._rooms) if room is None else self._rooms.keys() & {room}:
            state = self._rooms[name]
            state.has_people = False
            if state.is_listened_to:
                self._look(state)

    # --- rooms ----------------------------------------------------------------------------------------------

    def _state(self, room: str) -> FollowedRoom:
        state = self._rooms.get(room)
        if state is None:
            state = self._rooms[room] = FollowedRoom(room, channel_of(self._database, room))
            self._by_channel[state.channel] = state
            self._store.subscribe([state.channel])
        return state

    def _known(self, room: str) -> FollowedRoom:
        state = self._rooms.get(room)
        if state is None or not state.is_known:
            raise LookupError("the history was not prepared for that room")
        return state

    def _when_known(
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
            self._settle(state)

    def _settle(self, state: FollowedRoom) -> None:
        """Note whether anybody needs a room."""
        if self._rooms.get(state.name) is not state:
            return
        if state.is_in_use or state.unkept or state.is_asked or state.waiting:
            self._idle.pop(state.name, None)
            return
        self._idle[state.name] = self._reactor.seconds()
        self._idle.move_to_end(state.name)
        if self._sweeping is None and self._closing is None:
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
            state = self._rooms[name]
            self._forget(state)
            forgotten.append(state.channel)
        self._store.unsubscribe(forgotten)

    def _forget(self, state: FollowedRoom) -> None:
        self._idle.pop(state.name, None)
        del self._rooms[state.name], self._by_channel[state.channel]
        if self._store.people is not None:
            self._store.people.forgotten(state.name)
        _cancel(state.gap)
        newest = state.recent.get(state.recent.last) if state.is_known else None
        self._recent.forget(state.name, state.recent)
        if newest is not None:
            self._left[state.name] = without_text(newest)
            if len(self._left) > self._limits.max_rooms:
                self._left.popitem(last=False)

    # --- what the store has ---------------------------------------------------------------------------------

    def _look(self, state: FollowedRoom) -> None:
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
            partial(self._was_looked_at, state, last, state.recent.get(last), most),
            LOOK,
            (state.about, state.stream, people_key(state.name)),
            b"%d" % first,
            b"%d" % most,
            *self._keeping,
            b"%d" % wants_people,
            b"%d" % self.epoch,
        )

    def _was_looked_at(
        self, state: FollowedRoom, last: int, known: Chat | None, most: int, reply: Reply
    ) -> None:
        """*last* was the newest that people here were told of, *known* that message if it was in memory."""
        state.is_asked = False
        removed, state.removed_meanwhile = state.removed_meanwhile, set()
        if self._rooms.get(state.name) is not state:
            return
        if isinstance(reply, Exception):
            self._could_not_look(state, reply)
            return
        oldest, newest, found, changes, people, is_torn = reply
        if is_torn:
            self._store.has_lost()
            return
        if self._store.people is not None and not state.has_people:
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
            self._forget_before(state, oldest)
            state.newest = max(state.newest, newest)
            if oldest > state.recent.last + 1:
                # What nobody here was told of is not kept any more.
                self._recent.forget(state.name, state.recent)
                state.recent = Remembered(oldest - 1)
            for chat, origin in entries:
                self._take(state, chat, origin)
            if len(entries) < most:
                self._speaking.refuse_unsent(state)
        self._go_on(state)
        self._settle(state)

    def _could_not_look(self, state: FollowedRoom, error: Exception) -> None:
        if isinstance(error, StoreRefusal):
            self._store.refused(error)
        waiting, state.waiting = state.waiting, []
        for _, fail in waiting:
            fail(NotStored(UNREACHABLE))
        self._settle(state)
        is_waited_for = state.unkept or not state.has_people or state.newest > state.recent.last
        if state.is_known and is_waited_for and state.is_listened_to and state.gap is None:
            state.gap = self._reactor.callLater(LOOK_AGAIN_S, self._look_again, state)

    def _look_again(self, state: FollowedRoom) -> None:
        state.gap = None
        if state.is_listened_to and self._rooms.get(state.name) is state:
            self._look(state)

    def _take(self, state: FollowedRoom, chat: Chat, origin: bytes) -> None:
        """A message is kept: tell of it when its turn comes."""
        seq = chat.seq
        state.newest = max(state.newest, seq)
        if not state.is_known or seq > state.recent.last + 1:
            if len(state.ahead) < MAX_AHEAD:
                state.ahead[seq] = chat, origin
            self._go_on(state)
        elif seq == state.recent.last + 1:
            self._tell(state, chat, origin)
            if state.ahead:
                self._tell_ahead(state)

    def _was_placed(self, state: FollowedRoom, chat: Chat, origin: bytes, oldest: int) -> None:
        """Something that was said here has a number."""
        self._take(state, chat, origin)
        self._forget_before(state, oldest)

    def _has_settled(self, state: FollowedRoom) -> None:
        """Nothing that was said here waits any more."""
        if not state.is_in_use:
            self._settle(state)
        if self._closing is not None:
            self._reactor.callLater(0, self._end_if_all_is_kept)

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
                self._look(state)
            else:
                self._go_on(state)

    def _tell(self, state: FollowedRoom, chat: Chat, origin: bytes) -> None:
        self._recent.add(state.name, state.recent, chat)
        sender, n = self._speaking.origin_of(origin)
        try:
            self._kept(chat, sender)
        except Exception:
            _log.failure("who is told of messages failed")
        if n:
            self._speaking.was_told(state, n, Receipt(chat.seq, chat.time))

    def _forget_before(self, state: FollowedRoom, oldest: int) -> None:
        if oldest > state.oldest:
            state.oldest = min(oldest, state.recent.last + 1)
            self._recent.forget_before(state.name, state.recent, state.oldest)

    def _was_removed(self, state: FollowedRoom, seq: int) -> None:
        if state.is_asked:
            # What is being read of the room is perhaps from before.
            state.removed_meanwhile.add(seq)
        if state.is_known:
            self._recent.replace(state.recent, seq, REMOVED)
            if seq in state.ahead:
                chat, origin = state.ahead[seq]
                state.ahead[seq] = without_text(chat), origin

    # --- what the store tells -------------------------------------------------------------------------------

    def connected(self) -> None:
        """See `RoomsListener.connected`."""
        self._store.subscribe(list(self._by_channel))
        for newest in self._left.values() if self._store.is_another else ():
            words = b"%d" % newest.seq, b"1", *self._keeping, b"0", b"%d" % self.epoch
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
        for state in self._rooms.values():
            state.is_listened_to = state.has_people = False
            _cancel(state.gap)
            state.gap = None

    def subscribed(self, channel: bytes) -> None:
        """See `RoomsListener.subscribed`."""
        state = self._by_channel.get(channel)
        if state is not None:
            state.is_listened_to = True
            self._look(state)

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
                self._forget_before(state, int(first))
        elif kind == b"p" and self._store.people is not None:
            self._store.people.heard(state.name, content)
        elif kind == b"r":
            self._was_removed(state, int(content))

    def begin_anew(self) -> None:
        """See `RoomsListener.begin_anew`."""
        self.began_anew()
        for state in list(self._rooms.values()):
            why = "the history has begun anew; whether anybody saw it is not known"
            self._speaking.refuse_all(state, why)
            if state.is_in_use:
                _log.error("people are still in {room}, which has begun anew", room=state.name)
            self._forget(state)
            self._store.unsubscribe([state.channel])
        self._left.clear()

    # --- upkeep ---------------------------------------------------------------------------------------------

    def _trim(self) -> None:
        """Let go of what is too old in the rooms that people are in; others empty themselves."""
        self._trimming = self._reactor.callLater(TRIM_EVERY_S, self._trim)
        if self._store.is_open:
            for state in self._rooms.values():
                if state.is_known:
                    keys = state.about, state.stream
                    self._store.run(partial(self._was_trimmed, state), TRIM, keys, *self._keeping)

    def _was_trimmed(self, state: FollowedRoom, reply: Reply) -> None:
        if not isinstance(reply, Exception) and state.is_known:
            self._forget_before(state, reply)


def _cancel(call: IDelayedCall | None, result: None = None) -> None:
    if call is not None and call.active():
        call.cancel()

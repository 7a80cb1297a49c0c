"""The shared `RoomLog`: one stream for each room in a Redis or Valkey store, which any number of servers use.

A server listens to the rooms that it has people in (`Following`). What is said (`Speaking`) comes back from
there in the room's order, to the server of whoever said it as to all others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from chatproto.limits import HistoryLimits, Limits
from chatproto.rooms.log import REMOVED, Found, Kept, NotStored, Receipt
from chatproto.rooms.remembered import take_bytes, text_cost_bytes
from chatproto.rooms.spread import Spread
from chatproto.shared.following import READ_MESSAGES, Following
from chatproto.shared.link import ANSWER_TIMEOUT_S
from chatproto.shared.resp import Reply
from chatproto.shared.room import FollowedRoom, entries_of
from chatproto.shared.scripts import REMOVE, TRIM, keeping, stream_key
from chatproto.shared.speaking import Speaking
from chatproto.shared.store import Store
from chatproto.wire.messages import Chat

__all__ = ["SharedLog"]

_log = Logger(namespace="chatproto.shared")

LEAST_BYTES = text_cost_bytes("")
"""Of a message in a slice, however short it is."""

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
        self._reactor = reactor
        self._history = history or HistoryLimits()
        self._keeping = keeping(self._history)
        self._kept: Kept = lambda chat, sender: None
        self._trimming: IDelayedCall | None = None
        self._closing: Deferred[None] | None = None
        self._speaking = Speaking(store, reactor, self._history, self._was_placed, self._has_settled)
        self._following = Following(
            store,
            reactor,
            limits or Limits(),
            self._history,
            has_turn=self._tell,
            has_seen_all=self._speaking.refuse_unsent,
            begun_anew=self._begin_anew,
        )

    def open(self) -> None:
        """Connect, and stay connected."""
        self._store.open()
        if self._history.max_history_age_s:
            self._trimming = self._reactor.callLater(TRIM_EVERY_S, self._trim)

    def close(self) -> Deferred[None]:
        """Keep and tell what was said so far, as far as the store answers, and nothing after it."""
        if self._closing is None:
            self._closing = Deferred()
            self._following.end()
            if self._trimming is not None:
                self._trimming.cancel()
            ending = self._reactor.callLater(ANSWER_TIMEOUT_S if self._store.is_open else 0, self._end)
            self._closing.addBoth(partial(_cancel, ending))
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
        for room in list(self._following.rooms.values()):
            self._speaking.refuse_all(room, "the history was closed; whether it is kept is not known")
        self._following.disconnected()
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
        state = self._following.room(room)
        if state.is_known:
            self._following.settle(state)
            return None
        answer: Deferred[None] = Deferred()
        self._following.when_known(state, lambda: answer.callback(None), answer.errback)
        return answer

    def enter(self, room: str) -> None:
        """See `RoomLog.enter`."""
        state = self._following.known(room)
        state.is_in_use = True
        self._following.settle(state)

    def leave(self, room: str) -> None:
        """See `RoomLog.leave`."""
        state = self._following.known(room)
        state.is_in_use = False
        self._following.settle(state)

    def append(self, room: str, nick: str, key: str, id: int, text: str, sender: int) -> Deferred[Receipt]:
        """See `RoomLog.append`. An *id* is known in the room that it was first said in."""
        if self._closing is not None:
            raise NotStored("the history is closed; nobody saw it")
        state = self._following.room(room)
        if not self._store.is_open:
            return self._speaking.in_doubt(state, key, id)
        said = self._speaking.add(state, nick, key, id, text, sender)
        self._following.when_known(
            state,
            lambda: self._speaking.send(state, said),
            lambda error: self._speaking.refuse(state, said, str(error)),
        )
        return said.answer

    def bounds(self, room: str) -> tuple[int, int]:
        """See `RoomLog.bounds`."""
        state = self._following.known(room)
        return state.oldest, state.recent.last

    def read(self, room: str, first: int, last: int, max_bytes: int) -> list[Chat] | Deferred[list[Chat]]:
        """See `RoomLog.read`."""
        state = self._following.rooms.get(room)
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
            rooms = self._following.rooms
            if begins > first and state is not None and rooms.get(room) is state and state.is_known:
                # Another server has let go of it, which one may not have heard yet, or it is lost.
                self._following.forget_before(state, begins)
                if state.is_listened_to:
                    self._following.look(state)
            answer.callback(take_bytes(found, max_bytes))

        self._store.ask(then, b"XRANGE", stream_key(room), first, last, b"COUNT", most)
        return answer

    def search(self, room: str, words: Sequence[str], limit: int) -> Found:
        """See `RoomLog.search`: the store cannot."""
        raise NotImplementedError

    def pick(self, room: str, seqs: Sequence[int], max_bytes: int) -> list[Chat] | Deferred[list[Chat]]:
        """See `RoomLog.pick`."""
        state = self._following.rooms.get(room)
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
        state = self._following.room(room)

        def then(reply: Reply) -> None:
            if isinstance(reply, Exception):
                answer.errback(reply)
                return
            if reply:
                self._following.was_removed(state, seq)
            answer.callback(bool(reply))

        stream = stream_key(room)
        self._following.when_known(
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
        self._following.look_at_people(room)

    # --- between what is said and what comes ----------------------------------------------------------------

    def _was_placed(self, state: FollowedRoom, chat: Chat, origin: bytes, oldest: int) -> None:
        """Something that was said here has a number."""
        self._following.was_placed(state, chat, origin, oldest)

    def _tell(self, state: FollowedRoom, chat: Chat, origin: bytes) -> None:
        sender, n = self._speaking.origin_of(origin)
        try:
            self._kept(chat, sender)
        except Exception:
            _log.failure("who is told of messages failed")
        if n:
            self._speaking.was_told(state, n, Receipt(chat.seq, chat.time))

    def _has_settled(self, state: FollowedRoom) -> None:
        """Nothing that was said here waits any more."""
        if not state.is_in_use:
            self._following.settle(state)
        if self._closing is not None:
            self._reactor.callLater(0, self._end_if_all_is_kept)

    def _begin_anew(self) -> None:
        self.began_anew()
        for room in list(self._following.rooms.values()):
            self._speaking.refuse_all(room, "the history has begun anew; whether anybody saw it is not known")

    # --- upkeep ---------------------------------------------------------------------------------------------

    def _trim(self) -> None:
        """Let go of what is too old in the rooms that people are in; others empty themselves."""
        self._trimming = self._reactor.callLater(TRIM_EVERY_S, self._trim)
        if self._store.is_open:
            for state in self._following.rooms.values():
                if state.is_known:
                    keys = state.about, state.stream
                    self._store.run(partial(self._was_trimmed, state), TRIM, keys, *self._keeping)

    def _was_trimmed(self, state: FollowedRoom, reply: Reply) -> None:
        if not isinstance(reply, Exception) and state.is_known:
            self._following.forget_before(state, reply)


def _cancel(call: IDelayedCall, result: None) -> None:
    if call.active():
        call.cancel()

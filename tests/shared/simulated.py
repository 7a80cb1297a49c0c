"""A store without sockets, for very many servers in one process: the same steps, on a test's clock.

Commands, answers and what is published take random times on their ways, in order on each connection. It may
be lost at any moment: what was under way to the store is then done or never, what was under way back is lost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from chatproto.shared import peoplescripts as people
from chatproto.shared import scripts
from chatproto.shared.address import StoreAddress
from chatproto.shared.link import StoreFacts
from chatproto.shared.resp import ConnectionGone, Then
from chatproto.shared.scripts import Script
from chatproto.shared.store import Store

__all__ = ["SimulatedRedis", "SimulatedStore"]

MOST_DELAY_S = 0.02


def _bytes(word: bytes | str | int) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()


class SimulatedRedis:
    """What all servers share. It keeps everything; nothing here is too old or too much."""

    def __init__(self, clock: Clock, seed: int) -> None:
        self.clock = clock
        self.random = Random(seed)
        self.streams: dict[bytes, list[tuple[bytes, bytes]]] = defaultdict(list)
        self.hashes: dict[bytes, dict[bytes, bytes]] = defaultdict(dict)
        self.sets: dict[bytes, set[bytes]] = defaultdict(set)
        self.texts: dict[bytes, bytes] = {}
        self.beats_ms: dict[bytes, int] = {}
        self.stores: list[SimulatedStore] = []
        self.n_published = 0
        self._steps: dict[bytes, Callable[[list[bytes], list[bytes]], Any]] = {
            scripts.APPEND.sha: self._append,
            scripts.LOOK.sha: self._look,
            scripts.BEGIN.sha: self._begin,
            people.ENTER.sha: self._enter,
            people.LEAVE.sha: self._leave,
            people.RENAME.sha: self._rename,
            people.REAP.sha: self._reap,
            people.BEAT.sha: self._beat,
            people.BURY.sha: self._bury,
            people.CLAIM.sha: self._claim,
            people.RELEASE.sha: self._release,
            people.FREE.sha: self._free,
        }

    @property
    def now_ms(self) -> int:
        return int(self.clock.seconds() * 1000)

    def do(self, words: list[bytes]) -> Any:
        """Carry out a command."""
        if words[0] == b"EVALSHA":
            n_keys = int(words[2])
            return self._steps[words[1]](words[3 : 3 + n_keys], words[3 + n_keys :])
        if words[0] == b"SADD":
            self.sets[words[1]].add(words[2])
        elif words[0] == b"SREM":
            self.sets[words[1]].discard(words[2])
        elif words[0] == b"SMEMBERS":
            return sorted(self.sets[words[1]])
        elif words[0] == b"HGETALL":
            return _flat(self.hashes[words[1]])
        elif words[0] == b"XRANGE":
            first, last = int(words[2]), int(words[3])
            return self._range(self.streams[words[1]], first, last, int(words[5]))
        elif words[0] == b"GET":
            return self.texts.get(words[1])
        elif words[0] != b"PING":
            raise NotImplementedError(words)
        return 1

    def publish(self, channel: bytes, what: bytes) -> None:
        """Have it under way to everybody who listens."""
        self.n_published += 1
        for store in self.stores:
            store.take_published(channel, what)

    # --- the steps, as the scripts have them ----------------------------------------------------------------

    def _append(self, keys: list[bytes], words: list[bytes]) -> Any:
        if keys[2:] and keys[2] in self.texts:
            return [1, self.texts[keys[2]]]
        stream = self.streams[keys[1]]
        place = b"%d-%d" % (len(stream) + 1, self.now_ms)
        stream.append((place, words[0]))
        if keys[2:]:
            self.texts[keys[2]] = place
        self.publish(words[4], b"m%s 1\n%s" % (place, words[0]))
        return [0, place, b"1"]

    def _range(self, stream: list[tuple[bytes, bytes]], first: int, last: int, most: int) -> Any:
        return [[place, [b"m", body]] for place, body in stream[max(0, first - 1) : last][:most]]

    def _look(self, keys: list[bytes], words: list[bytes]) -> Any:
        stream, first, most = self.streams[keys[1]], int(words[0]), int(words[1])
        found = self._range(stream, first or len(stream) - most + 1, len(stream), most)
        changes = int(self.hashes[keys[0]].get(b"people", b"0"))
        there = _flat(self.hashes[keys[2]]) if words[4] == b"1" else []
        return [1, len(stream), found if first else found[::-1], changes, there, 0]

    def _begin(self, keys: list[bytes], words: list[bytes]) -> Any:
        return self.hashes[keys[0]].setdefault(b"epoch", words[0])

    def _changed(self, about: bytes, channel: bytes, what: bytes) -> None:
        number = int(self.hashes[about].get(b"people", b"0")) + 1
        self.hashes[about][b"people"] = b"%d" % number
        self.publish(channel, b"p%d %s" % (number, what))

    def _enter(self, keys: list[bytes], words: list[bytes]) -> Any:
        channel, place, nick = words
        if self.hashes[keys[1]].get(place) != nick:
            self.hashes[keys[1]][place] = nick
            self._changed(keys[0], channel, b"j %s %s" % (place, nick))

    def _leave(self, keys: list[bytes], words: list[bytes]) -> Any:
        channel, place, reason = words
        if self.hashes[keys[1]].pop(place, None) is not None:
            self._changed(keys[0], channel, b"l %s %s" % (place, reason))

    def _rename(self, keys: list[bytes], words: list[bytes]) -> Any:
        channel, place, nick = words
        if place in self.hashes[keys[1]]:
            self.hashes[keys[1]][place] = nick
            self._changed(keys[0], channel, b"n %s %s" % (place, nick))

    def _reap(self, keys: list[bytes], words: list[bytes]) -> Any:
        channel, token = words
        for place in list(self.hashes[keys[1]]):
            if place.startswith(token + b"."):
                self._leave(keys, [channel, place, b"closed"])

    def _beat(self, keys: list[bytes], words: list[bytes]) -> Any:
        is_new = not self._is_there(words[0], words[1])
        self.beats_ms[words[0]] = self.now_ms
        gone = [token for token, beat_ms in self.beats_ms.items() if beat_ms < self.now_ms - int(words[1])]
        return [int(is_new), gone]

    def _is_there(self, place: bytes, lease_ms: bytes) -> bool:
        beat_ms = self.beats_ms.get(place.partition(b".")[0])
        return beat_ms is not None and self.now_ms - beat_ms <= int(lease_ms)

    def _bury(self, keys: list[bytes], words: list[bytes]) -> Any:
        token, lease_ms = words
        if token in self.beats_ms and (lease_ms == b"0" or not self._is_there(token, lease_ms)):
            nicks = self.hashes[keys[1]]
            for field in self.sets.pop(keys[2], set()):
                if nicks.get(field, b"").startswith(token + b"."):
                    del nicks[field]
            self.sets.pop(keys[3], None)
            del self.beats_ms[token]

    def _claim(self, keys: list[bytes], words: list[bytes]) -> Any:
        place, *fields = words
        nicks = self.hashes[keys[1]]
        if any(nicks.get(f, place) != place and nicks[f].partition(b".")[0] in self.beats_ms for f in fields):
            return 0
        nicks.update(dict.fromkeys(fields, place))
        self.sets[keys[2]].update(fields)
        return 1

    def _release(self, keys: list[bytes], words: list[bytes]) -> Any:
        place, *fields = words
        for field in fields:
            if self.hashes[keys[0]].get(field) == place:
                del self.hashes[keys[0]][field]
                self.sets[keys[1]].discard(field)

    def _free(self, keys: list[bytes], words: list[bytes]) -> Any:
        token, *fields = words
        for field in fields:
            if self.hashes[keys[0]].get(field, b"").startswith(token + b"."):
                del self.hashes[keys[0]][field]
            self.sets[keys[1]].discard(field)


def _flat(found: dict[bytes, bytes]) -> list[bytes]:
    return [word for pair in found.items() for word in pair]


class _Way:
    """One direction of one connection: what goes there arrives in order, each after a time of its own."""

    def __init__(self, redis: SimulatedRedis) -> None:
        self._redis = redis
        self._latest_s = 0.0
        self._calls: set[IDelayedCall] = set()

    def send(self, arrive: Callable[[], None]) -> None:
        """Have *arrive* called when it is there."""
        clock = self._redis.clock
        delay_s = self._redis.random.uniform(0, MOST_DELAY_S)
        self._latest_s = max(self._latest_s + 1e-9, clock.seconds() + delay_s)
        calls: list[IDelayedCall] = []

        def arrived() -> None:
            self._calls.discard(calls[0])
            arrive()

        calls.append(clock.callLater(self._latest_s - clock.seconds(), arrived))
        self._calls.add(calls[0])

    def cut(self) -> None:
        """Nothing of what is on its way arrives."""
        for call in self._calls:
            call.cancel()
        self._calls.clear()


class SimulatedStore(Store):
    """A server's way to a `SimulatedRedis`."""

    def __init__(self, redis: SimulatedRedis) -> None:
        super().__init__(StoreAddress(), redis.clock)
        self._redis = redis
        self._is_there = False
        self._times = 0
        self._ways = [_Way(redis) for _ in range(3)]
        self._channels: set[bytes] = set()
        self._waiting: list[Then] = []

    def open(self) -> None:
        self._redis.stores.append(self)
        self.mend()

    def close(self) -> None:
        self.cut()
        self._redis.stores.remove(self)

    def cut(self) -> None:
        """Lose the connection."""
        if self._is_there:
            self._is_there = False
            for way in self._ways:
                way.cut()
            self._channels.clear()
            self._lost("it was cut")
            waiting, self._waiting = self._waiting, []
            for then in waiting:
                then(ConnectionGone())

    def mend(self) -> None:
        """Have it there again."""
        self._is_there = True
        self._times += 1
        self._channels = {self.everyone, self._here}
        self._facts = StoreFacts("run", True)
        self._begin()
        if self.people is not None:
            self.people.connected()
        if self.epoch:
            self.rooms.connected()

    @property
    def is_open(self) -> bool:
        return self._is_there

    @property
    def n_opened(self) -> int:
        return self._times

    def run(self, then: Then, script: Script, keys: tuple[bytes, ...], *arguments: bytes | str) -> None:
        self.ask(then, b"EVALSHA", script.sha, len(keys), *keys, *arguments)

    def ask(self, then: Then, *words: bytes | str | int) -> None:
        if not self._is_there:
            self._redis.clock.callLater(0, then, ConnectionGone())
            return
        self._waiting.append(then)

        def do() -> None:
            reply = self._redis.do([*map(_bytes, words)])
            self._ways[1].send(lambda: answer(reply))

        def answer(reply: Any) -> None:
            self._waiting.remove(then)
            then(reply)

        self._ways[0].send(do)

    def subscribe(self, channels: Iterable[bytes]) -> None:
        for channel in channels if self._is_there and self.epoch else ():
            self._ways[0].send(lambda channel=channel: self._subscribe(channel))  # type: ignore[misc]

    def _subscribe(self, channel: bytes) -> None:
        self._channels.add(channel)
        self._ways[2].send(lambda: self._subscribed(channel))

    def unsubscribe(self, channels: Iterable[bytes]) -> None:
        for channel in channels if self._is_there else ():
            self._ways[0].send(lambda channel=channel: self._channels.discard(channel))  # type: ignore[misc]

    def take_published(self, channel: bytes, what: bytes) -> None:
        """It is under way to this server, if that listens."""
        if channel in self._channels:
            self._ways[2].send(lambda: self._heard(channel, what))

"""Hostile peers of a soak that have joined: they do not read, or ask for as much as anybody may."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterable, Iterator

from faults.soak.hostile import ANSWERED, ENDED, JSON_SOCKET, OPEN, SOCKET, Hostile
from faults.soak.server import ARCHIVE
from faults.websocket_peer import BINARY, PING, TEXT, deflated, frame

from chatproto.limits import Limits
from chatproto.wire.chat import encode_frame
from chatproto.wire.messages import History, Join, Leave, Message, Nick, Ping, Say, Search

__all__ = ["GUESTS"]

LIMITS = Limits()
MOST = 65_535
SLACK_S = 30.0
STAY_S = 12.0
"""So long one goes on that floods, unless it is ended before."""

PEOPLE_S_ADDRESS = "198.51.100.7"
"""From where well-behaved people come as well."""


def frames(messages: Iterable[Message]) -> bytes:
    return b"".join(map(encode_frame, messages))


class NeverReader(Hostile):
    what = "everything that there is, and never reading it"
    per_s, at_once = 0.2, 12

    async def attack(self) -> str:
        nick, room = self.nick("n"), self.chance.choice(self.target.rooms)
        asked = (Join(nick, ARCHIVE), Join(nick, room), *[History(ARCHIVE, 0, MOST)] * 50)
        async with self.wire_from(self.address(), receive_buffer_bytes=4_096) as wire:
            await wire.send(frames(asked))
            for _ in range(int(LIMITS.lag_timeout_s + LIMITS.close_timeout_s + SLACK_S)):
                await asyncio.sleep(1)
                await wire.send(encode_frame(Ping(1)))  # which fails as soon as the server has ended it
        return OPEN


class SlowReader(Hostile):
    what = "everything that there is, reading a byte a second"
    per_s, at_once = 0.2, 6
    ends = frozenset({ANSWERED, ENDED})

    async def attack(self) -> str:
        nick, room = self.nick("s"), self.chance.choice(self.target.rooms)
        asked = (Join(nick, ARCHIVE), Join(nick, room), *[History(ARCHIVE, 0, MOST)] * 20)
        async with self.wire_from(self.address(), receive_buffer_bytes=4_096) as wire:
            await wire.send(frames(asked))
            for _ in range(30):
                await asyncio.sleep(1)
                await asyncio.get_running_loop().sock_recv(wire.socket, 1)
        return ANSWERED


class Comer(Hostile):
    what = "coming to where people are, and going"
    per_s = 10
    ends = frozenset({ANSWERED})

    async def attack(self) -> str:
        room = self.chance.choice(self.target.rooms)
        async with self.wire_from(self.address()) as wire:
            await wire.send(frames([Join(self.nick("c"), room)]))
            await wire.is_ended(0.2)
            if self.chance.random() < 0.5:
                wire.reset()
        return ANSWERED


class _Flood(Hostile):
    """Something all the time, as fast as the server takes it, and reading."""

    per_s, at_once = 0.2, 2
    ends = frozenset({ANSWERED})
    every_s = 0.01

    def pieces(self, nick: str) -> Iterator[bytes]:
        """What is sent."""
        raise NotImplementedError

    async def attack(self) -> str:
        async with self.wire_from(PEOPLE_S_ADDRESS) as wire:
            return await self.pour(wire, self.pieces(self.nick("f")), self.every_s, STAY_S)


class RoomFlood(_Flood):
    what = "joining and leaving rooms that nobody has heard of"

    def pieces(self, nick: str) -> Iterator[bytes]:
        for number in itertools.count():
            room = f"{nick}-{number}"
            yield frames((Join(nick, room), Leave(room)))


class NickFlood(_Flood):
    what = "changes of nickname before people"

    def pieces(self, nick: str) -> Iterator[bytes]:
        yield frames(Join(nick, room) for room in self.target.rooms)
        for number in itertools.count():
            yield frames(Nick(f"{nick}{(number + more) % 10}") for more in range(3))


class Shouter(_Flood):
    what = "long texts in a room of one's own"

    def pieces(self, nick: str) -> Iterator[bytes]:
        yield frames([Join(nick, "pit")])
        for number in itertools.count(1):
            yield frames([Say(number, "pit", f"{nick} {number} ".ljust(2_000, "x"))])


class Searcher(_Flood):
    what = "searches for words that are everywhere"

    def pieces(self, nick: str) -> Iterator[bytes]:
        yield frames([Join(nick, ARCHIVE)])
        while True:
            yield frames([Search(ARCHIVE, "somebody says", MOST), Search(ARCHIVE, "says 1 2 3 4 5", MOST)])


class HistoryReader(_Flood):
    what = "all of the history, again and again"
    at_once = 1

    def pieces(self, nick: str) -> Iterator[bytes]:
        yield frames([Join(nick, ARCHIVE)])
        while True:
            yield frames([History(ARCHIVE, 0, MOST)])


class PingFlood(_Flood):
    what = "pings of both kinds"

    def pieces(self, nick: str) -> Iterator[bytes]:
        yield SOCKET + frame(BINARY, encode_frame(Join(nick, "pit"))[4:])
        both = frame(PING, bytes(125)) * 20 + frame(BINARY, encode_frame(Ping(7))[4:])
        while True:
            yield both


class Bomber(Hostile):
    what = "messages that are small until they are inflated"
    per_s = 3

    async def attack(self) -> str:
        join = json.dumps({"type": "join", "nick": self.nick("b"), "room": "pit"}).encode()
        bomb = _BOMBS[self.chance.randrange(len(_BOMBS))]
        async with self.wire() as wire:
            await wire.send(JSON_SOCKET + frame(TEXT, join) + frame(TEXT, bomb, rsv1=True))
            return ENDED if await wire.is_ended(SLACK_S) else OPEN


_BOMBS = (deflated(bytes(2**24)), deflated(b" " * 390_000), deflated(deflated(bytes(2**24)) * 30))


GUESTS: tuple[type[Hostile], ...] = (
    NeverReader,
    SlowReader,
    Comer,
    RoomFlood,
    NickFlood,
    Shouter,
    Searcher,
    HistoryReader,
    PingFlood,
    Bomber,
)

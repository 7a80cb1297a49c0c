"""Hostile peers of a soak that never join: they come too slowly, too often, or with what is no chat."""

from __future__ import annotations

import json
import random
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import repeat

from faults.soak.hostile import (
    ANSWERED,
    ENDED,
    JSON_SOCKET,
    OPEN,
    SOCKET,
    TURNED_AWAY,
    Hostile,
    Target,
)
from faults.soak.server import ACCOUNT
from faults.websocket_peer import BINARY, TEXT, frame, header
from fuzz import fuzz_frames, fuzz_handshake, fuzz_json, fuzz_lines, fuzz_proxy, fuzz_websocket
from server.connecting import context

from chatproto.limits import Limits
from chatproto.wire.chat import encode_frame
from chatproto.wire.messages import Join, Login, Side

__all__ = ["STRANGERS"]

LIMITS = Limits()
SLACK_S = 15.0
"""Beyond a limit of the server's, on a machine that is busy."""

JOINING_S = LIMITS.join_timeout_s + LIMITS.close_timeout_s + SLACK_S
NAMING_S = LIMITS.nickname_timeout_s + LIMITS.close_timeout_s + SLACK_S
"""Also for frames: who has no CPU for a second before the first one is silent, and taken for a person."""


def single(data: bytes) -> Iterator[bytes]:
    """One byte after the other."""
    return (data[at : at + 1] for at in range(len(data)))


class SlowRequest(Hostile):
    what = "an HTTP request, a byte a second"
    per_s, at_once = 1, 20

    async def attack(self) -> str:
        async with self.wire() as wire:
            await wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
            return await self.dribble(wire, repeat(b"x"), JOINING_S)


class SlowHandshake(Hostile):
    what = "a WebSocket handshake, a byte a second"
    per_s, at_once = 1, 20

    async def attack(self) -> str:
        async with self.wire() as wire:
            await wire.send(SOCKET[:-20])
            return await self.dribble(wire, single(SOCKET[-20:]), JOINING_S)


class SlowJoin(Hostile):
    what = "a frame, a byte a second"
    per_s, at_once = 1, 20

    async def attack(self) -> str:
        async with self.wire() as wire:
            return await self.dribble(wire, single(encode_frame(Join("slow" * 8, "x" * 64))), NAMING_S)


class SlowNickname(Hostile):
    what = "a nickname at nc, a byte a second"
    per_s, at_once = 0.3, 20

    async def attack(self) -> str:
        async with self.wire() as wire:
            return await self.dribble(wire, repeat(b"n"), NAMING_S)


class HalfTls(Hostile):
    what = "a TLS handshake that is never finished"
    per_s, at_once = 1, 20

    async def attack(self) -> str:
        goes = ssl.MemoryBIO()
        hello = context().wrap_bio(ssl.MemoryBIO(), goes)
        with suppress(ssl.SSLWantReadError):
            hello.do_handshake()
        data = goes.read()
        async with self.wire(self.target.tls_port) as wire:
            await wire.send(data[: self.chance.randrange(1, len(data) + 1)])
            return ENDED if await wire.is_ended(JOINING_S) else OPEN


class Silent(Hostile):
    what = "nothing at all"
    per_s, at_once = 0.5, 40

    async def attack(self) -> str:
        async with self.wire() as wire:
            return ENDED if await wire.is_ended(NAMING_S) else OPEN


class Flood(Hostile):
    what = "a connection, reset at once"
    per_s = 100
    ends = frozenset({ANSWERED})

    async def attack(self) -> str:
        async with self.wire() as wire:
            wire.reset()
        return ANSWERED


class FloodFromOneAddress(Hostile):
    what = "connections of one address, more than it may open in a second"
    per_s = LIMITS.max_arrivals_per_address_per_s * 1.5
    ends = frozenset({ANSWERED, TURNED_AWAY})

    async def attack(self) -> str:
        async with self.wire_from("192.0.2.66") as wire:
            try:
                await wire.send(encode_frame(Join(self.nick("f")))[:-1])
                return TURNED_AWAY if await wire.is_ended(0.3) else ANSWERED
            except ConnectionError:
                return TURNED_AWAY


class Hoarder(Hostile):
    what = "connections of one address, more than it may have"
    per_s, at_once = 20, int(LIMITS.max_connections_per_address * 1.3)
    ends = frozenset({ENDED, TURNED_AWAY})

    async def attack(self) -> str:
        async with self.wire_from("192.0.2.77") as wire:
            if await wire.is_ended(LIMITS.join_timeout_s / 2):
                return TURNED_AWAY
            return ENDED if await wire.is_ended(NAMING_S) else OPEN


class HalfCloser(Hostile):
    what = "the beginning of something, and no more is sent"
    per_s = 5

    async def attack(self) -> str:
        whole = self.chance.choice(
            (SOCKET, encode_frame(Join("half")), b"ann\nhello\n", b"GET / HTTP/1.1\r\n")
        )
        async with self.wire() as wire:
            await wire.send(whole[: self.chance.randrange(1, len(whole))])
            wire.finish()
            return ENDED if await wire.is_ended(NAMING_S) else OPEN


class WrongProxy(Hostile):
    what = "the header of a proxy that is none"
    per_s = 5

    async def attack(self) -> str:
        wrong = (b"PROXY TCP4 a b c d\r\n", b"PROXY " + b"x" * 200, b"GET / HTTP/1.1\r\n\r\n", bytes(16))
        async with self.wire(self.target.proxied_port) as wire:
            await wire.send(self.chance.choice(wrong))
            return ENDED if await wire.is_ended(JOINING_S) else OPEN


class UnaskedProxy(Hostile):
    what = "the header of a proxy where none is expected"
    per_s = 5
    ends = frozenset({ANSWERED, ENDED})

    async def attack(self) -> str:
        async with self.wire() as wire:
            await wire.send(b"PROXY TCP4 203.0.113.1 192.0.2.1 40000 9000\r\n")
            return ENDED if await wire.is_ended(2.0) else ANSWERED


class Guesser(Hostile):
    what = "guesses at a password, from many addresses"
    per_s, at_once = 2, 10
    ends = frozenset({ANSWERED, ENDED})

    async def attack(self) -> str:
        async with self.wire_from(self.address()) as wire:
            await wire.send(b"".join(encode_frame(Login(ACCOUNT, self.nick("guess"))) for _ in range(3)))
            return ENDED if await wire.is_ended(5.0) else ANSWERED


class HugeLength(Hostile):
    what = "the announcement of more than anybody may send"
    per_s = 10

    async def attack(self) -> str:
        begins = (
            (b"\x00\xff\xff\xff\x01", False),
            (b"\x00\x01\x00\x01\x01", False),
            (header(BINARY, 2**63 - 1), True),
            (header(BINARY, 2**31), True),
            (b"POST /chat HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999\r\n\r\n", False),
        )
        begin, is_websocket = self.chance.choice(begins)
        async with self.wire() as wire:
            await wire.send(SOCKET + begin if is_websocket else begin)
            return ENDED if await wire.is_ended(NAMING_S) else OPEN


class _Malformed(Hostile):
    """What a corpus of the fuzzing makes; some of it is right, so the server may also answer."""

    per_s = 8
    ends = frozenset({ANSWERED, ENDED})

    def first(self) -> bytes:
        """What makes the server listen."""
        return b""

    next: Callable[[], bytes]
    """Makes the next input."""

    async def attack(self) -> str:
        async with self.wire() as wire:
            await wire.send(self.first())
            for _ in range(5):
                await wire.send(self.next())
                if await wire.is_ended(0.05):
                    return ENDED
            return ANSWERED


class MalformedFrames(_Malformed):
    what = "frames with something wrong"

    def __init__(self, target: Target, chance: random.Random) -> None:
        super().__init__(target, chance)
        self.next = fuzz_frames.Inputs(chance.getrandbits(32)).next

    def first(self) -> bytes:
        return encode_frame(Join(self.nick("frames"), "pit"))


class MalformedLines(_Malformed):
    what = "lines and telnet commands with something wrong"

    def __init__(self, target: Target, chance: random.Random) -> None:
        super().__init__(target, chance)
        self.next = fuzz_lines.Inputs(chance.getrandbits(32)).next

    def first(self) -> bytes:
        return f"{self.nick('lines')}\n/join pit\n".encode()


class MalformedRequests(_Malformed):
    what = "HTTP requests with something wrong"

    def __init__(self, target: Target, chance: random.Random) -> None:
        super().__init__(target, chance)
        self.next = fuzz_handshake.Inputs(chance.getrandbits(32)).request


class MalformedMessages(_Malformed):
    what = "WebSocket frames with something wrong"

    def __init__(self, target: Target, chance: random.Random) -> None:
        super().__init__(target, chance)
        self.next = partial(fuzz_websocket.Inputs(chance.getrandbits(32)).next, Side.SERVER)

    def first(self) -> bytes:
        return SOCKET


class MalformedJson(_Malformed):
    what = "JSON with something wrong"

    def __init__(self, target: Target, chance: random.Random) -> None:
        super().__init__(target, chance)
        inputs = fuzz_json.Inputs(chance.getrandbits(32))
        self.next = lambda: frame(TEXT, inputs.text().encode(errors="replace"))

    def first(self) -> bytes:
        join = json.dumps({"type": "join", "nick": self.nick("json"), "room": "pit"})
        return JSON_SOCKET + frame(TEXT, join.encode())


class MalformedProxy(Hostile):
    what = "headers of proxies with something wrong"
    per_s = 8
    ends = frozenset({ANSWERED, ENDED})

    def __init__(self, target: Target, chance: random.Random) -> None:
        super().__init__(target, chance)
        self._inputs = fuzz_proxy.Inputs(chance.getrandbits(32))

    async def attack(self) -> str:
        async with self.wire(self.target.proxied_port) as wire:
            await wire.send(self._inputs.next())
            return ENDED if await wire.is_ended(0.3) else ANSWERED


STRANGERS: tuple[type[Hostile], ...] = (
    SlowRequest,
    SlowHandshake,
    SlowJoin,
    SlowNickname,
    HalfTls,
    Silent,
    Flood,
    FloodFromOneAddress,
    Hoarder,
    HalfCloser,
    WrongProxy,
    UnaskedProxy,
    Guesser,
    HugeLength,
    MalformedFrames,
    MalformedLines,
    MalformedRequests,
    MalformedMessages,
    MalformedJson,
    MalformedProxy,
)

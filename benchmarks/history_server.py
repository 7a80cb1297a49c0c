"""The durable history seen from outside: through `twistd chat` and a socket. A part of history.py."""

from __future__ import annotations

import random
import socket
import struct
import sys
from dataclasses import dataclass

from generator import Generator
from servers import HOST, Served

from chatproto.wire.chat import FrameDecoder, encode_frame
from chatproto.wire.messages import Chat, End, Error, History, Join, Message, Search, Side

__all__ = ["Crowded", "Visitor", "crowd"]

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Crowded:
    """What was measured: acknowledged messages a second, CPU of the server for each, times to be seen."""

    rate: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    server_share: float


def crowd(generator: Generator, served: Served, clients: int, window: int, seconds: float) -> Crowded:
    """Everybody speaks in one room, with so many messages in flight each; so all but the speaker get each."""
    talk = {"clients": clients, "senders": clients, "window": window, "bytes": 64}
    load = generator.load(served, **talk, warmup=0.5, seconds=seconds)
    messages = load.deliveries / (clients - 1)
    return Crowded(
        messages / load.wall_s,
        load.server_cpu_s * 1e6 / messages,
        load.p50_ms,
        load.p99_ms,
        load.server_cpu_s / load.wall_s,
    )


class Visitor:
    """Someone who joins, scrolls back and searches, one after the other."""

    def __init__(self, port: int, nick: str) -> None:
        self._nick = nick
        self._socket = socket.create_connection((HOST, port), timeout=PATIENCE_S)
        self._decoder = FrameDecoder(Side.CLIENT, 2**24 - 1)

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        # Gone at once, so that the nickname is free again.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _ask(self, question: Message) -> list[Chat]:
        self._socket.sendall(encode_frame(question))
        found: list[Chat] = []
        while data := self._socket.recv(2**18):
            for message in self._decoder.receive(data):
                if isinstance(message, Chat):
                    found.append(message)
                elif isinstance(message, End):
                    return found
                elif isinstance(message, Error):
                    sys.exit(f"the server says: {message.text}")
        sys.exit("the server closed the connection")

    def join(self, room: str) -> int:
        """Enter a room and read its newest messages; the newest number."""
        chats = self._ask(Join(self._nick, room, 0, 0, 100))
        return chats[-1].seq if chats else 0

    def scroll(self, room: str, newest: int, pages: int, source: random.Random) -> None:
        """Read pages of a hundred messages from anywhere in the room."""
        for _ in range(pages):
            self._ask(History(room, source.randint(1, newest + 1), 100))

    def search(self, room: str, words: str) -> int:
        """Search for words; how many messages were found."""
        return len(self._ask(Search(room, words, 50)))

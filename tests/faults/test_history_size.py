"""What a server takes of memory does not hang on how much its history has."""

from __future__ import annotations

from pathlib import Path

import pytest
from live import Framed, Server

from chatproto.history.file import Ownership, open_history, place_of
from chatproto.history.rows import insert_messages
from chatproto.wire.messages import Ack, Chat, End, History, Join, Say, Search

ROOMS = 4
FIRST_MS = 1_700_000_000_000

CACHES_BYTES = 48 * 2**20
"""What SQLite's caches and the newest messages of four rooms may take. A million take 500 MB in memory."""


def make(path: Path, messages: int) -> None:
    """A history of so many messages, no two alike."""
    with Ownership(str(path)):
        connection = open_history(str(path))
        connection.execute("PRAGMA synchronous = OFF")
        for number in range(1, ROOMS + 1):
            connection.execute("INSERT INTO rooms VALUES (?, ?, 0)", (number, f"room{number}"))
        for number in range(1, ROOMS + 1):
            for first in range(1, messages // ROOMS + 1, 10_000):
                connection.execute("BEGIN")
                insert_messages(
                    connection,
                    [
                        value
                        for seq in range(first, min(first + 10_000, messages // ROOMS + 1))
                        for value in (
                            place_of(number, seq),
                            FIRST_MS + seq,
                            "ann",
                            f"said {seq} w{seq % 997}",
                            "",
                            0,
                        )
                    ],
                )
                connection.execute("COMMIT")
        connection.execute("UPDATE about SET ids_ms = (SELECT max(time_ms) FROM messages)")
        connection.close()


def ask(client: Framed, question: History | Search | Join) -> list[Chat]:
    before = len(client.of(Chat))
    client.send(question)
    client.until(End)
    return client.of(Chat)[before:]


def visited_bytes(path: Path, messages: int) -> int:
    """The memory of a server whose rooms were joined, scrolled back in and searched."""
    newest = messages // ROOMS
    with Server("--history", str(path), "--max-history-reads-per-s", "0") as server:
        for number in range(1, ROOMS + 1):
            room = f"room{number}"
            client = server.connect()
            chats = ask(client, Join(f"visitor{number}", room, 0, 0, 100))
            assert [chat.seq for chat in chats] == list(range(newest - 99, newest + 1))
            for before in range(newest, 200, -newest // 50):
                chats = ask(client, History(room, before, 100))
                assert [chat.seq for chat in chats] == list(range(before - 100, before))
            for word in range(20):
                chats = ask(client, Search(room, f"W{word}", 50))
                assert [chat.seq for chat in chats][-1] % 997 == word
                assert len(chats) == min(50, newest // 997 + (newest % 997 >= word and word > 0))
            client.send(Say(1, room, "hello"))
            assert client.until(Ack).seq == newest + 1
            client.close()
        return server.rss_bytes()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_history(tmp_path: Path) -> None:
    sizes_bytes = []
    for messages in (10_000, 1_000_000):
        path = tmp_path / f"{messages}.sqlite"
        make(path, messages)
        sizes_bytes.append(visited_bytes(path, messages))
    few_bytes, many_bytes = sizes_bytes
    print(f"{few_bytes / 2**20:.0f} MiB, and {many_bytes / 2**20:.0f} MiB with a million messages")
    assert many_bytes - few_bytes < CACHES_BYTES

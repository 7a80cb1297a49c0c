"""Who reads slowly misses nothing that the file keeps, though the server remembers little of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.crowd import Crowd
from faults.history_people import Lines
from faults.talk import Talk, assert_whole
from forms import Form, form_named
from live import Framed, Server, unix_socket

from chatproto.wire.messages import Chat, End, Join

ROOMS = ("lobby", "other")

REMEMBERED = 20
"""Messages that the server has in memory, of each room."""

GOES_BY_BYTES = 3_000_000
"""Much more than the kernel and the send queue hold."""


class Place:
    """A server with a history in a file, which is reached over a Unix socket too."""

    def __init__(self, folder: Path) -> None:
        self.socket_path = folder / "socket"
        listen = ("--listen", "tcp:0:interface=127.0.0.1", "--listen", f"unix:{self.socket_path}")
        memory = ("--max-room-log-messages", str(REMEMBERED), "--max-queued-bytes", "65536")
        self.server = Server("--history", str(folder / "chat.sqlite"), *listen, *memory)

    def call(self, kind: str, form: Form) -> Framed:
        """A client that has said nothing yet."""
        return Framed(self.server.port if kind == "tcp" else unix_socket(self.socket_path), form)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    with place.server:
        yield place


def chats_of(client: Framed, room: str) -> list[Chat]:
    return [chat for chat in client.of(Chat) if chat.room == room]


@pytest.mark.parametrize(
    ("kind", "form"),
    [("tcp", "frames"), ("unix", "frames"), ("unix", "bin"), ("unix", "json")],
)
def test_they_get_all_of_it_in_order_and_go_on_live(place: Place, kind: str, form: str) -> None:
    with Crowd(place.server.port) as crowd:
        talk = Talk(crowd, ROOMS, text_bytes=3_000)
        slow = place.call(kind, form_named(form))
        for room in ROOMS:
            slow.send(Join("slow", room))
            slow.until(End)
        talk.go_by(GOES_BY_BYTES if kind == "unix" else 3 * GOES_BY_BYTES)

        def has_all() -> bool:
            return all(len(chats_of(slow, room)) >= talk.newest[room] for room in ROOMS)

        slow.gather(has_all, "all that was said")
        talk.go_by(len(ROOMS) * talk.text_bytes)
        slow.gather(has_all, "what is said from now on")
    for room in ROOMS:
        lags = assert_whole(slow.received, room)
        seqs = [chat.seq for chat in chats_of(slow, room)]
        assert seqs == list(range(1, talk.newest[room] + 1)), "nothing is missing, not even announced"
        assert lags, "they were fast enough"
        assert lags[0].last - lags[0].first > 2 * REMEMBERED, "it was still in memory"


def test_so_does_someone_with_nc(place: Place) -> None:
    lines = Lines()
    with Crowd(place.server.port) as crowd:
        talk = Talk(crowd, text_bytes=3_000)
        slow = place.call("unix", lines)
        slow.send(Join("slow"))
        slow.gather(lambda: any("in lobby" in line for line in lines.other), "the roster")
        talk.go_by(GOES_BY_BYTES)
        slow.gather(lambda: len(slow.of(Chat)) >= GOES_BY_BYTES // talk.text_bytes, "all that was said")
    texts = [chat.text for chat in slow.of(Chat)]
    whole = place.server.join("whole", limit=65_535)
    assert texts == [chat.text for chat in whole.of(Chat)]
    assert any("too slowly" in line for line in lines.other), "they were fast enough"

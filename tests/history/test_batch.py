"""What the writer makes of a batch of messages: outcomes in their order, and rows in that of the file."""

from __future__ import annotations

import gc
import sys

from chatproto.history.batch import Numbers, Said, give_numbers, recognise
from chatproto.history.file import MOST_SEQ, place_of
from chatproto.rooms.log import NotStored, Receipt
from chatproto.wire.messages import Chat

WIDTH = 6


def said(room: str, text: str, id: int = 0, nick: str = "ann", time_ms: int = 1_000) -> Said:
    return Said(room, nick, nick.lower(), id, text, 1, time_ms, None, 400)


class Rooms:
    """Rooms with numbers and what was said there, and which of them were asked for."""

    def __init__(self, **known: tuple[int, int]) -> None:
        self.known = known
        self.asked: list[str] = []
        self.found: dict[str, Numbers] = {}
        self.fresh: dict[tuple[str, int], Receipt] = {}

    def find(self, room: str) -> Numbers:
        self.asked.append(room)
        return Numbers(*self.known.get(room, (0, 0)), 0)

    def give(self, *batch: Said, known: dict[tuple[str, int], Receipt] | None = None) -> list[object]:
        outcomes, self.values = give_numbers(list(batch), known or {}, self.fresh, self.found, self.find)
        return list(outcomes)


def test_each_message_gets_the_next_number_of_its_room() -> None:
    rooms = Rooms(a=(7, 0), b=(3, 41))
    assert rooms.give(said("a", "1"), said("b", "2"), said("a", "3", nick="Ann")) == [
        Chat("a", 1, 1_000, "ann", "1"),
        Chat("b", 42, 1_000, "ann", "2"),
        Chat("a", 2, 1_000, "Ann", "3"),
    ]
    assert rooms.asked == ["a", "b"]
    assert {name: (its.number, its.newest) for name, its in rooms.found.items()} == {
        "a": (7, 2),
        "b": (3, 42),
    }


def test_rows_ascend_however_rooms_take_turns() -> None:
    rooms = Rooms(a=(7, 0), b=(3, 41))
    rooms.give(said("a", "1", 5), said("b", "2"), said("a", "3", 6, "Ann"))
    assert rooms.values == [
        *(place_of(3, 42), 1_000, "ann", "2", "", 0),
        *(place_of(7, 1), 1_000, "ann", "1", "", 5),
        *(place_of(7, 2), 1_000, "Ann", "3", "ann", 6),
    ]


def test_what_comes_twice_in_a_batch_is_kept_once() -> None:
    rooms = Rooms(a=(1, 0))
    receipt = Receipt(1, 1_000)
    assert rooms.give(said("a", "1", 5), said("a", "1", 5))[1] == receipt
    assert rooms.fresh == {("ann", 5): receipt}
    assert len(rooms.values) == WIDTH


def test_what_is_known_needs_no_room() -> None:
    rooms = Rooms()
    receipt = Receipt(9, 500)
    assert rooms.give(said("a", "1", 5), known={("ann", 5): receipt}) == [receipt]
    assert (rooms.asked, rooms.found, rooms.values) == ([], {}, [])


def test_where_no_number_is_left_a_message_is_refused_and_the_others_are_not() -> None:
    rooms = Rooms(full=(1, MOST_SEQ), a=(2, 0))
    refused, kept, homeless = rooms.give(said("full", "1"), said("a", "2"), said("one more room", "3"))
    assert isinstance(refused, NotStored)
    assert kept == Chat("a", 1, 1_000, "ann", "2")
    assert isinstance(homeless, NotStored)
    assert len(rooms.values) == WIDTH
    assert "one more room" not in rooms.found


def test_ids_are_recognised_for_as_long_as_they_are_to_be() -> None:
    newest = {("ann", 5): Receipt(1, 900), ("ann", 6): Receipt(2, 899)}
    known, asked = recognise([said("a", "", id) for id in (5, 6, 7, 0)], newest, {}, 100)
    assert known == {("ann", 5): Receipt(1, 900)}
    assert asked == [("ann", 7)]


def test_ids_that_are_free_are_not_asked_about() -> None:
    _, asked = recognise([said("a", "", id) for id in (6, 7, 8, 9)], {}, {"ann": (7, 9)}, 100)
    assert asked == [("ann", 6), ("ann", 9)]


def test_what_is_kept_in_memory_is_nothing_for_the_garbage_collector() -> None:
    """Each time that it looks at everything, nobody hears anything, and messages are most of everything."""
    rooms = Rooms(a=(1, 0))
    waiting = said("a", "1", 5)
    [chat] = rooms.give(waiting)
    assert (chat, waiting.receipt) == (Chat("a", 1, 1_000, "ann", "1"), Receipt(1, 1_000))
    assert not any(map(gc.is_tracked, (chat, waiting.receipt, *rooms.fresh.values(), waiting)))


def test_nothing_of_a_batch_is_kept_longer_than_what_came_of_it() -> None:
    room, nick, text, answer = "a room", "Some One", "some text", object()
    before = [sys.getrefcount(held) for held in (room, nick, text, answer)]
    rooms = Rooms(**{room: (1, 0)})
    batch = [Said(room, nick, nick, id, text, 1, 1_000, answer, 400) for id in (0, 5, 5)]
    outcomes = rooms.give(*batch)
    assert [waiting.receipt for waiting in batch] == [Receipt(1, 1_000), Receipt(2, 1_000), None]
    del rooms, batch, outcomes
    assert [sys.getrefcount(held) for held in (room, nick, text, answer)] == before

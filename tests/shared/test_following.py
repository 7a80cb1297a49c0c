"""What comes from shared rooms while a server asks the store what it has of them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from shared.store import PumpedSharedLog, Store, needs_store
from twisted.internet.epollreactor import EPollReactor

from chatproto.rooms.log import REMOVED
from chatproto.shared import following
from chatproto.shared import log as shared_log
from chatproto.shared.peoplescripts import people_key
from chatproto.shared.resp import Reply, Then
from chatproto.wire.messages import Chat

pytestmark = [pytest.mark.system, needs_store]


@pytest.fixture
def log(store: Store) -> Iterator[PumpedSharedLog]:
    """A log that is connected."""
    log = PumpedSharedLog(f"redis+unix://{store.path}")
    log.until(lambda: log.epoch, "no epoch")
    yield log
    log.close_now()


def followed_by(log: PumpedSharedLog) -> following.Following:
    """The rooms of *log*."""
    assert isinstance(log.store.rooms, following.Following)
    return log.store.rooms


class Roster:
    """Takes who is in a room, as the store has it."""

    def __init__(self) -> None:
        self.looks: list[list[bytes]] = []

    def looked_at(self, room: str, changes: int, found: list[bytes]) -> None:
        self.looks.append(found)

    def heard(self, room: str, content: bytes) -> None:
        """Nothing comes that way in these tests."""

    heard_by_all = heard_here = forgotten = connected = heard


def test_who_is_there_is_asked_for_anew_where_it_is_wanted_while_only_messages_are_asked_for(
    log: PumpedSharedLog, store: Store
) -> None:
    roster = Roster()
    log.store.people = roster  # type: ignore[assignment]
    store.ask("HSET", people_key("a").decode(), "other.1", "ann")
    log.known("a")
    log.look_at_people("a")
    log.until(lambda: len(roster.looks) == 2, "not looked again")
    rooms = followed_by(log)
    rooms.look(rooms.room("a"))  # as where a message is missing
    log.look_at_people("a")
    log.until(lambda: len(roster.looks) == 3, "not told anew")
    assert roster.looks == [[b"other.1", b"ann"]] * 3


def test_what_is_said_and_removed_while_a_room_is_prepared_is_not_shown_there(
    log: PumpedSharedLog, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = PumpedSharedLog(f"redis+unix://{store.path}", reactor=log.reactor)
    other.until(lambda: other.epoch, "no epoch")
    late: list[tuple[Then, Reply]] = []
    heard: list[bytes] = []
    run, hear = other.store.run, other.store.rooms.heard

    def run_late(then: Then, *words: Any) -> None:
        run(lambda reply: late.append((then, reply)), *words)

    def note(channel: bytes, kind: bytes, content: bytes) -> None:
        hear(channel, kind, content)
        heard.append(kind)

    monkeypatch.setattr(other.store.rooms, "heard", note)
    with monkeypatch.context() as slow:
        slow.setattr(other.store, "run", run_late)
        preparing = other.prepare("a")
        assert preparing is not None
        other.until(lambda: late, "not asked")
        log.say("a", "nasty")
        assert log.wait(log.remove("a", 1))
        other.until(lambda: heard == [b"m", b"r"], "not heard")
    for then, reply in late:
        then(reply)
    other.wait(preparing)
    assert other.texts("a") == [(1, REMOVED)]
    other.close_now()


def test_what_was_removed_before_its_turn_does_not_come_back_by_the_other_way(log: PumpedSharedLog) -> None:
    log.known("a")
    rooms = followed_by(log)
    room = rooms.room("a")
    first, second = (Chat("a", n, 1_000, "ann", f"text {n}") for n in (1, 2))
    rooms.was_placed(room, second, b"other.1.2", 1)
    rooms.was_removed(room, 2)
    rooms.was_placed(room, second, b"other.1.2", 1)
    rooms.was_placed(room, first, b"other.1.1", 1)
    assert log.read("a", 1, 2, 1_000) == [first, Chat("a", 2, 1_000, "ann", REMOVED)]


def test_a_log_that_was_closed_while_the_store_did_not_answer_asks_it_nothing_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_log, "ANSWER_TIMEOUT_S", 0.1)
    monkeypatch.setattr(following, "LOOK_AGAIN_S", 0.01)
    reactor = EPollReactor()
    with Store() as store:
        log = PumpedSharedLog(f"redis+unix://{store.path}", reactor=reactor)
        log.until(lambda: log.epoch, "no epoch")
        log.known("a")
        store.process.send_signal(signal.SIGSTOP)
        log.look_at_people("a")
        log.close_now()
        log.for_s(0.1)
        asked: list[object] = []
        monkeypatch.setattr(log.store, "run", lambda *words: asked.append(words))
        log.for_s(0.1)
        assert asked == []

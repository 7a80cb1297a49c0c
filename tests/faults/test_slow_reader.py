"""Someone who reads slowly, or not at all, hurts nobody but themselves, and not even them for long.

Memory is the server's resident set, in which what the kernel's socket buffers hold does not count.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.crowd import Crowd, fresh_ids
from faults.places import WAYS, Place
from faults.talk import Talk, assert_whole
from faults.watching import WatchedServer, assert_log_is_clean, assert_well, quiet_descriptors
from live import Framed, eventually

from chatproto.limits import Limits
from chatproto.wire.chat import encode_frame
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Ack, Chat, End, Error, History, Lagged, Leave, Roster, Say

MB = 1_000_000
FILL_BYTES = 6 * MB
"""More than the kernel and the send queue hold together: who does not read it lags."""

SLACK_BYTES = 3 * MB
"""For what else moves in a process: the allocator's arenas, the pieces that transports hold."""

FEW_RECEIPTS = ("--max-remembered-ids", "1000")
"""What is remembered of ids grows while people talk, whoever reads; here it is full soon."""

LONG_MEMORY = ("--max-room-log-bytes", "64000000", "--max-room-log-messages", "20000")
"""So that nothing goes by that is not kept. What `lagged` has promised must not fall out of the log, or the
connection is closed, and when a busy kernel lets `lagged` through is not for a test to say."""


@pytest.fixture(scope="module")
def quiet_place() -> Iterator[tuple[Place, int]]:
    """A server for most of what is here, and its open descriptors while nobody is connected."""
    with Place(*FEW_RECEIPTS, *LONG_MEMORY) as running:
        yield running, quiet_descriptors(running.server)


@pytest.fixture
def place(quiet_place: tuple[Place, int]) -> Iterator[Place]:
    """A server that nobody is connected to, neither before nor after."""
    running, descriptors = quiet_place
    yield from running.in_use(descriptors)


def assert_catches_up(place: Place, slow: Framed, talk: Talk) -> None:
    """Who begins to read is told that they lag, gets all that is kept, in order, and goes on live."""
    asker = place.join("asker", talk.rooms)
    oldest = {}
    for room in talk.rooms:
        asker.send(History(room, 0, 65_535))
        oldest[room] = asker.until(End).first
    asker.close()

    told_before = Counter(lag.room for lag in slow.of(Lagged))

    def came(room: str) -> list[int]:
        return [chat.seq for chat in slow.of(Chat) if chat.room == room]

    def has_all() -> bool:
        return all(came(room)[-1:] == [talk.newest[room]] for room in talk.rooms)

    slow.gather(has_all, "everything up to the newest message")
    for room in talk.rooms:
        lags = assert_whole(slow.received, room)
        assert len(lags) > told_before[room]
        assert all(lag.last <= talk.newest[room] for lag in lags)
        # No gap, announced or not, has anything in it that is kept.
        assert set(came(room)) >= set(range(max(oldest[room], came(room)[0]), talk.newest[room] + 1))
    n_lags = len(slow.of(Lagged))
    talk.go_by(len(talk.rooms) * talk.text_bytes)
    slow.gather(has_all, "what is said from now on")
    assert len(slow.of(Lagged)) == n_lags


@pytest.mark.parametrize("goes_by_mb", [10, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["tcp", "unix", "unix/json"])
def test_memory_grows_by_no_more_than_one_queue_while_someone_never_reads(kind: str, goes_by_mb: int) -> None:
    with Place(*FEW_RECEIPTS) as place, Crowd(place.server.port) as crowd:
        talk = Talk(crowd)
        talk.go_by(12 * MB)  # until the log in memory and the allocator have what they want
        before = most = place.server.rss_bytes()
        slow = place.join("slow", kind=kind)
        for _ in range(goes_by_mb):
            talk.go_by(MB)
            most = max(most, place.server.rss_bytes())
        grown = most - before
        print(f"{goes_by_mb} MB went by: the server's memory grew by {grown / MB:.2f} MB")
        assert place.server.state()["blocked"] == 1
        assert grown <= Limits().max_queued_bytes + SLACK_BYTES
        if kind.startswith("unix"):
            # The kernel's buffers are fixed, so that nothing got through meanwhile.
            assert_catches_up(place, slow, talk)
            (lag,) = slow.of(Lagged)
            before_it = [
                each.seq for each in slow.received[: slow.received.index(lag)] if isinstance(each, Chat)
            ]
            assert lag.first > before_it[-1] + 1, "most of it is not kept any more, and the gap is seen"
        assert_log_is_clean(place.server)


@pytest.mark.parametrize("kind", WAYS)
def test_who_reads_again_is_told_what_they_missed_and_gets_it(place: Place, kind: str) -> None:
    with Crowd(place.server.port) as crowd:
        talk = Talk(crowd)
        slow = place.join("slow", kind=kind)
        talk.go_by(FILL_BYTES)
        assert_catches_up(place, slow, talk)
        # And a second time, on the same connection.
        talk.go_by(2 * FILL_BYTES)
        assert_catches_up(place, slow, talk)


@pytest.mark.parametrize("kind", ["unix", "unix/bin"])
def test_who_lags_in_several_rooms_is_told_so_once_in_each(place: Place, kind: str) -> None:
    with Crowd(place.server.port) as crowd:
        talk = Talk(crowd, ("one", "two", "three"))
        slow = place.join("slow", talk.rooms, kind=kind)
        talk.go_by(FILL_BYTES)
        assert_catches_up(place, slow, talk)
        assert sorted(lag.room for lag in slow.of(Lagged)) == sorted(talk.rooms)


@pytest.mark.parametrize("kind", WAYS)
def test_who_talks_without_reading_never_gets_their_own_words_back(place: Place, kind: str) -> None:
    says = 40
    with Crowd(place.server.port) as crowd:
        talk = Talk(crowd)
        slow = place.join("slow", kind=kind)
        # All along: while everything goes out at once, while it waits in the queue, and while they lag. What
        # they say while too much waits for them is taken up later.
        ids = [next(fresh_ids) for _ in range(says)]
        for id in ids:
            talk.go_by(FILL_BYTES // says)
            slow.send(Say(id, "", f"own {id}"))
        slow.gather(lambda: len(slow.of(Ack)) == says, "all the acks")
        assert [ack.id for ack in slow.of(Ack)] == ids
        crowd.run_until(lambda: talk.newest["lobby"] >= slow.of(Ack)[-1].seq, "others have all of it")
        talk.go_by()
        slow.gather(lambda: slow.of(Chat)[-1].seq == talk.newest["lobby"], "the newest message")
        assert "slow" not in {chat.nick for chat in slow.of(Chat)}
        assert assert_whole(slow.received, "lobby", own={ack.seq for ack in slow.of(Ack)})


@pytest.mark.slow
def test_memory_is_bounded_for_who_lags_and_talks_on_without_wanting_acks(place: Place) -> None:
    with Crowd(place.server.port) as crowd:
        talk = Talk(crowd, listeners=1)
        slow = place.join("slow")
        talk.go_by(FILL_BYTES)
        burst = encode_frame(Say(0, "", "x")) * 50_000
        before = 0
        for number in range(5):
            due = talk.newest["lobby"] + 50_000
            threading.Thread(target=slow.socket.sendall, args=(burst,)).start()
            crowd.run_until(lambda: talk.newest["lobby"] == due, "all that the slow one says")  # noqa: B023
            if number == 1:
                before = place.server.rss_bytes()  # the log and all else is full
        grown = place.server.rss_bytes() - before
        print(f"150,000 messages of a talker who lags: {grown / MB:.2f} MB")
        assert place.server.state()["blocked"] == 1
        assert grown <= Limits().max_queued_bytes + SLACK_BYTES


class SteadyReader(threading.Thread):
    """Reads so many bytes each so many seconds, until it has the message that is said last.

    With *talks* it says something now and then; `said` is how often.
    """

    def __init__(self, client: Framed, *, n_bytes: int, every_s: float, talks: bool = False) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.newest = 0
        self.stop_at = 0
        self.said = 0
        self.talks = talks
        self._n_bytes, self._every_s = n_bytes, every_s
        self.start()

    def run(self) -> None:
        while not (self.client.at_end or 0 < self.stop_at <= self.newest):
            came = len(self.client.received)
            self.client.receive(self._n_bytes)
            for message in self.client.received[came:]:
                if isinstance(message, Chat):
                    self.newest = message.seq
            if self.talks:
                self.said += 1
                self.client.send(Say(next(fresh_ids), "", "own"))
            time.sleep(self._every_s)


def test_who_reads_slowly_but_steadily_misses_nothing_unannounced() -> None:
    options = ("--max-queued-bytes", "65536", "--max-room-log-bytes", "16000000", *FEW_RECEIPTS)
    with Place(*options) as place, Crowd(place.server.port) as crowd:
        talk = Talk(crowd)
        readers = {
            kind: SteadyReader(
                place.join(kind.replace("/", "-"), kind=kind, receive_buffer_bytes=16_384),
                n_bytes=10_000,
                every_s=0.01,
                talks=True,
            )
            for kind in WAYS
        }
        for _ in range(50):
            talk.go_by(MB // 10)
            crowd.run_for(0.02)
        for reader in readers.values():
            reader.talks = False
        crowd.run_until(
            lambda: all(len(reader.client.of(Ack)) == reader.said for reader in readers.values()),
            "all that they said is acknowledged",
        )
        for reader in readers.values():
            reader.stop_at = talk.newest["lobby"] + 1
        talk.go_by()
        for kind, reader in readers.items():
            reader.join(60)
            assert reader.newest == talk.newest["lobby"], f"{kind}: {reader.client.received[-1:]}"
            own = [ack.seq for ack in reader.client.of(Ack)]
            lags = assert_whole(reader.client.received, "lobby", own)
            print(f"{kind}: lagged {len(lags)} times, and said {len(own)} things meanwhile")
            if kind.startswith("unix"):  # whose kernel buffers are smaller than what goes by
                assert lags
            # Nothing fell out of the log, so that nothing at all is missing, nor doubled.
            seqs = [chat.seq for chat in reader.client.of(Chat)]
            (roster,) = reader.client.of(Roster)
            assert sorted(seqs + own) == list(range(roster.last + 1, talk.newest["lobby"] + 1))
            assert not reader.client.of(Error)
        assert_well(place.server)


def test_who_makes_any_progress_is_not_closed() -> None:
    """The kernel tells the server of progress long before there is room to write again.

    On a busy machine these readers themselves make none for a second or two: the limit is well above that.
    """
    with Place("--lag-timeout-s", "5", *FEW_RECEIPTS) as place, Crowd(place.server.port) as crowd:
        talk = Talk(crowd)
        readers = [
            SteadyReader(
                place.join(kind.replace("/", "-"), kind=kind, receive_buffer_bytes=65_536),
                n_bytes=3_000,
                every_s=0.01,
            )
            for kind in WAYS
        ]
        for _ in range(10):  # they read meanwhile: where everything takes long, once may not be enough
            talk.go_by(FILL_BYTES)
            blocked = place.server.state()["blocked"]
            if blocked == len(WAYS):
                break
        assert blocked == len(WAYS)
        crowd.run_for(11)
        for kind, reader in zip(WAYS, readers, strict=True):
            assert not reader.client.at_end, f"{kind} was closed"
            reader.stop_at = 1
        assert not any(talk.lefts.values())


def test_who_takes_nothing_for_too_long_is_closed_and_the_others_are_told_once() -> None:
    with Place("--lag-timeout-s", "1", *FEW_RECEIPTS) as place, Crowd(place.server.port) as crowd:
        talk = Talk(crowd)
        slow_ones = {kind: place.join(kind.replace("/", "-"), kind=kind) for kind in WAYS}
        talk.go_by(FILL_BYTES)
        crowd.run_until(
            lambda: all(len(lefts) == len(WAYS) for lefts in talk.lefts.values()), "the others are told"
        )
        # The others are told first; the last words wait for the slow one a little longer.
        for slow in slow_ones.values():
            slow.until_closed()
            slow.close()
            assert [error.code for error in slow.of(Error)] == [ErrorCode.TOO_SLOW]
            assert isinstance(slow.received[-1], Error)
        crowd.run_for(0.5)
        for lefts in talk.lefts.values():
            assert sorted((left.nick, left.reason) for left in lefts) == [
                (kind.replace("/", "-"), "too slow") for kind in sorted(WAYS)
            ]
        eventually(lambda: place.server.state()["connections"] == 5, "the connections are gone")
        assert_well(place.server)


def test_who_does_not_take_part_in_closing_is_let_go_all_the_same() -> None:
    """In TLS both sides say that they close; one that never does must not keep the connection."""
    with Place("--close-timeout-s", "0.5") as place:
        before = quiet_descriptors(place.server)
        clients = [place.join(kind.replace("/", "-"), kind=kind) for kind in WAYS]
        assert place.server.descriptors() == before + len(WAYS)
        for client in clients:
            client.send(Leave(""))
            client.until_closed()
        eventually(lambda: place.server.descriptors() == before, "the connections are gone")
        assert_well(place.server)


READ_ON = """
import sys
from live import Framed
from chatproto.wire.messages import End, Join
client = Framed(int(sys.argv[1]))
client.send(Join("stopped"))
client.until(End)
print("in", flush=True)
print(*(type(message).__name__ for message in client.until_closed()[-1:]))
"""


def test_who_is_suspended_is_closed_as_who_does_not_read() -> None:
    options = ("--lag-timeout-s", "1", "--close-timeout-s", "0.5", *FEW_RECEIPTS)
    with WatchedServer(*options) as server, Crowd(server.port) as crowd:
        talk = Talk(crowd)
        path = str(Path(__file__).parents[1])
        suspended = subprocess.Popen(
            [sys.executable, "-c", READ_ON, str(server.port)],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert suspended.stdout is not None
            assert suspended.stdout.readline() == "in\n"
            suspended.send_signal(signal.SIGSTOP)
            talk.go_by(FILL_BYTES)
            crowd.run_until(lambda: all(talk.lefts.values()), "the others are told")
            eventually(lambda: server.state()["connections"] == 5, "the connection is gone")
            suspended.send_signal(signal.SIGCONT)
            assert suspended.wait(30) == 0
            crowd.run_for(0.5)
            for lefts in talk.lefts.values():
                assert [(left.nick, left.reason) for left in lefts] == [("stopped", "too slow")]
        finally:
            suspended.kill()
            suspended.wait()
        assert_well(server)


def _p99_ms(delays_s: list[float]) -> float:
    return statistics.quantiles(delays_s, n=100)[98] * 1_000


def test_the_others_get_everything_as_promptly_as_without_the_slow_one(place: Place) -> None:
    """Windows with and without the slow one take turns, so that whatever else the machine does hits both."""
    p99_ms: dict[bool, list[float]] = {True: [], False: []}
    with Crowd(place.server.port) as crowd:
        talk = Talk(crowd)
        for _ in range(5):
            for is_there in (True, False):
                if is_there:
                    slow = place.join("slow", kind="unix")
                else:
                    slow.close()
                    eventually(lambda: place.server.state()["connections"] == 5, "the slow one is gone")
                talk.text_bytes, talk.window = 4_000, 8
                talk.go_by(3 * MB)
                assert place.server.state()["blocked"] == is_there
                talk.text_bytes, talk.window = 500, 1
                talk.delays_s.clear()
                talk.go_by(200 * talk.text_bytes)
                p99_ms[is_there].append(statistics.quantiles(talk.delays_s, n=100)[98] * 1_000)
                assert place.server.state()["blocked"] == is_there
    middle_ms = {is_there: statistics.median(each) for is_there, each in p99_ms.items()}
    print(
        f"p99 of delivery: {middle_ms[True]:.2f} ms with a reader that stopped, else {middle_ms[False]:.2f}"
    )
    print({is_there: [round(each, 2) for each in windows] for is_there, windows in p99_ms.items()})
    assert middle_ms[True] <= 5 * middle_ms[False]

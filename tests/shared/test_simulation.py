"""A hundred servers on one simulated store: what all see, in whatever order things arrive."""

from __future__ import annotations

from random import Random

import pytest
from shared.simulated import SimulatedRedis, SimulatedStore
from twisted.internet.task import Clock

from chatproto.limits import Limits
from chatproto.rooms.hub import Hub
from chatproto.shared.log import SharedLog
from chatproto.shared.people import SharedPeople
from chatproto.shared.scripts import stream_key
from chatproto.testing import ChatInMemory, Person
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Ack, Chat, End, Error, Joined, Left, Roster

LEASE_S = 2.0

LIMITS = Limits(max_messages_per_s=0.0, max_history_reads_per_s=0.0)


class SimulatedServer(ChatInMemory):
    """A hub on a store, without anything around it."""

    def __init__(self, clock: Clock, redis: SimulatedRedis) -> None:
        self.clock = clock
        self.store = SimulatedStore(redis)
        self.log = SharedLog(self.store, clock, LIMITS)
        self.people = SharedPeople(self.store, self.log, clock, LEASE_S)
        self.hub = Hub(clock, self.log, LIMITS, elsewhere=self.people, wall_clock=clock.seconds)
        self.people.start(self.hub)
        self.log.open()


class Simulation:
    """So many servers, and time."""

    def __init__(self, n_servers: int, seed: int) -> None:
        self.clock = Clock()
        self.clock.advance(1_000)
        self.random = Random(seed)
        self.redis = SimulatedRedis(self.clock, seed)
        self.servers = [SimulatedServer(self.clock, self.redis) for _ in range(n_servers)]
        self.pass_time(0.2)

    def pass_time(self, seconds: float, step_s: float = 0.01) -> None:
        """Let happen what is due."""
        for _ in range(max(1, round(seconds / step_s))):
            self.clock.advance(step_s)

    def heard(self, person: Person, room: str) -> list[tuple[int, str]]:
        """What a person got of a room."""
        return [(chat.seq, chat.text) for chat in person.got(Chat) if chat.room == room]

    def kept(self, room: str) -> list[str]:
        """What the store has of it."""
        entries = self.redis.streams[stream_key(room)]
        return [body.split(b"\n", 2)[2].decode() for _, body in entries]


def check(simulation: Simulation, people: list[tuple[Person, str]], said: dict[str, set[str]]) -> None:
    """All have what others said in their room since they came, once and in the room's order."""
    for person, room in people:
        kept = list(enumerate(simulation.kept(room), 1))
        first = person.got(Roster)[0].last + 1
        nick = person.session.nick_text
        assert simulation.heard(person, room) == [
            (seq, text) for seq, text in kept if seq >= first and not text.startswith(f"{nick} ")
        ]
        acked = {ack.id: ack.seq for ack in person.got(Ack)}
        assert acked == {int(text.split()[1]): seq for seq, text in kept if text.startswith(f"{nick} ")}
    for room, texts in said.items():
        kept_texts = simulation.kept(room)
        assert len(set(kept_texts)) == len(kept_texts)
        assert set(kept_texts) <= texts


def check_rosters(simulation: Simulation, people: list[tuple[Person, str]]) -> None:
    for person, room in people:
        there = sorted(other.session.nick_text for other, where in people if where == room)
        person.forget()
        person.who(room)
        assert sorted(person.got(Roster)[0].nicks) == there


@pytest.mark.parametrize("seed", range(3))
def test_a_hundred_servers_have_one_order_and_one_roster(seed: int) -> None:
    simulation = Simulation(100, seed)
    rooms = [f"r{n}" for n in range(10)]
    people: list[tuple[Person, str]] = []
    for n, server in enumerate(simulation.servers):
        for k in range(2):
            room = rooms[(n + 3 * k) % len(rooms)]
            people.append((server.join(f"p{n}x{k}", room), room))
        simulation.pass_time(0.01)
    simulation.pass_time(0.3)
    assert all(person.got(End) for person, _ in people)
    said: dict[str, set[str]] = {room: set() for room in rooms}
    for id in range(1, 401):
        person, room = simulation.random.choice(people)
        text = f"{person.session.nick_text} {id}"
        said[room].add(text)
        person.say(text, room, id)
        simulation.pass_time(simulation.random.choice((0, 0, 0.01)), 0.001)
    simulation.pass_time(0.5)
    assert sum(map(len, said.values())) == sum(len(simulation.kept(room)) for room in rooms)
    check(simulation, people, said)
    check_rosters(simulation, people)


@pytest.mark.parametrize("seed", range(20))
def test_connections_that_are_lost_at_any_moment_lose_and_double_nothing(seed: int) -> None:
    simulation = Simulation(8, seed)
    people = [(server.join(f"p{n}", "lobby"), "lobby") for n, server in enumerate(simulation.servers)]
    simulation.pass_time(0.5)
    said: dict[str, set[str]] = {"lobby": set()}
    for id in range(1, 301):
        person, room = simulation.random.choice(people)
        text = f"{person.session.nick_text} {id}"
        said[room].add(text)
        person.say(text, room, id)
        if simulation.random.random() < 0.1:
            simulation.random.choice(simulation.servers).store.cut()
        if simulation.random.random() < 0.3:
            store = simulation.random.choice(simulation.servers).store
            store.cut()
            store.mend()
        simulation.pass_time(simulation.random.choice((0.001, 0.005, 0.03)), 0.001)
    for server in simulation.servers:
        if not server.store.is_open:
            server.store.mend()
    simulation.pass_time(2)
    for person, _ in people:
        nick = person.session.nick_text
        answered = [ack.id for ack in person.got(Ack)] + [error.id for error in person.got(Error)]
        assert sorted(answered) == sorted(
            int(t.split()[1]) for t in said["lobby"] if t.startswith(f"{nick} ")
        )
    check(simulation, people, said)
    check_rosters(simulation, people)


def test_people_of_a_server_that_was_cut_off_are_gone_and_back_once_each() -> None:
    simulation = Simulation(5, 1)
    one, other, *_ = simulation.servers
    watcher = one.join("watcher", "lobby")
    lost = other.join("lost", "lobby")
    simulation.pass_time(0.5)
    watcher.forget()
    other.store.cut()
    simulation.pass_time(2 * LEASE_S)
    assert watcher.got(Left) == [Left("lobby", "lost", "closed")]
    other.store.mend()
    simulation.pass_time(LEASE_S)
    assert watcher.got(Left) == [Left("lobby", "lost", "closed")]
    assert watcher.got(Joined) == [Joined("lobby", "lost")]
    watcher.say("hi", "lobby", 1)
    simulation.pass_time(0.5)
    assert lost.chats == [("watcher", "hi")]


def test_who_lost_the_nickname_meanwhile_is_put_out() -> None:
    simulation = Simulation(3, 1)
    one, other, _ = simulation.servers
    first = other.join("wanted", "lobby")
    simulation.pass_time(0.5)
    other.store.cut()
    simulation.pass_time(2 * LEASE_S)
    second = one.join("wanted", "lobby")
    simulation.pass_time(0.5)
    assert second.got(End)
    other.store.mend()
    simulation.pass_time(LEASE_S)
    assert first.session.ended
    assert not second.session.ended


@pytest.mark.parametrize("seed", range(10))
def test_rosters_are_right_when_all_were_away_for_longer_than_a_lease(seed: int) -> None:
    simulation = Simulation(5, seed)
    people = [(server.join(f"p{n}", "lobby"), "lobby") for n, server in enumerate(simulation.servers)]
    simulation.pass_time(0.5)
    for server in simulation.servers:
        server.store.cut()
    simulation.pass_time(1.5 * LEASE_S)
    for server in simulation.servers:
        simulation.pass_time(simulation.random.choice((0, 0.005, 0.02)), 0.001)
        server.store.mend()
    simulation.pass_time(2 * LEASE_S)
    check_rosters(simulation, people)
    late = simulation.servers[0].join("p4", "lobby")
    simulation.pass_time(0.5)
    assert late.errors == [ErrorCode.NICK_TAKEN]


@pytest.mark.parametrize("seed", range(10))
def test_a_nickname_that_was_given_back_while_the_store_was_away_is_free(seed: int) -> None:
    simulation = Simulation(2, seed)
    one, other = simulation.servers
    first = one.join("wanted", "lobby")
    simulation.pass_time(0.5)
    first.disconnect()
    simulation.pass_time(simulation.random.choice((0, 0.005)), 0.001)
    one.store.cut()
    simulation.pass_time(0.1)
    one.store.mend()
    simulation.pass_time(0.5)
    second = other.join("wanted", "lobby")
    simulation.pass_time(0.5)
    assert second.got(End)

"""A soak: people talk all the time; it is quiet, then everybody hostile comes, then it is quiet again."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from faults.crowd import Caller, Crowd
from faults.soak.attack import BEGIN, END, READY
from faults.soak.figures import AFTER, ATTACK, QUIET, Outcome, Sample
from faults.soak.forms import Proxied, Secured
from faults.soak.guests import PEOPLE_S_ADDRESS
from faults.soak.hostile import Target
from faults.soak.people import LEAVING, Agenda, LinePerson, Person, Way
from faults.soak.record import Conversation
from faults.soak.server import SoakServer
from forms import Form, form_named
from live import eventually
from server.asking import figures
from server.connecting import context

from chatproto.history import __main__ as history
from chatproto.limits import Limits
from chatproto.wire.messages import Ack, End, History, Say, Search

__all__ = ["soak"]

ROOMS = ("lobby", "kitchen", "garden", "tower")

WAYS = ("tcp frames", "tcp bin", "tls json", "tls frames", "proxied bin-deflate", "tcp json")

N_PERSONS = 20
N_LINE_PERSONS = 4
PERIOD_S = 0.5
"""How often each of them speaks."""

CHURN_S = 1.5
"""How often one of those who come and go does so."""

N_FILLED = 20
LONG_CHARS = 4_000
"""In so many rooms somebody fills SQLite's caches, 80 MiB in all, before anything is measured."""

LEAST_AWAY_S, MOST_AWAY_S = 1.0, 3.0

LEAST_QUIET_S = 6.0
SAMPLE_S = 1.0
POLL_S = 0.1
LOOKS = 5


def soak(seconds: float, made: Callable[[], SoakServer] = SoakServer) -> Outcome:
    """Soak a server for so long."""
    seed = int(os.environ.get("CHATPROTO_SEED", random.randrange(2**32)))
    print(f"CHATPROTO_SEED={seed}")
    outcome = Outcome()
    with made() as server:
        _warm_up(server)
        outcome.descriptors_before = _quiet_descriptors(server)
        chance = random.Random(seed)
        with Crowd(server.tcp_port) as crowd, _attacking(server, chance.getrandbits(32)) as attackers:
            _Course(server, crowd, attackers, outcome, chance).run(seconds)
        outcome.attacks = attackers.ends
        outcome.figures_after = _empty(server)
        outcome.descriptors_after = _quiet_descriptors(server)
        outcome.exit_code = server.stop()
        outcome.log = server.log()
        outcome.conversation.check_kept(
            (line["room"], line["seq"], line["nick"], line["text"])
            for line in history.export(str(server.history))
            if "seq" in line
        )
    return outcome


def _warm_up(server: SoakServer) -> None:
    """What is opened once and for all is opened now: files, threads, modules that are imported late."""
    with Crowd(server.tcp_port) as crowd:
        agenda, conversation = Agenda(crowd), Conversation()
        people = [
            Person(conversation, agenda, f"early{number}", ["early"], _way(server, way))
            for number, way in enumerate(WAYS)
        ]
        for person in people:
            person.enter(time.monotonic())
        crowd.run_until(lambda: all(person.is_in for person in people), "everybody is in")
        for person in people:
            person.speak(time.monotonic())
        crowd.run_until(lambda: all(person.is_done for person in people), "everybody has everything")
        for person in people:
            person.leave(Caller.close)
    for number in range(N_FILLED):
        _fill(server, f"full{number}")
    _empty(server)


def _fill(server: SoakServer, room: str) -> None:
    """Say as much as anybody may at once, look back at it and search it: SQLite keeps that in its caches.

    They are bounded, and would else grow for as long as the file does.
    """
    ids = range(1, Limits().message_burst)
    speaker = server.join(f"from-{room}", room)
    speaker.send(*(Say(id, room, f"early {id} ".ljust(LONG_CHARS, "x")) for id in ids))
    speaker.gather(lambda: len(speaker.of(Ack)) == len(ids), "everything is kept")
    speaker.send(Search(room, "early", 10), History(room, 0, len(ids)))
    speaker.gather(lambda: len(speaker.of(End)) == 3, "what was asked for")
    speaker.close()


def _empty(server: SoakServer) -> dict[str, float]:
    """Wait until nobody is connected; what the metrics say then."""

    def is_empty() -> bool:
        found.update(figures(server.status_port))
        return not any(value for name, value in found.items() if name.startswith("chat_connections{"))

    found: dict[str, float] = {}
    eventually(is_empty, "everybody is gone")
    return found


def _quiet_descriptors(server: SoakServer) -> int:
    """How many are open while nobody is connected; who asked for the metrics may be there a moment longer."""
    looks = []
    for _ in range(LOOKS):
        time.sleep(POLL_S)
        looks.append(server.descriptors())
    return min(looks)


def _way(server: SoakServer, way: str) -> Way:
    kind, form = way.split()

    def made() -> tuple[int, Form]:
        if kind == "tls":
            return server.tls_port, Secured(form_named(form), _CONTEXT)
        if kind == "proxied":
            return server.proxied_port, Proxied(form_named(form), PEOPLE_S_ADDRESS)
        return server.tcp_port, form_named(form)

    return made


_CONTEXT = context()


def _scheduled_s(pid: int) -> tuple[float, float]:
    """How long the main thread of a process has run, and how long it was ready to and another did."""
    try:
        ran, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    except FileNotFoundError:  # the attack is over
        return 0.0, 0.0
    return int(ran) / 1e9, int(waited) / 1e9


class _Course:
    """The course of one soak: what people do from its beginning to its end."""

    def __init__(
        self,
        server: SoakServer,
        crowd: Crowd,
        attackers: _Attackers,
        outcome: Outcome,
        chance: random.Random,
    ) -> None:
        self._server = server
        self._attackers = attackers
        self._outcome = outcome
        self._chance = chance
        self._agenda = Agenda(crowd)
        self._goes_on = True
        self._pids = server.process.pid, os.getpid(), attackers.process.pid
        conversation = outcome.conversation
        self._persons = [
            Person(
                conversation,
                self._agenda,
                f"person{number}",
                [ROOMS[number % len(ROOMS)], ROOMS[(number + 1) % len(ROOMS)]],
                _way(server, WAYS[number % len(WAYS)]),
            )
            for number in range(N_PERSONS)
        ]
        self._line_persons = [
            LinePerson(conversation, self._agenda, f"liner{number}", ROOMS[0], server.tcp_port)
            for number in range(N_LINE_PERSONS)
        ]
        self._people: list[Person | LinePerson] = [*self._persons, *self._line_persons]

    def run(self, seconds: float) -> None:
        """Be quiet, attacked and quiet again, for so long in all; then everybody goes."""
        run_until = self._agenda.crowd.run_until
        for person in self._people:
            person.enter(time.monotonic())
        run_until(lambda: all(person.is_in for person in self._people), "everybody is in")
        quiet_s = max(LEAST_QUIET_S, seconds * 0.15)
        begin_s = time.monotonic()
        self._plan(begin_s)
        self._phase(QUIET, begin_s + quiet_s)
        self._attackers.begin()
        self._phase(ATTACK, begin_s + seconds - quiet_s)
        self._attackers.stop(lambda: self._agenda.run_until(time.monotonic() + POLL_S))
        self._phase(AFTER, time.monotonic() + quiet_s)
        self._goes_on = False
        self._agenda.run_until(time.monotonic() + 2 * MOST_AWAY_S)  # who was away comes back
        with suppress(AssertionError):  # that one waited in vain is told for each person
            run_until(lambda: all(person.is_done for person in self._people), "everybody has everything")
        for person in self._people:
            if not person.is_done:
                self._outcome.conversation.fault(person.nick, "something never came")
        self._outcome.conversation.check_whole()
        for liner in self._line_persons:
            liner.check()
        for person in self._people:
            person.leave(Caller.close)

    def _plan(self, begin_s: float) -> None:
        for number, person in enumerate(self._people):
            first_s = begin_s + PERIOD_S * number / len(self._people)
            self._agenda.every(PERIOD_S, first_s, lambda: self._goes_on, person.speak)
        self._agenda.every(CHURN_S, begin_s, lambda: self._goes_on, self._churn)
        self._agenda.every(SAMPLE_S, begin_s, lambda: self._goes_on, self._sample)

    def _churn(self, planned_s: float) -> None:
        """One of those who come and go, half of them, goes and comes back."""
        person = self._chance.choice(self._persons[: N_PERSONS // 2])
        if person.is_in:
            person.leave(self._chance.choice(LEAVING))
            self._agenda.at(planned_s + self._chance.uniform(LEAST_AWAY_S, MOST_AWAY_S), person.enter)

    def _sample(self, _: float) -> None:
        times = [_scheduled_s(pid) for pid in self._pids]
        self._outcome.samples.append(
            Sample(
                time.monotonic(),
                self._server.rss_bytes(),
                self._server.descriptors(),
                tuple(ran_s for ran_s, _ in times),
                tuple(waited_s for _, waited_s in times),
            )
        )

    def _phase(self, name: str, until_s: float) -> None:
        begin_s = time.monotonic()
        self._agenda.run_until(until_s)
        self._outcome.phases[name] = begin_s, time.monotonic()


class _Attackers:
    """The process of those who are hostile, ready to begin. `ends` is how their attacks ended."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.ends: dict[str, dict[str, int]] = {}

    def begin(self) -> None:
        """Attack."""
        self.process.send_signal(BEGIN)

    def stop(self, meanwhile: Callable[[], None]) -> None:
        """Attack no more."""
        self.process.send_signal(END)
        while self.process.poll() is None:
            meanwhile()
        self.ends = json.loads(self.process.communicate()[0])


@contextmanager
def _attacking(server: SoakServer, seed: int) -> Iterator[_Attackers]:
    target = Target(server.tcp_port, server.tls_port, server.proxied_port, ROOMS)
    with subprocess.Popen(
        [sys.executable, "-m", "faults.soak.attack", json.dumps(asdict(target)), str(seed)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == READY
            yield _Attackers(process)
        finally:
            process.kill()

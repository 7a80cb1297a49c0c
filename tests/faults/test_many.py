"""Many people in one room, of whom some vanish while twenty talk: all in frames, and each in another form."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from faults.crowd import Caller, Crowd
from faults.watching import WatchedServer, assert_log_is_clean
from forms import WebSocket, form_named
from live import PATIENCE_S, eventually

from chatproto.wire.messages import Ack, Chat, End, Error, Join, Leave, Left, Message, Say

TALKERS = 20
SAYS = 50
WINDOW = 4
DROPPED = 20
DROPPED_TALKERS = 6


def close_as_a_browser_does(caller: Caller) -> None:
    """With a close frame, where there is such a thing."""
    if isinstance(caller.form, WebSocket):
        caller.form.close(1001)
        caller.send()
    else:
        caller.close()


WAYS = (Caller.close, Caller.reset, Caller.half_close, close_as_a_browser_does)

CROWDS = {
    "frames": ("frames",) * 200,
    "all forms": ("frames", "bin", "json", "plain", "bin-deflate", "json-deflate") * 20,
}
"""What each of the people speaks."""


class Person:
    """Someone in the crowd, perhaps one who talks, perhaps one who will be dropped."""

    def __init__(self, caller: Caller, nick: str) -> None:
        self.caller = caller
        self.nick = nick
        self.said: dict[int, str] = {}
        self.is_dropped = False
        self._drop_at = 0  # after so many messages that came
        self._way = Caller.close
        self._heard = 0
        caller.heard = self._listen

    def will_drop(self, way: Any, after: int) -> None:
        self._way, self._drop_at = way, after

    @property
    def will_stay(self) -> bool:
        return not self._drop_at

    def say_next(self) -> None:
        if len(self.said) < SAYS and not self.is_dropped:
            id = len(self.said) + 1
            self.said[id] = f"{self.nick} says {id}"
            self.caller.send(Say(id, "", self.said[id]))

    def acknowledged(self) -> dict[int, tuple[str, str]]:
        """What they said and what was acknowledged, by its place in the room."""
        return {ack.seq: (self.nick, self.said[ack.id]) for ack in self.caller.of(Ack)}

    def seen(self) -> dict[int, tuple[str, str]]:
        """What they got from others."""
        return {chat.seq: (chat.nick, chat.text) for chat in self.caller.of(Chat)}

    def newest(self) -> int:
        return max((*self.acknowledged(), *self.seen()), default=0)

    def _listen(self, caller: Caller, message: Message) -> None:
        if isinstance(message, Ack):
            self.say_next()
        elif isinstance(message, Chat):
            self._heard += 1
            if self._heard == self._drop_at:
                self.is_dropped = True
                self._way(caller)


@dataclass
class Outcome:
    """What the crowd saw, and what was in the server before and after."""

    forms: tuple[str, ...] = ()
    people: list[Person] = field(default_factory=list)
    state_before: dict[str, Any] = field(default_factory=dict)
    state_in_the_room: dict[str, Any] = field(default_factory=dict)
    state_after: dict[str, Any] = field(default_factory=dict)
    descriptors_before: int = 0
    descriptors_in_the_room: int = 0
    descriptors_after: int = 0

    @property
    def stayed(self) -> list[Person]:
        return [person for person in self.people if person.will_stay]

    @property
    def dropped(self) -> list[Person]:
        return [person for person in self.people if not person.will_stay]


@pytest.fixture(scope="module", params=list(CROWDS))
def outcome(request: pytest.FixtureRequest) -> Outcome:
    """One evening of a crowd; every test looks at it from another side."""
    seed = int(os.environ.get("CHATPROTO_SEED", time.time_ns() % 2**32))
    print(f"CHATPROTO_SEED={seed}")
    found = Outcome(CROWDS[request.param])
    with WatchedServer("--deflate") as server:
        _warm_up(server, sorted(set(found.forms)))
        found.state_before, found.descriptors_before = server.state(), server.descriptors()
        with Crowd(server.port) as crowd:
            _enter(crowd, found)
            found.state_in_the_room, found.descriptors_in_the_room = server.state(), server.descriptors()
            _talk_and_drop(crowd, found, random.Random(seed))
            _leave(crowd, found)
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s and found.state_after != found.state_before:
            found.state_after = server.state()
        found.descriptors_after = server.descriptors()
        assert_log_is_clean(server)
    return found


def _warm_up(server: WatchedServer, forms: list[str]) -> None:
    """What is made once and for all is made now: modules that are imported late, the reactor's own."""
    with Crowd(server.port) as crowd:
        callers = [crowd.call(form_named(form)) for form in forms]
        for number, caller in enumerate(callers):
            caller.send(Join(f"early{number}"))
        crowd.run_until(lambda: all(caller.of(End) for caller in callers), "everybody in the room")
        callers[0].send(Say(1, "", "hi" * 200))
        crowd.run_until(lambda: bool(callers[0].of(Ack)), "the ack")
        crowd.run_until(lambda: all(caller.of(Chat) for caller in callers[1:]), "what is said")
    eventually(lambda: server.state()["fronts"] == 0)


def _enter(crowd: Crowd, found: Outcome) -> None:
    for number, form in enumerate(found.forms):
        nick = f"n{number:03}"
        person = Person(crowd.call(form_named(form)), nick)
        person.caller.send(Join(nick))
        found.people.append(person)
    crowd.run_until(lambda: all(person.caller.of(End) for person in found.people), "everybody in the room")


def _talk_and_drop(crowd: Crowd, found: Outcome, chance: random.Random) -> None:
    talkers, listeners = found.people[:TALKERS], found.people[TALKERS:]
    unlucky = [*chance.sample(talkers, DROPPED_TALKERS), *chance.sample(listeners, DROPPED - DROPPED_TALKERS)]
    for number, person in enumerate(unlucky):
        person.will_drop(WAYS[number % len(WAYS)], chance.randrange(1, 600))
    for talker in talkers:
        for _ in range(WINDOW):
            talker.say_next()

    def all_is_said() -> bool:
        return all(len(person.caller.of(Ack)) == SAYS for person in talkers if person.will_stay) and all(
            len(person.caller.of(Left)) >= DROPPED for person in found.stayed
        )

    crowd.run_until(all_is_said, "everything is said, and everybody is gone who is to go")
    newest = max(person.newest() for person in found.people)
    crowd.run_until(
        lambda: all(person.newest() == newest for person in found.stayed), "everybody has the newest message"
    )
    crowd.run_for(0.2)  # for what must not come


def _leave(crowd: Crowd, found: Outcome) -> None:
    by_message, by_closing = found.stayed[::2], found.stayed[1::2]
    for person in by_message:
        person.caller.send(Leave(""))
    crowd.run_until(lambda: all(person.caller.at_end for person in by_message), "those who left are let go")
    for person in by_closing:
        person.caller.close()


def test_everybody_who_stays_gets_everything_exactly_once_and_in_the_same_order(outcome: Outcome) -> None:
    reference: dict[int, tuple[str, str]] = {}
    for person in outcome.people:
        for seq, said in (person.acknowledged() | person.seen()).items():
            assert reference.setdefault(seq, said) == said
    # The warming up was number 1; from there on nothing is missing of what anybody saw or got an ack for.
    assert sorted(reference) == list(range(2, max(reference) + 1))
    assert len(set(reference.values())) == len(reference)
    assert len(reference) >= (TALKERS - DROPPED_TALKERS) * SAYS
    everything = sorted((seq, nick, text) for seq, (nick, text) in reference.items())
    for person in outcome.stayed:
        got = [(chat.seq, chat.nick, chat.text) for chat in person.caller.of(Chat)]
        assert got == [entry for entry in everything if entry[1] != person.nick], person.nick
        own = [(seq, *said) for seq, said in person.acknowledged().items()]
        assert own == [entry for entry in everything if entry[1] == person.nick], person.nick
        assert len(person.caller.of(Ack)) == len(own)


def test_those_who_vanish_saw_the_same_until_then(outcome: Outcome) -> None:
    witness = outcome.stayed[-1].seen()
    assert outcome.dropped
    for person in outcome.dropped:
        seqs = [chat.seq for chat in person.caller.of(Chat)]
        assert seqs == sorted(set(seqs)), person.nick
        assert person.seen().items() <= witness.items(), person.nick
        # An ack is a promise, also to someone who is gone.
        assert person.acknowledged().items() <= witness.items(), person.nick


def test_everybody_who_stays_is_told_once_of_each_who_vanishes(outcome: Outcome) -> None:
    gone = sorted(person.nick for person in outcome.dropped)
    assert len(gone) == DROPPED
    for person in outcome.stayed:
        # At the very end those who stayed hear of one another as well.
        lefts = [left for left in person.caller.of(Left) if left.nick in gone]
        assert sorted(left.nick for left in lefts) == gone, person.nick
        assert {left.reason for left in lefts} == {"closed"}


def test_nobody_gets_an_error(outcome: Outcome) -> None:
    for person in outcome.people:
        assert not person.caller.of(Error), person.nick


def test_nothing_is_left_over_in_the_server(outcome: Outcome) -> None:
    in_the_room = outcome.state_in_the_room
    # If these did not show up while they were there, it would say nothing that they are gone.
    alive, people = in_the_room["alive"], len(outcome.forms)
    assert in_the_room["sessions"] == in_the_room["nicks"] == in_the_room["connections"] == people
    assert alive["SendQueue"] == alive["Session"] == people
    assert alive["FrameProtocol"] == outcome.forms.count("frames")
    assert alive["WebSocketTransport"] == people - outcome.forms.count("frames")
    assert outcome.descriptors_in_the_room == outcome.descriptors_before + people
    assert outcome.state_after == outcome.state_before
    assert outcome.state_after["sessions"] == 0
    assert outcome.state_after["timers"] == []
    assert outcome.descriptors_after == outcome.descriptors_before

"""Entering a room that the log must look up first."""

from __future__ import annotations

import pytest
from rooms.outlets import AsyncLog, Broken, Failures, assert_nothing_is_left

from chatproto.limits import Limits
from chatproto.rooms.log import MemoryLog
from chatproto.rooms.moderation import Action, Kind, Rule, Target
from chatproto.testing import ChatInMemory
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Chat, End, Join, Left, Ping, Pong, Roster, Say, Welcome, Who


class World:
    def __init__(self, *, fired: bool = False, limits: Limits | None = None) -> None:
        self.log = AsyncLog(MemoryLog(limits, lambda: 0.0), fired=fired, prepares=True)
        self.chat = ChatInMemory(limits, self.log)

    def settle(self) -> None:
        for _ in range(20):
            self.log.settle()
            self.chat.pass_time()


@pytest.mark.parametrize("fired", [False, True])
def test_what_is_asked_after_the_join_waits_for_it(fired: bool) -> None:
    world = World(fired=fired)
    world.log.inner.append("lobby", "bot", "bot", 0, "before", 0)
    ann = world.chat.connect()
    ann.ask(Join("ann", "", 0, 0, 5), Say(0, "", "hi"), Who(""), Ping(7))
    if not fired:
        assert ann.received == []
        assert not ann.is_read_from
    world.settle()
    kinds = [type(message) for message in ann.received]
    assert kinds == [Welcome, Roster, Chat, End, Roster, Pong]
    assert ann.is_read_from
    assert world.log.inner.bounds("lobby") == (1, 2)


def test_many_who_wait_for_the_same_room_all_enter() -> None:
    world = World()
    people = [world.chat.join(nick) for nick in ("ann", "bob", "cleo")]
    assert not any(person.session.members for person in people)
    world.settle()
    assert world.chat.hub.rooms["lobby"].roster(0, 1_000).nicks == ("ann", "bob", "cleo")


def test_a_room_that_people_are_in_is_not_waited_for() -> None:
    world = World()
    world.chat.join("ann")
    world.settle()
    bob = world.chat.join("bob")
    assert bob.got(Roster)


def test_what_changed_meanwhile_counts() -> None:
    world = World(limits=Limits(max_rooms=1))
    ann, bob, eve = (world.chat.join(nick, room) for nick, room in (("ann", "a"), ("Ann", "a"), ("eve", "a")))
    dora = world.chat.join("dora", "b")
    world.chat.hub.moderation.set(Rule(Action.BAN, "a", Target(Kind.NICK, "eve")))
    world.settle()
    assert ann.errors == []
    assert bob.errors == [ErrorCode.NICK_TAKEN]
    assert eve.errors == [ErrorCode.NOT_ALLOWED]
    assert dora.errors == [ErrorCode.TOO_MANY_ROOMS]


def test_one_who_is_gone_meanwhile_enters_nothing() -> None:
    world = World()
    ann = world.chat.join("ann")
    ann.disconnect()
    world.settle()
    assert ann.received == []
    assert_nothing_is_left(world.chat.hub, world.chat.clock)


def test_one_who_sends_no_more_is_let_in_first() -> None:
    world = World()
    ann = world.chat.connect()
    ann.ask(Join("ann"), Say(0, "", "hi"))
    ann.session.finish_input()
    world.settle()
    assert world.log.inner.bounds("lobby") == (1, 1)
    assert not ann.is_connected
    assert_nothing_is_left(world.chat.hub, world.chat.clock)


def test_a_log_that_takes_too_long_is_no_excuse() -> None:
    world = World()
    ann = world.chat.join("ann")
    world.chat.pass_time(11)
    assert ann.errors == [ErrorCode.TIMEOUT]
    world.settle()
    assert_nothing_is_left(world.chat.hub, world.chat.clock)


@pytest.mark.parametrize("fired", [False, True])
@pytest.mark.parametrize("is_open", [False, True])
def test_a_room_that_cannot_be_looked_up_ends_the_session_cleanly(
    fired: bool, is_open: bool, failures: Failures
) -> None:
    world = World(fired=fired)
    ann, bob = world.chat.connect(), world.chat.join("bob")
    if is_open:
        ann.ask(Join("ann"))
    world.settle()
    world.log.failing = Broken()
    ann.ask(Join("ann", "elsewhere"), Ping(1))
    world.settle()
    assert ann.errors == [ErrorCode.TOO_SLOW]
    assert not ann.is_connected
    assert bob.got(Left) == ([Left("lobby", "ann", "error")] if is_open else [])
    assert failures.take() == ["Broken"]
    bob.disconnect()
    assert_nothing_is_left(world.chat.hub, world.chat.clock)


def test_a_room_that_is_forgotten_again_before_anybody_enters_is_looked_up_again() -> None:
    world = World()
    ann = world.chat.join("ann")
    world.log.step(world.log.reads)  # found, and not yet given
    world.log.forget("lobby")
    world.log.step(world.log.reads)
    assert not ann.session.members
    assert world.log.owes
    world.settle()
    assert ann.session.members

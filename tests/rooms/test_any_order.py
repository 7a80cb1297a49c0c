"""The whole hub in any order: people come, go, talk and stop reading, and what must always hold holds."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from rooms.outlets import AsyncLog, assert_nothing_is_left
from rooms.pumped import PumpedLog

from chatproto.limits import HistoryLimits, Limits
from chatproto.rooms.log import Kept, MemoryLog, RoomLog
from chatproto.rooms.room import Member
from chatproto.testing import ChatInMemory, Person
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import (
    Ack,
    Chat,
    End,
    Error,
    Join,
    Joined,
    Lagged,
    Left,
    Message,
    Ping,
    Pong,
    Renamed,
    Roster,
)
from chatproto.wire.prepared import Prepared

ROOMS = st.sampled_from(["a", "b", "c"])
NICKS = st.sampled_from(["ann", "Ann", "bob", "cleo", "dora", "eve", "fay", "gus"])
PEOPLE = st.integers(0, 3)
WHICH = st.integers(0, 5)
LENGTHS = st.sampled_from([1, 300, 900])


class NotingLog(MemoryLog):
    """Notes whose each message is."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits, lambda: 0.0)
        self.speakers: dict[tuple[str, int], int] = {}

    def start(self, kept: Kept) -> None:
        def note(chat: Chat, sender: int) -> None:
            self.speakers[chat.room, chat.seq] = sender
            kept(chat, sender)

        super().start(note)


class NotingSqliteLog(PumpedLog):
    """The same on disk. As an `AsyncLog` has, it has `appends` and `reads` that can be stepped through."""

    def __init__(self, folder: str, limits: Limits, history: HistoryLimits) -> None:
        super().__init__(f"{folder}/history", limits, history, lambda: 0.0)
        self.speakers: dict[tuple[str, int], int] = {}

    def start(self, kept: Kept) -> None:
        def note(chat: Chat, sender: int) -> None:
            self.speakers[chat.room, chat.seq] = sender
            kept(chat, sender)

        super().start(note)

    @property
    def owes(self) -> bool:
        return self.owed > 0

    @property
    def appends(self) -> deque[Any]:
        """One for each answer that is owed; nobody knows which comes next."""
        return deque([None] * self.owed)

    reads = appends

    def step(self, waiting: object) -> None:
        self.pump.step(0.001)


class Stay:
    """One stay of one person in a room, as it looks from what reached them."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.entered_at = 0  # the newest number when they came
        self.has_end = False
        self.began: int | None = None  # the first that came or was announced, before `end` said which it is
        self.next_seq: int | None = None  # the next that is to come
        self.present: set[str] | None = None  # None where announcements were dropped


class Observer(Person):
    """Someone who checks what reaches them, one message after the other.

    What is sent is copied, so that each message that arrives can be told from all others.
    """

    def __init__(self, chat: ChatInMemory, log: NotingLog | NotingSqliteLog) -> None:
        super().__init__(chat)
        self.log = log
        self.hub = chat.hub
        self.stays: dict[Member, Stay] = {}
        self.checked = 0
        self.asked_pings: list[int] = []
        self.said_ids: list[int] = []
        self.answered_ids: list[int] = []
        self.looked_up: list[Chat] = []
        self.gone: dict[Member, set[str]] = {}  # who left, and has not come again, in each stay
        self._sent: dict[int, tuple[Message, bool, Stay | None, dict[str, Any]]] = {}

    def send(self, message: Message) -> None:
        super().send(self._note(message, was_published=False))

    def publish(self, prepared: Prepared) -> bool:
        self._check_who_is_there(prepared.source)
        copy = self._note(prepared.source, was_published=True)
        return super().publish(Prepared(copy, prepared.topic, prepared.position))

    def _check_who_is_there(self, message: Message) -> None:
        """What is told of rooms as it happens is in one order: nobody speaks who has left."""
        if isinstance(message, Renamed):
            for gone in self.gone.values():
                gone.add(message.old)
                gone.discard(message.new)  # which may be the old one
            return
        member = self.session.members.get(getattr(message, "room", ""))
        if member is None:
            return
        gone = self.gone.setdefault(member, set())
        match message:
            case Left():
                gone.add(message.nick)
            case Joined():
                gone.discard(message.nick)
            case Chat() if member.live:
                assert message.nick not in gone, "their last words come after they left"

    def _note(self, message: Message, *, was_published: bool) -> Message:
        """A copy; how, in which stay and when it was sent is noted under its identity."""
        copy = replace(message)  # type: ignore[type-var]
        room = getattr(message, "room", None)
        stay, then = None, {}
        if room is not None:
            member = self.session.members.get(room)
            if member is not None:
                stay = self.stays.setdefault(member, Stay(member))
                then = {"bounds": self.hub.log.bounds(room), "is_stale": member.stale}
        self._sent[id(copy)] = (copy, was_published, stay, then)
        return copy

    # --- checking -------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Look at what arrived since the last time."""
        while self.checked < len(self.received):
            message = self.received[self.checked]
            self.checked += 1
            _, was_published, stay, then = self._sent[id(message)]
            match message:
                case Chat() if was_published:
                    assert stay is not None
                    self._check_chat(message, stay)
                case Chat():
                    assert all(earlier.seq < message.seq for earlier in self.looked_up)
                    self.looked_up.append(message)
                case End():
                    self._check_end(message, stay)
                case Lagged():
                    assert stay is not None
                    self._check_lagged(message, stay, *then["bounds"])
                case Roster():
                    assert stay is not None
                    self._check_roster(message, stay)
                case Joined() | Left():
                    if stay is not None:
                        self._check_presence(message, stay, then["is_stale"])
                case Renamed():
                    for each in self.stays.values():
                        if each.present is not None and message.old in each.present:
                            each.present.remove(message.old)
                            each.present.add(message.new)
                case Ack() | Error() if message.id:
                    self.answered_ids.append(message.id)
                case _:
                    pass

    def is_own(self, room: str, seq: int) -> bool:
        return self.log.speakers[room, seq] == self.session.id

    def _check_chat(self, chat: Chat, stay: Stay) -> None:
        if stay.next_seq is None:
            # The first of a replay; `end` will say whether it was the right one.
            stay.began = stay.next_seq = chat.seq
        assert chat.seq >= stay.next_seq, "doubled"
        missing = [seq for seq in range(stay.next_seq, chat.seq) if not self.is_own(chat.room, seq)]
        assert missing == [], "a hole that nobody spoke of"
        if chat.seq > stay.entered_at:
            assert not self.is_own(chat.room, chat.seq), "one's own came back"
        stay.next_seq = chat.seq + 1

    def _check_end(self, end: End, stay: Stay | None) -> None:
        if stay is None or stay.has_end:
            found, self.looked_up = self.looked_up, []
            if found:
                assert (found[0].seq, found[-1].seq) == (end.first, end.last)
                if end.status == 0:
                    assert [chat.seq for chat in found] == list(range(end.first, end.last + 1))
            else:
                assert (end.first, end.last) == (0, 0)
            return
        stay.has_end = True
        if stay.next_seq is None:
            # Nothing was asked for, or it was dropped and comes after `lagged`.
            stay.next_seq = end.first or stay.entered_at + 1
        elif end.last:
            assert stay.began == end.first
            assert stay.next_seq <= end.last + 1
        else:
            assert stay.began is not None
            assert stay.began > stay.entered_at
        assert end.last in (0, stay.entered_at)

    def _check_lagged(self, lagged: Lagged, stay: Stay, oldest: int, newest: int) -> None:
        assert lagged.last == newest
        if stay.next_seq is None:
            stay.began = stay.next_seq = lagged.first  # within a replay of which nothing had arrived
            return
        skipped = [seq for seq in range(stay.next_seq, lagged.first) if not self.is_own(lagged.room, seq)]
        assert [seq for seq in skipped if seq >= oldest] == [], "skipped though it was kept"
        assert lagged.first >= stay.next_seq, "would come twice"
        stay.next_seq = lagged.first

    def _check_roster(self, roster: Roster, stay: Stay) -> None:
        if stay.present is None and stay.next_seq is None and not stay.has_end:
            stay.entered_at = roster.last
        assert len(roster.nicks) == roster.total
        stay.present = set(roster.nicks)

    def _check_presence(self, message: Joined | Left, stay: Stay, is_stale: bool) -> None:
        if is_stale:
            stay.present = None
        elif stay.present is not None:
            assert (message.nick in stay.present) == isinstance(message, Left)
            stay.present ^= {message.nick}

    def check_all_arrived(self) -> None:
        """They have read everything: is it all that it should be?"""
        assert self.queued_bytes == 0
        assert [pong.token for pong in self.got(Pong)] == self.asked_pings
        # A refusal may come before the answer to something earlier, which waits for the log.
        assert sorted(self.answered_ids) == self.said_ids
        acknowledged = [ack.id for ack in self.got(Ack)]
        assert acknowledged == sorted(acknowledged)
        for room, member in self.session.members.items():
            stay = self.stays[member]
            assert stay.has_end
            assert stay.next_seq is not None
            newest = self.hub.log.bounds(room)[1]
            missing = [seq for seq in range(stay.next_seq, newest + 1) if not self.is_own(room, seq)]
            assert missing == [], "not everything arrived"
            truth = {other.session.nick_text for other in self.hub.rooms[room].everyone()}
            assert stay.present == truth


class HubMachine(RuleBasedStateMachine):
    """Up to five people, small limits, and a log of some kind."""

    kind = "at once"

    def __init__(self) -> None:
        super().__init__()
        self.people: list[Observer] = []
        self.numbers = 0

    @initialize(keeps=st.sampled_from([0, 12, 1_000, 1_000]), said=st.integers(0, 12))
    def begin(self, keeps: int, said: int) -> None:
        self.limits = Limits(
            max_queued_bytes=4_096,
            max_text_bytes=1_000,
            max_room_log_messages=keeps,
            rename_interval_s=0,
            max_rooms_per_session=2,
        )
        self.log = self.make_log(HistoryLimits(max_history_room_messages=keeps))
        self.later = self.make_later()
        log: RoomLog = self.later or self.log
        self.chat = ChatInMemory(self.limits, log)
        self.newest_id = 0
        for number in range(said):
            self.chat.hub.say("ab"[number % 2], "bot", "x" * 300)
        for nick, room in (("ann", "a"), ("bob", "a"), ("eve", "b")):
            self.arrive(nick, room, 100, 0, False)
            self.people[-1].join("b" if room == "a" else "a")

    def make_log(self, history: HistoryLimits) -> NotingLog | NotingSqliteLog:
        if self.kind != "sqlite":
            return NotingLog(self.limits)
        self.folder = TemporaryDirectory(prefix="chatproto-test-")
        return NotingSqliteLog(self.folder.name, self.limits, history)

    def make_later(self) -> AsyncLog | NotingSqliteLog | None:
        if isinstance(self.log, NotingSqliteLog):
            return self.log
        if self.kind == "at once":
            return None
        return AsyncLog(self.log, fired=self.kind == "fired", prepares=True)

    def person(self, number: int) -> Observer | None:
        """One of those who are there and are read from."""
        there = [person for person in self.people if person.is_connected and not person.session.ended]
        if not there:
            return None
        person = there[number % len(there)]
        return person if person.is_read_from else None

    @staticmethod
    def room_of(person: Observer, which: int) -> str:
        """A room, mostly one that they are in."""
        rooms = [*sorted(person.session.members), "b"]
        return rooms[which % len(rooms)]

    def next_number(self) -> int:
        self.numbers += 1
        return self.numbers

    # --- what people do -------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.people) < 12)
    @rule(
        nick=NICKS, room=ROOMS, limit=st.sampled_from([0, 3, 100]), after=st.integers(0, 6), own=st.booleans()
    )
    def arrive(self, nick: str, room: str, limit: int, after: int, own: bool) -> None:
        person = Observer(self.chat, self.log)
        assert person.session.id > self.newest_id
        self.newest_id = person.session.id
        self.people.append(person)
        person.ask(Join(nick, room, self.chat.hub.log.epoch if own else 0, after, limit))

    @rule(who=PEOPLE, room=ROOMS, limit=st.sampled_from([0, 3, 100]))
    def join(self, who: int, room: str, limit: int) -> None:
        person = self.person(who)
        if person is not None and person.session.nick_text:
            person.join(room, limit=limit)

    @rule(who=PEOPLE, which=WHICH, comes_back=st.booleans(), limit=st.sampled_from([0, 3, 100]))
    def leave_room(self, who: int, which: int, comes_back: bool, limit: int) -> None:
        person = self.person(who)
        if person is not None and person.session.nick_text:
            room = self.room_of(person, which)
            person.leave(room)
            if comes_back:
                person.join(room, limit=limit)

    @rule(who=PEOPLE, which=WHICH, length=LENGTHS, count=st.integers(1, 6), with_id=st.booleans())
    def say(self, who: int, which: int, length: int, count: int, with_id: bool) -> None:
        person = self.person(who)
        if person is None or not person.session.nick_text:
            return
        for _ in range(count):
            id = self.next_number() if with_id else 0
            person.said_ids += [id] if id else []
            person.say("x" * length, self.room_of(person, which), id=id)

    @rule(room=ROOMS, length=LENGTHS, count=st.integers(1, 8), is_kept=st.booleans())
    def flood(self, room: str, length: int, count: int, is_kept: bool = True) -> None:
        for _ in range(count):
            self.chat.hub.say(room, "bot", "x" * length)
        while self.later is not None and self.later.appends and is_kept:
            self.later.step(self.later.appends)

    @rule(who=PEOPLE, counts=st.lists(st.integers(2, 10), min_size=1, max_size=4), talks=st.booleans())
    def flood_who_does_not_read(self, who: int, counts: list[int], talks: bool) -> None:
        """Let someone fall behind, take a little, and fall behind again while catching up."""
        self.stop_reading(who)
        for number, count in enumerate(counts):
            self.flood("ab"[number % 2], 900, count)
            if talks:
                self.say(who, number, 10, 1, True)
            self.read_a_little(who)
            self.turn()
            if self.later is not None and self.later.reads:
                self.later.step(self.later.reads)

    @rule(count=st.integers(1, 60))
    def come_and_go(self, count: int) -> None:
        """Nobody can be told of all that who does not read."""
        for number in range(count):
            passer = self.chat.join(f"passer{number}", "a")
            passer.disconnect()

    @rule(who=PEOPLE, nick=NICKS)
    def rename(self, who: int, nick: str) -> None:
        person = self.person(who)
        if person is not None and person.session.nick_text:
            person.rename(nick)

    @rule(who=PEOPLE, nick=NICKS, count=st.integers(1, 8))
    def tell(self, who: int, nick: str, count: int) -> None:
        person = self.person(who)
        if person is None or not person.session.nick_text:
            return
        for _ in range(count):
            id = self.next_number()
            # A say that waits for its log is answered later than this.
            if self.later is None:
                person.said_ids.append(id)
                person.tell(nick, "x" * 500, id=id)
            else:
                person.tell(nick, "x" * 500)

    @rule(who=PEOPLE, which=WHICH)
    def ask_who(self, who: int, which: int) -> None:
        person = self.person(who)
        if person is not None and person.session.nick_text:
            person.who(self.room_of(person, which))

    @rule(who=PEOPLE, which=WHICH, before=st.integers(0, 9), limit=st.sampled_from([0, 2, 100]))
    def ask_history(self, who: int, which: int, before: int, limit: int) -> None:
        person = self.person(who)
        if person is not None and person.session.nick_text:
            person.history(self.room_of(person, which), before, limit)

    @rule(who=PEOPLE)
    def ping(self, who: int) -> None:
        person = self.person(who)
        if person is not None:
            token = self.next_number()
            person.asked_pings.append(token)
            person.ask(Ping(token))

    @rule(who=PEOPLE)
    def stop_reading(self, who: int) -> None:
        if self.people:
            self.people[who % len(self.people)].stop_reading()

    @rule(who=PEOPLE)
    def read(self, who: int) -> None:
        if self.people:
            self.people[who % len(self.people)].read()

    @rule(who=PEOPLE)
    def read_a_little(self, who: int) -> None:
        if self.people:
            person = self.people[who % len(self.people)]
            person.read()
            person.stop_reading()

    @rule(who=PEOPLE)
    def disconnect(self, who: int) -> None:
        person = self.person(who)
        if person is not None:
            person.disconnect()

    @rule(who=PEOPLE, which=WHICH, count=st.integers(1, 3), comes_back=st.booleans())
    def speak_and_go(self, who: int, which: int, count: int, comes_back: bool) -> None:
        person = self.person(who)
        if person is not None and person.session.nick_text:
            nick, room = person.session.nick_text, self.room_of(person, which)
            self.say(who, which, 10, count, False)
            person.disconnect()
            if comes_back and len(self.people) < 12:
                self.arrive(nick, room, 100, 0, False)

    @rule(who=PEOPLE)
    def say_goodbye(self, who: int) -> None:
        person = self.person(who)
        if person is not None:
            person.leave()

    @rule(who=PEOPLE)
    def stop_sending(self, who: int) -> None:
        person = self.person(who)
        if person is not None:
            person.session.finish_input()
            person.is_read_from = False

    @rule(who=PEOPLE, which=WHICH)
    def throw_out(self, who: int, which: int) -> None:
        person = self.person(who)
        if person is not None:
            self.chat.hub.leave(person.session, self.room_of(person, which), "kicked")

    # --- what time does -------------------------------------------------------------------------------------

    @rule()
    def turn(self) -> None:
        self.chat.pass_time()

    @precondition(lambda self: self.later is not None)
    @rule(reads=st.booleans(), count=st.integers(1, 6))
    def answer(self, reads: bool, count: int) -> None:
        assert self.later is not None
        for _ in range(count):
            waiting = self.later.reads if reads else self.later.appends
            if waiting:
                self.later.step(waiting)

    @rule()
    def everyone_reads(self) -> None:
        """And everything that is owed arrives."""
        for person in self.people:
            person.read()
        for _ in range(100):
            self.chat.pass_time()
            if self.later is not None and self.later.owes:
                self.later.settle()
        for person in self.people:
            person.check()
            if not person.session.ended:
                assert person.is_read_from or person.session.ended
                person.check_all_arrived()

    # --- what always holds ----------------------------------------------------------------------------------

    @invariant()
    def what_arrived_is_right(self) -> None:
        for person in self.people:
            person.check()

    @invariant()
    def queues_are_bounded(self) -> None:
        # Answers are not refused for the bound, but only taken up below half of it.
        for person in self.people:
            assert person.queued_bytes <= self.limits.max_queued_bytes + 1_500

    @invariant()
    def only_who_cannot_be_helped_is_sent_away(self) -> None:
        for person in self.people:
            if ErrorCode.TOO_SLOW in person.errors:
                assert self.limits.max_room_log_messages < 1_000

    @invariant()
    def the_hub_knows_who_is_there(self) -> None:
        if not self.people:
            return
        hub = self.chat.hub
        assert set(hub.sessions.values()) == {p.session for p in self.people if not p.session.ended}
        for name, room in hub.rooms.items():
            assert not room.is_empty
            for id, member in room.members.items():
                assert hub.sessions[id].members[name] is member
            assert {member for member in hub.leaving if member.room is room} == set(room.leaving.values())
        assert all(member.unanswered for member in hub.leaving)
        held = [
            person.session for person in self.people if not person.session.ended and person.session.nick_text
        ]
        assert all(hub.nicks.find(session.nick_text) is session for session in held)
        gone = {member.session for member in hub.leaving if member.session.ended}
        assert all(hub.nicks.find(session.nick_text) is session for session in gone)
        assert len(hub.nicks) == len(held) + len(gone)

    def teardown(self) -> None:
        try:
            if self.people:
                self.end_well()
        finally:
            if self.kind == "sqlite":
                assert isinstance(self.log, NotingSqliteLog)
                self.log.close_now()
                self.folder.cleanup()

    def end_well(self) -> None:
        self.everyone_reads()
        for person in self.people:
            person.disconnect()
        if self.later is not None:
            self.later.settle()
        self.chat.pass_time()
        assert_nothing_is_left(self.chat.hub, self.chat.clock)


KINDS = pytest.mark.parametrize("kind", ["at once", "fired", "later", "sqlite"])


@KINDS
def test_whatever_people_do_order_and_completeness_hold(kind: str) -> None:
    machine = type("Machine", (HubMachine,), {"kind": kind})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=40, stateful_step_count=60, derandomize=True)
    )


@pytest.mark.slow
@KINDS
def test_they_hold_in_ever_new_orders(kind: str) -> None:
    machine = type("Machine", (HubMachine,), {"kind": kind})
    run_state_machine_as_test(machine, settings=settings(max_examples=1_000, stateful_step_count=60))

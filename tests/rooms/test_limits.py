"""The limits of sessions, on a clock in the test's hand."""

from __future__ import annotations

from chatproto.limits import Limits
from chatproto.rooms.turns import TURN_REQUESTS
from chatproto.testing import ChatInMemory, Person
from chatproto.wire.messages import Chat, End, History, Join, Ping, Pong, Say, Search


def pinged(person: Person) -> int:
    return len(person.got(Pong))


class TestPace:
    def test_a_burst_goes_through_and_what_follows_comes_in_time(self) -> None:
        chat = ChatInMemory(Limits(message_burst=11, max_messages_per_s=10))
        ann = chat.join("ann")  # which is one of them
        ann.ask(*map(Ping, range(30)))
        assert pinged(ann) == 10
        assert not ann.is_read_from
        chat.pass_time(0.05)
        assert pinged(ann) == 10
        chat.pass_time(0.06)
        assert pinged(ann) == 11
        for _ in range(20):
            chat.pass_time(0.1)
        assert [pong.token for pong in ann.got(Pong)] == [*range(30)]
        assert ann.is_read_from

    def test_who_is_slow_enough_never_waits(self) -> None:
        chat = ChatInMemory(Limits(message_burst=2, max_messages_per_s=10))
        ann = chat.join("ann")
        for number in range(1, 100):
            chat.pass_time(0.1)
            ann.ask(Ping(number))
            assert pinged(ann) == number
        assert not chat.hub.record.limited_by["max_messages_per_s"]

    def test_a_burst_comes_back_after_a_while_and_no_more_than_that(self) -> None:
        chat = ChatInMemory(Limits(message_burst=10, max_messages_per_s=10))
        ann = chat.join("ann")
        chat.pass_time(1_000)
        ann.ask(*map(Ping, range(30)))
        assert pinged(ann) == 10

    def test_a_large_burst_still_has_its_turns(self) -> None:
        chat = ChatInMemory(Limits(message_burst=1_000, max_messages_per_s=1))
        ann = chat.join("ann")
        ann.ask(*map(Ping, range(500)))
        assert pinged(ann) == TURN_REQUESTS
        for _ in range(10):
            chat.pass_time()
        assert pinged(ann) == 500

    def test_what_is_owed_is_sent_though_one_says_too_much(self) -> None:
        chat = ChatInMemory(Limits(message_burst=2, max_messages_per_s=0.01, max_queued_bytes=16_384))
        bob = chat.join("bob")
        chat.pass_time(1_000)
        ann = chat.join("ann")
        ann.stop_reading()
        ann.ask(*map(Ping, range(10)))  # and now nothing more is taken up for a long time
        for number in range(100):
            chat.hub.say("", "bot", f"{number:0500}")
        ann.read()
        for _ in range(20):
            chat.pass_time()
        assert len(ann.got(Chat)) == 100
        assert pinged(ann) == 1
        assert bob.session.ended is False

    def test_what_came_before_the_end_of_input_takes_effect_in_time(self) -> None:
        chat = ChatInMemory(Limits(message_burst=2, max_messages_per_s=10))
        ann, bob = chat.join("ann"), chat.join("bob")
        ann.ask(*(Say(0, "", f"{number}") for number in range(10)))
        ann.session.finish_input()
        assert not ann.session.ended
        for _ in range(20):
            chat.pass_time(0.1)
        assert len(bob.chats) == 10
        assert ann.session.ended

    def test_who_is_gone_leaves_no_timer(self) -> None:
        chat = ChatInMemory(Limits(message_burst=2, max_messages_per_s=10))
        ann = chat.join("ann")
        ann.ask(*map(Ping, range(10)))
        ann.disconnect()
        assert chat.clock.getDelayedCalls() == []

    def test_other_figures_hold_at_once(self) -> None:
        chat = ChatInMemory(Limits(message_burst=2, max_messages_per_s=0.01))
        ann = chat.join("ann")
        chat.hub.limits = Limits(max_messages_per_s=0)
        ann.ask(*map(Ping, range(30)))
        assert pinged(ann) == 30

    def test_reads_of_the_history_wait_for_their_turn_in_order(self) -> None:
        chat = ChatInMemory(Limits(history_burst=2, max_history_reads_per_s=1, max_messages_per_s=0))
        ann = chat.join("ann")
        ann.ask(*[History("", 0, 10)] * 3, Ping(1))
        assert len(ann.got(End)) == 3  # one of them the join's
        assert not pinged(ann)
        chat.pass_time(1.1)
        assert len(ann.got(End)) == 4
        assert isinstance(ann.received[-1], Pong)

    def test_a_search_is_a_read_of_the_history(self) -> None:
        chat = ChatInMemory(Limits(history_burst=2, max_history_reads_per_s=1, max_messages_per_s=0))
        ann = chat.join("ann")
        ann.forget()
        ann.ask(*[Search("", "tea", 10)] * 3)
        for _ in range(5):
            chat.pass_time()
        assert len(ann.got(End)) == 2
        chat.pass_time(1.1)
        assert len(ann.got(End)) == 3

    def test_who_reads_too_often_waits_once_and_is_counted_once(self) -> None:
        chat = ChatInMemory(Limits(history_burst=2, max_history_reads_per_s=0.01, max_messages_per_s=0))
        ann = chat.join("ann")
        ann.ask(*[History("", 0, 10)] * 3)
        for _ in range(5):
            chat.pass_time(1.0)
        assert chat.hub.record.limited_by["max_history_reads_per_s"] == 1

    def test_who_is_allowed_less_than_one_in_a_tenth_of_a_second_waits_once_for_each(self) -> None:
        chat = ChatInMemory(Limits(message_burst=2, max_messages_per_s=0.1))
        ann = chat.join("ann")
        ann.ask(*map(Ping, range(3)))
        assert pinged(ann) == 1
        for _ in range(9):
            chat.pass_time(1.0)
        assert chat.hub.record.limited_by["max_messages_per_s"] == 1
        chat.pass_time(1.1)
        assert pinged(ann) == 2

    def test_a_join_without_a_replay_is_no_read(self) -> None:
        chat = ChatInMemory(Limits(history_burst=1, max_history_reads_per_s=0.01, max_messages_per_s=0))
        ann = chat.join("ann")
        for number in range(5):
            ann.join(f"room{number}")
        ann.join("first", limit=1)
        ann.join("second", limit=1)
        assert [*ann.session.members] == ["lobby", *(f"room{number}" for number in range(5)), "first"]


class TestDraining:
    def test_is_over_at_once_where_nothing_is_owed(self) -> None:
        ann = ChatInMemory().join("ann")
        told: list[bool] = []
        ann.session.drain(lambda: told.append(True))
        assert told == [True]
        assert not ann.session.ended

    def test_hears_nothing_more(self) -> None:
        ann = ChatInMemory().join("ann")
        ann.session.drain(lambda: None)
        ann.ask(Ping(1))
        assert not pinged(ann)

    def test_takes_up_what_had_come_though_it_was_too_much(self) -> None:
        chat = ChatInMemory(Limits(message_burst=2, max_messages_per_s=0.01))
        ann = chat.join("ann")
        ann.ask(*map(Ping, range(200)))
        told: list[int] = []
        ann.session.drain(lambda: told.append(pinged(ann)))
        assert not told
        for _ in range(10):
            chat.pass_time()
        assert told == [200]

    def test_is_over_when_the_session_is(self) -> None:
        chat = ChatInMemory(Limits(max_queued_bytes=16_384, max_messages_per_s=0))
        ann = chat.join("ann")
        ann.stop_reading()
        ann.ask(*map(Ping, range(5_000)))
        told: list[bool] = []
        ann.session.drain(lambda: told.append(True))
        for _ in range(100):
            chat.pass_time()
        assert not told
        ann.disconnect()
        assert told == [True]

    def test_everybody_is_told_another_time(self) -> None:
        chat = ChatInMemory()
        people = [chat.join(f"guest{number}") for number in range(4)]
        chat.hub.shut_down([person.session for person in people], 1_000, "bye", spread_ms=400)
        times_ms = sorted(person.received[-1].retry_ms for person in people)  # type: ignore[attr-defined]
        assert times_ms == [1_000, 1_100, 1_200, 1_300]


def test_only_so_many_are_in_a_room_and_in_all() -> None:
    chat = ChatInMemory(Limits(max_people_per_room=2, max_sessions=3))
    ann, _ = chat.join("ann"), chat.join("bob")
    cid = chat.join("cid")
    assert cid.errors == [17]
    cid.ask(Join("cid", "other"))
    assert cid.session.nick_text == "cid"
    dan = chat.join("dan", "other")
    assert dan.errors == [17]
    ann.disconnect()
    cid.join("")
    dan.ask(Join("dan", "other"))
    assert len(chat.hub.rooms["lobby"].members) == 2
    assert dan.session.nick_text == "dan"

"""Nobody gets back what they said themselves, however their reading stops and goes on meanwhile."""

from __future__ import annotations

from chatproto.limits import Limits
from chatproto.testing import ChatInMemory, Person
from chatproto.wire.messages import Chat, Lagged

TEXT = "x" * 4_000
MANY = 120
"""Of these, more than a queue holds."""


def a_chat() -> tuple[ChatInMemory, Person, Person]:
    chat = ChatInMemory(Limits(max_queued_bytes=400_000, max_messages_per_s=0))
    return chat, chat.join("slow"), chat.join("bob")


def say_much(chat: ChatInMemory, bob: Person, room: str = "lobby") -> None:
    for _ in range(MANY):
        bob.say(TEXT, room)
    chat.pass_time()


def read_all(chat: ChatInMemory, slow: Person) -> None:
    slow.read()
    for _ in range(1_000):
        chat.pass_time()


def assert_all_of_bobs(slow: Person, room: str, seqs: list[int]) -> None:
    chats = [chat for chat in slow.got(Chat) if chat.room == room]
    assert {chat.nick for chat in chats} == {"bob"}
    assert [chat.seq for chat in chats] == seqs


def test_what_was_said_while_others_words_waited_is_left_out_of_the_replay() -> None:
    chat, slow, bob = a_chat()
    slow.stop_reading()
    bob.say("first")
    slow.say("own")  # 2, while 1 waits and nothing is dropped yet
    say_much(chat, bob)
    read_all(chat, slow)
    assert slow.got(Lagged)
    assert_all_of_bobs(slow, "lobby", [1, *range(3, 3 + MANY)])


def test_what_was_left_out_of_a_replay_stays_out_when_that_part_is_dropped_and_replayed_again() -> None:
    chat, slow, bob = a_chat()
    for person in (slow, bob):
        person.join("side")
    slow.stop_reading()
    bob.say("first")
    slow.say("own")
    say_much(chat, bob)
    # Now a part of the replay waits, the own words left out, and is dropped for what is said elsewhere.
    say_much(chat, bob, "side")
    read_all(chat, slow)
    assert {lagged.room for lagged in slow.got(Lagged)} == {"lobby", "side"}
    assert_all_of_bobs(slow, "lobby", [1, *range(3, 3 + MANY)])
    assert_all_of_bobs(slow, "side", [*range(1, 1 + MANY)])


def test_what_was_said_while_lagging_stays_out_when_it_is_dropped_after_catching_up() -> None:
    chat, slow, bob = a_chat()
    slow.stop_reading()
    say_much(chat, bob)
    slow.say("own")  # 1 + MANY
    bob.say("after")
    while not slow.session.members["lobby"].live:
        # The last part of the replay, and only that, is left waiting.
        slow.read()
        slow.stop_reading()
        chat.pass_time()
    say_much(chat, bob)
    read_all(chat, slow)
    assert_all_of_bobs(slow, "lobby", [*range(1, 1 + MANY), *range(2 + MANY, 3 + 2 * MANY)])


def test_what_is_remembered_for_this_is_forgotten_when_all_is_read() -> None:
    chat, slow, bob = a_chat()
    slow.stop_reading()
    say_much(chat, bob)
    (member,) = slow.session.members.values()
    for _ in range(1_000):
        slow.say("x")
    assert member.own is not None
    assert len(member.own) == 1
    bob.say("x")
    slow.say("x")
    assert member.own is not None
    assert len(member.own) == 2
    read_all(chat, slow)
    slow.say("x")
    assert member.own is None


def test_what_is_remembered_for_this_is_bounded_by_what_the_log_keeps() -> None:
    chat, slow, bob = a_chat()
    slow.stop_reading()
    say_much(chat, bob)
    (member,) = slow.session.members.values()
    for _ in range(6_000):
        slow.say("x")
        bob.say("x")
    oldest, newest = chat.hub.log.bounds("lobby")
    assert member.own is not None
    assert 1_000 < len(member.own) <= (newest - oldest) // 2 + 2

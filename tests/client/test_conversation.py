"""chatproto.client.conversation: joining and saying, and what is told of it."""

from __future__ import annotations

from typing import Any

import pytest
from client.scripted import EPOCH, FIRST_ID, Paper, chat, granted, is_waiting, refusal_of, result
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from chatproto.client.outcomes import Entered, Receipt, Refused, TooManyWaiting
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import (
    Ack,
    Chat,
    End,
    Error,
    Goodbye,
    Join,
    Joined,
    Lagged,
    Leave,
    Left,
    Message,
    Notice,
    Ping,
    Pong,
    Renamed,
    Roster,
    Say,
    Tell,
    Told,
    Welcome,
    Who,
)


class TestJoining:
    """docs/protocol.md, section 3, items 1 and 2."""

    def test_the_join_waits_for_a_connection(self) -> None:
        paper = Paper()
        entered = paper.conversation.join("lobby", 20)
        assert paper.sent == []
        paper.conversation.connected()
        assert paper.sent == [Join("ann", "lobby", 0, 0, 20)]
        paper.answer(*granted(chat(4), chat(5), status=1))
        assert result(entered) == Entered("lobby", ("ann",), 1, 5, 1)
        assert paper.heard.seqs == [4, 5]
        assert paper.times_opened == 1

    def test_it_is_complete_only_with_its_end(self) -> None:
        paper = Paper()
        entered = paper.conversation.join("lobby")
        paper.conversation.connected()
        *most, end = granted(chat(1))
        paper.answer(*most)
        assert is_waiting(entered)
        paper.answer(end)
        result(entered)

    def test_a_second_room_waits_until_the_first_has_opened_the_session(self) -> None:
        paper = Paper()
        one, two = paper.conversation.join("one"), paper.conversation.join("two")
        paper.conversation.connected()
        assert paper.sent == [Join("ann", "one")]
        welcome, *rest = granted(room="one")
        paper.answer(welcome)
        assert paper.sent == [Join("ann", "two")]
        paper.answer(*rest, *granted(room="two", welcome=False))
        assert result(one).room == "one"
        assert result(two).room == "two"
        assert paper.conversation.rooms == ("one", "two")

    @pytest.mark.parametrize("code", [4, 5, 6, 10, 12, 14])
    def test_a_refused_room_is_not_tried_again(self, code: int) -> None:
        paper = Paper()
        entered = paper.conversation.join("lobby")
        paper.conversation.connected()
        paper.answer(Error(code, 0, "no"))
        refusal = refusal_of(entered)
        assert (refusal.code, refusal.text) == (code, "no")
        assert paper.conversation.rooms == ()
        assert paper.reconnect() == []
        assert paper.verdicts == []
        assert paper.heard.of("refused") == []

    def test_the_next_room_opens_the_session_where_the_first_is_refused(self) -> None:
        paper = Paper()
        one, two = paper.conversation.join("one"), paper.conversation.join("two")
        paper.conversation.connected()
        paper.answer(Error(ErrorCode.NOT_ALLOWED, 0, "banned"))
        refusal_of(one)
        assert paper.sent == [Join("ann", "one"), Join("ann", "two")]
        paper.answer(*granted(room="two"))
        result(two)

    def test_a_room_that_one_is_in_is_only_looked_at(self) -> None:
        paper = Paper()
        paper.let_in(chat(3))
        again = paper.conversation.join("lobby", 10)
        assert paper.sent == [Who("lobby")]
        paper.answer(Roster("lobby", 3, 2, ("ann", "bob")))
        assert result(again) == Entered("lobby", ("ann", "bob"), 2, 3, 0)

    def test_asking_twice_joins_once(self) -> None:
        paper = Paper()
        paper.conversation.connected()
        one, two = paper.conversation.join("lobby"), paper.conversation.join("lobby")
        assert paper.sent == [Join("ann", "lobby")]
        paper.answer(*granted())
        assert result(one) == result(two)

    def test_something_is_sent_at_once_even_without_a_room(self) -> None:
        """Section 6: after 1 s of silence the server would expect lines."""
        paper = Paper()
        paper.conversation.connected()
        assert paper.sent_with_pings == [Ping(1)]

    def test_the_server_spells_the_nickname(self) -> None:
        paper = Paper()
        paper.conversation.join("lobby")
        paper.conversation.connected()
        paper.answer(Welcome(1, "Ann", EPOCH, "scripted"))
        assert paper.conversation.nick == "Ann"

    def test_a_nickname_that_fits_in_no_frame_is_a_mistake(self) -> None:
        with pytest.raises(ValueError, match="surrogates"):
            Paper("\ud800")
        with pytest.raises(ValueError, match="limit"):
            Paper().conversation.join("lobby", 65_536)


class TestTheDefaultRoom:
    """The empty name; the server says what it stands for."""

    def test_the_roster_names_it(self) -> None:
        paper = Paper()
        entered = paper.conversation.join()
        paper.conversation.connected()
        assert paper.sent == [Join("ann", "")]
        paper.answer(*granted(room="plaza"))
        assert result(entered).room == "plaza"
        assert paper.conversation.rooms == ("plaza",)
        paper.conversation.say("", "hi")
        assert paper.sent == [Say(FIRST_ID, "plaza", "hi")]

    def test_what_was_said_there_before_it_had_a_name_counts(self) -> None:
        paper = Paper()
        paper.conversation.join()
        receipt = paper.conversation.say("", "hi")
        paper.conversation.connected()
        paper.answer(*granted(room="plaza", last=4))
        assert paper.sent == [Join("ann", ""), Say(FIRST_ID, "", "hi")]
        paper.answer(Ack(FIRST_ID, 5, 0), chat(6, room="plaza"))
        assert result(receipt).seq == 5
        assert paper.heard.of("missing") == []

    def test_it_is_not_joined_twice_when_it_has_no_name_yet(self) -> None:
        paper = Paper()
        one, two = paper.conversation.join(), paper.conversation.join("plaza")
        paper.conversation.connected()
        welcome, *rest = granted(room="plaza")
        paper.answer(welcome)
        assert paper.sent == [Join("ann", "")]
        paper.answer(*rest)
        assert paper.sent == []
        assert result(one) == result(two)

    def test_another_room_follows_once_it_has_its_name(self) -> None:
        paper = Paper()
        paper.conversation.join()
        paper.conversation.join("garden")
        paper.conversation.connected()
        welcome, roster, end = granted(room="plaza")
        paper.answer(welcome)
        assert paper.sent == [Join("ann", "")]
        paper.answer(roster)
        assert paper.sent == [Join("ann", "garden")]
        paper.answer(end)

    def test_one_may_be_there_by_its_name_already(self) -> None:
        """Item 5: the join is ignored, and the pong behind it tells."""
        paper = Paper()
        paper.let_in(room="lobby")
        entered = paper.conversation.join()
        assert list(paper.conversation.rooms) == ["lobby", ""]
        paper.answer_pings()
        assert paper.sent == [Who("")]
        paper.answer(Roster("lobby", 0, 2, ("ann", "bob")))
        assert result(entered) == Entered("lobby", ("ann", "bob"), 2, 0, 0)
        assert paper.conversation.rooms == ("lobby",)

    def test_leaving_it_never_ends_the_session(self) -> None:
        paper = Paper()
        paper.conversation.join()
        paper.conversation.connected()
        left = paper.conversation.leave()
        paper.answer(*granted(room="plaza"))
        assert paper.sent == [Join("ann", ""), Leave("plaza")]
        assert is_waiting(left)


class TestSaying:
    """Section 3, items 3 and 4."""

    def test_an_ack_fires_with_the_place(self) -> None:
        paper = Paper()
        paper.let_in()
        receipt = paper.conversation.say("lobby", "hi")
        assert paper.sent == [Say(FIRST_ID, "lobby", "hi")]
        paper.answer(Ack(FIRST_ID, 3, 1_234))
        assert result(receipt) == Receipt(3, 1_234)

    def test_ids_ascend(self) -> None:
        paper = Paper()
        paper.let_in()
        paper.conversation.say("lobby", "one")
        paper.conversation.tell("bob", "two")
        assert paper.sent == [Say(FIRST_ID, "lobby", "one"), Tell(FIRST_ID + 1, "bob", "two")]

    def test_acks_find_their_message_by_its_id(self) -> None:
        paper = Paper()
        paper.let_in()
        one, two = paper.conversation.say("lobby", "one"), paper.conversation.tell("bob", "two")
        paper.answer(Ack(FIRST_ID + 1, 0, 9), Ack(5, 5, 5))
        assert is_waiting(one)
        assert result(two) == Receipt(0, 9)

    @pytest.mark.parametrize("code", [7, 9, 12, 13, 17, 99])
    def test_an_error_with_the_id_refuses_it(self, code: int) -> None:
        paper = Paper()
        paper.let_in()
        one, two = paper.conversation.say("lobby", "one"), paper.conversation.say("lobby", "two")
        paper.answer(Error(code, FIRST_ID, "no"))
        assert refusal_of(one).code == code
        assert is_waiting(two)

    def test_refusals_have_the_names_of_the_protocol(self) -> None:
        assert Refused(13, "").label == "not-stored"
        assert Refused(99, "").label == "error-99"

    def test_nothing_is_said_in_a_room_that_was_not_joined(self) -> None:
        paper = Paper()
        paper.let_in()
        assert refusal_of(paper.conversation.say("elsewhere", "hi")).code == ErrorCode.NOT_IN_ROOM
        assert paper.sent == []

    def test_what_is_said_at_once_follows_the_join(self) -> None:
        paper = Paper()
        paper.conversation.join("lobby")
        paper.conversation.say("lobby", "hi")
        paper.conversation.tell("bob", "psst")
        paper.conversation.connected()
        assert paper.sent == [Join("ann", "lobby")]
        paper.answer(*granted())
        assert paper.sent == [Say(FIRST_ID, "lobby", "hi"), Tell(FIRST_ID + 1, "bob", "psst")]

    def test_too_many_unacknowledged_are_refused_here(self) -> None:
        paper = Paper(max_waiting=2)
        paper.let_in()
        one = paper.conversation.say("lobby", "1")
        paper.conversation.tell("bob", "2")
        with pytest.raises(TooManyWaiting):
            result(paper.conversation.say("lobby", "3"))
        paper.answer(Ack(FIRST_ID, 1, 0))
        result(one)
        assert is_waiting(paper.conversation.say("lobby", "4"))
        assert [said for said in paper.sent if isinstance(said, Say)][-1] == Say(FIRST_ID + 2, "lobby", "4")

    def test_a_text_that_fits_in_no_frame_is_a_mistake(self) -> None:
        paper = Paper()
        paper.let_in()
        with pytest.raises(ValueError, match="text"):
            paper.conversation.say("lobby", "x" * 65_536)
        paper.conversation.say("lobby", "x")
        assert paper.sent == [Say(FIRST_ID, "lobby", "x")]

    def test_a_cancelled_receipt_does_not_mind_the_ack(self) -> None:
        paper = Paper()
        paper.let_in()
        receipt = paper.conversation.say("lobby", "hi")
        receipt.addErrback(lambda failure: None)
        receipt.cancel()
        paper.answer(Ack(FIRST_ID, 1, 0))

    def test_the_ids_begin_again_below_2_53(self) -> None:
        paper = Paper()
        paper.let_in()
        paper.conversation._outbox._next_id = 2**53 - 1
        paper.conversation.say("lobby", "1")
        paper.conversation.say("lobby", "2")
        assert paper.sent == [Say(2**53 - 1, "lobby", "1"), Say(1, "lobby", "2")]


class TestEvents:
    def test_what_comes_by_itself_is_told(self) -> None:
        paper = Paper()
        paper.let_in()
        told = [
            ("joined", Joined("lobby", "bob")),
            ("chat", chat(1)),
            ("renamed", Renamed("bob", "rob")),
            ("told", Told(1, "rob", "psst")),
            ("notice", Notice("lunch")),
            ("left", Left("lobby", "rob", "closed")),
        ]
        paper.heard.all.clear()
        paper.answer(*(message for _, message in told))
        assert paper.heard.all == told

    def test_a_fault_in_an_event_is_not_the_connections(self) -> None:
        paper = Paper()
        paper.let_in()
        paper.conversation._events.notice = None  # type: ignore[method-assign, assignment]
        vars(paper.heard)["all"] = None
        paper.answer(chat(1), Notice("x"), Ack(1, 1, 1))

    def test_a_fatal_error_is_why_the_connection_ends(self) -> None:
        paper = Paper()
        paper.let_in()
        who = paper.conversation.who("lobby")
        paper.answer(Error(ErrorCode.TOO_SLOW, 0, "you slept"))
        assert paper.closings == [("too-slow: you slept", 0.0)]
        assert is_waiting(who)

    def test_goodbye(self) -> None:
        paper = Paper()
        paper.let_in()
        paper.answer(Goodbye(2_500, "back soon"))
        assert paper.closings == [("back soon", 2.5)]

    @pytest.mark.parametrize("reason", ["left", "kicked"])
    def test_who_was_put_out_does_not_go_back(self, reason: str) -> None:
        paper = Paper()
        paper.let_in()
        left = Left("lobby", "ann", reason)
        paper.answer(left)
        assert paper.heard.of("left") == [left]
        assert paper.conversation.rooms == ()

    @pytest.mark.parametrize("reason", ["shutdown", "timeout", "closed", "too slow", "error"])
    def test_who_lost_the_session_goes_back(self, reason: str) -> None:
        paper = Paper()
        paper.let_in()
        paper.answer(Left("lobby", "ann", reason))
        assert paper.conversation.rooms == ("lobby",)

    def test_who_was_put_out_of_a_large_room_learns_it_from_the_refusal(self) -> None:
        """Section 3, item 7: `left` is not sent there."""
        paper = Paper()
        paper.let_in()
        receipt = paper.conversation.say("lobby", "hi")
        paper.answer(Error(ErrorCode.NOT_IN_ROOM, FIRST_ID, "no"))
        refusal_of(receipt)
        assert paper.conversation.rooms == ()

    def test_chats_of_rooms_that_were_not_joined_are_none_of_ours(self) -> None:
        paper = Paper()
        paper.let_in()
        paper.answer(chat(1, room="elsewhere"))
        assert paper.heard.seqs == []


class TestEnding:
    def test_everything_that_waits_fails(self) -> None:
        paper = Paper()
        paper.let_in()
        paper.conversation.disconnected("")
        verdict = Refused(4, "taken")
        waiting: list[Deferred[Any]] = [
            paper.conversation.join("two"),
            paper.conversation.say("lobby", "hi"),
            paper.conversation.tell("bob", "hi"),
            paper.conversation.who("lobby"),
            paper.conversation.login("ann", "secret"),
        ]
        paper.conversation.end(verdict)
        for each in waiting:
            assert refusal_of(each) is verdict
        assert paper.conversation.rooms == ()

    def test_those_who_are_told_may_ask_for_more(self) -> None:
        paper = Paper()
        paper.let_in()
        later: list[Deferred[Any]] = []

        def ask_again(failure: Failure) -> None:
            later.append(paper.conversation.who("lobby"))
            later.append(paper.conversation.tell("bob", "again"))

        paper.conversation.who("lobby").addErrback(ask_again)
        paper.conversation.tell("bob", "hi").addErrback(ask_again)
        paper.reconnect()
        paper.answer(*granted())
        assert [type(message) for message in paper.sent] == [Tell, Tell, Who]
        assert all(map(is_waiting, later))


def test_whatever_the_server_sends_is_taken() -> None:
    """Each message of the protocol, out of place: nothing is raised, and the conversation goes on."""
    strange: list[Message] = [
        Roster("lobby", 0, 0, ()),
        End("lobby", 5, 2, 9),
        End("lobby", 0, 0, 2),
        Pong(0),
        Ack(0, 0, 0),
        Error(0, 5, ""),
        Lagged("lobby", 0, 0),
        Lagged("lobby", 9, 3),
        Chat("lobby", 0, 0, "", ""),
        Renamed("", ""),
        Left("", "ann", "kicked"),
        Welcome(0, "ann", 3, ""),
    ]
    for connected in (False, True):
        for message in strange:
            paper = Paper()
            paper.let_in()
            if not connected:
                paper.reconnect()
            paper.answer(message, message)
            paper.reconnect()
            paper.answer(*granted(chat(1)))
            assert paper.heard.seqs == [1], (connected, message)

"""chatproto.client.conversation, with membership, outbox and requests: everything but the connection."""

from __future__ import annotations

from typing import Any

import pytest
from client.scripted import EPOCH, FIRST_ID, Paper, chat, granted, is_waiting, result
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from chatproto.client.outcomes import Disconnected, Entered, Receipt, Refused, TooManyWaiting
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import (
    Ack,
    Chat,
    End,
    Error,
    Goodbye,
    History,
    Join,
    Joined,
    Lagged,
    Leave,
    Left,
    Login,
    Message,
    Moderate,
    Nick,
    Notice,
    Ping,
    Pong,
    Renamed,
    Roster,
    Say,
    Search,
    Tell,
    Told,
    Welcome,
    Who,
)

EVERYTHING = 65_535


def refusal_of(deferred: Deferred[Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        result(deferred)
    return caught.value


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


class TestRequests:
    """Answers without an id: the server answers in the order in which it was asked."""

    def test_each_answer_goes_to_its_request(self) -> None:
        paper = Paper()
        paper.let_in(chat(1), chat(2))
        who, past = paper.conversation.who("lobby"), paper.conversation.history("lobby", 2, 10)
        found, who_else = paper.conversation.search("lobby", "text"), paper.conversation.who("elsewhere")
        assert paper.sent == [
            Who("lobby"),
            History("lobby", 2, 10),
            Search("lobby", "text", 50),
            Who("elsewhere"),
        ]
        paper.answer(Roster("lobby", 2, 1, ("ann",)))
        paper.answer(chat(1), End("lobby", 1, 1, 0))
        paper.answer(chat(1), chat(2), End("lobby", 1, 2, 0))
        paper.answer(Error(ErrorCode.NOT_IN_ROOM, 0, "no"))
        assert result(who).total == 1
        assert [said.seq for said in result(past)] == [1]
        assert [said.seq for said in result(found)] == [1, 2]
        assert refusal_of(who_else).code == ErrorCode.NOT_IN_ROOM
        assert paper.heard.seqs == [1, 2]

    def test_live_messages_may_come_between(self) -> None:
        paper = Paper()
        paper.let_in(chat(5), chat(6))
        past = paper.conversation.history("lobby", limit=3)
        assert paper.sent == [History("lobby", 7, 3)]
        paper.answer(chat(4), chat(7), chat(5), chat(6), chat(8), End("lobby", 4, 6, 1))
        assert [said.seq for said in result(past)] == [4, 5, 6]
        assert paper.heard.seqs == [5, 6, 7, 8]

    def test_live_messages_of_other_rooms_may_come_between(self) -> None:
        paper = Paper()
        paper.let_in(chat(5))
        paper.conversation.join("other")
        paper.answer(*granted(room="other", welcome=False))
        past = paper.conversation.history("lobby")
        paper.answer(chat(1, room="other"), chat(5), End("lobby", 5, 5, 1))
        assert result(past) == [chat(5)]
        assert paper.heard.of("chat") == [chat(5), chat(1, room="other")]

    def test_live_messages_may_come_between_what_was_found(self) -> None:
        paper = Paper()
        paper.let_in(chat(5))
        found = paper.conversation.search("lobby", "text")
        paper.answer(chat(2), chat(6), chat(5), End("lobby", 2, 5, 0))
        assert result(found) == [chat(2), chat(5)]
        assert paper.heard.seqs == [5, 6]

    def test_no_more_history_than_was_seen(self) -> None:
        """Or a message could be taken for history that is still to come live."""
        paper = Paper()
        paper.let_in(chat(5))
        paper.conversation.history("lobby", before=9)
        paper.conversation.history("lobby", before=3)
        assert paper.sent == [History("lobby", 6, 50), History("lobby", 3, 50)]

    def test_history_of_a_room_that_was_not_joined(self) -> None:
        paper = Paper()
        paper.let_in()
        past = paper.conversation.history("elsewhere", limit=9)
        assert paper.sent == [History("elsewhere", 0, 9)]
        paper.answer(chat(1), chat(3, room="elsewhere"), chat(4, room="elsewhere"), End("elsewhere", 3, 4, 0))
        assert [said.seq for said in result(past)] == [3, 4]
        assert paper.heard.seqs == [1]

    def test_no_history(self) -> None:
        paper = Paper()
        paper.let_in()
        past = paper.conversation.history("lobby")
        paper.answer(End("lobby", 0, 0, 0))
        assert result(past) == []

    def test_everything_waits_for_a_session(self) -> None:
        paper = Paper()
        who = paper.conversation.who("lobby")
        paper.conversation.connected()
        assert paper.sent == []
        paper.conversation.join("lobby")
        paper.answer(*granted())
        assert paper.sent == [Join("ann", "lobby"), Who("lobby")]
        paper.answer(Roster("lobby", 0, 1, ("ann",)))
        result(who)

    def test_what_is_on_its_way_fails_with_the_connection(self) -> None:
        paper = Paper()
        paper.let_in()
        who, past, name = (
            paper.conversation.who(),
            paper.conversation.history(),
            paper.conversation.rename("b"),
        )
        ping = paper.conversation.ping()
        paper.reconnect()
        waiting: list[Deferred[Any]] = [who, past, name, ping]
        for request in waiting:
            with pytest.raises(Disconnected, match="the cable broke"):
                result(request)

    def test_too_many_requests_are_refused_here(self) -> None:
        paper = Paper(max_waiting=2)
        paper.let_in()
        paper.conversation.who("lobby")
        paper.conversation.who("lobby")
        with pytest.raises(TooManyWaiting):
            result(paper.conversation.who("lobby"))
        paper.conversation.ping()
        paper.conversation.ping()
        with pytest.raises(TooManyWaiting):
            result(paper.conversation.ping())
        paper.conversation.join("two")
        with pytest.raises(TooManyWaiting):
            result(paper.conversation.join("three"))

    def test_a_roster_that_nobody_asked_for_is_an_event(self) -> None:
        paper = Paper()
        paper.let_in()
        who = paper.conversation.who("elsewhere")
        roster = Roster("lobby", 0, 1, ("ann",))
        paper.answer(roster)
        assert paper.heard.of("roster") == [roster]
        assert is_waiting(who)

    def test_an_error_that_belongs_to_nothing_is_an_event(self) -> None:
        paper = Paper()
        paper.let_in()
        paper.answer(Error(12, 0, "no"))
        ((room, refusal),) = paper.heard.of("refused")
        assert (room, refusal.code) == ("", 12)

    def test_pings_are_told_apart_by_their_tokens(self) -> None:
        paper = Paper()
        paper.let_in()
        one, two = paper.conversation.ping(), paper.conversation.ping()
        first, second = paper.sent_with_pings
        assert isinstance(first, Ping)
        assert isinstance(second, Ping)
        paper.answer(Pong(second.token))
        result(two)
        assert is_waiting(one)
        paper.answer(Pong(12_345))

    def test_without_a_connection_there_is_no_ping(self) -> None:
        with pytest.raises(Disconnected):
            result(Paper().conversation.ping())


class TestLeaving:
    def test_a_pong_without_an_error_before_it_means_that_one_has_left(self) -> None:
        paper = Paper()
        paper.let_in()
        left = paper.conversation.leave("lobby")
        leave, ping = paper.sent_with_pings
        assert leave == Leave("lobby")
        assert isinstance(ping, Ping)
        assert is_waiting(left)
        paper.answer(Pong(ping.token))
        assert result(left) is None
        assert paper.conversation.rooms == ()

    def test_nothing_of_the_room_is_told_any_more(self) -> None:
        paper = Paper()
        paper.let_in()
        paper.conversation.leave("lobby")
        paper.answer(chat(1))
        assert paper.heard.seqs == []

    def test_the_room_can_be_joined_again_at_once(self) -> None:
        paper = Paper()
        paper.let_in()
        paper.conversation.leave("lobby")
        entered = paper.conversation.join("lobby", 5)
        paper.answer(chat(1))
        paper.answer_pings()
        paper.answer(*granted(chat(2), welcome=False))
        result(entered)
        assert paper.heard.seqs == [2]
        assert paper.heard.of("missing") == []

    def test_a_room_that_was_never_joined(self) -> None:
        assert refusal_of(Paper().conversation.leave("lobby")).code == ErrorCode.NOT_IN_ROOM

    def test_a_room_that_was_not_joined_yet(self) -> None:
        paper = Paper()
        entered = paper.conversation.join("lobby")
        receipt = paper.conversation.say("lobby", "hi")
        result(paper.conversation.leave("lobby"))
        assert refusal_of(entered).code == ErrorCode.NOT_IN_ROOM
        assert refusal_of(receipt).code == ErrorCode.NOT_IN_ROOM

    def test_a_lost_connection_leaves_too(self) -> None:
        paper = Paper()
        paper.let_in()
        left = paper.conversation.leave("lobby")
        receipt = paper.conversation.tell("bob", "hi")
        assert paper.reconnect() == []
        assert result(left) is None
        with pytest.raises(Disconnected):
            result(receipt)  # there is no room any more with which to open a session

    def test_having_been_put_out_is_having_left(self) -> None:
        paper = Paper()
        paper.let_in()
        left = paper.conversation.leave("lobby")
        paper.answer(Error(ErrorCode.NOT_IN_ROOM, 0, "no"))
        assert result(left) is None

    def test_where_leaving_is_refused_one_is_still_there(self) -> None:
        paper = Paper()
        paper.let_in()
        left = paper.conversation.leave("lobby")
        paper.answer(Error(ErrorCode.RATE_LIMITED, 0, "wait"))
        assert refusal_of(left).code == ErrorCode.RATE_LIMITED
        paper.answer(chat(1))
        assert paper.heard.seqs == [1]

    def test_goodbye_ends_the_session(self) -> None:
        paper = Paper()
        paper.conversation.say_goodbye()
        paper.let_in()
        paper.conversation.say_goodbye()
        assert paper.sent == [Leave("")]


class TestRenaming:
    def test_the_answer_is_renamed(self) -> None:
        paper = Paper()
        paper.let_in()
        name = paper.conversation.rename("ANNA")
        assert paper.sent == [Nick("ANNA")]
        paper.answer(Renamed("bob", "rob"))
        assert is_waiting(name)
        paper.answer(Renamed("ann", "Anna"))
        assert result(name) == "Anna"
        assert paper.conversation.nick == "Anna"
        assert paper.reconnect() == [Join("Anna", "lobby", EPOCH, 0, EVERYTHING)]

    def test_a_join_waits_for_it(self) -> None:
        """Section 3, item 5: a join with another nickname than the session's is an error."""
        paper = Paper()
        paper.let_in()
        paper.conversation.rename("anna")
        paper.conversation.join("two")
        assert paper.sent == [Nick("anna")]
        paper.answer(Renamed("ann", "anna"))
        assert paper.sent == [Join("anna", "two")]

    def test_a_join_waits_for_its_refusal_too(self) -> None:
        paper = Paper()
        paper.let_in()
        name = paper.conversation.rename("bob")
        paper.conversation.join("two")
        paper.answer(Error(ErrorCode.NICK_TAKEN, 0, "taken"))
        assert refusal_of(name).code == ErrorCode.NICK_TAKEN
        assert paper.sent == [Nick("bob"), Join("ann", "two")]

    def test_no_answer_is_no_change(self) -> None:
        paper = Paper()
        paper.let_in()
        name = paper.conversation.rename("ann")
        paper.answer_pings()
        assert result(name) == "ann"

    def test_before_anything_was_joined_it_needs_no_server(self) -> None:
        paper = Paper()
        assert result(paper.conversation.rename("anna")) == "anna"
        paper.conversation.join("lobby")
        paper.conversation.connected()
        assert paper.sent == [Join("anna", "lobby")]

    def test_between_connections_it_waits(self) -> None:
        """What is said again must be said under the nickname under which it was said."""
        paper = Paper()
        paper.let_in()
        paper.conversation.say("lobby", "hi")
        paper.conversation.disconnected("")
        name = paper.conversation.rename("anna")
        paper.sent  # noqa: B018 - forget it
        paper.conversation.connected()
        assert is_waiting(name)
        paper.answer(*granted())
        assert paper.sent == [
            Join("ann", "lobby", EPOCH, 0, EVERYTHING),
            Say(FIRST_ID, "lobby", "hi"),
            Nick("anna"),
        ]


class TestLoggingIn:
    def test_it_comes_first_on_each_connection(self) -> None:
        paper = Paper()
        greeting = paper.conversation.login("ann", "secret")
        paper.conversation.join("lobby")
        paper.conversation.connected()
        assert paper.sent == [Login("ann", "secret"), Join("ann", "lobby")]
        paper.answer(Notice("you are logged in"), *granted())
        assert result(greeting) == "you are logged in"
        assert paper.heard.of("notice") == []
        assert paper.reconnect() == [Login("ann", "secret"), Join("ann", "lobby", EPOCH, 0, EVERYTHING)]

    def test_it_may_come_after_the_connection(self) -> None:
        paper = Paper()
        paper.conversation.connected()
        greeting = paper.conversation.login("ann", "secret")
        assert paper.sent == [Login("ann", "secret")]
        paper.answer_pings()
        assert is_waiting(greeting)

    def test_a_server_may_say_nothing(self) -> None:
        paper = Paper()
        paper.conversation.connected()
        greeting = paper.conversation.login("ann", "secret")
        pings = [message for message in paper.sent_with_pings if isinstance(message, Ping)]
        paper.answer(Pong(pings[-1].token))
        assert result(greeting) == ""

    def test_a_wrong_secret_is_not_tried_again(self) -> None:
        paper = Paper()
        paper.conversation.connected()
        greeting = paper.conversation.login("ann", "wrong")
        paper.answer(Error(ErrorCode.LOGIN_FAILED, 0, "wrong"))
        assert refusal_of(greeting).code == ErrorCode.LOGIN_FAILED
        assert paper.reconnect() == []

    def test_a_secret_that_is_wrong_later_is_an_event(self) -> None:
        paper = Paper()
        paper.conversation.login("ann", "secret")
        paper.conversation.join("lobby")
        paper.conversation.connected()
        paper.answer(Notice("hello"), *granted())
        paper.reconnect()
        paper.answer(Error(ErrorCode.LOGIN_FAILED, 0, "wrong"), Error(ErrorCode.LOGIN_REQUIRED, 0, "log in"))
        assert [(room, refusal.code) for room, refusal in paper.heard.of("refused")] == [
            ("", 11),
            ("lobby", 10),
        ]
        assert [refusal.code for refusal in paper.verdicts] == [ErrorCode.LOGIN_REQUIRED]

    def test_a_second_one_takes_the_place_of_the_first(self) -> None:
        paper = Paper()
        first = paper.conversation.login("ann", "old")
        paper.conversation.login("ann", "new")
        with pytest.raises(Disconnected):
            result(first)
        paper.conversation.connected()
        assert paper.sent == [Login("ann", "new")]


class TestModerating:
    def test_the_answer_is_a_notice(self) -> None:
        paper = Paper()
        paper.let_in()
        done = paper.conversation.moderate(1, "lobby", "bob", 0, "spam")
        assert paper.sent == [Moderate(1, "lobby", "bob", 0, "spam")]
        paper.answer(Notice("bob was kicked"))
        assert result(done) == "bob was kicked"

    def test_it_may_be_refused(self) -> None:
        paper = Paper()
        paper.let_in()
        done = paper.conversation.moderate(1, "lobby", "bob", 0, "")
        paper.answer(Error(ErrorCode.NOT_ALLOWED, 0, "no"))
        assert refusal_of(done).code == ErrorCode.NOT_ALLOWED


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


class TestSequences:
    """No message twice, and none lost unnoticed: section 3, and section 5 for slow readers."""

    def test_nothing_is_told_twice(self) -> None:
        paper = Paper()
        paper.let_in(chat(1), chat(2))
        paper.answer(chat(2), chat(3), chat(3))
        assert paper.heard.seqs == [1, 2, 3]

    def test_a_jump_is_a_loss(self) -> None:
        paper = Paper()
        paper.let_in(chat(1))
        paper.heard.all.clear()
        paper.answer(chat(4))
        assert paper.heard.all == [("missing", "lobby", 2, 3), ("chat", chat(4))]

    def test_ones_own_acks_count(self) -> None:
        paper = Paper()
        paper.let_in(chat(1))
        paper.conversation.say("lobby", "own")
        paper.answer(Ack(FIRST_ID, 2, 0), chat(3))
        assert paper.heard.of("missing") == []
        assert paper.reconnect() == [Join("ann", "lobby", EPOCH, 3, EVERYTHING)]

    def test_an_ack_may_come_after_later_messages(self) -> None:
        paper = Paper()
        paper.let_in(chat(1))
        paper.conversation.say("lobby", "own")
        paper.answer(chat(3), chat(4), Ack(FIRST_ID, 2, 0), chat(5))
        assert paper.heard.seqs == [1, 3, 4, 5]
        assert paper.heard.of("missing") == []

    def test_what_the_ack_does_not_explain_is_lost(self) -> None:
        paper = Paper()
        paper.let_in(chat(1))
        paper.conversation.say("lobby", "own")
        paper.answer(chat(4))
        assert paper.heard.of("missing") == []
        paper.answer(Ack(FIRST_ID, 3, 0))
        assert paper.heard.of("missing") == [("lobby", 2, 2)]

    def test_what_a_refusal_does_not_explain_is_lost(self) -> None:
        paper = Paper()
        paper.let_in(chat(1))
        paper.conversation.say("lobby", "own").addErrback(lambda failure: None)
        paper.answer(chat(3), Error(ErrorCode.NOT_STORED, FIRST_ID, "disk full"))
        assert paper.heard.of("missing") == [("lobby", 2, 2)]

    def test_what_was_said_elsewhere_explains_nothing(self) -> None:
        paper = Paper()
        paper.let_in(chat(1))
        paper.conversation.join("two")
        paper.answer(*granted(room="two", welcome=False))
        paper.conversation.say("two", "own")
        paper.conversation.tell("bob", "own")
        paper.answer(chat(3))
        assert paper.heard.of("missing") == [("lobby", 2, 2)]

    def test_the_first_replay_is_where_it_begins(self) -> None:
        paper = Paper()
        paper.let_in(last=10, status=1)
        paper.answer(chat(11), chat(13))
        assert paper.heard.of("missing") == [("lobby", 12, 12)]

    def test_lagging_loses_nothing(self) -> None:
        paper = Paper()
        paper.let_in(chat(1))
        paper.answer(Lagged("lobby", 2, 4), chat(2), chat(3), chat(4), chat(5))
        assert paper.heard.seqs == [1, 2, 3, 4, 5]
        assert paper.heard.of("lagged") == [Lagged("lobby", 2, 4)]
        assert paper.heard.of("missing") == []

    def test_lagging_out_of_what_is_kept_loses_something(self) -> None:
        paper = Paper()
        paper.let_in(chat(1))
        paper.answer(Lagged("lobby", 5, 6))
        assert paper.heard.of("missing") == [("lobby", 2, 4)]
        paper.answer(chat(5), chat(6))
        assert paper.heard.seqs == [1, 5, 6]

    def test_lagging_behind_ones_own_loses_nothing(self) -> None:
        paper = Paper()
        paper.let_in(chat(1))
        paper.conversation.say("lobby", "own")
        paper.answer(Lagged("lobby", 3, 4), chat(3), Ack(FIRST_ID, 2, 0), chat(4))
        assert paper.heard.of("missing") == []

    def test_lagging_during_a_replay(self) -> None:
        paper = Paper()
        paper.conversation.connected()
        entered = paper.conversation.join("lobby", 10)
        welcome, roster, *_, end = granted(*map(chat, range(1, 7)))
        paper.answer(welcome, roster, chat(1), chat(2), Lagged("lobby", 3, 8), *map(chat, range(3, 7)), end)
        paper.answer(chat(7), chat(8), chat(9))
        result(entered)
        assert paper.heard.seqs == list(range(1, 10))
        assert paper.heard.of("missing") == []

    def test_an_end_before_what_was_dropped_loses_nothing(self) -> None:
        paper = Paper()
        paper.conversation.connected()
        paper.conversation.join("lobby", 10)
        welcome, roster, *_, end = granted(*map(chat, range(1, 5)))
        paper.answer(welcome, roster, chat(1), chat(2), end, Lagged("lobby", 3, 4), chat(3), chat(4))
        assert paper.heard.seqs == [1, 2, 3, 4]
        assert paper.heard.of("missing") == []


class TestComingBack:
    """After a lost connection."""

    def test_what_was_missed_is_asked_for(self) -> None:
        paper = Paper()
        paper.let_in(chat(4), chat(5))
        assert paper.reconnect() == [Join("ann", "lobby", EPOCH, 5, EVERYTHING)]
        paper.answer(*granted(chat(6), chat(7)), chat(8))
        assert paper.heard.seqs == [4, 5, 6, 7, 8]
        assert paper.heard.of("missing") == []

    def test_an_empty_room_is_asked_for_from_its_beginning(self) -> None:
        paper = Paper()
        paper.let_in()
        assert paper.reconnect() == [Join("ann", "lobby", EPOCH, 0, EVERYTHING)]
        paper.answer(*granted(chat(1)))
        assert paper.heard.seqs == [1]

    def test_a_first_replay_that_broke_off_goes_on(self) -> None:
        paper = Paper()
        entered = paper.conversation.join("lobby", 10)
        paper.conversation.connected()
        paper.answer(*granted(chat(3), chat(4), chat(5), status=1)[:-2])
        assert paper.reconnect() == [Join("ann", "lobby", EPOCH, 4, EVERYTHING)]
        paper.answer(*granted(chat(5)))
        assert result(entered).last == 5
        assert paper.heard.seqs == [3, 4, 5]

    def test_a_join_that_was_not_answered_is_asked_again_as_it_was(self) -> None:
        paper = Paper()
        entered = paper.conversation.join("lobby", 10)
        paper.conversation.connected()
        assert paper.reconnect() == [Join("ann", "lobby", 0, 0, 10)]
        assert is_waiting(entered)

    def test_all_rooms_are_joined_again(self) -> None:
        paper = Paper()
        paper.let_in(chat(1))
        paper.conversation.join("two")
        paper.answer(*granted(room="two", welcome=False, last=9, status=1))
        assert paper.reconnect() == [Join("ann", "lobby", EPOCH, 1, EVERYTHING)]
        paper.answer(*granted(last=1))
        assert paper.sent == [Join("ann", "two", EPOCH, 9, EVERYTHING)]

    def test_who_is_there_by_now_is_told_when_one_is_back(self) -> None:
        paper = Paper()
        paper.let_in()
        assert paper.heard.of("roster") == []
        paper.reconnect()
        paper.answer(*granted())
        assert paper.heard.of("roster") == [Roster("lobby", 0, 1, ("ann",))]

    def test_a_hole_that_the_server_admits(self) -> None:
        paper = Paper()
        paper.let_in(chat(1))
        paper.reconnect()
        paper.heard.all.clear()
        paper.answer(*granted(chat(5), chat(6), status=1))
        assert paper.heard.all[2:] == [("missing", "lobby", 2, 4), ("chat", chat(5)), ("chat", chat(6))]

    def test_a_hole_in_the_replay_is_not_ones_own(self) -> None:
        """For in a replay one's own messages come too."""
        paper = Paper()
        paper.let_in(chat(1))
        paper.conversation.say("lobby", "own")
        paper.reconnect()
        paper.answer(*granted(chat(5), status=1))
        assert paper.heard.of("missing") == [("lobby", 2, 4)]

    def test_a_hole_of_everything(self) -> None:
        paper = Paper()
        paper.let_in(chat(1))
        paper.reconnect()
        paper.answer(*granted(last=6, status=1))
        assert paper.heard.of("missing") == [("lobby", 2, 6)]
        paper.answer(chat(7))
        assert paper.heard.seqs == [1, 7]

    def test_a_hole_in_doubt_is_filled_by_the_replay(self) -> None:
        paper = Paper()
        paper.let_in(chat(1))
        paper.conversation.say("lobby", "own")
        paper.answer(chat(4))
        assert paper.reconnect() == [Join("ann", "lobby", EPOCH, 1, EVERYTHING)]
        paper.answer(*granted(chat(2), chat(3, "own", "ann"), chat(4), chat(5)), Ack(FIRST_ID, 3, 0))
        assert paper.heard.seqs == [1, 4, 2, 5]
        assert paper.heard.of("missing") == []

    @pytest.mark.parametrize("epoch", [EPOCH, EPOCH + 1])
    def test_a_sequence_that_started_anew(self, epoch: int) -> None:
        """`after` lies ahead of the room, or the epoch is another; the new numbers are not the old ones."""
        paper = Paper()
        paper.let_in(*map(chat, range(1, 6)))
        paper.reconnect()
        paper.heard.all.clear()
        again = [chat(1, "new"), chat(2, "new")]
        paper.answer(*granted(*again, status=2, epoch=epoch))
        assert paper.heard.all[2:] == [("missing", "lobby", 0, 0), ("chat", again[0]), ("chat", again[1])]
        assert paper.reconnect() == [Join("ann", "lobby", epoch, 2, EVERYTHING)]

    def test_a_second_room_is_not_asked_for_under_an_epoch_that_it_never_had(self) -> None:
        paper = Paper()
        paper.let_in(chat(1))
        paper.conversation.join("two")
        paper.answer(*granted(chat(1, room="two"), room="two", welcome=False))
        paper.reconnect()
        paper.answer(*granted(status=2, epoch=8))
        assert paper.sent == [Join("ann", "two", EPOCH, 1, EVERYTHING)]
        paper.answer(*granted(chat(1, room="two"), room="two", welcome=False, status=2))
        assert paper.heard.of("missing") == [("lobby", 0, 0), ("two", 0, 0)]
        assert len(paper.heard.of("chat")) == 3

    def test_a_new_beginning_that_only_the_end_tells(self) -> None:
        paper = Paper()
        paper.let_in()
        paper.reconnect()
        paper.answer(*granted(chat(1), status=2, epoch=8))
        assert paper.heard.of("missing") == [("lobby", 0, 0)]
        assert paper.heard.seqs == [1]

    def test_unacknowledged_messages_are_said_again_under_their_ids(self) -> None:
        paper = Paper()
        paper.let_in()
        one, two = paper.conversation.say("lobby", "one"), paper.conversation.say("lobby", "two")
        three = paper.conversation.tell("bob", "three")
        paper.answer(Ack(FIRST_ID, 1, 0))
        paper.conversation.disconnected("")
        four = paper.conversation.say("lobby", "four")
        paper.sent  # noqa: B018 - forget it
        paper.conversation.connected()
        paper.answer(*granted(last=1))
        assert paper.sent == [
            Join("ann", "lobby", EPOCH, 1, EVERYTHING),
            Say(FIRST_ID + 1, "lobby", "two"),
            Tell(FIRST_ID + 2, "bob", "three"),
            Say(FIRST_ID + 3, "lobby", "four"),
        ]
        paper.answer(Ack(FIRST_ID + 1, 2, 0), Ack(FIRST_ID + 2, 0, 0), Ack(FIRST_ID + 3, 3, 0))
        assert [result(receipt).seq for receipt in (one, two, three, four)] == [1, 2, 0, 3]

    def test_ones_own_message_in_the_replay_is_not_told(self) -> None:
        paper = Paper()
        paper.let_in()
        receipt = paper.conversation.say("lobby", "own")
        paper.reconnect()
        paper.answer(*granted(chat(1), chat(2, "own", "ann"), chat(3)))
        assert is_waiting(receipt)
        paper.answer(Ack(FIRST_ID, 2, 0))
        assert result(receipt).seq == 2
        assert paper.heard.seqs == [1, 3]

    def test_ones_own_acknowledged_message_in_the_replay_is_not_told(self) -> None:
        paper = Paper()
        paper.let_in()
        paper.conversation.say("lobby", "own")
        paper.answer(chat(1), chat(3), Ack(FIRST_ID, 4, 0))
        assert paper.heard.of("missing") == [("lobby", 2, 2)]
        paper.reconnect()
        paper.answer(*granted(chat(4, "own", "ann"), chat(5)))
        assert paper.heard.seqs == [1, 3, 5]

    def test_an_equal_text_of_an_earlier_life_is_told_late_rather_than_never(self) -> None:
        paper = Paper()
        paper.let_in()
        receipt = paper.conversation.say("lobby", "own")
        paper.reconnect()
        paper.answer(*granted(chat(1, "own", "ann")))
        paper.answer(Ack(FIRST_ID, 2, 0))
        assert result(receipt).seq == 2
        assert paper.heard.seqs == [1]

    def test_nor_is_it_lost_when_the_message_is_refused(self) -> None:
        paper = Paper()
        paper.let_in()
        receipt = paper.conversation.say("lobby", "own")
        paper.reconnect()
        paper.answer(*granted(chat(1, "own", "ann")), Error(ErrorCode.NOT_STORED, FIRST_ID, "no"))
        refusal_of(receipt)
        assert paper.heard.seqs == [1]

    def test_what_one_said_in_an_earlier_life_is_told(self) -> None:
        paper = Paper()
        paper.conversation.join("lobby", 10)
        paper.conversation.say("lobby", "own")
        paper.conversation.connected()
        paper.answer(*granted(chat(1, "from before", "ann"), chat(2)))
        assert paper.heard.seqs == [1, 2]

    def test_two_equal_texts_are_two_messages(self) -> None:
        paper = Paper()
        paper.let_in()
        one, two = paper.conversation.say("lobby", "own"), paper.conversation.say("lobby", "own")
        paper.reconnect()
        paper.answer(*granted(chat(1, "own", "ann"), chat(2, "own", "ann")))
        paper.answer(Ack(FIRST_ID, 1, 0), Ack(FIRST_ID + 1, 2, 0))
        assert [result(one).seq, result(two).seq] == [1, 2]
        assert paper.heard.seqs == []

    def test_a_nickname_that_the_lost_session_holds_is_tried_again(self) -> None:
        paper = Paper(max_refusals=3)
        paper.let_in()
        receipt = paper.conversation.say("lobby", "hi")
        paper.reconnect()
        for attempt in (1, 2, 3):
            paper.answer(Error(ErrorCode.NICK_TAKEN, 0, "taken"))
            assert paper.put_offs[-1] == attempt
            assert paper.sent == []
            paper.conversation.resume()
            assert paper.sent == [Join("ann", "lobby", EPOCH, 0, EVERYTHING)]
        paper.answer(*granted())
        assert paper.sent == [Say(FIRST_ID, "lobby", "hi")]
        assert paper.verdicts == []
        assert is_waiting(receipt)

    def test_but_not_for_ever(self) -> None:
        paper = Paper(max_refusals=2)
        paper.let_in()
        paper.reconnect()
        for _ in range(3):
            assert paper.verdicts == []
            paper.answer(Error(ErrorCode.NICK_TAKEN, 0, "taken"))
            paper.conversation.resume()
        assert [refusal.code for refusal in paper.verdicts] == [ErrorCode.NICK_TAKEN]

    def test_refusals_are_counted_over_connections(self) -> None:
        paper = Paper(max_refusals=2)
        paper.let_in()
        for _ in range(3):
            paper.reconnect()
            paper.answer(Error(ErrorCode.NICK_TAKEN, 0, "taken"))
        assert paper.put_offs == [1, 2]
        assert len(paper.verdicts) == 1

    def test_a_room_that_refuses_is_left_out(self) -> None:
        paper = Paper()
        paper.let_in()
        paper.conversation.join("two")
        paper.answer(*granted(room="two", welcome=False))
        receipt = paper.conversation.say("lobby", "hi")
        paper.reconnect()
        paper.answer(Error(ErrorCode.NOT_ALLOWED, 0, "banned"))
        assert [(room, refusal.code) for room, refusal in paper.heard.of("refused")] == [("lobby", 12)]
        assert refusal_of(receipt).code == ErrorCode.NOT_ALLOWED
        assert paper.sent == [Join("ann", "two", EPOCH, 0, EVERYTHING)]
        assert paper.verdicts == []

    def test_where_all_rooms_refuse_there_is_no_use_in_going_on(self) -> None:
        paper = Paper()
        paper.let_in()
        paper.reconnect()
        paper.answer(Error(ErrorCode.NOT_ALLOWED, 0, "banned"))
        assert [refusal.text for refusal in paper.verdicts] == ["banned"]

    def test_a_rejoin_that_comes_too_soon_is_put_off(self) -> None:
        paper = Paper()
        paper.let_in()
        paper.conversation.join("two")
        paper.answer(*granted(room="two", welcome=False))
        paper.reconnect()
        paper.answer(*granted(), Error(ErrorCode.RATE_LIMITED, 0, "wait"))
        assert paper.put_offs == [1]
        assert paper.conversation.rooms == ("lobby", "two")
        receipt = paper.conversation.say("two", "hi")
        paper.sent  # noqa: B018 - forget it
        paper.conversation.resume()
        assert paper.sent == [Join("ann", "two", EPOCH, 0, EVERYTHING), Say(FIRST_ID, "two", "hi")]
        assert is_waiting(receipt)


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

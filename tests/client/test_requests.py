"""chatproto.client.conversation: what one asks, and what the answers come to."""

from __future__ import annotations

from typing import Any

import pytest
from client.scripted import EPOCH, EVERYTHING, FIRST_ID, Paper, chat, granted, is_waiting, refusal_of, result
from twisted.internet.defer import Deferred

from chatproto.client.outcomes import Disconnected, TooManyWaiting
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import (
    End,
    Error,
    History,
    Join,
    Leave,
    Login,
    Moderate,
    Nick,
    Notice,
    Ping,
    Pong,
    Renamed,
    Roster,
    Say,
    Search,
    Who,
)


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

"""chatproto.client.conversation: numbers without a hole, and connections that are lost and come back."""

from __future__ import annotations

import pytest
from client.scripted import EPOCH, EVERYTHING, FIRST_ID, Paper, chat, granted, is_waiting, refusal_of, result

from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import (
    Ack,
    Error,
    Join,
    Lagged,
    Roster,
    Say,
    Tell,
)


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

"""The terminal client from key to picture, with a scripted server: rooms, people, what fails, coming back."""

from __future__ import annotations

import pytest
from client.scripted import EPOCH, chat, granted
from client.terminal.counter import Counter

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
    Leave,
    Left,
    Moderate,
    Notice,
    Renamed,
    Roster,
    Say,
    Search,
    Tell,
    Told,
    Who,
)


def said(counter: Counter) -> Say:
    (message,) = counter.sent()
    assert isinstance(message, Say)
    return message


class TestTyping:
    def test_what_others_say_does_not_disturb_it(self) -> None:
        counter = Counter().begin()
        counter.type("half a sen")
        counter.answer(chat(1), Joined("lobby", "eve"), Told(0, "eve", "psst"), Notice("lunch"))
        counter.type("tence")
        assert counter.typed == "lobby› half a sentence"
        assert "text 1" in counter.body

    def test_what_one_says_waits_until_it_is_kept(self) -> None:
        counter = Counter().begin()
        counter.type("hello", "enter")
        assert counter.body[-1] == "hello …"
        assert "1 not acknowledged" in counter.status
        counter.answer(Ack(said(counter).id, 1, 0))
        assert counter.body[-1] == "hello"
        assert "not acknowledged" not in counter.status
        assert counter.typed == "lobby›"

    def test_what_is_refused_says_why_and_can_be_recalled(self) -> None:
        counter = Counter().begin()
        counter.type("hello", "enter")
        counter.answer(Error(ErrorCode.NOT_STORED, said(counter).id, "the disk is full"))
        assert counter.body[-2:] == ["hello", "✗ not said: the disk is full"]
        counter.press("up")
        assert counter.typed == "lobby› hello"

    def test_what_comes_too_fast_keeps_its_order(self) -> None:
        counter = Counter().begin()
        counter.type("one", "enter")
        counter.type("two", "enter")
        first = said(counter)
        counter.answer(Error(ErrorCode.RATE_LIMITED, first.id, "slowly"))
        assert counter.sent() == []
        counter.clock.advance(1)
        again = said(counter)
        assert again.text == "one"
        counter.answer(Ack(again.id, 1, 0))
        assert said(counter).text == "two"

    def test_several_pasted_lines_are_one_message(self) -> None:
        counter = Counter().begin()
        counter.type("look: ")
        counter.paste("one\n\ttwo\n/three\n")
        assert counter.sent() == []
        assert counter.picture[-3:] == ["lobby› look: one", "         two", "       /three"]
        counter.press("enter")
        assert said(counter).text == "look: one\n\ttwo\n/three"

    def test_pasted_keys_are_text(self) -> None:
        counter = Counter().begin()
        counter.keys.press(["begin paste", "a", "up", "meta x", "ctrl c", "b", "end paste"])
        assert counter.typed == "lobby› ab"

    @pytest.mark.parametrize(
        ("line", "hint"),
        [
            ("/jion ops", "there is no command /jion; did you mean /join?"),
            ("/xyzzy", "there is no command /xyzzy; /help shows those that there are"),
        ],
    )
    def test_a_command_that_is_none_stays_to_be_mended(self, line: str, hint: str) -> None:
        counter = Counter().begin()
        counter.type(line, "enter")
        assert (counter.status, counter.typed) == (hint, f"lobby› {line}")
        counter.press("left")
        assert hint not in counter.status

    def test_each_place_keeps_what_was_begun_there(self) -> None:
        counter = Counter().begin(rooms=("lobby", "ops"))
        counter.type("for the lobby")
        counter.press("meta 2")
        assert counter.typed == "ops›"
        counter.type("for ops")
        counter.press("meta 1")
        assert counter.typed == "lobby› for the lobby"

    def test_tab_offers_who_spoke_last_first(self) -> None:
        counter = Counter().begin()
        counter.answer(Joined("lobby", "bea"), Joined("lobby", "bob"), chat(1))
        counter.type("b", "tab")
        assert counter.typed == "lobby› bob:"
        assert counter.status == "[bob:]  bea:"
        counter.press("tab")
        assert counter.typed == "lobby› bea:"
        counter.type("hi")
        assert counter.typed == "lobby› bea: hi"


class TestPlaces:
    def test_what_is_unread_is_counted_and_gone_to(self) -> None:
        counter = Counter().begin(rooms=("lobby", "ops", "dev"))
        counter.answer(chat(1, room="ops"), chat(2, room="ops"), chat(1, "ann?", room="dev"))
        assert counter.bar == "1 lobby  2 ops (2)  3 dev (1)"
        counter.press("meta a")
        assert counter.bar == "1 lobby  2 ops (2)  3 dev"
        counter.press("meta a")
        assert counter.bar == "1 lobby  2 ops  3 dev"
        counter.press("meta a")
        assert counter.status == "nothing is unread"

    def test_ones_name_rings_once_for_each_time_it_is_said(self) -> None:
        counter = Counter().begin(chat(1, "ann, of the past"))
        assert counter.rings == 0
        counter.answer(chat(2, "ANN?"), chat(3, "annabel"), chat(4, "hi ann"))
        assert counter.rings == 2
        counter.type("/bell off", "enter")
        counter.answer(chat(5, "ann"))
        assert counter.rings == 2

    def test_a_line_shows_where_one_had_left_off(self) -> None:
        counter = Counter().begin(chat(1), rooms=("lobby", "ops"))
        counter.press("meta 2")
        counter.answer(chat(2), chat(3))
        counter.press("meta 1")
        assert "you left off here" in counter.body[-3]
        assert counter.body[-2:] == ["text 2", "text 3"]
        counter.press("meta 2", "meta 1")
        assert not [row for row in counter.body if "left off" in row]

    def test_the_line_is_drawn_when_nobody_looked_at_the_terminal(self) -> None:
        counter = Counter().begin(chat(1))
        counter.press("focus out")
        counter.answer(chat(2))
        counter.press("focus in")
        counter.answer(chat(3))
        assert "you left off here" in counter.body[-3]

    def test_where_one_left_off_when_the_program_ran_last(self) -> None:
        counter = Counter(left_off=2).begin(chat(1), chat(2), chat(3))
        marked = counter.body.index("text 3") - 1
        assert "you left off here" in counter.body[marked]
        assert counter.body[marked - 1] == "text 2"

    def test_a_room_is_entered_and_left(self) -> None:
        counter = Counter().begin()
        counter.type("/join ops", "enter")
        assert counter.sent() == [Join("ann", "ops", 0, 0, 100)]
        counter.answer(*granted(room="ops", welcome=False))
        assert counter.bar == "1 lobby  2 ops"
        assert counter.typed == "ops›"
        counter.type("/leave", "enter")
        assert counter.sent() == [Leave("ops")]
        assert (counter.bar, counter.typed) == ("1 lobby", "lobby›")

    def test_out_of_every_room_one_is_told_what_to_do(self) -> None:
        counter = Counter().begin()
        counter.type("/leave", "enter")
        counter.type("hello", "enter")
        assert counter.status == "you are in no room; /join ROOM enters one"
        assert counter.typed == "› hello"

    def test_private_talk_has_a_place_of_its_own(self) -> None:
        counter = Counter().begin()
        counter.answer(Told(0, "bob", "psst"))
        assert counter.bar == "1 lobby  2 @bob (1)"
        assert counter.rings == 1
        counter.press("meta a")
        counter.type("yes?", "enter")
        (told,) = [message for message in counter.sent() if isinstance(message, Tell)]
        assert (told.nick, told.text) == ("bob", "yes?")
        counter.answer(Ack(told.id, 0, 0))
        assert counter.body[-2:] == ["psst", "yes?"]
        counter.answer(Renamed("bob", "rob"))
        assert counter.bar == "1 lobby  2 @rob"

    def test_msg_says_it_without_going_there(self) -> None:
        counter = Counter().begin()
        counter.type("/msg bob how are  you", "enter")
        (told,) = counter.sent()
        assert isinstance(told, Tell)
        assert told.text == "how are  you"
        assert (counter.bar, counter.typed) == ("1 lobby  2 @bob", "lobby›")

    def test_no_room_passes_for_a_person(self) -> None:
        counter = Counter().begin()
        counter.type("/join @bob", "enter")
        assert counter.sent() == []
        assert (counter.bar, counter.typed) == ("1 lobby  2 @bob", "@bob›")

    def test_who_comes_and_goes_is_known(self) -> None:
        counter = Counter(columns=100).begin()
        counter.answer(Joined("lobby", "eve"), Joined("lobby", "bob"), Left("lobby", "eve", "timeout"))
        assert [row[82:] for row in counter.picture[1:4]] == ["│ 2 here", "│ ann", "│ bob"]
        assert any(row.startswith("eve left (timeout)") for row in counter.body)
        counter.press("f2")
        assert "2 here" not in counter.picture[1]

    def test_who_is_put_out_is_told_how_to_come_back(self) -> None:
        counter = Counter(columns=89).begin()
        counter.answer(Left("lobby", "ann", "kicked"))
        assert counter.body[-1] == "you are out of lobby (kicked); /join lobby asks to be let in"
        counter.type("/join lobby", "enter")
        counter.answer(*granted(room="lobby", welcome=False))
        counter.type("back", "enter")
        assert isinstance(counter.sent()[-1], Say)

    def test_people_are_listed(self) -> None:
        counter = Counter().begin()
        counter.type("/who", "enter")
        assert counter.sent() == [Who("lobby")]
        counter.answer(Roster("lobby", 0, 3, ("bob", "ann")))
        assert "3 in lobby" in counter.picture[1]
        assert counter.picture[2] == "  ann, bob and 1 more"
        counter.press("esc")
        assert "3 in lobby" not in counter.picture[1]

    def test_operators_moderate(self) -> None:
        counter = Counter().begin()
        counter.type("/mute bob 60 too loud", "enter")
        assert counter.sent() == [Moderate(4, "lobby", "bob", 60, "too loud")]
        counter.answer(Notice("bob is muted"))
        assert counter.body[-1] == "bob is muted"


class TestGoingBack:
    def test_the_top_of_the_screen_is_not_the_top_of_the_history(self) -> None:
        counter = Counter().begin(*map(chat, range(51, 101)), status=1)
        counter.press("page up", "page up", "page up")
        assert counter.sent() == []
        counter.press("page up")
        assert counter.sent() == [History("lobby", 51, 100)]
        before = counter.body
        assert "older messages are on their way" in before[-1]
        counter.answer(*map(chat, range(1, 51)), End("lobby", 1, 50, 0))
        assert counter.body[1:-1] == before[1:-1]  # all but the line of the day
        counter.press("page up")
        assert "text 45" in counter.body

    def test_it_is_asked_for_once_and_not_when_there_is_nothing(self) -> None:
        counter = Counter().begin(chat(5), status=1)
        counter.press("page up", "page up")
        assert len(counter.sent()) == 1
        counter.answer(End("lobby", 0, 0, 0))
        counter.press("page up")
        assert counter.sent() == []

    def test_new_messages_come_in_below(self) -> None:
        counter = Counter().begin(*map(chat, range(1, 51)))
        counter.press("page up")
        before = counter.body[:-1]
        counter.answer(chat(51), chat(52))
        assert counter.body[:-1] == before
        assert "2 new below · Esc goes to the end" in counter.picture[-3]
        counter.press("esc")
        assert counter.body[-1] == "text 52"

    def test_what_is_found_can_be_gone_to(self) -> None:
        counter = Counter().begin(*map(chat, range(51, 101)), status=1)
        counter.type("/search needle", "enter")
        assert counter.sent() == [Search("lobby", "needle", 100)]
        counter.answer(chat(7, "a needle"), chat(60, "the needle"), End("lobby", 7, 60, 0))
        assert "2 messages with needle in lobby" in counter.picture[1]
        assert counter.picture[3].startswith("▌ ")
        counter.press("up", "enter")
        assert counter.sent() == [History("lobby", 51, 500)]
        counter.answer(*map(chat, range(1, 51)), End("lobby", 1, 50, 0))
        assert "text 7" in counter.body

    def test_a_server_that_cannot_search_leaves_what_is_here(self) -> None:
        counter = Counter().begin(chat(1, "Hay"), chat(2, "a Needle here"))
        counter.type("/search needle", "enter")
        counter.answer(Error(ErrorCode.NOT_SUPPORTED, 0, "no search"))
        assert "one message with needle in lobby, in what is here" in counter.picture[1]

    def test_nothing_found(self) -> None:
        counter = Counter().begin(chat(1))
        counter.type("/search needle", "enter")
        counter.answer(End("lobby", 0, 0, 0))
        assert counter.status == "nothing found for 'needle' in lobby"


class TestTheConnection:
    def test_it_is_lost_and_comes_back_without_a_gap(self) -> None:
        counter = Counter().begin(chat(1))
        counter.type("half")
        counter.server.close()
        assert counter.status == "○ no connection: the server closed the connection; trying again in 1 s"
        assert counter.body[-1] == "the connection is lost: the server closed the connection"
        counter.type(" a sentence", "enter")
        assert counter.body[-1] == "half a sentence …"
        counter.clock.advance(1)
        (join,) = counter.sent()
        assert join == Join("ann", "lobby", EPOCH, 1, 65_535)
        counter.answer(*granted(chat(2), room="lobby"))
        message = said(counter)
        counter.answer(Ack(message.id, 3, 0))
        assert "● the server" in counter.status
        shown = [row for row in counter.body if "──" not in row]
        assert [row for row in shown if not row.startswith(("this is", "the conn"))] == [
            "text 1",
            "connected again to the server",
            "text 2",
            "half a sentence",
        ]
        assert [row for row in counter.body if "you left off here" in row] == []

    def test_the_line_is_drawn_above_what_was_missed(self) -> None:
        counter = Counter().begin(chat(1))
        counter.server.close()
        counter.clock.advance(1)
        counter.answer(*granted(chat(2), room="lobby"))
        assert "you left off here" in counter.body[-2]
        assert counter.body[-1] == "text 2"

    def test_a_server_that_counts_anew_says_so(self) -> None:
        counter = Counter(columns=89).begin(chat(8), chat(9))
        counter.server.close()
        counter.clock.advance(1)
        counter.answer(*granted(chat(1, "brave new"), room="lobby", epoch=EPOCH + 1, status=2))
        text = "the server began anew, and what was said meanwhile may be lost"
        assert counter.body.index(text) > counter.body.index("text 9")
        assert counter.body[-1] == "brave new"

    def test_a_goodbye_is_honoured(self) -> None:
        counter = Counter().begin()
        counter.answer(Goodbye(7_000, "back in a moment"))
        counter.server.close()
        assert counter.status.endswith("○ no connection: back in a moment; trying again in 7 s")
        counter.clock.advance(6)
        assert len(counter.endpoint.servers) == 1
        assert counter.status.endswith("trying again in 1 s")
        counter.clock.advance(1)
        assert len(counter.endpoint.servers) == 2

    def test_a_server_that_never_comes_back_is_tried_on_and_on(self) -> None:
        counter = Counter().begin()
        counter.endpoint.is_up = False
        counter.server.close()
        counter.clock.pump([1.0] * 50)
        assert len(counter.endpoint.attempts_s) > 40
        assert counter.status.startswith("○ no connection: ")

    def test_who_came_and_went_meanwhile_is_known(self) -> None:
        counter = Counter().begin()
        counter.server.close()
        counter.clock.advance(1)
        roster = Roster("lobby", 0, 2, ("ann", "eve"))
        counter.answer(granted(room="lobby")[0], roster, End("lobby", 0, 0, 0))
        assert counter.desk.current.total == 2


class TestNicknames:
    def test_one_that_is_taken_is_asked_for_again(self) -> None:
        counter = Counter()
        counter.client.start()
        counter.doing.begin(["lobby"])
        counter.answer(Error(ErrorCode.NICK_TAKEN, 0, "ann is taken"))
        assert counter.status == "ann is taken. Which nickname?"
        assert counter.typed == "nickname›  (Enter: ann2)"
        counter.press("enter")
        assert counter.sent()[-1] == Join("ann2", "lobby", 0, 0, 100)
        counter.answer(Error(ErrorCode.NICK_TAKEN, 0, "ann2 is taken"))
        assert counter.typed == "nickname›  (Enter: ann3)"
        counter.type("eve", "enter")
        assert counter.sent()[-1] == Join("eve", "lobby", 0, 0, 100)
        counter.answer(*granted(room="lobby"))
        assert counter.typed == "lobby›"

    def test_one_question_is_enough_for_all_rooms(self) -> None:
        counter = Counter()
        counter.client.start()
        counter.doing.begin(["lobby", "ops"])
        counter.answer(Error(ErrorCode.NICK_TAKEN, 0, "taken"), Error(ErrorCode.NICK_TAKEN, 0, "taken"))
        counter.press("enter")
        counter.answer(*granted(room="lobby"))
        counter.answer(*granted(room="ops", welcome=False))
        assert counter.bar == "1 lobby  2 ops"

    def test_a_new_one_is_asked_for_where_the_old_one_is_gone(self) -> None:
        counter = Counter(rows=40).begin(chat(1))
        counter.server.close()
        for _ in range(30):
            counter.clock.advance(1)
            counter.answer(Error(ErrorCode.NICK_TAKEN, 0, "ann is taken"))
            if counter.desk.question is not None:
                break
            counter.clock.advance(0)
        assert counter.status == "ann is taken. Which nickname?"
        counter.press("enter")
        counter.clock.advance(1)
        assert counter.sent()[-1] == Join("ann2", "lobby", 0, 0, 100)
        counter.answer(*granted(chat(1), chat(2), room="lobby"))
        shown = [row for row in counter.body if row.startswith("text")]
        assert shown == ["text 1", "text 2"]

    def test_renaming(self) -> None:
        counter = Counter().begin()
        counter.type("/nick anna", "enter")
        counter.answer(Renamed("ann", "anna"))
        assert counter.body[-1] == "you are anna now"
        assert counter.status.startswith("anna · lobby")
        counter.answer(chat(1, "anna!"))
        assert counter.rings == 1


class TestEnding:
    def end(self, counter: Counter) -> list[int]:
        codes: list[int] = []
        counter.desk.finished.addCallback(lambda ended: codes.append(ended.code))
        return codes

    @pytest.mark.parametrize(("keys", "code"), [(["ctrl d"], 0), (["ctrl c"], 130)])
    def test_keys_end_it_where_nothing_is_typed(self, keys: list[str], code: int) -> None:
        counter = Counter().begin()
        codes = self.end(counter)
        counter.type("text")
        counter.press("home", *keys)
        assert codes == []
        counter.press("ctrl u", "ctrl e", "ctrl u", *keys)
        assert codes == [code]

    def test_ctrl_c_clears_what_can_be_recalled(self) -> None:
        counter = Counter().begin()
        counter.type("oh no", "ctrl c")
        assert counter.typed == "lobby›"
        counter.press("up")
        assert counter.typed == "lobby› oh no"

    def test_what_is_not_acknowledged_is_not_lost_without_a_word(self) -> None:
        counter = Counter().begin()
        codes = self.end(counter)
        counter.server.close()
        counter.type("hello", "enter")
        counter.type("/quit", "enter")
        assert codes == []
        assert counter.status.startswith("one message is not acknowledged by the server and would be lost")
        counter.type("/quit", "enter")
        assert codes == [0]


class TestHostile:
    NASTY = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\u2066\x7f"

    def test_nothing_that_acts_on_a_terminal_is_in_the_picture(self) -> None:
        nasty = self.NASTY
        counter = Counter(columns=120).begin()
        counter.answer(
            chat(1, nasty, nick=f"b{nasty}"),
            Chat(f"room{nasty}", 1, 0, f"b{nasty}", nasty),
            Told(0, f"b{nasty}", nasty),
            Joined("lobby", nasty),
            Left("lobby", nasty, nasty),
            Renamed("ann", nasty),
            Notice(nasty),
            Roster("lobby", 0, 2, (nasty, f"x{nasty}")),
            Error(ErrorCode.NOT_ALLOWED, 0, nasty),
            Goodbye(0, nasty),
        )
        shown = "".join(counter.picture)
        counter.type("/who", "enter")
        counter.answer(Roster("lobby", 0, 2, (nasty,)))
        shown += "".join(counter.picture)
        counter.press("esc", "meta 2")
        shown += "".join(counter.picture)
        counter.server.close()
        shown += "".join(counter.picture)
        assert not [character for character in nasty if character in shown and not character.isprintable()]

    def test_no_message_passes_for_another(self) -> None:
        counter = Counter().begin()
        counter.answer(chat(1, "x\n14:05          eve │ forged\r14:05"))
        rows = counter.picture[-5:-2]
        assert rows[-1].startswith(" " * 19 + "│ 14:05          eve │ forged")


def test_a_flood_does_not_keep_one_from_typing() -> None:
    counter = Counter().begin()
    counter.type("before ")
    for first in range(1, 5_001, 100):
        counter.answer(*map(chat, range(first, first + 100)))
    counter.type("and after")
    assert counter.typed == "lobby› before and after"
    assert "text 5000" in counter.body

"""chatproto.client.terminal.transcript."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatproto.client.terminal import transcript as module
from chatproto.client.terminal.transcript import Entry, State, Transcript


def said(seq: int, text: str = "", nick: str = "bob") -> Entry:
    return Entry(seq * 1_000, nick, text or f"text {seq}", seq)


def own(text: str) -> Entry:
    return Entry(0, "ann", text, own=True, state=State.WAITING)


def texts(transcript: Transcript) -> list[str]:
    return [entry.text for entry in transcript.entries]


def filled(*seqs: int) -> Transcript:
    transcript = Transcript()
    for seq in seqs:
        transcript.add(said(seq))
    return transcript


def test_the_order_is_that_of_the_room() -> None:
    assert texts(filled(1, 4, 2, 3)) == ["text 1", "text 2", "text 3", "text 4"]


def test_nothing_is_there_twice() -> None:
    transcript = filled(1, 2)
    assert not transcript.add(said(1))
    assert not transcript.add(said(2))
    assert texts(transcript) == ["text 1", "text 2"]


@given(st.lists(st.integers(1, 20)))
def test_any_order_comes_to_the_same(seqs: list[int]) -> None:
    assert [entry.seq for entry in filled(*seqs).entries] == sorted(set(seqs))


def test_notes_stay_where_they_came() -> None:
    transcript = filled(1)
    transcript.note("bob came", 0)
    transcript.add(said(2))
    transcript.note("bob left", 0)
    transcript.add(said(3))
    assert texts(transcript) == ["text 1", "bob came", "text 2", "bob left", "text 3"]


def test_what_waits_stays_at_the_end_until_it_is_kept() -> None:
    transcript = filled(1)
    one, two = own("one"), own("two")
    transcript.add(one)
    transcript.add(two)
    transcript.add(said(2))
    transcript.note("a note", 0)
    assert texts(transcript) == ["text 1", "text 2", "a note", "one", "two"]
    transcript.keep(one, 3, 5)
    assert (one.state, one.seq, one.time_ms) == (State.KEPT, 3, 5)
    transcript.add(said(5))
    transcript.keep(two, 4, 6)
    assert texts(transcript) == ["text 1", "text 2", "a note", "one", "two", "text 5"]


def test_what_failed_says_why_and_waits_no_more() -> None:
    transcript = filled(1)
    one, two = own("one"), own("two")
    transcript.add(one)
    transcript.add(two)
    transcript.fail(one, "the disk is full")
    transcript.add(said(2))
    assert (one.state, one.why) == (State.FAILED, "the disk is full")
    assert texts(transcript) == ["text 1", "one", "text 2", "two"]


def test_older_messages_come_above_and_once() -> None:
    transcript = filled(5, 6)
    assert transcript.oldest_seq == 5
    assert transcript.add_older([said(3), said(4), said(5)]) == 2
    assert [entry.seq for entry in transcript.entries] == [3, 4, 5, 6]


def test_a_room_that_began_anew_keeps_what_was() -> None:
    transcript = filled(7, 8)
    transcript.begin_anew()
    assert transcript.oldest_seq == 0
    transcript.add(said(2))
    transcript.add_older([said(1, "newer than it looks")])
    transcript.add(said(7, "another seven"))
    assert texts(transcript) == ["text 7", "text 8", "newer than it looks", "text 2", "another seven"]


class TestWhereOneLeftOff:
    def test_the_first_that_comes_is_marked(self) -> None:
        transcript = filled(1)
        transcript.leave_off()
        assert transcript.mark is None
        transcript.note("bob came", 0)
        transcript.add(said(2))
        transcript.add(said(3))
        assert transcript.mark is not None
        assert transcript.mark.seq == 2

    def test_what_one_says_oneself_is_not(self) -> None:
        transcript = filled(1)
        transcript.leave_off()
        mine = own("mine")
        transcript.add(mine)
        transcript.keep(mine, 2, 0)
        assert transcript.mark is None

    def test_leaving_again_moves_it(self) -> None:
        transcript = filled(1)
        transcript.leave_off()
        transcript.add(said(2))
        transcript.leave_off()
        assert transcript.mark is None
        transcript.add(said(3))
        assert transcript.mark is not None
        assert transcript.mark.seq == 3

    def test_who_speaks_has_read_everything(self) -> None:
        transcript = filled(1)
        transcript.leave_off()
        transcript.add(said(2))
        transcript.settle()
        transcript.add(said(3))
        assert transcript.mark is None

    def test_from_an_earlier_run(self) -> None:
        transcript = filled(1, 2, 3)
        transcript.mark_after(1)
        assert transcript.mark is transcript.entries[1]
        assert transcript.seen_seq(is_all=False) == 1
        assert transcript.seen_seq(is_all=True) == 3
        transcript.mark_after(3)
        assert transcript.mark is None


def test_the_oldest_go_unless_they_are_read() -> None:
    transcript = Transcript()
    for seq in range(1, module.MAX_ENTRIES + 11):
        transcript.add(said(seq))
        transcript.trim(is_reading=True)
    assert len(transcript.entries) == module.MAX_ENTRIES + 10
    transcript.is_complete = True
    transcript.trim(is_reading=False)
    assert (len(transcript.entries), transcript.oldest_seq) == (module.MAX_ENTRIES, 11)
    assert not transcript.is_complete

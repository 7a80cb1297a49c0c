"""chatproto.client.sequence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatproto.client.sequence import MAX_SEEN_AHEAD, Sequence


def begun(last: int = 0) -> Sequence:
    sequence = Sequence()
    sequence.begin(last)
    return sequence


def test_the_first_message_seen_is_the_beginning() -> None:
    sequence = Sequence()
    assert sequence.last is None
    assert sequence.see(41)
    assert sequence.last == 41
    assert not sequence.open


def test_a_message_is_seen_once() -> None:
    sequence = begun(4)
    assert sequence.see(5)
    assert not sequence.see(5)
    assert not sequence.see(4)
    assert sequence.last == 5


def test_a_hole_is_filled_late() -> None:
    sequence = begun(4)
    assert sequence.see(6)
    assert sequence.last == 4
    assert not sequence.see(6)
    assert sequence.see(5)
    assert sequence.last == 6


def test_a_hole_is_lost_once_it_was_passed() -> None:
    sequence = begun(4)
    sequence.see(7)
    sequence.reach(7)
    assert sequence.open
    assert sequence.lost() == [(5, 6)]
    assert sequence.last == 7
    assert sequence.lost() == []
    assert not sequence.see(5)


def test_a_hole_in_doubt_is_kept_until_the_doubt_is_gone() -> None:
    sequence = begun(4)
    sequence.see(7)
    sequence.reach(7, doubt_id=100)
    assert sequence.lost(oldest_unacknowledged_id=100) == []
    assert sequence.see(6)
    assert sequence.lost(oldest_unacknowledged_id=100) == []
    assert sequence.lost(oldest_unacknowledged_id=101) == [(5, 5)]
    assert sequence.last == 7


def test_what_is_seen_beyond_the_passed_range_is_kept() -> None:
    sequence = begun(0)
    for seq in (3, 5, 6, 9):
        sequence.see(seq)
    sequence.reach(5)
    assert sequence.lost() == [(1, 2), (4, 4)]
    assert sequence.last == 6
    assert not sequence.see(9)
    assert sequence.see(7)


def test_nothing_is_lost_before_the_first_message() -> None:
    sequence = Sequence()
    sequence.reach(9)
    assert sequence.lost() == []


def test_forgotten_numbers_may_come_again() -> None:
    sequence = begun(9)
    sequence.see(11)
    sequence.reach(11, 100)
    sequence.forget()
    assert sequence.last is None
    assert sequence.see(3)
    assert sequence.see(4)
    assert sequence.lost() == []


def test_a_doubt_does_not_last_for_ever() -> None:
    sequence = begun(0)
    for seq in range(2, MAX_SEEN_AHEAD + 2):
        sequence.see(seq)
        sequence.reach(seq, doubt_id=100)
    assert sequence.lost(oldest_unacknowledged_id=1) == [(1, 1)]


def test_a_huge_jump_costs_nothing() -> None:
    sequence = begun(0)
    sequence.see(2**53 - 1)
    sequence.reach(2**53 - 1)
    assert sequence.lost() == [(1, 2**53 - 2)]


@given(st.lists(st.integers(1, 30)), st.integers(0, 30))
def test_what_is_neither_seen_nor_lost_is_beyond_the_reach(seqs: list[int], reached: int) -> None:
    """Whatever comes in whatever order: each number up to the reach was seen once or told lost once."""
    sequence = begun(0)
    seen = [seq for seq in seqs if sequence.see(seq)]
    assert sorted(seen) == sorted(set(seqs))
    sequence.reach(reached)
    lost = [seq for first, last in sequence.lost() for seq in range(first, last + 1)]
    assert len(set(lost)) == len(lost)
    assert set(lost) == set(range(1, reached + 1)) - set(seen)
    assert sequence.last is not None
    assert sequence.last >= reached
    assert not any(sequence.see(seq) for seq in range(1, sequence.last + 1))

"""The pace: so many at once, and so many a second after that."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatproto.rooms.pace import Pace


def test_a_new_one_has_the_whole_burst() -> None:
    assert Pace().left(1_000.0, 5, 2) == 5


def test_what_is_taken_comes_back_with_time_up_to_the_burst() -> None:
    pace = Pace()
    pace.take(5, 100.0, 2)
    assert pace.left(100.0, 5, 2) == 0
    assert pace.left(101.0, 5, 2) == 2
    assert pace.left(1_000.0, 5, 2) == 5


def test_other_figures_hold_at_once() -> None:
    pace = Pace()
    pace.take(5, 100.0, 2)
    assert pace.left(100.0, 10, 2) == 5


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 8)), max_size=60),
    st.integers(1, 10),
    st.integers(1, 8),
)
def test_it_never_gives_more_than_a_bucket_that_is_filled_by_the_clock(
    steps: list[tuple[int, int]], burst: int, per_s: int
) -> None:
    pace, now_s, full = Pace(), 50.0, float(burst)
    for eighths, wanted in steps:
        now_s += eighths / 8
        full = min(burst, full + eighths / 8 * per_s)
        left = pace.left(now_s, burst, per_s)
        assert abs(left - full) < 1e-6
        taken = min(wanted, int(left + 1e-9))
        if taken:
            pace.take(taken, now_s, per_s)
            full -= taken

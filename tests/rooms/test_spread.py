"""Counting by class."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatproto.rooms.spread import Spread


@pytest.mark.parametrize(
    ("value", "counts"),
    [
        (0.5, [1, 0, 0]),
        (1, [1, 0, 0]),
        (1.001, [0, 1, 0]),
        (10, [0, 1, 0]),
        (11, [0, 0, 1]),
    ],
)
def test_a_bound_belongs_to_the_class_below_it(value: float, counts: list[int]) -> None:
    spread = Spread((1, 10))
    spread.observe(value)
    assert spread.counts == counts
    assert spread.total == value


@given(st.lists(st.floats(0, 100)))
def test_everything_is_counted_once(values: list[float]) -> None:
    spread = Spread((1, 10, 50))
    for value in values:
        spread.observe(value)
    assert sum(spread.counts) == len(values)
    below = 0
    for bound, count in zip(spread.bounds, spread.counts, strict=False):
        below += count
        assert below == sum(value <= bound for value in values)

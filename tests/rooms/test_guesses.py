"""Who guesses secrets is slowed down, and nobody else is."""

from __future__ import annotations

import pytest

from chatproto.rooms import guesses as guesses_module
from chatproto.rooms.guesses import Attempt, Guesses

HOME, ELSEWHERE = "192.0.2.1", "198.51.100.1"


class Guessing:
    """Three attempts at once, then one each ten seconds."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.guesses = Guesses(3, 10.0, lambda: self.now_s)

    def attempt(self, user: str = "ann", address: str = HOME) -> Attempt | float:
        return self.guesses.attempt(user, address)

    def wait_s(self, user: str = "ann", address: str = HOME) -> float:
        """How long an attempt has to wait, that is made."""
        attempt = self.attempt(user, address)
        assert isinstance(attempt, Attempt)
        return attempt.wait_s

    def is_refused(self, user: str = "ann", address: str = HOME) -> bool:
        return not isinstance(self.attempt(user, address), Attempt)


@pytest.fixture
def guessing() -> Guessing:
    return Guessing()


def test_some_are_free_then_one_waits_and_the_rest_is_refused(guessing: Guessing) -> None:
    assert [guessing.wait_s() for _ in range(4)] == [0, 0, 0, 10]
    refused = guessing.attempt()
    assert refused == 10
    guessing.now_s += 10
    assert guessing.wait_s() == 10


def test_many_at_once_are_no_more_than_one_after_the_other(guessing: Guessing) -> None:
    # None of them has failed yet.
    assert sum(not guessing.is_refused() for _ in range(1_000)) == 4


def test_after_a_while_all_is_forgotten(guessing: Guessing) -> None:
    for _ in range(10):
        guessing.attempt()
    guessing.now_s += 60
    assert [guessing.wait_s() for _ in range(3)] == [0, 0, 0]


def test_one_account_from_many_addresses_is_slowed_down(guessing: Guessing) -> None:
    made = sum(not guessing.is_refused("ann", f"10.0.{number}.1") for number in range(200))
    assert made == 4


def test_many_accounts_from_one_address_are_slowed_down(guessing: Guessing) -> None:
    assert sum(not guessing.is_refused(f"n{number}", HOME) for number in range(200)) == 4


def test_a_network_of_one_household_counts_as_one_address(guessing: Guessing) -> None:
    made = sum(not guessing.is_refused(f"n{number}", f"2001:db8::{number:x}") for number in range(200))
    assert made == 4
    assert guessing.wait_s("x", "2001:db8:0:1::1") == 0


def test_others_are_not_slowed_down(guessing: Guessing) -> None:
    for _ in range(10):
        guessing.attempt()
    assert guessing.wait_s("bob", ELSEWHERE) == 0


def test_an_account_is_the_same_in_any_case(guessing: Guessing) -> None:
    for number, user in enumerate(("ann", "ANN", "Ann", "aNN")):
        guessing.attempt(user, f"10.0.{number}.1")
    assert guessing.is_refused("anN", ELSEWHERE)


def test_right_ones_do_not_count(guessing: Guessing) -> None:
    for _ in range(50):
        attempt = guessing.attempt()
        assert isinstance(attempt, Attempt)
        assert attempt.wait_s == 0
        attempt.succeeded()


def test_nobody_is_locked_out_by_others_where_they_were_let_in_before(guessing: Guessing) -> None:
    right = guessing.attempt("ann", HOME)
    assert isinstance(right, Attempt)
    right.succeeded()
    for number in range(100):
        guessing.attempt("ann", f"10.0.{number}.1")
        guessing.attempt(f"n{number}", HOME)
    assert guessing.is_refused("ann", ELSEWHERE)
    assert guessing.wait_s("ann", HOME) == 0


def test_where_somebody_was_let_in_before_guesses_are_bounded_all_the_same(guessing: Guessing) -> None:
    right = guessing.attempt()
    assert isinstance(right, Attempt)
    right.succeeded()
    assert sum(not guessing.is_refused() for _ in range(100)) == 4


def test_secrets_that_say_whose_they_are_count_for_the_address_alone(guessing: Guessing) -> None:
    for number in range(20):
        assert guessing.wait_s("", f"10.0.{number}.1") == 0
    assert sum(not guessing.is_refused("", HOME) for _ in range(100)) == 4


def test_without_an_address_the_account_counts(guessing: Guessing) -> None:
    assert sum(not guessing.is_refused("ann", "") for _ in range(100)) == 4
    assert guessing.wait_s("bob", "") == 0


def test_what_is_remembered_is_bounded(guessing: Guessing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guesses_module, "MOST_KEYS", 100)
    for number in range(1_000):
        attempt = guessing.attempt(f"n{number}" * 1_000, f"10.0.{number // 250}.{number % 250}")
        if number % 2 and isinstance(attempt, Attempt):
            attempt.succeeded()
    sizes = [len(value) for value in vars(guessing.guesses).values() if isinstance(value, dict)]
    assert sizes
    assert max(sizes) <= 100

"""A soak can fail: what it judges by says so of everything that is not as it should be."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import pytest
from faults.crowd import Crowd
from faults.soak.course import soak
from faults.soak.figures import (
    AFTER,
    ATTACK,
    FACTOR,
    MARGIN_S,
    QUIET,
    Outcome,
    Sample,
    faults,
    growth_bytes,
    slowness,
)
from faults.soak.hostile import ENDED, OPEN
from faults.soak.people import Agenda
from faults.soak.record import Conversation, Delays, Seen
from faults.soak.server import SoakServer
from faults.soak.test_soak import MOST_GROWTH_BYTES


class TestWhatOnePersonSees:
    def test_numbers_without_a_hole_are_right(self) -> None:
        seen = Seen()
        assert [seen.chat(seq, 0) for seq in (1, 2, 3)] == [""] * 3
        assert seen.upto == 3

    def test_a_number_that_is_missing_is_a_fault(self) -> None:
        seen = Seen()
        assert seen.chat(1, 0) == ""
        assert seen.chat(3, 0) == "1 are missing before number 3"

    @pytest.mark.parametrize("again", [1, 2])
    def test_a_number_that_comes_again_or_late_is_a_fault(self, again: int) -> None:
        seen = Seen()
        assert [seen.chat(seq, 0) for seq in (1, 2)] == ["", ""]
        assert seen.chat(again, 0)

    def test_one_s_own_number_may_come_later_with_its_acknowledgement(self) -> None:
        seen = Seen()
        assert seen.chat(1, 0) == ""
        assert seen.chat(3, n_unanswered=1) == ""
        seen.acknowledged(2)
        assert seen.upto == 3
        assert seen.chat(2, 0)

    def test_who_comes_back_gets_what_comes_after_all_that_they_have(self) -> None:
        seen = Seen()
        assert seen.chat(1, 0) == ""
        assert seen.chat(3, n_unanswered=1) == ""
        seen.come_back()
        assert [seen.chat(seq, 0) for seq in (2, 3, 4)] == [""] * 3
        seen.come_back()
        assert seen.chat(4, 0)


class TestWhatAllSee:
    def conversation(self) -> Conversation:
        made = Conversation()
        for seq, text in enumerate(("hello", "hi"), 1):
            made.planned_s[text] = float(seq)
            made.has_place("ann", "lobby", seq, "bob", text)
        return made

    def test_what_is_as_it_should_be_is_no_fault(self) -> None:
        made = self.conversation()
        made.has_place("cid", "lobby", 2, "bob", "hi")
        made.check_whole()
        made.check_run("cid", "lobby", ["hello", "hi"])
        made.check_run("bob", "lobby", [])
        made.check_kept([("lobby", 1, "bob", "hello"), ("lobby", 2, "bob", "hi"), ("other", 1, "x", "y")])
        assert not made.faults

    def test_a_number_with_two_texts_is_a_fault(self) -> None:
        made = self.conversation()
        made.has_place("cid", "lobby", 2, "bob", "ho")
        assert made.faults

    def test_a_text_with_two_numbers_is_a_fault(self) -> None:
        made = self.conversation()
        made.has_place("ann", "lobby", 3, "bob", "hi")
        made.check_whole()
        assert made.faults

    def test_a_text_that_nobody_saw_is_a_fault(self) -> None:
        made = self.conversation()
        made.planned_s["how are you?"] = 3.0
        made.check_whole()
        assert made.faults

    def test_a_number_that_nobody_saw_is_a_fault(self) -> None:
        made = self.conversation()
        made.has_place("ann", "lobby", 4, "bob", "later")
        made.check_whole()
        assert made.faults

    @pytest.mark.parametrize("texts", [["hello"], ["hi", "hello"], ["hello", "hello", "hi"]])
    def test_lines_with_a_hole_or_in_another_order_or_twice_are_a_fault(self, texts: list[str]) -> None:
        made = self.conversation()
        made.check_run("cid", "lobby", texts)
        assert made.faults

    @pytest.mark.parametrize("kept", [["hello"], ["hi", "hello"], ["hello", "hi", "more"]])
    def test_a_history_with_less_or_other_or_more_is_a_fault(self, kept: list[str]) -> None:
        made = self.conversation()
        made.check_kept(("lobby", seq, "bob", text) for seq, text in enumerate(kept, 1))
        assert made.faults


class TestDelays:
    def outcome(self, attack_s: float, quiet_s: float = 0.01, waited_share: float = 0.0) -> Outcome:
        made = Outcome(phases={QUIET: (0.0, 9.0), ATTACK: (9.0, 30.0), AFTER: (30.0, 39.0)})
        made.samples = [Sample(float(at_s), 0, 0, (0.0,), (at_s * waited_share,)) for at_s in range(39)]
        for tick in range(390):
            delay_s = attack_s if 90 <= tick < 300 else quiet_s
            made.conversation.deliveries.add(tick / 10, tick / 10 + delay_s)
        return made

    def test_people_may_wait_so_much_longer_and_no_more(self) -> None:
        most_s = MARGIN_S + FACTOR * 0.01
        assert not slowness(self.outcome(most_s * 0.99))
        assert slowness(self.outcome(most_s * 1.01))

    def test_a_server_that_may_not_run_has_more_time(self) -> None:
        most_s = 2 * (MARGIN_S + FACTOR * 0.01)
        assert not slowness(self.outcome(most_s * 0.99, waited_share=0.5))
        assert slowness(self.outcome(most_s * 1.01, waited_share=0.5))

    def test_what_is_slow_now_and_then_is_the_machine(self) -> None:
        made = self.outcome(0.01)
        made.conversation.deliveries.add(20.0, 29.0)
        assert not slowness(made)

    def test_a_delay_counts_from_when_something_was_planned(self) -> None:
        planned: list[float] = []
        with Crowd(0) as crowd:
            agenda = Agenda(crowd)
            begin_s = time.monotonic()
            agenda.at(begin_s, lambda _: time.sleep(0.05))
            agenda.every(0.01, begin_s + 0.01, lambda: len(planned) < 5, planned.append)
            while len(planned) < 5:
                agenda.run_until(time.monotonic() + 0.01)
        assert planned == pytest.approx([begin_s + tick / 100 for tick in range(1, 6)])

    def test_those_of_a_time_are_those_that_were_planned_in_it(self) -> None:
        delays = Delays()
        delays.add(1.0, 5.0)
        delays.add(2.0, 2.5)
        assert delays.between(0.0, 2.0) == [4.0]


def test_memory_that_grows_all_the_time_shows() -> None:
    made = Outcome(phases={ATTACK: (0.0, 100.0)})
    for second in range(100):
        made.samples.append(Sample(float(second), 10_000 + 100 * second, 0, (), ()))
    assert growth_bytes(made) == pytest.approx(5_000)


def test_connections_that_stay_open_and_kinds_that_never_come_and_limits_that_nobody_meets_show() -> None:
    made = Outcome(attacks={"Silent": {ENDED: 3, OPEN: 2}})
    assert "Silent: 2 still open" in faults(made)
    assert "SlowJoin never attacked" in faults(made)
    assert "nobody met join_timeout_s" in faults(made)


@pytest.mark.slow
def test_a_server_that_does_all_of_that_wrong_is_found_out() -> None:
    defects = (sys.executable, str(Path(__file__).with_name("defects.py")))
    outcome = soak(24.0, partial(SoakServer, program=defects))
    assert any("are missing before number" in fault for fault in outcome.conversation.faults)
    assert slowness(outcome)
    assert growth_bytes(outcome) > MOST_GROWTH_BYTES
    assert outcome.descriptors_after > outcome.descriptors_before

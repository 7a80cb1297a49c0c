"""While everybody hostile attacks at once people talk as if nothing were, and nothing is left of it.

CHATPROTO_SOAK_S says how long the slow soak lasts, e.g. 600 seconds. CHATPROTO_SEED repeats who does what.
The figures of the last one are in `build/soak.md`.
"""

from __future__ import annotations

import faulthandler
import os
import signal

import pytest
from faults.soak.course import soak
from faults.soak.figures import MIB, Outcome, faults, growth_bytes, keep, slowness

SOAK_S = 40.0
"""Long enough for what takes ten seconds to end by itself."""

MOST_S = 300.0
"""For a soak's beginning and end, on a machine that is busy."""

MOST_GROWTH_BYTES = 20 * MIB
"""What moves in a process anyway: above all the 32,768 ids that the history writes all at once."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    """One soak; every test looks at it from another side."""
    seconds = float(os.environ.get("CHATPROTO_SOAK_S", SOAK_S))
    # It may take longer than any test may.
    faulthandler.cancel_dump_traceback_later()
    faulthandler.dump_traceback_later(seconds + MOST_S, exit=True)
    found = soak(seconds)
    keep(found)
    return found


def test_nothing_is_lost_doubled_or_out_of_order(outcome: Outcome) -> None:
    """For anybody, whether they stayed or came and went; and the history has just what they saw."""
    assert not outcome.conversation.faults


def test_people_do_not_wait_for_hostile_peers(outcome: Outcome) -> None:
    assert not slowness(outcome)


def test_each_kind_of_hostile_peer_comes_to_an_end(outcome: Outcome) -> None:
    assert not faults(outcome)


def test_memory_is_flat(outcome: Outcome) -> None:
    assert growth_bytes(outcome) < MOST_GROWTH_BYTES


def test_nothing_is_left_when_all_have_gone(outcome: Outcome) -> None:
    assert max(sample.descriptors for sample in outcome.samples) > outcome.descriptors_before + 100
    assert outcome.descriptors_after == outcome.descriptors_before
    left = (
        "chat_people",
        "chat_rooms",
        "chat_queue_bytes",
        "chat_lagging_readers",
        "chat_history_unkept_bytes",
    )
    assert {name: outcome.figures_after[name] for name in left} == dict.fromkeys(left, 0.0)
    assert outcome.figures_after["chat_history_up"] == 1


def test_the_server_has_nothing_to_complain_about(outcome: Outcome) -> None:
    assert outcome.exit_code == -signal.SIGTERM
    assert "Traceback" not in outcome.log
    assert "Unhandled" not in outcome.log

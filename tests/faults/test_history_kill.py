"""What was acknowledged or seen outlives the server, however it ends, and everybody goes on where they were.

CHATPROTO_ROUNDS says how many rounds the slow tests have, e.g. 200. CHATPROTO_SEED repeats the moments of a
run.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from faults.history_rounds import FEW_ROUNDS, Rounds, rounds_asked_for

FEW_IN_MEMORY = ("--max-room-log-messages", "50")
"""So that whoever comes back is served from the file."""

ENDS = [signal.SIGKILL, signal.SIGTERM]


def run(rounds: Rounds, n_rounds: int, how: signal.Signals) -> None:
    for _ in range(n_rounds):
        rounds.round(how)
    rounds.finish()


@pytest.mark.parametrize("how", ENDS, ids=lambda how: how.name)
def test_everything_acknowledged_is_there_after_the_server_ended(tmp_path: Path, how: signal.Signals) -> None:
    run(Rounds(tmp_path / "chat.sqlite"), FEW_ROUNDS, how)


@pytest.mark.slow
@pytest.mark.parametrize("n_rounds", rounds_asked_for())
@pytest.mark.parametrize("options", [(), FEW_IN_MEMORY], ids=["", "few-in-memory"])
@pytest.mark.parametrize("how", ENDS, ids=lambda how: how.name)
def test_it_is_there_each_time(
    tmp_path: Path, how: signal.Signals, options: tuple[str, ...], n_rounds: int
) -> None:
    run(Rounds(tmp_path / "chat.sqlite", *options), n_rounds, how)

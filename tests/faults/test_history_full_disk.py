"""The disk of the history is full now and then, also when the server is killed: what it promised holds."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.history_disk import SmallDisk, small_disk
from faults.history_rounds import FEW_ROUNDS, Rounds, rounds_asked_for

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount"),
]

ENDS = [signal.SIGKILL, signal.SIGTERM]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 96) as disk:
        yield disk


class _Filling:
    """Fills the disk at some moment until something is refused, then frees and fills it again and again."""

    def __init__(self, disk: SmallDisk, rounds: Rounds) -> None:
        self._disk = disk
        self._source = rounds.source
        self._record = rounds.record
        self._changes_s = self._source.uniform(0, 0.1)
        self._refused_before = self._record.refused

    def __call__(self, spent_s: float) -> bool:
        # A write-ahead log that is long already can be written to for a while, however full the disk is.
        is_noticed = self._record.refused > self._refused_before
        if spent_s > self._changes_s and (is_noticed or not self._disk.is_full):
            self._changes_s = spent_s + self._source.uniform(0.02, 0.15)
            if self._disk.is_full:
                self._disk.free()
            else:
                self._disk.fill()
        return is_noticed


def run(disk: SmallDisk, n_rounds: int, how: signal.Signals) -> None:
    rounds = Rounds(disk.folder / "chat.sqlite", n_speakers=30)
    for _ in range(n_rounds):
        rounds.round(how, (0.1, 0.6), during=_Filling(disk, rounds), ended=disk.free)
    rounds.finish()
    assert rounds.record.refused >= n_rounds


@pytest.mark.parametrize("how", ENDS, ids=lambda how: how.name)
def test_what_was_acknowledged_is_kept_and_what_was_refused_is_not(
    disk: SmallDisk, how: signal.Signals
) -> None:
    run(disk, FEW_ROUNDS, how)


@pytest.mark.slow
@pytest.mark.parametrize("n_rounds", rounds_asked_for())
@pytest.mark.parametrize("how", ENDS, ids=lambda how: how.name)
def test_that_holds_each_time(disk: SmallDisk, how: signal.Signals, n_rounds: int) -> None:
    run(disk, n_rounds, how)

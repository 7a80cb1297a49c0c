"""No hot path has become dearer: the instructions of each, counted by callgrind, beside those of a reference.

What it sees is work of the processor in the process itself, to a thousandth: not the kernel's, no waiting, no
cache. Where the recorded figures are of the very same Python and compiler a tenth more fails. Elsewhere the
same source comes to other figures, and only what has doubled fails. `python tests/instructions.py --record`
records anew, once it is known why.
"""

from __future__ import annotations

import json
import shutil

import pytest
from instructions import RECORDED, REFERENCE, ROUNDS, build_name, counted, relative

VALGRIND = shutil.which("valgrind")

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.skipif(VALGRIND is None, reason="valgrind is not installed"),
]

TENTH_MORE = 1.1
TWICE = 2.0

PARTS = [prepare.__name__ for prepare in ROUNDS if prepare.__name__ != REFERENCE]


@pytest.fixture(scope="module")
def ratios() -> dict[str, float]:
    assert VALGRIND is not None
    return relative(counted(VALGRIND))


@pytest.mark.parametrize("part", PARTS)
def test_costs_no_more_than_was_recorded(part: str, ratios: dict[str, float]) -> None:
    recorded: dict[str, dict[str, float]] = json.loads(RECORDED.read_text())
    own = recorded.get(build_name())
    if own is None:
        most = TWICE * max(figures[part] for figures in recorded.values())
    else:
        most = TENTH_MORE * own[part]
    assert ratios[part] <= most, f"{part}: {ratios[part]:.4f} of the reference, and {most:.4f} is the most"

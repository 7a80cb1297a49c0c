"""A short run of the fuzz target: the same seed each time, and one that is new."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from chatproto.wire.messages import MESSAGES

TARGET = Path(__file__).with_name("fuzz_json.py")
INPUTS = 4_000


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    return python(str(TARGET), *arguments)


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-P", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("seed", [1, pytest.param(None, id="new")])
def test_no_input_breaks_a_promise(seed: int | None) -> None:
    if seed is None:
        seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    run = fuzz("--inputs", str(INPUTS), "--seed", str(seed))
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{INPUTS} inputs" in run.stdout


def test_every_outcome_is_met_and_the_same_seed_makes_the_same_inputs() -> None:
    first, second = (fuzz("--inputs", str(INPUTS), "--seed", "1").stdout.splitlines() for _ in range(2))
    assert first[0] == second[0] == "seed 1"
    assert first[2:] == second[2:]
    types = {cls.type for cls in MESSAGES.values()}
    assert {counted.partition(":")[0] for counted in first[2].split()} == {"malformed", "passed-over", *types}


@pytest.mark.parametrize(
    "defect",
    [
        "jsonform._DECODER = json.JSONDecoder()",
        "jsonform._fault_of = lambda value, kind: ''",
        "jsonform._fault_of_str = lambda value: '' if isinstance(value, str) else 'is not a string'",
        "jsonform._malformed = lambda reason: jsonform.ProtocolError(jsonform.ErrorCode.MALFORMED, 'x\\n')",
        "jsonform._SERVER_TYPES = jsonform._CLIENT_TYPES",
    ],
)
def test_a_defect_is_told_with_its_seed_and_its_text(defect: str) -> None:
    broken = (
        "import json, runpy, sys\n"
        "from chatproto.wire import jsonform\n"
        f"{defect}\n"
        "sys.argv = ['fuzz', '--seed', '1', '--inputs', '9000']\n"
        f"runpy.run_path({str(TARGET)!r}, run_name='__main__')\n"
    )
    run = python("-c", broken)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "of seed 1: " in run.stderr

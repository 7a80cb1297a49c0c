"""A short run of the fuzz target: the same seed each time, and one that is new."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

TARGET = Path(__file__).with_name("fuzz_lines.py")
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


def test_everything_is_met_and_the_same_seed_makes_the_same_inputs() -> None:
    first, second = (fuzz("--inputs", str(INPUTS), "--seed", "1").stdout.splitlines() for _ in range(2))
    assert first[0] == second[0] == "seed 1"
    assert first[2] == second[2]
    counts = dict(counted.split(":") for counted in first[2].split()[1:])
    assert len(counts) == 7
    assert all(int(count) > 50 for count in counts.values())


@pytest.mark.parametrize(
    "defect",
    [
        # A carriage return whose line feed comes in the next piece ends two lines.
        "lines.LineDecoder._after_cr = property(lambda self: False, lambda self, after: None)",
        # Half a character is taken back.
        "lines.LineDecoder._erase_character = lambda self: self._line and self._line.pop()",
        # What is too long begins anew.
        "lines.LineDecoder._skipping = property(lambda self: False, lambda self, skipping: None)",
        # Every request for an option is refused again.
        "telnet.TelnetFilter._answered = property(lambda self: set(), lambda self, answered: None)",
        # A command that is cut is forgotten.
        "telnet.TelnetFilter._begun = property(lambda self: b'', lambda self, begun: None)",
        # A subnegotiation is text.
        "telnet.TelnetFilter._parameters = property(lambda self: None, lambda self, parameters: None)",
        "telnet._SIGNALS.clear()",
        "telnet._WINDOW_SIZE = 32",
    ],
)
def test_a_defect_is_told_with_its_seed_and_its_bytes(defect: str) -> None:
    broken = (
        "import runpy, sys\n"
        "from chatproto.wire import lines, telnet\n"
        f"{defect}\n"
        "sys.argv = ['fuzz', '--seed', '1', '--inputs', '4000']\n"
        f"runpy.run_path({str(TARGET)!r}, run_name='__main__')\n"
    )
    run = python("-c", broken)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "of seed 1: " in run.stderr

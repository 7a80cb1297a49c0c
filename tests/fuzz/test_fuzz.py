"""A short run of the fuzz target: the same seeds each time, and one that is new."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

TARGET = Path(__file__).with_name("fuzz_frames.py")
SEEDS = [1, 2, 3]
INPUTS = 5_000


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    return python(str(TARGET), *arguments)


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-P", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("seed", [*SEEDS, pytest.param(None, id="new")])
def test_no_input_breaks_a_promise(seed: int | None) -> None:
    if seed is None:
        seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    run = fuzz("--inputs", str(INPUTS), "--seed", str(seed))
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{INPUTS} inputs" in run.stdout


def test_every_message_and_every_fault_is_met() -> None:
    _, _, messages, faults = fuzz("--inputs", str(INPUTS), "--seed", "1").stdout.splitlines()
    counts = dict(counted.split(":") for counted in f"{messages} {faults}".split() if ":" in counted)
    assert len(counts) == 25 + 2
    assert [name for name, count in counts.items() if count == "0"] == []


def test_the_same_seed_makes_the_same_inputs() -> None:
    first, second = (fuzz("--inputs", "500", "--seed", "7").stdout.splitlines() for _ in range(2))
    assert first[0] == second[0] == "seed 7"
    assert first[2:] == second[2:]


def test_a_broken_promise_is_told_with_its_seed_and_its_bytes() -> None:
    # The same program over a decoder that loses the last message.
    broken = (
        "import runpy, sys, chatproto.wire.chat as chat\n"
        "class Lossy(chat.FrameDecoder):\n"
        "    def receive(self, data): return super().receive(data)[:-1]\n"
        "chat.FrameDecoder = Lossy\n"
        "sys.argv = ['fuzz', '--seed', '1']\n"
        f"runpy.run_path({str(TARGET)!r}, run_name='__main__')\n"
    )
    run = python("-c", broken)
    assert run.returncode == 1
    assert "of seed 1: Broken('" in run.stderr
    assert "side server, max_frame_bytes " in run.stderr or "side client, max_frame_bytes " in run.stderr
    assert any(set(line.strip()) <= set("0123456789abcdef -") for line in run.stderr.splitlines()[2:])

"""A short run of the WebSocket fuzz target: the same seed each time, and one that is new."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

TARGET = Path(__file__).with_name("fuzz_websocket.py")
INPUTS = 10_000


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=TARGET.parents[2], capture_output=True, text=True, check=False
    )


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    return python(str(TARGET), *arguments)


@pytest.mark.parametrize("seed", [1, pytest.param(None, id="new")])
def test_no_input_breaks_a_promise(seed: int | None) -> None:
    if seed is None:
        seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    run = fuzz("--inputs", str(INPUTS), "--seed", str(seed))
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{INPUTS} inputs" in run.stdout


def test_every_event_and_every_fault_is_met() -> None:
    _, _, events, *faults = fuzz("--inputs", "5000", "--seed", "1").stdout.splitlines()
    counts = dict(counted.split(":") for counted in events.split()[1:])
    assert set(counts) == {"text", "binary", "close", "ping", "pong"}
    assert "0" not in counts.values()
    met = {line.split(maxsplit=2)[2] for line in faults}
    source = (TARGET.parents[2] / "chatproto/wire/websocket.pyx").read_text("utf-8")
    told = set(re.findall(r'(?:return|CloseCode\.[A-Z_]+,) f?"(an? [^"]+|text [^"]+)"', source))
    told = {reason.replace("{MAX_CONTROL_BYTES}", "125") for reason in told if "self." not in reason}
    assert len(told) > 12
    assert (
        told - {f"a {who}'s frame that is {how}masked" for who, how in (("client", "not "), ("server", ""))}
        <= met
    )
    assert {"too big", "cannot be inflated"} <= met


def test_the_same_seed_makes_the_same_inputs() -> None:
    first, second = (fuzz("--inputs", "500", "--seed", "7").stdout.splitlines() for _ in range(2))
    assert first[0] == second[0] == "seed 7"
    assert first[2:] == second[2:]


def test_a_broken_promise_is_told_with_its_seed_and_its_bytes() -> None:
    # The same program over a decoder that loses the last event.
    broken = (
        "import runpy, sys, chatproto.wire.websocket as websocket\n"
        "class Lossy:\n"
        "    def __init__(self, *limits): self._decoder = websocket.Decoder(*limits)\n"
        "    def __getattr__(self, name): return getattr(self._decoder, name)\n"
        "    def receive(self, data): return self._decoder.receive(data)[:-1]\n"
        "websocket.Decoder, websocket.WebSocketDecoder = websocket.WebSocketDecoder, Lossy\n"
        "sys.argv = ['fuzz', '--seed', '1']\n"
        f"runpy.run_path({str(TARGET)!r}, run_name='__main__')\n"
    )
    run = python("-c", broken)
    assert run.returncode == 1
    assert "of seed 1: Broken(" in run.stderr
    assert "side server, max_message_bytes " in run.stderr or "side client, max_message_bytes " in run.stderr
    assert any(set(line.strip()) <= set("0123456789abcdef -") for line in run.stderr.splitlines()[2:])

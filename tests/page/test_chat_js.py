"""chat.js, by the tests beside this file, which Node runs: by the vectors, and with a played server."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NODE = shutil.which("node")


@pytest.mark.system
@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.parametrize("name", sorted(path.name for path in HERE.glob("*.test.mjs")))
def test_node_runs_it(name: str) -> None:
    assert NODE is not None
    run = subprocess.run([NODE, "--test", name], cwd=HERE, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-8_000:] + run.stderr[-2_000:]
    assert "\n# fail 0\n" in run.stdout or "fail 0" in run.stdout
    assert "# pass 0\n" not in run.stdout

"""Which tests run, and what is said of those that do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CASES = """
import pytest

@pytest.mark.slow
def test_slow(): pass

@pytest.mark.slow
@pytest.mark.system
@pytest.mark.skipif(True, reason="no nc")
def test_slow_system(): pass

@pytest.mark.system
def test_system(): pytest.skip("no telnet")

@pytest.mark.xfail(strict=True)
def test_xfail(): assert False

def test_plain(): pass
"""


def run(folder: Path, *options: str, **environment: str) -> tuple[int, list[str]]:
    (folder / "test_cases.py").write_text(CASES)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow\n    system\n")
    # The command line names it a plugin: as a conftest.py it would be another file.
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env={**os.environ, "CHATPROTO_ALL": "", "PYTHONPATH": str(Path(__file__).parent), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return finished.returncode, finished.stdout.splitlines()


def test_slow_tests_are_left_out_and_one_line_says_how_many_and_how_to_run_them(tmp_path: Path) -> None:
    code, lines = run(tmp_path)
    assert code == 0
    assert "1 passed, 3 skipped, 1 xfailed" in lines[-1]
    [line] = [line for line in lines if line.startswith("not run: ")]
    assert line.startswith("not run: 2 slow tests (pytest --slow runs them), 1 system tests (")


def test_slow_tests_run_when_asked_for(tmp_path: Path) -> None:
    code, lines = run(tmp_path, "--slow")
    assert code == 0
    assert "2 passed, 2 skipped, 1 xfailed" in lines[-1]


def test_where_everything_is_to_run_a_test_that_is_skipped_has_failed(tmp_path: Path) -> None:
    code, lines = run(tmp_path, "--slow", CHATPROTO_ALL="1")
    assert code == 1
    # Skipped by itself, which is a failure, or before it began, which pytest calls an error.
    assert "1 failed, 2 passed, 1 xfailed, 1 error" in lines[-1]
    assert any("everything is to run" in line and "no telnet" in line for line in lines)


def test_there_the_slow_ones_may_be_left_to_another_run(tmp_path: Path) -> None:
    code, lines = run(tmp_path, CHATPROTO_ALL="1")
    assert code == 1
    # A skip that has failed all the same, as it is not for being slow, comes as an error.
    assert "1 failed, 1 passed, 1 skipped, 1 xfailed, 1 error" in lines[-1]
    code, lines = run(tmp_path, "--slow", "-m", "slow", "-k", "not system", CHATPROTO_ALL="1")
    assert code == 0
    assert "1 passed, 4 deselected" in lines[-1]


def test_a_whole_module_that_is_skipped_has_failed_too(tmp_path: Path) -> None:
    (tmp_path / "test_module.py").write_text("import pytest\npytest.importorskip('no_such_module')\n")
    code, _ = run(tmp_path, "test_module.py")
    assert code == 5  # no tests
    code, lines = run(tmp_path, "test_module.py", CHATPROTO_ALL="1")
    assert code == 2
    assert any("no_such_module" in line for line in lines)


def test_when_all_have_run_nothing_is_said(tmp_path: Path) -> None:
    _, lines = run(tmp_path, "-k", "plain")
    assert not [line for line in lines if line.startswith("not run: ")]


def test_in_several_processes_the_same_is_said(tmp_path: Path) -> None:
    code, lines = run(tmp_path, "-n", "2", "--dist", "worksteal")
    assert code == 0
    assert "1 passed, 3 skipped, 1 xfailed" in lines[-1]
    [line] = [line for line in lines if line.startswith("not run: ")]
    assert line.startswith("not run: 2 slow tests (pytest --slow runs them), 1 system tests (")
    code, lines = run(tmp_path, "-n", "2", "--dist", "worksteal", CHATPROTO_ALL="1")
    assert code == 1
    assert "1 failed, 1 passed, 1 skipped, 1 xfailed, 1 error" in lines[-1]


def test_there_a_test_that_hangs_ends_its_process_and_has_failed(tmp_path: Path) -> None:
    (tmp_path / "test_hang.py").write_text("import time\ndef test_hang(): time.sleep(600)\n")
    timeout = ("-o", "faulthandler_timeout=5", "-o", "faulthandler_exit_on_timeout=true")
    code, lines = run(tmp_path, "-n", "2", "--dist", "worksteal", *timeout)
    assert code == 1
    assert "1 failed, 1 passed, 3 skipped, 1 xfailed" in lines[-1]
    assert any("crashed while running 'test_hang.py::test_hang'" in line for line in lines)

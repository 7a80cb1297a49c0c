"""What every test may use, and which tests run.

Tests marked `slow` run with `--slow`, and alone with `--slow -m slow`. With CHATPROTO_ALL=1, which `.ci/run`
sets, a test that is skipped for whatever other reason has failed, and properties are looked for longer. With
`-n auto` tests run in several processes, each test in any of them.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings
from live import Server

# No deadline: how fast the machine is proves nothing.
settings.register_profile("plain", deadline=None, max_examples=40)
settings.register_profile("thorough", deadline=None, max_examples=200)
settings.load_profile("thorough" if os.environ.get("CHATPROTO_ALL") else "plain")

SLOW = "slow: pytest --slow runs it"


# What runs in the background may have been told to ignore what a terminal sends, and hands that down to the
# programs that are tested. What is handled is not handed down.
for ignored in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, lambda *_: None)

# Where the environment keeps nothing compiled, each of some hundred servers would compile the package anew.
if sys.dont_write_bytecode and "PYTHONPYCACHEPREFIX" not in os.environ:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compiled = tempfile.TemporaryDirectory(prefix="chatproto-test-compiled-")
    os.environ["PYTHONPYCACHEPREFIX"] = compiled.name


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two for each core, since tests that talk to servers wait more than they work."""
    return 2 * len(os.sched_getaffinity(0))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Building the package takes longest: begun first it is not begun by another process too, which takes over
    # what is left at the end of this one's list.
    items.sort(key=lambda item: item.path.name != "test_packaging.py")
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason=SLOW))


def pytest_collection_finish() -> None:
    # Some ten thousand tests stay to the end: what looks through all objects need not look through them.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_skipped(report)
    return report


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    is_left_out = report.skipped and not hasattr(report, "wasxfail") and SLOW not in report.longreprtext
    if os.environ.get("CHATPROTO_ALL") and is_left_out:
        report.outcome = "failed"
        report.longrepr = f"everything is to run, and this was skipped: {report.longreprtext}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.stats.get("skipped", [])
    skipped = [report for report in reports if isinstance(report, pytest.TestReport)]
    slow = sum("slow" in report.keywords for report in skipped)
    system = sum("system" in report.keywords and "slow" not in report.keywords for report in skipped)
    if slow or system:
        terminalreporter.write_line(
            f"not run: {slow} slow tests (pytest --slow runs them), "
            f"{system} system tests (they need programs that are not here: see above)"
        )


@pytest.fixture
def server() -> Iterator[Server]:
    """`twistd -n chat` as it comes."""
    with Server() as running:
        yield running

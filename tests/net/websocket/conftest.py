"""What is logged as gone wrong fails a test that does not expect it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import implementer


@implementer(ILogObserver)
class Logged(list[str]):
    """The names of the exceptions that were logged."""

    def __call__(self, event: LogEvent) -> None:
        """Keep what is bad (ILogObserver)."""
        if event["log_level"] >= LogLevel.error:
            failure = event.get("log_failure")
            self.append(type(failure.value).__name__ if failure else str(event))

    def take(self) -> list[str]:
        """Those that were expected."""
        names = list(self)
        self.clear()
        return names


@pytest.fixture(autouse=True)
def logged(request: pytest.FixtureRequest) -> Iterator[Logged]:
    """What is logged as gone wrong during the test; what it does not take fails it."""
    logged = Logged()
    if isinstance(request.instance, TestCase):  # trial looks after that itself
        yield logged
        return
    globalLogPublisher.addObserver(logged)
    yield logged
    globalLogPublisher.removeObserver(logged)
    assert logged.take() == []

"""Peers that run for as long as the tests here do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from interop.conversation import Meeting, Running


@pytest.fixture(scope="session")
def _running() -> Iterator[Running]:
    running = Running()
    yield running
    running.close()


@pytest.fixture
def meeting(_running: Running) -> Meeting:
    """Lets peers meet."""
    return Meeting(_running)

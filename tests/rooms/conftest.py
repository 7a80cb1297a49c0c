"""What the tests of rooms use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rooms.outlets import Failures
from rooms.worlds import SMALL, World, Worlds
from twisted.logger import globalLogPublisher

from chatproto.testing import ChatInMemory


@pytest.fixture
def chat() -> ChatInMemory:
    """A chat with the limits as they come."""
    return ChatInMemory()


@pytest.fixture(params=["at once", "fired", "later"])
def world_with(request: pytest.FixtureRequest) -> Worlds:
    """Makes a chat with other limits, on each kind of log."""
    return lambda limits: World(request.param, limits)


@pytest.fixture
def world(world_with: Worlds) -> World:
    """A chat with a small queue for each person, on each kind of log."""
    return world_with(SMALL)


@pytest.fixture(autouse=True)
def failures() -> Iterator[Failures]:
    """What is logged as gone wrong; a test that does not take it fails by it."""
    failures = Failures()
    globalLogPublisher.addObserver(failures)
    yield failures
    globalLogPublisher.removeObserver(failures)
    assert failures.take() == []

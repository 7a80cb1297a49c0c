"""What the tests of shared rooms use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rooms.conftest import failures
from shared.store import Store

__all__ = ["failures", "store"]


@pytest.fixture(scope="module")
def lasting_store() -> Iterator[Store]:
    """One for all tests of a module, which nobody harms."""
    with Store() as store:
        yield store


@pytest.fixture
def store(lasting_store: Store) -> Store:
    """An empty store that nobody harms."""
    lasting_store.ask("FLUSHALL")
    return lasting_store

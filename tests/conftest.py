"""What every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from live import Server

settings.register_profile("plain", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "plain"))


@pytest.fixture
def server() -> Iterator[Server]:
    """`twistd -n chat` as it comes."""
    with Server() as running:
        yield running

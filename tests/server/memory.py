"""A reactor whose ports are only remembered, and whose clock is moved by the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.testing import MemoryReactorClock

__all__ = ["ReactorInMemory"]


class ReactorInMemory(MemoryReactorClock):
    """Twisted's, for those who have threads too."""

    def callFromThread(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        """In the next turn."""
        self.callLater(0, call, *arguments, **named)

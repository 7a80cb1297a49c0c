"""What the tests of rooms use, for the durable history too."""

from __future__ import annotations

from rooms.conftest import chat, failures

__all__ = ["chat", "failures"]

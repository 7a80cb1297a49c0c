"""Who says something and is gone at once, at a real server that keeps it on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from live import Server

from chatproto.wire.messages import Chat, Left, Ping, Pong, Say


@pytest.mark.parametrize(
    "tries", [pytest.param(10, id="few"), pytest.param(200, id="many", marks=pytest.mark.slow)]
)
def test_nobody_has_left_before_what_they_said_last(tmp_path: Path, tries: int) -> None:
    with Server("--history", str(tmp_path / "history")) as server:
        bob = server.join("bob", "ops")
        for number in range(tries):
            # Comes back at once each time, and is never told that the nickname is taken.
            bot = server.join("bot", "ops")
            bot.send(Say(0, "ops", f"{number} a"), Say(0, "ops", f"{number} b"), Ping(1))
            bot.until(Pong)  # it was heard, and is hardly on the disk
            bot.reset()
        bob.gather(lambda: len(bob.of(Left)) == tries and len(bob.of(Chat)) == 2 * tries, "all of it")
        told = [message for message in bob.received if isinstance(message, Chat | Left)]
    assert [message.text if isinstance(message, Chat) else "left" for message in told] == [
        word for number in range(tries) for word in (f"{number} a", f"{number} b", "left")
    ]

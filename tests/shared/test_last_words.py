"""Who says something and is gone at once, seen from every server of a shared room."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from live import Server
from shared.store import Store, needs_store

from chatproto.wire.messages import Chat, Left, Ping, Pong, Say

pytestmark = [pytest.mark.system, needs_store]


@pytest.mark.parametrize(
    "tries", [pytest.param(10, id="few"), pytest.param(200, id="many", marks=pytest.mark.slow)]
)
def test_nobody_has_left_before_what_they_said_last_on_any_server(store: Store, tries: int) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(Server("--history", store.url)) for _ in range(2)]
        people = [server.join(f"bob{number}", "ops") for number, server in enumerate(servers)]
        for number in range(tries):
            # Comes back at once each time, and is never told that the nickname is taken.
            bot = servers[0].join("bot", "ops")
            bot.send(Say(0, "ops", f"{number} a"), Say(0, "ops", f"{number} b"), Ping(1))
            bot.until(Pong)
            bot.reset()
        for bob in people:
            bob.gather(lambda: len(bob.of(Left)) == tries and len(bob.of(Chat)) == 2 * tries, "all of it")  # noqa: B023
            told = [message for message in bob.received if isinstance(message, Chat | Left)]
            assert [message.text if isinstance(message, Chat) else "left" for message in told] == [
                word for number in range(tries) for word in (f"{number} a", f"{number} b", "left")
            ]

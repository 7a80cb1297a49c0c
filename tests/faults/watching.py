"""A server that is looked into: what is alive in it, and what it wrote to its log."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

from live import Framed, Server, at_any_pace, eventually, patiently

MARK = "watched: "
LISTEN = ("--listen", "tcp:0:interface=127.0.0.1:backlog=1024")


class WatchedServer(Server):
    """`twistd -n chat`, run by `watched.py` beside this file; with *accounts*, `root` may log in.

    Its history is in memory unless one is named: what is measured here is what people cost.
    """

    def __init__(self, *options: str, accounts: bool = False) -> None:
        script = str(Path(__file__).with_name("watched.py"))
        listen: tuple[str, ...] = () if "--listen" in options else LISTEN
        listen += () if "--history" in options else ("--history", "memory")
        more = ("--accounts",) if accounts else ()
        pace = at_any_pace(options)
        super().__init__(command=[sys.executable, script, *more, *listen, *pace, *options])

    def state(self) -> dict[str, Any]:
        """What is alive in it."""
        before = self.log().count(MARK)
        self.process.send_signal(signal.SIGUSR1)
        for _ in patiently():
            lines = [line for line in self.log().splitlines(keepends=True) if line.startswith(MARK)]
            if len(lines) > before and lines[-1].endswith("\n"):
                found: dict[str, Any] = json.loads(lines[-1].removeprefix(MARK))
                return found
        raise AssertionError("the server does not say what is alive in it")


def assert_well(server: Server) -> None:
    """It still serves a new client, and nothing went wrong in it that it had to log."""
    client: Framed = server.join("newcomer", "a-room-of-its-own")
    client.close()
    assert_log_is_clean(server)


def quiet_descriptors(server: WatchedServer) -> int:
    """How many descriptors are open while nobody is connected, once all is open that stays open."""
    assert_well(server)
    eventually(lambda: server.state()["fronts"] == 0)
    return server.descriptors()


def assert_log_is_clean(server: Server) -> None:
    """Nothing went wrong in it that it had to log."""
    log = server.log()
    assert "Traceback" not in log, log[-4_000:]
    assert "Unhandled" not in log, log[-4_000:]

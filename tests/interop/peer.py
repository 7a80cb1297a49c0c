"""Programs that speak WebSocket, and the conversations that tests have with them (`peers/commands.py`)."""

from __future__ import annotations

import base64
import itertools
import json
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from live import PATIENCE_S

TESTS = Path(__file__).parents[1]


class Line(Protocol):
    """What carries commands to a peer."""

    origin: str
    """What the peer says of itself in `Origin`; empty where it is no browser."""

    def say(self, command: str) -> None:
        """Give the peer one command."""

    def close(self) -> None:
        """End the peer."""


class Peer:
    """One running peer.

    *start* is given what is to be called with each event, and with None when the peer has ended.
    """

    def __init__(self, start: Callable[[Callable[[str | None], None]], Line]) -> None:
        self._numbers = itertools.count(1)
        self._ends: dict[int, End] = {}
        self.has_ended = False
        self._line = start(self._told)

    @property
    def origin(self) -> str:
        """What it says of itself in `Origin`; empty where it is no browser."""
        return self._line.origin

    def listen(self, **terms: Any) -> End:
        """A server's end of a connection to come; `port` is where it listens."""
        end = self._begin()
        end.do("listen", terms=terms)
        end.port = end.expect("listening")["port"]
        return end

    def connect(self, url: str, **terms: Any) -> End:
        """A client's end of a connection."""
        end = self._begin()
        end.do("connect", url=url, terms=terms)
        return end

    def visit(self, url: str) -> End:
        """Show a page, in a browser."""
        end = self._begin()
        end.do("visit", url=url)
        return end

    def close(self) -> None:
        """End it."""
        self._line.close()

    def _begin(self) -> End:
        of = next(self._numbers)
        self._ends[of] = End(of, self._line)
        return self._ends[of]

    def _told(self, line: str | None) -> None:
        if line is None:
            self.has_ended = True
            for end in list(self._ends.values()):
                end.events.put({"event": "the peer has ended"})
        else:
            event = json.loads(line)
            self._ends[event["of"]].events.put(event)


class End:
    """One end of a connection. What happens there comes in order, and nothing may be passed over."""

    def __init__(self, of: int, line: Line) -> None:
        self.port = 0
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._of = of
        self._line = line

    def do(self, what: str, **how: object) -> None:
        """Give a command."""
        self._line.say(json.dumps({"do": what, "of": self._of, **how}))

    def send(self, *pieces: str | bytes) -> None:
        """Send one message, in as many fragments as there are pieces."""
        if isinstance(pieces[0], str):
            self.do("send", text=pieces)
        else:
            self.do("send", binary=[_base64(piece) for piece in pieces])

    def ping(self, payload: bytes) -> None:
        """Send a ping."""
        self.do("ping", payload=_base64(payload))

    def close(self, code: int | None, reason: str = "") -> None:
        """Begin the closing handshake; without a code where it is None."""
        self.do("close", code=code, reason=reason)

    def forget(self) -> None:
        """Listen no more."""
        self.do("forget")

    def expect(self, event: str) -> dict[str, Any]:
        """What happens next, which must be this."""
        try:
            happened = self.events.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise AssertionError(f"no {event!r} came") from None
        assert happened["event"] == event, happened
        return happened

    def receives(self, message: str | bytes) -> None:
        """Wait until a message comes, which must be this."""
        happened = self.expect("text" if isinstance(message, str) else "binary")
        data: str | bytes = happened["data"]
        if isinstance(message, bytes):
            data = base64.b64decode(data)
        # Pytest would look for the difference in a mebibyte for minutes.
        assert len(data) == len(message)
        assert data[:200] == message[:200]
        is_same = data == message
        assert is_same

    def hears_close(self, code: int, reason: str = "", is_clean: bool = True) -> None:
        """Wait until the connection is closed: with this code and reason, as far as the peer tells."""
        told = self.expect("closed")
        assert told["code"] in (code, None), told
        assert told["reason"] in (reason, None), told
        assert told["is_clean"] in (is_clean, None), told

    def receives_pong(self, payload: bytes) -> None:
        """Wait until a pong comes, which must have this payload."""
        assert base64.b64decode(self.expect("pong")["payload"]) == payload


def _base64(data: str | bytes) -> str:
    assert isinstance(data, bytes)
    return base64.b64encode(data).decode()


class Program:
    """A peer that is a program with the commands on its standard input."""

    origin = ""

    def __init__(
        self,
        command: Sequence[str],
        told: Callable[[str | None], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(TESTS), **(environment or {})},
            text=True,
            encoding="utf-8",
        )
        self._told = told
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def say(self, command: str) -> None:
        """Give the peer one command."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """End the program."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self._told(line)
        finally:
            self._told(None)

"""A reader whose process is stopped for a while, over the end of servers too, misses nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from faults.history_people import Reader
from faults.history_record import Record
from faults.history_rounds import FEW_ROUNDS, ROOMS, Rounds, rounds_asked_for
from live import PATIENCE_S, Server, eventually

from chatproto.wire.messages import MESSAGES, Message

PROGRAM = Path(__file__).with_name("history_reader.py")

NARROW = ("--max-queued-bytes", "16384", "--max-room-log-messages", "20", "--close-timeout-s", "0.5")
"""So that whoever does not read soon lags, and what they missed is only in the file."""

STOPPED_MESSAGES = 1_000
"""About 500 KB, more than the kernel and the send queue hold together."""

TYPES = {kind.type: kind for kind in MESSAGES.values()}


class StoppableReader:
    """A `Reader` in a process of its own. What it saw is known once a server is gone."""

    def __init__(self, record: Record, folder: Path) -> None:
        self.reader = Reader(record, "stopped", ROOMS, "frames")
        self.came: Counter[str] = Counter()
        self._record = record
        self._socket_path = folder / "socket"
        self._output_path = folder / "output"
        with self._output_path.open("wb") as output:
            command = [sys.executable, str(PROGRAM), *ROOMS]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        else:
            self.go_on()
        self._process.communicate()

    def connect(self, server: Server) -> None:
        """Go on with a server."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{self._socket_path}\n".encode())
        self._process.stdin.flush()

    def stop(self) -> None:
        """Stand still."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Read again."""
        self._process.send_signal(signal.SIGCONT)

    @property
    def chats(self) -> int:
        """How many messages of rooms it got."""
        return self._output_path.read_text().count('["chat"')

    def finish(self) -> None:
        """Read to the end, and tell the record everything."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(PATIENCE_S) == 0
        for line in self._output_path.read_text().splitlines():
            name, *values = json.loads(line)
            self.came[name] += 1
            if name in ("welcome", "chat", "end", "lagged"):
                message: Message = TYPES[name](*values)
                self.reader.heard(message)


def run(folder: Path, n_rounds: int, how: signal.Signals) -> None:
    # Of a Unix socket the kernel holds little, so that it does not take long to find that nobody reads.
    listen = ("--listen", "tcp:0:interface=127.0.0.1", "--listen", f"unix:{folder / 'socket'}")
    rounds = Rounds(
        folder / "chat.sqlite", *listen, *NARROW, forms=("frames",), n_speakers=20, most_chars=1_000
    )
    with StoppableReader(rounds.record, folder) as stoppable:
        for number in range(n_rounds):
            during = _Stop(stoppable, rounds, goes_on=number % 2 == 0)
            rounds.round(how, during=during, began=stoppable.connect, ended=stoppable.go_on)
        rounds.finish()
        with Server(*rounds.options) as server:
            stoppable.connect(server)
            eventually(lambda: stoppable.chats == sum(rounds.record.newest.values()), "it has everything")
        stoppable.finish()
    assert stoppable.reader.at == {room: rounds.record.newest[room] for room in ROOMS}
    rounds.record.check()
    print(f"the reader that was stopped lagged {stoppable.came['lagged']} times")
    assert stoppable.came["lagged"], "it was never stopped for long enough"


class _Stop:
    """Stops the reader for `STOPPED_MESSAGES`; then it goes on in this round, or with the next server."""

    def __init__(self, stoppable: StoppableReader, rounds: Rounds, *, goes_on: bool) -> None:
        self._stoppable = stoppable
        self._record = rounds.record
        self._goes_on = goes_on
        self._stops_s = rounds.source.uniform(0, 0.2)
        self._ends_at = 0  # acknowledged messages

    def __call__(self, spent_s: float) -> bool:
        if not self._ends_at:
            if spent_s >= self._stops_s:
                self._stoppable.stop()
                self._ends_at = self._record.acknowledged + STOPPED_MESSAGES
            return False
        if self._record.acknowledged < self._ends_at:
            return False
        if self._goes_on:
            self._goes_on = False
            self._ends_at += STOPPED_MESSAGES
            self._stoppable.go_on()
            return False
        return True


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda how: how.name)
def test_who_was_stopped_has_the_whole_history_in_the_end(tmp_path: Path, how: signal.Signals) -> None:
    run(tmp_path, FEW_ROUNDS, how)


@pytest.mark.slow
@pytest.mark.parametrize("n_rounds", rounds_asked_for())
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda how: how.name)
def test_who_is_stopped_again_and_again_has_it_each_time(
    tmp_path: Path, how: signal.Signals, n_rounds: int
) -> None:
    run(tmp_path, n_rounds, how)

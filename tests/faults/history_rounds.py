"""A history that outlives its servers: in each round people talk, and the server ends in some way."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from faults.crowd import Crowd
from faults.history_people import LineReader, Reader, Speaker, find_new
from faults.history_record import Record
from live import PATIENCE_S, Server

from chatproto.history import __main__ as history
from chatproto.wire.messages import Chat

__all__ = ["FEW_ROUNDS", "During", "Rounds", "rounds_asked_for"]

ROOMS = ("lobby", "one", "two", "three")

FORMS = ("frames", "frames", "frames", "bin", "frames", "json")

During = Callable[[float], bool]
"""Called again and again while people talk, with the seconds since the first acknowledgement: whether the
server may end now, if it is time to."""

FEW_ROUNDS = 3
"""For the tests that always run."""

MOST_ROUNDS = 20

INSIST_S = 0.01


def rounds_asked_for() -> list[Any]:
    """The rounds of the slow tests, CHATPROTO_ROUNDS of them or 20, as parameters of one test after another.

    None of them may take too long (`faulthandler_timeout`).
    """
    asked_for = int(os.environ.get("CHATPROTO_ROUNDS", MOST_ROUNDS))
    return [
        pytest.param(min(MOST_ROUNDS, asked_for - first), id=f"from-{first + 1}")
        for first in range(0, asked_for, MOST_ROUNDS)
    ]


class Rounds:
    """*n_speakers* speak in four rooms, half of whom say again what was not answered; some read.

    *command* is the server's if it is to be another; *path* and *options* are put behind it.
    """

    def __init__(
        self,
        path: Path,
        *options: str,
        n_speakers: int = 50,
        forms: Sequence[str] = FORMS,
        command: Sequence[str] = (),
        most_chars: int = 40,
    ) -> None:
        self.seed = int(os.environ.get("CHATPROTO_SEED", random.randrange(2**32)))
        print(f"CHATPROTO_SEED={self.seed}")
        self.source = random.Random(self.seed)
        self.path = path
        self.record = Record()
        self.options = ("--history", str(path), "--max-messages-per-s", "0", *options)
        self.command = [*command, *self.options] if command else None
        self.speakers = [
            Speaker(
                self.record,
                f"speaker{number}",
                ROOMS[number % len(ROOMS)],
                forms[number % len(forms)],
                self.source,
                is_persistent=number // len(ROOMS) % 2 == 0,
            )
            for number in range(n_speakers)
        ]
        for speaker in self.speakers:
            speaker.most_chars = most_chars
        self.readers = [
            Reader(self.record, f"reader{number}", rooms, form)
            for number, (form, rooms) in enumerate(
                [("frames", ROOMS), ("bin", ROOMS[:2]), ("json", ROOMS[2:]), ("frames", ROOMS[:1])]
            )
        ]
        self.line_readers = [LineReader(self.record, "liner", ROOMS[0])]
        self.rounds = 0

    def round(
        self,
        how: signal.Signals = signal.SIGKILL,
        talking_s: tuple[float, float] = (0.0, 0.3),
        *,
        during: During = lambda spent_s: True,
        began: Callable[[Server], None] = lambda server: None,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        """Check what the last round left behind, talk for a while and end the server.

        How long they talk is between the two of *talking_s*. *began* is called when people are about to talk,
        *ended* when the server is gone.
        """
        self.rounds += 1
        with Server(*self.options, command=self.command) as server, Crowd(server.port) as crowd:
            self._gather(crowd)
            began(server)
            self._talk(crowd, self.source.uniform(*talking_s), during)
            server.process.send_signal(how)
            self._part(crowd)
            assert server.process.wait(PATIENCE_S) == -how
            ended()

    def finish(self) -> None:
        """Check all of it once more, through a server and in the file."""
        with Server(*self.options, command=self.command) as server, Crowd(server.port) as crowd:
            self._gather(crowd)
            server.process.send_signal(signal.SIGTERM)
            self._part(crowd)
            assert server.process.wait(PATIENCE_S) == -signal.SIGTERM
        found: dict[str, list[Chat]] = {room: [] for room in ROOMS}
        for line in history.export(str(self.path)):
            if "seq" in line:
                chat = Chat(line["room"], line["seq"], line["time"], line["nick"], line["text"])
                found[chat.room].append(chat)
        for room, chats in found.items():
            self.record.check_again(room, chats)
        messages, _, troubles = history.check(str(self.path))
        assert not troubles
        assert messages == sum(self.record.newest.values())
        assert self.record.acknowledged >= self.rounds
        print(
            f"{self.rounds} rounds: {self.record.acknowledged} acknowledged, {self.record.refused} refused, "
            f"{messages} kept"
        )

    def _gather(self, crowd: Crowd) -> None:
        """Everybody comes in, says again what was not answered, and finds what was."""
        for speaker in self.speakers:
            speaker.connect(crowd)
        for reader in self.readers:
            reader.connect(crowd)
        self._until_quiet(crowd)
        for line_reader in self.line_readers:
            line_reader.connect(crowd)

    def _until_quiet(self, crowd: Crowd) -> None:
        """All is answered, found and read, and everything is where it was seen."""

        def insist_until_quiet() -> bool:
            for speaker in self.speakers:
                speaker.insist()
            return all(speaker.is_quiet for speaker in self.speakers)

        crowd.run_until(insist_until_quiet, "everything is answered")
        find_new(crowd, self.record, ROOMS)
        crowd.run_until(lambda: all(reader.is_quiet for reader in self.readers), "everything is read")
        self.record.check()

    def _talk(self, crowd: Crowd, seconds: float, during: During) -> None:
        before = self.record.acknowledged
        for speaker in self.speakers:
            speaker.talk()
        crowd.run_until(lambda: self.record.acknowledged > before, "the first acknowledgement")
        begin_s = time.monotonic()
        insisted_s = 0.0
        while not during(spent_s := time.monotonic() - begin_s) or spent_s < seconds:
            assert spent_s < PATIENCE_S
            if spent_s - insisted_s > INSIST_S:
                insisted_s = spent_s
                for speaker in self.speakers:
                    speaker.insist()
            crowd.run_once(INSIST_S)

    def _part(self, crowd: Crowd) -> None:
        """The server is ending: take in what it has sent."""
        for speaker in self.speakers:
            speaker.is_talking = False
        crowd.run_until(lambda: all(link.at_end or link.is_gone for link in crowd.callers), "the end")

"""What was acknowledged is there, exactly once and in its order, whenever the process is killed."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import pytest
from rooms.pumped import PumpedLog

PROGRAM = Path(__file__).with_name("writing.py")
ROOMS = 3
SENDERS = 40


class Rounds:
    """A history that outlives those who write to it."""

    def __init__(self, path: Path, keep: int) -> None:
        self.path = path
        self.keep = keep
        self.told: dict[str, dict[int, str]] = defaultdict(dict)
        self.acknowledged = 0

    def write_and_end(self, how: signal.Signals | None, after_s: float) -> None:
        """Let a process write for a while after its first acknowledgement, then kill it, or let it end."""
        command = [sys.executable, str(PROGRAM), str(self.path), str(SENDERS), str(ROOMS), str(self.keep)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            first = process.stdout.readline()
            time.sleep(after_s)
            if how is None:
                process.stdin.close()
            else:
                process.send_signal(how)
            # A line that is cut off was not read to its end.
            *lines, _ = (first + process.stdout.read()).decode().split("\n")
        self.note(lines)

    def note(self, lines: list[str]) -> None:
        assert lines
        newest: dict[str, int] = {}
        for line in lines:
            what, room, number, text = line.split()
            seq = int(number)
            if what == "acknowledged":
                self.acknowledged += 1
                assert self.told[room].get(seq) == text, "acknowledged before anybody was told"
                continue
            assert seq not in self.told[room], "a number was used twice"
            if room in newest:
                assert seq == newest[room] + 1, "a hole"
            else:
                # What was kept when the last process was killed, and nobody was told of, comes to light now.
                self.find(room, max(self.told[room], default=0) + 1, seq - 1)
            self.told[room][seq] = text
            newest[room] = seq

    def find(self, room: str, first: int, last: int) -> None:
        with closing(sqlite3.connect(self.path)) as file:
            rows = file.execute(
                "SELECT place & 0xffffffffff, text FROM messages, rooms "
                "WHERE name = ? AND place >> 40 = number AND place & 0xffffffffff BETWEEN ? AND ?",
                (room, first, last),
            ).fetchall()
        if not self.keep:
            assert [seq for seq, _ in rows] == list(range(first, last + 1)), "a hole"
        self.told[room].update(dict.fromkeys(range(first, last + 1), ""))
        self.told[room].update(rows)

    def check(self) -> None:
        """Is all of it there?"""
        log = PumpedLog(self.path)
        for room, told in self.told.items():
            kept = {chat.seq: chat.text for chat in log.all(room)}
            oldest, newest = log.look(room)
            assert list(kept) == list(range(oldest, newest + 1)), "a hole"
            assert newest >= max(told)
            assert oldest == 1 or self.keep
            for seq, text in told.items():
                assert seq < oldest or kept[seq] == text or not text, "not what people were told"
            assert len(set(kept.values())) == len(kept), "something was kept twice"
            for seq in range(max(told) + 1, newest + 1):
                told[seq] = kept[seq]
            for text in random.sample(sorted(kept.values()), min(20, len(kept))):
                found = log.answer(log.search(room, [text], 10)).seqs
                assert [kept[seq] for seq in found] == [text]
        log.close_now()
        with closing(sqlite3.connect(self.path)) as file:
            assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def run(path: Path, rounds: int, keep: int = 0) -> None:
    source = random.Random()
    history = Rounds(path, keep)
    for number in range(rounds):
        how = [signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, None][number % 4]
        history.write_and_end(how, source.random() * 0.15)
        if number % 5 == 4:
            history.check()
    history.check()
    assert history.acknowledged >= rounds


def test_what_was_acknowledged_outlives_a_kill(tmp_path: Path) -> None:
    run(tmp_path / "history.sqlite", 20)


def test_it_does_so_while_old_messages_are_removed(tmp_path: Path) -> None:
    run(tmp_path / "history.sqlite", 8, keep=50)


@pytest.mark.slow
@pytest.mark.parametrize("keep", [0, 50])
def test_it_does_so_each_time(tmp_path: Path, keep: int) -> None:
    run(tmp_path / "history.sqlite", 200, keep)

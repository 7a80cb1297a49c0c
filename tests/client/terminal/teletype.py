"""chatproto-connect on a pseudoterminal, whose other end is a terminal that the test can look at."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import pyte
from live import patiently

__all__ = ["Teletype"]

ALTERNATE_SCREEN, MAIN_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"


class _Screen(pyte.Screen):
    """A terminal that answers what it is asked."""

    def __init__(self, columns: int, rows: int, reply: Callable[[str], None]) -> None:
        self._answer = reply
        super().__init__(columns, rows)

    def write_process_input(self, data: str) -> None:
        self._answer(data)


class Teletype:
    """A terminal of *columns* by *rows* with the program in it. `raw` has every byte that it sent."""

    def __init__(
        self,
        place: str,
        *arguments: str,
        columns: int = 80,
        rows: int = 16,
        state: str = os.devnull,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.raw = b""
        self.is_gone = False
        self._screen = _Screen(columns, rows, self._reply)
        self._stream = pyte.ByteStream(self._screen)
        self.ours, theirs = pty.openpty()
        self._set_size(columns, rows)
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs  # kept, so that one can see how the terminal was left
        self.process = subprocess.Popen(
            [sys.executable, "-m", "chatproto.client.connect", place, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={
                **{
                    name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLORTERM")
                },
                "TERM": "xterm-256color",
                "LANG": "C.UTF-8",
                "XDG_STATE_HOME": state,
                **(environment or {}),
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not self.is_gone:
            self.read()
            print("\n".join(self.rows))
        if self.process.poll() is None:
            self.process.terminate()  # the nickname is to be free again for the next
            try:
                self.ended()
            except AssertionError:
                self.process.kill()
        self.process.wait()
        self.hang_up()
        os.close(self._theirs)

    # --- looking --------------------------------------------------------------------------------------------

    @property
    def rows(self) -> list[str]:
        """What is on the screen."""
        return [row.rstrip() for row in self._screen.display]

    @property
    def text(self) -> str:
        """The same in one."""
        return "\n".join(self.rows)

    @property
    def typed(self) -> str:
        """The last row, where one types."""
        return self.rows[-1]

    @property
    def cursor(self) -> tuple[int, int]:
        """Column and row."""
        return self._screen.cursor.x, self._screen.cursor.y

    def colours(self, text: str) -> set[str]:
        """The foreground colours of the first place on the screen where *text* is."""
        for number, row in enumerate(self._screen.display):
            if text in row:
                at = row.index(text)
                cells = self._screen.buffer[number]
                return {cells[column].fg for column in range(at, at + len(text))}
        raise AssertionError(f"{text!r} is not on the screen")

    def shows(self, *texts: str) -> None:
        """Wait until all of *texts* are on the screen."""
        self.until(lambda: all(text in self.text for text in texts), f"{texts!r} was not shown")

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds of what the program shows."""
        for _ in patiently():
            self.read()
            if holds():
                return
        raise AssertionError(f"{what}; what is on the screen:\n{self.text}")

    def read(self) -> None:
        """Take in what is there."""
        while select.select([self.ours], [], [], 0)[0]:
            data = os.read(self.ours, 65_536)
            self.raw += data
            self._stream.feed(data)

    # --- acting ---------------------------------------------------------------------------------------------

    def type(self, *texts: str) -> None:
        """Type *texts*; keys are what a terminal sends for them."""
        for text in texts:
            os.write(self.ours, text.encode())
            self.read()

    def resize(self, columns: int, rows: int) -> None:
        """Another size, as when a window is dragged."""
        self._screen.resize(rows, columns)
        self._set_size(columns, rows)

    def signal(self, number: signal.Signals) -> None:
        """Send the program a signal."""
        self.process.send_signal(number)

    def hang_up(self) -> None:
        """The terminal is gone."""
        if not self.is_gone:
            self.is_gone = True
            os.close(self.ours)

    def ended(self) -> int:
        """Wait for the end of the program; its exit code."""
        for _ in patiently():
            if not self.is_gone:
                self.read()
            if self.process.poll() is not None:
                return int(self.process.returncode)
        raise AssertionError(f"it did not end; what is on the screen:\n{self.text}")

    def is_restored(self) -> bool:
        """Whether the terminal is as the program found it: its modes, the screen, wrapping, the cursor."""
        self.read()
        after: Sequence[Any] = termios.tcgetattr(self._theirs)
        undone = [b"\x1b[?2004l", b"\x1b[?7h", MAIN_SCREEN, b"\x1b[?25h"]
        return list(after) == list(self.before) and all(
            self.raw.rfind(last) > self.raw.rfind(last[:-1] + (b"l" if last[-1:] == b"h" else b"h"))
            for last in undone
        )

    def _reply(self, data: str) -> None:
        os.write(self.ours, data.encode())

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

"""A person at a terminal: a program of the system on a pseudo-terminal, typed into and looked at."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from types import TracebackType
from typing import Self

from live import PATIENCE_S

INTERRUPT, ESCAPE = "\x03", "\x1d"
"""Control-C; and Control-], with which one speaks to `telnet` itself."""


class Terminal:
    """Someone in front of a window of so many *columns*, in which *command* runs.

    `shown` is what was shown since something was last looked for.
    """

    def __init__(self, *command: str, columns: int = 80) -> None:
        self.shown = b""
        self._process, self._terminal = pty.fork()
        if self._process == 0:
            # Before the program begins, which may look only once.
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            os.execvp(command[0], command)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.kill(self._process, signal.SIGKILL)
        os.close(self._terminal)
        os.waitpid(self._process, 0)

    def type(self, *lines: str) -> None:
        """Type lines, each with the return key."""
        self.press("".join(f"{line}\n" for line in lines))

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._terminal, keys.encode())

    def sees(self, text: str) -> str:
        """Wait until *text* is shown; what was shown up to there."""
        deadline_s = time.monotonic() + PATIENCE_S
        sought = text.encode()
        while sought not in self.shown:
            assert time.monotonic() < deadline_s, f"{text!r} is not in {self.shown!r}"
            if select.select([self._terminal], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self._terminal, 4_096)
                except OSError:  # what Linux says when the program has ended
                    deadline_s = 0
        seen, _, self.shown = self.shown.partition(sought)
        return (seen + sought).decode()

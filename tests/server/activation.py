"""Starting a program as systemd does: with sockets that listen already, from descriptor 3 on."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence

__all__ = ["as_systemd_starts"]

_START = """
import os, sys
names, numbers, command = sys.argv[1], [int(number) for number in sys.argv[2].split(",")], sys.argv[3:]
moved = [os.dup2(number, 100 + index) for index, number in enumerate(numbers)]
for index, number in enumerate(moved):
    os.dup2(number, 3 + index)
    os.close(number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(numbers)), LISTEN_FDNAMES=names)
os.execv(command[0], command)
"""


def as_systemd_starts(
    listening: Sequence[socket.socket], names: Sequence[str], command: Sequence[str]
) -> list[str]:
    """The command that becomes *command* with the sockets, which have to be passed to it (`pass_fds`)."""
    numbers = ",".join(str(plain.fileno()) for plain in listening)
    return [sys.executable, "-c", _START, ":".join(names), numbers, *command]

"""What systemd is told: that the server is ready, reads its file again, is alive, ends (sd_notify(3)).

It is a line or two in a datagram; nothing happens where no socket for it is named in the environment.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

__all__ = ["monotonic_line", "notify", "watchdog_interval_s"]


def notify(*lines: str) -> None:
    """Tell it these lines. Whoever does not listen is not waited for."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    address = f"\0{path[1:]}" if path.startswith("@") else path
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out:
        out.sendto("\n".join(lines).encode(), address)


def monotonic_line() -> str:
    """By what systemd knows that a reload began after it was asked for."""
    return f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000}"


def watchdog_interval_s() -> float:
    """How often to say that one is alive: twice as often as is wanted; 0: nobody wants to know."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2e6 if microseconds.isdecimal() else 0.0

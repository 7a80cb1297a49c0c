"""The real `twistd -n chat`, which prints on SIGUSR1 what is alive in it, as one line of JSON.

    python watched.py [--accounts] [OPTIONS OF twistd chat]

With `--accounts` the user `root` with the secret `secret` may log in and moderate.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
from collections import Counter
from typing import Any

from twisted.internet import reactor, tcp
from twisted.scripts import twistd

from chatproto.net.factory import ChatFactory
from chatproto.net.sendqueue import Turn
from chatproto.rooms.hub import Hub
from chatproto.server import service

MARK = "watched: "
"""What each line of JSON begins with."""

ALWAYS_TICKING = ("ReactorDelay", "LoopingCall")
"""Whose timers are there as long as the server, whoever is connected."""

ALIVE = (
    "Session",
    "CatchUp",
    "Member",
    "Room",
    "SendQueue",
    "FrameProtocol",
    "LineProtocol",
    "BinFace",
    "JsonFace",
    "WebSocketTransport",
    "SiteChannel",
    "Front",
    "Server",
)


class HubWithAccounts(Hub):
    """What somebody gets who makes a hub of their own and puts accounts into it."""

    def __init__(self, *args: Any, **named: Any) -> None:
        named["authenticate"] = lambda user, secret: (user, secret) == ("root", "secret")
        super().__init__(*args, **{**named, "operators": ("root",)})


def _is_the_server_s(timer: str) -> bool:
    return any(name in timer for name in ALWAYS_TICKING)


def _options(handle: socket.socket) -> dict[str, int]:
    level = socket.IPPROTO_TCP
    return {
        "nodelay": handle.getsockopt(level, socket.TCP_NODELAY),
        "keepalive": handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        "idle_s": handle.getsockopt(level, socket.TCP_KEEPIDLE),
        "interval_s": handle.getsockopt(level, socket.TCP_KEEPINTVL),
        "probes": handle.getsockopt(level, socket.TCP_KEEPCNT),
        "user_timeout_ms": handle.getsockopt(level, socket.TCP_USER_TIMEOUT),
    }


def state() -> dict[str, Any]:
    """Everything that a connection leaves traces in."""
    gc.collect()
    alive = gc.get_objects()
    factories = [thing for thing in alive if isinstance(thing, ChatFactory)]
    assert len(factories) == 1, factories
    factory = factories[0]
    real_reactor: Any = reactor
    hub = factory.hub
    kinds = Counter(type(thing).__name__ for thing in alive)
    transports = [thing for thing in alive if isinstance(thing, tcp.Server) and thing.connected]
    sockets = [transport.socket for transport in transports if transport.socket.family == socket.AF_INET]
    return {
        "sessions": len(hub.sessions),
        "rooms": len(hub.rooms),
        "nicks": len(hub.nicks),
        "connections": len(factory.connections),
        "fronts": len(factory.fronts),
        "blocked": sum(len(thing.blocked) for thing in alive if isinstance(thing, Turn)),
        "timers": sorted(
            timer for timer in map(str, real_reactor.getDelayedCalls()) if not _is_the_server_s(timer)
        ),
        "readers_and_writers": len(real_reactor.getReaders()) + len(real_reactor.getWriters()),
        "alive": {name: kinds[name] for name in ALIVE},
        # Which options there are, not how often.
        "sockets": list({str(options := _options(handle)): options for handle in sockets}.values()),
    }


def _show() -> None:
    os.write(1, f"{MARK}{json.dumps(state())}\n".encode())


def _signalled(*_: object) -> None:
    # Not here: a signal comes in the middle of anything, the reactor's own doings included.
    real_reactor: Any = reactor
    real_reactor.callFromThread(_show)


def main() -> None:
    """Be twistd."""
    options = sys.argv[1:]
    if "--accounts" in options:
        options.remove("--accounts")
        vars(service)["Hub"] = HubWithAccounts
    signal.signal(signal.SIGUSR1, _signalled)
    sys.argv = ["twistd", "-n", "--pidfile=", "chat", *options]
    twistd.run()


if __name__ == "__main__":
    main()

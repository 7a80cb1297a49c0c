"""The server of test_rows.py: everything that the protocol's tables speak of can happen here, and soon."""

from __future__ import annotations

import socket
import sys

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.tcp import Port
from twisted.logger import globalLogBeginner, textFileLogObserver

from chatproto.limits import Limits
from chatproto.net.factory import ChatFactory
from chatproto.rooms.hub import Hub
from chatproto.rooms.log import MemoryLog, NotStored, Receipt

LIMITS = Limits(
    max_queued_bytes=65_536,
    max_rooms_per_session=3,
    join_timeout_s=4.0,
    lag_timeout_s=2.0,
    login_burst=1_000,  # they all come from one address
    rename_burst=2,
    rename_interval_s=1_000.0,
)

SEND_BUFFER_BYTES = 16_384
"""The kernel's, for each connection: so it does not take much to be a slow reader."""


class PickyLog(MemoryLog):
    """A log that does not keep everything."""

    def append(self, room: str, nick: str, key: str, id: int, text: str, sender: int) -> Receipt:
        """Refuse what asks for it."""
        if text.startswith("refuse me"):
            raise NotStored("the history is full")
        return super().append(room, nick, key, id, text, sender)


def say_where(port: Port) -> None:
    """Print the line that `live.Server` waits for."""
    port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    print(f"listening on 127.0.0.1 port {port.getHost().port}", flush=True)


if __name__ == "__main__":
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    hub = Hub(
        reactor,
        PickyLog(LIMITS),
        LIMITS,
        authenticate=lambda user, secret: secret == "right",
        login_required=True,
        operators=["op"],
    )
    factory = ChatFactory(hub)
    TCP4ServerEndpoint(reactor, 0, backlog=64, interface="127.0.0.1").listen(factory).addCallback(say_where)
    reactor.addSystemEventTrigger("before", "shutdown", factory.shut_down, 2_500)
    reactor.run()

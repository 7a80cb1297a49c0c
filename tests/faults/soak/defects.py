"""`twistd -n chat` with defects that a soak must notice.

    python defects.py OPTIONS OF twistd chat

Of many messages one does not reach somebody who is there. Each connection leaves some memory behind, and many
of them a descriptor and a moment in which nobody is served.
"""

from __future__ import annotations

import itertools
import os
import sys
import time

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol
from twisted.scripts import twistd

from chatproto.net.factory import ChatFactory
from chatproto.rooms.room import Room
from chatproto.wire.prepared import Prepared

LOST_EVERY = 50
LEFT_BYTES = 200_000
HELD_UP_EVERY = 50
HELD_UP_S = 1.0


def lose_messages() -> None:
    publish, numbers = Room.publish, itertools.count(1)

    def publish_to_most(self: Room, prepared: Prepared, sender: int) -> None:
        *_, last = self.everyone()
        was_live, last.live = last.live, last.live and next(numbers) % LOST_EVERY != 0
        publish(self, prepared, sender)
        last.live = was_live

    Room.publish = publish_to_most  # type: ignore[method-assign]


def leave_things_behind() -> None:
    build, numbers = ChatFactory.buildProtocol, itertools.count(1)
    left: list[bytes] = []

    def build_slowly(self: ChatFactory, addr: IAddress | None) -> Protocol:
        left.append(b"x" * LEFT_BYTES)
        if next(numbers) % HELD_UP_EVERY == 0:
            os.dup(0)
            time.sleep(HELD_UP_S)
        return build(self, addr)

    ChatFactory.buildProtocol = build_slowly  # type: ignore[method-assign]


def main() -> None:
    """Be twistd."""
    lose_messages()
    leave_things_behind()
    sys.argv = ["twistd", "-n", "--pidfile=", "chat", *sys.argv[1:]]
    twistd.run()


if __name__ == "__main__":
    main()

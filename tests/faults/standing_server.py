"""`twistd -n chat` that stands still for a while when it is asked for a `pong`.

python standing_server.py SECONDS [OPTIONS OF twistd chat]
"""

from __future__ import annotations

import sys
import time

from twisted.scripts import twistd

from chatproto.rooms import requests
from chatproto.rooms.session import Session
from chatproto.wire.messages import Ping


def main() -> None:
    """Be twistd."""
    seconds = float(sys.argv[1])
    answer = requests._DISPATCH[Ping]

    def stand_still(session: Session, message: Ping) -> None:
        time.sleep(seconds)
        answer(session, message)

    requests._DISPATCH[Ping] = stand_still
    sys.argv = ["twistd", "-n", "--pidfile=", "chat", *sys.argv[2:]]
    twistd.run()


if __name__ == "__main__":
    main()

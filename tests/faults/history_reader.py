"""Someone who reads, in a process of their own, so that they can be stopped.

    python history_reader.py ROOM...

Reads the Unix sockets of one server after the other from its input, stays with each as long as it is there,
and resumes where it was. Prints each message that comes as a line of JSON: its name, and its fields.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from live import Framed, unix_socket

from chatproto.wire.messages import Chat, Join, Welcome


def main() -> None:
    """Read until the input ends."""
    at = dict.fromkeys(sys.argv[1:], 0)
    epoch = 0
    for line in sys.stdin:
        client = Framed(unix_socket(Path(line.rstrip())))
        client.send(*(Join("stopped", room, epoch, after, 65_535) for room, after in at.items()))
        while not client.at_end:
            client.receive()
            for message in client.received:
                if isinstance(message, Welcome):
                    epoch = message.epoch
                elif isinstance(message, Chat):
                    at[message.room] = message.seq
                values = [getattr(message, field.name) for field in message.fields]
                print(json.dumps([message.type, *values]))
            client.received.clear()
            sys.stdout.flush()
        client.close()


if __name__ == "__main__":
    main()

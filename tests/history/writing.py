"""A server's history alone, to be killed: senders who say the next thing when the last is acknowledged.

`python writing.py PATH SENDERS ROOMS KEEP` prints a line for each message when people would be told of it,
and one when it is acknowledged, until it is killed or its input ends. KEEP bounds the messages of each room,
if it is not 0.
"""

from __future__ import annotations

import os
import secrets
import select
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rooms.pumped import PumpedLog

from chatproto.limits import HistoryLimits
from chatproto.rooms.log import Receipt
from chatproto.wire.messages import Chat


def main() -> None:
    path, senders, rooms, keep = sys.argv[1], *map(int, sys.argv[2:])
    log = PumpedLog(path, history=HistoryLimits(max_history_room_messages=keep))
    lines: list[str] = []
    said = 0
    # Texts, which are one word, and ids are other ones in each process.
    mark = secrets.randbelow(2**30)
    is_ending = False

    def kept(chat: Chat, sender: int) -> None:
        lines.append(f"told {chat.room} {chat.seq} {chat.text}")

    def say(sender: int) -> None:
        nonlocal said
        said += 1
        room, text = f"room{said % rooms}", f"{mark}x{said}"
        answer = log.append(room, f"nick{sender}", f"nick{sender}", (mark << 20) + said, text, sender)
        answer.addCallback(acknowledged, sender, room, text)

    def acknowledged(receipt: Receipt, sender: int, room: str, text: str) -> None:
        lines.append(f"acknowledged {room} {receipt.seq} {text}")
        if not is_ending:
            say(sender)

    log.start(kept)
    for sender in range(senders):
        say(sender)
    while not select.select([sys.stdin], [], [], 0)[0]:
        log.pump.step(0.05)
        # What a client has read it has read, whatever becomes of the server.
        os.write(1, "".join(f"{line}\n" for line in lines).encode())
        lines.clear()
    is_ending = True
    log.close_now()
    os.write(1, "".join(f"{line}\n" for line in lines).encode())


if __name__ == "__main__":
    main()

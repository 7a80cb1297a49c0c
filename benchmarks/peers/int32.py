"""A peer to measure against: the same chat on plain Twisted.

`Int32StringReceiver`, `struct` and `transport.write`: what one writes in an afternoon with the means of
Twisted, written well. Members stand in a dictionary, a message is encoded once for all receivers, the newest
messages are kept in memory. A frame of the chat protocol is exactly an Int32 string, so the same clients talk
to both servers.

It does what the load generator asks for: `join`, `say`, `leave` and `ping`, with the checks that the protocol
wants for them. It does without what the chat server has beyond that: bounds for slow readers, ids that were
used before, rates, other rooms.

`int32.py PORT`, on the loopback interface. Ends on SIGTERM or ctrl-C.
"""

from __future__ import annotations

import re
import struct
import sys
import time
from collections import deque
from itertools import count, islice

from twisted.internet import reactor
from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.internet.protocol import ServerFactory
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure

MAX_FRAME_BYTES = 65_536
MAX_TEXT_BYTES = 4_096
MAX_NICK_CHARS = 32
# As many as the chat keeps in memory by default.
KEPT_MESSAGES = 5_000
# In a fuller room nobody is told who comes and goes (section 3.7 of the protocol).
ANNOUNCE_LIMIT = 1_000
MAX_ROSTER_NICKS = 1_000
ROOM = b"lobby"

JOIN, SAY, LEAVE, PING = 0x01, 0x02, 0x03, 0x08
WELCOME, JOINED, LEFT, CHAT, ROSTER, END = 0x81, 0x82, 0x83, 0x84, 0x86, 0x87
PONG, ACK, ERROR = 0x89, 0x8A, 0x8B
MALFORMED, TOO_BIG, JOIN_FIRST, NICK_TAKEN, BAD_NICK, BAD_ROOM, NOT_IN_ROOM, BAD_TEXT = 1, 2, 3, 4, 5, 6, 7, 9

U16 = struct.Struct(">H")
JOIN_TAIL = struct.Struct(">QQH")  # epoch after limit
SAY_HEAD = struct.Struct(">QH")  # id, bytes of the room
CHAT_MIDDLE = struct.Struct(">QQ")  # seq time
ACK_FRAME = struct.Struct(">IBQQQ")  # the bytes that follow, kind, id seq time
ACK_BYTES = ACK_FRAME.size - 4

# Every control character but tab and newline, of ASCII and of Latin-1.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Refused(Exception):
    """What a client sent cannot be done: an error code of the protocol, a sentence, the id it belongs to."""

    def __init__(self, code: int, text: str, id: int = 0) -> None:
        super().__init__(text)
        self.code = code
        self.id = id
        self.fatal = code in (MALFORMED, TOO_BIG, JOIN_FIRST)


def encoded_str(data: bytes) -> bytes:
    return U16.pack(len(data)) + data


class Room:
    """The one room: its members by the key of their nickname, and its newest messages."""

    def __init__(self) -> None:
        self.members: dict[str, ChatProtocol] = {}
        self.kept: deque[tuple[int, int, bytes, bytes]] = deque(maxlen=KEPT_MESSAGES)
        self.last_seq = 0
        self.epoch = int(time.time() * 1000)
        self.session_ids = count(1)

    def announce(self, body: bytes, beside: ChatProtocol) -> None:
        """Write who came or went, `body`, to everyone but `beside`, unless the room is too full for that."""
        if len(self.members) <= ANNOUNCE_LIMIT:
            self.publish(body, beside)

    def publish(self, body: bytes, beside: ChatProtocol) -> None:
        """Write `body`, kind and payload, to every member but `beside`."""
        frame = struct.pack(">I", len(body)) + body
        for member in self.members.values():
            if member is not beside:
                member.transport.write(frame)


class ChatProtocol(Int32StringReceiver):
    """One connection. `key` is empty until it has joined."""

    MAX_LENGTH = MAX_FRAME_BYTES
    transport: ITCPTransport

    def __init__(self, room: Room) -> None:
        self.room = room
        self.key = ""
        self.nick = b""

    def connectionMade(self) -> None:
        """Send what is written at once."""
        # An `ack` must not wait for the acknowledgement of what went before.
        self.transport.setTcpNoDelay(True)

    def stringReceived(self, string: bytes) -> None:
        """Do what one frame, kind and payload, asks for."""
        try:
            if not string:
                raise Refused(MALFORMED, "a frame has a kind")
            kind = string[0]
            if kind == SAY:
                self.say(string)
            elif kind == JOIN:
                self.join(string)
            elif kind == PING:
                if len(string) != 9:
                    raise Refused(MALFORMED, "ping has eight bytes")
                self.send(bytes((PONG,)) + string[1:])
            elif kind == LEAVE:
                self.transport.loseConnection()
            else:
                raise Refused(MALFORMED, "unknown kind")
        except Refused as refused:
            self.refuse(refused)

    def send(self, body: bytes) -> None:
        """Write one frame; `body` is its kind and payload."""
        self.transport.write(struct.pack(">I", len(body)) + body)

    def lengthLimitExceeded(self, length: int) -> None:
        """Refuse a frame over the limit."""
        self.refuse(Refused(TOO_BIG, f"a frame of {length} bytes"))

    def refuse(self, refused: Refused) -> None:
        """Answer with an error, and close after one that is fatal."""
        text = encoded_str(str(refused).encode())
        self.send(struct.pack(">BHQ", ERROR, refused.code, refused.id) + text)
        if refused.fatal:
            self.transport.loseConnection()

    def join(self, string: bytes) -> None:
        """Enter the room: `welcome`, `roster`, the newest messages, `end`; the others learn of it."""
        try:
            (nick_bytes,) = U16.unpack_from(string, 1)
            nick_end = 3 + nick_bytes
            (room_bytes,) = U16.unpack_from(string, nick_end)
            room_end = nick_end + 2 + room_bytes
            _epoch, _after, limit = JOIN_TAIL.unpack_from(string, room_end)
            nick = string[3:nick_end].decode()
        except (struct.error, UnicodeDecodeError):
            raise Refused(MALFORMED, "join cannot be read") from None
        if len(string) != room_end + JOIN_TAIL.size:
            raise Refused(MALFORMED, "bytes after the last field")
        if string[nick_end + 2 : room_end] not in (b"", ROOM):
            raise Refused(BAD_ROOM, "there is only the lobby")
        if not 1 <= len(nick) <= MAX_NICK_CHARS or not nick.isprintable():
            raise Refused(BAD_NICK, "a nickname has 1 to 32 characters")
        if self.key:
            return
        room = self.room
        key = nick.casefold()
        if key in room.members:
            raise Refused(NICK_TAKEN, "the nickname is taken")
        self.key = key
        self.nick = nick.encode()
        room.announce(bytes((JOINED,)) + encoded_str(ROOM) + encoded_str(self.nick), self)
        room.members[key] = self
        self.send(
            struct.pack(">BQ", WELCOME, next(room.session_ids))
            + encoded_str(self.nick)
            + struct.pack(">Q", room.epoch)
            + encoded_str(b"int32")
        )
        nicks = [encoded_str(member.nick) for member in islice(room.members.values(), MAX_ROSTER_NICKS)]
        self.send(
            bytes((ROSTER,))
            + encoded_str(ROOM)
            + struct.pack(">QIH", room.last_seq, len(room.members), len(nicks))
            + b"".join(nicks)
        )
        replayed = list(room.kept)[-limit:] if limit else []
        for seq, time_ms, author, text in replayed:
            self.send(encoded_chat(seq, time_ms, author, text))
        first, last = (replayed[0][0], replayed[-1][0]) if replayed else (0, 0)
        older_exist = len(room.kept) > len(replayed)
        self.send(bytes((END,)) + encoded_str(ROOM) + struct.pack(">QQB", first, last, older_exist))

    def say(self, string: bytes) -> None:
        """Number a message, keep it, write it to everyone else, acknowledge it."""
        try:
            id, room_bytes = SAY_HEAD.unpack_from(string, 1)
            room_end = 11 + room_bytes
            (text_bytes,) = U16.unpack_from(string, room_end)
            text = string[room_end + 2 :]
            characters = text.decode()
        except (struct.error, UnicodeDecodeError):
            raise Refused(MALFORMED, "say cannot be read") from None
        if len(text) != text_bytes:
            raise Refused(MALFORMED, "the text and its length disagree")
        if not self.key:
            raise Refused(JOIN_FIRST, "join first")
        if string[11:room_end] not in (b"", ROOM):
            raise Refused(NOT_IN_ROOM, "there is only the lobby", id)
        if not 1 <= text_bytes <= MAX_TEXT_BYTES or CONTROL.search(characters):
            raise Refused(BAD_TEXT, "a text has 1 to 4,096 bytes and no control characters", id)
        room = self.room
        room.last_seq = seq = room.last_seq + 1
        time_ms = int(time.time() * 1000)
        room.kept.append((seq, time_ms, self.nick, text))
        room.publish(encoded_chat(seq, time_ms, self.nick, text), self)
        if id:
            self.transport.write(ACK_FRAME.pack(ACK_BYTES, ACK, id, seq, time_ms))

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Leave the room."""
        if self.key:
            del self.room.members[self.key]
            body = bytes((LEFT,)) + encoded_str(ROOM) + encoded_str(self.nick) + encoded_str(b"closed")
            self.room.announce(body, self)


CHAT_HEAD = bytes((CHAT,)) + encoded_str(ROOM)


def encoded_chat(seq: int, time_ms: int, nick: bytes, text: bytes) -> bytes:
    return b"".join(
        (CHAT_HEAD, CHAT_MIDDLE.pack(seq, time_ms), U16.pack(len(nick)), nick, U16.pack(len(text)), text)
    )


class ChatFactory(ServerFactory):
    """Makes the protocols of one room."""

    noisy = False

    def __init__(self) -> None:
        self.room = Room()

    def buildProtocol(self, addr: IAddress | None) -> ChatProtocol:
        """Make the protocol of one connection."""
        protocol = ChatProtocol(self.room)
        protocol.factory = self
        return protocol


def main() -> None:
    reactor.listenTCP(int(sys.argv[1]), ChatFactory(), backlog=4_096, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main()

"""A proxy between two peers that keeps what both have sent."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

Direction = Literal["client", "server"]
"""Who has sent it."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it was on the wire, its payload unmasked."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv1: bool = False
    masked: bool = False


class Wire:
    """Listens on `port` for one client, and passes it on to a server on *server_port*."""

    SIDES: tuple[Direction, Direction] = ("client", "server")

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._sent: dict[Direction, bytearray] = {"client": bytearray(), "server": bytearray()}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._is_closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._is_closed = True
        self._hang_up(self._listener)
        self.cut()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"

    def cut(self) -> None:
        """End both connections, as a cable does that somebody pulls out of the machine."""
        for each in self._sockets:
            self._hang_up(each)

    def head(self, who: Direction) -> str:
        """The request, or the response, without the blank line at its end."""
        return bytes(self._sent[who]).partition(b"\r\n\r\n")[0].decode("latin-1")

    def header(self, who: Direction, name: str) -> str | None:
        """The value of a header of the request or the response."""
        for line in self.head(who).split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None

    def frames(self, who: Direction) -> list[Frame]:
        """The frames that went over the wire completely."""
        found = []
        sent = bytes(self._sent[who])
        at = sent.find(b"\r\n\r\n") + 4
        while at + 2 <= len(sent):
            first, second = sent[at], sent[at + 1]
            at, length = at + 2, second & 0x7F
            if length >= 126:
                form = ">H" if length == 126 else ">Q"
                if at + struct.calcsize(form) > len(sent):
                    break
                (length,) = struct.unpack_from(form, sent, at)
                at += struct.calcsize(form)
            masked = bool(second & 0x80)
            key = sent[at : at + 4] if masked else bytes(4)
            at += 4 * masked
            payload = sent[at : at + length]
            at += length
            if at > len(sent):
                break
            found.append(
                Frame(first & 0x0F, _masked(payload, key), first >= 0x80, bool(first & 0x40), masked)
            )
        return found

    def messages(self, who: Direction) -> list[list[Frame]]:
        """The frames of each message that is complete; control frames must not be among them."""
        found: list[list[Frame]] = [[]]
        for frame in self.frames(who):
            assert frame.opcode in (CONTINUATION, TEXT, BINARY)
            found[-1].append(frame)
            if frame.fin:
                found.append([])
        return found[:-1]

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # nobody came
        server = socket.create_connection(("127.0.0.1", self._server_port))
        with self._lock:
            self._sockets += [client, server]
            if self._is_closed:
                self.cut()
        for source, drain, sent in (
            (client, server, self._sent["client"]),
            (server, client, self._sent["server"]),
        ):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pass_on, args=(source, drain, sent), daemon=True).start()

    def _pass_on(self, source: socket.socket, drain: socket.socket, sent: bytearray) -> None:
        try:
            while data := source.recv(2**18):
                sent += data  # before the other side has it: what a test has seen arrive is here
                drain.sendall(data)
            drain.shutdown(socket.SHUT_WR)
        except OSError:
            self._hang_up(source)
            self._hang_up(drain)

    @staticmethod
    def _hang_up(either: socket.socket) -> None:
        with suppress(OSError):  # the other end was faster
            either.shutdown(socket.SHUT_RDWR)  # wakes whoever reads from it
        either.close()


def _masked(payload: bytes, key: bytes) -> bytes:
    if not any(key):
        return payload
    keys = (key * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")).to_bytes(len(payload), "big")

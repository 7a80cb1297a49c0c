"""The chat works on every reactor of Twisted's that this system has, and on asyncio's loops."""

from __future__ import annotations

import importlib.util
import signal
import socket
import sys

import pytest
from live import Framed, Server, patiently

from chatproto.wire.chat import FrameDecoder, encode_frame
from chatproto.wire.messages import Chat, End, Goodbye, Join, Lagged, Message, Say, Side

INSTALL = {
    "epoll": "from twisted.internet import epollreactor; epollreactor.install()",
    "poll": "from twisted.internet import pollreactor; pollreactor.install()",
    "select": "from twisted.internet import selectreactor; selectreactor.install()",
    "asyncio": "from twisted.internet import asyncioreactor; asyncioreactor.install()",
}
if importlib.util.find_spec("uvloop"):
    INSTALL["uvloop"] = (
        "import uvloop; from twisted.internet import asyncioreactor; "
        "asyncioreactor.install(uvloop.new_event_loop())"
    )
PROGRAM = """
import sys
{install}
from twisted.scripts.twistd import run
sys.argv = ["twistd", "-n", "--pidfile=", "chat", *{options!r}]
run()
"""
OPTIONS = [
    "--listen=tcp:0:interface=127.0.0.1",
    "--max-room-log-bytes=100000000",
    "--max-queued-bytes=200000",
    "--close-timeout-s=0.5",
]
TEXT = "x" * 4_000


class Slow:
    """Someone who joins and then reads only when told to."""

    def __init__(self, server: Server) -> None:
        self.socket = server.raw(receive_buffer_bytes=4_096)
        self.socket.sendall(encode_frame(Join("slow")))
        self.decoder = FrameDecoder(Side.CLIENT, 2**24 - 1)
        self.received: list[Message] = []
        while not any(isinstance(message, End) for message in self.received):
            self.read()

    def read(self) -> None:
        data = self.socket.recv(2**18)
        assert data, "the server has closed"
        self.received += self.decoder.receive(data)

    def seqs(self) -> list[int]:
        """The numbers of the messages that came."""
        return [message.seq for message in self.received if isinstance(message, Chat)]


@pytest.mark.parametrize("name", INSTALL)
def test_a_talk_with_a_slow_reader_and_a_script(name: str) -> None:
    program = PROGRAM.format(install=INSTALL[name], options=OPTIONS)
    with Server(command=[sys.executable, "-c", program]) as server:
        alice, bob, slow = server.join("alice"), server.join("bob"), Slow(server)
        alice.send(Say(0, "", "hi"))
        assert bob.until(Chat).text == "hi"

        last = flood(alice, bob)
        while slow.seqs()[-1:] != [last]:
            slow.read()
        assert slow.seqs() == list(range(1, last + 1))
        assert any(isinstance(message, Lagged) for message in slow.received)

        assert b"in lobby: " in script(server, b"bot\ndeployed\n")
        assert bob.until(Chat, lambda chat: chat.nick == "bot").text == "deployed"

        slow.socket.close()
        assert server.stop() in (0, -signal.SIGTERM)  # twistd hands the signal on when all is done
        assert isinstance(alice.until_closed()[-1], Goodbye)
        assert "Traceback" not in server.log()


def flood(speaker: Framed, listener: Framed) -> int:
    """Say far more than the kernel holds for one who does not read; the last number."""
    for _ in range(80):
        speaker.send(*[Say(0, "", TEXT)] * 20)
        last = listener.until(Chat, lambda chat: chat.text == TEXT).seq
        for _ in range(19):
            last = listener.until(Chat).seq
    return last


def script(server: Server, text: bytes) -> bytes:
    """What `printf TEXT | nc -N` shows."""
    with server.raw() as plain:
        plain.sendall(text)
        plain.shutdown(socket.SHUT_WR)
        shown = b""
        for _ in patiently(0):
            data = plain.recv(4_096)
            if not data:
                return shown
            shown += data
    raise AssertionError(f"it does not end: {shown!r}")

"""Servers that mean harm to the client, or know no better: `chatproto-connect` as people run it.

It ends with one sentence or goes on, within bounded memory, and nothing acts on the terminal.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Self

import pytest
from live import PATIENCE_S, patiently
from wire.websocket_model import BINARY, frame

from chatproto.wire.chat import encode_frame
from chatproto.wire.messages import (
    Chat,
    End,
    Goodbye,
    Join,
    Left,
    Message,
    Notice,
    Roster,
    Side,
    Told,
    Welcome,
)

MB = 1_000_000
WELCOME = encode_frame(Welcome(1, "ann", 7, "s"))
LET_IN = WELCOME + encode_frame(Roster("lobby", 0, 1, ("ann",))) + encode_frame(End("lobby", 0, 0, 0))

Answering = Callable[[socket.socket], None]


class HostileServer:
    """Does *answer* with each connection, in a thread, and then closes it; `begun_s` is when each came."""

    def __init__(self, answer: Answering) -> None:
        self._answer = answer
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.begun_s: list[float] = []
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for opened in (self._listening, *self._connections):
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(PATIENCE_S)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                plain, _ = self._listening.accept()
                self.begun_s.append(time.monotonic())
                plain.settimeout(PATIENCE_S)
                self._connections.append(plain)
                with closing(plain), suppress(OSError):
                    self._answer(plain)


class Client:
    """`chatproto-connect`, with the lines that it printed."""

    def __init__(self, place: str, form: str) -> None:
        program = Path(sys.executable).parent / "chatproto-connect"
        self.process = subprocess.Popen(
            [str(program), place, "--nick", "ann", form],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self.printed = b""

    def rss_bytes(self) -> int:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_s(self) -> float:
        """CPU time used so far."""
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0]) / 1e9

    def type(self, text: str) -> None:
        """One line for its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def until(self, text: bytes) -> bytes:
        """What it has printed, once *text* is part of that."""
        assert self.process.stdout is not None
        for _ in patiently():
            self.printed += self.process.stdout.read() or b""
            if text in self.printed:
                return self.printed
        raise AssertionError(f"{text!r} is not in {self.printed[-2_000:]!r}")

    def ended(self) -> tuple[int, str]:
        """The exit code and what is on standard error, once it has ended by itself."""
        code = self.process.wait(PATIENCE_S)
        assert self.process.stderr is not None
        return code, self.process.stderr.read().decode()


@pytest.fixture
def clients() -> Iterator[list[Client]]:
    """They are ended with the test."""
    begun: list[Client] = []
    yield begun
    for client in begun:
        client.process.kill()
        client.process.communicate()


def read_request(plain: socket.socket) -> bytes:
    """The opening handshake of the client."""
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        data = plain.recv(4_096)
        if not data:
            raise ConnectionError
        request += data
    return request


def accepted(request: bytes) -> bytes:
    """The answer to *request* that opens a WebSocket."""
    key = next(
        line.split(b": ")[1]
        for line in request.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key")
    )
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\nSec-WebSocket-Protocol: chat.v1.bin\r\n\r\n"
    )


def without_end(piece: bytes) -> Answering:
    """Sends *piece* as long as it is taken, to whoever has asked for something."""

    def answer(plain: socket.socket) -> None:
        plain.recv(4_096)
        while True:
            plain.sendall(piece)

    return answer


def saying(*pieces: bytes) -> Answering:
    """Sends these, once something was asked for, and closes."""

    def answer(plain: socket.socket) -> None:
        plain.recv(4_096)
        plain.sendall(b"".join(pieces))

    return answer


def after_opening(payload: bytes) -> Answering:
    """Opens a WebSocket, sends *payload* on it, and closes when the client has."""

    def answer(plain: socket.socket) -> None:
        plain.sendall(accepted(read_request(plain)) + payload)
        while plain.recv(65_536):
            pass

    return answer


class TestOpeningHandshake:
    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            (without_end(b"X: y\r\n"), "there is no WebSocket"),
            (without_end(b"HTTP/1.1 101 Switching Protocols\r\n" + b"X: " + b"y" * 1_000 + b"\r\n"), ""),
            (without_end(b"HTTP/1.1 503 Service Unavailable\r\n\r\n" + b"x" * 10_000), "503"),
            (saying(b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"y" * 10 * MB), ""),
            (
                saying(b"HTTP/1.1 301 Moved\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
                "301",
            ),
            (saying(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 5\r\n\r\n\x1b[2Jx"), "401"),
            (saying(b"HTTP/1.1 200 \x1b]0;owned\x07\r\nContent-Length: 0\r\n\r\n"), ""),
            (saying(accepted(b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n")), "there is no WebSocket"),
            (saying(), "closed the connection"),
        ],
        ids=[
            "endless",
            "endless-header",
            "endless-body",
            "huge-header",
            "redirect",
            "401",
            "status",
            "key",
            "close",
        ],
    )
    def test_whatever_is_no_answer_is_one_sentence(
        self, clients: list[Client], answer: Answering, said: str
    ) -> None:
        with HostileServer(answer) as server:
            client = Client(f"ws://127.0.0.1:{server.port}/chat", "--plain")
            clients.append(client)
            code, sentence = client.ended()
            assert code == 3
            assert sentence.startswith("chatproto-connect: ")
            assert said in sentence
            assert sentence.count("\n") == 1
            assert sentence[:-1].isprintable()
            assert len(sentence) < 600
            assert len(server.begun_s) == 1, "nowhere else, and not again"

    @pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
    def test_one_that_closes_at_any_point_is_left_with_a_sentence(
        self, clients: list[Client], share: float
    ) -> None:
        def answer(plain: socket.socket) -> None:
            whole = accepted(read_request(plain)) + frame(BINARY, WELCOME[4:], to=Side.CLIENT)
            plain.sendall(whole[: int(len(whole) * share)])

        with HostileServer(answer) as server:
            client = Client(f"ws://127.0.0.1:{server.port}/chat", "--plain")
            clients.append(client)
            code, sentence = client.ended()
            assert (code, sentence.count("\n")) == (3, 1)


class TestFrames:
    @pytest.mark.parametrize(
        "sent",
        [
            b"\xff\xff\xff\xff\x81",
            b"\0\0\0\0",
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"\0\0\0\2\x81\0",
            LET_IN + b"\0\0\0\3\x84\xff\xff",
        ],
        ids=["huge", "empty", "http", "short-welcome", "short-chat"],
    )
    def test_what_is_not_the_protocol_ends_the_connection(self, clients: list[Client], sent: bytes) -> None:
        with HostileServer(saying(sent, bytes(200_000))) as server:
            client = Client(f"127.0.0.1:{server.port}", "--json")
            clients.append(client)
            if sent.startswith(LET_IN):
                client.until(b"does not speak the protocol")
            else:
                code, sentence = client.ended()
                assert code == 3
                assert sentence.startswith(
                    f"chatproto-connect: no session with 127.0.0.1 port {server.port}: "
                )
                assert sentence.count("\n") == 1

    def test_messages_that_only_clients_send_are_passed_over(self, clients: list[Client]) -> None:
        with HostileServer(saying(encode_frame(Join("eve", "lobby")) * 1_000, LET_IN)) as server:
            client = Client(f"127.0.0.1:{server.port}", "--json")
            clients.append(client)
            client.until(b'"entered"')

    def test_a_websocket_message_that_is_announced_and_never_comes_costs_nothing(
        self, clients: list[Client]
    ) -> None:
        announced = b"\x82\x7f" + (2**24 - 1).to_bytes(8, "big")
        with HostileServer(after_opening(frame(BINARY, WELCOME[4:], to=Side.CLIENT) + announced)) as server:
            client = Client(f"ws://127.0.0.1:{server.port}/chat", "--json")
            clients.append(client)
            client.until(b'"connected"')
            assert client.rss_bytes() < 150 * MB


class TestWithoutEnd:
    @pytest.mark.parametrize("way", ["history", "roster", "nothing"])
    def test_what_never_ends_costs_no_more_and_more_memory(self, clients: list[Client], way: str) -> None:
        sent = [0]

        def answer(plain: socket.socket) -> None:
            plain.recv(4_096)
            much_said = encode_frame(Roster("lobby", 2**40, 1, ("ann",))) + encode_frame(
                End("lobby", 0, 0, 1)
            )
            plain.sendall(WELCOME + much_said)
            if way == "history":
                plain.recv(4_096)
            for at in range(1, 1_000):
                chats = (Chat("lobby", at * 50 + n, 0, "bob", "x" * 1_000) for n in range(50))
                names = tuple(f"guest{n}" for n in range(3_000))
                many: dict[str, tuple[Message, ...]] = {
                    "history": tuple(chats),
                    "roster": (Roster("lobby", 0, 3_000, names),),
                    "nothing": (Left("lobby", "bob", "x" * 1_000),) * 50,
                }
                data = b"".join(map(encode_frame, many[way]))
                plain.sendall(data)
                sent[0] += len(data)

        with HostileServer(answer) as server:
            client = Client(f"127.0.0.1:{server.port}", "--json")
            clients.append(client)
            client.until(b'"entered"')
            if way == "history":
                client.type(json.dumps({"type": "history", "limit": 5}))
            early_bytes = 0
            for _ in patiently():
                client.printed = (client.process.stdout and client.process.stdout.read()) or b""
                early_bytes = early_bytes or (client.rss_bytes() if sent[0] > 3 * MB else 0)
                if sent[0] > 30 * MB:
                    break
            assert sent[0] > 30 * MB
            assert client.rss_bytes() - early_bytes < 15 * MB

    @pytest.mark.parametrize("retry_ms", [0, 30])
    def test_who_sends_it_away_again_and_again_is_not_asked_again_without_a_pause(
        self, clients: list[Client], retry_ms: int
    ) -> None:
        with HostileServer(saying(LET_IN, encode_frame(Goodbye(retry_ms, "go")))) as server:
            client = Client(f"127.0.0.1:{server.port}", "--json")
            clients.append(client)
            for _ in patiently():
                client.printed += (client.process.stdout and client.process.stdout.read()) or b""
                if len(server.begun_s) > 3:
                    break
            first_s, *_, last_s = server.begun_s[:4]
            assert last_s - first_s > 0.7  # a bound of the client's own, whatever the machine


@pytest.mark.parametrize("form", ["--plain", "--json"])
def test_no_control_character_of_a_server_reaches_the_terminal(clients: list[Client], form: str) -> None:
    evil = "a\x1b[2J\x1b]0;x\x07\x9b31m\u202eb\r\nc"
    messages: tuple[Message, ...] = (
        Welcome(1, "ann", 7, evil),
        Roster("lobby", 0, 2, ("ann", evil)),
        End("lobby", 0, 0, 0),
        Chat("lobby", 1, 0, evil, evil),
        Told(0, evil, evil),
        Notice(evil),
        Left("lobby", evil, evil),
        Chat("lobby", 2, 0, "bob", "the last"),
    )

    def answer(plain: socket.socket) -> None:
        plain.recv(4_096)
        plain.sendall(b"".join(map(encode_frame, messages)))
        plain.recv(1)
        while plain.recv(4_096):
            pass

    with HostileServer(answer) as server:
        client = Client(f"127.0.0.1:{server.port}", form)
        clients.append(client)
        printed = client.until(b"the last").decode()
        assert "\u202e" not in printed
        assert all(character == "\n" or character.isprintable() for character in printed)


def test_a_server_that_is_full_is_asked_again_when_it_says(clients: list[Client]) -> None:
    """The first time one is let in, then the server is full for two seconds, then it has room again."""
    turns = iter(
        (frame(BINARY, WELCOME[4:], to=Side.CLIENT), None, frame(BINARY, WELCOME[4:], to=Side.CLIENT))
    )

    def answer(plain: socket.socket) -> None:
        request = read_request(plain)
        opened = next(turns, None)
        if opened is None:
            plain.sendall(b"HTTP/1.1 503 Full\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n")
        else:
            plain.sendall(accepted(request) + opened)
            time.sleep(0.1)

    with HostileServer(answer) as server:
        client = Client(f"ws://127.0.0.1:{server.port}/chat", "--json")
        clients.append(client)
        for _ in patiently():
            if len(server.begun_s) > 2:
                break
        _, full_s, room_s = server.begun_s[:3]
        assert room_s - full_s > 2.9

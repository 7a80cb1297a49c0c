"""How a server goes: what was said is answered, everybody hears when to come back, and it is over in time."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from forms import Binary, Json
from live import PATIENCE_S, Framed, Server, eventually, listens, patiently

from chatproto.wire.messages import Ack, Chat, End, Error, Goodbye, Join, Joined, Leave, Ping, Pong, Say

MEMORY = ("--history", "memory")
LONG = ("--drain-timeout-s", "300", "--close-timeout-s", "300")
PATIENT = ("--history-lock-timeout-s", "300", *LONG)


def somebody_deaf(server: Server) -> socket.socket:
    """Somebody for whom much waits, and who takes nothing."""
    talker = server.join("talker")
    deaf = server.raw(receive_buffer_bytes=4_096)
    deaf.sendall(b"deaf\n")
    talker.until(Joined)
    talker.send(*(Say(number, "", "x" * 4_000) for number in range(1, 1_500)))
    talker.until(Ack, lambda message: message.id == 1_499)
    talker.close()
    return deaf


class TestWhatWasSaid:
    def test_is_acknowledged_though_the_history_takes_its_time(self, tmp_path: Path) -> None:
        path = tmp_path / "chat.sqlite"
        with Server("--history", str(path), *PATIENT) as server:
            ann, bob = server.join("ann"), server.join("bob")
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")  # nothing can be committed meanwhile
                ann.send(*(Say(number, "", f"{number}") for number in range(1, 101)), Ping(1))
                ann.until(Pong)
                assert not ann.of(Ack)
                server.process.send_signal(signal.SIGTERM)
                eventually(lambda: not listens(server.port))
                ann.send(Say(999, "", "too late"))
                assert not ann.of(Goodbye)
                other.execute("ROLLBACK")
            ann.until_closed()
            assert [ack.id for ack in ann.of(Ack)] == [*range(1, 101)]
            assert isinstance(ann.received[-1], Goodbye)
            bob.until_closed()
            assert [chat.text for chat in bob.of(Chat)] == [f"{number}" for number in range(1, 101)]
            for client in (ann, bob):
                client.close()
            assert server.process.wait(PATIENCE_S) == -signal.SIGTERM
        with Server("--history", str(path)) as server:
            assert [chat.seq for chat in server.join("ann", limit=500).of(Chat)] == [*range(1, 101)]

    def test_is_heard_from_who_has_gone_since(self, tmp_path: Path) -> None:
        path = tmp_path / "chat.sqlite"
        with Server("--history", str(path), *PATIENT) as server:
            ann, bob = server.join("ann"), server.join("bob")
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                ann.send(Say(1, "", "last words"), Ping(1))
                ann.until(Pong)
                ann.reset()
                server.process.send_signal(signal.SIGTERM)
                eventually(lambda: not listens(server.port))
                other.execute("ROLLBACK")
            told = [message for message in bob.until_closed() if not isinstance(message, Joined)]
            assert [message.type for message in told] == ["chat", "left", "goodbye"]
            bob.close()
            assert server.process.wait(PATIENCE_S) == -signal.SIGTERM

    def test_is_taken_up_though_it_was_too_much_at_once(self) -> None:
        with Server(*MEMORY, "--message-burst", "5", "--max-messages-per-s", "0.5") as server:
            ann, bob = server.join("ann"), server.join("bob")
            ann.send(*(Say(number, "", "x") for number in range(1, 51)))
            ann.until(Ack, lambda ack: ack.id == 4)
            server.process.send_signal(signal.SIGTERM)
            ann.until_closed()
            assert [ack.id for ack in ann.of(Ack)] == [*range(1, 51)]
            bob.until_closed()
            assert len(bob.of(Chat)) == 50

    def test_waits_for_no_longer_than_there_is_time(self, tmp_path: Path) -> None:
        path = tmp_path / "chat.sqlite"
        options = ("--drain-timeout-s", "1", "--history-lock-timeout-s", "2")
        with Server("--history", str(path), *options) as server:
            ann = server.join("ann")
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                ann.send(Say(1, "", "x"))
                server.process.send_signal(signal.SIGTERM)
                assert not [told for told in ann.until_closed() if isinstance(told, Ack)]
                assert ann.of(Goodbye)
                ann.close()
                assert server.process.wait(PATIENCE_S) == -signal.SIGTERM


class TestGoodbye:
    def test_tells_everybody_another_time(self) -> None:
        options = ("--return-delay-s", "2", "--max-returns-per-s", "10")
        with Server(*MEMORY, *options) as server:
            people = [server.join(f"guest{number}") for number in range(20)]
            server.process.send_signal(signal.SIGTERM)
            times_ms = sorted(person.until(Goodbye).retry_ms for person in people)
            assert times_ms == [2_000 + 100 * number for number in range(20)]

    @pytest.mark.parametrize("kind", [Binary, Json])
    def test_closes_a_websocket_with_1012_and_one_of_a_page_with_1001(
        self, kind: type[Binary | Json]
    ) -> None:
        with Server(*MEMORY) as server:
            program = Framed(server.port, kind())
            page = Framed(server.port, kind(origin="http://localhost"))
            for client, nick in ((program, "ann"), (page, "bob")):
                client.send(Join(nick))
                client.until(End)
            server.process.send_signal(signal.SIGTERM)
            for client, code in ((program, 1012), (page, 1001)):
                client.until(Goodbye)
                client.until_closed()
                assert isinstance(client.form, Binary | Json)
                assert client.form.closed_with == code

    def test_does_not_cut_short_what_a_browser_is_being_sent(self) -> None:
        with Server(*MEMORY, "--announce-limit", "0") as server:
            request = b"GET /chat.js HTTP/1.1\r\nHost: a\r\n\r\n"
            with server.raw(receive_buffer_bytes=4_096) as browser:
                browser.sendall(request * 40)  # more than the kernel takes at once
                received = browser.recv(1)
                server.process.send_signal(signal.SIGTERM)
                eventually(lambda: not listens(server.port))
                while data := browser.recv(2**16):
                    received += data
            head, _, _ = received.partition(b"\r\n\r\n")
            [length] = re.findall(rb"(?i)content-length: (\d+)", head)
            assert len(received) % (len(head) + 4 + int(length)) == 0

    def test_reaches_who_has_connected_but_said_nothing_yet(self) -> None:
        with Server(*MEMORY) as server, server.raw() as silent, server.raw() as late:
            ann = server.join("ann")
            server.process.send_signal(signal.SIGTERM)
            eventually(lambda: not listens(server.port))
            late.sendall(b"\0\0\0\x09\x08" + bytes(8))
            for plain in (late, silent):
                received = b""
                while data := plain.recv(2**16):
                    received += data
                assert b"the server is shutting down" in received
            assert ann.until(Goodbye)


class TestTheEnd:
    def test_comes_in_time_though_somebody_takes_nothing(self) -> None:
        options = ("--drain-timeout-s", "1", "--close-timeout-s", "300")
        with Server(*MEMORY, *options) as server, somebody_deaf(server), server.raw() as half:
            ann = server.join("ann")
            half.sendall(b"GET / HT")
            assert server.stop() == -signal.SIGTERM
            assert isinstance(ann.until_closed()[-1], Goodbye)
            assert "Traceback" not in server.log()

    @pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
    def test_comes_at_once_with_a_second_signal(self, sent: signal.Signals) -> None:
        with Server(*MEMORY, *LONG) as server:
            ann = server.join("ann")
            with somebody_deaf(server):
                server.process.send_signal(signal.SIGTERM)
                ann.until(Goodbye)
                assert server.process.poll() is None
                server.process.send_signal(sent)
                assert server.process.wait(PATIENCE_S) == -signal.SIGTERM
            assert "Traceback" not in server.log()

    def test_is_the_same_under_twist(self) -> None:
        twist = Path(sys.executable).parent / "twist"
        command = [str(twist), "chat", "--listen", "tcp:0:interface=127.0.0.1", "--max-messages-per-s", "0"]
        with Server(command=[*command, *MEMORY, *LONG]) as server:
            ann = server.join("ann")
            with somebody_deaf(server):
                server.process.send_signal(signal.SIGTERM)
                ann.until(Goodbye)
                assert server.process.poll() is None
                server.process.send_signal(signal.SIGTERM)
                server.process.wait(PATIENCE_S)
            assert "Traceback" not in server.log()


class Activated:
    """A server that gets its listening socket as systemd gives it."""

    START = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); "
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='chat'); "
        "os.execv(sys.argv[2], sys.argv[2:])"
    )

    def __init__(self, listening: socket.socket, folder: str) -> None:
        twistd = Path(sys.executable).parent / "twistd"
        chat = ["chat", "--listen", "systemd:domain=INET:index=0", "--history", "chat.sqlite"]
        command = [sys.executable, "-c", self.START, str(listening.fileno()), str(twistd), "-n", "--pidfile="]
        self.log = open(f"{folder}/log", "ab")  # noqa: SIM115
        self.process = subprocess.Popen(
            [*command, *chat],
            pass_fds=[listening.fileno()],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE_S)
        self.log.close()


def test_behind_a_socket_of_systemd_s_a_restart_loses_no_connection_attempt() -> None:
    over = threading.Event()
    outcomes: list[str] = []

    def attempt(port: int) -> str:
        client = Framed(port)
        try:
            client.send(Join("guest"), Leave(""))
            told = client.until_closed()
            kinds = {type(message) for message in told}
            refused = [message.text for message in told if isinstance(message, Error)]
            return "talked" if End in kinds else "told" if Goodbye in kinds else f"lost {told} {refused}"
        finally:
            client.close()

    def come_and_go(port: int) -> None:
        while not over.is_set():
            try:
                outcomes.append(attempt(port))
            except OSError as error:
                outcomes.append(f"lost: {error}")
            time.sleep(0.001)

    with socket.socket() as listening, tempfile.TemporaryDirectory() as folder:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1_024)
        port = listening.getsockname()[1]
        server = Activated(listening, folder)
        coming = threading.Thread(target=come_and_go, args=(port,), daemon=True)
        coming.start()
        try:
            for _ in range(3):
                talked = outcomes.count("talked")
                for _ in patiently():
                    assert server.process.poll() is None
                    if outcomes.count("talked") > talked + 20:
                        break
                server.stop()
                server = Activated(listening, folder)
            talked = outcomes.count("talked")
            eventually(lambda: outcomes.count("talked") > talked + 5)
        finally:
            over.set()
            coming.join(PATIENCE_S)
            server.stop()
            with suppress(OSError), open(f"{folder}/log", encoding="utf-8") as log:
                print(log.read()[-3_000:])
    assert {*outcomes} <= {"talked", "told"}, {outcome for outcome in outcomes if outcome.startswith("lost")}


class TestARestart:
    def restart(self, n: int) -> None:
        program = Path(__file__).with_name("returning.py")
        with tempfile.TemporaryDirectory() as folder:
            run = subprocess.run(
                [sys.executable, str(program), str(n)],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=600,
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
            )
        assert run.returncode == 0, run.stdout[-3_000:] + run.stderr[-3_000:]
        print(run.stdout)

    def test_under_some_people_of_each_face_brings_everybody_back_without_a_gap(self) -> None:
        self.restart(20)

    @pytest.mark.slow
    def test_under_500_people_of_each_face_brings_everybody_back_without_a_gap(self) -> None:
        self.restart(500)

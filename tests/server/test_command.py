"""The command itself: `twistd chat` in the foreground and as a daemon, `twist chat`, and a .tac file."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from live import PATIENCE_S, Framed, Server, ended, eventually

from chatproto.wire.messages import Ack, End, Goodbye, Join, Say

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]
LOOPBACK = "tcp:0:interface=127.0.0.1"

IN_USE = "cannot listen, address already in use: "


def run(folder: Path, *command: str, program: str = "twistd") -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return ended(folder, str(BIN / program), *command)


def talk(port: int) -> None:
    client = Framed(port)
    client.send(Join("ann", "", 0, 0, 0), Say(7, "", "hi"))
    client.until(End)
    assert client.until(Ack).id == 7
    client.close()


@pytest.fixture
def taken() -> Iterator[str]:
    """An endpoint that somebody else listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"


@contextmanager
def daemon(folder: Path, *options: str) -> Iterator[int]:
    """`twistd chat` as a daemon with its files in *folder*; its process id."""
    pid_file = folder / "chat.pid"
    files = (f"--pidfile={pid_file}", f"--logfile={folder / 'chat.log'}")
    started = run(folder, *files, "chat", *options)
    assert (started.returncode, started.stdout, started.stderr) == (0, "", "")
    pid = int(pid_file.read_text())
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def is_running(pid: int) -> bool:
    """Whether a process that is nobody's child here is there, and not only its exit status."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # before it was opened, or only then
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


class TestHelp:
    def test_chat_is_one_of_the_commands(self, tmp_path: Path) -> None:
        shown = run(tmp_path, "--help")
        assert re.search(r"^ +chat +A chat server", shown.stdout, re.MULTILINE)

    @pytest.mark.parametrize("program", ["twistd", "twist"])
    def test_has_the_options(self, tmp_path: Path, program: str) -> None:
        shown = run(tmp_path, "chat", "--help", program=program)
        assert shown.returncode == 0
        assert "--max-queued-bytes=" in shown.stdout
        assert os.listdir(tmp_path) == []


class TestForeground:
    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (("--max-rooms", "few"), "--max-rooms needs a whole number, not 'few'"),
            (("--max-rooms", "0"), "--max-rooms is at least 1, not 0"),
            (("--listen", "tcp"), "--listen 'tcp' is no endpoint that can be used"),
            (("--room", ""), "--room: "),
            (("9000",), "'9000' is no option of chat; twistd chat --help shows them all"),
        ],
    )
    def test_what_cannot_be_meant_is_refused_in_one_sentence(
        self, tmp_path: Path, options: tuple[str, ...], sentence: str
    ) -> None:
        refused = run(tmp_path, "-n", "chat", *options)
        assert refused.returncode == 1
        assert refused.stdout == ""
        (said,) = refused.stderr.splitlines()
        assert said.startswith("twistd chat: ")
        assert sentence in said
        assert os.listdir(tmp_path) == []

    def test_a_port_in_use_is_one_sentence_and_leaves_nothing(self, tmp_path: Path, taken: str) -> None:
        refused = run(tmp_path, "-n", "chat", "--listen", taken)
        assert refused.returncode == 1
        shown = refused.stdout + refused.stderr
        assert shown.count(IN_USE + taken) == 1
        assert shown.rstrip().endswith(IN_USE + taken)
        assert "Traceback" not in shown
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize(
        ("endpoint", "reason"),
        [
            ("tcp:0:interface=192.0.2.1", "cannot assign requested address"),
            ("tcp:99999:interface=127.0.0.1", "bind(): port must be 0-65535"),
            ("unix:/nowhere/chat.sock", "no such file or directory"),
            (f"unix:../{'x' * 120}", "AF_UNIX path too long"),
            ("unix:/dev/null", ""),
        ],
    )
    def test_a_place_where_nobody_can_listen_is_one_sentence(
        self, tmp_path: Path, endpoint: str, reason: str
    ) -> None:
        refused = run(tmp_path, "-n", "chat", "--open", "--listen", endpoint)
        assert refused.returncode == 1
        shown = refused.stdout + refused.stderr
        assert f"cannot listen, {reason}" in shown
        assert shown.rstrip().endswith(f": {endpoint}")
        assert "Traceback" not in shown
        assert os.listdir(tmp_path) == []

    def test_its_pid_file_is_there_while_it_runs(self, tmp_path: Path) -> None:
        pid_file = tmp_path / "pid"
        command = [str(BIN / "twistd"), "-n", f"--pidfile={pid_file}", "chat", "--listen", LOOPBACK]
        with Server(command=command) as server:
            assert int(pid_file.read_text()) == server.process.pid
            server.stop()
        assert not pid_file.exists()

    def test_every_limit_may_be_as_high_as_it_goes(self) -> None:
        highest = {
            "max-frame-bytes": 2**24 - 1,
            "max-line-bytes": 2**20,
            "max-text-bytes": 65_000,
            "max-queued-bytes": 2**53,
            "max-log-bytes": 2**53,
            "max-room-log-bytes": 2**53,
            "max-room-log-messages": 2**53,
            "max-remembered-ids": 2**53,
            "max-rooms": 2**53,
            "announce-limit": 2**53,
            "rename-burst": 2**53,
            "join-timeout-s": 1e6,
            "lag-timeout-s": 1e6,
            "close-timeout-s": 1e6,
            "ping-interval-s": 1e6,
            "pong-timeout-s": 1e6,
            "rename-interval-s": 1e6,
        }
        with Server(*(f"--{name}={value}" for name, value in highest.items())) as server:
            talk(server.port)
            server.stop()
            assert "Traceback" not in server.log()

    def test_every_limit_may_be_as_low_as_it_goes(self) -> None:
        lowest = {
            "max-frame-bytes": 1_025,
            "max-line-bytes": 64,
            "max-text-bytes": 1,
            "max-nick-chars": 1,
            "max-room-chars": 1,
            "max-queued-bytes": 4_096,
            "max-log-bytes": 0,
            "max-room-log-bytes": 0,
            "max-room-log-messages": 0,
            "max-remembered-ids": 0,
            "max-rooms": 1,
            "max-rooms-per-session": 1,
            "announce-limit": 0,
            "rename-burst": 1,
            "rename-interval-s": 0,
            "ping-interval-s": 0,
        }
        options = [f"--{name}={value}" for name, value in lowest.items()]
        with Server("--room", "r", *options) as server:
            client = server.connect()
            client.send(Join("a", "", 0, 0, 10), Say(7, "", "x"))
            client.until(End)
            assert client.until(Ack).id == 7
            client.close()
            server.stop()
            assert "Traceback" not in server.log()


class TestDaemon:
    def test_starts_talks_and_stops(self, tmp_path: Path) -> None:
        log = tmp_path / "chat.log"
        with daemon(tmp_path, "--listen", LOOPBACK) as pid:
            eventually(lambda: "talk: nc 127.0.0.1" in log.read_text())
            found = re.search(r"listening on 127.0.0.1 port (\d+)", log.read_text())
            assert found is not None
            client = Framed(int(found[1]))
            client.send(Join("ann", "", 0, 0, 0))
            client.until(End)
            os.kill(pid, signal.SIGTERM)
            assert isinstance(client.until_closed()[-1], Goodbye)
            client.close()
            eventually(lambda: not is_running(pid))
        assert "Traceback" not in log.read_text()
        assert sorted(os.listdir(tmp_path)) == ["chat.log", "chat.sqlite", "chat.sqlite-lock"]

    def test_a_second_one_is_refused_while_the_first_runs(self, tmp_path: Path) -> None:
        with daemon(tmp_path, "--listen", f"unix:{tmp_path}/sock") as pid:
            second = run(tmp_path, f"--pidfile={tmp_path}/chat.pid", "chat")
            assert second.returncode == 1
            assert f"PID {pid}" in second.stderr
            assert is_running(pid)

    def test_a_port_in_use_is_told_by_the_command_and_by_the_log(self, tmp_path: Path, taken: str) -> None:
        refused = run(tmp_path, "chat", "--listen", taken)
        assert refused.returncode == 1
        assert IN_USE + "tcp:" in refused.stderr
        assert "Traceback" not in refused.stderr
        # The command ends a moment before the daemon does.
        log = tmp_path / "twistd.log"
        eventually(lambda: f"{IN_USE}{taken}\n" in log.read_text())
        eventually(lambda: os.listdir(tmp_path) == ["twistd.log"])
        assert log.read_text().count(IN_USE) == 1
        assert "Traceback" not in log.read_text()

    def test_a_bad_option_is_told_by_the_command(self, tmp_path: Path) -> None:
        refused = run(tmp_path, "chat", "--max-rooms", "0")
        assert refused.returncode == 1
        assert (refused.stdout, refused.stderr) == ("", "twistd chat: --max-rooms is at least 1, not 0\n")
        assert os.listdir(tmp_path) == []


class TestTwist:
    def test_serves(self) -> None:
        with Server(command=[str(BIN / "twist"), "chat", "--listen", LOOPBACK]) as server:
            talk(server.port)
            ann = server.join("ann")
            server.process.send_signal(signal.SIGTERM)
            assert isinstance(ann.until_closed()[-1], Goodbye)
            ann.close()
            assert server.process.wait(PATIENCE_S) == -signal.SIGTERM

    def test_a_port_in_use_is_one_sentence(self, tmp_path: Path, taken: str) -> None:
        refused = run(tmp_path, "chat", "--listen", taken, program="twist")
        assert refused.returncode == 1
        assert refused.stderr == f"{IN_USE}{taken}\n"

    def test_a_bad_option_is_one_sentence(self, tmp_path: Path) -> None:
        refused = run(tmp_path, "chat", "--room", "", program="twist")
        assert refused.returncode == 1
        (said,) = refused.stderr.splitlines()
        assert said.startswith("twist chat: --room: ")


class TestTac:
    def test_the_example_serves(self, tmp_path: Path) -> None:
        example = (ROOT / "examples" / "chat.tac").read_text()
        assert example.count('"tcp:9000:') == 1
        tac = tmp_path / "chat.tac"
        tac.write_text(example.replace('"tcp:9000:', '"tcp:0:'))
        with Server(command=[str(BIN / "twistd"), "--pidfile=", "-noy", str(tac)]) as server:
            talk(server.port)
            server.stop()
            assert "Traceback" not in server.log()

    def test_a_port_in_use_is_one_sentence(self, tmp_path: Path, taken: str) -> None:
        tac = tmp_path / "chat.tac"
        tac.write_text(
            "from twisted.application.service import Application\n"
            "from chatproto import ChatService\n"
            "application = Application('chat')\n"
            f"ChatService([{taken!r}]).setServiceParent(application)\n"
        )
        refused = run(tmp_path, "-noy", str(tac))
        assert refused.returncode == 1
        assert (refused.stdout + refused.stderr).count(IN_USE + taken) == 1
        assert "Traceback" not in refused.stdout + refused.stderr

"""SIGHUP: the file is read again, what may change changes, and the log says what that means."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from live import PATIENCE_S, Framed, Server, eventually
from server.connecting import live_directory
from server.memory import ReactorInMemory
from websockets import Origin
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from chatproto.limits import Effect, Limits
from chatproto.server.service import ChatService
from chatproto.server.settings import SETTINGS
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Ack, Chat, End, Error, Join, Joined, Roster, Say

TWISTD = str(Path(sys.executable).parent / "twistd")


class Configured:
    """A server with a file that the test writes."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.file = folder / "chat.toml"
        self._base = 'listen = ["tcp:0:interface=127.0.0.1"]\nhistory = "memory"\n'
        self.file.write_text(self._base)
        command = [TWISTD, "-n", "--pidfile=", "chat", "--config", str(self.file), *options]
        self.server = Server(command=command)
        eventually(lambda: "talk: " in self.server.log())

    def reload(self, text: str, *, whole: bool = False) -> str:
        """Write the file, send SIGHUP, and wait for what the log says of it."""
        self.file.write_text(text if whole else self._base + text)
        before = len(self.server.log())
        self.server.process.send_signal(signal.SIGHUP)
        eventually(lambda: self._has_ended(before), "it said nothing")
        said = self.server.log()[before:]
        return "".join(f"{line.partition('] ')[2]}\n" for line in said.splitlines() if "[chatproto#" in line)

    def _has_ended(self, before: int) -> bool:
        said = self.server.log()[before:]
        if "was changed" in said:
            return True
        count = re.search(r"(\d+) settings are new", said)
        return "nothing is new\n" in said if count is None else said.count(": it holds ") == int(count[1])


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[Configured]:
    running = Configured(tmp_path)
    with running.server:
        yield running


def error_of(client: Framed) -> Error:
    return client.until(Error)


def test_what_holds_at_once_holds_for_those_who_are_there(configured: Configured) -> None:
    ann = configured.server.join("ann")
    said = configured.reload("max_text_bytes = 5\nmax_rooms_per_session = 1\n")
    assert said == (
        f"{configured.file} was read again: 2 settings are new\n"
        "max_text_bytes is 5 instead of 4096: it holds at once\n"
        "max_rooms_per_session is 1 instead of 100: it holds at once\n"
    )
    ann.send(Say(7, "", "hello!"))
    assert error_of(ann).code == ErrorCode.BAD_TEXT
    ann.send(Join("ann", "kitchen", 0, 0, 0))
    assert error_of(ann).code == ErrorCode.TOO_MANY_ROOMS
    configured.reload("")
    ann.send(Say(8, "", "hello!"))
    assert ann.until(Ack).id == 8
    ann.close()


def test_what_holds_for_new_connections_leaves_those_that_are_there(configured: Configured) -> None:
    old = configured.server.join("old")
    said = configured.reload("max_frame_bytes = 2048\nmax_text_bytes = 1000\n")
    assert "max_frame_bytes is 2048 instead of 65536: it holds for new connections" in said
    too_long = Say(7, "x" * 2_500, "hi")
    old.send(too_long)
    assert error_of(old).code == ErrorCode.NOT_IN_ROOM
    new = configured.server.join("new")
    new.send(too_long)
    assert error_of(new).code == ErrorCode.TOO_BIG
    old.close()
    new.close()


def test_what_holds_for_rooms_leaves_those_that_are_open(configured: Configured) -> None:
    ann = configured.server.join("ann")
    said = configured.reload("announce_limit = 0\n")
    assert "announce_limit is 0 instead of 1000: it holds for rooms that open anew" in said
    bob = configured.server.join("bob")
    assert ann.until(Joined).nick == "bob"
    for client, nick in ((ann, "ann"), (bob, "bob")):
        client.send(Join(nick, "kitchen", 0, 0, 0))
        client.until(End)
    bob.send(Say(7, "kitchen", "only I am heard"))
    assert ann.until(Chat).text == "only I am heard"
    assert [message.room for message in ann.of(Joined)] == ["lobby"]
    ann.close()
    bob.close()


def test_what_waits_for_a_restart_changes_nothing_and_is_told_again(configured: Configured) -> None:
    for _ in range(2):
        assert configured.reload('room = "kitchen"\nmax_log_bytes = 0\n') == (
            f"{configured.file} was read again: 2 settings are new\n"
            'room is "kitchen" instead of "lobby": it holds after a restart\n'
            "max_log_bytes is 0 instead of 268435456: it holds after a restart\n"
        )
    ann = configured.server.join("ann")
    assert ann.of(Roster)[0].room == "lobby"
    ann.close()


def test_pages_of_a_new_origin_are_let_in(configured: Configured) -> None:
    place = f"ws://127.0.0.1:{configured.server.port}/chat"
    with pytest.raises(InvalidStatus):
        connect(place, origin=Origin("https://example.org"))
    configured.reload('origin = ["https://example.org"]\n')
    connect(place, origin=Origin("https://example.org")).close()
    configured.reload("")
    with pytest.raises(InvalidStatus):
        connect(place, origin=Origin("https://example.org"))


def test_an_option_still_counts_for_more(tmp_path: Path) -> None:
    configured = Configured(tmp_path, "--max-text-bytes", "100")
    with configured.server:
        assert configured.reload("max_text_bytes = 5\n").endswith("nothing is new\n")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("max_text_bytes = 5\nmax_romms = 3\n", "line 4: there is no 'max_romms'; did you mean max_rooms?"),
        ("max_text_bytes = 5\nmax_rooms = 'few'\n", 'line 4: max_rooms needs a whole number, not "few"'),
        ("max_text_bytes = 5\nroom =", "line 4: this is no TOML: invalid value"),
        ("max_text_bytes = 5\nmax_frame_bytes = 1024\nmax_text_bytes = 1\n", "line 5: this is no TOML"),
    ],
)
def test_a_broken_file_changes_nothing(configured: Configured, text: str, sentence: str) -> None:
    said = configured.reload(text)
    assert said.startswith(f"{configured.file}, {sentence}")
    assert said.endswith("; nothing was changed\n")
    ann = configured.server.join("ann")
    ann.send(Say(7, "", "longer than five"))
    assert ann.until(Ack).id == 7
    ann.close()


def test_a_file_that_is_gone_changes_nothing(configured: Configured) -> None:
    configured.file.unlink()
    configured.server.process.send_signal(signal.SIGHUP)
    eventually(
        lambda: "cannot be read: no such file or directory; nothing was changed" in configured.server.log()
    )
    configured.server.join("ann").close()


def test_without_a_file_nothing_happens_and_nothing_ends() -> None:
    with Server("--history", "memory") as server:
        ann = server.join("ann")
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: "there is no --config file to read again" in server.log())
        ann.send(Say(7, "", "still here"))
        assert ann.until(Ack).id == 7
        ann.close()


def test_certificates_that_cannot_be_read_any_more_hold_nothing_up(tmp_path: Path) -> None:
    live = live_directory(tmp_path)
    configured = Configured(tmp_path, "--listen", f"tls:{live}:tcp:0:interface=127.0.0.1")
    with configured.server:
        (live / "privkey.pem").unlink()
        said = configured.reload("max_text_bytes = 5\n")
        assert "max_text_bytes is 5 instead of 4096: it holds at once\n" in said
        eventually(lambda: "the certificate from before stays" in configured.server.log())


def test_a_daemon_reads_it_again_too(tmp_path: Path) -> None:
    file, log, pid_file = tmp_path / "chat.toml", tmp_path / "log", tmp_path / "pid"
    file.write_text(f'listen = ["unix:{tmp_path}/sock"]\nhistory = "memory"\n')
    command = [TWISTD, f"--pidfile={pid_file}", f"--logfile={log}", "chat", "--config", "chat.toml"]
    subprocess.run(command, cwd=tmp_path, timeout=PATIENCE_S, check=True)
    pid = int(pid_file.read_text())
    try:
        eventually(lambda: "talk: " in log.read_text())
        with file.open("a") as more:
            more.write("max_text_bytes = 5\n")
        os.kill(pid, signal.SIGHUP)
        eventually(lambda: "max_text_bytes is 5 instead of 4096: it holds at once" in log.read_text())
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_terminal_that_is_gone_takes_the_server_with_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    log = tmp_path / "log"
    master, slave = pty.openpty()
    command = [TWISTD, "-n", f"--pidfile={pid_file}", f"--logfile={log}", "chat", "--history", "memory"]
    # It has the terminal, as a shell in a window has.
    take_it = (
        "import os, sys, fcntl, termios\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    shell = subprocess.Popen(
        [sys.executable, "-c", take_it, *command, "--listen", "tcp:0:interface=127.0.0.1"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=tmp_path,
        start_new_session=True,
    )
    os.close(slave)
    try:
        eventually(lambda: log.exists() and "talk: " in log.read_text())
        os.close(master)
        shell.wait(PATIENCE_S)
        assert "the terminal is gone, and the server with it" in log.read_text()
    finally:
        shell.kill()
        shell.wait()


class TestEveryLimit:
    """A limit that may change in a running server is really read from there each time."""

    @pytest.fixture
    def service(self) -> ChatService:
        service = ChatService(["unix:/a"], reactor=ReactorInMemory(), status="off")
        service.startService()
        return service

    @pytest.mark.parametrize(
        "name", [known.name for known in fields(Limits) if known.metadata["effect"] is not Effect.RESTART]
    )
    def test_is_where_those_look_who_need_it(self, service: ChatService, name: str) -> None:
        [setting] = [setting for setting in SETTINGS if setting.name == name]
        default = setting.default
        assert isinstance(default, int | float)
        changed: dict[str, Any] = {name: type(default)(default + 1)}
        wanted = replace(service.limits, **changed)
        service.renew(wanted, (), ())
        assert service.factory is not None
        assert getattr(service.factory.hub.limits, name) == default + 1
        socket_limits = service.factory.site.resource.children[b"chat"]._sockets.connections.limits
        theirs = {
            "max_frame_bytes": "max_message_bytes",
            "join_timeout_s": "handshake_timeout_s",
            **{
                same: same
                for same in ("max_queued_bytes", "ping_interval_s", "pong_timeout_s", "close_timeout_s")
            },
        }
        if name in theirs:
            assert getattr(socket_limits, theirs[name]) == default + 1
        if name == "join_timeout_s":
            assert service.factory.site.timeOut == default + 1

"""Sockets that systemd has opened, passed as it passes them."""

from __future__ import annotations

import signal
import socket
import stat
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from live import PATIENCE_S, Framed, ended, unix_socket
from server.activation import as_systemd_starts
from server.connecting import (
    TWISTD,
    heard_on,
    joined,
    socket_to,
    until,
)

from chatproto.wire.messages import End, Goodbye, Join


def inheriting(listening: list[socket.socket], *options: str, names: Sequence[str] = ()) -> list[str]:
    """A server that systemd has opened sockets for, called as it calls them."""
    twistd = [TWISTD, "-n", "--pidfile=", "chat", "--history", "memory"]
    return as_systemd_starts(listening, names or ["chat"] * len(listening), [*twistd, *options])


@contextmanager
def activated(
    listening: list[socket.socket], *options: str, names: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """A server that got its sockets, and says to nobody but its log that it runs."""
    process = subprocess.Popen(
        inheriting(listening, *options, names=names),
        pass_fds=[plain.fileno() for plain in listening],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class TestSystemd:
    @pytest.fixture
    def listening(self) -> Iterator[socket.socket]:
        with socket.socket() as plain:
            plain.bind(("127.0.0.1", 0))
            plain.listen(128)
            yield plain

    def test_a_socket_that_it_was_given_serves(self, listening: socket.socket) -> None:
        with activated([listening], "--listen", "systemd:"):
            ann = joined(socket_to(listening.getsockname()[1]), "ann")
            ann.close()

    def test_several_are_told_apart_by_their_names(self, listening: socket.socket, tmp_path: Path) -> None:
        path = tmp_path / "sock"
        with socket.socket(socket.AF_UNIX) as plain:
            plain.bind(str(path))
            plain.listen(128)
            options = ("--listen", "systemd:name=web:faces=web", "--listen", "systemd:name=local:faces=lines")
            with activated([listening, plain], *options, names=("web", "local")):
                with unix_socket(path) as person:
                    person.sendall(b"ann\n")
                    until(person, b"* in lobby: ann")
                with socket_to(listening.getsockname()[1]) as person:
                    person.sendall(b"ann\n")
                    assert b"not for lines" in heard_on(person)

    def test_a_name_that_nothing_has_is_one_sentence(self, listening: socket.socket) -> None:
        with activated([listening], "--listen", "systemd:name=web") as process:
            shown, _ = process.communicate(timeout=PATIENCE_S)
        assert shown.splitlines()[-1].endswith("systemd has passed no such socket, only 1: chat")

    def test_whoever_connects_during_a_restart_waits_and_is_served(self, listening: socket.socket) -> None:
        port = listening.getsockname()[1]
        with activated([listening], "--listen", "systemd:") as process:
            ann = joined(socket_to(port), "ann")
            process.send_signal(signal.SIGTERM)
            assert any(isinstance(message, Goodbye) for message in ann.until_closed())
            ann.close()
            process.wait(PATIENCE_S)
        waiting = Framed(socket_to(port))
        waiting.send(Join("ann", "", 0, 0, 0))
        with activated([listening], "--listen", "systemd:"):
            waiting.until(End)
        waiting.close()

    def test_the_file_of_a_unix_socket_stays_as_systemd_made_it(self, tmp_path: Path) -> None:
        path = tmp_path / "sock"
        with socket.socket(socket.AF_UNIX) as plain:
            plain.bind(str(path))
            path.chmod(0o640)
            plain.listen(128)
            with activated([plain], "--listen", "systemd:") as process:
                ann = joined(unix_socket(path), "ann")
                assert stat.S_IMODE(path.stat().st_mode) == 0o640
                process.send_signal(signal.SIGTERM)
                ann.until_closed()
                ann.close()
                process.wait(PATIENCE_S)
            assert path.exists()
            waiting = unix_socket(path)
            with activated([plain], "--listen", "systemd:"):
                joined(waiting, "bob").close()


class TestOpen:
    """Whether other machines reach it, where that is seen only when it listens."""

    def test_an_inherited_socket_that_all_reach_is_refused_without_a_word_for_it(
        self, tmp_path: Path
    ) -> None:
        with socket.socket() as everywhere:
            everywhere.bind(("0.0.0.0", 0))
            everywhere.listen()
            command = inheriting([everywhere], "--listen", "systemd:")
            refused = ended(tmp_path, *command, pass_fds=[everywhere.fileno()])
        assert refused.returncode == 1
        assert "--listen 'systemd:' lets anybody who reaches 0.0.0.0 talk" in refused.stderr

"""`chatproto-ctl`: its command line, its exit codes, and what it makes of servers that are none."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import PATIENCE_S, Server
from server.controlling import PROGRAM, ctl, socket_of

from chatproto.control.lines import MAX_ANSWER_BYTES, VERSION, line_of
from chatproto.version import __version__
from chatproto.wire.messages import Say


def run(*arguments: str, folder: Path | None = None) -> tuple[int, str, str]:
    done = subprocess.run(
        [PROGRAM, *arguments], capture_output=True, text=True, timeout=PATIENCE_S, cwd=folder
    )
    return done.returncode, done.stdout, done.stderr


class TestCommandLine:
    def test_help_names_every_command_and_the_exit_codes(self) -> None:
        code, output, errors = run("--help")
        assert (code, errors) == (0, "")
        commands = "status connections rooms rules sessions trace end-session kick ban unban mute unmute"
        for command in (*commands.split(), "lock", "unlock", "remove", "drain", "reload"):
            assert f"\n    {command} " in output
        assert "exit codes: 0 done; 1 " in output

    def test_version(self) -> None:
        assert run("--version") == (0, f"chatproto-ctl {__version__}\n", "")

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ((), "the following arguments are required: COMMAND"),
            (("dance",), "invalid choice: 'dance'"),
            (("kick",), "the following arguments are required: WHO"),
            (("trace", "ann"), "argument ID: invalid int value: 'ann'"),
            (("ban", "ann", "--for", "long"), "'long' is no time; write 90s, 5min, 2h, 7d or 1w"),
            (("connections", "--sort", "beauty"), "invalid choice: 'beauty'"),
        ],
    )
    def test_what_makes_no_sense_is_told_and_ends_with_2(
        self, arguments: tuple[str, ...], complaint: str
    ) -> None:
        code, output, errors = run(*arguments)
        assert (code, output) == (2, "")
        assert complaint in errors.splitlines()[-1]

    def test_it_starts_without_the_machinery_of_a_server(self) -> None:
        code = "import sys, chatproto.control.program as p; print('twisted' in sys.modules)"
        python = Path(PROGRAM).parent / "python"
        done = subprocess.run([python, "-P", "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "False\n"


class TestNoServer:
    def test_where_there_is_none(self, tmp_path: Path) -> None:
        code, output, errors = run("status", folder=tmp_path)
        assert (code, output) == (2, "")
        assert errors == (
            f"chatproto-ctl: there is no control socket at {tmp_path}/chat.ctl; "
            "--socket PATH says where the server has it\n"
        )
        code, output, errors = run("--json", "status", folder=tmp_path)
        assert (code, errors) == (2, "")
        assert list(json.loads(output)) == ["error"]

    def test_where_one_is_left_behind(self, tmp_path: Path) -> None:
        path = tmp_path / "left"
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
        assert ctl(path, "rooms").errors == (
            f"chatproto-ctl: nobody listens at {path}: the server that made it is gone\n"
        )
        assert ctl(path, "rooms").code == 2

    def test_where_the_path_is_too_long_for_an_address(self, tmp_path: Path) -> None:
        folder = tmp_path / ("deep" * 40)
        folder.mkdir()
        assert "there is no control socket at" in ctl(folder / "chat.ctl", "rooms").errors


class Impostor:
    """Something else that listens on a Unix socket and says *lines*."""

    def __init__(self, path: Path, lines: bytes) -> None:
        self._lines = lines
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        peer, _ = self._listening.accept()
        with peer:
            peer.sendall(self._lines)
            if self._lines:
                peer.settimeout(PATIENCE_S)
                peer.recv(65_536)

    def close(self) -> None:
        self._listening.close()
        self._thread.join(PATIENCE_S)


GREETING = line_of({"control": "chatproto", "version": VERSION, "server": __version__})


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (b"* welcome to chatproto; what is your nickname?\r\n", "is no control socket of a chat server"),
        (b"{}\n", "is no control socket of a chat server"),
        (b"x" * (MAX_ANSWER_BYTES + 1), "is no control socket of a chat server: a line has at most"),
        (
            line_of({"control": "chatproto", "version": VERSION + 1, "server": "9.9\x1b[2J"}),
            "the server is another version, 9.9\ufffd[2J; take the chatproto-ctl of that",
        ),
        (b"", "the server is gone"),
        (GREETING, "the server is gone"),
        (GREETING + line_of({"row": {}}), "the server is gone"),
    ],
)
def test_what_is_no_server_of_its_kind_is_told_in_a_sentence(
    tmp_path: Path, lines: bytes, complaint: str
) -> None:
    path = tmp_path / "impostor"
    impostor = Impostor(path, lines)
    plain = subprocess.Popen([PROGRAM, "--socket", str(path), "rules"], stderr=subprocess.PIPE, text=True)
    _, errors = plain.communicate(timeout=PATIENCE_S)
    impostor.close()
    assert plain.returncode == 2
    assert complaint in errors
    assert len(errors.splitlines()) == 1


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    with Server() as running:
        yield running


class TestOutput:
    def test_a_trace_is_shown_as_it_comes_and_ends_with_the_session(self, shared: Server) -> None:
        ann = shared.join("ann", "traced")
        [row] = ctl(shared, "connections", "--room", "traced", "--json").rows
        command = [PROGRAM, "--socket", str(socket_of(shared)), "trace", str(row["id"])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tracing:
            assert tracing.stdout is not None
            assert "trace" in tracing.stdout.readline()
            ann.send(Say(1, "traced", "a secret"))
            shown = ""
            while " ack " not in shown:
                shown += tracing.stdout.readline()
            assert " say " in shown
            assert "room=traced" in shown
            ann.close()
            rest = tracing.stdout.read()
            assert "reason=closed" in rest
            assert rest.splitlines()[-1] == "its session has ended"
            assert "secret" not in shown + rest
            assert tracing.wait(PATIENCE_S) == 0

    def test_a_trace_ends_with_control_c_without_a_word(self, shared: Server) -> None:
        ann = shared.join("ann")
        [row] = [row for row in ctl(shared, "connections", "--json").rows if row["nick"] == "ann"]
        command = [PROGRAM, "--socket", str(socket_of(shared)), "trace", str(row["id"]), "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tracing:
            assert tracing.stdout is not None
            assert json.loads(tracing.stdout.readline())["event"] == "trace"
            tracing.send_signal(signal.SIGINT)
            _, errors = tracing.communicate(timeout=PATIENCE_S)
            assert (tracing.returncode, errors) == (-signal.SIGINT, "")
        ann.close()

    def test_who_reads_only_the_beginning_harms_nobody(self, shared: Server) -> None:
        script = f"{PROGRAM} --socket {socket_of(shared)} status | head -n 1"
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.stdout.startswith("server ")
        assert done.stderr == ""

    def test_a_terminal_without_the_letters_gets_others(self, shared: Server) -> None:
        ann = shared.join("김민준", "latin")
        done = subprocess.run(
            [PROGRAM, "--socket", str(socket_of(shared)), "connections", "--room", "latin"],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "latin-1"},
            timeout=PATIENCE_S,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"???" in done.stdout
        ann.close()

    def test_options_may_stand_before_and_behind_the_command(self, shared: Server) -> None:
        path = str(socket_of(shared))
        before = run("--json", "--socket", path, "status")
        behind = run("status", "--json", "--socket", path)
        assert before[0] == behind[0] == 0
        assert json.loads(before[1])["pid"] == json.loads(behind[1])["pid"] == shared.process.pid

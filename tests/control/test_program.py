"""`chatproto-ctl`: its command line, its exit codes, and what it makes of servers that are none."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from live import PATIENCE_S, Server
from server.controlling import PROGRAM, ctl, socket_of

from chatproto.control.asking import NoServer
from chatproto.control.asking import Server as Asked
from chatproto.control.lines import MAX_ANSWER_BYTES, VERSION, line_of
from chatproto.version import __version__
from chatproto.wire.messages import Say

NOBODY, OTHER = 65_534, 65_533


@contextmanager
def as_user(uid: int) -> Iterator[None]:
    """Be *uid* meanwhile; -1 changes nothing."""
    before = os.geteuid()
    if uid >= 0:
        os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(before)


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
            (("ban", "ann", "--for", "0s"), "'0s' is no time; for good it is without --for"),
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

    @pytest.mark.parametrize("kind", ["file", "folder", "fifo"])
    def test_where_it_is_no_socket(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "ctl"
        if kind == "file":
            path.touch()
        elif kind == "folder":
            path.mkdir()
        else:
            os.mkfifo(path)
        assert ctl(path, "rooms").errors == (
            f"chatproto-ctl: {path} is no socket; --socket PATH says where the server has it\n"
        )

    def test_where_the_path_is_too_long_for_an_address(self, tmp_path: Path) -> None:
        folder = tmp_path / ("deep" * 40)
        folder.mkdir()
        assert "there is no control socket at" in ctl(folder / "chat.ctl", "rooms").errors


class Impostor:
    """Something else that listens on a Unix socket, as *uid*, and says *lines*."""

    def __init__(self, path: Path, lines: bytes, *, waits: bool = True, uid: int = -1) -> None:
        self._lines = lines
        self._waits = waits
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        with as_user(uid):
            self._listening.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        peer, _ = self._listening.accept()
        with peer, suppress(BrokenPipeError):
            peer.sendall(self._lines)
            if self._lines and self._waits:
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


def test_a_server_that_goes_before_it_is_asked_is_told_in_a_sentence_too(tmp_path: Path) -> None:
    """What is written to it then would end the program by a signal."""
    path = tmp_path / "ctl"
    impostor = Impostor(path, GREETING, waits=False)
    plain = ctl(path, "rules")
    impostor.close()
    assert (plain.code, plain.errors) == (2, "chatproto-ctl: the server is gone\n")


class TestSomebodyElses:
    """A socket that was put where an operator looks for the server's."""

    @staticmethod
    def asked(mode: int, owner: int, listener: int, own: int = 0) -> str:
        """What comes of asking *listener* in a folder of *owner*'s; empty if it is taken for a server."""
        with tempfile.TemporaryDirectory() as folder:  # which others can enter, unlike the usual one
            path = Path(folder) / "ctl"
            impostor = Impostor(path, GREETING, waits=False, uid=listener)
            path.chmod(0o666)
            os.chown(folder, owner, -1)
            os.chmod(folder, mode)
            try:
                with as_user(own):
                    Asked(str(path))
            except NoServer as refusal:
                return str(refusal).replace(folder, "")
            finally:
                impostor.close()
        return ""

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
    def test_is_not_asked_by_anybody_but_its_owner_and_root(self) -> None:
        assert self.asked(0o755, 0, NOBODY, own=NOBODY) == ""
        assert self.asked(0o755, NOBODY, 0, own=NOBODY) == ""
        refusal = f"at /ctl it is user {OTHER} who listens, and not you or root; nothing is asked"
        for owner in (0, NOBODY, OTHER):
            assert self.asked(0o755, owner, OTHER, own=NOBODY) == refusal

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
    def test_is_asked_by_root_unless_everybody_could_have_put_it_there(self) -> None:
        assert self.asked(0o755, OTHER, OTHER) == ""
        assert self.asked(0o770, 0, OTHER) == ""
        assert self.asked(0o1777, OTHER, OTHER) == ""
        refusal = f"at /ctl it is user {OTHER} who listens, and not you or root; nothing is asked"
        assert self.asked(0o1777, 0, OTHER) == refusal
        assert self.asked(0o777, NOBODY, OTHER) == refusal


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

    @pytest.mark.parametrize("arguments", [("status",), ("--json", "status"), ("--json", "kick", "nobody")])
    def test_what_cannot_be_written_is_told_in_a_sentence(
        self, shared: Server, arguments: tuple[str, ...]
    ) -> None:
        with open("/dev/full", "wb") as full:
            command = [PROGRAM, "--socket", str(socket_of(shared)), *arguments]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S)
        said = "chatproto-ctl: what the server says cannot be written, no space left on device\n"
        assert (done.returncode, done.stderr) == (2, said)

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

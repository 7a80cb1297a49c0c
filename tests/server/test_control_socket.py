"""The control socket: where it is, who gets in, and what is spoken there."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import PATIENCE_S, Server, eventually, unix_socket
from server.controlling import Control, socket_of

from chatproto.control.lines import MAX_REQUEST_BYTES, VERSION
from chatproto.server.control.line import LOOK_EVERY_S, MOST_CONNECTIONS
from chatproto.server.control.place import ControlSocket, ControlUnusable
from chatproto.version import __version__
from chatproto.wire.messages import Welcome

IN_MEMORY = ("--history", "memory", "--rules", "memory")

TWISTD = str(Path(sys.executable).parent / "twistd")

NOBODY = 65_534


def start(folder: Path, *options: str) -> Server:
    """A server that runs in *folder*."""
    listen = ("--listen", "tcp:0:interface=127.0.0.1")
    rundir = f"--rundir={folder}"
    return Server(command=[TWISTD, "-n", "--pidfile=", rundir, "chat", *listen, *IN_MEMORY, *options])


def refused_start(folder: Path, *options: str) -> str:
    """What a server says that does not start in *folder*."""
    command = [TWISTD, "-n", "--pidfile=", "chat", "--listen", "tcp:0:interface=127.0.0.1", *IN_MEMORY]
    done = subprocess.run(
        [*command, *options], cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 1
    last = (done.stdout + done.stderr).splitlines()[-1]
    return last.removeprefix("twistd chat: ").rpartition("#error] ")[2]


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    """One for all tests that change nothing."""
    with Server() as running:
        yield running


class TestPlace:
    def test_it_is_private_and_gone_with_the_server(self, server: Server) -> None:
        path = socket_of(server)
        found = path.stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert found.st_uid == os.geteuid()
        Control(server).close()  # so it runs, and has not only begun to
        assert server.stop() == -signal.SIGTERM
        assert not path.exists()

    def test_it_is_private_whatever_the_umask_is(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            made = ControlSocket(str(tmp_path / "ctl"))
            assert stat.S_IMODE((tmp_path / "ctl").stat().st_mode) == 0o600
            assert os.umask(0) == 0
        finally:
            os.umask(before)
        made.remove()
        assert not (tmp_path / "ctl").exists()

    def test_what_a_killed_server_has_left_is_replaced(self, tmp_path: Path) -> None:
        with start(tmp_path) as server:
            server.process.kill()
            server.process.wait()
        assert (tmp_path / "chat.ctl").exists()
        with start(tmp_path) as server:
            assert Control(tmp_path / "chat.ctl").greeting["control"] == "chatproto"
            assert "no control socket" not in server.log()

    def test_that_of_a_living_server_is_not_taken_from_it(self, tmp_path: Path) -> None:
        path = tmp_path / "chat.ctl"
        with start(tmp_path):
            said = refused_start(tmp_path, "--control", "chat.ctl")
            assert said == "no control socket, another server has it: chat.ctl"
            with start(tmp_path) as second:  # which was not told to have one there
                assert "there is no control socket, another server has it: chat.ctl" in second.log()
            _, last = Control(path).ask(do="status")
            assert last["done"]["state"] == "running"

    def test_a_file_that_is_no_socket_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "mine").write_text("precious")
        said = refused_start(tmp_path, "--control", "mine")
        assert said == "no control socket, there is something of that name, which is no socket: mine"
        assert (tmp_path / "mine").read_text() == "precious"

    @pytest.mark.parametrize(
        "kind", ["folder", "link", "link to nothing", "link to a socket", "fifo", "datagrams"]
    )
    def test_nothing_that_is_there_is_removed_but_a_socket_nobody_listens_at(
        self, tmp_path: Path, kind: str
    ) -> None:
        path, aim = tmp_path / "ctl", tmp_path / "aim"
        datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        if kind == "folder":
            path.mkdir()
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "datagrams":
            datagrams.bind(str(path))
        else:
            path.symlink_to(aim)
        if kind == "link":
            aim.touch()
        elif kind == "link to a socket":
            socket.socket(socket.AF_UNIX).bind(str(aim))
        before = sorted((at.name, at.lstat().st_ino) for at in tmp_path.iterdir())
        with datagrams, pytest.raises(ControlUnusable):
            ControlSocket(str(path))
        assert sorted((at.name, at.lstat().st_ino) for at in tmp_path.iterdir()) == before

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
    def test_what_somebody_else_has_left_is_theirs(self, tmp_path: Path) -> None:
        path = tmp_path / "ctl"
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
        os.chown(path, NOBODY, NOBODY)
        with pytest.raises(ControlUnusable, match=rf"^user {NOBODY} has left a socket there$"):
            ControlSocket(str(path))
        assert path.is_socket()
        os.chown(path, os.geteuid(), -1)
        ControlSocket(str(path)).remove()

    def test_one_that_was_replaced_meanwhile_is_not_removed(self, tmp_path: Path) -> None:
        path = tmp_path / "ctl"
        first = ControlSocket(str(path))
        path.unlink()
        second = ControlSocket(str(path))
        first.remove()
        assert path.exists()
        second.remove()
        assert not path.exists()

    def test_where_it_cannot_be_the_server_does_not_start_if_that_was_asked_for(self, tmp_path: Path) -> None:
        said = refused_start(tmp_path, "--control", "nowhere/ctl")
        assert said == "no control socket, no such file or directory: nowhere/ctl"
        assert refused_start(tmp_path, "--control", "") == "--control needs a path, or 'off'"

    def test_there_is_none_where_it_is_off(self, tmp_path: Path) -> None:
        with start(tmp_path, "--control", "off") as server:
            assert os.listdir(tmp_path) == []
            assert "chatproto-ctl" not in server.log()

    def test_a_long_path_will_do(self, tmp_path: Path) -> None:
        folder = tmp_path / ("deep" * 30)
        folder.mkdir()
        with start(folder) as server:
            # Such a path is no address, so it is reached from within.
            before = os.getcwd()
            os.chdir(folder)
            try:
                control = Control(Path("chat.ctl"))
            finally:
                os.chdir(before)
            assert control.ask(do="rooms") == ([], {"done": {}})
            assert server.stop() == -signal.SIGTERM
        assert os.listdir(folder) == []

    def test_in_a_folder_that_cannot_be_written_the_server_runs_without(self) -> None:
        with start(Path("/proc")) as server:  # where not even root can
            assert re.search(r"there is no control socket, [\w ]+: chat\.ctl", server.log())
            assert server.join("ann").of(Welcome)


class TestWhoGetsIn:
    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
    def test_another_user_does_not_even_if_the_file_lets_them(self, server: Server) -> None:
        path = socket_of(server)
        os.chmod(server.folder.name, 0o755)
        said = _as_nobody(path)
        assert said.startswith("PermissionError")
        os.chmod(path, 0o666)
        assert json.loads(_as_nobody(path)) == {
            "refused": "the control socket is only for the server's own user and root"
        }
        assert f"user {NOBODY} is not let in at the control socket" in server.log()
        assert Control(server).greeting["version"] == VERSION

    def test_there_are_not_very_many_at_once(self, server: Server) -> None:
        many = [Control(server) for _ in range(MOST_CONNECTIONS)]
        more = Control(server)
        assert more.greeting == {
            "refused": f"there are {MOST_CONNECTIONS} connections to the control socket already"
        }
        assert more.line() == {}
        many.pop().close()
        eventually(lambda: "control" in Control(server).greeting, "there is no place again")

    @pytest.mark.parametrize("shuts_first", [False, True])
    def test_who_traced_and_is_gone_takes_no_place(self, server: Server, shuts_first: bool) -> None:
        ann = server.join("ann")  # who says nothing more, so nothing is written of her
        many = [Control(server) for _ in range(MOST_CONNECTIONS)]
        for control in many:
            control.send(do="trace", id=1)
        for control in many:
            assert [control.row()["event"] for _ in range(2)] == ["trace", "depth"]  # and then nothing more
            if shuts_first:
                control.socket.shutdown(socket.SHUT_WR)
            control.close()
        eventually(lambda: "control" in Control(server).greeting, "there is no place again")
        ann.close()

    def test_who_has_shut_their_side_is_still_told_what_lasts(self, server: Server) -> None:
        ann = server.join("ann")
        control = Control(server)
        control.send(do="trace", id=1)
        control.socket.shutdown(socket.SHUT_WR)
        assert control.row()["event"] == "trace"
        time.sleep(1.5 * LOOK_EVERY_S)
        ann.close()
        while "row" in (line := control.line()):
            pass
        assert line == {"done": {"text": "its session has ended"}}


def _as_nobody(path: Path) -> str:
    program = (
        "import socket, sys\n"
        "plain = socket.socket(socket.AF_UNIX)\n"
        "try:\n    plain.connect(sys.argv[1])\n"
        "except OSError as error:\n    print(type(error).__name__)\n"
        "else:\n    print(plain.makefile().read())\n"
    )
    # What is there for everybody; this environment may not be.
    done = subprocess.run(
        [
            "setpriv",
            f"--reuid={NOBODY}",
            "--clear-groups",
            sys.executable,
            "-S",
            "-E",
            "-c",
            program,
            str(path),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd="/",
    )
    return done.stdout


class TestLines:
    def test_it_says_what_it_is(self, server: Server) -> None:
        assert Control(server).greeting == {"control": "chatproto", "version": VERSION, "server": __version__}

    @pytest.mark.parametrize(
        ("line", "refusal"),
        [
            (b"", "a line is one JSON object"),
            (b"hello", "a line is one JSON object"),
            (b"[1]", "a line is one JSON object"),
            (b'{"do": "status"', "a line is one JSON object"),
            (b"\xff\xfe", "a line is one JSON object"),
            (b"[" * 10_000, "a line is one JSON object"),
            (b'{"do": "statu"}', "'do' is one of status, "),
            (b'{"do": ["status"]}', "'do' is one of status, "),
            (b'{"status": true}', "'do' is one of status, "),
            (b'{"do": "kick"}', "kick needs who"),
            (b'{"do": "kick", "who": "ann", "rom": "lobby"}', "kick has no 'rom'; it has who, room, reason"),
            (b'{"do": "kick", "who": "ann", "room": ""}', "room is a string, and not empty"),
            (b'{"do": "kick", "who": 7}', "who is a string, and not empty"),
            (b'{"do": "kick", "who": "server:ann"}', "leave out server:"),
            (b'{"do": "kick", "who": "\\ud800"}', ""),
            (
                b'{"do": "ban", "who": "x", "seconds": -1}',
                "seconds is a whole number from 0 to 4,294,967,295",
            ),
            (b'{"do": "ban", "who": "x", "seconds": 1e3}', "seconds is a whole number"),
            (b'{"do": "ban", "who": "x", "seconds": true}', "seconds is a whole number"),
            (b'{"do": "drain", "within_s": NaN}', "within_s is a number from 0 to 86,400"),
            (b'{"do": "connections", "lagging": 1}', "lagging is true or false"),
            (b'{"do": "trace", "id": 99}', "there is no such connection"),
            (b'{"do": "trace", "id": 1%s}' % (b"0" * 400), "id is a whole number from 0 to "),
            (b'{"do": "trace", "id": 1%s}' % (b"0" * 5_000), "a line is one JSON object"),
            (b'{"do": "drain", "within_s": 1%s}' % (b"0" * 400), "within_s is a number from 0 to 86,400"),
            (b'{"do": "drain", "within_s": 1e999}', "within_s is a number from 0 to 86,400"),
            (b'{"do": "status"}\0', "a line is one JSON object"),
            (b'{"do": "end-session", "id": 99}', "there is no such session"),
        ],
    )
    def test_what_makes_no_sense_is_refused_and_one_can_go_on(
        self, shared: Server, line: bytes, refusal: str
    ) -> None:
        control = Control(shared)
        control.socket.sendall(line + b"\n")
        assert refusal in control.line()["refused"]
        assert control.ask(do="rules") == ([], {"done": {}})
        control.close()

    def test_a_line_that_is_too_long_is_the_end(self, shared: Server) -> None:
        control = Control(shared)
        control.socket.sendall(b"x" * (MAX_REQUEST_BYTES + 1))
        assert control.line() == {"refused": f"a line has at most {MAX_REQUEST_BYTES:,} bytes"}
        assert control.line() == {}

    def test_very_many_requests_at_once_are_too_much(self, shared: Server) -> None:
        control = Control(shared)
        control.socket.sendall(b"{}\n" * (MAX_REQUEST_BYTES))
        while "'do' is one of" in (line := control.line()).get("refused", ""):
            pass
        assert line == {"refused": "that is too much at once"}
        assert control.line() == {}

    def test_requests_in_one_piece_are_answered_in_their_order(self, shared: Server) -> None:
        control = Control(shared)
        lines = b'{"do": "status"}\n{"do": "rules"}\nnonsense\n{"do": "rooms"}\n'
        control.socket.sendall(lines)
        answers = [control.line() for _ in range(4)]
        assert answers[0]["done"]["pid"] == shared.process.pid
        assert answers[1:] == [{"done": {}}, {"refused": "a line is one JSON object"}, {"done": {}}]

    def test_a_request_may_come_in_any_cut(self, shared: Server) -> None:
        control = Control(shared)
        for byte in b'{"do": "rules"}\n':
            control.socket.sendall(bytes([byte]))
        assert control.line() == {"done": {}}

    def test_who_only_pipes_into_it_gets_all_answers_and_then_the_end(self, shared: Server) -> None:
        control = Control(shared)
        control.socket.sendall(b'{"do": "rules"}\n{"do": "rooms"}\n')
        control.socket.shutdown(socket.SHUT_WR)
        assert [control.line() for _ in range(3)] == [{"done": {}}, {"done": {}}, {}]

    def test_who_goes_in_the_middle_of_an_answer_harms_nobody(self, shared: Server) -> None:
        for _ in range(5):
            plain = unix_socket(socket_of(shared))
            plain.sendall(b'{"do": "connections"}\n{"do": "status"}\n')
            plain.close()
        assert Control(shared).ask(do="rules") == ([], {"done": {}})
        assert "Traceback" not in shared.log()


def test_a_signal_ends_it_for_who_is_connected(server: Server) -> None:
    ann = server.join("ann")
    control = Control(server)
    control.send(do="trace", id=1)
    assert control.row()["event"] == "trace"
    server.process.send_signal(signal.SIGTERM)
    events = []
    while "row" in (line := control.line()):
        events.append(line["row"])
    assert line == {"done": {"text": "its session has ended"}}
    assert [event["reason"] for event in events if event["event"] == "end"] == ["shutdown"]
    assert control.line() == {}
    ann.close()
    assert server.process.wait(PATIENCE_S) == -signal.SIGTERM


def test_what_has_no_place_names_a_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ControlUnusable, match=r"^not a directory$"):
        ControlSocket(str(tmp_path / "file" / "ctl"))

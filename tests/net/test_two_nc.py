"""People with the real `nc` and `telnet` in a room of `twistd -n chat`."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from types import TracebackType
from typing import Self

import pytest
from live import PATIENCE_S, Server, eventually

from chatproto.wire.messages import Chat, Joined, Left, Say

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not shutil.which("nc"), reason="there is no nc here"),
]


class Netcat:
    """Someone who types into `nc`."""

    def __init__(self, server: Server, *options: str) -> None:
        self._shown = tempfile.NamedTemporaryFile(prefix="chatproto-nc-")  # noqa: SIM115 - closed by __exit__
        self._process = subprocess.Popen(
            ["nc", *options, "127.0.0.1", str(server.port)], stdin=subprocess.PIPE, stdout=self._shown
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
        if kind is not None:
            print(self.shown())
        self._shown.close()

    def type(self, *lines: str) -> None:
        """Type lines."""
        assert self._process.stdin is not None
        self._process.stdin.write("".join(f"{line}\n" for line in lines).encode())
        self._process.stdin.flush()

    def end(self) -> int:
        """Type Ctrl-D, and wait until nc ends; its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.stdin = None
        return self._process.wait(PATIENCE_S)

    def shown(self) -> str:
        """What is on the screen."""
        with open(self._shown.name, encoding="utf-8", newline="") as screen:
            return screen.read()

    def sees(self, line: str) -> None:
        """Wait until a line is on the screen; the time in it stands as `hh:mm`."""
        eventually(lambda: line in _without_times(self.shown()), f"{line!r} is not in {self.shown()!r}")


def _without_times(shown: str) -> list[str]:
    lines = []
    for line in shown.split("\r\n"):
        head, bracket, rest = line.partition("] ")
        lines.append(f"{head[:-5]}hh:mm] {rest}" if bracket and line.startswith("[") else line)
    return lines


def test_two_nc_users_and_one_framed_client_talk_and_a_third_who_joins_late_sees_it(server: Server) -> None:
    with Netcat(server) as alice, Netcat(server) as bob:
        alice.sees("* welcome to chatproto; what is your nickname?")
        alice.type("alice")
        alice.sees("* in lobby: alice")
        bob.type("bob")
        bob.sees("* in lobby: alice, bob")
        alice.sees("* bob joined lobby")

        robot = server.join("robot")
        alice.sees("* robot joined lobby")
        alice.type("good morning, ünïcode 😀")
        bob.sees("[lobby hh:mm] alice: good morning, ünïcode 😀")
        assert robot.until(Chat).text == "good morning, ünïcode 😀"
        bob.type("/me waves")
        alice.sees("[lobby hh:mm] * bob waves")
        robot.send(Say(1, "", "beep\nboop"))
        for person in (alice, bob):
            person.sees("[lobby hh:mm] robot: beep ⏎ boop")

        with Netcat(server) as carol:
            carol.type("carol")
            carol.sees("* in lobby: alice, bob, robot, carol")
            for line in ("alice: good morning, ünïcode 😀", "* bob waves", "robot: beep ⏎ boop"):
                carol.sees(f"[lobby hh:mm] {line}")
            shown = _without_times(carol.shown())
            assert [line for line in shown if line.startswith("[")] == [
                "[lobby hh:mm] alice: good morning, ünïcode 😀",
                "[lobby hh:mm] * bob waves",
                "[lobby hh:mm] robot: beep ⏎ boop",
            ]
            carol.type("what did I miss?")
            for person in (alice, bob):
                person.sees("[lobby hh:mm] carol: what did I miss?")
            carol.type("/quit")
            alice.sees("* carol left lobby (left)")
            assert carol.end() == 0  # nc reads on from the keyboard although the server has closed
        assert robot.until(Left).nick == "carol"
        robot.close()


def test_a_script_is_heard_and_answered(server: Server) -> None:
    """`printf 'bot\\n/join ops\\ndeployed\\n' | nc -N host port`, as the README has it."""
    watcher = server.join("watcher", "ops")
    with Netcat(server, "-N") as script:
        script.type("bot", "/join ops", "deployed")
        assert script.end() == 0
        assert "* in ops: watcher, bot" in script.shown().split("\r\n")
    assert watcher.until(Joined).nick == "bot"
    assert watcher.until(Chat).text == "deployed"
    assert watcher.until(Left).reason == "closed"


def test_scripts_of_many_lines_lose_none(server: Server) -> None:
    watcher = server.join("watcher")
    with Netcat(server, "-N") as script:
        script.type("bot", *(f"line {i}" for i in range(900)))
        assert script.end() == 0
    for i in range(900):
        assert watcher.until(Chat).text == f"line {i}"


def test_a_script_whose_nickname_is_taken_says_nothing(server: Server) -> None:
    watcher = server.join("bot")
    with Netcat(server, "-N") as script:
        script.type("bot", "/join ops", "deployed")
        assert script.end() == 0
        assert "* nothing of what you sent was said" in script.shown()
    watcher.drain()
    assert watcher.of(Chat) == []
    assert watcher.of(Joined) == []


def test_a_server_that_ends_says_goodbye_to_nc() -> None:
    with Server("--close-timeout-s=0.5") as server, Netcat(server) as alice:
        alice.type("alice")
        alice.sees("* in lobby: alice")
        server.stop()
        alice.sees("* goodbye: the server is shutting down")


def test_nc_over_a_unix_socket() -> None:
    with tempfile.TemporaryDirectory(prefix="chatproto-test-") as folder:
        place = f"{folder}/chat"
        with Server("--listen", f"unix:{place}", "--listen", "tcp:0:interface=127.0.0.1") as server:
            watcher = server.join("watcher")
            done = subprocess.run(
                ["nc", "-N", "-U", place],
                input=b"bot\nhello\n",
                capture_output=True,
                timeout=PATIENCE_S,
                check=True,
            )
            assert b"* in lobby: watcher, bot\r\n" in done.stdout
            assert watcher.until(Chat).text == "hello"

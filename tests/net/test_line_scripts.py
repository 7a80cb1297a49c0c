"""Scripts that pipe lines into the chat with whatever program the system has for that."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from live import PATIENCE_S, Framed, Server

from chatproto.wire.messages import Chat, Joined, Left

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def place() -> Iterator[Server]:
    """One server for all, in which every test has a room of its own."""
    with Server() as running:
        yield running


class Stage:
    """A room, someone who watches it, and the nickname of a script."""

    _numbers = itertools.count(1)

    def __init__(self, server: Server) -> None:
        number = next(self._numbers)
        self.server = server
        self.room, self.bot = f"ops{number}", f"bot{number:03}x"
        self.watcher: Framed = server.join("watcher", self.room)
        self.answer = "".join(
            f"* {line}\r\n"
            for line in (
                "welcome to chatproto; what is your nickname?",
                f"welcome, {self.bot}; /help shows what you can type",
                f"in lobby: {self.bot}",
                f"in {self.room}: watcher, {self.bot}",
                f"you are talking in {self.room} now",
            )
        )

    def piped(self, lines: list[str], command: str) -> str:
        """What *command* shows in a shell, HOST and PORT being the server's, with *lines* as its input."""
        line = command.replace("HOST", "127.0.0.1").replace("PORT", str(self.server.port))
        program = line.split()[0]
        if not shutil.which(program):
            pytest.skip(f"there is no {program} here")
        typed = "".join(f"{line}\n" for line in lines).encode()
        done = subprocess.run(
            ["bash", "-c", line], input=typed, capture_output=True, timeout=PATIENCE_S, check=True
        )
        assert not done.stderr
        return done.stdout.decode()


@pytest.fixture
def stage(place: Server) -> Iterator[Stage]:
    made = Stage(place)
    yield made
    made.watcher.socket.shutdown(1)
    made.watcher.until_closed()


READING = [
    "nc -N HOST PORT",
    "nc -q 1 HOST PORT",
    "ncat HOST PORT",
    "busybox nc HOST PORT",
    f"socat -t {PATIENCE_S:.0f} - TCP:HOST:PORT",
]
"""They half-close after the last line, and show everything until the server closes."""

GOING = [
    "nc -q 0 HOST PORT",
    "ncat --send-only HOST PORT",
    "socat - TCP:HOST:PORT",  # waits for half a second
    "socat -u STDIN TCP:HOST:PORT",
    "bash -c 'cat > /dev/tcp/HOST/PORT'",
]
"""They go when the last line is sent, whatever is still to come."""


@pytest.mark.parametrize("command", READING)
def test_a_script_is_heard_and_gets_every_answer(stage: Stage, command: str) -> None:
    assert stage.piped([stage.bot, f"/join {stage.room}", "deployed"], command) == stage.answer
    assert stage.watcher.until(Joined).nick == stage.bot
    assert stage.watcher.until(Chat).text == "deployed"
    assert stage.watcher.until(Left).reason == "closed"


@pytest.mark.parametrize("command", GOING)
def test_a_script_that_does_not_wait_for_answers_is_heard_all_the_same(stage: Stage, command: str) -> None:
    numbers = [str(number) for number in range(300)]
    stage.piped([stage.bot, f"/join {stage.room}", *numbers], command)
    for number in numbers:
        assert stage.watcher.until(Chat).text == number
    # Who is gone may have left before the last of what they said is kept.
    stage.watcher.gather(lambda: bool(stage.watcher.of(Left)), "they have left")


@pytest.mark.parametrize("command", READING)
def test_a_long_answer_comes_whole(stage: Stage, command: str) -> None:
    numbers = [f"{number:04} {'x' * 500}" for number in range(500)]
    stage.piped([stage.bot, f"/join {stage.room}", *numbers], "nc -N HOST PORT")
    shown = stage.piped(["reader", f"/join {stage.room}", "/history 500"], command)
    said = [line for line in shown.split("\r\n") if line.startswith(f"[{stage.room} ")]
    assert len(said) == 20 + 500
    assert said[-1].endswith(f" {stage.bot}: 0499 " + "x" * 500)


def test_bash_alone_can_talk_and_listen(stage: Stage) -> None:
    command = "bash -c 'exec 3<>/dev/tcp/HOST/PORT; cat >&3; cat <&3'"
    shown = stage.piped([stage.bot, f"/join {stage.room}", "deployed", "/quit"], command)
    assert shown == stage.answer + f"* bye, {stage.bot}\r\n"
    assert stage.watcher.until(Chat).text == "deployed"


@pytest.mark.parametrize("refused", ["/join", "/join two words", "/jion ops", "/JOIN \x07"])
def test_what_was_meant_for_a_room_that_was_refused_is_said_nowhere(stage: Stage, refused: str) -> None:
    script = [stage.bot, f"/join {stage.room}", refused, "deployed", "and tested", "/msg watcher done"]
    shown = stage.piped(script, "nc -N HOST PORT")
    assert shown.count("* you are talking in no room now") == 3
    assert stage.watcher.until(Left).nick == stage.bot
    assert [message.type for message in stage.watcher.received[-3:]] == ["joined", "told", "left"]


def test_a_script_whose_nickname_is_taken_is_told_a_free_one_and_says_nothing(stage: Stage) -> None:
    shown = stage.piped(["watcher", "", f"/join {stage.room}", "deployed"], "nc -N HOST PORT")
    assert shown.endswith("* watcher2 is free\r\n* nothing of what you sent was said\r\n")
    stage.watcher.drain()
    assert stage.watcher.of(Joined) == []

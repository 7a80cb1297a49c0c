"""The judge in the load generator: a server that breaks a rule gets no figure."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
from websockets.sync.server import Server, ServerConnection, serve

SOURCES = Path(__file__).resolve().parent.parent / "benchmarks" / "load"

pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="it needs a C compiler"),
    pytest.mark.skipif(not SOURCES.exists(), reason="the benchmarks are in the repository only"),
]
Answer = Callable[[ServerConnection, bytes, int], None]
Judged = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generator, without its libraries and with every warning an error."""
    program = tmp_path_factory.mktemp("load") / "load"
    strict = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
    subprocess.run(["cc", *strict, "-o", program, *sorted(SOURCES.glob("*.c"))], check=True)
    return program


class Echoing:
    """An echo server in a thread of its own, which does what *answer* does."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._server: Server = serve(self._talk, "127.0.0.1", 0, compression=None)
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()

    def _talk(self, connection: ServerConnection) -> None:
        for number, message in enumerate(connection):
            assert isinstance(message, bytes)
            self._answer(connection, message, number)

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()


@pytest.fixture
def judged(load: Path) -> Iterator[Judged]:
    servers: list[Echoing] = []

    def judge(answer: Answer, seconds: float = 0.3) -> subprocess.CompletedProcess[str]:
        servers.append(Echoing(answer))
        who = ("--clients=2", "--senders=2", "--window=4", f"127.0.0.1:{servers[-1].port}")
        command = [str(load), "--task=echo", "--warmup=0", f"--seconds={seconds}", "--limit-s=20", *who]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    yield judge
    for server in servers:
        server.close()


def back(connection: ServerConnection, message: bytes, number: int) -> None:
    connection.send(message)


# Of the four messages that are said at once, however little time there is:
THIRD = 2


def altered(connection: ServerConnection, message: bytes, number: int) -> None:
    connection.send(message if number != THIRD else message[:-1] + b"!")


def dropped(connection: ServerConnection, message: bytes, number: int) -> None:
    if number != THIRD:
        connection.send(message)


def twice(connection: ServerConnection, message: bytes, number: int) -> None:
    connection.send(message)
    if number == THIRD:
        connection.send(message)


def closed(connection: ServerConnection, message: bytes, number: int) -> None:
    connection.close(1008, "enough")


class TestEcho:
    def test_a_server_that_sends_back_what_it_got_is_measured(self, judged: Judged) -> None:
        done = judged(back, seconds=3)  # longer than the machine has something else to do
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize(
        ("answer", "said"),
        [(altered, "something else than was said"), (dropped, "not then"), (twice, "not then")],
    )
    def test_a_server_that_alters_drops_or_repeats_gets_no_figure(
        self, judged: Judged, answer: Answer, said: str
    ) -> None:
        done = judged(answer)
        assert done.returncode == 1
        assert "The server broke the rules" in done.stderr
        assert said in done.stderr
        assert done.stdout == ""

    def test_a_server_that_closes_is_quoted(self, judged: Judged) -> None:
        done = judged(closed)
        assert done.returncode == 2
        assert "with 1008 enough." in done.stderr


class TestUse:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--forms=morse", "127.0.0.1:1"], "--forms knows nothing called morse."),
            (["--clients=many", "127.0.0.1:1"], "--clients must be a number from 1 to"),
            (["--clients=1", "--senders=2", "127.0.0.1:1"], "--senders must not be more than --clients."),
            (["--tls", "127.0.0.1:1"], "compiled without OpenSSL (its headers are in libssl-dev)"),
            ([], "Usage: load "),
        ],
    )
    def test_a_wrong_use_is_told_in_one_sentence(self, load: Path, arguments: list[str], said: str) -> None:
        done = subprocess.run([load, *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1

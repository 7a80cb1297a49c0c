"""What the README shows runs, and is what the examples are made of."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from live import Server, eventually

from chatproto.wire.messages import Chat, Joined, Say

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def snippets() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, *arguments], cwd=tempfile.gettempdir())
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def test_the_readme_shows_lines_of_the_example_application() -> None:
    example = (ROOT / "examples/embed.py").read_text()
    embedding, saying, *_ = snippets()
    shown = [line.strip() for line in (embedding + saying).splitlines() if line.strip()]
    # The example takes its endpoint from the command line and says something later.
    example = example.replace("chat_endpoint)", '"tcp:9000:interface=127.0.0.1")')
    example = example.replace("reactor.callLater(1, hub.say, ", "hub.say(")
    missing = [line for line in shown if line not in example]
    assert not missing
    assert len([line for line in embedding.splitlines() if line.strip()]) <= 8


def test_the_readme_tests_code_without_sockets_as_it_says() -> None:
    [shown] = [snippet for snippet in snippets() if "chatproto.testing" in snippet]
    exec(compile(shown, "README.md", "exec"), {})


def test_the_application_with_a_chat_in_it_runs_and_says_something_into_the_room() -> None:
    with tempfile.TemporaryDirectory() as folder:
        site, chat = f"{folder}/site", f"{folder}/chat"
        with running(str(ROOT / "examples/embed.py"), f"unix:{site}", f"unix:{chat}"):
            eventually(lambda: os.path.exists(chat) and os.path.exists(site))
            with socket.socket(socket.AF_UNIX) as person:
                person.settimeout(30)
                person.connect(chat)
                person.sendall(b"ann\n")
                heard = b""
                while b"deploy: build 17 is live" not in heard:
                    heard += person.recv(4096)


def test_the_bot_answers_who_says_its_name(server: Server) -> None:
    ann = server.join("ann")
    with running(str(ROOT / "examples/bot.py"), f"tcp:127.0.0.1:{server.port}"):
        ann.until(Joined, lambda message: message.nick == "bot")
        ann.send(Say(0, "", "are you there, bot ?"))
        assert ann.until(Chat).text == "hello, ann"

"""What the README shows runs, and is what the examples are made of."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from live import Server, eventually, free_port, listens
from net.certificate import write_certificate
from websockets import ConnectionClosed, InvalidStatus, Origin
from websockets.sync.client import ClientConnection, connect, unix_connect
from websockets.sync.server import ServerConnection, serve

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


def test_the_readme_shows_lines_of_the_example_site() -> None:
    example = (ROOT / "examples/website.py").read_text()
    [shown] = [snippet for snippet in snippets() if "ChatResource" in snippet]
    lines = [line for line in shown.splitlines() if line.strip()]
    # The example takes its endpoints from the command line.
    example = example.replace("(reactor, endpoint)", '(reactor, "tcp:8080:interface=127.0.0.1")')
    assert [line for line in lines if line not in example] == []
    assert len(lines) <= 8


def talk_over_websocket(peer: ClientConnection) -> None:
    """Join by JSON, and be let in."""
    peer.send('{"type": "join", "nick": "ann"}')
    types = [json.loads(peer.recv(timeout=30))["type"] for _ in range(3)]
    assert types == ["welcome", "roster", "end"]


def test_the_site_of_the_readme_has_a_chat_in_it() -> None:
    [shown] = [snippet for snippet in snippets() if "ChatResource" in snippet]
    with tempfile.TemporaryDirectory() as folder:
        place = f"{folder}/site"
        shown = shown.replace("tcp:8080:interface=127.0.0.1", f"unix:{place}")
        with running("-c", f"{shown}\nreactor.run()\n"):
            eventually(lambda: listens(Path(place)))
            with unix_connect(place, "ws://localhost/chat") as peer:
                talk_over_websocket(peer)


def test_the_example_site_has_a_chat_over_http_and_https_and_says_goodbye() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place, certificate, key = f"{folder}/site", Path(f"{folder}/cert.pem"), Path(f"{folder}/key.pem")
        write_certificate(certificate, key)
        port = free_port()
        secure = f"ssl:{port}:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
        with running(str(ROOT / "examples/website.py"), f"unix:{place}", secure) as site:
            eventually(lambda: listens(Path(place)))
            eventually(lambda: listens(port))
            with unix_connect(place, "ws://localhost/chat", origin=Origin("http://localhost")) as peer:
                talk_over_websocket(peer)
            with pytest.raises(InvalidStatus) as refused:
                unix_connect(place, "ws://localhost/chat", origin=Origin("http://elsewhere"))
            assert refused.value.response.status_code == 403
            trust = ssl.create_default_context(cafile=certificate)
            with connect(f"wss://localhost:{port}/chat", ssl=trust) as peer:
                talk_over_websocket(peer)
                site.terminate()
                assert json.loads(peer.recv(timeout=30))["type"] == "goodbye"
                with pytest.raises(ConnectionClosed) as closed:
                    peer.recv(timeout=30)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1012  # as 1001, but that it comes back
            site.wait(30)


def test_the_readme_tests_code_without_sockets_as_it_says() -> None:
    [shown] = [snippet for snippet in snippets() if "chatproto.testing" in snippet]
    exec(compile(shown, "README.md", "exec"), {})


def test_the_application_with_a_chat_in_it_runs_and_says_something_into_the_room() -> None:
    with tempfile.TemporaryDirectory() as folder:
        site, chat = f"{folder}/site", f"{folder}/chat"
        with running(str(ROOT / "examples/embed.py"), f"unix:{site}", f"unix:{chat}"):
            eventually(lambda: listens(Path(chat)) and listens(Path(site)))
            with socket.socket(socket.AF_UNIX) as person:
                person.settimeout(30)
                person.connect(chat)
                person.sendall(b"ann\n")
                heard = b""
                while b"deploy: build 17 is live" not in heard:
                    data = person.recv(4096)
                    assert data, heard
                    heard += data


def test_the_bot_answers_who_says_its_name(server: Server) -> None:
    ann = server.join("ann")
    with running(str(ROOT / "examples/bot.py"), f"tcp:127.0.0.1:{server.port}"):
        ann.until(Joined, lambda message: message.nick == "bot")
        ann.send(Say(0, "", "are you there, bot ?"))
        assert ann.until(Chat).text == "hello, ann"


def test_the_echo_of_the_readme_sends_back_what_a_client_says() -> None:
    [shown] = [snippet for snippet in snippets() if "WebSocketFactory" in snippet]
    with tempfile.TemporaryDirectory() as folder:
        place = f"{folder}/echo"
        with running("-c", shown.replace("tcp:9001:interface=127.0.0.1", f"unix:{place}")):
            eventually(lambda: listens(Path(place)))
            with unix_connect(place, "ws://localhost/") as peer:
                peer.send("hello")
                assert peer.recv(timeout=30) == "hello"


def test_the_echo_client_sends_back_what_a_server_says_until_it_closes() -> None:
    heard: list[str | bytes] = []

    def talk(peer: ServerConnection) -> None:
        for said in ("hello", b"\0\xff"):
            peer.send(said)
            heard.append(peer.recv(timeout=30))

    with serve(talk, "127.0.0.1", 0) as peer_server:
        listening = threading.Thread(target=peer_server.serve_forever)
        listening.start()
        url = f"ws://127.0.0.1:{peer_server.socket.getsockname()[1]}/"
        with running(str(ROOT / "examples/echo_client.py"), url) as client:
            assert client.wait(30) == 0
        peer_server.shutdown()
        listening.join()
    assert heard == ["hello", b"\0\xff"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ws://127.0.0.1:1/",), "cannot connect to ws://127.0.0.1:1/: "),
        (("http://127.0.0.1/",), "cannot connect to http://127.0.0.1/: "),
        (("ws://127.0.0.1/", "--max-message-bytes", "0"), "max_message_bytes is at least 1, not 0"),
    ],
)
def test_the_echo_client_says_in_one_sentence_what_is_wrong(arguments: tuple[str, ...], said: str) -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples/echo_client.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode != 0
    last = run.stderr.splitlines()[-1]
    assert said in last
    assert "Traceback" not in run.stderr

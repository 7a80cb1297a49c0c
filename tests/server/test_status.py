"""`/metrics`, `/healthz` and `/readyz`: who gets them, and what `/readyz` says of a server in trouble."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from live import PATIENCE_S, Framed, Server, eventually, free_port, listens, patiently
from server.asking import ask, figures

from chatproto.wire.messages import Ack, End, Error, Join, Joined, Say

LOOPBACK = "tcp:0:interface=127.0.0.1"
PATHS = ("/metrics", "/healthz", "/readyz")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the Unix socket is."""
    return tmp_path_factory.mktemp("status") / "sock"


@pytest.fixture(scope="module")
def server(path: Path) -> Iterator[Server]:
    endpoints = ("--listen", LOOPBACK, "--listen", f"haproxy:{LOOPBACK}", "--listen", f"unix:{path}")
    with Server(*endpoints) as running:
        eventually(path.exists)
        yield running


NGINX = """
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{chat};
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
        }}
    }}
}}
"""


@contextmanager
def behind_nginx(server: Server, folder: Path) -> Iterator[int]:
    """The port of a web server that passes everything on to the chat."""
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not here")
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder, port=port, chat=server.port))
    process = subprocess.Popen([nginx, "-c", str(configuration)], stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: listens(port), "nginx does not listen")
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def proxied(server: Server, client: str, request: bytes) -> bytes:
    """What a client at another address gets by way of a proxy that says whose connection it is."""
    [port] = [
        int(found)
        for found in re.findall(r"listening on 127.0.0.1 port (\d+)", server.log())
        if int(found) != server.port
    ]
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as plain:
        plain.sendall(f"PROXY TCP4 {client} 127.0.0.1 50000 {port}\r\n".encode() + request)
        answer = b""
        while data := plain.recv(65_536):
            answer += data
    return answer


class TestOnThePortOfTheChat:
    @pytest.mark.parametrize("asked", PATHS)
    def test_it_is_for_who_is_on_this_machine(self, server: Server, asked: str) -> None:
        assert ask(server.port, asked).status == 200

    @pytest.mark.parametrize("asked", PATHS)
    def test_a_stranger_finds_nothing_there(self, server: Server, asked: str) -> None:
        request = f"GET {asked} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
        there = request.replace(asked.encode(), b"/nowhere")

        def without_date(answer: bytes) -> bytes:
            return re.sub(rb"\r\nDate: [^\r]*", b"", answer)

        refused = proxied(server, "203.0.113.7", request)
        assert refused.startswith(b"HTTP/1.1 404 ")
        assert without_date(refused) == without_date(proxied(server, "203.0.113.7", there))
        assert proxied(server, "127.0.0.2", request).startswith(b"HTTP/1.1 200 ")

    @pytest.mark.parametrize("asked", PATHS)
    @pytest.mark.parametrize(
        "headers",
        [
            {"X-Forwarded-For": "203.0.113.7"},
            {"X-Forwarded-For": "127.0.0.1"},
            {"X-Forwarded-For": ""},
            {"Forwarded": "for=127.0.0.1"},
            {"X-Real-IP": "127.0.0.1"},
            {"Via": "1.1 proxy"},
            {"Host": "chat.example"},
            {"Host": "chat.example:9000"},
            {"Host": "localhost.chat.example"},
            {"Host": "203.0.113.7"},
            {"Host": "[2001:db8::1]:80"},
            {"Host": ""},
        ],
        ids=str,
    )
    def test_what_comes_by_a_proxy_or_under_another_name_is_a_stranger_s(
        self, server: Server, asked: str, headers: dict[str, str]
    ) -> None:
        assert ask(server.port, asked, headers=headers).status == 404

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "127.0.0.1:9000", "[::1]:9000", "[::1]"])
    def test_this_machine_has_several_names(self, server: Server, host: str) -> None:
        assert ask(server.port, "/healthz", headers={"Host": host}).status == 200

    @pytest.mark.parametrize("asked", PATHS)
    def test_who_comes_over_a_unix_socket_is_mostly_a_proxy(
        self, server: Server, path: Path, asked: str
    ) -> None:
        assert ask(path, "/").status == 200
        assert ask(path, asked).status == 404

    @pytest.mark.parametrize("asked", ["/metrics/", "/readyz/x", "/metrics/../metrics", "/Metrics"])
    def test_there_is_nothing_beside_it(self, server: Server, asked: str) -> None:
        assert ask(server.port, asked).status == 404

    @pytest.mark.system
    def test_who_comes_through_a_web_server_on_this_machine_finds_nothing(
        self, server: Server, tmp_path: Path
    ) -> None:
        with behind_nginx(server, tmp_path) as port:
            assert ask(port, "/").status == 200
            for asked in PATHS:
                assert ask(port, asked).status == 404
                # nor by saying that one is near
                near = {"X-Forwarded-For": "127.0.0.1", "Host": "localhost"}
                assert ask(port, asked, headers=near).status == 404

    def test_only_reading_is_answered(self, server: Server) -> None:
        for path in PATHS:
            head = ask(server.port, path, "HEAD")
            assert (head.status, head.body) == (200, "")
            assert int(head.headers["content-length"]) > 0
            post = ask(server.port, path, "POST")
            assert (post.status, post.headers["allow"]) == (405, "GET, HEAD")

    def test_what_is_well_is_said_in_a_word(self, server: Server) -> None:
        assert ask(server.port, "/healthz").body == "ok\n"
        assert ask(server.port, "/readyz").body == "ready\n"

    def test_the_page_and_the_chat_are_as_they_were(self, server: Server) -> None:
        assert ask(server.port, "/").status == 200
        assert ask(server.port, "/chat").status in (400, 426)


class TestOnAnEndpointOfItsOwn:
    def test_everybody_who_gets_there_has_it_and_nobody_elsewhere(self, tmp_path: Path) -> None:
        status = tmp_path / "status"
        with Server("--status", f"unix:{status}") as server:
            for path in PATHS:
                assert (
                    ask(status, path, headers={"Host": "x", "X-Forwarded-For": "203.0.113.7"}).status == 200
                )
                assert ask(server.port, path).status == 404
            assert ask(status, "/").status == 404
            assert ask(status, "/chat").status == 404
            eventually(lambda: f"/metrics, /healthz and /readyz are at {status}" in server.log())
            server.stop()
            assert not status.exists()

    def test_it_says_where_it_is(self) -> None:
        with Server("--status", LOOPBACK) as server:
            found: list[str] = []
            for _ in patiently():
                found = re.findall(r"/readyz are at http://127.0.0.1:(\d+)/", server.log())
                if found:
                    break
            assert ask(int(found[0]), "/readyz").status == 200

    def test_off_is_nowhere(self) -> None:
        with Server("--status", "off") as server:
            for path in PATHS:
                assert ask(server.port, path).status == 404

    def test_where_it_cannot_listen_it_does_not_start(self, tmp_path: Path) -> None:
        with pytest.raises(AssertionError, match="cannot listen, no such file or directory"):
            Server("--status", f"unix:{tmp_path}/nowhere/sock")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program has a history for itself."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def full_disk(server: Server) -> Iterator[None]:
    """No byte of the server's goes into a file any more, not even one that a trial writes."""
    pid = server.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


class TestReadiness:
    @pytest.mark.parametrize("trouble", ["locked", "full"])
    def test_is_over_while_the_history_cannot_keep_and_comes_back_by_itself(self, trouble: str) -> None:
        with Server("--history-lock-timeout-s", "0.1") as server:
            path = Path(server.folder.name) / "chat.sqlite"
            ann = server.join("ann")
            ann.send(Say(1, "", "x"))
            ann.until(Ack)
            assert ask(server.port, "/readyz").status == 200
            with locked(path) if trouble == "locked" else full_disk(server):
                for id in range(2, 1_000):
                    ann.send(Say(id, "", "a secret " * 400))
                    ann.gather(lambda: bool(answers(ann, id)), "an answer")  # noqa: B023
                    if isinstance(answers(ann, id)[0], Error):
                        break
                assert ann.of(Error)[-1].code == 13
                ready = ask(server.port, "/readyz")
                assert ready.status == 503
                assert re.fullmatch(r"the history cannot keep what is said: [^\n]+\n", ready.body)
                assert "secret" not in ready.body
                assert ask(server.port, "/healthz").status == 200
                assert figures(server.port)["chat_history_up"] == 0
            # Nobody speaks.
            eventually(lambda: ask(server.port, "/readyz").status == 200)
            assert figures(server.port)["chat_history_up"] == 1
            ann.send(Say(2_000, "", "again"))
            ann.until(Ack, lambda ack: ack.id == 2_000)

    def test_is_over_while_the_server_ends_as_long_as_that_takes(self, tmp_path: Path) -> None:
        status = tmp_path / "status"
        with Server(
            *("--status", f"unix:{status}", "--max-messages-per-s", "0"),
            *("--close-timeout-s", "600", "--drain-timeout-s", "600"),
        ) as server:
            talker = server.join("talker")
            deaf = Framed(server.raw(receive_buffer_bytes=4_096))
            deaf.send(Join("deaf", "", 0, 0, 0))
            deaf.until(End)
            talker.until(Joined)
            talker.send(*(Say(number, "", "x" * 4_000) for number in range(1, 1_500)))
            talker.until(Ack, lambda ack: ack.id == 1_499)
            server.process.send_signal(signal.SIGTERM)
            eventually(lambda: ask(status, "/readyz").status == 503)
            assert ask(status, "/readyz").body == "the server is shutting down\n"
            assert ask(status, "/healthz").status == 200
            assert figures(status)["chat_lagging_readers"] >= 0
            assert server.process.poll() is None
            deaf.reset()
            talker.close()
            assert server.process.wait(PATIENCE_S) == -signal.SIGTERM
            assert not status.exists()


def answers(client: Framed, id: int) -> list[Ack | Error]:
    """What came of a message."""
    came: list[Ack | Error] = [*client.of(Ack), *client.of(Error)]
    return [answer for answer in came if answer.id == id]

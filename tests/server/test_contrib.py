"""What is in contrib/ runs: the very files, with other ports and paths, before or around a real server."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from live import PATIENCE_S, Framed, Server, eventually, free_port, listens, patiently
from net.certificate import write_certificate
from server.activation import as_systemd_starts
from shared.store import Store
from websockets import InvalidMessage, Origin
from websockets.sync.client import connect

from chatproto.wire.messages import Ack, Chat, End, Join, Say

CONTRIB = Path(__file__).parents[2] / "contrib"
SYSTEMD = CONTRIB / "systemd"
LOOPBACK = "tcp:0:interface=127.0.0.1"

pytestmark = pytest.mark.system


def program(name: str) -> str:
    """Where a program is; without it the test is skipped."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not here")
    return found


def adapted(name: str, *changes: tuple[str, str]) -> str:
    """A file of contrib/, with what stands in it for one's own replaced."""
    text = (CONTRIB / name).read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    return text


@contextmanager
def running(log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program, ended with SIGTERM; what it says goes to *log*, and is shown if the test fails."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=log.parent)
    try:
        yield process
    except BaseException:
        print(log.read_text(errors="replace")[-4_000:])
        raise
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


def addresses(server: Server, face: str) -> list[str]:
    """From where the connections of a face come, by the log."""
    events = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return [event["address"] for event in events if event["event"] == "connected" and event["face"] == face]


def talk_in_a_browser(url: str, origin: str) -> None:
    """The page loads, and opens its WebSocket with its own origin; whoever it says to be behind is nobody."""
    headers = {"X-Forwarded-For": "198.51.100.66"}
    with connect(url, ssl=context(), origin=Origin(origin), additional_headers=headers) as page:
        page.send(json.dumps({"type": "join", "nick": "ann"}))
        while json.loads(page.recv(timeout=PATIENCE_S))["type"] != "end":
            pass
        page.send(json.dumps({"type": "say", "id": 7, "text": "over a proxy"}))
        while (answer := json.loads(page.recv(timeout=PATIENCE_S)))["type"] != "ack":
            pass
        assert answer["id"] == 7


@contextmanager
def web_chat() -> Iterator[Server]:
    """A chat for the web alone, as the snippets of web servers have it."""
    with Server("--listen", f"{LOOPBACK}:faces=web", "--history", "memory", "--log-format", "json") as server:
        yield server


def page_of(port: int) -> bytes:
    plain = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    with context().wrap_socket(plain, server_hostname="localhost") as secure:
        secure.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := secure.recv(65_536):
            answer += data
    return answer


class TestNginx:
    def test_passes_the_page_and_websockets_and_says_whom_they_come_from(self, tmp_path: Path) -> None:
        nginx, port = program("nginx"), free_port()
        write_certificate(tmp_path / "fullchain.pem", tmp_path / "privkey.pem")
        with web_chat() as server:
            snippet = tmp_path / "chat.conf"
            snippet.write_text(
                adapted(
                    "nginx.conf",
                    ("server 127.0.0.1:9000;", f"server 127.0.0.1:{server.port};"),
                    ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
                    ("/etc/letsencrypt/live/chat.example/", f"{tmp_path}/"),
                )
            )
            main = tmp_path / "nginx.conf"
            temporary = "".join(
                f"{name}_temp_path {tmp_path}/{name};"
                for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            main.write_text(
                f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
                f"http {{ access_log off; {temporary} include {snippet}; }}\n"
            )
            if os.geteuid() == 0:
                main.write_text(f"user root; {main.read_text()}")
            with running(tmp_path / "log", nginx, "-c", str(main), "-p", str(tmp_path)):
                eventually(lambda: listens(port))
                assert page_of(port).startswith(b"HTTP/1.1 200 OK")
                talk_in_a_browser(f"wss://localhost:{port}/chat", f"https://localhost:{port}")
            assert addresses(server, "websocket-json") == ["127.0.0.1"]


class TestCaddy:
    def test_passes_the_page_and_websockets_and_says_whom_they_come_from(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        caddy, port = program("caddy"), free_port()
        for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
            monkeypatch.setenv(name, str(tmp_path))
        with web_chat() as server:
            # With a name that is local Caddy makes the certificate itself.
            snippet = adapted(
                "Caddyfile",
                ("chat.example {", f"localhost:{port} {{"),
                ("reverse_proxy 127.0.0.1:9000", f"reverse_proxy 127.0.0.1:{server.port}"),
            )
            caddyfile = tmp_path / "Caddyfile"
            caddyfile.write_text(
                f"{{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n}}\n{snippet}"
            )
            command = (caddy, "run", "--config", str(caddyfile), "--adapter", "caddyfile")
            with running(tmp_path / "log", *command):
                eventually(lambda: listens(port))
                eventually(lambda: has_certificate(port))
                assert page_of(port).startswith(b"HTTP/1.1 200 OK")
                talk_in_a_browser(f"wss://localhost:{port}/chat", f"https://localhost:{port}")
            assert addresses(server, "websocket-json") == ["127.0.0.1"]


def has_certificate(port: int) -> bool:
    try:
        page_of(port)
    except (ssl.SSLError, ConnectionError):
        return False
    return True


class TestHAProxy:
    @pytest.fixture
    def proxied(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Server, int, int]]:
        """A chat, and the two ports of a HAProxy before it: with TLS, and without.

        The parameter is how often, and within which time, the chat says that it is ready.
        """
        every = getattr(request, "param", "2s")
        haproxy, tls, plain = program("haproxy"), free_port(), free_port()
        write_certificate(tmp_path / "certificate", tmp_path / "key")
        both = (tmp_path / "certificate").read_text() + (tmp_path / "key").read_text()
        (tmp_path / "both.pem").write_text(both)
        listen = f"haproxy:{LOOPBACK}"
        with Server("--listen", listen, "--history", "memory", "--log-format", "json") as server:
            config = tmp_path / "haproxy.cfg"
            config.write_text(
                adapted(
                    "haproxy.cfg",
                    ("bind :443", f"bind 127.0.0.1:{tls}"),
                    ("bind :9000", f"bind 127.0.0.1:{plain}"),
                    ("/etc/haproxy/chat.example.pem", str(tmp_path / "both.pem")),
                    ("server chat 127.0.0.1:9001", f"server chat 127.0.0.1:{server.port}"),
                    ("inter 2s", f"inter {every}"),
                )
            )
            with running(tmp_path / "log", haproxy, "-db", "-f", str(config)):
                eventually(lambda: listens(tls) and listens(plain))
                yield server, tls, plain

    def test_passes_every_face_with_its_address_with_tls_and_without(
        self, proxied: tuple[Server, int, int]
    ) -> None:
        server, tls, plain = proxied
        for port in (tls, plain):
            connected = socket.create_connection(
                ("127.0.0.1", port), timeout=PATIENCE_S, source_address=("127.0.0.9", 0)
            )
            client = Framed(context().wrap_socket(connected) if port == tls else connected)
            client.send(Join("ann", "", 0, 0, 0), Say(7, "", "hi"))
            client.until(End)
            assert client.until(Ack).id == 7
            client.close()
        with socket.create_connection(("127.0.0.1", plain), timeout=PATIENCE_S) as person:
            heard = b""
            person.sendall(b"bob\n")
            while b"* in lobby:" not in heard:
                heard += person.recv(65_536)
        for _ in patiently():
            # Where this process gets no core for a second, the server takes it for a person at nc.
            with suppress(InvalidMessage):
                talk_in_a_browser(f"wss://localhost:{tls}/chat", f"https://localhost:{tls}")
                break
        else:
            raise AssertionError("the server is never quick enough")
        assert addresses(server, "frames") == ["127.0.0.9", "127.0.0.9"]
        assert addresses(server, "lines") == ["127.0.0.1"]

    @pytest.mark.parametrize("proxied", ["100ms"], indirect=True)
    def test_sends_nobody_to_a_chat_that_is_not_ready(self, proxied: tuple[Server, int, int]) -> None:
        server, _, plain = proxied
        eventually(lambda: outcome(plain) == "answered")
        server.process.send_signal(signal.SIGSTOP)
        try:
            eventually(lambda: outcome(plain) == "closed")
        finally:
            server.process.send_signal(signal.SIGCONT)
        eventually(lambda: outcome(plain) == "answered")


def outcome(port: int) -> str:
    """What becomes of who comes to a proxy and pings; if no chat is ready, they are closed at once."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as plain:
            plain.sendall(bytes.fromhex("00000009 08 0011223344556677"))
            return "answered" if plain.recv(100) else "closed"
    except ConnectionError:
        return "closed"
    except TimeoutError:
        return "silence"


class TestSystemd:
    def unit(self, name: str) -> configparser.ConfigParser:
        parsed = configparser.ConfigParser(strict=False, interpolation=None)
        parsed.optionxform = str  # type: ignore[assignment, method-assign]
        parsed.read(SYSTEMD / name)
        return parsed

    def test_its_files_are_what_systemd_understands(self, tmp_path: Path) -> None:
        analyze = program("systemd-analyze")
        twistd = Path(sys.executable).parent / "twistd"
        for path in SYSTEMD.iterdir():
            # The program has to be there, or it is that what is complained of.
            (tmp_path / path.name).write_text(
                path.read_text().replace("/opt/chatproto/bin/twistd", str(twistd))
            )
        verified = subprocess.run(
            [analyze, "verify", *map(str, sorted(tmp_path.iterdir()))],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")

    def test_its_command_serves_reloads_and_ends_as_the_unit_says(self, tmp_path: Path) -> None:
        service = self.unit("chatproto.service")["Service"]
        assert service["Type"] == "notify"
        assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
        name = self.unit("chatproto.socket")["Socket"]["FileDescriptorName"]
        config = tmp_path / "chatproto.toml"
        config.write_text('history = "memory"\n')
        command = service["ExecStart"].replace("/etc/chatproto.toml", str(config))
        command = command.replace("/opt/chatproto/bin/twistd", str(Path(sys.executable).parent / "twistd"))
        with (
            socket.socket() as listening,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told,
        ):
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            told.bind(str(tmp_path / "notify"))
            told.settimeout(PATIENCE_S)
            environment = {
                **os.environ,
                "NOTIFY_SOCKET": str(tmp_path / "notify"),
                "WATCHDOG_USEC": "200000",
            }
            process = subprocess.Popen(
                as_systemd_starts([listening], [name], shlex.split(command)),
                pass_fds=[listening.fileno()],
                cwd=tmp_path,
                env=environment,
            )
            try:
                assert "READY=1" in said(told)
                client = Framed(listening.getsockname()[1])
                client.send(Join("ann", "", 0, 0, 0))
                client.until(End)
                while "WATCHDOG=1" not in said(told):
                    pass
                before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
                process.send_signal(signal.SIGHUP)
                while "RELOADING=1" not in (reloading := said(told)):
                    pass
                found = re.search(r"MONOTONIC_USEC=(\d+)", reloading)
                assert found is not None
                assert int(found[1]) >= before_us
                while "READY=1" not in said(told):
                    pass
                process.terminate()
                while "STOPPING=1" not in said(told):
                    pass
                client.until_closed()
                client.close()
                assert process.wait(PATIENCE_S) == -signal.SIGTERM
            finally:
                process.kill()
                process.wait()

    def test_its_template_runs_several_servers_of_one_chat_on_one_port(self, tmp_path: Path) -> None:
        program("redis-server")
        service = self.unit("chatproto@.service")["Service"]
        assert service["Type"] == "notify"
        assert service["LoadCredential"] == "settings:/etc/chatproto.toml"

        def command(instance: str) -> list[str]:
            (tmp_path / f"chatproto-{instance}").mkdir()
            text = service["ExecStart"]
            for before, after in (
                ("%d", str(tmp_path)),
                ("/run", str(tmp_path)),
                ("%i", instance),
                ("/opt/chatproto/bin/twistd", str(Path(sys.executable).parent / "twistd")),
            ):
                assert before in text
                text = text.replace(before, after)
            return shlex.split(text)

        with Store() as store:
            (tmp_path / "settings").write_text(
                f'history = "{store.url}"\nreuse_port = true\n'
                f'listen = ["tcp:{free_port()}:interface=127.0.0.1"]\n'
            )
            with Server(command=command("1")) as one, Server(command=command("2")) as other:
                assert one.port == other.port
                people = [one.join(f"p{n}") for n in range(10)]
                people[0].send(Say(1, "", "to all"))
                for person in people[1:]:
                    assert person.until(Chat).text == "to all"
                for instance in "12":
                    assert (tmp_path / f"chatproto-{instance}" / "status").is_socket()


def said(told: socket.socket) -> str:
    """What systemd is told next."""
    return told.recv(4_096).decode()


def test_every_file_is_tried_here() -> None:
    tried = {
        "nginx.conf",
        "Caddyfile",
        "haproxy.cfg",
        "systemd/chatproto.service",
        "systemd/chatproto.socket",
        "systemd/chatproto@.service",
    }
    there = {str(path.relative_to(CONTRIB)) for path in CONTRIB.rglob("*") if path.is_file()}
    assert there == tried

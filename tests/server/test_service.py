"""The service: where it listens, what it says of that, and how it ends."""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from live import PATIENCE_S, Framed, Server, eventually, listens
from server.memory import ReactorInMemory
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.selectreactor import SelectReactor
from twisted.logger import capturedLogs, formatEvent

from chatproto.server import listening as listening_module
from chatproto.server import service as service_module
from chatproto.server.service import ChatService, NotStarted
from chatproto.wire.messages import Ack, Chat, Goodbye, Join, Joined, Say

LOOPBACK = "tcp:0:interface=127.0.0.1"


class Lines:
    """A person with `nc`: a socket, and what came out of it."""

    def __init__(self, plain: socket.socket) -> None:
        self.socket = plain
        self.socket.settimeout(PATIENCE_S)
        self.heard = ""

    def until(self, text: str) -> str:
        while text not in self.heard:
            data = self.socket.recv(65_536)
            assert data, f"closed before {text!r}: {self.heard!r}"
            self.heard += data.decode()
        return self.heard

    def until_closed(self) -> str:
        while data := self.socket.recv(65_536):
            self.heard += data.decode()
        return self.heard


def on_port(server: Server, nick: str) -> Lines:
    person = Lines(server.raw())
    person.socket.sendall(f"{nick}\n".encode())
    person.until("* in lobby:")
    return person


def on_path(path: Path, nick: str) -> Lines:
    plain = socket.socket(socket.AF_UNIX)
    plain.connect(str(path))
    person = Lines(plain)
    person.socket.sendall(f"{nick}\n".encode())
    person.until("* in lobby:")
    return person


@contextmanager
def somebody_deaf(server: Server) -> Iterator[None]:
    """Somebody for whom much waits, and who takes nothing."""
    talker = server.join("talker")
    deaf = server.raw(receive_buffer_bytes=4_096)
    deaf.sendall(b"deaf\n")
    talker.until(Joined)
    talker.send(*(Say(number, "", "x" * 4_000) for number in range(1, 1_500)))
    talker.until(Ack, lambda message: message.id == 1_499)
    talker.close()
    with deaf:
        yield


@pytest.fixture
def reactor() -> ReactorInMemory:
    return ReactorInMemory()


class TestSaysHowToConnect:
    def said(self, reactor: ReactorInMemory, *endpoints: str) -> list[str]:
        with capturedLogs() as events:
            ChatService(endpoints, reactor=reactor).startService()
        return [formatEvent(event) for event in events if event["log_namespace"] == "chatproto"]

    def test_with_the_host_s_name_when_it_listens_on_all_addresses(self, reactor: ReactorInMemory) -> None:
        host = socket.gethostname()
        assert self.said(reactor, "tcp:9000")[-2:] == [
            "listening on 0.0.0.0 port 9000",
            f"talk: nc {host} 9000    or: chatproto-connect {host}:9000 --nick NAME    or: http://{host}:9000/",
        ]

    def test_with_an_ipv6_address_in_brackets(self, reactor: ReactorInMemory) -> None:
        assert self.said(reactor, r"tcp6:9000:interface=\:\:1")[-2:] == [
            "listening on ::1 port 9000",
            "talk: nc ::1 9000    or: chatproto-connect [::1]:9000 --nick NAME    or: http://[::1]:9000/",
        ]

    def test_for_every_endpoint(self, reactor: ReactorInMemory) -> None:
        said = self.said(reactor, "tcp:1", "tcp:2", "unix:/run/chat.sock")
        assert [line for line in said if line.startswith("listening")] == [
            "listening on 0.0.0.0 port 1",
            "listening on 0.0.0.0 port 2",
            "listening on /run/chat.sock",
        ]
        assert said[-1] == "talk: nc -U /run/chat.sock"

    def test_only_when_it_listens_on_all_of_them(self, reactor: ReactorInMemory) -> None:
        with capturedLogs() as events:
            ChatService(["tcp:9000"], reactor=reactor).privilegedStartService()
        assert not [event for event in events if "listening" in (formatEvent(event) or "")]


class TestListens:
    @pytest.mark.parametrize(
        ("endpoint", "backlog"),
        [
            ("tcp:9000", 1_024),
            ("tcp:9000:interface=127.0.0.1", 1_024),
            (r"tcp6:9000:interface=\:\:1", 1_024),
            ("tcp:9000:backlog=7", 7),
            ("tcp:9000:127.0.0.1:7", 7),
        ],
    )
    def test_with_a_backlog_for_a_crowd_that_comes_back_unless_told(
        self, reactor: ReactorInMemory, endpoint: str, backlog: int
    ) -> None:
        ChatService([endpoint], reactor=reactor).startService()
        [(port, _, passed, _)] = reactor.tcpServers
        assert (port, passed) == (9_000, backlog)

    def test_on_unix_sockets_with_the_same_backlog(self, reactor: ReactorInMemory) -> None:
        ChatService(["unix:/run/chat.sock"], reactor=reactor).startService()
        [(path, _, backlog, _, _)] = reactor.unixServers
        assert (path, backlog) == ("/run/chat.sock", 1_024)

    def test_before_it_is_started_where_that_needs_privileges(self, reactor: ReactorInMemory) -> None:
        service = ChatService(["tcp:80"], reactor=reactor)
        service.privilegedStartService()
        assert len(reactor.tcpServers) == 1
        service.startService()
        assert len(reactor.tcpServers) == 1

    def test_on_several_endpoints_with_everyone_in_one_room(self, tmp_path: Path) -> None:
        path = tmp_path / "sock"
        with Server("--listen", LOOPBACK, "--listen", LOOPBACK, "--listen", f"unix:{path}") as server:
            eventually(lambda: "nc -U" in server.log())
            first, second = (
                int(line.split()[-1])
                for line in server.log().splitlines()
                if "listening on 127.0.0.1" in line
            )
            assert first != second
            ann, bob = Framed(first), Framed(second)
            for client, nick in ((ann, "ann"), (bob, "bob")):
                client.send(Join(nick, "", 0, 0, 0))
            ann.until(Joined, lambda message: message.nick == "bob")
            cid = on_path(path, "cid")
            ann.until(Joined, lambda message: message.nick == "cid")
            bob.send(Say(0, "", "hello"))
            assert ann.until(Chat).text == "hello"
            cid.until("bob: hello")
            cid.socket.sendall(b"hi there\n")
            assert bob.until(Chat).text == "hi there"

    def test_again_after_it_was_stopped(self, reactor: ReactorInMemory) -> None:
        service = ChatService(["tcp:9000"], reactor=reactor)
        for _ in range(2):
            service.startService()
            service.stopService()
        service.startService()
        assert len(reactor.tcpServers) == 3

    def test_on_a_unix_socket_that_a_killed_server_left_behind(self, tmp_path: Path) -> None:
        path = tmp_path / "sock"
        endpoints = ("--listen", LOOPBACK, "--listen", f"unix:{path}")
        with Server(*endpoints) as server:
            eventually(path.exists)
            server.process.kill()
            server.process.wait()
        assert path.exists()
        with Server(*endpoints):
            assert on_path(path, "ann")


class TestCannotListen:
    def refused(self, service: ChatService) -> str:
        with pytest.raises(NotStarted) as refused:
            service.startService()
        assert service.ports == []
        return str(refused.value)

    @pytest.mark.parametrize(
        ("error", "sentence"),
        [
            (PermissionError(13, "Permission denied"), "cannot listen, permission denied: tcp:80"),
            (
                OSError(99, "Cannot assign requested address"),
                "cannot listen, cannot assign requested address: tcp:80",
            ),
            (OSError("AF_UNIX path too long"), "cannot listen, AF_UNIX path too long: tcp:80"),
            ("Cannot acquire lock", "cannot listen, cannot acquire lock: tcp:80"),
        ],
    )
    def test_the_reason_is_one_sentence(
        self,
        reactor: ReactorInMemory,
        monkeypatch: pytest.MonkeyPatch,
        error: object,
        sentence: str,
    ) -> None:
        def listen(port: int, *rest: Any, **more: Any) -> IListeningPort:
            raise CannotListenError("", port, error)

        monkeypatch.setattr(reactor, "listenTCP", listen)
        assert self.refused(ChatService(["tcp:80"], reactor=reactor)) == sentence

    def test_what_was_opened_before_is_closed(
        self, reactor: ReactorInMemory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        closed: list[str] = []
        listen = reactor.listenUNIX

        def listen_unix(path: str, *rest: Any, **more: Any) -> IListeningPort:
            port: IListeningPort = listen(path, *rest, **more)
            port.stopListening = lambda: closed.append(path)  # type: ignore[method-assign]
            return port

        monkeypatch.setattr(reactor, "listenUNIX", listen_unix)
        service = ChatService(["unix:/a", "unix:/b", "nonsense:1"], reactor=reactor)
        assert self.refused(service) == "cannot listen, unknown endpoint type: 'nonsense': nonsense:1"
        assert closed == ["/a", "/b"]

    def test_where_other_machines_reach_it_is_refused_if_it_is_not_to_be_open(
        self, reactor: ReactorInMemory
    ) -> None:
        service = ChatService(["unix:/a", "tcp:9000"], reactor=reactor, is_open=False)
        assert self.refused(service) == (
            "anybody who reaches 0.0.0.0 could talk, without an account: tcp:9000"
        )

    def test_an_endpoint_that_takes_its_time_is_refused_and_closed_when_it_comes(
        self, reactor: ReactorInMemory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        later: Deferred[Any] = Deferred()
        closed: list[str] = []

        class Slow:
            def listen(self, factory: object) -> Deferred[Any]:
                return later

            def stopListening(self) -> None:
                closed.append("slow")

        monkeypatch.setattr(listening_module, "serverFromString", lambda reactor, description: Slow())
        sentence = self.refused(ChatService(["slow:1"], reactor=reactor))
        assert sentence == "cannot listen, it does not do so at once: slow:1"
        assert closed == []
        later.callback(Slow())
        assert closed == ["slow"]

    def test_a_failure_that_comes_late_is_not_logged_as_an_error(
        self, reactor: ReactorInMemory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waiting: list[Deferred[Any]] = [Deferred()]

        class Slow:
            def listen(self, factory: object) -> Deferred[Any]:
                return waiting[0]

        monkeypatch.setattr(listening_module, "serverFromString", lambda reactor, description: Slow())
        self.refused(ChatService(["slow:1"], reactor=reactor))
        with capturedLogs() as events:
            waiting.pop().errback(OSError("no"))  # the last reference: an error that nobody took is logged
        assert not events


class TestDescriptors:
    @pytest.fixture
    def limits(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
        """What was asked for, where 1,024 are open to a process that may have 4,096."""
        asked: list[tuple[int, int]] = []
        monkeypatch.setattr(resource, "getrlimit", lambda which: (1_024, 4_096))
        monkeypatch.setattr(resource, "setrlimit", lambda which, limits: asked.append(limits))
        return asked

    def test_as_many_as_may_be_had_are_asked_for(
        self, reactor: ReactorInMemory, limits: list[tuple[int, int]]
    ) -> None:
        ChatService([], reactor=reactor).startService()
        assert limits == [(4_096, 4_096)]

    def test_a_reactor_that_knows_only_the_first_thousand_gets_no_more(
        self, limits: list[tuple[int, int]]
    ) -> None:
        ChatService([], reactor=SelectReactor.__new__(SelectReactor)).privilegedStartService()
        assert limits == []

    def test_a_system_that_refuses_is_taken_as_it_is(
        self, reactor: ReactorInMemory, monkeypatch: pytest.MonkeyPatch, limits: list[tuple[int, int]]
    ) -> None:
        def refuse(which: int, wanted: tuple[int, int]) -> None:
            raise ValueError("not allowed to raise maximum limit")

        monkeypatch.setattr(resource, "setrlimit", refuse)
        with capturedLogs() as events:
            ChatService([], reactor=reactor).startService()
        assert "at most 1024 files can be open: not allowed to raise maximum limit" in map(
            formatEvent, events
        )


class TestBacklog:
    def said(self, reactor: ReactorInMemory) -> list[str]:
        with capturedLogs() as events:
            ChatService([], reactor=reactor).privilegedStartService()
        return [formatEvent(event) for event in events]

    def test_is_said(self, reactor: ReactorInMemory) -> None:
        assert "at most 1024 connections can wait at each endpoint" in self.said(reactor)

    def test_is_what_the_kernel_allows_if_that_is_less(
        self, reactor: ReactorInMemory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        place = tmp_path / "somaxconn"
        place.write_text("128\n")
        monkeypatch.setattr(service_module, "SOMAXCONN", place)
        assert f"at most 128 connections can wait at each endpoint: {place}" in self.said(reactor)


class TestEnds:
    @pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
    def test_with_a_goodbye_to_everybody_and_the_signal_as_its_exit_status(
        self, sent: signal.Signals
    ) -> None:
        with Server() as server:
            program, person = server.join("program"), on_port(server, "person")
            server.process.send_signal(sent)
            [goodbye] = [message for message in program.until_closed() if isinstance(message, Goodbye)]
            assert goodbye.retry_ms > 0
            assert person.until_closed().endswith("* goodbye: the server is shutting down\r\n")
            program.close()
            person.socket.close()
            assert server.process.wait(PATIENCE_S) == -sent
            assert "Traceback" not in server.log()

    def test_after_everybody_has_what_was_said_before(self) -> None:
        with Server() as server:
            ann, bob = server.join("ann"), server.join("bob")
            texts = [f"{number}" * 500 for number in range(200)]
            ann.send(*(Say(0, "", text) for text in texts))
            bob.until(
                Chat, lambda message: message.text == texts[-1]
            )  # so ann's are taken; cid reads nothing yet
            cid = server.connect()
            cid.send(Join("cid", "", 0, 0, 200))
            ann.until(Joined, lambda message: message.nick == "cid")
            server.process.send_signal(signal.SIGTERM)
            assert [message.text for message in cid.until_closed() if isinstance(message, Chat)] == texts
            assert isinstance(cid.received[-1], Goodbye)

    def test_in_time_when_somebody_never_reads(self) -> None:
        with Server("--close-timeout-s", "0.3") as server, somebody_deaf(server):
            ann = server.join("ann")
            assert server.stop() == -signal.SIGTERM
            assert isinstance(ann.until_closed()[-1], Goodbye)

    def test_with_those_who_have_not_said_yet_what_they_speak(self) -> None:
        with Server() as server:
            web = server.raw()
            web.sendall(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert web.recv(65_536).startswith(b"HTTP/1.1 200")  # kept alive
            silent, undecided = server.raw(), server.raw()
            undecided.sendall(b"GE")
            assert server.stop() == -signal.SIGTERM
            for plain in (silent, undecided, web):
                with suppress(ConnectionResetError):
                    while plain.recv(65_536):  # who was taken for a person meanwhile has been told goodbye
                        pass

    def test_and_takes_nobody_new_meanwhile(self) -> None:
        with Server("--close-timeout-s", "600", "--drain-timeout-s", "600") as server:
            with somebody_deaf(server):
                server.process.send_signal(signal.SIGTERM)
                eventually(lambda: not listens(server.port), "it still listens")
                assert server.process.poll() is None
            assert server.process.wait(PATIENCE_S) == -signal.SIGTERM

    def test_and_takes_its_unix_socket_away(self, tmp_path: Path) -> None:
        path = tmp_path / "sock"
        with Server("--listen", LOOPBACK, "--listen", f"unix:{path}") as server:
            eventually(path.exists)
            server.stop()
        assert os.listdir(tmp_path) == []


class TestLog:
    def test_has_nothing_that_strangers_sent(self) -> None:
        evil = "\x1b]0;owned\x07\x1b[2J\r\b\x7f\x9b31m\u202e".encode()
        with Server() as server:
            eventually(lambda: "talk: nc" in server.log())
            before = server.log()
            for nick, room, text in ((evil, b"", b""), (b"bob", evil, b""), (b"bob", b"", evil)):
                client = server.connect()
                client.send(Join(nick.decode(), room.decode(), 0, 0, 0), Say(1, room.decode(), text.decode()))
                client.close()
            for junk in (
                evil,
                b"\xff\xfd\x01" + evil + b"\n/nick " + evil + b"\n/" + evil + b"\n",
                b"\0\0\0\5\x01\x1b[2J",
                b"\0\0\1\0" + evil * 20,
                b"GET /" + evil + b" HTTP/1.1\r\nHost: a\r\nUser-Agent: " + evil + b"\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + evil + b"\r\n\r\n",
                b"GET / HTTP/1.1\r\nCookie: " + evil + b"\r\nRange: " + evil + b"\r\n\r\n",
                b"GET \x1b[2J \x1b[2J\r\n\r\n",
            ):
                with server.raw() as stranger, suppress(ConnectionResetError):
                    stranger.sendall(junk)
                    stranger.shutdown(socket.SHUT_WR)
                    while stranger.recv(65_536):
                        pass
            server.join("ann").close()
            assert server.log() == before
            server.stop()
            assert "Traceback" not in server.log()

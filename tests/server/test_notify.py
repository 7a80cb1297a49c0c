"""What systemd is told, on its datagram socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from server.memory import ReactorInMemory

from chatproto.server.notify import notify, watchdog_interval_s
from chatproto.server.service import ChatService


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def heard(told: socket.socket) -> list[str]:
    lines: list[str] = []
    while True:
        try:
            lines += told.recv(4_096).decode().split("\n")
        except BlockingIOError:
            return lines


class TestService:
    @pytest.fixture
    def service(self) -> ChatService:
        return ChatService(["unix:/a"], reactor=ReactorInMemory(), status="off")

    def test_is_ready_when_people_can_talk_and_not_before(
        self, service: ChatService, told: socket.socket
    ) -> None:
        service.privilegedStartService()
        assert heard(told) == []
        service.startService()
        assert heard(told) == ["READY=1", "STATUS=people can talk"]

    def test_says_that_it_reads_its_files_again_and_when_it_has(
        self, service: ChatService, told: socket.socket
    ) -> None:
        service.startService()
        heard(told)
        service.reload()
        reloading, since, ready = heard(told)
        assert (reloading, ready) == ("RELOADING=1", "READY=1")
        assert since.startswith("MONOTONIC_USEC=")

    def test_says_that_it_ends_before_it_does(self, service: ChatService, told: socket.socket) -> None:
        service.startService()
        heard(told)
        service.stopService()
        assert heard(told)[0] == "STOPPING=1"

    def test_is_alive_twice_as_often_as_is_wanted_until_it_has_ended(
        self, service: ChatService, told: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WATCHDOG_USEC", "10000000")
        service.startService()
        heard(told)
        clock = service._reactor
        for _ in range(4):
            clock.advance(5)
        assert heard(told) == ["WATCHDOG=1"] * 4
        service.stopService()
        clock.advance(60)
        heard(told)
        clock.advance(60)
        assert heard(told) == []


class TestSocket:
    def test_may_be_abstract(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(f"\0chatproto-test-{os.getpid()}")
            monkeypatch.setenv("NOTIFY_SOCKET", f"@chatproto-test-{os.getpid()}")
            notify("READY=1")
            assert listening.recv(100) == b"READY=1"

    @pytest.mark.parametrize("place", ["", "vsock:2:1", "/nowhere/at/all", "nonsense"])
    def test_may_be_none_or_gone(self, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
        monkeypatch.setenv("NOTIFY_SOCKET", place)
        notify("READY=1")

    def test_that_nobody_reads_is_not_waited_for(self, told: socket.socket) -> None:
        for _ in range(10_000):
            notify("WATCHDOG=1")
        assert heard(told)


class TestWatchdog:
    @pytest.mark.parametrize(
        ("microseconds", "pid", "interval_s"),
        [
            ("30000000", "", 15.0),
            ("30000000", "own", 15.0),
            ("30000000", "1", 0.0),
            ("", "", 0.0),
            ("x", "", 0.0),
        ],
    )
    def test_is_for_the_process_that_is_named(
        self, monkeypatch: pytest.MonkeyPatch, microseconds: str, pid: str, interval_s: float
    ) -> None:
        monkeypatch.setenv("WATCHDOG_USEC", microseconds)
        if pid:
            monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
        else:
            monkeypatch.delenv("WATCHDOG_PID", raising=False)
        assert watchdog_interval_s() == interval_s

"""Stores that are not to be used: said in one sentence, tried again ever more slowly, harming nobody."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from live import Server, eventually, free_port
from rooms.outlets import Failures
from shared.store import PumpedSharedLog, Store, needs_store

from chatproto.shared import link


@contextmanager
def answering(listening: socket.socket, answer: bytes) -> Iterator[None]:
    """Have something give *answer* to each command that comes to *listening*, whatever it is."""

    def serve(plain: socket.socket) -> None:
        with closing(plain), suppress(OSError):
            while data := plain.recv(2**16):
                plain.sendall(answer * (data.count(b"\r\n*") + 1))

    def accept() -> None:
        while True:
            try:
                plain, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(plain,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


@pytest.fixture
def unix(tmp_path: Path) -> socket.socket:
    """A Unix socket that is listened to."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "s"))
    listening.listen()
    return listening


def trouble_with(url: str, is_it: Callable[[str], bool] = lambda trouble: "out of reach" in trouble) -> str:
    """Why the store at *url* cannot be used."""
    log = PumpedSharedLog(url)
    log.until(lambda: is_it(log.trouble), "no trouble")
    trouble = log.trouble
    assert log.epoch == 0
    log.close_now()
    return trouble


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n", b":1\r\n", b"$-1\r\n", b"*1\r\n:1\r\n"]
)
def test_what_is_no_store_is_said_to_be_none(answer: bytes, unix: socket.socket, failures: Failures) -> None:
    with answering(unix, answer):
        trouble = trouble_with(f"redis+unix://{unix.getsockname()}")
    assert trouble == "the store is out of reach, what answers there is no Redis or Valkey"
    assert not failures.take()


def test_who_never_answers_is_not_waited_for_for_ever(
    unix: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "ANSWER_TIMEOUT_S", 0.3)
    with answering(unix, b""):
        trouble = trouble_with(f"redis+unix://{unix.getsockname()}")
    assert trouble == "the store is out of reach, it has not answered for 0.3 s"


def test_a_sentinel_that_never_answers_is_not_waited_for_for_ever() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    place = f"127.0.0.1:{listening.getsockname()[1]}"
    with answering(listening, b""), Server("--history", f"redis+sentinel://{place}/chat") as server:
        eventually(lambda: f"Sentinel {place} does not answer: " in server.log(), "nothing in the log")


@contextmanager
def two_ports(apart: int) -> Iterator[int]:
    """A port of loopback; the one that is so far above it is kept for who listens there too."""
    with socket.socket() as above:
        above.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        while True:
            port = free_port()
            with suppress(OSError, OverflowError):
                above.bind(("127.0.0.1", port + apart))
                break
        yield port


@pytest.mark.system
@needs_store
class TestRealStores:
    def test_a_cluster(self) -> None:
        with two_ports(10_000) as port, Store("--cluster-enabled", "yes", port=port) as store:
            assert "it is a node of a cluster" in trouble_with(f"redis+unix://{store.path}")

    def test_a_replica(self) -> None:
        with Store("--replicaof", "127.0.0.1", str(free_port())) as store:
            assert "it is a replica, and only the master can keep anything" in trouble_with(
                f"redis+unix://{store.path}"
            )

    def test_a_store_where_one_may_not_listen_is_not_asked_again_and_again(self) -> None:
        with Store("--user", "chat", "on", ">x", "~*", "resetchannels", "+@all") as store:
            log = PumpedSharedLog(f"redis+unix://chat:x@{store.path}")
            log.until(lambda: "NOPERM" in log.trouble, "no trouble")
            log.for_s(2)
            assert log.store.n_opened == 0
            log.close_now()
            assert int(store.ask("INFO", "stats").split("total_connections_received:")[1].split()[0]) < 50

    def test_a_connection_that_is_lost_at_once_is_opened_ever_more_slowly(self, store: Store) -> None:
        log = PumpedSharedLog(f"redis+unix://{store.path}")
        began_s = time.monotonic()
        for n in range(1, 7):
            log.until(lambda n=n: log.store.n_opened == n, "not opened again")  # type: ignore[misc]
            store.ask("CLIENT", "KILL", "TYPE", "pubsub")
        assert time.monotonic() - began_s > 0.5 * link.LEAST_WAIT_S * (1 + 2 + 4 + 8 + 16)
        log.close_now()

    def test_where_one_may_not_publish_nothing_is_kept_that_was_refused(self) -> None:
        with Store("--user", "chat", "on", ">x", "~*", "&*", "+@all", "-publish") as store:
            trouble = trouble_with(f"redis+unix://chat:x@{store.path}", lambda trouble: "refuses" in trouble)
            assert "run the 'publish' command" in trouble or "can't run this command" in trouble
            assert store.ask("DBSIZE") == 0

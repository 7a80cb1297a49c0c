"""Where `twistd chat` keeps what is said, and what it says of a file that it cannot use."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from live import PATIENCE_S, Server, ended, eventually

from chatproto.history.file import SCHEMA_VERSION
from chatproto.wire.messages import Ack, Chat, End, Error, Join, Say, Search, Welcome

BIN = Path(sys.executable).parent
LOOPBACK = ("--listen", "tcp:0:interface=127.0.0.1")


def start(folder: Path, *options: str, program: str = "twistd") -> subprocess.CompletedProcess[str]:
    """A server that does not come up."""
    command = [str(BIN / program), *(["-n", "--pidfile="] if program == "twistd" else [])]
    return ended(folder, *command, "chat", *LOOPBACK, *options)


def said(server: Server, *texts: str, room: str = "") -> None:
    """Have somebody say something, until it is acknowledged."""
    client = server.join("ann", room)
    for number, text in enumerate(texts, random.getrandbits(50)):
        client.send(Say(number, room, text))
        client.until(Ack, lambda ack, number=number: ack.id == number)  # type: ignore[misc]
    client.close()


def heard(server: Server, room: str = "") -> list[str]:
    """What somebody who comes now is shown."""
    client = server.join("bob", room, limit=100)
    client.close()
    return [chat.text for chat in client.of(Chat)]


class TestKeeps:
    def test_in_a_file_where_it_was_started(self) -> None:
        with Server() as server:
            said(server, "hello")
            eventually(lambda: f"what is said is kept in {server.folder.name}/chat.sqlite" in server.log())
            assert (Path(server.folder.name) / "chat.sqlite").stat().st_mode & 0o777 == 0o600

    def test_over_restarts_with_the_same_epoch(self, tmp_path: Path) -> None:
        path = tmp_path / "said"
        epochs = []
        for number in range(3):
            with Server("--history", str(path)) as server:
                assert heard(server) == [f"text {earlier}" for earlier in range(number)]
                said(server, f"text {number}")
                epochs.append(server.join("cid").of(Welcome)[0].epoch)
                server.stop()
                assert "Traceback" not in server.log()
        assert len(set(epochs)) == 1

    def test_in_memory_when_told_so_with_another_epoch_each_time(self) -> None:
        epochs = set()
        for _ in range(2):
            with Server("--history", "memory") as server:
                assert heard(server) == []
                said(server, "hello")
                assert heard(server) == ["hello"]
                epochs.add(server.join("cid").of(Welcome)[0].epoch)
                assert sorted(os.listdir(server.folder.name)) == ["chat.ctl", "log"]
                assert "kept in memory, and forgotten with this process" in server.log()
        assert len(epochs) == 2

    def test_within_the_limits_that_were_given(self) -> None:
        with Server("--max-history-room-messages", "3") as server:
            said(server, *(f"text {number}" for number in range(50)))
            eventually(lambda: heard(server) == ["text 47", "text 48", "text 49"])

    def test_what_can_be_searched_for_after_a_restart(self, tmp_path: Path) -> None:
        path = tmp_path / "said"
        with Server("--history", str(path)) as server:
            said(server, "the cat sat", "on the mat")
            server.stop()
        with Server("--history", str(path)) as server:
            client = server.join("bob")
            client.send(Search("", "CAT", 10))
            assert client.until(Chat).text == "the cat sat"
            client.until(End)
            client.close()

    def test_what_somebody_had_said_when_it_was_told_to_end(self, tmp_path: Path) -> None:
        path = tmp_path / "said"
        with Server("--history", str(path)) as server:
            client = server.join("ann")
            client.send(*(Say(number, "", f"text {number}") for number in range(1, 201)))
            client.until(Ack)
            server.process.send_signal(signal.SIGTERM)
            client.until_closed()
            newest = max(ack.id for ack in client.of(Ack))
            client.close()
            server.process.wait(PATIENCE_S)
        with Server("--history", str(path)) as server:
            kept = heard(server, "")
            client = server.join("cid", limit=1_000)
            kept = [chat.text for chat in client.of(Chat)]
            assert kept == [f"text {number}" for number in range(1, len(kept) + 1)]
            assert len(kept) >= newest
            client.close()


class TestIdsOutliveIt:
    def test_what_is_sent_again_after_a_restart_is_kept_once(self, tmp_path: Path) -> None:
        path = tmp_path / "said"
        receipts = []
        for _ in range(2):
            with Server("--history", str(path)) as server:
                client = server.join("ann")
                client.send(Say(77, "", "once"))
                receipts.append(client.until(Ack))
                client.close()
                assert heard(server) == ["once"]
                server.process.kill()
        assert receipts[0] == receipts[1]


class TestRefuses:
    def assert_refused(self, folder: Path, path: Path, reason: str, program: str = "twistd") -> None:
        before = path.read_bytes() if path.is_file() else None
        there = sorted(os.listdir(folder))
        refused = start(folder, "--history", str(path), program=program)
        shown = refused.stdout + refused.stderr
        assert refused.returncode == 1
        sentence = f"the history cannot be used, {reason}: {path}; name another file, or mend this one"
        assert shown.rstrip().endswith(sentence)
        assert "Traceback" not in shown
        assert (path.read_bytes() if path.is_file() else None) == before
        assert sorted(os.listdir(folder)) == there

    @pytest.mark.parametrize("program", ["twistd", "twist"])
    def test_a_file_that_is_something_else(self, tmp_path: Path, program: str) -> None:
        path = tmp_path / "letter.txt"
        path.write_text("Dear all,\n" * 50)
        self.assert_refused(tmp_path, path, "it is not an SQLite database", program)

    def test_another_programs_database(self, tmp_path: Path) -> None:
        path = tmp_path / "other.sqlite"
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE mine (x)")
        self.assert_refused(tmp_path, path, "it belongs to another program")

    def test_one_that_a_newer_version_made(self, tmp_path: Path) -> None:
        path = tmp_path / "chat.sqlite"
        with Server("--history", str(path)) as server:
            said(server, "hello")
            server.stop()
        with closing(sqlite3.connect(path)) as newer:
            newer.execute("PRAGMA journal_mode = DELETE")
            newer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        self.assert_refused(tmp_path, path, "a newer version of this program made it")

    def test_a_folder(self, tmp_path: Path) -> None:
        path = tmp_path / "folder"
        path.mkdir()
        self.assert_refused(tmp_path, path, "it is no file")

    def test_a_place_that_is_not_there(self, tmp_path: Path) -> None:
        self.assert_refused(tmp_path, tmp_path / "nowhere" / "chat.sqlite", "no such file or directory")

    def test_one_that_another_server_uses(self, tmp_path: Path) -> None:
        path = tmp_path / "chat.sqlite"
        with Server("--history", str(path)) as server:
            said(server, "hello")
            refused = start(tmp_path, "--history", str(path))
            assert refused.returncode == 1
            assert "another server is writing to it" in refused.stdout + refused.stderr
            assert heard(server) == ["hello"]

    def test_as_a_daemon_too(self, tmp_path: Path) -> None:
        path = tmp_path / "letter.txt"
        path.write_text("Dear all,\n" * 50)
        refused = ended(tmp_path, str(BIN / "twistd"), "chat", *LOOPBACK, "--history", str(path))
        assert refused.returncode == 1
        assert "the history cannot be used, it is not an SQLite database" in refused.stderr
        assert "Traceback" not in refused.stderr

        def is_told_in_the_log() -> bool:
            return f"{path}; name another file" in (tmp_path / "twistd.log").read_text()

        eventually(is_told_in_the_log)
        eventually(lambda: sorted(os.listdir(tmp_path)) == ["letter.txt", "twistd.log"])
        assert path.read_text() == "Dear all,\n" * 50


class TestGoesOn:
    def test_while_the_file_is_locked_and_when_it_is_not_any_more(self, tmp_path: Path) -> None:
        path = tmp_path / "chat.sqlite"
        with Server("--history", str(path), "--history-lock-timeout-s", "0.1") as server:
            said(server, "before")
            ann, bob = server.join("dan"), server.join("eve")
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                ann.send(Say(1, "", "lost"))
                refusal = ann.until(Error)
                assert (refusal.code, refusal.id) == (13, 1)
                assert "another program has locked it" in refusal.text
                eventually(
                    lambda: "the history cannot be kept, another program has locked it" in server.log()
                )
                other.execute("ROLLBACK")
            eventually(lambda: "the history can be kept again" in server.log())
            ann.send(Say(1, "", "kept"))
            assert ann.until(Ack).seq == 2
            assert bob.until(Chat).text == "kept"
            assert heard(server) == ["before", "kept"]
            ann.close()
            bob.close()


def test_bounds_of_the_file_may_be_given() -> None:
    with Server(
        "--max-history-age-s=86400", "--max-history-bytes=100000000", "--remember-ids-s=60"
    ) as server:
        said(server, "hello")
        client = server.connect()
        client.send(Join("cid", "", 0, 0, 10))
        assert client.until(Chat).text == "hello"
        client.close()

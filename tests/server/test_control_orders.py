"""What an operator does over the control socket, with the program that is there for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import PATIENCE_S, Server, eventually
from server.controlling import PROGRAM, Control, ctl, socket_of

from chatproto.accounts.passwordfile import edit_accounts, new_account
from chatproto.wire.messages import (
    Ack,
    Chat,
    End,
    Error,
    Goodbye,
    History,
    Join,
    Left,
    Login,
    Notice,
    Roster,
    Say,
    Welcome,
)

TWISTD = str(Path(sys.executable).parent / "twistd")
ME = f"control:{os.geteuid()}"


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    """One for all tests that mend what they do."""
    with Server("--audit-log", "audit") as running:
        yield running


def audit(server: Server) -> list[dict[str, object]]:
    text = (Path(server.folder.name) / "audit").read_text()
    return [json.loads(line) for line in text.splitlines()]


def done(server: Server, *arguments: str) -> str:
    """What is said when it is done."""
    ended = ctl(server, *arguments)
    assert (ended.code, ended.errors) == (0, "")
    return ended.output


def refused(server: Server, *arguments: str) -> str:
    ended = ctl(server, *arguments)
    assert (ended.code, ended.output) == (1, "")
    return ended.errors


def refused_join(server: Server, nick: str, room: str = "") -> str:
    client = server.connect()
    client.send(Join(nick, room, 0, 0, 0))
    text = client.until(Error).text
    client.close()
    return text


def test_kick_out_of_a_room_and_out_of_the_server(shared: Server) -> None:
    kim = shared.join("kim", "ops")
    kim.send(Join("kim", "lobby", 0, 0, 0))
    kim.until(End)
    said = done(shared, "kick", "kim", "--room", "ops", "--reason", "too loud")
    assert said == "kim was kicked out of ops: too loud\n"
    assert kim.until(Notice).text == "you were kicked out of ops: too loud"
    assert kim.until(Left).room == "ops"
    assert done(shared, "kick", "kim") == "kim was kicked out of this server\n"
    assert "kicked out of this server" in kim.until(Error).text
    kim.until_closed()
    assert refused(shared, "kick", "kim") == "chatproto-ctl: kim is not here\n"
    assert refused(shared, "kick", "*") != ""
    first, second = audit(shared)[-2:]
    assert first["time"]
    assert {**first, "time": ""} == {
        "time": "",
        "operator": ME,
        "act": "kick",
        "target": "kim",
        "room": "ops",
        "seconds": 0,
        "reason": "too loud",
    }
    assert (second["room"], second["operator"]) == ("", ME)
    assert f'"operator": "{ME}", "act": "kick"' in shared.log()


@pytest.mark.parametrize("who", ["bo", "address:127.0.0.1", "address:127.0.0.0/8"])
def test_ban_from_a_room_for_a_time_and_let_in_again(shared: Server, who: str) -> None:
    shown = who.removesuffix("/32")
    assert (
        done(shared, "ban", who, "--room", "den", "--for", "2h")
        == f"{shown} was banned from den for 7200 s\n"
    )
    assert refused_join(shared, "bo", "den").startswith("you are banned from den until ")
    [rule] = ctl(shared, "rules", "--room", "den", "--json").rows
    assert (rule["action"], rule["room"]) == ("ban", "den")
    assert abs(rule["until_ms"] / 1000 - time.time() - 7_200) < 60
    assert rule["who"] == ("address:127.0.0.1/32" if who == "address:127.0.0.1" else who)
    assert rule["who"] in ctl(shared, "rules").output
    # What is shown of a rule can be given to lift it.
    assert "was let back into den" in done(shared, "unban", rule["who"], "--room", "den")
    shared.join("bo", "den").close()
    assert audit(shared)[-1]["act"] == "unban"
    assert ctl(shared, "rules", "--json").output == ""


def test_mute_and_unmute(shared: Server) -> None:
    mia = shared.join("mia", "quiet")
    assert done(shared, "mute", "mia", "--for", "90s") == "mia was muted in this server for 90 s\n"
    mia.send(Say(1, "quiet", "hello"))
    assert mia.until(Error).text.startswith("you are muted in this server until ")
    done(shared, "unmute", "mia")
    mia.send(Say(2, "quiet", "hello"))
    assert mia.until(Ack).id == 2
    assert done(shared, "unmute", "mia") == "mia was not muted in this server\n"
    mia.close()


def test_lock_a_room_and_open_it(shared: Server) -> None:
    lou = shared.join("lou", "vault")
    assert (
        done(shared, "lock", "vault", "--for", "1d")
        == "vault was locked: only operators get in for 86400 s\n"
    )
    assert lou.until(Notice).text.startswith("vault was locked")
    assert "locked" in refused_join(shared, "eve", "vault")
    [room] = [row for row in ctl(shared, "rooms", "--json").rows if row["room"] == "vault"]
    assert room["is_locked"]
    assert done(shared, "unlock", "vault") == "vault was opened again\n"
    shared.join("eve", "vault").close()
    lou.close()


def test_remove_a_message(shared: Server) -> None:
    ann = shared.join("ann", "past")
    ann.send(Say(1, "past", "embarrassing"))
    seq = ann.until(Ack).seq
    assert done(shared, "remove", "past", str(seq)) == f"message {seq} of past was removed\n"
    ann.send(History("past", 0, 10))
    assert ann.until(Chat).text == "(removed)"
    assert refused(shared, "remove", "past", "99") == "chatproto-ctl: there is no such message in past\n"
    assert (audit(shared)[-1]["act"], audit(shared)[-1]["target"]) == ("remove", f"message:{seq}")
    ann.close()


def test_sessions_of_an_account_are_listed_and_ended(tmp_path: Path) -> None:
    accounts = tmp_path / "accounts"
    with edit_accounts(str(accounts)) as known:
        known["ann"] = new_account("ann", "correct horse", ["ann", "annie"], False)
    with Server("--accounts", str(accounts)) as server:
        both = []
        for nick in ("ann", "annie"):
            client = server.connect()
            client.send(Login("ann", "correct horse"), Join(nick, "", 0, 0, 0))
            client.until(Roster)
            both.append(client)
        bob = server.join("bob")
        rows = ctl(server, "sessions", "ann", "--json").rows
        assert [(row["nick"], row["account"], row["rooms"]) for row in rows] == [
            ("ann", "ann", ["lobby"]),
            ("annie", "ann", ["lobby"]),
        ]
        assert ctl(server, "sessions", "nobody", "--json").output == ""
        assert "annie" in ctl(server, "sessions", "ann").output
        ids = [client.of(Welcome)[0].id for client in both]
        assert [row["id"] for row in rows] == ids
        assert done(server, "end-session", str(ids[0])) == f"session {ids[0]} was ended\n"
        assert "ended from elsewhere" in both[0].until(Error).text
        assert refused(server, "end-session", str(ids[0])) == "chatproto-ctl: there is no such session\n"
        assert done(server, "ban", "account:ann", "--for", "1w").startswith("account:ann was banned")
        assert both[1].until(Error).text
        assert bob.of(Error) == []


def test_a_ban_outlives_the_server(tmp_path: Path) -> None:
    command = [
        TWISTD,
        "-n",
        "--pidfile=",
        f"--rundir={tmp_path}",
        "chat",
        "--listen",
        "tcp:0:interface=127.0.0.1",
    ]
    path = tmp_path / "chat.ctl"
    with Server(command=command) as server:
        assert ctl(path, "ban", "mallory", "--reason", "spam").code == 0
        server.process.kill()
    with Server(command=command) as server:
        assert [row["who"] for row in ctl(path, "rules", "--json").rows] == ["mallory"]
        assert refused_join(server, "mallory") == "you are banned from this server: spam"
        assert ctl(path, "unban", "mallory").code == 0
        server.process.kill()
    with Server(command=command) as server:
        assert ctl(path, "rules", "--json").output == ""
        server.join("mallory").close()


class TestReload:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "chat.toml"
        path.write_text('listen = ["tcp:0:interface=127.0.0.1"]\nhistory = "memory"\n')
        return path

    def test_shows_what_changed_and_what_waits_for_a_restart(self, file: Path) -> None:
        with Server(command=[TWISTD, "-n", "--pidfile=", "chat", "--config", str(file)]) as server:
            assert done(server, "reload") == f"{file} was read again: nothing is new\n"
            file.write_text(file.read_text() + 'max_text_bytes = 5\nroom = "hall"\n')
            assert done(server, "reload") == (
                f"{file} was read again: 2 settings are new\n"
                'room is "hall" instead of "lobby": it holds after a restart\n'
                "max_text_bytes is 5 instead of 4096: it holds at once\n"
            )
            ann = server.join("ann")
            ann.send(Say(1, "", "hello!"))
            assert "5 bytes" in ann.until(Error).text
            *_, room, end = ctl(server, "reload", "--json").rows
            assert (room["name"], room["old"], room["new"]) == ("room", '"lobby"', '"hall"')
            assert (room["holds"], room["level"]) == ("after a restart", "info")
            assert end == {"errors": 0}

            file.write_text("max_text_bytes = true\n")
            ended = ctl(server, "reload")
            assert ended.code == 1
            assert ended.output == (
                f"{file}, line 1: max_text_bytes needs a whole number, not true; nothing was changed\n"
            )
            server.process.send_signal(signal.SIGHUP)  # still does the same
            eventually(lambda: server.log().count("nothing was changed") == 2)

    def test_without_a_file_there_is_nothing_to_read(self, shared: Server) -> None:
        assert done(shared, "reload") == "there is no --config file to read again\n"


class TestDrain:
    def test_is_as_after_sigterm_and_waits_for_the_end(self) -> None:
        with Server() as server:
            ann = server.join("ann")
            ann.send(Say(1, "", "the last word"))
            ann.until(Ack)
            draining = subprocess.Popen(
                [PROGRAM, "--socket", str(socket_of(server)), "drain"], stdout=subprocess.PIPE, text=True
            )
            assert ann.until(Goodbye).text == "the server is shutting down"
            ann.until_closed()
            ann.close()
            output, _ = draining.communicate(timeout=PATIENCE_S)
            assert draining.returncode == 0
            assert output.endswith("\nthe server has ended\n")
            assert server.process.wait(PATIENCE_S) == 0
            assert not socket_of(server).exists()
            assert "Traceback" not in server.log()

    def test_one_can_still_look_and_cannot_ask_for_it_twice(self) -> None:
        with Server("--close-timeout-s", "600") as server:
            deaf = server.join("deaf")  # does not close its side
            control, other = Control(server), Control(server)
            control.send(do="drain", within_s=600)
            assert control.row() == {"connections": 1, "within_s": 600}
            deaf.until(Goodbye)
            assert other.ask(do="status")[1]["done"]["state"] == "going"
            assert other.refusal(do="drain") == "the server is ending already"
            assert "is ending" in ctl(server, "status").output
            deaf.close()
            assert control.line() == {"done": {"text": "the server has ended"}}
            assert (control.line(), other.line()) == ({}, {})

    def test_cuts_off_who_is_there_when_the_time_is_over(self) -> None:
        with Server("--drain-timeout-s", "600", "--close-timeout-s", "600") as server:
            deaf = server.join("deaf")
            assert ctl(server, "drain", "--within", "1s").code == 0
            assert server.process.wait(PATIENCE_S) == 0
            deaf.close()

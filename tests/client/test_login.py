"""chatproto-connect logs in to a real server with accounts: in a pipe, as JSON, at a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from client.terminal.teletype import ALTERNATE_SCREEN, Teletype
from live import PATIENCE_S, Server

from chatproto.accounts.passwordfile import FileAccount, edit_accounts
from chatproto.accounts.scrypt import hash_password

SECRET = "pass word\\nüber"
KEPT_OUT = "log in before you join; --user NAME does"
ENTER, CTRL_C, CTRL_D = "\r", "\x03", "\x04"


@pytest.fixture
def accounts(tmp_path: Path) -> Path:
    path = tmp_path / "accounts"
    with edit_accounts(str(path)) as accounts:
        accounts["ann"] = FileAccount("ann", frozenset({"ann"}), hash=hash_password(SECRET, log_n=10))
    return path


@pytest.fixture
def strict(accounts: Path) -> Iterator[Server]:
    """A server on which nobody talks who is not logged in."""
    with Server("--accounts", str(accounts), "--login-required") as server:
        yield server


def run(
    server: Server, *arguments: str, secret: str | None = SECRET, said: str = ""
) -> subprocess.CompletedProcess[str]:
    """The program without a terminal, to its end."""
    environment = {name: value for name, value in os.environ.items() if name != "CHATPROTO_SECRET"}
    if secret is not None:
        environment["CHATPROTO_SECRET"] = secret
    return subprocess.run(
        [sys.executable, "-m", "chatproto.client.connect", f"127.0.0.1:{server.port}", *arguments],
        env=environment,
        input=said,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        start_new_session=True,
    )


class TestInAPipe:
    def test_the_secret_is_in_the_environment(self, strict: Server) -> None:
        ended = run(strict, "--user", "ann", said="hello\n/who\n")
        assert (ended.returncode, ended.stderr) == (0, "")
        notice, connected, entered, roster = ended.stdout.splitlines()
        assert notice == "-- the server says: you are logged in"
        assert connected.endswith(" as ann")
        assert entered == "-- you are in lobby, with ann"
        assert roster == "-- lobby: ann"

    def test_as_json(self, strict: Server) -> None:
        ended = run(strict, "--user", "ann", "--json", said='{"type": "say", "text": "hello"}\n')
        assert (ended.returncode, ended.stderr) == (0, "")
        kinds = [json.loads(line)["type"] for line in ended.stdout.splitlines()]
        assert kinds == ["notice", "connected", "entered", "ack"]

    @pytest.mark.parametrize(
        ("arguments", "secret", "why"),
        [
            (("--user", "ann"), "wrong", "wrong user or secret"),
            (("--user", "nobody"), SECRET, "wrong user or secret"),
            (("--nick", "ann"), SECRET, KEPT_OUT),
            (("--user", "ann", "--nick", "a/b"), SECRET, "A nickname"),
        ],
    )
    @pytest.mark.parametrize("form", ["--plain", "--json"])
    def test_who_is_not_let_in_is_told_why(
        self, strict: Server, arguments: tuple[str, ...], secret: str, why: str, form: str
    ) -> None:
        ended = run(strict, *arguments, form, secret=secret)
        assert ended.returncode == 4
        [sentence] = ended.stderr.splitlines()
        assert sentence.startswith(f"chatproto-connect: refused by 127.0.0.1 port {strict.port}: {why}")

    def test_what_is_said_is_not_taken_for_the_secret(self, strict: Server) -> None:
        ended = run(strict, "--user", "ann", secret=None, said=f"{SECRET}\n")
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr.splitlines()[-1] == (
            "chatproto-connect: error: nobody is there to be asked for the secret; "
            "the environment's CHATPROTO_SECRET can tell it"
        )

    @pytest.mark.parametrize("secret", ["", "x" * 70_000])
    def test_a_secret_that_is_none_is_one_sentence(self, strict: Server, secret: str) -> None:
        ended = run(strict, "--user", "ann", secret=secret)
        assert ended.returncode != 0
        [sentence] = ended.stderr.splitlines()
        assert sentence.startswith("chatproto-connect: ")
        assert secret == "" or secret not in sentence

    def test_a_server_without_accounts_says_so(self) -> None:
        with Server() as server:
            ended = run(server, "--user", "ann")
        assert ended.returncode == 4
        assert ended.stderr.endswith("this server has no accounts; join without login\n")


class TestAtATerminal:
    def teletype(self, server: Server, *arguments: str) -> Teletype:
        return Teletype(f"127.0.0.1:{server.port}", *arguments)

    @pytest.mark.parametrize("form", ["--plain", "--no-bell"])
    def test_the_secret_is_asked_for_and_not_shown(self, strict: Server, form: str) -> None:
        with self.teletype(strict, "--user", "ann", form) as terminal:
            terminal.shows("secret of ann:")
            terminal.type(SECRET, ENTER)
            terminal.shows("lobby")
            assert SECRET.encode() not in terminal.raw
            terminal.type(CTRL_D)
            assert terminal.ended() == 0

    def test_ctrl_c_instead_of_the_secret_ends_it(self, strict: Server) -> None:
        with self.teletype(strict, "--user", "ann") as terminal:
            terminal.shows("secret of ann:")
            terminal.type(CTRL_C)
            assert terminal.ended() == 130
            assert "Traceback" not in terminal.text

    def test_a_wrong_secret_ends_it_before_the_screen_is_taken(self, strict: Server) -> None:
        with self.teletype(strict, "--user", "ann") as terminal:
            terminal.shows("secret of ann:")
            terminal.type("wrong", ENTER)
            assert terminal.ended() == 4
            terminal.shows("wrong user or secret")
            assert ALTERNATE_SCREEN not in terminal.raw

    def test_who_has_to_log_in_is_told_how(self, strict: Server) -> None:
        with self.teletype(strict, "--nick", "ann") as terminal:
            assert terminal.ended() == 4
            assert terminal.is_restored()
            assert KEPT_OUT in terminal.text.replace("\n", "")

    def test_whose_account_is_gone_is_told_so(self, strict: Server, accounts: Path) -> None:
        with self.teletype(strict, "--user", "ann") as terminal:
            terminal.shows("secret of ann:")
            terminal.type(SECRET, ENTER)
            terminal.shows("ann · lobby")
            with edit_accounts(str(accounts)) as kept:
                del kept["ann"]
            assert terminal.ended() == 4
            assert KEPT_OUT in terminal.text.replace("\n", "")

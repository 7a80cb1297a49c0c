"""Who may talk, on the real server: logins over every face, guessers, bans that outlive it, the audit log."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest
from forms import Form, Frames, Json
from live import PATIENCE_S, Framed, Server, ended, eventually

from chatproto.accounts.passwordfile import FileAccount, edit_accounts
from chatproto.accounts.scrypt import hash_password
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Ack, Chat, End, Error, Join, Left, Login, Moderate, Notice, Say

KICK, BAN, UNBAN, MUTE = 1, 2, 3, 4

SECRET = "a secret that is in no log"
TOKEN_KEY = "0123456789abcdef0123456789abcdef"

ACCOUNTS = {
    name: FileAccount(name, frozenset({name}), name == "op", hash=hash_password(SECRET, log_n=10))
    for name in ("op", "ann", "bob")
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with edit_accounts(str(tmp_path / "accounts")) as accounts:
        accounts.update(ACCOUNTS)
    return tmp_path


def serve(folder: Path, *options: str) -> Server:
    """A server with accounts, whose files are in *folder*."""
    paths = {"accounts": "accounts", "rules": "rules", "history": "said", "audit-log": "audit"}
    named = [word for name, file in paths.items() for word in (f"--{name}", str(folder / file))]
    return Server(*named, "--close-timeout-s", "0.5", *options)


FORMS: dict[str, Callable[[], Form]] = {"frames": Frames, "json": Json}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Callable[[], Form]:
    return FORMS[request.param]


def connect(server: Server, form: Callable[[], Form] = Frames) -> Framed:
    return Framed(server.port, form())


def log_in(server: Server, user: str, secret: str = SECRET, form: Callable[[], Form] = Frames) -> Framed:
    """Someone who is logged in, and has not joined."""
    client = connect(server, form)
    client.send(Login(user, secret))
    assert client.until(Notice) == Notice("you are logged in")
    return client


def enter(client: Framed, nick: str, room: str = "") -> Framed:
    client.send(Join(nick, room))
    client.until(End)
    return client


def order(op: Framed, action: int, target: str, seconds: int = 0, reason: str = "", room: str = "") -> str:
    """Have an operator do something; what they are told."""
    before = len(op.received)
    op.send(Moderate(action, room, target, seconds, reason))
    answers: list[Notice | Error] = []

    def is_answered() -> bool:
        answers[:] = [one for one in op.received[before:] if isinstance(one, Notice | Error)]
        return bool(answers)

    op.gather(is_answered, "an answer to the order")
    return answers[0].text


def refusal(client: Framed, *messages: Join | Login | Say) -> Error:
    client.send(*messages)
    return client.until(Error)


class TestLogin:
    def test_over_every_face(self, folder: Path, form: Callable[[], Form]) -> None:
        with serve(folder, "--login-required") as server:
            stranger = connect(server, form)
            assert refusal(stranger, Join("ann")).code == ErrorCode.LOGIN_REQUIRED
            assert refusal(stranger, Login("ann", "wrong")).code == ErrorCode.LOGIN_FAILED
            assert refusal(stranger, Login("nobody", SECRET)).code == ErrorCode.LOGIN_FAILED
            assert refusal(stranger, Login("ann", "")).code == ErrorCode.LOGIN_FAILED
            stranger.until_closed()
            ann = enter(log_in(server, "ann", form=form), "ann")
            op = enter(log_in(server, "op", form=form), "op")
            assert order(op, MUTE, "ann") == "ann was muted in lobby"
            assert refusal(ann, Say(7, "", "hi")).code == ErrorCode.NOT_ALLOWED

    def test_by_lines(self, folder: Path) -> None:
        with serve(folder, "--login-required") as server, server.raw() as plain:
            lines = plain.makefile("rwb", buffering=0)
            lines.write(f"/login ann {SECRET}\r\nann\r\n/sessions\r\n/quit\r\n".encode())
            shown = lines.read().decode()
        assert "welcome, ann" in shown
        assert ", this one: ann in lobby, since " in shown
        assert " from 127.0.0.1" in shown
        assert SECRET not in shown

    def test_a_nickname_of_an_account_is_its_own(self, folder: Path) -> None:
        with serve(folder) as server:
            assert refusal(connect(server), Join("ANN")).code == ErrorCode.NICK_TAKEN
            assert refusal(log_in(server, "bob"), Join("ann")).code == ErrorCode.NICK_TAKEN
            enter(log_in(server, "ann"), "ann")

    def test_by_a_token(self, folder: Path, form: Callable[[], Form]) -> None:
        (folder / "key").write_text(TOKEN_KEY)
        claims = {"sub": "cid", "aud": "chatproto", "exp": int(time.time()) + 3_600, "operator": True}
        token = jwt.encode(claims, TOKEN_KEY)
        with serve(folder, "--login-required", "--token-key", str(folder / "key")) as server:
            cid = enter(log_in(server, "", token, form), "cid")
            ann = enter(log_in(server, "ann"), "ann")
            assert order(cid, KICK, "ann") == "ann was kicked out of lobby"
            assert ann.until(Left).reason == "kicked"
            assert refusal(connect(server, form), Login("ann", token)).code == ErrorCode.LOGIN_FAILED
            server.stop()
            assert token not in server.log()

    def test_an_account_that_is_added_or_removed_is_so_within_seconds(self, folder: Path) -> None:
        with serve(folder) as server:
            bob = enter(log_in(server, "bob"), "bob")
            with edit_accounts(str(folder / "accounts")) as accounts:
                del accounts["bob"]
                accounts["cid"] = FileAccount("cid", hash=ACCOUNTS["bob"].hash)
            log_in(server, "cid")
            assert bob.until(Error).text == "your account was removed"
            bob.until_closed()


class TestGuessers:
    def test_they_are_slowed_down_over_all_their_connections(self, folder: Path) -> None:
        with serve(folder, "--login-burst", "5", "--login-interval-s", "1000") as server:
            errors = [refusal(connect(server), Login("ann", f"guess {number}")) for number in range(5)]
            assert {error.code for error in errors} == {ErrorCode.LOGIN_FAILED}
            waiting = connect(server)
            waiting.send(Login("ann", SECRET))  # it waits for a thousand seconds, and what comes now for more
            for user in ("ann", "bob", "nobody"):
                error = refusal(connect(server), Login(user, SECRET))
                assert error.code == ErrorCode.RATE_LIMITED
                assert "too many logins were tried; try again in" in error.text
            assert waiting.received == []
            server.join("stranger")  # who needs no account is not held up

    def test_a_flood_of_logins_delays_nobody_who_talks(self, folder: Path) -> None:
        dear = hash_password(SECRET, log_n=16)
        with edit_accounts(str(folder / "accounts")) as accounts:
            accounts["ann"] = FileAccount("ann", hash=dear)
        options = ("--login-burst", "100000", "--max-waiting-logins", "6", "--join-timeout-s", "60")
        in_memory = ("--history", "memory")  # or the disk decides how soon what is said is acknowledged
        with serve(folder, *options, *in_memory) as server:
            ann, bob = server.join("anna"), server.join("bobby")
            flood = [connect(server) for _ in range(100)]
            for client in flood:
                client.send(Login("ann", "wrong"))
            for number in range(1, 21):
                ann.send(Say(number, "", f"text {number}"))
                ann.until(Ack)
                assert bob.until(Chat).text == f"text {number}"
            for client in flood:
                client.drain()
            # All of that was said before the few that may wait at all were checked.
            assert [client for client in flood if not client.received]
            answered = [client.until(Error) for client in flood]
            assert {error.code for error in answered} == {ErrorCode.LOGIN_FAILED, ErrorCode.RATE_LIMITED}
            later = [error for error in answered if error.code == ErrorCode.RATE_LIMITED]
            assert {error.text for error in later} == {
                "too many people are logging in at the moment; try again in a few seconds"
            }
            threads = [
                Path(task.path, "comm").read_text().strip()
                for task in os.scandir(f"/proc/{server.process.pid}/task")
            ]
            assert len(threads) <= 6, threads


class TestSecrets:
    def test_none_is_in_any_log_or_file(self, folder: Path) -> None:
        (folder / "key").write_text(TOKEN_KEY)
        options = ("--token-key", str(folder / "key"), "--log-format", "json")
        with serve(folder, *options) as server:
            log_in(server, "ann").close()
            connect(server).send(Login("ann", f"wrong {SECRET}"))
            refusal(connect(server), Login(SECRET, SECRET))
            refusal(connect(server, Json), Login("ann", f"{SECRET}\x00\x1b"))
            with server.raw() as plain:
                plain.sendall(f"/login ann {SECRET}\n/login {SECRET}\n/logn ann {SECRET}\n".encode())
                plain.shutdown(socket.SHUT_WR)
                while plain.recv(4_096):
                    pass
            broken = connect(server)
            broken.socket.sendall(b"\x00\x00\x00\x40\x09\xff\xff" + SECRET.encode() + bytes(40))
            broken.until_closed()
            server.stop()
            log = server.log()
        assert "Traceback" not in log
        written = [path.read_bytes() for path in folder.iterdir() if path.name != "key"]
        for secret in (SECRET, TOKEN_KEY):
            assert secret not in log
            assert not [data for data in written if secret.encode() in data]


class TestModeration:
    def test_what_was_forbidden_stays_so_after_a_crash(self, folder: Path) -> None:
        with serve(folder) as server:
            op = enter(log_in(server, "op"), "op")
            for target in ("bad", "account:bob"):
                assert order(op, BAN, target, reason="spam").endswith("was banned from lobby: spam")
            order(op, BAN, "brief", seconds=1)
            order(op, MUTE, "loud")
            order(op, BAN, "*", room="closed")
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
        with serve(folder) as server:
            assert refusal(connect(server), Join("bad")).text == "you are banned from lobby: spam"
            assert refusal(log_in(server, "bob"), Join("bob")).code == ErrorCode.NOT_ALLOWED
            assert refusal(connect(server), Join("who", "closed")).text == "closed is locked"
            loud = server.join("loud")
            assert refusal(loud, Say(7, "", "hi")).text == "you are muted in lobby"
            eventually(lambda: bool(self.got_in(server, "brief")))
            op = enter(log_in(server, "op"), "op", "closed")
            assert order(op, UNBAN, "bad") == "bad was let back into lobby"
            server.join("bad")

    def got_in(self, server: Server, nick: str) -> bool:
        client = connect(server)
        client.send(Join(nick))
        client.gather(lambda: bool(client.of(End) or client.of(Error)), "an answer")
        client.close()
        return bool(client.of(End))

    def test_a_banned_network_gets_in_by_no_face(self, folder: Path) -> None:
        unix = folder / "chat.sock"
        options = ("--listen", "tcp:0:interface=127.0.0.1", "--listen", f"unix:{unix}")
        with serve(folder, *options) as server, socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(PATIENCE_S)
            plain.connect(str(unix))
            op = Framed(plain)
            op.send(Login("op", SECRET), Join("op"))
            op.until(End)
            caught = connect(server, Json)
            enter(caught, "caught")
            order(op, BAN, "server:address:127.0.0.0/8", reason="spam")
            assert caught.until(Error).text == "you were banned from this server: spam"
            caught.until_closed()
            assert [left.reason for left in op.of(Left)] == ["kicked"]
            for form in FORMS.values():
                client = connect(server, form)
                error = refusal(client, Join("stranger"))
                assert (error.code, error.text) == (12, "you are banned from this server: spam")
                client.until_closed()
                client = connect(server, form)
                assert refusal(client, Login("op", SECRET)).code == ErrorCode.NOT_ALLOWED
                client.until_closed()
            with server.raw() as lines:
                lines.sendall(b"stranger\nhello\n")
                shown = b""
                while data := lines.recv(4_096):
                    shown += data
            assert b"you are banned from this server: spam" in shown
            order(op, UNBAN, "server:address:127.0.0.0/8")
            server.join("stranger")
            assert not op.of(Chat)

    def test_a_message_that_was_removed_is_gone_for_who_comes_later(self, folder: Path) -> None:
        with serve(folder) as server:
            op = enter(log_in(server, "op"), "op")
            bob = server.join("bobby")
            for number in (1, 2, 3):
                bob.send(Say(number, "", f"plugh{number}"))
                bob.until(Ack)
            assert order(op, KICK, "message:2", reason="spam") == "message 2 of lobby was removed: spam"
            assert order(op, KICK, "last:bobby") == "message 3 of lobby was removed"
            later = server.join("cid", limit=10)
            assert [chat.text for chat in later.of(Chat)] == ["plugh1", "(removed)", "(removed)"]
            server.stop()
        with serve(folder) as server:
            later = server.join("cid", limit=10)
            assert [chat.text for chat in later.of(Chat)] == ["plugh1", "(removed)", "(removed)"]
        assert b"plugh3" not in (folder / "said").read_bytes()

    def test_each_act_is_a_line_of_the_audit_log(self, folder: Path) -> None:
        with serve(folder) as server:
            op = enter(log_in(server, "op"), "op")
            bobby = server.join("bobby")
            order(op, MUTE, "bobby", 60, "größe")
            order(op, KICK, "bobby")
            op.send(Moderate(KICK, "", "nobody", 0, ""))
            op.gather(lambda: bool(op.of(Error)), "a refusal")
            assert op.of(Error)[0].code == ErrorCode.NO_SUCH_NICK
            assert bobby.until(Left).reason == "kicked"
            lines = [json.loads(line) for line in (folder / "audit").read_text().splitlines()]
            server.stop()
            assert '"act": "mute"' in server.log()
        shown = [(line["operator"], line["act"], line["target"], line["seconds"]) for line in lines]
        assert shown == [("op", "mute", "bobby", 60), ("op", "kick", "bobby", 0)]
        assert (folder / "audit").stat().st_mode & 0o777 == 0o600

    def test_lines_have_the_commands(self, folder: Path) -> None:
        with serve(folder) as server, server.raw() as plain:
            bob = server.join("bobby")
            bob.send(Say(1, "", "spam spam"))
            bob.until(Ack)
            commands = (
                "/remove bobby off topic",
                "/lock for now",
                "/unlock",
                "/ban address:192.0.2.0/24 60 flood",
                "/mute bobby",
                "/sessions",
            )
            sent = "\r\n".join([f"/login op {SECRET}", "op", *commands, "/quit", ""])
            plain.sendall(sent.encode())
            shown = b""
            while data := plain.recv(4_096):
                shown += data
        text = shown.decode()
        for line in (
            "* message 1 of lobby was removed: off topic",
            "* lobby was locked: only operators get in: for now",
            "* lobby was opened again",
            "* address:192.0.2.0/24 was banned from lobby for 60 s: flood",
            "* bobby was muted in lobby",
            ", this one: op in lobby",
        ):
            assert line in text
        assert Notice("you were muted in lobby") in bob.until_closed()


class TestStarting:
    def start(self, folder: Path, *options: str) -> str:
        """What a server says that does not come up."""
        twistd = str(Path(sys.executable).parent / "twistd")
        refused = ended(folder, twistd, "-n", "--pidfile=", "chat", *options)
        assert refused.returncode == 1
        return refused.stdout + refused.stderr

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (("--accounts", "missing"), "the accounts cannot be used, no such file or directory"),
            (
                ("--accounts", "broken"),
                "the accounts cannot be used, line 1: an account has a name and a hash",
            ),
            (("--token-key", "broken"), "the key of tokens cannot be used, a shared secret has at least 32"),
            (("--rules", "broken"), "the rules cannot be used, they are damaged"),
            (("--audit-log", "/missing/log"), "the audit log cannot be used, no such file or directory"),
            (("--login-required",), "--login-required needs accounts or token_key, or nobody could join"),
        ],
    )
    def test_what_cannot_be_used_is_one_sentence(
        self, folder: Path, options: tuple[str, ...], reason: str
    ) -> None:
        (folder / "broken").write_text("ann\n")
        shown = self.start(folder, "--listen", "tcp:0:interface=127.0.0.1", *options)
        assert reason in shown
        assert "Traceback" not in shown

    def test_where_an_account_is_needed_everybody_may_reach_it(self, folder: Path) -> None:
        with serve(folder, "--listen", "tcp:0", "--login-required") as server:
            assert "only people with an account may talk" in server.log()

"""`python -m chatproto.accounts`, as it is run."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

PATIENCE_S = 30.0

PASSWORD = "correct horse"


def run(path: Path, *arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chatproto.accounts", str(path), *arguments],
        input=said,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "accounts"


def test_an_account_is_added_checked_listed_and_removed(path: Path) -> None:
    added = run(path, "add", "Ann", "--operator", "--nick", "Ann", "--nick", "Annie", said=f"{PASSWORD}\n")
    assert (added.returncode, added.stdout) == (0, "ann operator nicks=Ann,Annie\n"), added.stderr
    assert PASSWORD not in path.read_text()
    assert run(path, "list").stdout == "ann operator nicks=Ann,Annie\n"
    right = run(path, "check", "ann", said=PASSWORD)
    assert (right.returncode, right.stdout) == (0, "that is right\n")
    wrong = [run(path, "check", "ann", said="wrong"), run(path, "check", "bob", said=PASSWORD)]
    assert [(one.returncode, one.stdout) for one in wrong] == [(1, "wrong account or password\n")] * 2
    assert run(path, "remove", "ANN").returncode == 0
    assert run(path, "list").stdout == ""


def test_its_own_name_is_kept_for_it_if_it_can_be_a_nickname(path: Path) -> None:
    assert run(path, "add", "bob", said=PASSWORD).stdout == "bob nicks=bob\n"
    assert run(path, "add", "bob@example.org", said=PASSWORD).stdout == "bob@example.org\n"


def test_a_password_is_replaced_only_if_that_is_meant(path: Path) -> None:
    run(path, "add", "ann", said=PASSWORD)
    again = run(path, "add", "ann", said="another password")
    assert (again.returncode, again.stderr) == (
        1,
        "there is an account ann already; --replace gives it another password\n",
    )
    assert run(path, "check", "ann", said=PASSWORD).returncode == 0
    assert run(path, "add", "ann", "--replace", said="another password").returncode == 0
    assert run(path, "check", "ann", said="another password").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said", "reason"),
    [
        (("add", "ann"), "short", "a password has at least 8 characters"),
        (("add", "ann"), "", "a password has at least 8 characters"),
        (("add", "ann"), "x" * 1_025, "a password has at most 1024 bytes"),
        (("add", "a b"), PASSWORD, "an account's name has"),
        (("add", "ann", "--nick", "a:b"), PASSWORD, "A nickname cannot contain"),
        (("remove", "ann"), "", "there is no account ann"),
        (("list",), "", "the accounts cannot be used, no such file or directory"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    path: Path, arguments: tuple[str, ...], said: str, reason: str
) -> None:
    refused = run(path, *arguments, said=said)
    assert refused.returncode == 1
    assert refused.stderr.startswith(reason)
    assert refused.stderr.count("\n") == 1


def test_a_nickname_of_another_account_is_refused(path: Path) -> None:
    run(path, "add", "ann", said=PASSWORD)
    refused = run(path, "add", "bob", "--nick", "ANN", said=PASSWORD)
    assert (refused.returncode, refused.stderr[:33]) == (1, "the nickname ANN is kept for ann,")


class TestTerminal:
    def ask(self, path: Path, *typed: str) -> tuple[int, str]:
        """Add an account at a terminal; the exit code, and all that was shown."""
        pid, terminal = pty.fork()
        if not pid:
            os.execv(sys.executable, [sys.executable, "-m", "chatproto.accounts", str(path), "add", "ann"])
        shown = b""
        typing = list(typed)
        while True:
            try:
                data = os.read(terminal, 4_096)
            except OSError:  # its end
                break
            shown += data
            if shown.endswith((b"password: ", b"once more: ")) and typing:
                os.write(terminal, f"{typing.pop(0)}\n".encode())
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
        return os.waitstatus_to_exitcode(status), shown.decode()

    def test_a_password_is_asked_for_twice_and_not_shown(self, path: Path) -> None:
        code, shown = self.ask(path, PASSWORD, PASSWORD)
        assert (code, PASSWORD in shown) == (0, False)
        assert run(path, "check", "ann", said=PASSWORD).returncode == 0

    def test_two_that_differ_are_refused(self, path: Path) -> None:
        code, shown = self.ask(path, PASSWORD, "correct hose")
        assert code == 1
        assert "the two are not the same" in shown
        assert not path.exists()

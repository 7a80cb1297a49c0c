"""chatproto.client.connect: the command line. What the program does is tested against a server."""

from __future__ import annotations

import argparse

import pytest

from chatproto.client.connect import address, options


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("localhost", "localhost", 9_000),
        ("localhost:1", "localhost", 1),
        ("192.0.2.1:65535", "192.0.2.1", 65_535),
        ("[::1]:9000", "::1", 9_000),
        ("[::1]", "::1", 9_000),
        ("::1", "::1", 9_000),
        ("[fe80::1%eth0]:7", "fe80::1%eth0", 7),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert address(text) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":9000",
        "host:",
        "host:0",
        "host:65536",
        "host:x",
        "host:-1",
        "host:٣",
        "[::1",
        "[::1]9000",
        "[]:1",
        "[::1]:",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        address(text)


def test_the_command_line() -> None:
    chosen = options(["example.org", "--nick", "ann", "--room", "one", "--room", "two"])
    assert (chosen.address, chosen.nick, chosen.room) == (("example.org", 9_000), "ann", ["one", "two"])


def test_who_gives_no_nickname_has_the_login_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "eve")
    assert options(["example.org"]).nick == "eve"


@pytest.mark.parametrize(
    "line", [[], ["--nick", "ann"], ["a:b", "--nick", "ann"], ["a", "b"], ["a", "--plain", "--json"]]
)
def test_a_wrong_command_line(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        options(line)
    assert end.value.code == 2
    assert "chatproto-connect: error: " in capsys.readouterr().err

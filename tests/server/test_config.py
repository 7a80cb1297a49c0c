"""The file of `--config`: what it may say, what is said of what it may not, and what is printed."""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from live import Server, ended, eventually
from twisted.python.usage import UsageError

from chatproto.limits import HistoryLimits, Limits
from chatproto.server import settings, tap
from chatproto.server.settings import SETTINGS, Setting

TWISTD = str(Path(sys.executable).parent / "twistd")


def parse(*arguments: str) -> tap.Options:
    options = tap.Options()
    options.parseOptions(arguments)
    return options


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "chat.toml"


def refusal(file: Path, text: str, *arguments: str) -> str:
    """The one sentence with which a file is refused, behind where it stands."""
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        parse("--config", str(file), *arguments)
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert sentence.startswith(f"{file}")
    return sentence.removeprefix(f"{file}").removeprefix(", ").removeprefix(": ")


def other(setting: Setting) -> Any:
    """A value that is good, and not the default."""
    default = setting.default
    if isinstance(default, bool):
        return not default
    if isinstance(default, tuple):
        return {"listen": ("unix:/a", "unix:/b"), "trusted_proxy": ("10.0.0.0/8",)}.get(
            setting.name, ("https://example.org",)
        )
    if isinstance(default, str):
        return {"log_format": "json", "status": "off", "history": "said.sqlite"}.get(setting.name, "tea")
    return type(default)(default + 1 if default + 1 <= setting.most else default - 1)


ALONE = [setting for setting in SETTINGS if setting.name not in ("login_required", "reuse_port")]
"""Those that mean something without others beside them."""


def literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(literal, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


class TestTable:
    def test_has_every_limit(self) -> None:
        names = {setting.name for setting in SETTINGS}
        assert names >= {known.name for known in fields(Limits) + fields(HistoryLimits)}

    @pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
    def test_says_of_each_what_it_is_and_why_it_is_what_it_is(self, setting: Setting) -> None:
        assert setting.meaning
        assert setting.why
        assert not setting.meaning.endswith(".")
        assert not setting.why.endswith(".")

    @pytest.mark.parametrize("setting", ALONE, ids=lambda setting: setting.name)
    def test_each_is_a_key_and_an_option_of_the_same_meaning(self, setting: Setting, file: Path) -> None:
        wanted = other(setting)
        file.write_text(f"{setting.name} = {literal(wanted)}\n")
        assert parse("--config", str(file)).configuration.values[setting.name] == wanted
        if isinstance(wanted, bool):
            arguments = [setting.option]
        else:
            given = wanted if isinstance(wanted, tuple) else [wanted]
            arguments = [f"{setting.option}={value}" for value in given]
        assert parse(*arguments).configuration.values[setting.name] == wanted


class TestCounts:
    def test_an_option_for_more_than_the_file_and_that_for_more_than_the_default(self, file: Path) -> None:
        file.write_text("max_rooms = 5\nmax_frame_bytes = 70_000\n")
        values = parse("--config", str(file), "--max-rooms", "6").configuration.values
        assert (values["max_rooms"], values["max_frame_bytes"]) == (6, 70_000)
        assert values["max_line_bytes"] == Limits().max_line_bytes

    def test_a_switch_of_the_file_can_be_taken_back(self, file: Path) -> None:
        file.write_text("deflate = true\n")
        assert parse("--config", str(file))["deflate"] is True
        assert parse("--config", str(file), "--no-deflate")["deflate"] is False

    def test_a_list_of_options_in_place_of_that_of_the_file(self, file: Path) -> None:
        file.write_text('listen = ["unix:/a"]\n')
        assert parse("--config", str(file), "--listen", "unix:/b")["listen"] == ("unix:/b",)

    def test_whole_seconds_as_seconds(self, file: Path) -> None:
        file.write_text("join_timeout_s = 3\n")
        limits = parse("--config", str(file)).configuration.limits
        assert limits.join_timeout_s == 3.0
        assert isinstance(limits.join_timeout_s, float)


class TestRefused:
    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("\nmax_room = 5", "line 2: there is no 'max_room'; did you mean max_rooms?"),
            ("max-rooms = 5", "line 1: there is no 'max-rooms'; did you mean max_rooms?"),
            ("zebra = 5", "line 1: there is no 'zebra'; twistd chat --print-config writes all keys"),
            ("'zebra' = 5", "line 1: there is no 'zebra'; twistd chat --print-config writes all keys"),
            (
                "room = 'a'\n[limits]\nmax_rooms = 5",
                "line 2: there are no tables here, and so no [limits]; each key stands by itself",
            ),
            ("a.b = 5", "line 1: there are no tables here, and so no [a]; each key stands by itself"),
            ("\n\nmax_rooms = 'few'", 'line 3: max_rooms needs a whole number, not "few"'),
            ("max_rooms = '5'", 'line 1: max_rooms needs a whole number, not "5"; write max_rooms = 5'),
            ("max_rooms = 5.0", "line 1: max_rooms needs a whole number, not 5.0; write max_rooms = 5"),
            ("max_rooms = 5.5", "line 1: max_rooms needs a whole number, not 5.5"),
            ("max_rooms = true", "line 1: max_rooms needs a whole number, not true"),
            ("max_rooms = [5]", "line 1: max_rooms needs a whole number, not [5]"),
            ("max_rooms = 1979-05-27", "line 1: max_rooms needs a whole number, not 1979-05-27"),
            (
                "join_timeout_s = '3'",
                'line 1: join_timeout_s needs a number, not "3"; write join_timeout_s = 3.0',
            ),
            ("join_timeout_s = nan", "line 1: join_timeout_s is at least 0.001, not nan"),
            ("join_timeout_s = inf", "line 1: join_timeout_s is at most 1,000,000.0, not inf"),
            ("max_rooms = 0", "line 1: max_rooms is at least 1, not 0"),
            ("deflate = 'yes'", 'line 1: deflate needs true or false, not "yes"; write deflate = true'),
            ("deflate = 0", "line 1: deflate needs true or false, not 0; write deflate = false"),
            ("deflate = 'maybe'", 'line 1: deflate needs true or false, not "maybe"'),
            ("room = 5", 'line 1: room needs a string, not 5; write room = "5"'),
            ("room = true", "line 1: room needs a string, not true"),
            (
                "listen = 'unix:/a'",
                'line 1: listen needs a list of strings, not "unix:/a"; write listen = ["unix:/a"]',
            ),
            ("listen = [9000]", "line 1: listen needs a list of strings, not [9000]"),
            ("\nlisten = ['unix:/a', 'tcp']", "line 2: listen 'tcp' is no endpoint that can be used: "),
            ("listen = ['tcp:9000']", "line 1: listen 'tcp:9000' lets anybody who reaches 0.0.0.0 talk"),
            ("room = ''", "line 1: room: "),
            ("origin = ['example.org']", "line 1: origin 'example.org' is no origin: "),
            ("history = ''", "line 1: history needs the name of a file, or 'memory'"),
            ("log_format = 'xml'", "line 1: log_format is 'text' or 'json', not 'xml'"),
            (r'control = "a\u0000b"', "line 1: control has a NUL in it; leave that out"),
            (r'history = "a\u0000b"', "line 1: history has a NUL in it; leave that out"),
            (r'accounts = "a\u0000b"', "line 1: accounts has a NUL in it; leave that out"),
            (r'listen = ["unix:a\u0000b"]', "line 1: listen has a NUL in it; leave that out"),
            (
                "room = 'a'\nmax_queued_bytes = 16_000",
                "line 2: max_queued_bytes (16000) must hold four times max_text_bytes (4096)",
            ),
            ("room = 'a'\nroom = 'b'", "line 2: this is no TOML: cannot overwrite a value"),
            ("room = 'a'\nroom", "line 2: this is no TOML: expected '=' after a key in a key/value pair"),
            ("room = 'a", "line 1: this is no TOML: "),
        ],
    )
    def test_in_one_sentence_with_the_line_and_what_to_write(
        self, file: Path, text: str, sentence: str
    ) -> None:
        assert refusal(file, text).startswith(sentence)

    def test_a_limit_of_the_file_and_one_of_an_option_that_do_not_fit(self, file: Path) -> None:
        assert refusal(file, "\nmax_queued_bytes = 16_000", "--max-text-bytes", "5000") == (
            "line 2: max_queued_bytes (16000) must hold four times --max-text-bytes (5000)"
        )

    @pytest.mark.parametrize(
        "before",
        [
            'room = """\nzebra = 1\n"""\n',
            "origin = [\n  # zebra = 1\n]\n",
            "# zebra = 1\n\n\n",
            "room = '''\n[zebra]\n'''\n",
        ],
    )
    def test_with_the_line_of_the_key_and_not_of_what_looks_like_it(self, file: Path, before: str) -> None:
        assert refusal(file, f"{before}zebra = 1\n").startswith("line 4: there is no 'zebra'")

    def test_a_file_that_is_not_there_not_text_or_a_folder(self, file: Path) -> None:
        with pytest.raises(UsageError, match=r"chat\.toml cannot be read: no such file or directory$"):
            parse("--config", str(file))
        file.write_bytes(b"room = '\xff'")
        with pytest.raises(UsageError, match=r"chat\.toml: it is not UTF-8$"):
            parse("--config", str(file))
        with pytest.raises(UsageError, match=r"cannot be read: is a directory$"):
            parse("--config", str(file.parent))


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is printed in place of starting anything."""
    with pytest.raises(SystemExit) as ended:
        parse(*arguments)
    assert ended.value.code == 0
    return capsys.readouterr().out


class TestCheck:
    def test_shows_what_holds_and_where_it_comes_from(
        self, file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file.write_text("\nmax_rooms = 5\n")
        shown = output(capsys, "--config", str(file), "--room", "tea", "--check")
        lines = [re.split(r" +# ", line) for line in shown.splitlines()]
        found = {line.split(" = ")[0]: (line, source) for line, source in lines}
        assert found["max_rooms"] == ("max_rooms = 5", f"{file}, line 2")
        assert found["room"] == ('room = "tea"', "--room")
        assert found["max_line_bytes"] == ("max_line_bytes = 4096", "default")
        assert list(found) == [setting.name for setting in SETTINGS]

    def test_what_it_shows_is_a_file_of_the_same_meaning(
        self, file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = (
            "--origin",
            "https://example.org",
            "--room",
            'a\u00e9"\\',
            "--deflate",
            "--join-timeout-s",
            "1e5",
        )
        wanted = parse(*arguments).configuration.values
        file.write_text(output(capsys, *arguments, "--check"))
        assert parse("--config", str(file)).configuration.values == wanted

    def test_finds_what_is_wrong(self, file: Path) -> None:
        assert refusal(file, "max_rooms = 0", "--check") == "line 1: max_rooms is at least 1, not 0"

    def test_starts_and_leaves_nothing(self, tmp_path: Path) -> None:
        checked = ended(tmp_path, TWISTD, "chat", "--check")
        assert (checked.returncode, checked.stderr) == (0, "")
        assert tomllib.loads(checked.stdout)["room"] == "lobby"
        assert list(tmp_path.iterdir()) == []


class TestPrintConfig:
    def test_every_key_has_its_kind_its_default_its_reason_and_when_another_holds(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        written = output(capsys, "--print-config")
        paragraphs = written.split("\n\n")
        for setting in SETTINGS:
            [paragraph] = [
                text for text in paragraphs if re.search(rf"^#{setting.name} = ", text, re.MULTILINE)
            ]
            *comments, key = paragraph.strip("\n").splitlines()
            words = " ".join(line.removeprefix("#").strip() for line in comments)
            assert key == f"#{setting.name} = {literal(setting.default)}"
            assert setting.meaning[1:] in words
            assert setting.wanted[1:] in words
            assert f"Default {literal(setting.default)}: {setting.why}." in words
            assert f"Another value holds {setting.effect.value}." in words

    def test_as_it_is_it_changes_nothing_and_with_every_key_uncommented_neither(
        self, file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        written = output(capsys, "--print-config")
        assert tomllib.loads(written) == {}
        file.write_text(re.sub(r"^#(?=\w+ = )", "", written, flags=re.MULTILINE))
        assert len(tomllib.loads(file.read_text())) == len(SETTINGS)
        assert parse("--config", str(file)).configuration.values == parse().configuration.values

    def test_what_is_given_with_it_counts_in_the_file(
        self, file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file.write_text(
            output(capsys, "--max-rooms", "5", "--open", "--listen", "tcp:9000", "--print-config")
        )
        assert tomllib.loads(file.read_text()) == {"listen": ["tcp:9000"], "open": True, "max_rooms": 5}

    def test_lines_are_no_longer_than_a_screen_is_wide(self, capsys: pytest.CaptureFixture[str]) -> None:
        written = output(capsys, "--print-config")
        assert [line for line in written.splitlines() if len(line) > 100] == []


def test_a_server_runs_by_it(file: Path) -> None:
    file.write_text('listen = ["tcp:0:interface=127.0.0.1"]\nroom = "kitchen"\nhistory = "memory"\n')
    with Server(command=[TWISTD, "-n", "--pidfile=", "chat", "--config", str(file)]) as server:
        assert server.join("ann", "kitchen").received
        eventually(lambda: "kept in memory" in server.log())


class TestStore:
    """A history that is the URL of a store."""

    URL = "redis://ann:sesame@example.org:7000/1"

    def test_its_password_is_in_no_output_but_the_file_that_is_asked_for(
        self, file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file.write_text(f'history = "{self.URL}"\n')
        with pytest.raises(SystemExit):
            parse("--config", str(file), "--check")
        shown = capsys.readouterr().out
        assert 'history = "redis://ann:***@example.org:7000/1"' in shown
        assert "sesame" not in shown
        with pytest.raises(SystemExit):
            parse("--config", str(file), "--print-config")
        assert f'\nhistory = "{self.URL}"' in capsys.readouterr().out

    def test_one_that_cannot_be_meant_is_refused_in_a_sentence(self, file: Path) -> None:
        assert refusal(file, 'history = "redis://h:x/0"\n') == (
            "line 1: history is no store: its URL needs a host and perhaps a port from 1 to 65535, as in "
            "redis://HOST:6379/0"
        )

    def test_without_hiredis_that_is_said(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(settings, "find_spec", lambda name: None)
        assert refusal(file, f'history = "{self.URL}"\n') == (
            "line 1: history needs hiredis for a store: pip install hiredis"
        )

    def test_a_port_is_shared_only_by_servers_that_share_rooms(self, file: Path) -> None:
        assert refusal(file, "reuse_port = true\n").startswith("line 1: reuse_port needs a history")
        file.write_text(f'reuse_port = true\nhistory = "{self.URL}"\n')
        assert parse("--config", str(file)).configuration.values["reuse_port"] is True

"""The options of `twistd chat`, and the service that is made of them."""

from __future__ import annotations

import gc
import re
from dataclasses import fields

import pytest
from twisted.python.usage import UsageError

from chatproto.limits import HistoryLimits, Limits
from chatproto.server import tap
from chatproto.server.service import ChatService
from chatproto.server.settings import GROUPS, SETTINGS
from chatproto.version import __version__

HISTORY = [known.name for known in fields(HistoryLimits)]
EVERY = fields(Limits) + fields(HistoryLimits)
LIMITS = [pytest.param(known.name, known.default, id=known.name) for known in EVERY]
SECONDS = [known.name for known in EVERY if isinstance(known.default, float)]
SETTING = {setting.name: setting for setting in SETTINGS}
SWITCHES = [setting for setting in SETTINGS if isinstance(setting.default, bool)]
LONGEST_S = {known.name: f"{known.metadata['most']:,}" for known in EVERY}


def option(limit: str) -> str:
    return f"--{limit.replace('_', '-')}"


def parse(*arguments: str) -> tap.Options:
    options = tap.Options()
    options.parseOptions(arguments)
    return options


def refusal(*arguments: str) -> str:
    """The one sentence with which the arguments are refused."""
    with pytest.raises(UsageError) as refused:
        parse(*arguments)
    sentence = str(refused.value)
    assert "\n" not in sentence
    return sentence


def help_text(width: int = 400) -> str:
    return tap.Options().getUsage(width)


class TestHelp:
    @pytest.mark.parametrize(("limit", "default"), LIMITS)
    def test_shows_every_limit_with_its_unit_and_its_default(self, limit: str, default: float) -> None:
        [line] = [line for line in help_text().splitlines() if line.strip().startswith(f"{option(limit)}=")]
        assert line.endswith(f"[default: {default}]")
        words = limit.split("_")
        unit = {"bytes": "bytes", "chars": "characters", "s": "seconds", "messages": "messages"}.get(
            words[-1], ""
        )
        if words[-2:] == ["per", "s"]:
            unit = "second"
        assert unit in line.lower()

    def test_begins_with_where_to_listen_and_has_the_limits_apart(self) -> None:
        shown = re.findall(r"^ {6}(--[\w-]+)|^([\w ]+):$", help_text(80), re.MULTILINE)
        names = [name or heading for name, heading in shown]
        expected: list[str] = []
        for group in GROUPS:
            expected += [group, *(setting.option for setting in SETTINGS if setting.group == group)]
            if group == "Options":
                no = [setting.option.replace("--", "--no-", 1) for setting in SWITCHES]
                expected += sorted(["--check", "--config", "--help", "--print-config", "--version", *no])
        assert names == expected
        assert names[:3] == ["Options", "--listen", "--open"]
        at = names.index("Limits")
        assert names[at + 1 :][: len(fields(Limits))] == [option(known.name) for known in fields(Limits)]

    def test_says_where_it_listens_unless_told_otherwise(self) -> None:
        assert "[default: tcp:9000:interface=127.0.0.1]" in help_text()
        assert parse()["listen"] == ("tcp:9000:interface=127.0.0.1",)

    def test_ends_with_what_it_is(self) -> None:
        assert help_text(80).strip().endswith("all on the same port.")

    @pytest.mark.parametrize("width", [60, 80, 200])
    def test_loses_no_option_at_any_width(self, width: int) -> None:
        assert (
            len(re.findall(r"^ {6}--", help_text(width), re.MULTILINE)) == len(SETTINGS) + len(SWITCHES) + 5
        )

    def test_the_version_is_its_own(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            parse("--version")
        assert ended.value.code == 0
        assert capsys.readouterr().out.startswith(f"chatproto {__version__} on Twisted ")


class TestWhatIsTaken:
    def test_without_options_the_limits_are_the_usual_ones(self) -> None:
        assert parse()["limits"] == Limits()

    @pytest.mark.parametrize(("limit", "default"), LIMITS)
    def test_every_limit_can_be_set(self, limit: str, default: float) -> None:
        wanted = min(default * 2 or 7, SETTING[limit].most)
        options = parse(option(limit), str(wanted))
        assert getattr(options["history_limits" if limit in HISTORY else "limits"], limit) == wanted

    @pytest.mark.parametrize("limit", SECONDS)
    def test_seconds_may_have_fractions(self, limit: str) -> None:
        options = parse(option(limit), "1.5")
        assert getattr(options["history_limits" if limit in HISTORY else "limits"], limit) == 1.5

    def test_several_endpoints_may_be_listened_on(self) -> None:
        listening = parse("--open", "--listen", "tcp:1", "--listen", "unix:/a")["listen"]
        assert listening == ("tcp:1", "unix:/a")

    def test_several_origins_may_be_let_in(self) -> None:
        assert parse()["origin"] == ()
        origins = ("https://example.org", "http://localhost:8080", "*", "null")
        assert parse(*(f"--origin={origin}" for origin in origins))["origin"] == origins

    def test_one_option_turns_compression_on(self) -> None:
        without, with_it = tap.makeService(parse()), tap.makeService(parse("--deflate"))
        assert isinstance(without, ChatService)
        assert isinstance(with_it, ChatService)
        assert without.deflate is None
        assert with_it.deflate is not None
        assert with_it.deflate.client_no_context_takeover

    def test_what_is_said_is_kept_in_a_file_unless_told_otherwise(self) -> None:
        for arguments, history in (
            ((), "chat.sqlite"),
            (("--history", "/var/lib/chat/said.sqlite"), "/var/lib/chat/said.sqlite"),
            (("--history", "memory"), None),
        ):
            service = tap.makeService(parse(*arguments))
            assert isinstance(service, ChatService)
            assert service.history == history

    def test_a_room_may_be_named(self) -> None:
        assert parse("--room", "straße")["room"] == "straße"


class TestWhatIsRefused:
    @pytest.mark.parametrize(("limit", "default"), LIMITS)
    def test_what_is_no_number(self, limit: str, default: float) -> None:
        kind = "a number" if limit in SECONDS else "a whole number"
        assert refusal(option(limit), "many").endswith(f"{option(limit)} needs {kind}, not 'many'")

    @pytest.mark.parametrize(("limit", "default"), LIMITS)
    def test_a_negative_number(self, limit: str, default: float) -> None:
        assert refusal(option(limit), "-1").startswith(f"{option(limit)} is at least ")

    @pytest.mark.parametrize("number", ["inf", "1e300"])
    @pytest.mark.parametrize("limit", SECONDS)
    def test_a_time_that_no_timer_can_wait(self, limit: str, number: str) -> None:
        assert refusal(option(limit), number).startswith(
            f"{option(limit)} is at most {LONGEST_S[limit]}, not "
        )

    @pytest.mark.parametrize("limit", SECONDS)
    def test_a_time_that_is_no_time(self, limit: str) -> None:
        assert refusal(option(limit), "nan").endswith(", not nan")

    @pytest.mark.parametrize("limit", [known.name for known in EVERY if known.name not in SECONDS])
    def test_a_count_that_no_machine_can_hold(self, limit: str) -> None:
        assert refusal(option(limit), str(2**63)).startswith(f"{option(limit)} is at most ")

    def test_a_text_that_leaves_no_place_in_its_frame(self) -> None:
        sentence = refusal("--max-frame-bytes", "4096", "--max-text-bytes", "4000")
        assert sentence.startswith(
            "--max-text-bytes (4000) must leave 1,024 bytes of --max-frame-bytes (4096)"
        )

    @pytest.mark.parametrize(
        "origin", ["example.org", "https://example.org/", "https://example.org/page", "https://", "", "**"]
    )
    def test_an_origin_that_no_page_comes_from(self, origin: str) -> None:
        assert refusal("--origin", origin) == (
            f"--origin {origin!r} is no origin: https://host or https://host:port, with nothing behind it"
        )

    def test_a_queue_that_holds_no_texts(self) -> None:
        assert refusal("--max-queued-bytes", "16000") == (
            "--max-queued-bytes (16000) must hold four times --max-text-bytes (4096)"
        )

    @pytest.mark.parametrize(
        ("description", "reason"),
        [
            ("9000", "Unknown endpoint type: '9000'"),
            ("carrier-pigeon:9000", "Unknown endpoint type: 'carrier-pigeon'"),
            ("tcp:http-alt", "invalid literal for int"),
            ("tcp", "port"),
            ("tcp:9000:interfaces=127.0.0.1", "interfaces"),
            ("ssl:9000:privateKey=/nowhere/key.pem", "/nowhere/key.pem"),
            ("systemd:domain=INET:index=3", "systemd has passed no such socket, none at all"),
            ("tcp:9000:faces=web,gopher", "there is no face 'gopher'; faces are web, frames, lines"),
            ("tcp:9000:faces=", "there is no face ''"),
            ("tcp:9000:faces=web:faces=lines", "faces= stands there twice"),
            ("tls:/nowhere:9443", "/nowhere/fullchain.pem cannot be read: no such file or directory"),
            ("tls:", "tls: needs the directory with fullchain.pem and privkey.pem"),
            ("tls:/nowhere:haproxy:tcp:1", "/nowhere/fullchain.pem"),
            ("haproxy:", "Unknown endpoint type: ''"),
            ("haproxy", "Unknown endpoint type: ''"),
            ("haproxy:ssl:9443:privateKey=key.pem", "haproxy: comes before TLS"),
            ("systemd:colour=red", "systemd: has no colour"),
        ],
    )
    def test_an_endpoint_that_does_not_exist(self, description: str, reason: str) -> None:
        sentence = refusal("--listen", description)
        assert sentence.startswith(f"--listen {description!r} is no endpoint that can be used: ")
        assert reason in sentence

    def test_an_endpoint_without_a_name(self) -> None:
        assert refusal("--listen", "") == "--listen needs an endpoint, such as tcp:9000"

    def test_one_bad_endpoint_among_good_ones(self) -> None:
        options = [f"--listen={text}" for text in ("unix:/a", "nonsense:1", "unix:/b")]
        assert "'nonsense:1'" in refusal(*options)

    @pytest.mark.parametrize(
        ("description", "place"),
        [
            ("tcp:9000", "0.0.0.0"),
            ("tcp:9000:interface=192.0.2.7", "192.0.2.7"),
            ("tcp:9000:192.0.2.7", "192.0.2.7"),
            ("tcp6:9000", "::"),
            (r"tcp6:9000:interface=2001\:db8\:\:1", "2001:db8::1"),
            ("haproxy:tcp:9000", "0.0.0.0"),
            ("tcp:9000:faces=web", "0.0.0.0"),
        ],
    )
    def test_to_let_everybody_in_without_saying_so(self, description: str, place: str) -> None:
        assert refusal("--listen", description) == (
            f"--listen {description!r} lets anybody who reaches {place} talk, without an account: "
            "give --open too if that is meant, or interface=127.0.0.1"
        )
        assert parse("--listen", description, "--open")["listen"] == (description,)

    @pytest.mark.parametrize(
        "description",
        ["tcp:1:interface=127.0.0.2", r"tcp6:1:interface=\:\:1", "tcp:1:127.0.0.1:50", "unix:/run/chat.sock"],
    )
    def test_but_not_to_let_in_who_is_on_this_machine(self, description: str) -> None:
        assert parse("--listen", description)["open"] is False

    @pytest.mark.parametrize(
        ("network", "reason"),
        [("nearby", "'nearby' is no network"), ("10.0.0.0/99", "'10.0.0.0/99' is no network")],
    )
    def test_a_proxy_that_is_nowhere(self, network: str, reason: str) -> None:
        assert refusal("--trusted-proxy", network).startswith(f"--trusted-proxy {reason}: ")

    def test_an_unknown_option_and_names_one_that_is_like_it(self) -> None:
        assert refusal("--max-romms", "3") == "there is no option --max-romms; did you mean --max-rooms?"
        assert refusal("--zebra", "3") == "there is no option --zebra"

    def test_an_option_without_its_value(self) -> None:
        assert "--listen" in refusal("--listen")

    def test_a_stray_argument(self) -> None:
        assert refusal("9000") == "'9000' is no option of chat; twistd chat --help shows them all"

    @pytest.mark.parametrize("room", ["", "r" * 65, "\x1b[2J", " lobby", "a\u202eb"])
    def test_a_default_room_that_nobody_could_enter(self, room: str) -> None:
        sentence = refusal("--room", room)
        assert sentence.startswith("--room: ")
        assert sentence.isprintable()

    def test_a_history_without_a_name(self) -> None:
        assert refusal("--history", "") == "--history needs the name of a file, or 'memory'"

    def test_a_default_room_longer_than_the_limit_that_was_given(self) -> None:
        assert refusal("--room", "kitchen", "--max-room-chars", "3").startswith("--room: ")


class TestMakeService:
    def test_makes_the_service_that_the_options_describe(self) -> None:
        service = tap.makeService(parse("--open", "--listen", "tcp:1", "--room", "tea", "--max-rooms", "7"))
        assert isinstance(service, ChatService)
        assert service.endpoints == ("tcp:1",)
        assert service.default_room == "tea"
        assert service.limits == Limits(max_rooms=7)

    def test_opens_nothing(self) -> None:
        service = tap.makeService(parse())
        assert isinstance(service, ChatService)
        assert service.ports == []
        assert service.factory is None
        assert not service.running

    def test_has_the_interpreter_look_for_garbage_less_often(self) -> None:
        before = gc.get_threshold()
        gc.set_threshold(700, 10, 10)
        try:
            tap.makeService(parse())
            assert gc.get_threshold()[0] == 10_000
        finally:
            gc.set_threshold(*before)

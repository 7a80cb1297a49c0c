"""The log: lines of JSON that nobody can break or fill, with the id of each connection."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live import Server, ended, eventually
from twisted.logger import LogEvent, Logger, LogLevel, capturedLogs
from twisted.python import usage
from twisted.python.failure import Failure

from chatproto.limits import Limits
from chatproto.server import logs
from chatproto.server.eventlog import BURST, INTERVAL_S, NAMESPACE, Allowance, EventLog
from chatproto.server.logs import (
    COMPLAINT_INTERVAL_S,
    COMPLAINTS,
    LINE_INTERVAL_S,
    LINES,
    TRACEBACK_CHARS,
    BoundedObserver,
    json_line,
    json_observer,
    log_with,
)
from chatproto.testing import ChatInMemory
from chatproto.wire.messages import Ack, Error, Join, Say, Welcome

BIN = Path(sys.executable).parent
EVIL = '\x1b]0;owned\x07\x1b[2J\r\n\x9b31m\u202e\u2028{"level": "critical"}\ud800\x7f'


def event(**more: Any) -> LogEvent:
    """As twisted.logger makes them."""
    return {
        "log_level": LogLevel.info,
        "log_namespace": "test",
        "log_format": "hello",
        "log_time": 1_700_000_000.25,
        **more,
    }


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


class TestLine:
    def test_has_time_level_and_event_first(self) -> None:
        line = json_line(event())
        assert line == (
            '{"time": "2023-11-14T22:13:20.250Z", "level": "info", "event": "log", '
            '"source": "test", "text": "hello"}\n'
        )

    def test_of_a_person_says_who_and_what(self) -> None:
        line = json_line(
            event(log_namespace=NAMESPACE, event="joined", room="tea", connection=7, nick="ann", extra="x")
        )
        shown = json.loads(line)
        assert list(shown) == ["time", "level", "event", "connection", "nick", "room"]
        assert (shown["event"], shown["connection"]) == ("joined", 7)

    def test_of_a_failure_has_the_traceback_within_it(self) -> None:
        try:
            raise ValueError(EVIL)
        except ValueError:
            failure = Failure()
        line = json_line(event(log_failure=failure, log_level=LogLevel.critical, connection=3))
        [shown] = lines_of(line)
        assert shown["connection"] == 3
        assert "ValueError" in shown["traceback"]

    def test_of_a_failure_without_words_has_its_message(self) -> None:
        line = json_line(event(log_failure=Failure(ValueError("why")), log_format=None))
        assert json.loads(line)["text"] == "why"

    def test_has_an_end_however_much_there_is_to_say(self) -> None:
        line = json_line(
            event(log_format="{it}", it="x" * 10**6, log_failure=Failure(ValueError("y" * 10**6)))
        )
        assert len(line) < 2 * TRACEBACK_CHARS

    @given(st.text(), st.text())
    def test_is_one_line_of_printable_ascii_whatever_is_in_it(self, one: str, other: str) -> None:
        for text in (one, other, EVIL):
            for line in (
                json_line(event(log_format="{it}", it=text)),
                json_line(event(log_namespace=NAMESPACE, event=text, nick=text, room=other)),
                json_line(event(log_namespace=text, log_failure=Failure(ValueError(text)))),
            ):
                assert line.endswith("\n")
                assert re.fullmatch(r"[ -~]+", line[:-1])
                assert isinstance(json.loads(line), dict)

    def test_what_cannot_be_formatted_is_a_line_all_the_same(self) -> None:
        [line] = lines_of(json_line(event(log_format="{nothing.such}")))
        assert line["event"] == "log"


class Now:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class TestBounds:
    @pytest.fixture
    def now(self) -> Now:
        return Now()

    @pytest.fixture
    def passed(self) -> list[LogEvent]:
        return []

    @pytest.fixture
    def bounded(self, now: Now, passed: list[LogEvent]) -> BoundedObserver:
        return BoundedObserver(cast(Any, passed.append), now)

    def test_a_complaint_that_comes_again_and_again_is_counted(
        self, bounded: BoundedObserver, now: Now, passed: list[LogEvent]
    ) -> None:
        for _ in range(1_000):
            bounded(event(log_level=LogLevel.critical, log_format="broken"))
        assert len(passed) == COMPLAINTS
        now.seconds += COMPLAINT_INTERVAL_S
        bounded(event(log_level=LogLevel.critical, log_format="broken"))
        note, last = passed[COMPLAINTS:]
        assert note["unlogged"] == 1_000 - COMPLAINTS
        assert last["log_format"] == "broken"

    def test_other_complaints_and_news_are_not_kept_back_by_it(
        self, bounded: BoundedObserver, passed: list[LogEvent]
    ) -> None:
        for _ in range(1_000):
            bounded(event(log_level=LogLevel.error, log_format="broken"))
        bounded(event(log_level=LogLevel.error, log_format="something else"))
        bounded(event(log_format="news"))
        assert [each["log_format"] for each in passed[-2:]] == ["something else", "news"]

    def test_lines_of_all_kinds_together_are_bounded(
        self, bounded: BoundedObserver, now: Now, passed: list[LogEvent]
    ) -> None:
        for number in range(100_000):
            bounded(event(log_format=f"news {number}"))
        assert len(passed) == LINES
        now.seconds += 10 * LINE_INTERVAL_S
        for number in range(100):
            bounded(event(log_format=f"more {number}"))
        assert LINES + 10 <= len(passed) <= LINES + 12
        now.seconds += 3_600
        for number in range(100_000):
            bounded(event(log_format=f"late {number}"))
        assert len(passed) <= 2 * LINES + 14

    def test_what_was_left_out_is_said_in_both_formats(
        self, bounded: BoundedObserver, now: Now, passed: list[LogEvent]
    ) -> None:
        for _ in range(LINES + 5):
            bounded(event())
        now.seconds += 1
        bounded(event())
        [line] = lines_of(json_line(passed[LINES]))
        assert line["unlogged"] == 5
        assert line["text"] == "5 lines were too many and are not in this log"

    def test_words_that_are_never_the_same_take_no_memory(self, bounded: BoundedObserver) -> None:
        for number in range(3_000):
            bounded(event(log_level=LogLevel.error, log_format=f"{number}"))
        assert len(bounded._complaints) <= logs.MOST_KINDS

    def test_an_allowance_is_not_larger_after_a_long_time(self) -> None:
        allowance = Allowance(3, 1.0)
        assert [allowance.take(1_000_000.0) for _ in range(5)] == [True] * 3 + [False] * 2
        assert allowance.n_refused == 2
        assert allowance.take(1_000_001.0)
        assert not allowance.take(999_999.0)  # a clock that was set back gives nothing


class TestEvents:
    @pytest.fixture
    def now(self) -> Now:
        return Now()

    @pytest.fixture
    def chat(self, now: Now) -> ChatInMemory:
        chat = ChatInMemory(Limits(rename_burst=1_000))
        chat.hub.record.witness = EventLog(now)
        return chat

    def test_have_the_id_of_the_connection_and_fitting_levels(self, chat: ChatInMemory, now: Now) -> None:
        with capturedLogs() as events:
            ann = chat.join("ann")
            ann.say("")
            now.seconds += 1.5
            ann.ask(Join("ann", "x" * 100))
            chat.connect()
            chat.pass_time(chat.hub.limits.join_timeout_s)
        happened = [(each["event"], each["connection"], each["log_level"].name) for each in events]
        assert happened == [
            ("connected", 1, "info"),
            ("joined", 1, "info"),
            ("refused", 1, "info"),
            ("refused", 1, "info"),
            ("connected", 2, "info"),
            ("refused", 2, "warn"),
            ("ended", 2, "info"),
        ]
        assert "nick" not in events[0]
        assert events[1]["nick"] == "ann"

    def test_who_causes_very_many_has_most_of_them_counted(self, chat: ChatInMemory, now: Now) -> None:
        with capturedLogs() as events:
            ann = chat.join("ann")
            for _ in range(500):
                ann.say("")
            bob = chat.join("bob")
            now.seconds += 2.5
            ann.disconnect()
        assert len([each for each in events if each["connection"] == 1]) == BURST + 1
        assert [each["event"] for each in events if each["connection"] == bob.session.id] == [
            "connected",
            "joined",
        ]
        last = events[-1]
        assert (last["event"], last["reason"], last["seconds"]) == ("ended", "closed", 2.5)
        assert last["unlogged"] == 500 + 2 - BURST

    def test_nothing_is_kept_of_those_who_are_gone(self, chat: ChatInMemory) -> None:
        log = chat.hub.record.witness
        assert isinstance(log, EventLog)
        ann = chat.join("ann")
        ann.disconnect()
        log("lagged", ann.session)
        assert log._connections == {}

    def test_one_who_was_there_before_it_is_known_too(self, chat: ChatInMemory) -> None:
        chat.hub.record.witness = None
        ann = chat.join("ann")
        chat.hub.record.witness = EventLog()
        with capturedLogs() as events:
            ann.join("tea")
        assert (events[0]["event"], events[0]["connection"]) == ("joined", 1)

    def test_in_words_there_is_nothing_that_somebody_chose(self, chat: ChatInMemory) -> None:
        with capturedLogs() as events:
            chat.join("ann").say("hi", room="nowhere")
        for each in events:
            assert each["log_format"] == "connection {connection} {event}"


class TestChoosing:
    def test_twistd_logs_as_it_is_told(self) -> None:
        twistd: dict[str, Any] = {"logger": None, "syslog": 0}
        log_with(twistd, "json")
        assert twistd["logger"] == "chatproto.server.logs.twistd_observer"

    def test_a_logger_of_the_operator_s_own_stays(self) -> None:
        twistd: dict[str, Any] = {"logger": "some.where", "syslog": 0}
        log_with(twistd, "json")
        assert twistd["logger"] == "some.where"

    def test_syslog_has_its_own_format(self) -> None:
        twistd: dict[str, Any] = {"logger": None, "syslog": 1}
        log_with(twistd, "text")
        assert twistd["logger"] is None
        with pytest.raises(usage.UsageError, match="not to --syslog"):
            log_with(twistd, "json")

    def test_no_other_format_is_known(self) -> None:
        with pytest.raises(usage.UsageError, match="--log-format is text or json, not 'xml'"):
            log_with({}, "xml")

    def test_an_application_takes_the_observer(self) -> None:
        out = io.StringIO()
        observer = json_observer(out)
        Logger(namespace="mine", observer=observer).info("hello {name}", name=EVIL)
        [line] = lines_of(out.getvalue())
        assert line["source"] == "mine"


class TestRealServer:
    def test_text_from_strangers_breaks_no_line_and_no_message_is_in_it(self) -> None:
        with Server("--log-format", "json") as server:
            before = len(lines_of(server.log()))
            evil = EVIL.encode(errors="replace")
            for nick, room in (
                (EVIL, ""),
                ("bob", EVIL),
                ("\u202ebob", ""),
                ("bob\nann", ""),
                ("böb", "küche"),
                ("{nick}", "{room}"),
                ('b"ob', '"}{"'),
            ):
                client = server.connect()
                client.send(Join(nick.replace("\ud800", ""), room.replace("\ud800", ""), 0, 0, 0))
                client.send(Say(1, "", "a secret"), Say(2, "nowhere", "a secret"))
                client.send(Say(3, "", "a secret" + evil.decode()))
                client.close()
            for junk in (
                evil,
                b"nick\na secret\n/nick " + evil + b"\n/join " + evil + b"\n/msg nick a secret\n",
                b"\0\0\0\5\x01\x1b[2J",
                b"GET /" + evil + b" HTTP/1.1\r\nHost: a\r\nUser-Agent: " + evil + b"\r\n\r\n",
            ):
                with server.raw() as stranger, suppress(ConnectionResetError):
                    stranger.sendall(junk)
                    stranger.shutdown(socket.SHUT_WR)
                    while stranger.recv(65_536):
                        pass
            ann = server.join("ann")
            ann.send(Say(9, "", "a secret"))
            ann.until(Ack)
            ann.close()
            eventually(lambda: '"nick": "ann"' in server.log())
            server.stop()
            log = server.log()
        assert re.fullmatch(r"[ -~\n]+", log)
        shown = lines_of(log)[before:]
        assert "secret" not in log
        assert "traceback" not in log
        assert {line["event"] for line in shown} >= {"connected", "joined", "refused", "ended"}
        assert {line["nick"] for line in shown if "nick" in line} >= {"ann", "böb"}
        assert {line.get("error") for line in shown if line["event"] == "refused"} >= {
            *("bad-nick", "bad-room", "bad-text", "malformed", "not-in-room"),
        }
        of_people = [line for line in shown if "connection" in line]
        assert all(line["address"] == "127.0.0.1" for line in of_people)
        for number in {line["connection"] for line in of_people}:
            own = [line["event"] for line in of_people if line["connection"] == number]
            assert (own[0], own[-1], own.count("ended")) == ("connected", "ended", 1)

    def test_the_id_is_the_one_that_the_client_was_told(self) -> None:
        with Server("--log-format", "json") as server:
            ann = server.join("ann")
            [welcome] = ann.of(Welcome)
            ann.close()
            eventually(lambda: '"ended"' in server.log())
            [joined] = [line for line in lines_of(server.log()) if line["event"] == "joined"]
            assert joined["connection"] == welcome.id
            assert joined["face"] == "frames"

    def test_a_flood_fills_no_disk(self) -> None:
        with Server("--log-format", "json", "--max-messages-per-s", "0") as server:
            begun_s = time.monotonic()
            ann = server.join("ann")
            for _ in range(20):
                ann.send(*(Say(id, "", "") for id in range(1, 501)))
                ann.until(Error, lambda error: error.id == 500)
            ann.close()
            eventually(lambda: '"ended"' in server.log())
            most = BURST + (time.monotonic() - begun_s) / INTERVAL_S
            lines = lines_of(server.log())
            n_logged = len([line for line in lines if line["event"] == "refused"])
            assert n_logged <= most
            assert lines[-1]["unlogged"] == 10_000 - n_logged

    def test_a_daemon_writes_it_into_the_file_that_twistd_is_given(self, tmp_path: Path) -> None:
        log, pid_file = tmp_path / "chat.log", tmp_path / "pid"
        started = ended(
            tmp_path,
            *(str(BIN / "twistd"), f"--pidfile={pid_file}", f"--logfile={log}"),
            *("chat", "--listen", f"unix:{tmp_path}/sock", "--log-format", "json", "--history", "memory"),
        )
        assert (started.returncode, started.stdout, started.stderr) == (0, "", "")
        pid = int(pid_file.read_text())
        try:
            eventually(lambda: "listening on" in log.read_text())
            os.kill(pid, signal.SIGUSR1)
            eventually(lambda: (tmp_path / "chat.log.1").exists())
        finally:
            os.kill(pid, signal.SIGTERM)
        # Where it is renamed there is none for a moment.
        eventually(lambda: log.exists() and "Server Shut Down" in log.read_text())
        for file in (log, tmp_path / "chat.log.1"):
            assert all(line["level"] in ("info", "warn") for line in lines_of(file.read_text()))
        assert log.stat().st_mode & 0o077 == 0

    @pytest.mark.parametrize("program", ["twistd", "twist"])
    def test_both_commands_know_it(self, program: str, tmp_path: Path) -> None:
        listen = ("--listen", "tcp:0:interface=127.0.0.1")
        options = ("-n", "--pidfile=") if program == "twistd" else ()
        command = [str(BIN / program), *options, "chat", *listen, "--log-format=json", "--history=memory"]
        with Server(command=command) as server:
            server.join("ann").close()
            eventually(lambda: '"ended"' in server.log())
            server.stop()
            assert all(set(line) >= {"time", "level", "event"} for line in lines_of(server.log()))

    def test_in_text_strangers_are_not_in_the_log(self) -> None:
        with Server() as server:
            server.join("ann").close()
            server.stop()
            assert "ann" not in server.log()

"""The runner tells what went wrong, whoever's fault it is: judge, server and client do as they are told."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from conformance import run
from conformance.cases import EVERY_CASE, INFORMATIONAL, SAMPLE
from conformance.judges import Kosoku, Wstest
from conformance.processes import Program
from conformance.run import MODES, Mode, Outcome, judge_mode, modes_for, table
from live import PATIENCE_S
from net.certificate import write_certificate

CASES = ("1.1.1", "7.1.6", "9.3.1")

SERVER = "import time; print('listening on 127.0.0.1 port 1', flush=True); time.sleep(60)"

JUDGE = """
import json, pathlib, sys
folder, verdicts = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
reports = {}
for case, (behavior, closing) in verdicts.items():
    name = f"agent_case_{case.replace('.', '_')}.json"
    reports[case] = {"behavior": behavior, "behaviorClose": closing, "reportfile": name}
    told = {"description": f"Send <b>{case}</b>.", "result": "As it is.", "resultClose": "Closed."}
    (folder / name).write_text(json.dumps(told))
(folder / "index.json").write_text(json.dumps({"agent": reports}))
"""

STRICT = ("OK", "OK")


class Scripted:
    """A judge whose verdicts are known, or one that runs another program instead."""

    name = "scripted"
    speaks_tls = True
    silence_s = 30.0
    serves_for_ever = False
    is_impatient = False
    needs_options: tuple[str, ...] = ()
    needs_resetting_offers: tuple[str, ...] = ()

    def __init__(self, program: str = JUDGE, **verdicts: tuple[str, str] | None) -> None:
        self._program = program
        self._verdicts = {
            name.removeprefix("case_").replace("_", "."): said for name, said in verdicts.items()
        }

    def fuzz_server(self, url: str, cases: Iterable[str], folder: Path) -> list[str]:
        plain = {case: ("INFORMATIONAL",) * 2 if case in INFORMATIONAL else STRICT for case in cases}
        verdicts = {case: self._verdicts.get(case, pair) for case, pair in plain.items()}
        said = {case: pair for case, pair in verdicts.items() if pair is not None}
        return [sys.executable, "-c", self._program, str(folder), json.dumps(said)]

    def fuzz_client(self, port: int, cases: Iterable[str], folder: Path) -> list[str]:
        return self.fuzz_server("", cases, folder)


class Impatient(Scripted):
    """One that says of 9.3.1 that it took too long, the first times that it is asked."""

    is_impatient = True

    def __init__(self, n_late: int) -> None:
        super().__init__(JUDGE.replace("As it is.", "Case did not finish within 480 seconds."))
        self._n_late = n_late
        self.asked: list[list[str]] = []

    def fuzz_server(self, url: str, cases: Iterable[str], folder: Path) -> list[str]:
        self.asked.append(list(cases))
        self._verdicts = {"9.3.1": ("FAILED", "OK") if len(self.asked) <= self._n_late else STRICT}
        return super().fuzz_server(url, cases, folder)


class Serving(Scripted):
    """One that goes on until it is ended."""

    serves_for_ever = True


def judged(judge: Scripted, folder: Path, program: str = SERVER, *, is_client: bool = False) -> Outcome:
    mode = Mode("tried", lambda folder, options: [sys.executable, "-c", program], is_client=is_client)
    return judge_mode(mode, judge, CASES, folder)


class TestVerdicts:
    def test_strict_ones_are_no_fault_and_are_counted(self, tmp_path: Path) -> None:
        outcome = judged(Scripted(), tmp_path)
        assert outcome.faults == []
        head, counts = (line.split() for line in table([outcome]).splitlines())
        assert counts[:2] == ["tried", "scripted"]
        assert dict(zip(head[2:-1], map(int, counts[2:-2]), strict=True)) == {
            "cases": 3,
            "strict": 2,
            "non-strict": 0,
            "informational": 1,
            "failed": 0,
            "missing": 0,
        }

    @pytest.mark.parametrize(
        ("said", "place"),
        [
            (("NON-STRICT", "OK"), "non-strict"),
            (("FAILED", "OK"), "failed"),
            (("OK", "WRONG CODE"), "failed"),
            (("OK", "UNCLEAN"), "failed"),
            (("UNIMPLEMENTED", "OK"), "failed"),
            (("INFORMATIONAL", "INFORMATIONAL"), "informational"),
        ],
    )
    def test_any_other_is_told_with_its_number_description_and_report(
        self, tmp_path: Path, said: tuple[str, str], place: str
    ) -> None:
        outcome = judged(Scripted(case_9_3_1=said), tmp_path)
        [fault] = outcome.faults
        assert fault.startswith(f"case 9.3.1 is {said[0]}, its closing {said[1]}\n")
        assert "Send 9.3.1 ." in fault
        assert fault.endswith(f"report: {tmp_path / 'reports' / 'agent_case_9_3_1.html'}")
        head, counts = (line.split() for line in table([outcome]).splitlines())
        assert counts[head.index(place)] == ("2" if place == "informational" else "1")

    def test_a_case_without_a_strict_answer_may_not_fail_either(self, tmp_path: Path) -> None:
        assert len(judged(Scripted(case_7_1_6=("FAILED", "OK")), tmp_path).faults) == 1

    def test_a_case_without_a_report_is_a_fault(self, tmp_path: Path) -> None:
        outcome = judged(Scripted(case_1_1_1=None, case_9_3_1=None), tmp_path)
        assert outcome.faults == ["2 cases have no report: 1.1.1, 9.3.1"]
        head, counts = (line.split() for line in table([outcome]).splitlines())
        assert counts[head.index("missing")] == "2"

    def test_no_reports_at_all_are_a_fault(self, tmp_path: Path) -> None:
        [fault] = judged(Scripted("print('good bye')"), tmp_path).faults
        assert "no reports" in fault

    def test_those_of_an_earlier_run_do_not_count(self, tmp_path: Path) -> None:
        assert judged(Scripted(), tmp_path).faults == []
        assert judged(Scripted("print('good bye')"), tmp_path).faults != []


class TestPrograms:
    @pytest.mark.parametrize(
        ("server", "how"),
        [
            ("raise SystemExit('no such option')", "did not start: it ended with exit code 1"),
            (SERVER.replace("60", "0.3"), "ended in the middle, with exit code 0"),
            (f"{SERVER.replace('60', '0.3')}; raise SystemExit(3)", "ended in the middle, with exit code 3"),
        ],
    )
    def test_a_server_that_ends_is_a_fault(self, tmp_path: Path, server: str, how: str) -> None:
        slow_judge = Scripted("import time; time.sleep(60)")
        [fault] = judged(slow_judge, tmp_path, server).faults
        assert fault.startswith(f"the server {how}; {tmp_path / 'server.log'} ends with:\n")

    def test_a_server_that_logs_a_traceback_is_a_fault(self, tmp_path: Path) -> None:
        server = SERVER.replace("port 1", r"port 1\nTraceback (most recent call last):")
        [fault] = judged(Scripted(), tmp_path, server).faults
        assert fault.startswith("the server printed a traceback")

    def test_a_server_that_does_not_stop_in_order_is_a_fault(self, tmp_path: Path) -> None:
        server = f"import signal; signal.signal(signal.SIGTERM, lambda *_: 1 / 0); {SERVER}"
        [fault] = judged(Scripted(), tmp_path, server).faults
        assert fault.startswith("the server ended with exit code 1 after SIGTERM")
        assert "ZeroDivisionError" in fault

    def test_a_judge_that_says_nothing_any_more_is_a_fault(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Scripted, "silence_s", 0.3)
        [fault] = judged(Scripted("import time; time.sleep(60)"), tmp_path).faults
        assert fault.startswith("the judge said nothing for 0 s")

    def test_a_judge_that_is_killed_is_a_fault(self, tmp_path: Path) -> None:
        [fault] = judged(Scripted(f"{JUDGE}\nimport os; os.kill(os.getpid(), 9)"), tmp_path).faults
        assert fault.startswith("the judge ended with exit code -9")

    def test_a_judge_of_clients_is_read_when_the_client_has_ended(self, tmp_path: Path) -> None:
        assert judged(Scripted(), tmp_path, "pass", is_client=True).faults == []
        serving = Serving(f"{JUDGE}\nprint('served', flush=True)\nimport time; time.sleep(60)")
        client = f"""
import pathlib, time
while 'served' not in pathlib.Path({str(tmp_path)!r}, 'judge.log').read_text(): time.sleep(0.05)
"""
        assert judged(serving, tmp_path, client, is_client=True).faults == []

    @pytest.mark.parametrize(
        ("judge", "client", "fault"),
        [
            (Scripted(), "raise SystemExit('nobody there')", "the client ended with exit code 1"),
            (Serving("pass"), "import time; time.sleep(60)", "the judge ended in the middle"),
        ],
    )
    def test_a_client_or_a_judge_of_clients_that_ends_is_a_fault(
        self, tmp_path: Path, judge: Scripted, client: str, fault: str
    ) -> None:
        [told] = judged(judge, tmp_path, client, is_client=True).faults
        assert told.startswith(fault)


class TestTheCommand:
    @pytest.fixture(autouse=True)
    def scripted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        command = [sys.executable, "-c", SERVER]
        modes = [Mode(name, lambda folder, options: command) for name in ("one", "other")]
        monkeypatch.setattr(run, "BUILD", tmp_path)
        monkeypatch.setattr(run, "MODES", modes)

    def test_ends_with_0_when_every_case_of_every_mode_is_strict(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(run, "choose_judge", lambda name: Scripted())
        assert run.main([]) == 0
        assert run.main(["--all", "other"]) == 0
        rows = [line.split()[:4] for line in capsys.readouterr().out.splitlines() if "scripted" in line]
        assert rows == [
            ["one", "scripted", str(len(SAMPLE)), str(len(SAMPLE) - 3)],
            ["other", "scripted", str(len(SAMPLE)), str(len(SAMPLE) - 3)],
            ["other", "scripted", "517", "514"],
        ]

    def test_ends_with_1_and_says_why_when_one_is_not(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(run, "choose_judge", lambda name: Scripted(case_1_1_2=("FAILED", "OK")))
        assert run.main(["--case", "1.1.1", "--case", "1.1.2", "one"]) == 1
        assert "one: case 1.1.2 is FAILED" in capsys.readouterr().out


class TestAnImpatientJudge:
    def test_is_given_what_it_did_not_wait_for_again(self, tmp_path: Path) -> None:
        judge = Impatient(2)
        assert judged(judge, tmp_path).faults == []
        assert judge.asked == [list(CASES), ["9.3.1"], ["9.3.1"]]

    def test_is_believed_the_third_time(self, tmp_path: Path) -> None:
        judge = Impatient(9)
        [fault] = judged(judge, tmp_path).faults
        assert fault.startswith("case 9.3.1 is FAILED")
        assert len(judge.asked) == 3

    def test_is_believed_at_once_when_something_else_is_wrong(self, tmp_path: Path) -> None:
        judge = Impatient(9)
        judge._program = JUDGE
        assert len(judged(judge, tmp_path).faults) == 1
        assert len(judge.asked) == 1


class TestModes:
    def test_are_what_they_are_for_wstest(self) -> None:
        modes = modes_for(Wstest(Path("/wstest")), MODES)
        assert [mode.name for mode in modes] == ["factory", "resource", "tls", "client"]
        assert [len(mode.cases) for mode in modes] == [517, 517, len(SAMPLE), 517]

    def test_have_every_case_for_kosoku_too_with_the_offers_that_it_needs(self) -> None:
        *servers, client, resetting = modes_for(Kosoku(Path("/kosoku")), MODES)
        assert [mode.name for mode in servers] == ["factory", "resource", "tls"]
        assert sorted([*client.cases, *resetting.cases]) == sorted(EVERY_CASE)
        assert {case.rpartition(".")[0] for case in resetting.cases} == {"13.2", "13.5", "13.6"}
        assert "--client-no-context-takeover" in set(resetting.options) - set(client.options)

    def test_have_the_options_that_the_judge_needs(self) -> None:
        judge = Kosoku(Path("/kosoku"))
        for mode in modes_for(judge, MODES):
            assert " ".join(judge.needs_options) in " ".join(mode.options)


class TestCases:
    def test_are_those_of_the_suite(self) -> None:
        assert len(EVERY_CASE) == len(set(EVERY_CASE)) == 517
        assert set(SAMPLE) | INFORMATIONAL <= set(EVERY_CASE)

    def test_the_sample_has_all_of_groups_1_to_10_and_every_kind_and_size_of_12_and_13(self) -> None:
        rest = [case for case in SAMPLE if case.startswith(("12.", "13."))]
        assert set(EVERY_CASE) - set(SAMPLE) == {
            case for case in EVERY_CASE if case.startswith(("12.", "13."))
        } - set(rest)
        assert len({case.rpartition(".")[0] for case in rest}) == 12
        assert len({case.rpartition(".")[2] for case in rest}) == 18


class TestJudges:
    def test_wstest_is_told_exactly_the_cases(self, tmp_path: Path) -> None:
        command = Wstest(Path("/wstest")).fuzz_server("wss://127.0.0.1:9", CASES, tmp_path)
        spec = json.loads(Path(command[-1]).read_text("utf-8"))
        assert spec["cases"] == list(CASES)
        assert [server["url"] for server in spec["servers"]] == ["wss://127.0.0.1:9"]
        assert spec["outdir"] == str(tmp_path)

    def test_kosoku_is_told_exactly_the_cases(self, tmp_path: Path) -> None:
        command = Kosoku(Path("/kosoku")).fuzz_server("ws://127.0.0.1:9", CASES, tmp_path)
        assert command.count("--include") == len(CASES)
        assert set(CASES) < set(command)
        assert command[-1] == "127.0.0.1:9"

    @pytest.mark.parametrize("place", ["/nowhere/python2.7", sys.executable])
    def test_without_a_python_of_its_own_wstest_gives_way_and_that_is_said(
        self, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("CHATPROTO_PYTHON27", place)
        monkeypatch.setattr(Kosoku, "installed", lambda tools: Kosoku(tools / "kosoku"))
        assert run.choose_judge(None).name == "kosoku"
        assert "no CPython 2.7" in capsys.readouterr().out
        with pytest.raises(SystemExit, match="wstest cannot judge: there is no"):
            run.choose_judge("wstest")

    def test_wstest_gives_way_too_where_it_cannot_be_installed(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fail(tools: Path, python27: str) -> Wstest:
            raise subprocess.CalledProcessError(1, "pip")

        monkeypatch.setattr(run, "find_python27", lambda: "/python2.7")
        monkeypatch.setattr(Wstest, "installed", fail)
        monkeypatch.setattr(Kosoku, "installed", lambda tools: Kosoku(tools / "kosoku"))
        assert run.choose_judge(None).name == "kosoku"
        assert "cannot be installed on /python2.7" in capsys.readouterr().out

    def test_the_gate_passes_bytes_on_over_tls_both_ways_and_the_end_too(self, tmp_path: Path) -> None:
        write_certificate(tmp_path / "certificate.pem", tmp_path / "key.pem")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
        with context.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True) as listening:
            command = [sys.executable, str(run.HERE / "tls_gate.py"), str(listening.getsockname()[1])]
            with (
                Program("gate", command, tmp_path / "gate.log") as gate,
                socket.create_connection(("127.0.0.1", gate.wait_for_port()), PATIENCE_S) as client,
            ):
                client.sendall(b"hello")
                with listening.accept()[0] as served:
                    assert served.recv(9) == b"hello"
                    served.sendall(b"good bye")
                assert client.makefile("rb").read() == b"good bye"

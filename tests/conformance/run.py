"""Run the Autobahn test suite against the WebSocket layer, in each of its roles.

    python tests/conformance/run.py            groups 1 to 7, 9 and 10, and a sample of 12 and 13
    python tests/conformance/run.py --all      all 517 cases
    python tests/conformance/run.py --case 7.1.5 --case 12.1.3 factory

Modes: `factory` and `resource` are `examples/echo_server.py` and the same with `--resource`, `tls` is the
factory over TLS (the sample, with --all too), `client` is `client.py` beside this file. All keep windows from
message to message, but for `tls`, which compresses as the layer does by default. Without a name all of
them run, as many at a time as there are cores: in most cases judge and layer wait for each other.

Every case has to be passed strictly, but the three that have no strict answer. Whatever else is told with its
number, its description and its report, and the exit code is 1. So it is when reports are missing, when the
server, the client or the judge ends too early or hangs, and when ours print a traceback.

The judge is wstest, where there is a CPython 2.7 for it (in PATH, of pyenv, or what CHATPROTO_PYTHON27
names), else kosoku; each line of the table says which. What they need is installed under build/conformance,
where the reports are too.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

# After an installed chatproto, which is then the one that is tried.
sys.path += map(str, Path(__file__).resolve().parents[1:3])

from conformance.cases import EVERY_CASE, SAMPLE
from conformance.judges import AGENT, Judge, Kosoku, Wstest, find_python27
from conformance.processes import Broken, Program, wait_for
from conformance.verdicts import STANDINGS, NoReports, Verdict, count, find_faults, read_verdicts
from net.certificate import write_certificate

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "conformance"

ECHO_SERVER = [
    str(ROOT / "examples" / "echo_server.py"),
    # The largest message of group 9, and in the send queue a few of them.
    *("--max-message-bytes", str(2**24), "--max-queued-bytes", str(2**26)),
    "--deflate",
]
# Both windows kept, and every message compressed.
KEEPING = ("--no-server-no-context-takeover", "--min-message-bytes", "0")

RESETTING = "-resetting"
"""What is added to the name of a mode whose client offers client_no_context_takeover."""


@dataclass(frozen=True, slots=True)
class Mode:
    """A role of the layer: the command that plays it, which gets a folder of its own and more options.

    A server's prints "listening on HOST port PORT". A client's gets the URL and the agent's name too.
    """

    name: str
    command: Callable[[Path, Sequence[str]], list[str]]
    scheme: str = "ws"
    is_client: bool = False
    cases: Sequence[str] = EVERY_CASE
    options: Sequence[str] = ()


@dataclass(slots=True)
class Outcome:
    """What came of a mode."""

    mode: str
    judge: str
    n_cases: int
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    took_s: float = 0.0


def _echo_server(folder: Path, options: Sequence[str]) -> list[str]:
    return [sys.executable, *ECHO_SERVER, "--listen", "tcp:0:interface=127.0.0.1", *options]


def _tls_echo_server(folder: Path, options: Sequence[str]) -> list[str]:
    certificate_path, key_path = folder / "certificate.pem", folder / "key.pem"
    write_certificate(certificate_path, key_path)
    keys = f"privateKey={key_path}:certKey={certificate_path}"
    return [sys.executable, *ECHO_SERVER, "--listen", f"ssl:0:interface=127.0.0.1:{keys}", *options]


def _client(folder: Path, options: Sequence[str]) -> list[str]:
    return [sys.executable, str(HERE / "client.py"), *options]


MODES = (
    Mode("factory", _echo_server, options=KEEPING),
    Mode("resource", _echo_server, options=[*KEEPING, "--resource"]),
    Mode("tls", _tls_echo_server, scheme="wss", cases=SAMPLE),  # and compression as it is by default
    Mode("client", _client, is_client=True),
)


def modes_for(judge: Judge, modes: Iterable[Mode]) -> list[Mode]:
    """The modes as the judge has to have them."""
    fitted = []
    for mode in modes:
        options = [*mode.options, *judge.needs_options]
        apart = judge.needs_resetting_offers if mode.is_client else ()
        cases = [case for case in mode.cases if not case.startswith(apart)]
        fitted.append(replace(mode, cases=cases, options=options))
        if apart:
            cases = [case for case in mode.cases if case.startswith(apart)]
            options = [*options, "--client-no-context-takeover"]
            fitted.append(replace(mode, name=mode.name + RESETTING, cases=cases, options=options))
    return fitted


def judge_mode(mode: Mode, judge: Judge, cases: Sequence[str], folder: Path, tries: int = 3) -> Outcome:
    """Run cases in a mode, with everything that is left of it in *folder*.

    What an impatient judge gave up on is tried again.
    """
    shutil.rmtree(folder, ignore_errors=True)
    reports = folder / "reports"
    reports.mkdir(parents=True)
    outcome = Outcome(mode.name, judge.name, len(cases))
    begun_s = time.monotonic()
    try:
        (_run_client if mode.is_client else _run_server)(mode, judge, cases, folder, reports)
        outcome.verdicts = read_verdicts(reports)
        outcome.faults = find_faults(outcome.verdicts, cases)
    except (Broken, NoReports) as error:
        outcome.faults = [str(error)]
    late = [verdict.case for verdict in outcome.verdicts.values() if verdict.is_late]
    if late and judge.is_impatient and tries > 1:
        print(f"{mode.name}: {judge.name} did not wait for {', '.join(late)}; again", flush=True)
        again = judge_mode(mode, judge, late, folder / "again", tries - 1)
        outcome.verdicts.update(again.verdicts)
        outcome.faults = find_faults(outcome.verdicts, cases)
    outcome.took_s = time.monotonic() - begun_s
    print(f"{mode.name}: {len(outcome.verdicts)} cases judged in {outcome.took_s:.0f} s", flush=True)
    return outcome


def _run_server(mode: Mode, judge: Judge, cases: Sequence[str], folder: Path, reports: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(
            Program("server", mode.command(folder, mode.options), folder / "server.log")
        )
        others = [server]
        url = f"{mode.scheme}://127.0.0.1:{server.wait_for_port()}"
        if mode.scheme == "wss" and not judge.speaks_tls:
            port = url.rpartition(":")[2]
            command = [sys.executable, str(HERE / "tls_gate.py"), port]
            gate = stack.enter_context(Program("gate to TLS", command, folder / "gate.log"))
            others.append(gate)
            url = f"ws://127.0.0.1:{gate.wait_for_port()}"
        command = judge.fuzz_server(url, cases, reports)
        judging = stack.enter_context(Program("judge", command, folder / "judge.log"))
        wait_for(judging, others, watched=judging, silence_s=judge.silence_s)
        server.stop()
        _see_no_traceback(server)


def _run_client(mode: Mode, judge: Judge, cases: Sequence[str], folder: Path, reports: Path) -> None:
    port = _free_port()
    with ExitStack() as stack:
        command = judge.fuzz_client(port, cases, reports)
        judging = stack.enter_context(Program("judge", command, folder / "judge.log"))
        command = [*mode.command(folder, mode.options), f"ws://127.0.0.1:{port}", AGENT]
        client = stack.enter_context(Program("client", command, folder / "client.log"))
        others = [judging] if judge.serves_for_ever else []
        wait_for(client, others, watched=client, silence_s=judge.silence_s)
        if client.status():
            raise client.broken(f"ended with exit code {client.status()}")
        _see_no_traceback(client)
        if not judge.serves_for_ever:
            wait_for(judging, [], watched=judging, silence_s=judge.silence_s)


def _see_no_traceback(program: Program) -> None:
    if "Traceback (most recent call last)" in program.printed():
        raise program.broken("printed a traceback")


def _free_port() -> int:
    with socket.socket() as plain:
        plain.bind(("127.0.0.1", 0))
        return int(plain.getsockname()[1])


def choose_judge(name: str | None) -> Judge:
    """The judge of that name, or the best there is; installed."""
    if name == Kosoku.name:
        return Kosoku.installed(BUILD)
    python27 = find_python27()
    if python27 is None:
        why = "there is no CPython 2.7 with ssl here (in PATH, of pyenv, or named by CHATPROTO_PYTHON27)"
    else:
        try:
            judge = Wstest.installed(BUILD, python27)
        except subprocess.CalledProcessError:
            why = f"it cannot be installed on {python27}: see above"
        else:
            print(f"wstest judges, on {python27}.", flush=True)
            return judge
    if name == Wstest.name:
        raise SystemExit(f"wstest cannot judge: {why}")
    print(f"wstest, the judge in doubt, cannot judge: {why}.\nkosoku judges instead.", flush=True)
    return Kosoku.installed(BUILD)


def table(outcomes: Sequence[Outcome]) -> str:
    """The counts, a mode to a line."""
    rows: list[tuple[str, ...]] = [("mode", "judge", "cases", *STANDINGS, "missing", "time")]
    for outcome in outcomes:
        counts = count(outcome.verdicts.values())
        n_missing = outcome.n_cases - len(outcome.verdicts)
        numbers = [outcome.n_cases, *(counts[standing] for standing in STANDINGS), n_missing]
        rows.append((outcome.mode, outcome.judge, *map(str, numbers), f"{outcome.took_s:.0f} s"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description="Run the Autobahn test suite against the WebSocket layer.")
    names = [mode.name for mode in MODES]
    parser.add_argument("modes", nargs="*", metavar="MODE", help=f"{', '.join(names)} (all of them)")
    parser.add_argument("--all", action="store_true", help=f"all {len(EVERY_CASE)} cases, not {len(SAMPLE)}")
    parser.add_argument("--case", action="append", choices=EVERY_CASE, metavar="N", help="only this one")
    parser.add_argument("--judge", choices=[Wstest.name, Kosoku.name], help="not the best there is but this")
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        help="how many modes to run at a time (%(default)s)",
    )
    options = parser.parse_args(arguments)
    unknown = set(options.modes) - set(names)
    if unknown:
        parser.error(f"no such mode: {', '.join(sorted(unknown))}")
    judge = choose_judge(options.judge)
    wanted = set(options.case or (EVERY_CASE if options.all else SAMPLE))
    modes = [
        replace(mode, cases=[case for case in mode.cases if case in wanted])
        for mode in modes_for(judge, MODES)
        if mode.name.removesuffix(RESETTING) in (options.modes or names)
    ]

    def run(mode: Mode) -> Outcome:
        return judge_mode(mode, judge, mode.cases, BUILD / "runs" / mode.name)

    with (BUILD / "runs.lock").open("w") as lock, ThreadPoolExecutor(options.jobs) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run would have the same folders
        outcomes = list(pool.map(run, [mode for mode in modes if mode.cases]))
    print(table(outcomes))
    for outcome in outcomes:
        for fault in outcome.faults:
            print(f"{outcome.mode}: {fault}")
    return 1 if any(outcome.faults for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())

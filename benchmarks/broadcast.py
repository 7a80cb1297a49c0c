"""What it costs to bring one message to one person: the chat beside a peer, in the same run.

Starts each server as a process of its own on the first core, lets `load.c` talk to it from the second, and
does so in turn, A B A B, so that whatever the machine does beside falls on both. See README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import resource
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
READY_S = 15.0
STOP_S = 10.0
# A side that computes for more of the time than this is saturated.
SATURATED_SHARE = 0.9
PEER = "int32"

# How each server is started. `{port}` becomes the port to listen on; the working directory is an empty one.
# The twistd of a virtualenv stands beside its link to the interpreter: the link must not be resolved.
SERVER_COMMANDS: dict[str, list[str]] = {
    "frames": [
        str(Path(sys.executable).parent / "twistd"),
        "-n",
        "--pidfile=",
        "chat",
        "--history",
        "memory",
        "--max-messages-per-s",  # nobody is to be slowed down who is to load it
        "0",
        "--listen",
        f"tcp:{{port}}:interface={HOST}:backlog=4096",
    ],
    PEER: [sys.executable, str(HERE / "peers" / "int32.py"), "--port", "{port}"],
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured. `senders` has one entry for each set of rows."""

    clients: int
    senders: tuple[int, ...]
    window: int
    bytes: int
    seconds: float
    warmup: float
    rounds: int
    servers: tuple[str, ...]
    json: bool


@dataclasses.dataclass(frozen=True)
class Run:
    """One server under one load for one measured window."""

    server: str
    senders: int
    cpu_us_per_delivery: float
    deliveries_per_s: float
    p50_ms: float
    p99_ms: float
    server_cpu_share: float
    load_cpu_share: float
    lagged: int


@dataclasses.dataclass(frozen=True)
class Row:
    """The runs of one server with one number of senders: medians, and the extremes of what matters most."""

    server: str
    senders: int
    cpu_us_per_delivery: float
    cpu_us_per_delivery_min: float
    cpu_us_per_delivery_max: float
    ratio_to_peer: float | None
    ratio_to_peer_min: float | None
    ratio_to_peer_max: float | None
    deliveries_per_s: float
    p50_ms: float
    p99_ms: float
    server_cpu_share: float
    load_cpu_share: float
    lagged: int

    @property
    def server_saturated(self) -> bool:
        """Whether the figures are the server's: it was busy, and the load had time to spare."""
        return self.server_cpu_share > SATURATED_SHARE > self.load_cpu_share


def fail(sentence: str) -> NoReturn:
    sys.exit(f"broadcast: {sentence}")


# -- processes -----------------------------------------------------------------------------------------------


@contextmanager
def pinned_to(core: int | None) -> Iterator[None]:
    """Have the processes that are started inside run on `core` alone, their threads too."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End `process`, which this program started, gently and then not."""
    try:
        process.terminate()
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def answers_ping(port: int) -> bool:
    ping = struct.pack(">IBQ", 9, 0x08, 4711)
    pong = struct.pack(">IBQ", 9, 0x89, 4711)
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            connection.sendall(ping)
            return connection.recv(len(pong), socket.MSG_WAITALL) == pong
    except OSError:
        return False


@contextmanager
def serving(name: str, core: int | None) -> Iterator[tuple[int, int]]:
    """Run a server; gives its process id and port once it answers. Afterwards it is gone, come what may."""
    port = free_port()
    command = [part.format(port=port) for part in SERVER_COMMANDS[name]]
    with tempfile.TemporaryDirectory(prefix="broadcast-") as directory, tempfile.TemporaryFile() as log:
        with pinned_to(core):
            process = subprocess.Popen(
                command, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            until = time.monotonic() + READY_S
            while not answers_ping(port):
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    said = log.read().decode(errors="replace")[-2000:]
                    fail(f"{name} does not answer a ping. Started with {command}, it said:\n{said}")
                time.sleep(0.05)
            yield process.pid, port
        finally:
            stop(process)


def build_load(directory: Path) -> Path:
    """Compile the load generator; it is never kept."""
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        fail(f"there is no C compiler {compiler!r}; set CC.")
    load = directory / "load"
    subprocess.run([compiler, "-std=c11", "-O2", "-o", str(load), str(HERE / "load.c")], check=True)
    return load


def measure(load: Path, options: Options, name: str, senders: int, cores: tuple[int, int] | None) -> Run:
    """Put one server under load once."""
    server_core, load_core = cores or (None, None)
    with serving(name, server_core) as (pid, port):
        command = [
            str(load),
            f"--clients={options.clients}",
            f"--senders={senders}",
            f"--window={options.window}",
            f"--bytes={options.bytes}",
            f"--warmup={options.warmup}",
            f"--seconds={options.seconds}",
            f"--limit-s={options.warmup + options.seconds + 60}",
            f"--server-pid={pid}",
            f"{HOST}:{port}",
        ]
        with pinned_to(load_core):
            done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        fail(f"{name}, {counted(senders)}: {done.stderr.strip()}")
    figures = json.loads(done.stdout)
    return Run(
        server=name,
        senders=senders,
        cpu_us_per_delivery=figures["server_cpu_s"] * 1e6 / figures["deliveries"],
        deliveries_per_s=figures["deliveries_per_s"],
        p50_ms=figures["p50_ms"],
        p99_ms=figures["p99_ms"],
        server_cpu_share=figures["server_cpu_s"] / figures["wall_s"],
        load_cpu_share=figures["load_cpu_s"] / figures["wall_s"],
        lagged=figures["lagged"],
    )


# -- figures -------------------------------------------------------------------------------------------------


def ratios_to_peer(runs: Sequence[Run], peer_runs: Sequence[Run]) -> list[float]:
    """One for each round: the two runs of a round are neighbours in time, so noise hits both."""
    return [
        run.cpu_us_per_delivery / peer.cpu_us_per_delivery
        for run, peer in zip(runs, peer_runs, strict=False)  # without the peer there are no ratios
    ]


def row_of(runs: Sequence[Run], peer_runs: Sequence[Run]) -> Row:
    cpu_us = [run.cpu_us_per_delivery for run in runs]
    ratios = ratios_to_peer(runs, peer_runs)
    return Row(
        server=runs[0].server,
        senders=runs[0].senders,
        cpu_us_per_delivery=statistics.median(cpu_us),
        cpu_us_per_delivery_min=min(cpu_us),
        cpu_us_per_delivery_max=max(cpu_us),
        ratio_to_peer=statistics.median(ratios) if ratios else None,
        ratio_to_peer_min=min(ratios, default=None),
        ratio_to_peer_max=max(ratios, default=None),
        deliveries_per_s=statistics.median(run.deliveries_per_s for run in runs),
        p50_ms=statistics.median(run.p50_ms for run in runs),
        p99_ms=statistics.median(run.p99_ms for run in runs),
        server_cpu_share=statistics.median(run.server_cpu_share for run in runs),
        load_cpu_share=statistics.median(run.load_cpu_share for run in runs),
        lagged=sum(run.lagged for run in runs),
    )


def rows_of(runs: Sequence[Run], options: Options) -> list[Row]:
    def chosen(server: str, senders: int) -> list[Run]:
        return [run for run in runs if (run.server, run.senders) == (server, senders)]

    return [
        row_of(chosen(server, senders), chosen(PEER, senders))
        for senders in options.senders
        for server in options.servers
    ]


# -- what is printed -----------------------------------------------------------------------------------------


def machine() -> str:
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{model}, {len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.release()}"


def installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    return {
        "Python": platform.python_version(),
        "Twisted": installed("Twisted") or "not installed",
        "txchatproto": installed("txchatproto") or "not installed",
    }


def counted(senders: int) -> str:
    return "1 sender" if senders == 1 else f"{senders} senders"


def verdict(row: Row) -> str:
    """Which side the figures of `row` are limited by, in one sentence."""
    if row.server_saturated:
        return "the server is the saturated side."
    if row.load_cpu_share >= SATURATED_SHARE:
        return "the server is NOT the saturated side: the load is, and could not ask for more."
    return "the server is NOT the saturated side, nor is the load: something else held them up."


def markdown(rows: Sequence[Row], options: Options, pinned: bool) -> str:
    lines = [
        "| senders | server | CPU us per delivery | ratio to the peer | deliveries per s | p50 ms | p99 ms "
        "| server CPU | load CPU |",
        "|--:|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        ratio = "-"
        if row.ratio_to_peer is not None and row.server != PEER:
            ratio = f"{row.ratio_to_peer:.2f} ({row.ratio_to_peer_min:.2f}-{row.ratio_to_peer_max:.2f})"
        lines.append(
            f"| {row.senders} | {row.server} | {row.cpu_us_per_delivery:.2f} "
            f"({row.cpu_us_per_delivery_min:.2f}-{row.cpu_us_per_delivery_max:.2f}) | {ratio} "
            f"| {row.deliveries_per_s:,.0f} | {row.p50_ms:.2f} | {row.p99_ms:.2f} "
            f"| {row.server_cpu_share:.0%} | {row.load_cpu_share:.0%} |"
        )
    lines.append("")
    for row in rows:
        lagged = f" {row.lagged} times a reader lagged." if row.lagged else ""
        lines.append(f"- {row.server}, {counted(row.senders)}: {verdict(row)}{lagged}")
    lines += [
        "",
        f"{options.clients} connections in one room, {options.window} messages in flight for each sender, "
        f"texts of {options.bytes} bytes, {options.rounds} rounds of {options.seconds:g} s in turn. Medians; "
        "in parentheses the least and the most.",
        f"{machine()}; {', '.join(f'{name} {number}' for name, number in versions().items())}.",
    ]
    if not pinned:
        lines.append("There is only one core: server and load share it, and latencies say nothing.")
    return "\n".join(lines)


# -- the command line ----------------------------------------------------------------------------------------


def senders_list(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def read_options(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(description="Measures a broadcast, the chat beside a peer.")
    parser.add_argument("--clients", type=int, default=200, help="connections in the room (%(default)s)")
    parser.add_argument(
        "--senders",
        type=senders_list,
        default=(4,),
        help="how many of them talk; several, as 1,4,20: one set of rows each",
    )
    parser.add_argument("--window", type=int, default=4, help="messages each has in flight (%(default)s)")
    parser.add_argument("--bytes", type=int, default=64, help="bytes of a text, 16 at least (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5, help="measured seconds of a run (%(default)s)")
    parser.add_argument("--warmup", type=float, default=1, help="seconds before that (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each server (%(default)s)")
    parser.add_argument("--only", choices=sorted(SERVER_COMMANDS), help="measure one server, without a ratio")
    parser.add_argument("--json", action="store_true", help="print every run as JSON, not a table")
    given = parser.parse_args(arguments)
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    return Options(
        clients=given.clients,
        senders=given.senders,
        window=given.window,
        bytes=given.bytes,
        seconds=given.seconds,
        warmup=given.warmup,
        rounds=given.rounds,
        servers=(given.only,) if given.only else tuple(SERVER_COMMANDS),
        json=given.json,
    )


def end_as_on_interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> None:
    options = read_options(arguments)
    if "frames" in options.servers and installed("txchatproto") is None:
        fail("txchatproto is not installed beside this Python; install the checkout, or say --only int32.")
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most_files < options.clients + 100:
        fail(f"{options.clients} connections need more open files than the hard limit of {most_files}.")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    # A plain SIGTERM would leave the servers behind.
    signal.signal(signal.SIGTERM, end_as_on_interrupt)
    usable = sorted(os.sched_getaffinity(0))
    cores = (usable[0], usable[1]) if len(usable) > 1 else None
    runs: list[Run] = []
    try:
        with tempfile.TemporaryDirectory(prefix="broadcast-") as directory:
            load = build_load(Path(directory))
            for senders in options.senders:
                for number in range(1, options.rounds + 1):
                    for server in options.servers:
                        run = measure(load, options, server, senders, cores)
                        runs.append(run)
                        print(
                            f"{counted(senders)}, round {number}, {server}: {run.cpu_us_per_delivery:.3f} us",
                            file=sys.stderr,
                        )
    except KeyboardInterrupt:
        sys.exit(130)
    rows = rows_of(runs, options)
    if options.json:
        report = {
            "machine": machine(),
            "pinned": cores is not None,
            "versions": versions(),
            "options": dataclasses.asdict(options),
            "rows": [dataclasses.asdict(row) | {"server_saturated": row.server_saturated} for row in rows],
            "runs": [dataclasses.asdict(run) for run in runs],
        }
        print(json.dumps(report, indent=1))
    else:
        print(markdown(rows, options, cores is not None))


if __name__ == "__main__":
    main()

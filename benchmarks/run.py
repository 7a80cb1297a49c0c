"""What this server and its layers cost, beside their peers, in one run: `python benchmarks/run.py [PART...]`.

Each subject runs as a process of its own on one core, a load generator in C talks to it from another, and all
subjects of a table take turns. See docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from environment import prepare
from generator import building
from measuring import Measuring, two_cores
from parts import broadcast, chat, compression, connections, decoding, echo, growth, reactors, tls
from report import beside_each_other, machine, markdown
from rounds import Table
from servers import Failed

_HERE = Path(__file__).resolve().parent
_PARTS: dict[str, Callable[[Measuring], Iterator[Table]]] = {
    "broadcast": broadcast.measure,
    "echo": echo.measure,
    "chat": chat.measure,
    "decoding": decoding.measure,
    "connections": connections.measure,
    "compression": compression.measure,
    "tls": tls.measure,
    "reactors": reactors.measure,
    "growth": growth.measure,
}
_HISTORY = "history"
_MOST_CONNECTIONS = 10_100


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures, beside peers.", epilog="See docs/benchmarks.md.")
    names = [*_PARTS, _HISTORY]
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"some of {', '.join(names)}; all by default"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of each table (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="measured in each run (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a moment each: only to see that it works")
    parser.add_argument("--no-peers", action="store_true", help="install and measure no peers")
    parser.add_argument("--json", metavar="FILE", help="write all figures there too")
    parser.add_argument("--plot", metavar="FOLDER", help="draw them there too, as SVG")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.parts if name not in names]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}; choose from {', '.join(names)}")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.seconds <= 0:
        parser.error("--seconds must be more than 0")
    if options.plot and options.no_peers:
        parser.error("--plot needs the peers' environment, as matplotlib is there")
    if options.quick:
        options.rounds, options.seconds = 1, 0.2
    options.parts = options.parts or names
    return options


def _measure_history(options: argparse.Namespace) -> None:
    """The durable history has a program of its own, with many options."""
    quick = ("--only=many,one", "--senders=50") if options.quick else ("--only=many,one,server",)
    pace = (f"--rounds={options.rounds}", f"--seconds={options.seconds}")
    command = [sys.executable, str(_HERE / "history.py"), *quick, *pace]
    print("## history\n\n```", flush=True)
    done = subprocess.run(command)
    print("```\n", flush=True)
    if done.returncode:
        raise Failed("history.py failed; it said why.")


def _tables(name: str, measuring: Measuring) -> Iterator[Table]:
    """Measure one part, and tell of each table as soon as it is there."""
    print(f"## {name}\n", flush=True)
    tables = []
    for table in _PARTS[name](measuring):
        print(markdown(table), flush=True)
        tables.append(table)
        yield table
    print(beside_each_other(tables), flush=True)


def _measure(options: argparse.Namespace) -> None:
    """Measure all that is asked for. Raises Failed, at the end, where some of it could not be."""
    server_core, load_core = two_cores()
    peers = prepare(wanted=not options.no_peers)
    figures: dict[str, Any] = {"machine": machine(peers.versions), "tables": []}
    figures |= {"rounds": options.rounds, "seconds": options.seconds}
    print(f"{figures['machine']}\n", flush=True)
    for fault in peers.faults.values():
        print(f"Not measured: {fault}\n", flush=True)
    if server_core is None:
        print("There is only one core: server and load share it, and latencies say nothing.\n", flush=True)
    faults: list[str] = []
    with building(load_core) as generator:
        measuring = Measuring(generator, server_core, peers, options.rounds, options.seconds, options.quick)
        for name in options.parts:
            try:
                if name == _HISTORY:
                    _measure_history(options)
                    continue
                for table in _tables(name, measuring):
                    figures["tables"].append(dataclasses.asdict(table))
                    if options.json:  # after each, as all of them take long
                        Path(options.json).write_text(json.dumps(figures, indent=1))
            except Failed as fault:
                faults.append(f"{name}: {fault}")
                print(f"The rest of {name} was not measured: {fault}\n", flush=True)
    if options.plot and figures["tables"]:
        Path(options.plot).mkdir(parents=True, exist_ok=True)
        drawing = [str(peers.python), str(_HERE / "plot.py"), options.plot]
        if subprocess.run(drawing, input=json.dumps(figures), text=True).returncode:
            faults.append("the pictures could not be drawn.")
    if faults:
        raise Failed(" ".join(faults))


def _end_as_on_interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> None:
    options = _read_options(arguments)
    # A plain SIGTERM would leave the servers behind.
    signal.signal(signal.SIGTERM, _end_as_on_interrupt)
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    if most_files < _MOST_CONNECTIONS and not options.quick:
        print(f"Only {most_files} files may be open: what needs more will fail.", file=sys.stderr)
    try:
        _measure(options)
    except Failed as fault:
        sys.exit(f"benchmarks: {fault}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

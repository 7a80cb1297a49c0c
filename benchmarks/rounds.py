"""Measuring in rounds: each subject once in each, so that what the machine does beside falls on all."""

from __future__ import annotations

import dataclasses
import statistics
import sys
from collections.abc import Callable, Sequence

from generator import Load, Opened
from servers import Failed

__all__ = ["Row", "Run", "Subject", "Table", "compare", "run_of_load", "run_of_opened"]

_ONE_OF = {"deliveries": "delivery", "echoes": "echo", "connections": "connection", "messages": "message"}


@dataclasses.dataclass(frozen=True)
class Run:
    """One subject, measured once. None is what does not apply.

    Shares are of the measured time; what a side *wanted* is what it computed and what it waited for its core.
    """

    cpu_us: float
    per_s: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    rss_mib: float | None = None
    connection_kib: float | None = None
    server_share: float | None = None
    load_share: float | None = None
    server_wanted_share: float | None = None
    load_wanted_share: float | None = None
    lagged: int = 0


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is measured, under a name; `measure` raises Failed where it cannot be."""

    name: str
    measure: Callable[[], Run]


@dataclasses.dataclass(frozen=True)
class Row:
    """Medians of a subject's rounds, and the extremes of what matters most; or why there are none.

    `ratio` is the median of the ratios of each round to the first subject's.
    """

    name: str
    fault: str = ""
    run: Run | None = None
    cpu_us_least: float = 0.0
    cpu_us_most: float = 0.0
    ratio: float = 0.0
    ratio_least: float = 0.0
    ratio_most: float = 0.0
    connection_ratio: float | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """Subjects beside each other. *unit* is what `cpu_us` is for; *units* are several."""

    part: str
    title: str
    unit: str
    units: str
    rows: tuple[Row, ...]
    runs: dict[str, list[Run]]


def run_of_load(load: Load) -> Run:
    """The figures of a load, for each delivery."""
    return Run(
        cpu_us=load.server_cpu_s * 1e6 / load.deliveries,
        per_s=load.deliveries / load.wall_s,
        p50_ms=load.p50_ms,
        p99_ms=load.p99_ms,
        rss_mib=load.server_rss_bytes / 2**20,
        server_share=load.server_cpu_s / load.wall_s,
        load_share=load.load_cpu_s / load.wall_s,
        server_wanted_share=(load.server_cpu_s + load.server_waited_s) / load.wall_s,
        load_wanted_share=(load.load_cpu_s + load.load_waited_s) / load.wall_s,
        lagged=load.lagged,
    )


def run_of_opened(opened: Opened) -> Run:
    """The figures of connections that were opened, for each."""
    held_bytes = opened.server_rss_bytes - opened.server_rss_before_bytes
    return Run(
        cpu_us=opened.server_cpu_s * 1e6 / opened.connections,
        per_s=opened.connections / opened.wall_s,
        connection_kib=held_bytes / opened.connections / 1024,
        rss_mib=opened.server_rss_bytes / 2**20,
        server_share=opened.server_cpu_s / opened.wall_s,
        load_share=opened.load_cpu_s / opened.wall_s,
        server_wanted_share=(opened.server_cpu_s + opened.server_waited_s) / opened.wall_s,
        load_wanted_share=(opened.load_cpu_s + opened.load_waited_s) / opened.wall_s,
    )


def _median_run(runs: Sequence[Run]) -> Run:
    figures: dict[str, float | None] = {}
    for field in dataclasses.fields(Run):
        values = [value for run in runs if (value := getattr(run, field.name)) is not None]
        figures[field.name] = statistics.median(values) if values else None
    figures["lagged"] = sum(run.lagged for run in runs)
    return Run(**figures)  # type: ignore[arg-type]


def _row(name: str, runs: Sequence[Run], first: Sequence[Run]) -> Row:
    ratios = [run.cpu_us / other.cpu_us for run, other in zip(runs, first, strict=True)]
    memories = [
        run.connection_kib / other.connection_kib
        for run, other in zip(runs, first, strict=True)
        if run.connection_kib and other.connection_kib
    ]
    return Row(
        name,
        run=_median_run(runs),
        cpu_us_least=min(run.cpu_us for run in runs),
        cpu_us_most=max(run.cpu_us for run in runs),
        ratio=statistics.median(ratios),
        ratio_least=min(ratios),
        ratio_most=max(ratios),
        connection_ratio=statistics.median(memories) if memories else None,
    )


def compare(part: str, title: str, units: str, subjects: Sequence[Subject], rounds: int) -> Table:
    """Measure all subjects in turn, so many times.

    A subject that fails is left out from then on, and its row says why. The first one must not: it is what
    the others are compared with. Raises Failed where it does.
    """
    unit = _ONE_OF[units]
    runs: dict[str, list[Run]] = {subject.name: [] for subject in subjects}
    faults: dict[str, str] = {}
    for number in range(1, rounds + 1):
        for subject in subjects:
            if subject.name in faults:
                continue
            try:
                run = subject.measure()
            except Failed as fault:
                if subject is subjects[0]:
                    raise Failed(f"{title}, {subject.name}: {fault}") from None
                faults[subject.name] = str(fault)
                print(f"{part}: {title}, round {number}, {subject.name}: {fault}", file=sys.stderr)
                continue
            runs[subject.name].append(run)
            print(
                f"{part}: {title}, round {number}, {subject.name}: {run.cpu_us:.3f} us for each {unit}",
                file=sys.stderr,
            )
    first = runs[subjects[0].name]
    rows = tuple(
        Row(name, fault=faults[name]) if name in faults else _row(name, measured, first)
        for name, measured in runs.items()
    )
    return Table(part, title, unit, units, rows, runs)

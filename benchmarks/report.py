"""Tables of what was measured, for people, and on what machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from rounds import Row, Run, Table

__all__ = ["beside_each_other", "machine", "markdown"]

# A side that wants its core for more of the time than this is saturated.
_SATURATED_SHARE = 0.9


def machine(peer_versions: dict[str, str]) -> str:
    """The processor, the system and the versions of all that was measured, in one line."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cores = len(os.sched_getaffinity(0))
    ours = {"chatproto": version("txchatproto"), "Twisted": version("Twisted")}
    ours |= {"Python": platform.python_version()}
    beside = f"; beside it {_named(peer_versions)}" if peer_versions else ""
    return f"{model}, {cores} cores, {platform.system()} {platform.release()}; {_named(ours)}{beside}"


def _named(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _spread(value: float, least: float, most: float) -> str:
    return f"{_number(value)} ({_number(least)}–{_number(most)})"


def _ratio(row: Row) -> str:
    return f"{row.ratio:.2f} ({row.ratio_least:.2f}–{row.ratio_most:.2f})"


def _saturated(run: Run) -> str:
    """Who wanted all of its core: the figures are the server's where it is the server alone."""
    if run.server_wanted_share is None or run.load_wanted_share is None:
        return ""
    sides = {"server": run.server_wanted_share, "load": run.load_wanted_share}
    return " and ".join(side for side, share in sides.items() if share >= _SATURATED_SHARE) or "neither"


_COLUMNS: tuple[tuple[str, str, Callable[[Run], str]], ...] = (
    ("per_s", "{units} per s", lambda run: f"{run.per_s:,.0f}"),
    ("p50_ms", "p50 ms", lambda run: _number(run.p50_ms or 0)),
    ("p99_ms", "p99 ms", lambda run: _number(run.p99_ms or 0)),
    ("connection_kib", "KiB each", lambda run: f"{run.connection_kib or 0:.2f}"),
    ("rss_mib", "memory MiB", lambda run: f"{run.rss_mib or 0:.0f}"),
    ("server_share", "server CPU", lambda run: f"{run.server_share or 0:.0%}"),
    ("load_share", "load CPU", lambda run: f"{run.load_share or 0:.0%}"),
    ("server_wanted_share", "saturated", _saturated),
)


def markdown(table: Table) -> str:
    """One table: what a subject costs first, then its ratio to the first of them, then the rest."""
    runs = [row.run for row in table.rows if row.run is not None]
    shown = [column for column in _COLUMNS if any(getattr(run, column[0]) is not None for run in runs)]
    titles = [f"CPU us per {table.unit}", f"× {table.rows[0].name}"]
    titles += [title.format(units=table.units) for _, title, _ in shown]
    lines = [f"### {table.title}", "", "| | " + " | ".join(titles) + " |", "|---|" + "--:|" * len(titles)]
    for row in table.rows:
        if row.run is None:
            continue
        cells = [_spread(row.run.cpu_us, row.cpu_us_least, row.cpu_us_most), _ratio(row)]
        cells += [cell(row.run) for _, _, cell in shown]
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    lines.append("")
    lines += [f"- {row.name} was not measured: {row.fault}" for row in table.rows if row.fault]
    lines += [
        f"- {row.name}: {row.run.lagged} times a reader lagged."
        for row in table.rows
        if row.run is not None and row.run.lagged
    ]
    return "\n".join(lines).rstrip() + "\n"


def beside_each_other(tables: Sequence[Table]) -> str:
    """One table of those that have the same first subject: what each costs, and its ratio to that."""
    lines: list[str] = []
    for first in dict.fromkeys(table.rows[0].name for table in tables):
        alike = [table for table in tables if table.rows[0].name == first]
        if len(alike) < 2:
            continue
        titles = [f"{table.title}, CPU us per {table.unit} (× {first})" for table in alike]
        lines += ["| | " + " | ".join(titles) + " |", "|---|" + "--:|" * len(titles)]
        for name in dict.fromkeys(row.name for table in alike for row in table.rows):
            found = [next((row for row in table.rows if row.name == name), None) for table in alike]
            lines.append(f"| {name} | " + " | ".join(_cost(row) for row in found) + " |")
        lines.append("")
    return "\n".join(lines)


def _cost(row: Row | None) -> str:
    if row is None or row.run is None:
        return "–"
    return f"{_number(row.run.cpu_us)} ({row.ratio:.2f}, {row.ratio_least:.2f}–{row.ratio_most:.2f})"

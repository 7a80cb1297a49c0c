"""Draws what was measured: `plot.py FOLDER`, with the figures of `run.py --json` on standard input.

Runs in the peers' environment, where matplotlib is. Writes `benchmarks.svg`, and `benchmarks-growth.svg`
where growth was measured.
"""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot

OURS, THEIRS = "#2a6f97", "#b9b4a7"
BESIDE_PEERS = ("broadcast", "echo", "connections")
Table = dict[str, Any]


def measured(table: Table) -> list[dict[str, Any]]:
    return [row for row in table["rows"] if row["run"] is not None]


def title_of(table: Table) -> str:
    words: list[str] = table["title"].split(", ")
    return words[0] if len(words) == 1 else f"{words[0]},\n{', '.join(words[1:])}"


def draw_bars(
    axes: Any, title: str, names: list[str], values: list[float], ratios: list[float], unit: str
) -> None:
    """One bar for each, the first being ours; how many times ours a peer's is stands behind its bar."""
    places = range(len(names), 0, -1)
    colors = [OURS, *[THEIRS] * (len(names) - 1)]
    axes.barh(places, values, color=colors)
    axes.set_yticks(places, names)
    axes.set_xlim(0, max(values) * 1.3)
    axes.set_title(title, loc="left", fontsize=9)
    axes.set_xlabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    for place, value, ratio in zip(places, values, ratios, strict=True):
        number = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        beside = "" if place == len(names) else f"  ({ratio:.1f}×)"
        axes.text(value, place, f" {number}{beside}", va="center", fontsize=7)


def draw_peers(tables: list[Table], machine: str, path: Path) -> None:
    """Bars: microseconds of the server's CPU; and memory, where that was measured."""
    beside = [table for table in tables if table["part"] in BESIDE_PEERS and len(measured(table)) > 3]
    charts = []
    for table in beside:
        rows = measured(table)
        names = [row["name"] for row in rows]
        cpu_us = [row["run"]["cpu_us"] for row in rows]
        ratios = [row["ratio"] for row in rows]
        charts.append((title_of(table), names, cpu_us, ratios, f"µs of CPU for each {table['unit']}"))
        memory_kib = [row["run"]["connection_kib"] for row in rows]
        if all(memory_kib):
            ratios = [row["connection_ratio"] for row in rows]
            charts.append(("memory of a WebSocket in rest", names, memory_kib, ratios, "KiB"))
    if not charts:
        return
    lines = (len(charts) + 1) // 2
    figure, grid = pyplot.subplots(lines, 2, figsize=(10, 2.6 * lines), squeeze=False)
    for axes, chart in zip(grid.flat, charts, strict=False):
        draw_bars(axes, *chart)
    for axes in list(grid.flat)[len(charts) :]:
        axes.set_visible(False)
    save(figure, machine, path)


def draw_growth(tables: list[Table], machine: str, path: Path) -> None:
    """Lines: microseconds of the server's CPU by a number of people or connections."""
    growth = [table for table in tables if table["part"] == "growth" and len(measured(table)) > 1]
    if not growth:
        return
    figure, grid = pyplot.subplots(1, len(growth), figsize=(10, 3), squeeze=False)
    for axes, table in zip(grid.flat, growth, strict=True):
        rows = measured(table)
        sizes = [int(row["name"].replace(",", "")) for row in rows]
        cpu_us = [row["run"]["cpu_us"] for row in rows]
        axes.plot(sizes, cpu_us, marker="o", color=OURS)
        axes.set_xscale("log")
        axes.set_ylim(0, max(cpu_us) * 1.2)
        words = table["title"].split(", ")
        axes.set_title(words[0], loc="left", fontsize=9)
        axes.set_xlabel(", ".join(words[1:]).removeprefix("by "), fontsize=8)
        axes.set_ylabel(f"µs of CPU for each {table['unit']}", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, machine, path)


def save(figure: Any, machine: str, path: Path) -> None:
    """Write it, the same bytes for the same figures."""
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.text(0.01, 0.005, textwrap.fill(machine, 200), fontsize=6, color="#777777")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    folder = Path(sys.argv[1])
    figures = json.load(sys.stdin)
    mpl.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 8})
    draw_peers(figures["tables"], figures["machine"], folder / "benchmarks.svg")
    draw_growth(figures["tables"], figures["machine"], folder / "benchmarks-growth.svg")


main()

"""The benchmarks' commands, each for a moment: that they measure, and that their tables can be read."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

RUN = Path(__file__).resolve().parent.parent / "benchmarks" / "run.py"

pytestmark = pytest.mark.skipif(not RUN.exists(), reason="the benchmarks are in the repository only")


def needs_header(name: str) -> pytest.MarkDecorator:
    """Skips where the load generator is compiled without a library."""
    return pytest.mark.skipif(not Path("/usr/include", name).exists(), reason=f"there is no {name}")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RUN), "--no-peers", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def measured(folder: Path, *parts: str) -> tuple[str, list[dict[str, Any]]]:
    """What was printed, and the tables."""
    figures = folder / "figures.json"
    done = run("--quick", "--json", str(figures), *parts)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(figures.read_text())["tables"]


class TestCommandLine:
    def test_an_unknown_part_is_refused_with_those_that_there_are(self) -> None:
        done = run("boradcast")
        assert done.returncode == 2
        assert "no part 'boradcast'; choose from broadcast, echo," in done.stderr

    def test_no_rounds_are_refused(self) -> None:
        assert "--rounds must be at least 1" in run("--rounds", "0").stderr

    def test_a_missing_compiler_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CC", "no-such-compiler")
        done = run("--quick", "broadcast")
        assert done.returncode == 1
        assert "there is no C compiler 'no-such-compiler'; set CC." in done.stderr


@pytest.mark.skipif(shutil.which("cc") is None, reason="the load generator needs a C compiler")
class TestFigures:
    def test_a_broadcast_is_measured_and_told_as_a_table(self, tmp_path: Path) -> None:
        told, (table,) = measured(tmp_path, "broadcast")
        (row,) = table["rows"]
        assert row["name"] == "chatproto"
        assert row["run"]["cpu_us"] > 0
        assert row["run"]["lagged"] == 0
        cells = [line for line in told.splitlines() if line.startswith("| chatproto |")]
        assert len(cells) == 1
        assert cells[0].count("|") == told.splitlines()[told.splitlines().index(cells[0]) - 1].count("|")

    @pytest.mark.slow
    def test_what_the_load_got_is_what_was_said_in_every_size(self, tmp_path: Path) -> None:
        _, tables = measured(tmp_path, "echo")
        # The load generator compares every byte: a figure means that all were right.
        assert [table["rows"][0]["run"]["per_s"] > 0 for table in tables] == [True, True, True]

    def test_decoding_is_measured_without_a_load(self, tmp_path: Path) -> None:
        _, tables = measured(tmp_path, "decoding")
        assert len(tables) == 4
        assert all(row["run"]["per_s"] > 1_000 for table in tables for row in table["rows"])

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "part",
        [
            "chat",
            "connections",
            "growth",
            "reactors",
            pytest.param("compression", marks=needs_header("zlib.h")),
            pytest.param("tls", marks=needs_header("openssl/ssl.h")),
        ],
    )
    def test_every_part_measures_all_its_subjects(self, part: str, tmp_path: Path) -> None:
        _, tables = measured(tmp_path, part)
        assert tables
        assert [row["fault"] for table in tables for row in table["rows"] if row["fault"]] == []

    @pytest.mark.slow
    def test_the_durable_history_is_one_of_the_parts(self) -> None:
        done = run("--quick", "history")
        assert done.returncode == 0, done.stderr
        assert "bare, 100 rows a commit" in done.stdout


class TestReactors:
    @pytest.mark.parametrize("name", ["select", "poll", "asyncio"])
    def test_a_program_runs_on_the_reactor_that_is_asked_for(self, name: str, tmp_path: Path) -> None:
        program = tmp_path / "program.py"
        program.write_text("import sys\nfrom twisted.internet import reactor\nprint(reactor, sys.argv[1:])\n")
        on_reactor = RUN.parent / "peers" / "on_reactor.py"
        command = [sys.executable, str(on_reactor), name, str(program), "one", "two"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert f"twisted.internet.{name}reactor." in done.stdout, done.stderr
        assert done.stdout.endswith("['one', 'two']\n")


class TestRounds:
    """What becomes of what is measured, with nothing measured."""

    @pytest.fixture(autouse=True)
    def _path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(RUN.parent))

    def test_a_ratio_is_of_one_round_and_of_them_the_median(self) -> None:
        from rounds import Run, Subject, compare

        ours, theirs = iter([1.0, 2.0, 4.0]), iter([3.0, 4.0, 40.0])
        subjects = [
            Subject("ours", lambda: Run(next(ours), 1)),
            Subject("theirs", lambda: Run(next(theirs), 1)),
        ]
        _, row = compare("part", "title", "echoes", subjects, 3).rows
        assert row.run is not None
        assert (row.run.cpu_us, row.cpu_us_least, row.cpu_us_most) == (4.0, 3.0, 40.0)
        assert (row.ratio, row.ratio_least, row.ratio_most) == (3.0, 2.0, 10.0)

    def test_a_peer_that_fails_is_named_in_the_table_and_not_measured_again(self) -> None:
        from report import markdown
        from rounds import Run, Subject, compare
        from servers import Failed

        tried: list[int] = []

        def fail() -> Run:
            tried.append(1)
            raise Failed("it did not start.")

        subjects = [Subject("ours", lambda: Run(1, 1)), Subject("theirs", fail)]
        table = compare("part", "title", "echoes", subjects, 3)
        assert len(tried) == 1
        assert "- theirs was not measured: it did not start." in markdown(table)

    def test_the_first_subject_must_not_fail(self) -> None:
        from rounds import Run, Subject, compare
        from servers import Failed

        def fail() -> Run:
            raise Failed("it did not start.")

        with pytest.raises(Failed, match="title, ours: it did not start"):
            compare("part", "title", "echoes", [Subject("ours", fail)], 1)

    @pytest.mark.parametrize(
        ("server", "load", "told"),
        [(0.95, 0.5, "server"), (0.95, 0.95, "server and load"), (0.5, 0.95, "load"), (0.5, 0.5, "neither")],
    )
    def test_the_table_says_which_side_was_saturated(self, server: float, load: float, told: str) -> None:
        from report import markdown
        from rounds import Run, Subject, compare

        run = Run(1, 1, server_wanted_share=server, load_wanted_share=load)
        table = compare("part", "title", "echoes", [Subject("ours", lambda: run)], 1)
        assert markdown(table).splitlines()[-1].endswith(f"| {told} |")

    def test_tables_stand_beside_each_other_with_those_that_not_all_have(self) -> None:
        from report import beside_each_other
        from rounds import Run, Subject, compare

        def table(title: str, *costs_us: tuple[str, float]) -> Any:
            subjects = [Subject(name, partial(Run, cost_us, 1)) for name, cost_us in costs_us]
            return compare("part", title, "echoes", subjects, 1)

        few = table("few", ("epoll", 2.0), ("select", 3.0))
        many = table("many", ("epoll", 4.0), ("poll", 8.0))
        alone = table("alone", ("other", 1.0))
        assert beside_each_other([few, alone, many]).splitlines() == [
            "| | few, CPU us per echo (× epoll) | many, CPU us per echo (× epoll) |",
            "|---|--:|--:|",
            "| epoll | 2 (1.00, 1.00–1.00) | 4 (1.00, 1.00–1.00) |",
            "| select | 3 (1.50, 1.50–1.50) | – |",
            "| poll | – | 8 (2.00, 2.00–2.00) |",
        ]

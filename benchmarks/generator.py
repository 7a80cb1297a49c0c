"""The load generator: compiled when it is needed, run on a core of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from servers import HOST, Failed, Served, on_core

__all__ = ["Generator", "Load", "Opened", "building"]

_SOURCES = Path(__file__).resolve().parent / "load"
_SETTLE_S = 0.5
# What each library is good for is told by the generator itself where it lacks it.
_LIBRARIES = {
    "openssl/ssl.h": ("-DWITH_TLS", "-lssl", "-lcrypto"),
    "zlib.h": ("-DWITH_ZLIB", "-lz"),
}


@dataclasses.dataclass(frozen=True)
class Load:
    """What was counted in one measured window."""

    deliveries: int
    says: int
    wall_s: float
    p50_ms: float
    p99_ms: float
    lagged: int
    server_cpu_s: float
    server_waited_s: float
    load_cpu_s: float
    load_waited_s: float
    server_rss_bytes: int


@dataclasses.dataclass(frozen=True)
class Opened:
    """What opening so many connections took, and what they hold when they are in rest."""

    connections: int
    wall_s: float
    server_cpu_s: float
    server_waited_s: float
    load_cpu_s: float
    load_waited_s: float
    server_rss_before_bytes: int
    server_rss_bytes: int


@dataclasses.dataclass(frozen=True)
class Generator:
    """A load generator, and the core that it runs on."""

    path: Path
    core: int | None

    def _command(self, served: Served, options: dict[str, Any]) -> list[str]:
        given = [
            f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
            for name, value in options.items()
            if value is not False
        ]
        return [str(self.path), *given, f"--server-pid={served.pid}", f"{HOST}:{served.port}"]

    def load(self, served: Served, **options: Any) -> Load:
        """Load *served* with `load --help`'s options. Raises Failed where it broke a rule, or fell silent."""
        with on_core(self.core):
            process = subprocess.Popen(
                self._command(served, options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        out, error = process.communicate()
        if process.returncode != 0:
            raise Failed(error.strip())
        figures = json.loads(out)
        names = {field.name for field in dataclasses.fields(Load)}
        return Load(
            **{name: figures[name] for name in names - {"server_rss_bytes"}},
            server_rss_bytes=served.rss_bytes(),
        )

    def open(self, served: Served, connections: int, **options: Any) -> Opened:
        """Open so many connections, and look at the server's memory while they are there."""
        asked = {"task": "open", "clients": connections, "hold": True, "limit_s": 300} | options
        before_bytes = served.rss_bytes()
        with on_core(self.core):
            process = subprocess.Popen(
                self._command(served, asked),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        assert process.stdout is not None
        line = process.stdout.readline()
        time.sleep(_SETTLE_S if line else 0)
        rss_bytes = served.rss_bytes() if line else 0
        _, error = process.communicate()
        if not line or process.returncode != 0:
            raise Failed(error.strip())
        figures = json.loads(line)
        names = {field.name for field in dataclasses.fields(Opened)} & figures.keys()
        return Opened(
            connections=connections,
            **{name: figures[name] for name in names},
            server_rss_before_bytes=before_bytes,
            server_rss_bytes=rss_bytes,
        )


def _is_there(compiler: str, header: str) -> bool:
    look = [compiler, "-E", "-x", "c", "-include", header, os.devnull]
    return subprocess.run(look, capture_output=True).returncode == 0


@contextmanager
def building(core: int | None = None) -> Iterator[Generator]:
    """The load generator, compiled, as long as it is needed. Raises Failed without a C compiler."""
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        raise Failed(f"there is no C compiler {compiler!r}; set CC.")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        program = Path(folder) / "load"
        start = [compiler, "-std=c11", "-O2", "-o", str(program), *map(str, sorted(_SOURCES.glob("*.c")))]
        libraries = [
            flag for header, flags in _LIBRARIES.items() if _is_there(compiler, header) for flag in flags
        ]
        done = subprocess.run([*start, *libraries], capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"{compiler} cannot compile the load generator: {done.stderr}")
        yield Generator(program, core)

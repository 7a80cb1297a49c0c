"""The peers: an environment of their own, and how each of them is started."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

from servers import Program

__all__ = ["OURS", "Environment", "bare_program", "prepare"]

_HERE = Path(__file__).resolve().parent
_PLACE = _HERE.parent / "build" / "benchmark-peers"
_REQUIREMENTS = _HERE / "requirements-peers.txt"
OURS = "chatproto"
# What is measured by which distribution, in the order in which the tables have it.
_PEERS = {
    "socketify": "socketify",
    "picows": "picows",
    "websockets": "websockets",
    "aiohttp": "aiohttp",
    "autobahn": "autobahn",
    "twisted_web": "twisted",
}


@dataclass(frozen=True)
class Environment:
    """What could be installed, by the names of distributions; `faults` has one sentence for each other.

    `packages` is the folder where it is.
    """

    python: Path
    packages: Path
    versions: dict[str, str]
    faults: dict[str, str]

    def programs(self, task: str, *options: str, only: tuple[str, ...] = tuple(_PEERS)) -> list[Program]:
        """The peers that are there, to do *task*: `echo` or `broadcast`."""
        return [
            Program(name.replace("_", "."), _command(self.python, name, task, *options))
            for name in only
            if _PEERS[name] in self.versions
        ]


def _command(python: Path, name: str, task: str, *options: str) -> tuple[str, ...]:
    return (str(python), str(_HERE / "peers" / f"with_{name}.py"), task, "{port}", *options)


def bare_program(name: str, task: str, *options: str) -> Program:
    """This project's WebSocket layer, without any chat."""
    return Program(name, _command(Path(sys.executable), OURS, task, *options))


def _wanted() -> list[str]:
    lines = (line.partition("#")[0].strip() for line in _REQUIREMENTS.read_text().splitlines())
    return [line for line in lines if line]


def _installed(python: Path) -> dict[str, str]:
    listing = [str(python), "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
    done = subprocess.run(listing, capture_output=True, text=True, check=True)
    return {entry["name"].lower(): entry["version"] for entry in json.loads(done.stdout)}


def prepare(*, wanted: bool) -> Environment:
    """Make the environment, or take the one that was made before; an empty one where none is *wanted*."""
    python = _PLACE / "bin" / "python"
    packages = Path(sysconfig.get_path("platlib", "venv", {"platbase": str(_PLACE)}))
    if not wanted:
        return Environment(python, packages, {}, {})
    if not python.exists():
        print(f"making an environment for the peers in {_PLACE}", file=sys.stderr)
        venv.create(_PLACE, with_pip=True)
    versions, faults = _installed(python), {}
    for name in _wanted():
        if name in versions:
            continue
        done = subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", name],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            told = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr]
            faults[name] = f"{name} does not install: {told[-1].strip()}"
    installed = _installed(python)
    return Environment(
        python, packages, {name: installed[name] for name in _wanted() if name in installed}, faults
    )

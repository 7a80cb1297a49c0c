"""The two programs that run the cases, where they come from, and how they are called.

wstest is the judge. It needs CPython 2.7, which a machine of today seldom has. kosoku runs the same cases
from today's Python; where there is no 2.7 it judges instead.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

__all__ = ["AGENT", "Judge", "Kosoku", "Wstest", "find_python27"]

AGENT = "chatproto"

_REQUIREMENTS = Path(__file__).with_name("wstest-requirements.txt")
# virtualenv's last release that makes environments for 2.7 is 20.21.
_TOOLS = ("kosoku==0.1.0", "virtualenv<20.22")
_PYTHON27_NEEDS = "import sys, ssl, zlib; assert sys.version_info[:2] == (2, 7); print(sys.executable)"


class Judge(Protocol):
    """A program that runs cases and leaves `index.json` and a report for each case in a folder."""

    name: str
    speaks_tls: bool
    silence_s: float
    """How long it may print nothing before it counts as hung."""
    serves_for_ever: bool
    """Whether it goes on after a client has asked for the reports."""
    is_impatient: bool
    """Whether it gives up on cases before their time."""
    needs_options: tuple[str, ...]
    """Options for the layer."""
    needs_resetting_offers: tuple[str, ...]
    """Groups for which a client has to offer client_no_context_takeover."""

    def fuzz_server(self, url: str, cases: Iterable[str], folder: Path) -> list[str]:
        """The command that plays the client, against a server at *url*; it ends by itself."""

    def fuzz_client(self, port: int, cases: Iterable[str], folder: Path) -> list[str]:
        """The command that plays the server, on *port*."""


class Wstest:
    """The Autobahn project's own."""

    name = "wstest"
    speaks_tls = True
    silence_s = 510.0  # it prints a line for each case, and gives none more than 480 s
    serves_for_ever = True
    is_impatient = False
    needs_options: tuple[str, ...] = ()
    needs_resetting_offers: tuple[str, ...] = ()

    def __init__(self, program: Path) -> None:
        self._program = program

    @classmethod
    def installed(cls, tools: Path, python27: str) -> Wstest:
        """Installed under *tools*, if it is not yet."""
        return cls(_make_wstest(tools, python27))

    def fuzz_server(self, url: str, cases: Iterable[str], folder: Path) -> list[str]:
        servers = [{"agent": AGENT, "url": url}]
        return self._command("fuzzingclient", {"servers": servers}, cases, folder)

    def fuzz_client(self, port: int, cases: Iterable[str], folder: Path) -> list[str]:
        url = f"ws://127.0.0.1:{port}"
        return [*self._command("fuzzingserver", {"url": url}, cases, folder), "--webport", "0"]

    def _command(self, mode: str, peer: dict[str, object], cases: Iterable[str], folder: Path) -> list[str]:
        spec = {
            **peer,
            "outdir": str(folder),
            "cases": list(cases),
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        spec_path = folder / "spec.json"
        spec_path.write_text(json.dumps(spec), "utf-8")
        return [str(self._program), "--mode", mode, "--spec", str(spec_path)]


class Kosoku:
    """A younger one in Rust: no TLS and no paths."""

    name = "kosoku"
    speaks_tls = False
    silence_s = 1_800.0  # it says nothing until the end
    serves_for_ever = False
    is_impatient = True  # each case of 12 and 13 may take 20 s, where the suite allows 60 to 480
    # Quick answers for that; and it falls over a message that is not compressed once that was agreed on.
    needs_options: tuple[str, ...] = ("--level", "1", "--min-message-bytes", "0")
    # A server may ask for that unasked (RFC 7692, section 7.1.1.2), and wstest does.
    needs_resetting_offers: tuple[str, ...] = ("13.2.", "13.5.", "13.6.")

    def __init__(self, program: Path) -> None:
        self._program = program

    @classmethod
    def installed(cls, tools: Path) -> Kosoku:
        """Installed under *tools*, if it is not yet."""
        return cls(_make_tools(tools) / "kosoku")

    def fuzz_server(self, url: str, cases: Iterable[str], folder: Path) -> list[str]:
        return self._command("fuzzingclient", url.removeprefix("ws://"), cases, folder)

    def fuzz_client(self, port: int, cases: Iterable[str], folder: Path) -> list[str]:
        return self._command("fuzzingserver", f"127.0.0.1:{port}", cases, folder)

    def _command(self, mode: str, address: str, cases: Iterable[str], folder: Path) -> list[str]:
        included = [argument for case in cases for argument in ("--include", case)]
        return [str(self._program), "--mode", mode, "--outdir", str(folder), *included, address]


def find_python27() -> str | None:
    """A CPython 2.7 that works and has ssl: one that CHATPROTO_PYTHON27 names, in PATH, or of pyenv."""
    named = os.environ.get("CHATPROTO_PYTHON27")
    if named is not None:
        places = [named]
    else:
        pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
        in_path = [shutil.which(name) for name in ("python2.7", "python2", "python")]
        places = [place for place in in_path if place is not None]
        places += [str(place) for place in sorted(pyenv.glob("versions/2.7*/bin/python2.7"))]
    for place in places:
        try:
            tried = subprocess.run([place, "-c", _PYTHON27_NEEDS], capture_output=True, text=True, timeout=60)
        except OSError:
            continue
        if tried.returncode == 0:
            return tried.stdout.strip()
    return None


def _make_tools(tools: Path) -> Path:
    """The folder of programs of an environment with kosoku and virtualenv."""
    folder = tools / "python3"

    def fill() -> None:
        venv.create(folder, with_pip=True, clear=True)
        _run(folder / "bin" / "pip", "install", "-q", *_TOOLS)

    _make(folder, " ".join([sys.version, *_TOOLS]), fill)
    return folder / "bin"


def _make_wstest(tools: Path, python27: str) -> Path:
    virtualenv = _make_tools(tools) / "virtualenv"
    folder = tools / "python27"

    def fill() -> None:
        _run(virtualenv, "-q", "--clear", "-p", python27, folder)
        # pip of 2.7 warns of its age, whatever it is told; what it warns of is known.
        pip = (folder / "bin" / "pip", "--no-python-version-warning")
        _run(*pip, "install", "-q", "--no-deps", "-r", _REQUIREMENTS)

    _make(folder, python27 + _REQUIREMENTS.read_text("utf-8"), fill)
    return folder / "bin" / "wstest"


def _make(folder: Path, made_of: str, fill: Callable[[], None]) -> None:
    """Fill a folder unless it is there and was made of the same; one run at a time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    seal = folder / "made-of"
    digest = hashlib.sha256(f"{folder} {made_of}".encode()).hexdigest()
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not seal.exists() or seal.read_text("utf-8") != digest:
            fill()
            seal.write_text(digest, "utf-8")


def _run(*command: str | Path) -> None:
    subprocess.run(list(map(str, command)), check=True)

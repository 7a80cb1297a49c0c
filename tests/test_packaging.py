"""What is built is complete, and what is installed from it is a server.

Needs the package index, for what building and running need.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from live import Server

ROOT = Path(__file__).parents[1]
COMPILED = sorted(str(path.relative_to(ROOT).with_suffix("")) for path in (ROOT / "chatproto").rglob("*.pyx"))

# As `twistd --help` lists it.
CHAT = re.compile(r"^ +chat +A chat server", re.MULTILINE)

# Ping is kind 8 with a token of eight bytes, and is answered before anyone joined.
PING = bytes.fromhex("00000009 08 0011223344556677")
PONG = bytes.fromhex("00000009 89 0011223344556677")


class Environment:
    """A virtual environment of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        # The pip that is here installs there too; one more each takes seconds.
        self._command(sys.executable, "-m", "venv", "--without-pip", str(folder))

    def run(self, program: str, *arguments: str) -> str:
        """What a program of this environment prints."""
        return self._command(str(self.bin / program), *arguments)

    def install(self, *what: str) -> None:
        pip = (sys.executable, "-P", "-m", "pip", "--python", str(self.folder))
        self._command(*pip, "install", "--quiet", "--no-compile", *what)

    def _command(self, *command: str) -> str:
        finished = subprocess.run(
            command,
            cwd=self.folder.parent,  # nothing of the project is there
            env={
                **os.environ,
                "CFLAGS": "-O0",
                "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            },  # nobody waits for speed
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stdout
        return finished.stdout

    def build(self, kind: str, source: Path) -> None:
        """Build a `--wheel` or an `--sdist` into the folder `dist` of *source*."""
        self.run("python", "-P", "-m", "build", kind, "--no-isolation", str(source))

    def server(self) -> Server:
        listen = ("--listen", "tcp:0:interface=127.0.0.1")
        return Server(command=[str(self.bin / "twistd"), "-n", "--pidfile=", "chat", *listen])


LEFT_BY_A_SERVER = ("chat.ctl*", "chat.sqlite*", "twistd.*")
"""In the folder where it was started, which may be this one."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packaging")


@pytest.fixture(scope="module")
def builder(folder: Path) -> Environment:
    """What building needs, and no more."""
    builder = Environment(folder / "builder")
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["build-system"]["requires"]
    builder.install("build", *needed)
    return builder


@pytest.fixture(scope="module")
def sdist(builder: Environment, folder: Path) -> Path:
    source = folder / "source"
    built = ("build", "dist", "*.egg-info", "__pycache__", "*.so", "*.c")
    left_out = shutil.ignore_patterns(".*", *built, *LEFT_BY_A_SERVER)
    shutil.copytree(ROOT, source, ignore=left_out)
    builder.build("--sdist", source)
    [sdist] = source.glob("dist/*.tar.gz")
    return sdist


@pytest.fixture(scope="module")
def wheel(builder: Environment, sdist: Path, folder: Path) -> Path:
    """Built from what the source distribution holds."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    source = folder / sdist.name.removesuffix(".tar.gz")
    # As a build would have left it, of a module that is not there any more.
    library = source / "build" / f"lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    (library / "chatproto").mkdir(parents=True)
    (library / "chatproto" / "removed.py").touch()
    builder.build("--wheel", source)
    [wheel] = source.glob("dist/*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, folder: Path) -> Environment:
    """The wheel and what it depends on."""
    environment = Environment(folder / "installed")
    environment.install(str(wheel))
    return environment


class TestWheel:
    @pytest.fixture
    def names(self, wheel: Path) -> list[str]:
        return zipfile.ZipFile(wheel).namelist()

    def test_has_every_module_of_the_package_with_its_types(self, names: list[str]) -> None:
        for path in (ROOT / "chatproto").rglob("*"):
            if path.suffix in (".py", ".pyi", ".pxd") or path.name == "py.typed":
                assert str(path.relative_to(ROOT)) in names

    def test_has_every_file_of_the_page(self, names: list[str]) -> None:
        page = {
            str(path.relative_to(ROOT)) for path in (ROOT / "chatproto" / "page").iterdir() if path.is_file()
        }
        assert {f"chatproto/page/{name}" for name in ("index.html", "page.css", "chat.js", "icon.svg")} < page
        assert page <= set(names)

    def test_has_the_compiled_modules_and_not_their_sources(self, names: list[str]) -> None:
        libraries = [name for name in names if name.endswith(".so")]
        assert COMPILED
        assert sorted(name.split(".")[0] for name in libraries) == COMPILED
        assert [name for name in names if name.endswith((".c", ".pyx"))] == []

    def test_has_the_plugin_and_leaves_twisted_its_own_package(self, names: list[str]) -> None:
        assert [name for name in names if name.startswith("twisted")] == [
            "twisted/plugins/chatproto_plugin.py"
        ]

    def test_has_nothing_of_an_earlier_build(self, names: list[str]) -> None:
        assert "chatproto/removed.py" not in names

    def test_has_nothing_else(self, names: list[str]) -> None:
        top = {name.split("/")[0] for name in names}
        assert {re.sub(r"-.*(?=\.dist-info)", "", name) for name in top} == {
            "chatproto",
            "twisted",
            "txchatproto.dist-info",
        }


class TestSourceDistribution:
    @pytest.fixture
    def names(self, sdist: Path) -> list[str]:
        with tarfile.open(sdist) as archive:
            return [name.partition("/")[2] for name in archive.getnames()]

    def test_has_what_is_compiled_and_nothing_that_was(self, names: list[str]) -> None:
        assert sorted(name for name in names if name.endswith(".pyx")) == [f"{name}.pyx" for name in COMPILED]
        assert [name for name in names if name.endswith((".c", ".so", ".pyc"))] == []

    def test_has_the_tests_and_the_documentation(self, names: list[str]) -> None:
        assert {"README.md", "LICENSE", "docs/protocol.md", "tests/conftest.py", "tests/live.py"} <= set(
            names
        )


class TestInstalled:
    def test_twistd_has_the_command(self, installed: Environment) -> None:
        assert CHAT.search(installed.run("twistd", "--help"))

    def test_the_server_answers_a_frame(self, installed: Environment) -> None:
        with installed.server() as server, server.raw() as plain:
            plain.sendall(PING)
            assert plain.recv(64) == PONG
            plain.close()
            server.stop()
            assert "Traceback" not in server.log()

    def test_the_commands_are_there(self, installed: Environment) -> None:
        assert "--nick" in installed.run("chatproto-connect", "--help")
        assert "connections" in installed.run("chatproto-ctl", "--help")


def test_the_environment_for_development_has_the_command_too() -> None:
    """These tests run in one, as the README says; an editable install that is not strict hides the plugin."""
    origin = distribution("txchatproto").read_text("direct_url.json")
    if origin is None or not json.loads(origin).get("dir_info", {}).get("editable"):
        pytest.skip("this is no environment for development")
    shown = subprocess.run(
        [str(Path(sys.executable).parent / "twistd"), "--help"], capture_output=True, text=True, check=True
    )
    assert CHAT.search(shown.stdout)

"""How the house is kept: what may import what, which names are public, and what is in the repository."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "chatproto"
SOURCES = sorted(
    path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".pyx", ".pxd", ".pyi") and path.is_file()
)

# What each part may import of the others, beside itself.
MAY_IMPORT = {
    "limits": set[str](),
    "text": set[str](),
    "version": set[str](),
    "wire": set[str](),
    "rooms": {"wire", "limits", "text", "version"},
    "accounts": {"rooms"},
    "page": set[str](),
    "net": {"rooms", "wire", "limits", "text"},
    "server": {
        *("accounts", "control", "history", "shared", "net", "rooms", "wire", "limits", "text", "version"),
    },
    "shared": {"rooms", "wire", "limits", "text"},
    "history": {"rooms", "wire", "limits", "text"},
    "control": {"text", "version"},
    "websocket": {"net", "wire", "limits"},
    "client": {"websocket", "wire", "limits", "text", "version"},
    "testing": {"rooms", "wire", "limits"},
    "__init__": {"server", "history", "net", "rooms", "limits", "version"},
}


def part_of(module: str) -> str:
    """`chatproto.rooms.hub` belongs to `rooms`, `chatproto` itself to `__init__`."""
    return [*module.split("."), "__init__"][1]


def imported_by_python(source: str) -> set[str]:
    modules = set[str]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name their modules in full"
            assert node.module is not None
            modules.add(node.module)
            if node.module == "chatproto":
                modules.update(f"chatproto.{alias.name}" for alias in node.names)
    return modules


def imported_by_cython(source: str) -> set[str]:
    modules = set(re.findall(r"^\s*from\s+([\w.]+)\s+c?import\b", source, re.MULTILINE))
    for names in re.findall(r"^\s*c?import\s+(.+)$", source, re.MULTILINE):
        modules.update(name.split()[0] for name in names.split(","))
    return modules


def imported_by(path: Path) -> set[str]:
    source = path.read_text("utf-8")
    return (imported_by_cython if path.suffix in (".pyx", ".pxd") else imported_by_python)(source)


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_imports_run_one_way(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].split(".")[0]
    theirs = {part_of(module) for module in imported_by(path) if module.split(".")[0] == "chatproto"}
    assert theirs - {own} <= MAY_IMPORT[own]


@pytest.mark.parametrize("path", [path for path in SOURCES if path.parent.name == "websocket"], ids=ids)
def test_the_websocket_layer_knows_nothing_of_the_chat(path: Path) -> None:
    theirs = {module for module in imported_by(path) if module.startswith("chatproto.net.")}
    own = {module for module in theirs if module.startswith("chatproto.net.websocket.")}
    assert theirs - own <= {"chatproto.net.sendqueue", "chatproto.net.sockets"}
    assert "rooms" not in {part_of(module) for module in imported_by(path)}


@pytest.mark.parametrize("path", [path for path in SOURCES if path.parent.name == "wire"], ids=ids)
def test_the_engine_knows_nothing_of_twisted(path: Path) -> None:
    assert not {module for module in imported_by(path) if re.match(r"(twisted|zope)\b", module)}


def test_the_engine_loads_without_twisted() -> None:
    engine = sorted({path.stem for path in PACKAGE.glob("wire/*.py*") if path.suffix in (".py", ".pyx")})
    modules = [f"chatproto.wire.{stem}" for stem in engine if stem != "__init__"]
    code = (
        f"import sys, {', '.join(modules)}\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'twisted', 'zope', 'asyncio'}))"
    )
    loaded = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd="/", capture_output=True, text=True, check=True
    )
    assert loaded.stdout == "\n"


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("from a.b cimport C\ncimport d\nimport e, f.g as h\n", {"a.b", "d", "e", "f.g"}),
        ("def f():\n    from a import b\n    import c\n", {"a", "c"}),
        ("# from a import b\nimporter = 3\n", set[str]()),
    ],
)
def test_imports_of_cython_sources_are_found(source: str, modules: set[str]) -> None:
    assert imported_by_cython(source) == modules


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (
            "chatproto",
            [
                "ChatFactory",
                "ChatResource",
                "ChatService",
                "HistoryLimits",
                "HistoryUnusable",
                "Hub",
                "Limits",
                "MemoryLog",
                "NotStored",
                "PageResource",
                "Receipt",
                "RoomLog",
                "SqliteLog",
                "__version__",
            ],
        ),
        (
            "chatproto.client",
            [
                "CannotConnect",
                "ChatClient",
                "ChatEvents",
                "Disconnected",
                "Entered",
                "Receipt",
                "Refused",
                "TooManyWaiting",
            ],
        ),
        (
            "chatproto.accounts",
            [
                "Account",
                "AccountsUnusable",
                "Admitted",
                "FileAccount",
                "FileRealm",
                "IAccount",
                "PasswordChecker",
                "PasswordFile",
                "PasswordThreads",
                "PortalLogin",
                "Tokens",
                "TokensUnusable",
                "TryLater",
                "first_of",
            ],
        ),
        ("chatproto.testing", ["ChatInMemory", "Person"]),
    ],
)
def test_the_public_names_are_these_and_all_exist(module: str, names: list[str]) -> None:
    public = importlib.import_module(module)
    assert sorted(public.__all__) == sorted(names)
    for name in names:
        assert getattr(public, name) is not None


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if path.suffix == ".py" and path.stem not in ("__init__", "version")],
    ids=ids,
)
def test_every_module_says_what_is_public_and_has_it(path: Path) -> None:
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    assert module.__all__
    assert not [name for name in module.__all__ if not hasattr(module, name)]


def test_the_wheel_gets_every_package() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert set(declared) == there | {"twisted.plugins"}


@pytest.fixture(scope="module")
def files() -> list[str]:
    """What is in the repository, or would be with `git add --all`."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not in a git checkout")
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


class TestRepository:
    def test_has_nothing_that_is_generated(self, files: list[str]) -> None:
        generated = re.compile(
            r"\.(so|pyd|o|a|c|cpp|html|py[co]|whl|gz|pid|log)$|(^|/)(build|dist|__pycache__|\.venv.*|.*\.egg-info)/"
        )
        written = re.compile(r"benchmarks/load/\w+\.c$|chatproto/page/index\.html$")
        assert [name for name in files if generated.search(name) and not written.match(name)] == []

    def test_keeps_only_sources_in_the_package(self, files: list[str]) -> None:
        odd = re.compile(
            r"chatproto/(?!py\.typed$)(?!.*\.(py|pyx|pxd|pyi)$)(?!page/[\w-]+\.(html|css|js|svg)$)"
        )
        assert [name for name in files if odd.match(name)] == []

    def test_leaves_twisted_its_own_plugin_package(self, files: list[str]) -> None:
        # An __init__.py there would be installed over Twisted's.
        assert [name for name in files if name.startswith("twisted_plugins/")] == [
            "twisted_plugins/chatproto_plugin.py"
        ]

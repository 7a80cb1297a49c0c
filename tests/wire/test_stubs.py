"""The stubs of the compiled modules say what the compiled modules have."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "chatproto").rglob("*.pyx"))

NOT_COMPARED = [
    # What Cython adds to every compiled module and class, and no caller uses.
    r".*\.__pyx_capi__",
    r".*\.__test__",
    r".*\.__reduce_cython__",
    r".*\.__setstate_cython__",
    # A compiled class does not tell what its constructor takes: another test compares that.
    r".*\.__init__",
]


def module_of(source: Path) -> str:
    """The dotted name of the module that is compiled from *source*."""
    return ".".join(source.relative_to(ROOT).with_suffix("").parts)


def taken_by_stub(stub: str) -> dict[str, list[str]]:
    """What each class's constructor takes, by the stub; `name=` where there is a default."""
    taken = {}
    for cls in ast.parse(stub).body:
        if isinstance(cls, ast.ClassDef):
            for method in cls.body:
                if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                    names = [argument.arg for argument in method.args.args[1:]]
                    needed = len(names) - len(method.args.defaults)
                    taken[cls.name] = names[:needed] + [f"{name}=" for name in names[needed:]]
    return taken


def taken_by_source(source: str) -> dict[str, list[str]]:
    """The same by the Cython source: `Py_ssize_t size=9` is `size=`."""
    taken = {}
    classes = re.split(r"^(?:cdef )?class (\w+).*:\n", source, flags=re.MULTILINE)
    for name, body in zip(classes[1::2], classes[2::2], strict=True):
        constructor = re.search(
            r"^    def __c?init__\(\s*self,?(.*?)\)(?: -> None)?:", body, re.MULTILINE | re.DOTALL
        )
        if constructor is not None:
            parameters = [
                parameter.split("=") for parameter in constructor[1].split(",") if parameter.strip()
            ]
            names = [declared.removesuffix(" not None").split()[-1] for declared, *_ in parameters]
            taken[name] = [
                f"{name}=" if default else name for name, (_, *default) in zip(names, parameters, strict=True)
            ]
    return taken


def test_setup_compiles_exactly_the_sources_that_are_there() -> None:
    declared = re.search(r"^MODULES = \[(.*?)\]", (ROOT / "setup.py").read_text("utf-8"), re.M | re.DOTALL)
    assert declared is not None
    assert sorted(re.findall(r'"([\w.]+)"', declared[1])) == sorted(map(module_of, SOURCES))


def test_the_compiled_modules_agree_with_their_stubs(tmp_path: Path) -> None:
    pytest.importorskip("mypy.stubtest", reason="mypy is not installed")
    not_compared = tmp_path / "allowlist"
    not_compared.write_text("\n".join(NOT_COMPARED))
    configuration = tmp_path / "mypy.ini"
    configuration.write_text("[mypy]\nignore_errors = true\n")  # what else may be wrong is no matter here
    modules = [module_of(source) for source in SOURCES]
    compiled = importlib.import_module(modules[0]).__file__
    assert compiled is not None
    compared = subprocess.run(
        [
            *(sys.executable, "-m", "mypy.stubtest", *modules, "--ignore-unused-allowlist"),
            *("--allowlist", str(not_compared), "--mypy-config-file", str(configuration)),
        ],
        # Of an installed package mypy finds the stubs by itself, of the checkout only from there.
        cwd=ROOT if ROOT in Path(compiled).parents else tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert compared.returncode == 0, compared.stdout + compared.stderr


@pytest.mark.parametrize("source", [pytest.param(source, id=module_of(source)) for source in SOURCES])
class TestCompiledModule:
    def test_is_compiled(self, source: Path) -> None:
        module = importlib.import_module(module_of(source))
        assert module.__file__ is not None
        assert not module.__file__.endswith(".py")

    def test_constructors_take_what_the_stub_says(self, source: Path) -> None:
        stub = source.with_suffix(".pyi").read_text("utf-8")
        assert taken_by_stub(stub) == taken_by_source(source.read_text("utf-8"))

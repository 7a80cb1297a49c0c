"""The sanitizers find what `.ci/sanitize` runs them for, so that a run without a report means something."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SANITIZED = ROOT / ".ci" / "sanitized"
FOUND = 99  # the exit code of a program that something was found in

DEFECTIVE = r"""
#include <Python.h>

static PyObject *read_behind(PyObject *module, PyObject *data) {
    Py_buffer view;
    unsigned char byte;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) return NULL;
    byte = ((volatile unsigned char *)view.buf)[view.len];
    PyBuffer_Release(&view);
    return PyLong_FromLong(byte);
}

static PyObject *read_behind_bytes(PyObject *module, PyObject *data) {
    return PyLong_FromLong(((volatile char *)PyBytes_AS_STRING(data))[PyBytes_GET_SIZE(data) + 1]);
}

static PyObject *write_behind_bytes(PyObject *module, PyObject *data) {
    ((volatile char *)PyBytes_AS_STRING(data))[PyBytes_GET_SIZE(data) + 1] = 1;
    Py_RETURN_NONE;
}

static PyObject *read_freed(PyObject *module, PyObject *n_bytes) {
    PyObject *data = PyBytes_FromStringAndSize(NULL, PyLong_AsSsize_t(n_bytes));
    volatile char *at = PyBytes_AS_STRING(data);
    Py_DECREF(data);
    return PyLong_FromLong(*at);
}

static PyObject *write_behind_an_array(PyObject *module, PyObject *place) {
    volatile char header[14];
    header[PyLong_AsLong(place)] = 1;
    return PyLong_FromLong(header[PyLong_AsLong(place)]);
}

static PyObject *add_too_much(PyObject *module, PyObject *number) {
    volatile int sum = (int)PyLong_AsLong(number);
    sum = sum + 1;
    return PyLong_FromLong(sum);
}

static PyObject *shift_too_far(PyObject *module, PyObject *by) {
    volatile int by_bits = (int)PyLong_AsLong(by);
    return PyLong_FromLong(1 << by_bits);
}

static PyObject *copy_from_nowhere(PyObject *module, PyObject *n_bytes) {
    char out[1];
    void *volatile nowhere = NULL;
    memcpy(out, nowhere, PyLong_AsSsize_t(n_bytes));
    Py_RETURN_NONE;
}

static PyObject *not_written(PyObject *module, PyObject *n_bytes) {
    return PyBytes_FromStringAndSize(NULL, PyLong_AsSsize_t(n_bytes));
}

static PyMethodDef methods[] = {
    {"read_behind", read_behind, METH_O, NULL},
    {"read_behind_bytes", read_behind_bytes, METH_O, NULL},
    {"write_behind_bytes", write_behind_bytes, METH_O, NULL},
    {"read_freed", read_freed, METH_O, NULL},
    {"write_behind_an_array", write_behind_an_array, METH_O, NULL},
    {"add_too_much", add_too_much, METH_O, NULL},
    {"shift_too_far", shift_too_far, METH_O, NULL},
    {"copy_from_nowhere", copy_from_nowhere, METH_O, NULL},
    {"not_written", not_written, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "defective", NULL, -1, methods};

PyMODINIT_FUNC PyInit_defective(void) { return PyModule_Create(&definition); }
"""

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not SANITIZED.exists(), reason="this is not a checkout"),
    pytest.mark.skipif(not shutil.which("gcc"), reason="there is no gcc, whose sanitizers these are"),
]


def flags() -> list[str]:
    """What setup.py compiles with for the sanitizers."""
    for node in ast.parse((ROOT / "setup.py").read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SANITIZE":
            return [str(flag) for flag in ast.literal_eval(node.value)]
    raise AssertionError("setup.py has no SANITIZE")


def without_sanitizers() -> dict[str, str]:
    """The environment as it was, where these tests themselves run under the sanitizers."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def sanitized(reports: Path, *arguments: str, path: Path) -> tuple[subprocess.CompletedProcess[str], str]:
    """How Python ended under the sanitizers, with modules from *path*, and what they reported."""
    ended = subprocess.run(
        [SANITIZED, reports, sys.executable, *arguments],
        env={**without_sanitizers(), "PYTHONPATH": str(path)},
        cwd=path,
        capture_output=True,
        text=True,
        check=False,
    )
    return ended, "".join(report.read_text("utf-8", "replace") for report in reports.iterdir())


def compile_for_sanitizers(source: Path) -> Path:
    """Compile the module in *source* as setup.py would."""
    module = source.with_suffix(str(sysconfig.get_config_var("EXT_SUFFIX")))
    include = f"-I{sysconfig.get_path('include')}"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", include, *flags(), "-o", module, source],
        env=without_sanitizers(),
        check=True,
    )
    return module


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the module `defective`."""
    folder = tmp_path_factory.mktemp("defective")
    source = folder / "defective.c"
    source.write_text(DEFECTIVE)
    compile_for_sanitizers(source)
    return folder


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ("read_behind(memoryview(array('B', bytes(9))[:]))", "heap-buffer-overflow"),
        ("read_behind(memoryview(array('B', bytes(4096))[:]))", "heap-buffer-overflow"),
        ("read_behind_bytes(bytes(9))", "heap-buffer-overflow"),
        ("write_behind_bytes(bytes(9))", "heap-buffer-overflow"),
        ("read_freed(9)", "heap-use-after-free"),
        ("write_behind_an_array(14)", "__ubsan_handle_out_of_bounds"),
        ("add_too_much(2**31 - 1)", "__ubsan_handle_add_overflow"),
        ("shift_too_far(32)", "__ubsan_handle_shift_out_of_bounds"),
        ("copy_from_nowhere(0)", "__ubsan_handle_nonnull_arg"),
    ],
)
def test_a_defect_ends_the_program_and_is_told(compiled: Path, tmp_path: Path, call: str, found: str) -> None:
    code = f"from array import array; from defective import *; {call}; print('not found')"
    ended, reports = sanitized(tmp_path, "-c", code, path=compiled)
    assert found in reports
    assert "defective.c" in reports
    assert (ended.returncode, ended.stdout) == (FOUND, "")


def test_what_is_no_defect_is_not_told(compiled: Path, tmp_path: Path) -> None:
    code = "from defective import *; read_behind(b'123'); write_behind_an_array(13); shift_too_far(30)"
    ended, reports = sanitized(tmp_path, "-c", code, path=compiled)
    assert (ended.returncode, ended.stderr, reports) == (0, "", "")


@pytest.mark.parametrize("n_bytes", [100, 5_000, 2_000_000])
def test_what_was_not_written_is_never_right_by_chance(compiled: Path, tmp_path: Path, n_bytes: int) -> None:
    code = f"from defective import *; assert set(not_written({n_bytes})) == {{0xBE}}"
    ended, _ = sanitized(tmp_path, "-c", code, path=compiled)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "target", "bound"),
    [
        ("websocket", "fuzz_websocket.py", "size <= cursor.end - cursor.at:"),
        ("chat", "fuzz_frames.py", "length > size - HEADER_BYTES:"),
    ],
)
def test_the_fuzz_targets_find_a_bound_that_is_wrong_by_one(
    tmp_path: Path, module: str, target: str, bound: str
) -> None:
    pytest.importorskip("Cython", reason="a broken engine is compiled, and Cython is not installed")
    copy = tmp_path / "copy"
    for folder in ("chatproto", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    source = copy / "chatproto" / "wire" / f"{module}.pyx"
    sound = source.read_text("utf-8")
    assert sound.count(bound) == 1
    source.write_text(sound.replace(bound, bound.replace(":", " + 1:")), "utf-8")
    subprocess.run([sys.executable, "-m", "cython", "-3", source], cwd=copy, check=True)
    compile_for_sanitizers(source.with_suffix(".c"))
    for seed in range(1, 31):
        ended, reports = sanitized(
            tmp_path / f"{seed}",
            str(copy / "tests/fuzz" / target),
            f"--seed={seed}",
            "--inputs=5000",
            path=copy,
        )
        assert ended.returncode != 0, ended.stdout + ended.stderr
        if reports:
            break
        # An input that showed it otherwise came first: the decoder broke a promise.
        assert "Broken" in ended.stderr
    assert f"{module}.c:" in reports
    assert "heap-buffer-overflow" in reports
    assert ended.returncode == FOUND, ended.stdout + ended.stderr

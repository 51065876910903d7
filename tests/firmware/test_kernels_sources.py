"""The kernels' sources: warnings as errors, sanitizers, what they may not use."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgeq.testing import kernels

FORBIDDEN = re.compile(r"\b(malloc|calloc|free|printf|float|double|setjmp|alloca)\b")
FILES = sorted(kernels.SOURCES.glob("*.[ch]"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_heap_no_stdio_no_floating_point(path: Path) -> None:
    code = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    assert not FORBIDDEN.search(code)


def test_every_function_of_the_header_has_a_body(tmp_path: Path) -> None:
    header = re.sub(r"/\*.*?\*/", "", (kernels.SOURCES / "eq_kernels.h").read_text(), flags=re.DOTALL)
    names = set(re.findall(r"^(?:void|size_t) (eq_\w+)\(", header, flags=re.MULTILINE))
    library = kernels.load(kernels.compile_library(tmp_path))
    assert len(names) > 20
    assert [name for name in sorted(names) if not hasattr(library, name)] == []


PATHS = ("eq_matrix.c", "eq_conv2d.c", "eq_softmax.c", "eq_matrix_s16.c", "eq_conv2d_s16.c", "eq_f32.c")


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("flag", ["-DEQ_EMULATE_DSP", "-DEQ_NARROW_ACCUMULATORS", "-m32"])
def test_each_path_compiles_alone(name: str, flag: str, tmp_path: Path) -> None:
    argv = ["gcc", *kernels.WARNINGS, "-O2", "-ffreestanding", "-fsyntax-only", flag, str(kernels.SOURCES / name)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    if flag == "-m32" and "bits/" in done.stderr:
        pytest.skip("this host has no 32-bit headers")
    assert done.stderr == ""


@pytest.mark.slow
def test_kernels_are_clean_under_sanitizers(tmp_path: Path) -> None:
    """The other tests of this folder once more, fewer cases, on a build with ASan and UBSan.

    Without the real model: its reading lets LiteRT throw a C++ exception, which a preloaded ASan cannot pass on.
    """
    runtime = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, timeout=30, check=True
    ).stdout.strip()
    if not Path(runtime).is_absolute():
        pytest.skip("this host's gcc has no AddressSanitizer")
    folder = Path(__file__).parent
    tests = [
        str(folder / f"test_kernels_{name}.py") for name in ("layers", "elementwise", "moving", "recurrent", "overlap")
    ]
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-k",
        "not real_model",
        "-p",
        "no:cacheprovider",
        "--basetemp",
        str(tmp_path / "t"),
        *tests,
    ]
    settings = {
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",
        "EDGEQ_KERNELS_SANITIZED": "1",
    }
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=280,
        cwd=folder.parents[1],
        env={**os.environ, **settings},
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

"""Where the runner finds the device's packages: PYTHONPATH counts, the working folder does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest

import edgeq

RUNNER = Path(edgeq.__file__).parent / "lab" / "onboard" / "__main__.py"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python without any package, as a fresh board has."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / "bin" / "python"


def _probe(python: Path, folder: Path, **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [python, "-I", RUNNER, "probe", "--runtime", "ai_edge_litert"],
        capture_output=True,
        check=False,
        timeout=120,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
    )
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["event"] == "result", last
    return dict(last["runtimes"]["ai_edge_litert"])


def test_a_bare_python_has_no_interpreter(bare: Path, tmp_path: Path) -> None:
    assert _probe(bare, tmp_path)["ok"] is False


@pytest.mark.skipif(sys.version_info[:2] < (3, 10), reason="the host's packages are for newer Pythons")
def test_pythonpath_counts(bare: Path, tmp_path: Path) -> None:
    assert _probe(bare, tmp_path, PYTHONPATH=sysconfig.get_path("purelib"))["ok"] is True


@pytest.mark.parametrize("entry", ["", ".", "relative"])
def test_the_working_folder_never_counts(bare: Path, tmp_path: Path, entry: str) -> None:
    for folder in (tmp_path, tmp_path / "relative"):
        (folder / "numpy").mkdir(parents=True)
        (folder / "numpy" / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    packages = sysconfig.get_path("purelib")
    found = _probe(bare, tmp_path, PYTHONPATH=f"{entry}{os.pathsep}{packages}")
    assert found["ok"] is True
    assert not (tmp_path / "ran").exists()

"""The real tflite-runtime 2.14 beside NumPy 2: it imports, and cannot build an Interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeq.errors import RuntimeMissing
from edgeq.lab import bench, probe
from edgeq.lab.transports import local
from edgeq.testing import models
from edgeq.testing.bundles import make_bundle
from edgeq.types import Device, RunSettings

PACKAGES = ("tflite-runtime==2.14.0", "numpy>=2")


@pytest.fixture(scope="module")
def broken_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A device's Python with exactly these two; skips where pip cannot have them."""
    if sys.version_info >= (3, 12):
        pytest.skip("tflite-runtime has no wheel for Python 3.12 and newer")
    folder = tmp_path_factory.mktemp("device") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
    argv = [str(folder / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode != 0:
        pytest.skip(f"pip cannot install {' '.join(PACKAGES)}: {done.stderr.strip().splitlines()[-1:]}")
    return folder / "bin/python"


@pytest.mark.slow
def test_an_interpreter_that_imports_and_cannot_run(broken_python: Path, tmp_path: Path) -> None:
    imports = [str(broken_python), "-c", "import tflite_runtime.interpreter"]
    assert subprocess.run(imports, capture_output=True, check=False, timeout=60).returncode == 0
    x, _ = models.tiny_samples(models.CONV_SHAPE, models.CLASSES, 16)
    manifest = make_bundle(models.conv_tflite(tmp_path), tmp_path / "bundle", [x])
    with local.connect(Device(name="old", transport="local", python=str(broken_python))) as transport:
        found: Any = probe.probe(transport)
        assert found["runtimes"]["tflite_runtime"]["ok"] is False
        assert found["runtimes"]["tflite_runtime"]["why"].startswith(("SystemError", "ImportError", "killed by"))
        with pytest.raises(RuntimeMissing) as caught:
            bench.measure(transport, str(tmp_path / "bundle"), manifest, RunSettings())
    assert "tflite_runtime: " in caught.value.message
    assert caught.value.hint is not None
    assert "pip install" in caught.value.hint

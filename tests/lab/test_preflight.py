"""Does the runtime work there? Asked of real Pythons with real, missing and broken packages."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeq.errors import CommandFailed, IllegalInstruction, RunnerKilled, RuntimeMissing
from edgeq.lab.answers import Where
from edgeq.lab.preflight import nothing_runs, preflight
from edgeq.lab.transports import local, ssh
from edgeq.testing import models
from edgeq.testing.bundles import make_bundle
from edgeq.testing.sshd import Server
from edgeq.testing.transport import FakeTransport, said
from edgeq.types import Device, Manifest

VERSION = ".".join(map(str, sys.version_info[:2]))
NUMPY = "int8 = uint8 = 'i1'\ndef array(value, dtype): return value\n"


@pytest.fixture(scope="module", params=["tflite", "onnx"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Manifest]:
    folder = tmp_path_factory.mktemp(request.param)
    x, _ = models.tiny_samples(models.CONV_SHAPE, models.CLASSES, 16)
    onnx = request.param == "onnx"
    model = models.conv_onnx(folder) if onnx else models.conv_tflite(folder)
    return str(folder / "b"), make_bundle(model, folder / "b", [x.transpose(0, 3, 1, 2) if onnx else x])


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A Python without packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True, timeout=60)
    return tmp_path / "bare/bin/python3"


def give(python: Path, name: str, **modules: str) -> None:
    """Put a package and a stand-in for NumPy where that Python finds them."""
    packages = python.parents[2] / "packages"
    (packages / name).mkdir(parents=True)
    (packages / "numpy.py").write_text(NUMPY)
    for module, text in {"__init__": "__version__ = '9.9'\n", **modules}.items():
        (packages / name / f"{module}.py").write_text(text)
    site = next(python.parents[1].glob("lib/python3.*/site-packages"))
    (site / "test.pth").write_text(f"{packages}\n")


def on(python: Path | str) -> Device:
    return Device(name="board", transport="local", python=str(python))


def test_what_works_is_named(bundle: tuple[str, Manifest], sshd: Server) -> None:
    wanted = {"tflite": "ai_edge_litert", "onnx": "onnxruntime"}[bundle[1].format]
    for connect, device in ((local.connect, on("python3")), (ssh.connect, sshd.device())):
        with connect(device) as transport:
            found = preflight(*bundle, transport)
        assert found.interpreter == wanted
        assert found.version
        assert found.device["machine"] == platform.machine()


def test_nothing_is_installed(bundle: tuple[str, Manifest], bare: Path) -> None:
    with local.connect(on(bare)) as transport, pytest.raises(RuntimeMissing, match="not installed") as caught:
        preflight(*bundle, transport)
    package = {"tflite": "ai-edge-litert", "onnx": "onnxruntime"}[bundle[1].format]
    if bundle[1].format == "tflite" and sys.version_info < (3, 10):
        package = "tflite-runtime"
    assert f"{bare} -m pip install" in str(caught.value.hint)
    assert package in str(caught.value.hint)
    assert str(caught.value.hint).startswith("on the device: sudo apt-get install -y python3-pip")


BREAKS = {
    "raises": ("raise SystemError('built for another numpy')", "SystemError: built for another numpy"),
    "exits": ("import os; os._exit(3)", "it ended without an answer"),
    "aborts": ("import os; os.abort()", "killed by SIGABRT"),
    "segfaults": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
    "prints": ("print('hello', flush=True); raise OSError(5, 'x')", "OSError"),
    "quits": ("raise SystemExit(0)", "it ended without an answer"),
    "colours": ("raise ValueError('\\x1b[31mred\\x1b[0m')", "ValueError: "),
}


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("bundle", ["tflite"], indirect=True)
def test_a_package_that_imports_and_cannot_run(bundle: tuple[str, Manifest], bare: Path, how: str) -> None:
    code, says = BREAKS[how]
    give(bare, "ai_edge_litert", interpreter=f"class Interpreter:\n    def __init__(self, **words):\n        {code}\n")
    with local.connect(on(bare)) as transport, pytest.raises(RuntimeMissing) as caught:
        preflight(*bundle, transport)
    assert f"ai_edge_litert: {says}" in caught.value.message
    assert "tflite_runtime: not installed" in caught.value.message
    assert caught.value.message.isprintable()
    assert "pip install" in str(caught.value.hint)


@pytest.mark.parametrize("bundle", ["tflite"], indirect=True)
def test_an_illegal_instruction(bundle: tuple[str, Manifest], bare: Path) -> None:
    text = "import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n"
    give(bare, "ai_edge_litert", interpreter=text)
    with local.connect(on(bare)) as transport, pytest.raises(IllegalInstruction, match="processor lacks") as caught:
        preflight(*bundle, transport)
    assert "pip install --force-reinstall" in str(caught.value.hint)


@pytest.mark.parametrize("bundle", ["tflite"], indirect=True)
def test_a_package_that_computes_something_else(bundle: tuple[str, Manifest], bare: Path) -> None:
    text = """class Array(list):
    shape = (1, 4)
    def tolist(self): return [0]
class Interpreter:
    def __init__(self, **words): pass
    allocate_tensors = invoke = set_tensor = reset_all_variables = resize_tensor_input = lambda *words: None
    def get_input_details(self): return []
    def get_output_details(self): return [{"index": 0}]
    def get_tensor(self, index): return Array()
"""
    give(bare, "ai_edge_litert", interpreter=text)
    with local.connect(on(bare)) as transport, pytest.raises(RuntimeMissing, match="it computes"):
        preflight(*bundle, transport)


@pytest.mark.parametrize("bundle", ["tflite"], indirect=True)
def test_a_broken_package_on_pythonpath(
    bundle: tuple[str, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ai_edge_litert", "tensorflow"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemError('from PYTHONPATH')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with local.connect(on("python3")) as transport:
        with pytest.raises(RuntimeMissing, match="ai_edge_litert: SystemError: from PYTHONPATH"):
            preflight(*bundle, transport)
        monkeypatch.delenv("PYTHONPATH")
        assert preflight(*bundle, transport).interpreter == "ai_edge_litert"


@pytest.mark.parametrize("bundle", ["tflite"], indirect=True)
def test_no_python(bundle: tuple[str, Manifest], sshd: Server) -> None:
    with local.connect(on("/nonexistent/python3")) as transport, pytest.raises(RuntimeMissing, match="cannot start"):
        preflight(*bundle, transport)
    device = sshd.device(python="/nonexistent/python3")
    with ssh.connect(device) as transport, pytest.raises(RuntimeMissing, match=r"no Python 3\.7 or newer") as caught:
        preflight(*bundle, transport)
    assert caught.value.hint == "sudo apt install python3"


@pytest.mark.parametrize("bundle", ["tflite"], indirect=True)
def test_a_python_that_is_something_else(bundle: tuple[str, Manifest], sshd: Server) -> None:
    for python in ("/bin/true", "/bin/cat"):
        with ssh.connect(sshd.device(python=python)) as transport, pytest.raises((CommandFailed, RuntimeMissing)):
            preflight(*bundle, transport)


def manifest(**words: Any) -> Manifest:
    usual: dict[str, Any] = {
        "name": "x", "target": "t", "runtime": "litert", "runtime_versions": "", "format": "tflite", "scheme": "s",
        "model": "m", "entry_point": "e", "golden": "g", "golden_vectors": 16, "files": (), "tools": {},
    }  # fmt: skip
    return Manifest(**{**usual, **words})


def test_the_runner_itself_is_killed() -> None:
    with pytest.raises(RunnerKilled, match="SIGKILL"):
        preflight("b", manifest(), FakeTransport([said(status=137, signal="SIGKILL")]))


def test_a_format_that_nothing_runs_needs_no_device() -> None:
    fake = FakeTransport()
    with pytest.raises(RuntimeMissing, match="none runs circle"):
        preflight("b", manifest(format="circle"), fake)
    assert fake.ran == []


def test_hints_quote_the_python() -> None:
    device = Device(name="b", transport="ssh", python="/opt/my python/bin/python3; reboot")
    where = Where(machine="aarch64", python="3.11.2", pip="venv")
    error = nothing_runs({"ai_edge_litert": "not installed"}, where, manifest(), device)
    assert str(error.hint).startswith("on the device: '/opt/my python/bin/python3; reboot' -m pip install")
    error = nothing_runs({"ai_edge_litert": "killed by SIGILL"}, where, manifest(runtime_versions="1.2"), device)
    assert isinstance(error, IllegalInstruction)
    assert "'/opt/my python/bin/python3; reboot' -m pip" in str(error.hint)
    assert os.linesep not in str(error.hint)

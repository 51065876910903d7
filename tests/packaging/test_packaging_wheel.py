"""What goes out: the wheel holds all that runs, and every supported Python can read it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUPPORTED = ("3.10", "3.11", "3.12", "3.13")
ON_DEVICES = ("3.7", "3.8", "3.9", *SUPPORTED)


def interpreter(version: str) -> str:
    """A Python of that version on this host, from the path or pyenv; skips where there is none."""
    found = sorted((Path("/root"), *Path("/home").glob("*")))
    shelves = [shelf for home in found for shelf in home.glob(f".pyenv/versions/{version}.*/bin/python")]
    program = str(shelves[-1]) if shelves else shutil.which(f"python{version}")
    if program is None or subprocess.run([program, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"there is no Python {version} on this host")
    return program


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    pytest.importorskip("hatchling", reason="hatchling builds the wheel")
    out = tmp_path_factory.mktemp("dist")
    argv = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return message_from_bytes(wheel.read(name))


def test_every_module_is_in_it(wheel: zipfile.ZipFile) -> None:
    kept = {str(path.relative_to(ROOT)) for path in (ROOT / "edgeq").rglob("*.py")}
    assert kept <= set(wheel.namelist())
    assert "edgeq/py.typed" in wheel.namelist()
    assert "edgeq/lab/onboard/__main__.py" in wheel.namelist()
    assert "edgeq/lab/transports/_agent.py" in wheel.namelist()


def test_every_target_and_operator_table_is_in_it(wheel: zipfile.ZipFile) -> None:
    kept = {f"edgeq/_data/{path.relative_to(ROOT)}" for path in (ROOT / "targets").rglob("*.yaml")}
    assert {"edgeq/_data/targets/generic-linux-x86_64.yaml", "edgeq/_data/targets/operators/onnx-ort-cpu.yaml"} <= kept
    assert kept <= set(wheel.namelist())


def test_every_c_source_and_template_is_in_it(wheel: zipfile.ZipFile) -> None:
    kept = {f"edgeq/_data/{path.relative_to(ROOT)}" for path in (ROOT / "firmware_helpers").rglob("*.[ch]")}
    kept |= {str(path.relative_to(ROOT)) for path in (ROOT / "edgeq").rglob("*.j2")}
    assert {"edgeq/_data/firmware_helpers/kernels/eq_kernels.h", "edgeq/codegen/templates/model.c.j2"} <= kept
    assert kept <= set(wheel.namelist())


def test_nothing_else_is_in_it(wheel: zipfile.ZipFile) -> None:
    strays = [name for name in wheel.namelist() if not name.startswith(("edgeq/", "edgeq-"))]
    assert not strays
    assert not [name for name in wheel.namelist() if "cache" in name or name.endswith((".pyc", ".part"))]


def test_it_says_what_it_is(metadata: Message) -> None:
    assert metadata["Name"] == "edgeq"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == "<3.14,>=3.10"
    assert "make demo" in str(metadata.get_payload())


def test_tensorflow_comes_only_when_it_is_asked_for(metadata: Message) -> None:
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert needed
    assert not [line for line in needed if line.lower().startswith(("tensorflow", "tf", "pytest", "scipy"))]


def test_it_runs_from_the_wheel_alone(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    script = "import sys; sys.path.insert(0, sys.argv.pop(1)); from edgeq.cli import main; main()"
    argv = [sys.executable, "-c", script, str(tmp_path / "site"), "targets", "show", "raspberry-pi-4"]
    ran = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "cortex-a72" in ran.stdout


@pytest.mark.parametrize("version", SUPPORTED)
def test_every_supported_python_compiles_it(version: str) -> None:
    _compiles(interpreter(version), *sorted((ROOT / "edgeq").rglob("*.py")))


@pytest.mark.parametrize("version", ON_DEVICES)
def test_old_pythons_compile_what_runs_on_devices(version: str) -> None:
    agent = ROOT / "edgeq" / "lab" / "transports" / "_agent.py"
    _compiles(interpreter(version), agent, *sorted((ROOT / "edgeq" / "lab" / "onboard").glob("*.py")))


def _compiles(python: str, *files: Path) -> None:
    """Compile without leaving bytecode behind."""
    script = "import sys\nfor path in sys.argv[1:]: compile(open(path, encoding='utf-8').read(), path, 'exec')"
    ran = subprocess.run([python, "-c", script, *map(str, files)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-1000:]


@pytest.mark.parametrize("version", ON_DEVICES)
def test_the_onboard_runner_probes_with_it(version: str, tmp_path: Path) -> None:
    """With nothing but the standard library, and away from edgeq."""
    runner = tmp_path / "runner"
    shutil.copytree(ROOT / "edgeq" / "lab" / "onboard", runner, ignore=shutil.ignore_patterns(".*", "__py*"))
    argv = [interpreter(version), "-I", "-B", str(runner / "__main__.py"), "probe"]
    ran = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    found = [event["device"] for event in map(json.loads, ran.stdout.splitlines()) if "device" in event]
    assert found[0]["python"].startswith(f"{version}.")
    assert found[0]["cpu"]["cores"] >= 1

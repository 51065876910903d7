"""A device whose Python has nothing, over a real sshd: `--provision` gives it a runtime, and nothing else changes.

Real wheels of the real runtimes where the numbers matter; else a small package that gives the known answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeq import devices, store
from edgeq.errors import DiskFull, IllegalInstruction, RuntimeMissing, ToolError
from edgeq.lab import deploy, provisioning, transports
from edgeq.lab.onboard import known_answer
from edgeq.lab.provisioning import refusals, wheels
from edgeq.testing import models
from edgeq.testing.bundles import make_bundle
from edgeq.testing.sshd import Server, started_through
from edgeq.testing.wheels import make_wheel
from edgeq.types import Device, RunSettings, silent
from edgeq.workflow.device import measure

MODULES = {"tflite": "ai_edge_litert", "onnx": "onnxruntime"}
PACKAGES = {"tflite": "ai-edge-litert", "onnx": "onnxruntime"}
PYTHON = Path("/usr/bin/python3")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real wheels of both runtimes for this machine, as this host's pip finds them."""
    folder = tmp_path_factory.mktemp("real")
    argv = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "-d", str(folder)]
    try:
        done = subprocess.run([*argv, *PACKAGES.values()], capture_output=True, text=True, check=False, timeout=240)
    except subprocess.TimeoutExpired:
        pytest.skip("pip does not get the runtimes' wheels within 240 s")
    if done.returncode:
        pytest.skip(f"pip gets no wheels of the runtimes: {done.stderr.strip()[-200:]}")
    return folder


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, the only place where pip looks for wheels."""
    folder = tmp_path / "house"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in {"CONFIG_FILE": os.devnull, "NO_INDEX": "1", "FIND_LINKS": str(folder)}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    wheels._DONE.clear()
    return folder


@pytest.fixture
def house(pip: Path) -> Path:
    """Two versions of a package that gives the known answer, and what it needs."""
    make_wheel(pip, "numpy-1.0-py3-none-any.whl", {"numpy/__init__.py": NUMPY})
    for version in ("1.0", "2.0"):
        runtime(pip, version)
    return pip


NUMPY = b"int8 = uint8 = 'i1'\ndef array(value, dtype): return value\n"
WORKS = f"""
class Entry:
    name, type = "x", "tensor(uint8)"
class Answer:
    def tolist(self): return {known_answer.ANSWER!r}
class SessionOptions:
    pass
class InferenceSession:
    def __init__(self, *words, **more): pass
    def get_inputs(self): return [Entry]
    def get_outputs(self): return [Entry]
    def run(self, names, feeds): return [Answer()]
"""
DIES = "import os\nos.kill(os.getpid(), 4)\n"


def runtime(folder: Path, version: str, text: str = WORKS) -> Path:
    files = {"onnxruntime/__init__.py": f"__version__ = {version!r}\n{text}".encode()}
    return make_wheel(folder, f"onnxruntime-{version}-py3-none-any.whl", files, requires=["numpy"])


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with nothing but its own library, not even pip."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "v")], check=True, timeout=60)
    return folder / "v/bin/python3"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    x, _ = models.tiny_samples(models.CONV_SHAPE, models.CLASSES, 8)
    for kind, make in {"tflite": models.conv_tflite, "onnx": models.conv_onnx}.items():
        folder = tmp_path_factory.mktemp(kind)
        make_bundle(make(folder), folder / "b", [x.transpose(0, 3, 1, 2) if kind == "onnx" else x])
        found[kind] = folder / "b"
    return found


@pytest.fixture
def board(sshd: Server, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    """The sshd as the device `board` with the bare Python."""
    monkeypatch.setenv("EDGEQ_DEVICES", str(tmp_path / "devices.yaml"))
    words = {"identity": str(sshd.key), "python": str(bare), "folder": str(sshd.folder / "device")}
    devices.add("board", f"ssh://{sshd.user}@{sshd.host}:{sshd.port}", **words)
    return devices.load("board")


def call(*argv: object) -> tuple[int, dict[str, Any]]:
    words = [sys.executable, "-m", "edgeq", *map(str, argv), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=200)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def present(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and time."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def provision(kind: str, device: Device) -> provisioning.Provisioned:
    with transports.connect(device) as transport:
        return provisioning.provision(kind, transport)


def runtimes(device: Device) -> list[str]:
    """Names in the folder of this Python's runtimes, also hidden ones."""
    return sorted(path.name for path in Path(device.folder).glob("runtimes/cpython-*/*"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_from_nothing_to_a_measurement(
    kind: str, real: Path, pip: Path, board: Device, bundles: dict[str, Path], bare: Path, tmp_path: Path
) -> None:
    for wheel in real.glob("*.whl"):
        os.link(wheel, pip / wheel.name)
    bundle, own = bundles[kind], present(bare.parents[1])
    code, document = call("deploy", bundle, "-d", "board")
    assert (code, document["error"]["kind"]) == (1, "RuntimeMissing")

    code, document = call("deploy", bundle, "-d", "board", "--provision")
    made = document["provisioned"]
    assert code == 0
    assert made["distribution"] == PACKAGES[kind]
    assert made["wheels"][0].startswith(MODULES[kind])
    assert made["sent_bytes"] == sum((pip / name).stat().st_size for name in made["wheels"]) > 10 << 20
    assert runtimes(board) == [Path(made["folder"]).name]
    assert not (Path(board.folder) / "runtimes/wheels").exists()

    code, document = call("deploy", bundle, "-d", "board", "--provision")
    assert (code, document["provisioned"], document["sent_bytes"]) == (0, None, 0)
    code, document = call("deploy", bundle, "-d", "board")
    assert (code, document["sent_bytes"]) == (0, 0)
    quick = RunSettings(runs=5, seconds=0.1, warmup_seconds=0.0, compare_float=False)
    measured = measure(deploy.load_bundle(bundle), board, quick, tmp_path, False, silent, provision=True)
    assert measured.parity is not None
    assert measured.parity.exact
    assert measured.runtime["version"] == made["version"]
    assert present(bare.parents[1]) == own


def test_a_runtime_that_dies_there_is_remembered_and_an_older_one_taken(house: Path, board: Device) -> None:
    deadly = runtime(house, "99.0", DIES)
    made = provision("onnx", board)
    assert made.version == "2.0"
    assert runtimes(board) == [Path(made.folder).name]
    with transports.connect(board) as transport:
        told = provisioning.facts(transport)
    assert refusals.of(told.device, "onnxruntime") == {"99.0": "killed by SIGILL"}
    shutil.rmtree(Path(board.folder) / "runtimes")
    again = provision("onnx", board)
    assert again.sent_bytes == made.sent_bytes - deadly.stat().st_size  # it is not even sent


def test_a_runtime_that_miscomputes_is_not_taken(house: Path, board: Device) -> None:
    runtime(house, "99.0", WORKS.replace("return [Answer()]", "return [Wrong()]") + "class Wrong(Answer):\n"
            "    def tolist(self): return [[0]]\n")  # fmt: skip
    assert provision("onnx", board).version == "2.0"


def only(house: Path, *keep: str) -> None:
    for wheel in house.glob("*.whl"):
        if not wheel.name.startswith(keep):
            wheel.unlink()


def test_when_all_die_every_reason_is_told(house: Path, board: Device) -> None:
    only(house, "numpy")
    runtime(house, "99.0", DIES)
    with pytest.raises(IllegalInstruction, match=r"onnxruntime 99\.0: killed by SIGILL") as caught:
        provision("onnx", board)
    assert caught.value.hint == "edgeq devices probe board"
    assert runtimes(board) == []


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"onnxruntime/__init__.py": b"raise SystemError('broken')"}, "SystemError: broken"),
        ({"other/__init__.py": b""}, "onnxruntime is not in these wheels"),
    ],
)
def test_a_runtime_that_does_not_work_is_never_in_use(
    files: dict[str, bytes], says: str, house: Path, board: Device
) -> None:
    only(house)
    make_wheel(house, "onnxruntime-3.0-py3-none-any.whl", files)
    with pytest.raises(RuntimeMissing, match=says):
        provision("onnx", board)
    assert runtimes(board) == []
    assert not (Path(board.folder) / "runtimes/wheels").exists()


def test_a_hostile_wheel_is_refused_there(house: Path, board: Device) -> None:
    only(house)
    files = {"onnxruntime/__init__.py": b"", "onnxruntime/../../../../evil": b"evil"}
    make_wheel(house, "onnxruntime-3.0-py3-none-any.whl", files)
    with pytest.raises(ToolError, match="is not a path inside the folder"):
        provision("onnx", board)
    assert runtimes(board) == []
    assert not list(Path(board.folder).parent.rglob("evil"))


def test_no_wheel(house: Path, board: Device, bundles: dict[str, Path]) -> None:
    only(house, "numpy")
    code, document = call("deploy", bundles["tflite"], "-d", "board", "--provision")
    assert (code, document["error"]["kind"]) == (1, "RuntimeMissing")
    assert "pip cannot download ai-edge-litert" in document["error"]["message"]
    assert "tflite-runtime" in document["error"]["message"]
    assert "pip config list" in document["error"]["hint"]


def test_an_index_that_cannot_be_reached(house: Path, board: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    (house.parent / "pip.conf").write_text("[global]\nretries = 1\ntimeout = 1\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(house.parent / "pip.conf"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    only(house)
    with pytest.raises(ToolError, match="cannot be reached"):
        provision("onnx", board)


def test_no_python(house: Path, sshd: Server, board: Device, bundles: dict[str, Path]) -> None:
    devices.remove("board")
    address = f"ssh://{sshd.user}@{sshd.host}:{sshd.port}"
    devices.add("board", address, identity=str(sshd.key), python="/nonexistent/python3")
    code, document = call("deploy", bundles["onnx"], "-d", "board", "--provision")
    assert (code, document["error"]["kind"]) == (1, "RuntimeMissing")
    assert "apt install python3" in document["error"]["hint"]


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir(parents=True)
    argv = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(argv, capture_output=True, check=False, timeout=20).returncode:
        folder.rmdir()
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True, timeout=20)


def test_a_disk_that_is_too_small_is_told_before_anything_is_sent(house: Path, board: Device) -> None:
    with small_disk(Path(board.folder), "8m"):
        with pytest.raises(DiskFull, match="MiB free, the runtime needs"):
            provision("onnx", board)
        assert not list(Path(board.folder).rglob("*.whl"))


def until(holds: Callable[[], object], seconds: float = 60) -> None:
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_host_that_ends_in_the_middle_leaves_no_half_runtime(
    number: signal.Signals, house: Path, sshd: Server, board: Device, bundles: dict[str, Path]
) -> None:
    runtime(house, "3.0", "import time\ntime.sleep(3)\n" + WORKS)
    argv = [sys.executable, "-m", "edgeq", "deploy", str(bundles["onnx"]), "-d", "board", "--provision", "-q"]
    place = Path(board.folder) / "runtimes"
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        until(lambda: list(place.glob("cpython-*/.installing-*/onnxruntime")))
        process.send_signal(number)
        assert process.wait(30) in (130, -number)
    until(lambda: not started_through(sshd), 40)
    assert not [name for name in runtimes(board) if not name.startswith(".")]
    code, document = call("deploy", bundles["onnx"], "-d", "board", "--provision")
    assert code == 0
    assert document["provisioned"]["sent_bytes"] == 0  # the wheels lay there whole
    assert runtimes(board) == [Path(document["provisioned"]["folder"]).name]  # and nothing else is left


def test_a_damaged_runtime_is_replaced(house: Path, board: Device, bundles: dict[str, Path]) -> None:
    made = provision("onnx", board)
    (Path(made.folder) / "onnxruntime/__init__.py").write_text("raise ImportError('damaged')\n")
    code, document = call("deploy", bundles["onnx"], "-d", "board")
    assert (code, document["error"]["kind"]) == (1, "RuntimeMissing")
    assert "damaged (provisioned)" in document["error"]["message"]
    assert document["error"]["hint"] == "edgeq deploy BUNDLE -d board --provision"
    code, document = call("deploy", bundles["onnx"], "-d", "board", "--provision")
    assert (code, document["provisioned"]["folder"]) == (0, made.folder)
    assert runtimes(board) == [Path(made.folder).name]


@pytest.mark.skipif(not PYTHON.exists(), reason="no /usr/bin/python3")
def test_the_facts_of_this_machine(sshd: Server) -> None:
    with transports.connect(sshd.device(python=str(PYTHON))) as transport:
        told = provisioning.facts(transport)
    assert platform.machine() in told.abi
    assert told.libc == " ".join(platform.libc_ver())
    assert told.device.cpu.features
    assert store.state_folder().name == "edgeq"


def test_two_devices_at_once(house: Path, sshd: Server, board: Device, bare: Path, bundles: dict[str, Path]) -> None:
    words = {"identity": str(sshd.key), "python": str(bare), "folder": str(sshd.folder / "device" / "other")}
    devices.add("other", f"ssh://{sshd.user}@{sshd.host}:{sshd.port}", **words)
    code, document = call("deploy", bundles["onnx"], "-d", "board", "-d", "other", "--provision")
    assert code == 0, document
    made = [entry["deployment"]["provisioned"] for entry in document["devices"]]
    assert [one["version"] for one in made] == ["2.0", "2.0"]
    assert len({one["folder"] for one in made}) == 2

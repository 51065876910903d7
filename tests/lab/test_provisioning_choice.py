"""Which runtime a device gets: its facts against a list of wheels, chosen by the real pip; nothing is downloaded from
anywhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from edgeq.errors import ToolError
from edgeq.lab.answers import Cpu, Interpreter, Machine
from edgeq.lab.provisioning import choice, refusals, wheels
from edgeq.lab.provisioning.choice import Platform
from edgeq.lab.provisioning.told import Facts
from edgeq.lab.provisioning.wheels import NoWheel
from edgeq.lab.readiness import Disk
from edgeq.testing.wheels import make_wheel

V2 = ("fpu", "popcnt", "sse2", "sse4_1", "sse4_2", "ssse3")
A72 = ("asimd", "cpuid", "crc32", "evtstrm", "fp")
BOTH = ("x86_64", "aarch64")
LISTED = (
    *(f"ai_edge_litert-2.3.0-cp3{n}-cp3{n}-manylinux_2_27_{m}.whl" for n in range(10, 15) for m in BOTH),
    *(f"ai_edge_litert-1.0.1-cp3{n}-cp3{n}-manylinux_2_17_{m}.whl" for n in (10, 11) for m in BOTH),
    *(f"tflite_runtime-2.14.0-cp3{n}-cp3{n}-manylinux2014_{m}.whl" for n in (9, 10, 11) for m in BOTH),
    *(f"tflite_runtime-2.14.0-cp3{n}-cp3{n}-manylinux_2_34_armv7l.whl" for n in (9, 11)),
    "tflite_runtime-2.13.0-cp39-cp39-manylinux2014_armv7l.whl",
    *(f"onnxruntime-{v}-cp31{n}-cp31{n}-manylinux_2_27_{m}.manylinux_2_28_{m}.whl"
      for v in ("1.20.1", "1.21.0") for n in (0, 1, 2, 3) for m in BOTH),
    *(f"numpy-{v}-cp311-cp311-manylinux_2_27_{m}.manylinux_2_28_{m}.whl"
      for v in ("2.4.6", "2.3.5") for m in BOTH),
    *(f"numpy-1.26.4-cp3{n}-cp3{n}-manylinux_2_17_{m}.manylinux2014_{m}.whl"
      for n in (9, 11) for m in BOTH),
    *("numpy-2.4.6-cp313-cp313-manylinux_2_27_aarch64.whl", "numpy-2.2.6-cp310-cp310-manylinux_2_17_aarch64.whl"),
    *("numpy-1.26.4-cp39-cp39-linux_armv7l.whl", "backports_strenum-1.3.1-py3-none-any.whl"),
)  # fmt: skip
"""Names as facts.md and the packages' issues tell of them; numpy for armv7l is not where the others are."""
REQUIRES = {
    "ai_edge_litert": ("numpy>=1.23.2", 'backports.strenum; python_version < "3.11"', 'lark; extra == "model-utils"'),
    "tflite_runtime": ("numpy>=1.23.2",),
    "onnxruntime": ("numpy>=1.21.6", 'pywin32; sys_platform == "win32"'),
}


def facts(python: str, soabi: str, machine: str, libc: str = "glibc 2.36", features: tuple[str, ...] = ()) -> Facts:
    numbers = [int(part) for part in python.split(".")]
    cpu = Cpu(model="test", cores=4, features=features, max_clock_hz=None)
    device = Machine(
        python=python, machine=machine, libc=libc, kernel="6.1", hostname="board", board=None, cpu=cpu,
        memory_total_bytes=None, memory_available_bytes=None, disk_free_bytes=None, pip="none",
    )  # fmt: skip
    room = Disk(free_bytes=None, free_files=None, obstacle=None, present_bytes=0)
    return Facts(
        event="result", device=device, implementation="cpython", version=(numbers[0], numbers[1], numbers[2]),
        abi=soabi, libc=libc, disk=room, folder="/home/pi/.cache/edgeq/runtimes",
    )  # fmt: skip


PI4 = facts("3.11.2", "cpython-311-aarch64-linux-gnu", "aarch64", features=A72)
PI4_TRIXIE = facts("3.13.5", "cpython-313-aarch64-linux-gnu", "aarch64", "glibc 2.41", A72)
PI4_JAMMY = facts("3.10.12", "cpython-310-aarch64-linux-gnu", "aarch64", "glibc 2.35", A72)
PI_BULLSEYE = facts("3.9.2", "cpython-39-arm-linux-gnueabihf", "armv7l", "glibc 2.31")
PI4_32_ON_64 = facts("3.9.2", "cpython-39-arm-linux-gnueabihf", "aarch64", "glibc 2.31")
PC = facts("3.11.2", "cpython-311-x86_64-linux-gnu", "x86_64", features=V2)
OLD_PC = facts("3.11.2", "cpython-311-x86_64-linux-gnu", "x86_64", features=("fpu", "sse2", "ssse3"))
OLD_LIBC = facts("3.11.9", "cpython-311-x86_64-linux-gnu", "x86_64", "glibc 2.17", V2)


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("listed")
    for name in LISTED:
        make_wheel(folder, name, requires=REQUIRES.get(name.split("-")[0], ()))
    return folder


@pytest.fixture
def only_listed(listed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip knows these wheels and no index."""
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode:
        pytest.skip("this Python has no pip")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(listed))
    wheels._DONE.clear()
    return listed


def wanted(told: Facts) -> Platform:
    found = choice.platform(told)
    assert isinstance(found, Platform), found
    return found


def chosen(model_format: str, told: Facts) -> list[str]:
    """`name==version` of what the first package that has wheels comes to."""
    platform = wanted(told)
    for package in choice.candidates(model_format, platform):
        bounds = choice.bounds(package, platform, told.device.cpu.features)
        try:
            found = wheels.collect(package.distribution, bounds, platform)
        except NoWheel:
            continue
        return [f"{wheel.distribution}=={wheel.version}" for wheel in found]
    return []


TABLE: list[tuple[str, str, Facts, list[str]]] = [
    ("Pi 4, Debian 12", "tflite", PI4, ["ai-edge-litert==2.3.0", "numpy==2.4.6"]),
    ("Pi 4, 1.21.0 dies there", "onnx", PI4, ["onnxruntime==1.20.1", "numpy==2.4.6"]),
    ("Pi 4, Debian 13", "tflite", PI4_TRIXIE, ["ai-edge-litert==2.3.0", "numpy==2.4.6"]),
    ("a marker of Python 3.10", "tflite", PI4_JAMMY,
     ["ai-edge-litert==2.3.0", "numpy==2.2.6", "backports-strenum==1.3.1"]),
    ("armv7, Debian 11: 2.14 wants glibc 2.34", "tflite", PI_BULLSEYE, ["tflite-runtime==2.13.0", "numpy==1.26.4"]),
    ("32-bit Python on a 64-bit kernel", "tflite", PI4_32_ON_64, ["tflite-runtime==2.13.0", "numpy==1.26.4"]),
    ("a PC", "onnx", PC, ["onnxruntime==1.21.0", "numpy==2.4.6"]),
    ("a PC without x86-64-v2", "tflite", OLD_PC, ["ai-edge-litert==2.3.0", "numpy==2.3.5"]),
    ("an old C library", "tflite", OLD_LIBC, ["ai-edge-litert==1.0.1", "numpy==1.26.4"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("model_format", "told", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_what_a_device_gets(model_format: str, told: Facts, expected: list[str], only_listed: Path) -> None:
    assert chosen(model_format, told) == expected


def test_tflite_runtime_never_comes_with_numpy_2(only_listed: Path) -> None:
    """Where the successor has no wheel left, the old one comes with an old NumPy."""
    told = replace(PC, device=PC.device)
    platform = wanted(told)
    package = choice.candidates("tflite", platform)[1]
    found = wheels.collect(package.distribution, choice.bounds(package, platform, V2), platform)
    assert [(w.distribution, w.version) for w in found] == [("tflite-runtime", "2.14.0"), ("numpy", "1.26.4")]


def test_an_excluded_version_makes_room_for_the_next_older(only_listed: Path) -> None:
    platform = wanted(PC)
    found = wheels.collect("onnxruntime", {"onnxruntime": SpecifierSet("<1.21.0")}, platform)
    assert found[0].version == "1.20.1"
    with pytest.raises(NoWheel, match=r"onnxruntime<1\.20\.1"):
        wheels.collect("onnxruntime", {"onnxruntime": SpecifierSet("<1.20.1")}, platform)


WITHOUT = {
    "musl": (facts("3.12.4", "cpython-312-x86_64-linux-musl", "x86_64", ""), "musl"),
    "musl, of which nothing is told": (
        facts("3.12.4", "cpython-312-aarch64-linux-musl", "aarch64", "musl 1.2"),
        "musl",
    ),
    "soft-float": (facts("3.9.2", "cpython-39-arm-linux-gnueabi", "armv5tel"), "soft-float"),
    "ARMv6": (facts("3.9.2", "cpython-39-arm-linux-gnueabihf", "armv6l"), "ARMv6"),
    "PyPy": (replace(PC, implementation="pypy", abi="pypy39-pp73"), "CPython only"),
    "macOS": (replace(PC, abi="cpython-311-darwin"), "cpython-311-darwin"),
    "an unknown C library": (replace(PC, libc="bionic"), "not glibc"),
    "hostile": (replace(PC, abi="../../x", libc="glibc 2.99999999999999"), "../../x"),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_where_no_wheel_can_be(name: str) -> None:
    told, says = WITHOUT[name]
    found = choice.platform(told)
    assert isinstance(found, str)
    assert says in found


NOTHING: dict[str, tuple[str, Facts]] = {
    "armv7 has no onnxruntime": ("onnx", PI_BULLSEYE),
    "Python 3.6 is too old": ("tflite", facts("3.6.9", "cpython-36m-x86_64-linux-gnu", "x86_64")),
    "tflite-runtime ended before Python 3.12 on armv7": (
        "tflite",
        facts("3.12.1", "cpython-312-arm-linux-gnueabihf", "armv7l"),
    ),
    "RISC-V": ("tflite", facts("3.11.2", "cpython-311-riscv64-linux-gnu", "riscv64")),
}


@pytest.mark.parametrize("name", NOTHING)
def test_no_package_is_even_asked_for(name: str) -> None:
    model_format, told = NOTHING[name]
    assert choice.candidates(model_format, wanted(told)) == []


def test_tags_are_those_that_the_c_library_allows() -> None:
    tags = wanted(PI_BULLSEYE).tags()
    assert tags[:2] == ["manylinux_2_31_armv7l", "manylinux_2_30_armv7l"]
    assert "manylinux2014_armv7l" in tags
    assert "manylinux1_armv7l" not in tags
    assert tags[-1] == "linux_armv7l"
    assert "manylinux1_x86_64" in wanted(PC).tags()
    assert wanted(facts("3.13.1", "cpython-313t-x86_64-linux-gnu", "x86_64")).abi == "cp313t"
    assert wanted(facts("3.7.3", "cpython-37m-x86_64-linux-gnu", "x86_64")).abi == "cp37m"


def test_wheels_are_kept_by_their_hashes_and_serve_when_pip_fails(
    only_listed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = wheels.collect("onnxruntime", {}, wanted(PC))
    assert all(wheel.path.parent.name == wheel.sha256 for wheel in first)
    assert all(wheel.path.is_relative_to(wheels.folder()) for wheel in first)
    wheels._DONE.clear()
    monkeypatch.setenv("PIP_NO_INDEX", "not a truth value")  # pip ends with an error of its own
    assert wheels.collect("onnxruntime", {}, wanted(PC)) == first
    wheels._DONE.clear()
    first[1].path.write_bytes(b"damaged")
    with pytest.raises(ToolError, match="pip cannot download onnxruntime"):
        wheels.collect("onnxruntime", {}, wanted(PC))


def test_metadata_that_cannot_be_read(tmp_path: Path) -> None:
    for text in ("numpy >=", "numpy; nonsense > 1", "@@@"):
        wheel = make_wheel(tmp_path, "tiny-1.0-py3-none-any.whl", requires=[text])
        with pytest.raises(ToolError, match="metadata cannot be read"):
            wheels.requirements(wheel, wanted(PC))
    (tmp_path / "none.whl").write_bytes(b"no zip")
    with pytest.raises(ToolError, match="metadata cannot be read"):
        wheels.requirements(tmp_path / "none.whl", wanted(PC))


def test_refusals_are_those_of_a_processor(tmp_path: Path) -> None:
    refusals.remember(PI4.device, "onnxruntime", "1.21.0", "killed by SIGILL")
    refusals.remember(PI4.device, "onnxruntime", "1.22.0", "it computes [1] where [2] is right")
    assert list(refusals.of(PI4.device, "onnxruntime")) == ["1.21.0", "1.22.0"]
    assert refusals.of(PI4.device, "ai-edge-litert") == refusals.of(PC.device, "onnxruntime") == {}
    newer = replace(PI4.device, cpu=replace(PI4.device.cpu, features=(*A72, "asimddp")))
    assert refusals.of(newer, "onnxruntime") == {}
    refusals.path().write_text("[1, 2")
    assert refusals.of(PI4.device, "onnxruntime") == {}
    for damaged in ('{"a": 1}', '{"a": {"b": 1}}', "[]", "null"):
        refusals.path().write_text(damaged)
        assert refusals.of(PI4.device, "onnxruntime") == {}


def test_what_counts_as_deadly() -> None:
    def why(text: str) -> Any:
        return Interpreter(version=None, ok=False, why=text).why

    assert why("killed by SIGILL").startswith(refusals.DEADLY)
    assert not why("ImportError: libGL.so.1: cannot open shared object file").startswith(refusals.DEADLY)
    assert not why("killed by SIGKILL").startswith(refusals.DEADLY)  # out of memory may pass

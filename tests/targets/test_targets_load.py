"""Profiles and tables from files: what is refused, where, and with which words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq import targets
from edgeq.errors import EdgeqError, TargetError
from edgeq.types import OperatorTable, Target

ROOT = Path(__file__).resolve().parents[2]
PROFILE = """\
schema: 1
name: board
title: A board
kind: linux
cpu: {arch: aarch64, core: cortex-a53}
memory:
  ram: 1 GiB
  model_budget: 64 MiB
runtimes:
  - {name: litert, format: tflite, operators: own-table}
sources:
  - {fact: cpu, where: data sheet}
  - {fact: memory, where: data sheet}
  - {fact: runtimes, where: ran}
"""
TABLE = """\
schema: 1
name: own-table
runtime: litert
version: "2.3.0"
source: ran
operators:
  ADD:
    signatures:
      - {activations: int8}
      - {activations: float32}
  RESHAPE: {signatures: any, passes_quantization: true}
fallback: none
"""


@pytest.fixture
def profile(tmp_path: Path) -> Callable[..., Path]:
    """Writes `board.yaml` with one text put in another's place."""

    def write(old: str = "", new: str = "") -> Path:
        assert old in PROFILE
        path = tmp_path / "board.yaml"
        path.write_text(PROFILE.replace(old, new) if old else PROFILE)
        return path

    return write


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Writes `operators/own-table.yaml` with one text put in another's place, and the profile beside it."""

    def write(old: str = "", new: str = "") -> Path:
        assert old in TABLE
        (tmp_path / "operators").mkdir(exist_ok=True)
        (tmp_path / "operators" / "own-table.yaml").write_text(TABLE.replace(old, new) if old else TABLE)
        return tmp_path / "board.yaml"

    return write


def test_sizes_become_bytes(profile: Callable[..., Path]) -> None:
    target = targets.load(profile())
    assert target.memory.ram_bytes == 1024**3
    assert target.memory.model_budget_bytes == 64 * 1024**2
    assert target.sources[0].where == "data sheet"


BAD_PROFILES = [
    ("schema: 1", "schema: 2", "schema: should be 1", 1),
    ("name: board", "name: other", "name: should be the file's name 'board'", 2),
    ("kind: linux", "kind: toaster", "kind: should be 'linux', 'android' or 'mcu', got 'toaster'", 4),
    ("core: cortex-a53", "core: cortex-a53, clock: 3", "cpu.clock: unknown key", 5),
    ("core: cortex-a53", "core: cortex-a53, cores: 0", "cpu.cores: should be 1 to 1024", 5),
    ("core: cortex-a53", "core: cortex-a53, clock_hz: 5", "cpu.clock_hz: should be in Hz", 5),
    ("core: cortex-a53", "core: cortex-a53, clock_hz: 1.5 GHz", "cpu.clock_hz: should be a whole number", 5),
    ("ram: 1 GiB", "ram: 1 GB", "memory.ram: GB is ambiguous; write '1 GiB'", 7),
    ("ram: 1 GiB", "ram: 1 potato", "memory.ram: 'potato' is not a unit", 7),
    ("ram: 1 GiB", "ram: 0", "memory.ram: should be more than 0", 7),
    ("ram: 1 GiB", "ram: -5", "memory.ram: a size cannot be negative", 7),
    ("ram: 1 GiB", "ram: 1.5", "memory.ram: 1.5 is not a size", 7),
    ("ram: 1 GiB", "ram: true", "memory.ram: True is not a size", 7),
    ("ram: 1 GiB", "ram: [1]", "memory.ram: [1] is not a size", 7),
    ("ram: 1 GiB", "ram_bytes: 5", "memory.ram_bytes: unknown key; known are ram, flash", 7),
    ("  ram: 1 GiB\n", "", "memory.ram", 6),
    (
        "model_budget: 64 MiB",
        "model_budget: 2 GiB",
        "memory.model_budget: should be more than 0 and at most the RAM",
        8,
    ),
    ("model_budget: 64 MiB", "model_budget: 0", "memory.model_budget: should be more than 0", 8),
    ("model_budget: 64 MiB", "reserved_ram: 1 GiB", "memory.reserved_ram: should be less than the RAM", 8),
    ("model_budget: 64 MiB", "reserved_flash: 1 KiB", "memory.reserved_flash: should be less than the flash", 8),
    ("format: tflite", "format: pickle", "runtimes[0].format: should be 'tflite', 'onnx' or 'c'", 10),
    (
        "operators: own-table",
        "operators: ../../etc/passwd",
        "runtimes[0].operators: '../../etc/passwd' is not a table's name",
        10,
    ),
    (
        "runtimes:\n  - {name: litert, format: tflite, operators: own-table}",
        "runtimes: []",
        "runtimes: should name at least one",
        9,
    ),
    ("sources:", "power: [crystal]\nsources:", "power[0]: unknown meter 'crystal'", 11),
    ("sources:", "power: [hwmon]\nsources:", "sources: no source for power", 12),
    ("  - {fact: memory, where: data sheet}\n", "", "sources: no source for memory", 11),
    ("{fact: memory, where: data sheet}", "{fact: memory, where: ''}", "sources: no source for memory", 11),
    ("{fact: memory, where: data sheet}", "{fact: memory}", "sources[1].where: is missing", 13),
    ("sources:", "roofline: {int8_macs_per_s: 1}\nsources:", "roofline.source: is missing", 11),
    (
        "sources:",
        "roofline: {int8_macs_per_s: 0, source: x}\nsources:",
        "roofline.int8_macs_per_s: should be more than 0",
        11,
    ),
    ("sources:", "roofline: {source: ' '}\nsources:", "roofline.source: should say", 11),
    ("sources:", "toolchain: {gcc: x}\nsources:", "toolchain: gcc should be a compiler", 11),
]


@pytest.mark.parametrize(("old", "new", "message", "line"), BAD_PROFILES, ids=range(len(BAD_PROFILES)))
def test_wrong_profile_is_refused(profile: Callable[..., Path], old: str, new: str, message: str, line: int) -> None:
    path = profile(old, new)
    with pytest.raises(TargetError) as caught:
        targets.load(path)
    assert message in caught.value.message
    assert caught.value.where == f"{path}:{line}"


BAD_TABLES = [
    ("schema: 1", "schema: 3", "schema: should be 1"),
    ("name: own-table", "name: x", "name: should be the file's name"),
    ("source: ran", "source: ' '", "source: should not be empty"),
    ("activations: int8", "activations: int7", "operators.ADD.signatures[0].activations: 'int7' is not a data type"),
    (
        "activations: int8",
        "activations: int8, weights: u8",
        "operators.ADD.signatures[0].weights: 'u8' is not a data type",
    ),
    (
        "activations: int8",
        "activations: int8, output: {dtype: q}",
        "signatures[0].output.dtype: 'q' is not a data type",
    ),
    ("activations: int8", "granularity: per-channel", "operators.ADD.signatures[0].activations: is missing"),
    ("signatures: any", "signatures: all", "operators.RESHAPE.signatures: should be a list"),
    ("signatures: any", "signatures: []", "operators.RESHAPE.signatures: should be 'any' or at least one"),
    ("{signatures: any, passes_quantization: true}", "any", "operators.RESHAPE: should be a mapping"),
    ("{signatures: any, passes_quantization: true}", "{signatures: ~}", "operators.RESHAPE: should be a mapping"),
    (
        "signatures: any",
        "signatures: any, constraints: [{rule: ../x}]",
        "constraints[0].rule: '../x' is not a rule's name",
    ),
    (
        "signatures: any",
        "signatures: any, constraints: [{rule: rank, minimum: 4, maximum: 2}]",
        "constraints[0].minimum: should be at most the maximum",
    ),
    ("fallback: none", "fallback: cloud", "fallback: should be 'none', 'cpu' or 'float'"),
]


@pytest.mark.parametrize(("old", "new", "message"), BAD_TABLES, ids=range(len(BAD_TABLES)))
def test_wrong_table_is_refused(
    profile: Callable[..., Path], table: Callable[..., Path], old: str, new: str, message: str
) -> None:
    path = profile()
    table(old, new)
    with pytest.raises(TargetError) as caught:
        targets.load_tables(targets.load(path), path)
    assert message in caught.value.message
    assert "own-table.yaml:" in (caught.value.where or "")


def test_own_table_beside_the_profile_is_found(profile: Callable[..., Path], table: Callable[..., Path]) -> None:
    path = profile()
    table()
    found = targets.load_tables(targets.load(str(path)), str(path))
    assert set(found["own-table"].operators) == {"ADD", "RESHAPE"}
    (path.parent / "operators" / "own-table.yaml").rename(path.parent / "own-table.yaml")
    assert targets.load_table("own-table", beside=path).runtime == "litert"


def test_own_table_goes_before_the_shelf_s(profile: Callable[..., Path], tmp_path: Path) -> None:
    path = profile("own-table", "tflite-litert-cpu")
    (tmp_path / "tflite-litert-cpu.yaml").write_text(TABLE.replace("own-table", "tflite-litert-cpu"))
    target = targets.load(path)
    assert len(targets.load_tables(target, path)["tflite-litert-cpu"].operators) == 2
    assert len(targets.load_tables(target)["tflite-litert-cpu"].operators) > 60


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/b", "..", ".", "", "A", "x" * 300, "a\0b", "tflite_x/.."]
)
def test_table_names_do_not_leave_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.yaml").write_text(TABLE)
    (tmp_path / "in").mkdir()
    with pytest.raises(TargetError, match="no operator table is called"):
        targets.load_table(name, beside=tmp_path / "in" / "board.yaml")


def test_unknown_name_has_the_nearest_as_hint() -> None:
    with pytest.raises(TargetError, match="no target is called 'raspbery-pi-5'") as caught:
        targets.load("raspbery-pi-5")
    assert "raspberry-pi-5" in (caught.value.hint or "")
    with pytest.raises(TargetError) as caught:
        targets.load("zzz")
    assert "generic-linux-aarch64" in (caught.value.hint or "")


@pytest.mark.parametrize("ref", ["./absent.yaml", "absent.yml", "/nowhere/x.yaml", Path("absent")])
def test_absent_file_is_named(ref: str | Path) -> None:
    with pytest.raises(TargetError, match="no such file") as caught:
        targets.load(ref)
    assert caught.value.where == str(Path(ref))


def test_folders_of_the_environment_go_first(profile: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = profile()
    monkeypatch.setenv("EDGEQ_TARGETS", f"{path.parent}:/nowhere")
    assert "board" in targets.names()
    assert targets.load("board").title == "A board"
    assert targets.load("raspberry-pi-5").cpu.core == "cortex-a76"


PROFILES = [path.read_text() for path in sorted((ROOT / "targets").glob("raspberry*.yaml"))]
WORDS = [
    "0",
    "-1",
    "1e99",
    "any",
    "null",
    "[]",
    "{}",
    "true",
    "1 GB",
    "999999 TiB",
    "../x",
    "'",
    '"',
    ":",
    "\n",
    "  ",
    "int8",
]


@st.composite
def rewritten(draw: st.DrawFn) -> str:
    """A profile with one to four words put in the place of others."""
    text = draw(st.sampled_from(PROFILES))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = min(len(text), start + draw(st.integers(0, 12)))
        text = text[:start] + draw(st.sampled_from(WORDS)) + text[stop:]
    return text


@settings(max_examples=600, deadline=5000, suppress_health_check=list(HealthCheck))
@given(text=rewritten())
def test_mutated_profile_loads_or_says_why(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "raspberry-pi-5.yaml"
    path.write_text(text)
    try:
        target = targets.load(path)
    except EdgeqError as error:
        assert isinstance(error, TargetError)
        assert "\n" not in error.message
        return
    assert isinstance(target, Target)
    assert target.memory.ram_bytes > 0
    assert target.runtimes


@settings(max_examples=1000, deadline=5000, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_mutated_table_loads_or_says_why(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    start = data.draw(st.integers(0, len(TABLE)))
    stop = min(len(TABLE), start + data.draw(st.integers(0, 12)))
    folder = tmp_path_factory.getbasetemp()
    (folder / "own-table.yaml").write_text(TABLE[:start] + data.draw(st.sampled_from(WORDS)) + TABLE[stop:])
    try:
        found = targets.load_table("own-table", beside=folder / "board.yaml")
    except EdgeqError as error:
        assert isinstance(error, TargetError)
        return
    assert isinstance(found, OperatorTable)
    assert found.operators

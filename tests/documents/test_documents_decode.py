"""From files to dataclasses and back: types, messages, places, round trips."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq import documents, store
from edgeq import types as t
from edgeq.errors import DatasetError, EdgeqError, OutputError, TargetError

GOOD = "arch: aarch64\ncore: cortex-a76\nclock_hz: 2400000000\nfeatures: [asimd, asimddp]\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "x.yaml"
    path.write_text(text)
    return path


def test_yaml_becomes_a_dataclass(tmp_path: Path) -> None:
    found = documents.load_yaml(written(tmp_path, GOOD), t.Cpu)
    assert found == t.Cpu(arch="aarch64", core="cortex-a76", clock_hz=2_400_000_000, features=("asimd", "asimddp"))


WRONG = [
    (t.Cpu, "arch: a\ncore: 3", "core: should be text, got 3", 2),
    (t.Cpu, "arch: a\ncore: true", "core: should be text, got True", 2),
    (t.Cpu, "arch: a\ncore: ~", "core: should be text, got nothing", 2),
    (t.Cpu, "arch: a\ncore: b\ncores: '4'", "cores: should be a whole number, got '4'", 3),
    (t.Cpu, "arch: a\ncore: b\ncores: 4.0", "cores: should be a whole number, got 4.0", 3),
    (t.Cpu, "arch: a\ncore: b\ncores: true", "cores: should be a whole number, got True", 3),
    (t.Cpu, "arch: a\ncore: b\nfeatures: x", "features: should be a list, got 'x'", 3),
    (t.Cpu, "arch: a\ncore: b\nfeatures:\n  - c\n  - 1", "features[1]: should be text, got 1", 5),
    (t.Cpu, "arch: a\ncore: b\n\nclok_hz: 3", "clok_hz: unknown key; did you mean 'clock_hz'?", 4),
    (t.Cpu, "arch: a\ncore: b\nzzz: 3", "zzz: unknown key; known are arch, core, cores, clock_hz, features", 3),
    (t.Cpu, "core: b", "arch: is missing", 1),
    (t.Cpu, "{}", "arch: is missing (and 1 more)", 1),
    (t.Signature, "activations: int8\ngranularity: each", "granularity: should be 'per-tensor' or 'per-channel'", 2),
    (
        t.Signature,
        "activations: int8\noutput:\n  dtype: int8\n  scal: 1",
        "output.scal: unknown key; did you mean 'scale'?",
        4,
    ),
    (t.InputSpec, "std: x", "std: should be a number or should be a list, got 'x'", 1),
    (t.InputSpec, "scale: [1, x]", "scale[1]: should be a number, got 'x'", 1),
]


@pytest.mark.parametrize(("cls", "text", "message", "line"), WRONG, ids=range(len(WRONG)))
def test_message_says_where_and_what_would_be_right(
    tmp_path: Path, cls: type[Any], text: str, message: str, line: int
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(DatasetError) as caught:
        documents.load_yaml(path, cls, error=DatasetError)
    assert message in caught.value.message
    assert caught.value.where == f"{path}:{line}"


def test_path_into_a_mapping_of_dataclasses(tmp_path: Path) -> None:
    text = (
        "name: n\nruntime: r\nversion: v\nsource: s\n"
        "operators:\n  ADD:\n    signatures:\n      - activations: int8\n        weights: 1\n"
    )
    path = written(tmp_path, text)
    with pytest.raises(EdgeqError) as caught:
        documents.load_yaml(path, t.OperatorTable)
    assert caught.value.message == "operators.ADD.signatures[0].weights: should be text, got 1"
    assert caught.value.where == f"{path}:9"


PLAIN = [
    ("0:100", "0:100"),
    ("yes", "yes"),
    ("on", "on"),
    ("NO", "NO"),
    ("2001-12-14", "2001-12-14"),
    ("1_000", "1_000"),
    ("0b11", "0b11"),
    ("190:20:30", "190:20:30"),
    ("=", "="),
    ("1.2.3", "1.2.3"),
    ("true", True),
    ("False", False),
    ("null", None),
    ("~", None),
    ("", None),
    ("12", 12),
    ("-7", -7),
    ("0o17", 15),
    ("017", 17),
    ("0xff", 255),
    ("1.5", 1.5),
    ("1e3", 1000.0),
    (".5", 0.5),
    ("'12'", "12"),
    ('"true"', "true"),
    ("|\n  12", "12\n"),
]


@pytest.mark.parametrize(("text", "value"), PLAIN, ids=[case[0].strip() or "empty" for case in PLAIN])
def test_plain_scalars_follow_yaml_1_2(tmp_path: Path, text: str, value: object) -> None:
    data, lines = documents.read_yaml(written(tmp_path, f"key: {text}\n"))
    assert data == {"key": value}
    assert type(data["key"]) is type(value)
    assert lines[("key",)] == 1


def test_keys_are_text(tmp_path: Path) -> None:
    data, _ = documents.read_yaml(written(tmp_path, "1: a\ntrue: b\n~: c\n0:1: d\n"))
    assert list(data) == ["1", "true", "~", "0:1"]


def test_lines_name_every_key_and_item(tmp_path: Path) -> None:
    _, lines = documents.read_yaml(written(tmp_path, "# first\na:\n  b: 1\n  c:\n    - 2\n    - {d: 3}\n"))
    assert lines[("a",)] == 2
    assert lines[("a", "b")] == 3
    assert lines[("a", "c", 0)] == 5
    assert lines[("a", "c", 1, "d")] == 6


def test_byte_order_mark_and_line_ends_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert documents.load_yaml(path, t.Cpu).core == "cortex-a76"


def test_transform_sees_plain_data_and_its_complaints_get_lines(tmp_path: Path) -> None:
    path = written(tmp_path, "arch: a\nkernel: b\n")

    def rename(data: dict[str, Any]) -> dict[str, Any]:
        return {"arch": data["arch"], "core": data["kernel"]}

    def complain(data: dict[str, Any]) -> dict[str, Any]:
        raise documents.PathError(("kernel",), f"{data['kernel']} is not a core")

    def refuse(data: dict[str, Any]) -> dict[str, Any]:
        raise ValueError(f"{len(data)} keys are too many")

    assert documents.load_yaml(path, t.Cpu, transform=rename) == t.Cpu(arch="a", core="b")
    with pytest.raises(TargetError, match="kernel: b is not a core") as caught:
        documents.load_yaml(path, t.Cpu, error=TargetError, transform=complain)
    assert caught.value.where == f"{path}:2"
    with pytest.raises(TargetError, match="2 keys are too many"):
        documents.load_yaml(path, t.Cpu, error=TargetError, transform=refuse)


# --- round trips -----------------------------------------------------------------------------

SCHEME = t.Scheme(
    name="static_wi8_ai8", default=t.FLOAT32, overrides={3: t.FLOAT32, 12: t.Signature(activations="int8")}
)
CHECKS = (
    t.Check(rule="r", subject="s", ok=True, needed=2.5, available="x"),
    t.Check(rule="r", subject="s", ok=False, needed="a", available=1.0, hint="h"),
)
PLAN = t.Plan(
    target="pi",
    runtime="litert",
    format="tflite",
    scheme=SCHEME,
    ok=True,
    model_sha256="00",
    operators=(t.Placement(index=0, type="ADD", signature="int8", placement="cpu", rule="r", why="w"),),
    memory=t.PlannedMemory(flash_bytes=1, ram_bytes=2, arena_bytes=3),
    predicted=t.Predicted(),
    checks=CHECKS,
    rejected=(t.Rejected(scheme="float32", why="slow"),),
    unavailable={"latency_ms": "no roofline"},
)
PORT = t.Port(
    name="in", shape=(-1, 4), dtype="int8", scale=0.1, zero_point=-3, preprocessing={"mean": [1.0, 2], "x": None}
)
QUANTIZED = t.QuantizedModel(
    plan=PLAN,
    artifact=t.Artifact(path="m.tflite", format="tflite", sha256="0", size_bytes=1, float_size_bytes=4),
    float_path="f",
    float_sha256="1",
    inputs=(PORT,),
    outputs=(t.Port(name="out", shape=(), dtype="float32"),),
    accuracy=t.Accuracy(
        metric="top1", samples=4, float_score=1.0, quantized_score=0.75, drop=0.25, tolerance=0.5, ok=True
    ),
    fidelity=(t.Fidelity(name="out", cosine=None, sqnr_db=30.5, max_abs_error=0.1),),
    seconds=1.5,
)
MANIFEST = t.Manifest(
    name="b",
    target="pi",
    runtime="litert",
    runtime_versions=">=2.0",
    format="tflite",
    scheme="s",
    model="m",
    entry_point="run.py",
    golden="g",
    golden_vectors=16,
    files=(t.FileEntry(path="a/b", sha256="0", size_bytes=3),),
    tools={"litert": "2.3.0"},
)
CONDITIONS = t.ConditionsPair(before=t.Conditions(frequency_hz=(1, 2)), after=t.Conditions(temperature_c=40.5))
MEASUREMENT = t.Measurement(
    device={"arch": "aarch64", "cores": 4, "nested": [1, {"a": None}]},
    runtime={"name": "litert"},
    settings=t.RunSettings(cpus=(0, 1)),
    latency_ms=t.Latency(p50=1, p90=2, p99=3, mean=1.5, std=0.1, min=1, max=4, runs=50, first=9, load=3),
    latency_samples_ns=(1, 2, 3),
    batch=1,
    memory_bytes=t.MeasuredMemory(peak_rss=5),
    energy=None,
    parity=t.Parity(exact=True, max_steps=0, vectors=16, ok=True),
    conditions=CONDITIONS,
    manifest_sha256="0",
    unavailable={"energy": "no meter"},
)
REPORT = t.Report(
    model="m",
    quantized=QUANTIZED,
    bundle=MANIFEST,
    measurement=MEASUREMENT,
    validation=None,
    verdict=t.Verdict(ok=False, checks=CHECKS),
)


@pytest.mark.parametrize(
    "value", [PLAN, QUANTIZED, MANIFEST, MEASUREMENT, REPORT], ids=lambda value: type(value).__name__
)
def test_stage_files_come_back_as_they_were(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "stage.json"
    store.write(path, value)
    assert store.read(path, type(value)) == value


def test_overrides_have_integer_keys_again(tmp_path: Path) -> None:
    store.write(tmp_path / "s.json", SCHEME)
    assert set(store.read(tmp_path / "s.json", t.Scheme).overrides) == {3, 12}


def test_key_that_is_no_number_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    store.write(path, {"name": "x", "default": {"activations": "int8"}, "overrides": {"one": {"activations": "int8"}}})
    with pytest.raises(EdgeqError, match=r"overrides\.one: should be a whole number, got 'one'"):
        store.read(path, t.Scheme)


SIGNATURES = st.builds(
    t.Signature,
    activations=st.text(max_size=5),
    weights=st.none() | st.text(max_size=5),
    output=st.none()
    | st.builds(
        t.OutputSpec,
        dtype=st.text(max_size=5),
        scale=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        zero_point=st.none() | st.integers(-(2**40), 2**40),
    ),
)


@settings(max_examples=200, deadline=2000)
@given(
    scheme=st.builds(t.Scheme, name=st.text(), default=SIGNATURES, overrides=st.dictionaries(st.integers(), SIGNATURES))
)
def test_any_scheme_survives_json(scheme: t.Scheme) -> None:
    assert documents.decode(t.Scheme, dataclasses.asdict(scheme), where="memory") == scheme


# --- writing ---------------------------------------------------------------------------------


LEAVES = st.text(max_size=20) | st.integers(-(2**62), 2**62) | st.booleans() | st.none()
LEAVES |= st.floats(allow_nan=False, allow_infinity=False)
TREES = st.dictionaries(
    st.text(min_size=1, max_size=12).filter(lambda key: key != "<<"),
    LEAVES | st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda key: key != "<<"), LEAVES, max_size=3),
    max_size=4,
)


@settings(max_examples=400, deadline=2000)
@given(tree=TREES)
def test_what_is_written_is_read_again(tree: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "written.yaml"
    documents.write_yaml(path, tree, comment="two\nlines")
    text = path.read_text()
    assert text.startswith("# two\n# lines\n")
    if tree:
        assert documents.read_yaml(path)[0] == tree


def test_written_for_the_owner_only_and_through_links(tmp_path: Path) -> None:
    real = tmp_path / "real" / "x.yaml"
    real.parent.mkdir()
    real.write_text("old: 1\n")
    link = tmp_path / "link.yaml"
    link.symlink_to(real)
    documents.write_yaml(link, {"new": 1})
    assert link.is_symlink()
    assert documents.read_yaml(real)[0] == {"new": 1}
    assert real.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in real.parent.iterdir()] == ["x.yaml"]


def test_what_cannot_be_written_leaves_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    documents.write_yaml(path, {"a": 1})
    with pytest.raises(TypeError):
        documents.write_yaml(path, {"a": object()})
    assert documents.read_yaml(path)[0] == {"a": 1}
    with pytest.raises(OutputError, match="cannot write"):
        documents.write_yaml(path / "below" / "y.yaml", {"a": 1})
    assert os.listdir(tmp_path) == ["x.yaml"]  # noqa: PTH208


def test_import_is_light() -> None:
    script = (
        "import sys, edgeq.documents, edgeq.targets, edgeq.devices;"
        "print([m for m in ('pydantic', 'ruamel', 'ruamel.yaml', 'numpy') if m in sys.modules])"
    )
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "[]"

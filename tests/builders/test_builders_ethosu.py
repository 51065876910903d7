"""The Ethos-U bundle, and how Vela's answer is read.

Vela itself is not here: a stand-in writes what Vela writes. The formats were read in Vela's source (stats_writer.py:
`CPU operators = N (P%)`, lines `   CPU: TYPE = NAME (outputs SHAPE)`, the summary's columns with memory in KiB and time
in seconds; vela.py: the files' names, an error on stdout with code 1) and in a recorded output of Vela 5.1.
The real program is asked in tests/tools/test_tools_real.py.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq import models, store, types
from edgeq.builders import ethosu
from edgeq.errors import BuildError, CompilerRefused, EdgeqError, ToolError
from edgeq.runtimes import litert
from edgeq.testing import models as made
from edgeq.testing.plans import plan_of, quantized_of
from edgeq.testing.tflite import Graph, Node, Tensor, write_tflite
from edgeq.testing.tools import install_stand_in
from edgeq.tools import vela as reading

U55 = types.Accelerator(
    name="ethos-u55", config="ethos-u55-128", system_config="Ethos_U55_High_End_Embedded", memory_mode="Shared_Sram"
)
ALL_ON_NPU = """
Warning: something harmless

Network summary for model
Accelerator configuration               Ethos_U55_128
System configuration             Ethos_U55_High_End_Embedded
Memory mode                               Shared_Sram
Accelerator clock                                 500 MHz

Total SRAM used                                  18.00 KiB

CPU operators = 0 (0.0%)
NPU operators = 6 (100.0%)
   NPU: Conv2D = conv (outputs [1, 6, 6, 8])

Average SRAM bandwidth                           0.24 GB/s
"""
ONE_ON_CPU = """
CPU operators = 1 (16.7%)
   CPU: Passthrough = scores (outputs [1, 4])
NPU operators = 5 (83.3%)
   NPU: Conv2D = conv (outputs [1, 6, 6, 8])
"""
NONE_ON_NPU = """
CPU operators = 2 (100.0%)
   CPU: Passthrough = dense (outputs [1, 4])
   CPU: Passthrough = scores (outputs [1, 4])
NPU operators = 0 (0.0%)
"""
SUMMARY = {
    "experiment": "default",
    "network": "model",
    "core_clock": "500000000.0",
    "inference_time": "0.00025",
    "sram_memory_used": "18.0",
    "dram_memory_used": "0.0",
    "off_chip_flash_memory_used": "106.5",
    "nn_macs": "86952",
    "cycles_npu": "21298",
    "cycles_total": "112755",
    "inferences_per_second": "nan",
}
STAND_IN = """
import pathlib, shutil, sys

def main():
    pathlib.Path({seen!r}).write_text("\\n".join(sys.argv[1:]))
    model = pathlib.Path(sys.argv[1]); out = pathlib.Path(sys.argv[sys.argv.index("--output-dir") + 1])
    print({text!r})
    if {failure!r}:
        sys.stderr.write({failure!r}); return 1
    out.mkdir(parents=True)
    (out / f"{{model.stem}}_summary_X.csv").write_text({summary!r})
    (out / f"{{model.stem}}_per-layer.csv").write_text("Original Operator,Target\\n")
    if {compiled!r}:
        shutil.copy({compiled!r}, out / f"{{model.stem}}_vela.tflite")
    return 0
"""


def _summary(row: dict[str, str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(row))
    writer.writeheader()
    writer.writerow(row)
    return text.getvalue()


def _compiled(folder: Path, *left: str, npu: bool = True) -> Path:
    """What Vela writes: the custom operator `ethos-u`, then operators that it left."""
    kinds = (["ethos-u"] if npu else []) + list(left)
    names = [f"t{number}" for number in range(len(kinds) + 1)]
    nodes = tuple(
        Node(type=kind, inputs=(names[i],), outputs=(names[i + 1],), custom=kind == "ethos-u")
        for i, kind in enumerate(kinds)
    )
    tensors = tuple(Tensor(name=name, shape=(1, 4), dtype="float32") for name in names)
    path = folder / "compiled.tflite"
    return write_tflite(path, Graph(tensors=tensors, nodes=nodes, inputs=(names[0],), outputs=(names[-1],)))


def _placed(*cpu: str, npu: tuple[str, ...] = ("CONV_2D",)) -> tuple[types.Placement, ...]:
    every = [(kind, "npu") for kind in npu] + [(kind, "cpu") for kind in cpu]
    return tuple(
        types.Placement(index=i, type=kind, signature="int8", placement=place, rule="r", why="w")
        for i, (kind, place) in enumerate(every)
    )


def _plan(graph: types.ModelGraph) -> types.Plan:
    scheme = types.Scheme(name="static_wi8_ai8", default=types.FLOAT32)
    return plan_of(graph, scheme, target="ethos-u55-128", runtime="ethos-u", operators=_placed())


@pytest.fixture
def quantized(tmp_path: Path) -> types.QuantizedModel:
    path = made.conv_tflite(tmp_path)
    graph, session = models.read(path), litert.open(path)
    changes = {"float_path": f"/home/somebody/{path.name}", "tools": {"litert": litert.version()}}
    return quantized_of(graph, _plan(graph), session, path, **changes)


def _samples(count: int) -> Iterator[tuple[np.ndarray, ...]]:
    values, _ = made.tiny_samples(made.CONV_SHAPE, made.CLASSES, count)
    return ((values[i : i + 1],) for i in range(count))


def _vela(folder: Path, monkeypatch: pytest.MonkeyPatch, **says: str) -> Path:
    """Install the stand-in; where it notes its command line."""
    words = {"text": ALL_ON_NPU, "failure": "", "summary": _summary(SUMMARY), "compiled": "", **says}
    source = STAND_IN.format(seen=str(folder / "argv"), **words)
    install_stand_in(folder / "tools", "vela", source, "5.2.0")
    monkeypatch.setenv("EDGEQ_TOOLS", str(folder / "tools"))
    return folder / "argv"


def _build(quantized: types.QuantizedModel, folder: Path) -> types.Bundle:
    return ethosu.build(quantized, folder, _samples(4), folder / "bundle", "conv", accelerator=U55)


def test_a_bundle_with_all_on_the_npu(
    tmp_path: Path, quantized: types.QuantizedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = _compiled(tmp_path)
    seen = _vela(tmp_path, monkeypatch, compiled=str(compiled))
    bundle = _build(quantized, tmp_path)
    folder, manifest = Path(bundle.path), bundle.manifest
    there = {path.name for path in folder.iterdir()}
    reports = {"vela.txt", "vela_summary.csv", "vela_layers.csv"}
    assert (
        there
        == {"model.tflite", "model_vela.tflite", "golden.npz", "io.json", "quantized.json", "manifest.json"} | reports
    )
    assert {entry.path for entry in manifest.files} == there - {"manifest.json"}
    assert manifest.model == "model_vela.tflite"
    assert (folder / "model_vela.tflite").read_bytes() == compiled.read_bytes()
    assert store.sha256(folder / "model.tflite") == quantized.artifact.sha256
    assert manifest.placed == {"npu": 6, "cpu": 0}
    assert manifest.estimates["sram_bytes"] == 18 * 1024
    assert manifest.tools["vela"] == "5.2.0"
    assert "/home/somebody" not in (folder / "quantized.json").read_text()
    assert store.read(folder / "manifest.json", types.Manifest) == manifest
    assert seen.read_text().splitlines()[1:8] == reading.arguments(Path("m"), U55, Path("o"))[1:8]


def test_golden_vectors_come_from_the_host_runtime(
    tmp_path: Path, quantized: types.QuantizedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    _vela(tmp_path, monkeypatch, compiled=str(_compiled(tmp_path)))
    folder = Path(_build(quantized, tmp_path).path)
    golden = np.load(folder / "golden.npz")
    session = litert.open(folder / "model.tflite")
    assert len(golden["input_0"]) == 16
    assert np.array_equal(session.run([golden["input_0"][:1]])[0], golden["output_0"][:1])


@pytest.mark.parametrize(
    ("text", "left", "npu", "said"),
    [
        (ONE_ON_CPU, ("SOFTMAX",), True, "leaves operators on the CPU that the plan places on the NPU: SOFTMAX"),
        (
            ONE_ON_CPU,
            (),
            True,
            r"more operators on the CPU than the plan does: Passthrough = scores \(outputs \[1, 4\]\)",
        ),
        (NONE_ON_NPU, ("RELU", "RELU"), False, "places no operator on the NPU: RELU x 2"),
        (NONE_ON_NPU, (), True, "places no operator on the NPU"),
        (ALL_ON_NPU, ("SOFTMAX", "RELU"), True, "RELU, SOFTMAX"),
    ],
)
def test_what_vela_leaves_on_the_cpu_is_refused(
    tmp_path: Path,
    quantized: types.QuantizedModel,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    left: tuple[str, ...],
    npu: bool,
    said: str,
) -> None:
    _vela(tmp_path, monkeypatch, text=text, compiled=str(_compiled(tmp_path, *left, npu=npu)))
    with pytest.raises(CompilerRefused, match=said):
        _build(quantized, tmp_path)
    assert not (tmp_path / "bundle").exists()


def test_what_the_plan_left_on_the_cpu_may_stay_there(
    tmp_path: Path, quantized: types.QuantizedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    _vela(tmp_path, monkeypatch, text=ONE_ON_CPU, compiled=str(_compiled(tmp_path, "SOFTMAX")))
    planned = replace(quantized, plan=replace(quantized.plan, operators=_placed("SOFTMAX")))
    assert _build(planned, tmp_path).manifest.placed == {"npu": 5, "cpu": 1}


@pytest.mark.parametrize(
    ("says", "said"),
    [
        (
            {"failure": "Traceback (most recent call last):\n  File x\nKeyError: 'Sram_Only'\n"},
            "fails: KeyError: 'Sram_Only'",
        ),
        ({"text": "Error: Invalid tflite file: cut", "failure": " "}, "fails: Error: Invalid tflite file: cut"),
        ({}, r"Vela 5\.2\.0 fails"),
    ],
)
def test_a_failure_of_vela_is_one_line(
    tmp_path: Path,
    quantized: types.QuantizedModel,
    monkeypatch: pytest.MonkeyPatch,
    says: dict[str, str],
    said: str,
) -> None:
    _vela(tmp_path, monkeypatch, **says)
    with pytest.raises(BuildError, match=said) as caught:
        _build(quantized, tmp_path)
    assert not isinstance(caught.value, CompilerRefused)
    assert "\n" not in caught.value.message
    assert not (tmp_path / "bundle").exists()


def test_a_compiled_model_that_is_cut(
    tmp_path: Path, quantized: types.QuantizedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(_compiled(tmp_path).read_bytes()[:60])
    _vela(tmp_path, monkeypatch, compiled=str(cut))
    with pytest.raises(BuildError, match="cannot be read"):
        _build(quantized, tmp_path)


def test_without_vela(tmp_path: Path, quantized: types.QuantizedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_TOOLS", str(tmp_path / "none"))
    with pytest.raises(ToolError, match="vela is not installed") as caught:
        _build(quantized, tmp_path)
    assert caught.value.hint == "edgeq tools install vela"


@pytest.mark.parametrize(
    ("config", "system", "mode"),
    [
        ("ethos-u55-128", "Ethos_U55_High_End_Embedded", "Shared_Sram"),
        ("ethos-u65-256", "Ethos_U65_High_End", "Dedicated_Sram"),
        ("ethos-u85-256", "Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram"),
    ],
)
def test_the_command_line(config: str, system: str, mode: str) -> None:
    accelerator = types.Accelerator(name=config[:9], config=config, system_config=system, memory_mode=mode)
    assert reading.arguments(Path("/b/model.tflite"), accelerator, Path("/w/out")) == [
        "/b/model.tflite",
        *("--accelerator-config", config),
        *("--config", "Arm/vela.ini"),
        *("--system-config", system),
        *("--memory-mode", mode),
        *("--output-dir", "/w/out"),
        "--show-cpu-operations",
    ]


def test_a_profile_without_settings() -> None:
    with pytest.raises(BuildError, match="ethos-u55 has no accelerator-config and no system-config and no memory-mode"):
        reading.arguments(Path("m"), types.Accelerator(name="ethos-u55"), Path("o"))


def test_the_split_is_read() -> None:
    assert reading.read_split(ALL_ON_NPU) == reading.Split(0, 6)
    assert reading.read_split(ONE_ON_CPU) == reading.Split(1, 5, ("Passthrough = scores (outputs [1, 4])",))


@pytest.mark.parametrize("text", ["", "CPU operators = 0 (0.0%)", "CPU operators = many (1%)\nNPU operators = 1 (1%)"])
def test_a_text_without_a_split(text: str) -> None:
    with pytest.raises(BuildError, match="does not say how many operators"):
        reading.read_split(text)


@settings(max_examples=200, deadline=None)
@given(cut=st.integers(0, len(ONE_ON_CPU)), noise=st.text(max_size=40))
def test_a_cut_text_is_read_or_refused(cut: int, noise: str) -> None:
    try:
        found = reading.read_split(ONE_ON_CPU[:cut] + noise + ONE_ON_CPU[cut:])
    except EdgeqError:
        return
    assert found.cpu >= 0
    assert found.npu >= 0


def test_the_summary_is_read_in_bytes_and_milliseconds(tmp_path: Path) -> None:
    path = tmp_path / "summary.csv"
    path.write_text(_summary(SUMMARY))
    assert reading.read_summary(path) == {
        "sram_bytes": 18432.0,
        "dram_bytes": 0.0,
        "off_chip_flash_bytes": 109056.0,
        "cycles_npu": 21298.0,
        "cycles_total": 112755.0,
        "clock_hz": 500e6,
        "inference_ms": 0.25,
        "macs": 86952.0,
    }


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "many", "", "1e999"])
def test_a_number_that_is_none_is_left_out(tmp_path: Path, value: str) -> None:
    path = tmp_path / "summary.csv"
    path.write_text(_summary({**SUMMARY, "cycles_total": value}))
    assert "cycles_total" not in reading.read_summary(path)


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=300))
def test_a_hostile_summary_is_numbers_or_nothing(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "hostile.csv"
    path.write_bytes(content)
    assert all(value >= 0 for value in reading.read_summary(path).values())

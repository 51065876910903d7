"""ONNX through onnx2tf: the command line, the ports, the comparison, and the data set that follows.

onnx2tf itself is not here: a stand-in in a real environment writes a TFLite file that a test made, where onnx2tf writes
its own (`<stem>_float32.tflite` in the output folder, read in its documentation). The pair of models is one network,
written by hand in both formats. The real program is asked in tests/tools/test_tools_real.py.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeq import datasets, models, workflow
from edgeq.converters import onnx2tf
from edgeq.errors import ConvertError, ModelError, ToolError
from edgeq.runtimes import litert, onnxruntime
from edgeq.testing import models as made
from edgeq.testing.tflite import write_tflite
from edgeq.testing.tools import install_stand_in

STAND_IN = """
import pathlib, shutil, sys

def main():
    pathlib.Path({seen!r}).write_text("\\n".join(sys.argv[1:]))
    assert pathlib.Path("calibration_image_sample_data_20x128x128x3_float32.npy").is_file()
    out = pathlib.Path(sys.argv[sys.argv.index("-o") + 1]); out.mkdir()
    if {failure!r}:
        sys.exit({failure!r})
    shutil.copy({result!r}, out / (pathlib.Path(sys.argv[2]).stem + "_float32.tflite"))
    return 0
"""
TARGET = """
schema: 1
name: tflite-only
title: Reads TFLite only
kind: linux
cpu: {arch: x86_64, core: any, cores: 2}
memory: {ram: 2 GiB, model_budget: 256 MiB}
runtimes:
  - {name: litert, versions: ">=2.0", format: tflite, operators: tflite-litert-cpu}
sources:
  - {fact: cpu, where: "a test"}
  - {fact: memory, where: "a test"}
  - {fact: runtimes, where: "a test"}
"""
NHWC = (0, 2, 3, 1)


def _stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, result: Path, failure: str = "") -> Path:
    source = STAND_IN.format(seen=str(folder / "argv"), result=str(result), failure=failure)
    install_stand_in(folder / "tools", "onnx2tf", source, "2.6.9")
    monkeypatch.setenv("EDGEQ_TOOLS", str(folder / "tools"))
    return folder / "argv"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """One network as NCHW ONNX and as NHWC TFLite, the ports under other names."""
    graph = made.conv_graph()
    tensors = tuple(
        replace(tensor, name="serving_default_input:0") if tensor.name == "input" else tensor
        for tensor in graph.tensors
    )
    nodes = tuple(
        replace(node, inputs=tuple("serving_default_input:0" if name == "input" else name for name in node.inputs))
        for node in graph.nodes
    )
    renamed = replace(graph, tensors=tensors, nodes=nodes, inputs=("serving_default_input:0",))
    return made.conv_onnx(tmp_path), write_tflite(tmp_path / "made.tflite", renamed)


def test_the_import_is_the_network_with_the_originals_names(
    tmp_path: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = _stand_in(tmp_path, monkeypatch, pair[1])
    graph = onnx2tf.import_model(models.read(pair[0]), tmp_path / "out" / "conv_float.tflite")
    assert graph.input_layouts == (NHWC,)
    assert graph.output_layouts == (None,)
    assert [graph.tensors[i].name for i in (*graph.inputs, *graph.outputs)] == ["input", "scores"]
    assert any("in the order [0, 2, 3, 1]" in note for note in graph.notes)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["conv_float.import.json", "conv_float.tflite"]
    record = json.loads((tmp_path / "out" / "conv_float.import.json").read_text())
    assert record["sqnr_db"] > 114
    assert record["version"] == "2.6.9"
    assert seen.read_text().splitlines()[4:] == ["--batch_size", "1", "--non_verbose"]


def test_an_import_is_kept_until_the_model_changes(
    tmp_path: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = _stand_in(tmp_path, monkeypatch, pair[1])
    out = tmp_path / "out.tflite"
    first = onnx2tf.import_model(models.read(pair[0]), out)
    seen.unlink()
    assert onnx2tf.import_model(models.read(pair[0]), out) == first
    assert not seen.exists()
    out.write_bytes(out.read_bytes() + b"\0")
    assert onnx2tf.import_model(models.read(pair[0]), out).input_layouts == (NHWC,)
    assert seen.exists()


def test_a_result_that_is_not_like_the_original_is_refused(
    tmp_path: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = made.conv_graph()
    spoilt = tuple(
        replace(tensor, data=tensor.data * np.float32(1.001)) if tensor.name == "conv/w" else tensor
        for tensor in graph.tensors
    )
    _stand_in(tmp_path, monkeypatch, write_tflite(tmp_path / "spoilt.tflite", replace(graph, tensors=spoilt)))
    with pytest.raises(ConvertError, match=r"not like the original: \d+\.\d dB, 90 dB needed"):
        onnx2tf.to_tflite(pair[0], tmp_path / "out.tflite")
    assert not (tmp_path / "out.tflite").exists()


def test_other_ports_are_refused(tmp_path: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    _stand_in(tmp_path, monkeypatch, made.mlp_tflite(tmp_path))
    with pytest.raises(ConvertError, match="other ports"):
        onnx2tf.to_tflite(pair[0], tmp_path / "out.tflite")


def test_a_failure_is_one_line(tmp_path: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    _stand_in(tmp_path, monkeypatch, pair[1], failure="first\nERROR: OP type Mystery is not implemented")
    with pytest.raises(ConvertError, match=r"^onnx2tf 2\.6\.9 fails: ERROR: OP type Mystery is not implemented$"):
        onnx2tf.to_tflite(pair[0], tmp_path / "out.tflite")


def test_without_onnx2tf(tmp_path: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_TOOLS", str(tmp_path / "none"))
    with pytest.raises(ToolError, match="onnx2tf is not installed") as caught:
        onnx2tf.to_tflite(pair[0], tmp_path / "out.tflite")
    assert caught.value.hint == "edgeq tools install onnx2tf"


def test_a_model_that_came_quantized(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    with pytest.raises(ConvertError, match="came quantized"):
        onnx2tf.import_model(replace(models.read(pair[0]), state="quantized"), tmp_path / "out.tflite")


def test_an_open_axis_is_refused(pair: tuple[Path, Path]) -> None:
    port = onnxruntime.open(pair[0]).inputs[0]
    assert onnx2tf._closed(port, pair[0]) == (1, 3, 12, 12)
    with pytest.raises(ModelError, match=r"open axis: \[\?, 3, \?, 12\]"):
        onnx2tf._closed(replace(port, shape=(-1, 3, -1, 12)), pair[0])


@pytest.mark.parametrize(
    ("open_batch", "line"),
    [
        (True, ["-i", "/m/a.onnx", "-o", "/w/out", "--batch_size", "1", "--non_verbose"]),
        (False, ["-i", "/m/a.onnx", "-o", "/w/out", "--non_verbose"]),
    ],
)
def test_the_command_line(open_batch: bool, line: list[str]) -> None:
    assert onnx2tf.arguments(Path("/m/a.onnx"), Path("/w/out"), open_batch=open_batch) == line


def test_given_samples_count_too(pair: tuple[Path, Path]) -> None:
    values, _ = made.tiny_samples(made.CONV_SHAPE, made.CLASSES, 3)
    samples = [(value.transpose(2, 0, 1)[np.newaxis],) for value in values]
    original, imported = onnxruntime.open(pair[0]), litert.open(pair[1])
    match = onnx2tf.compare(original, imported, [(1, 3, 12, 12)], samples)
    assert match is not None
    assert match.inputs == ((0, NHWC),)
    assert match.sqnr_db > 100


@pytest.mark.parametrize("channels_first", [True, False])
def test_a_data_set_of_the_original_fits_the_import(
    tmp_path: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, channels_first: bool
) -> None:
    """Samples that the original takes are turned; those that the import takes are left as they are."""
    _stand_in(tmp_path, monkeypatch, pair[1])
    graph = onnx2tf.import_model(models.read(pair[0]), tmp_path / "out.tflite")
    data = datasets.load(str(made.tiny_dataset(tmp_path, channels_first=channels_first)))
    bound = datasets.bind(data, graph)
    assert bound.inputs[0].transpose == ((0, 1, 2) if channels_first else None)
    stored = np.load(tmp_path / "samples.npz")["x"]
    for index, (sample,) in enumerate(datasets.samples(bound, graph, range(3))):
        assert np.array_equal(sample[0], stored[index])


@pytest.mark.slow
def test_from_onnx_to_a_bundle_for_a_target_that_reads_tflite(
    tmp_path: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _stand_in(tmp_path, monkeypatch, pair[1])
    target = tmp_path / "tflite-only.yaml"
    target.write_text(TARGET)
    data = made.tiny_dataset(tmp_path, channels_first=True)
    found, bundle = workflow.build(pair[0], str(target), str(data), output=tmp_path / "out")
    assert not isinstance(found, workflow.Refused)
    assert found.artifact.format == "tflite"
    assert found.accuracy is not None
    assert found.accuracy.quantized_score is not None
    assert found.accuracy.quantized_score > 0.9
    assert found.inputs[0].layout == NHWC
    assert found.outputs[0].layout is None
    assert bundle is not None
    contract = json.loads((Path(bundle.path) / "io.json").read_text())
    assert contract["inputs"][0]["layout"] == list(NHWC)
    assert contract["inputs"][0]["shape"][1:] == [12, 12, 3]
    plan = workflow.plan(pair[0], str(target), output=tmp_path / "out")
    assert plan.format == "tflite"

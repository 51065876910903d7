"""Float TFLite to quantized TFLite: schemes, exceptions, notes, refusals, and what is left on disk."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edgeq import datasets, models, store
from edgeq.converters import _flatbuffer as flatbuffer
from edgeq.converters import peak_rss_bytes, tflite
from edgeq.converters.tflite.restore import type_name
from edgeq.errors import ConvertError, OutputError
from edgeq.runtimes import infer, litert
from edgeq.testing import models as tiny
from edgeq.testing.plans import plan_of
from edgeq.testing.tflite import Graph, Node, Tensor, write_tflite
from edgeq.types import (
    FLOAT32,
    Dataset,
    ModelGraph,
    Plan,
    QuantizedModel,
    RangeMethod,
    Scheme,
    Signature,
)

CHANNEL = Signature(activations="int8", weights="int8", bias="int32", granularity="per-channel")
TENSOR = Signature(activations="int8", weights="int8", bias="int32", granularity="per-tensor")
DYNAMIC = Signature(activations="float32", weights="int8", granularity="per-channel")
HALF = Signature(activations="float32", weights="float16")
DEFAULTS = {
    "static_wi8_ai8": CHANNEL,
    "static_wi8_ai8_per_tensor": TENSOR,
    "dynamic_wi8_af32": DYNAMIC,
    "weight_only_wf16": HALF,
    "float32": FLOAT32,
    "as_is": FLOAT32,
}


def plan(name: str, overrides: dict[int, Signature] | None = None, ranges: RangeMethod = "min-max") -> Plan:
    scheme = Scheme(name=name, default=DEFAULTS.get(name, CHANNEL), overrides=overrides or {}, ranges=ranges)
    return plan_of(None, scheme)


def bound(model: Path, dataset: Path) -> tuple[ModelGraph, Dataset]:
    graph = models.read(model)
    return graph, datasets.bind(datasets.load(dataset), graph)


@pytest.fixture(scope="module")
def conv(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelGraph, Dataset]:
    folder = tmp_path_factory.mktemp("conv")
    return bound(tiny.conv_tflite(folder), tiny.tiny_dataset(folder))


@pytest.fixture(scope="module")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelGraph, Dataset]:
    """Well conditioned, so that its likeness to float says something."""
    folder = tmp_path_factory.mktemp("mlp")
    return bound(tiny.mlp_tflite(folder), tiny.tiny_dataset(folder, tiny.MLP_SHAPE))


def answers(path: Path, graph: ModelGraph, dataset: Dataset) -> np.ndarray:
    session = litert.open(path)
    chosen = dataset.evaluation[:100]
    return np.concatenate([infer(session, sample)[0] for sample in datasets.samples(dataset, graph, chosen)])


def sqnr_db(wanted: np.ndarray, given: np.ndarray) -> float:
    noise = np.square(wanted.astype(np.float64) - given).sum()
    return float(10 * np.log10(np.square(wanted.astype(np.float64)).sum() / max(noise, 1e-30)))


def types_in_float(path: Path) -> Counter[str]:
    model = flatbuffer.load(path)
    graph = model.subgraphs[0]
    float_ones = [one for one in graph.operators if type_name(graph.tensors[one.outputs[0]]) == "FLOAT32"]
    return Counter(flatbuffer.type_of(model, one) for one in float_ones)


@pytest.mark.parametrize(
    ("name", "least_db", "port", "share"),
    [
        ("static_wi8_ai8", 40, "int8", 0.85),
        ("static_wi8_ai8_per_tensor", 40, "int8", 0.6),
        ("dynamic_wi8_af32", 50, "float32", 0.7),
        ("weight_only_wf16", 80, "float32", 0.8),
        ("float32", 200, "float32", 1),
        ("as_is", 200, "float32", 1),
    ],
)
def test_each_scheme_gives_a_smaller_model_that_answers_like_float(
    mlp: tuple[ModelGraph, Dataset], tmp_path: Path, name: str, least_db: float, port: str, share: float
) -> None:
    graph, dataset = mlp
    made = tflite.convert(graph, plan(name), dataset, tmp_path / "deep" / "model.tflite")
    path = tmp_path / "deep" / made.artifact.path
    assert sqnr_db(answers(Path(graph.path), graph, dataset), answers(path, graph, dataset)) >= least_db
    assert [p.dtype for p in (*made.inputs, *made.outputs)] == [port, port]
    assert made.artifact.size_bytes <= share * made.artifact.float_size_bytes


def test_the_document_describes_the_file(conv: tuple[ModelGraph, Dataset], tmp_path: Path) -> None:
    graph, dataset = conv
    out = tmp_path / "model.tflite"
    made = tflite.convert(graph, plan("static_wi8_ai8"), dataset, out)
    assert made.artifact.path == "model.tflite"
    assert made.artifact.sha256 == store.sha256(out)
    assert made.artifact.size_bytes == out.stat().st_size
    assert made.artifact.float_size_bytes == Path(graph.path).stat().st_size
    assert (made.float_path, made.float_sha256) == (graph.path, graph.sha256)
    assert {"edgeq", "ai-edge-litert", "litert-quantizer", "numpy"} == set(made.tools)
    assert made.accuracy is None
    assert made.fidelity == ()
    assert made.seconds is not None
    assert made.seconds > 0
    store.write(tmp_path / "quantized.json", made)
    assert store.read(tmp_path / "quantized.json", QuantizedModel) == made


def test_the_same_call_writes_the_same_bytes(conv: tuple[ModelGraph, Dataset], tmp_path: Path) -> None:
    graph, dataset = conv
    first = tflite.convert(graph, plan("static_wi8_ai8"), dataset, tmp_path / "a.tflite")
    second = tflite.convert(graph, plan("static_wi8_ai8"), dataset, tmp_path / "b.tflite")
    assert first.artifact.sha256 == second.artifact.sha256


def test_as_is_and_float_are_copies(conv: tuple[ModelGraph, Dataset], tmp_path: Path) -> None:
    graph, _ = conv
    for name in ("as_is", "float32"):
        made = tflite.convert(graph, plan(name), None, tmp_path / f"{name}.tflite")
        assert made.artifact.sha256 == graph.sha256


def test_names_and_batch_of_the_ports_are_kept(conv: tuple[ModelGraph, Dataset], tmp_path: Path) -> None:
    graph, dataset = conv
    made = tflite.convert(graph, plan("static_wi8_ai8"), dataset, tmp_path / "m.tflite")
    assert [(port.name, port.shape) for port in (*made.inputs, *made.outputs)] == [
        ("input", (-1, 12, 12, 3)),
        ("scores", (-1, 4)),
    ]
    assert litert.open(tmp_path / "m.tflite").run([np.zeros((3, 12, 12, 3), np.int8)])[0].shape == (3, 4)


def test_preprocessing_travels_with_the_input(tmp_path: Path) -> None:
    description = tiny.tiny_dataset(tmp_path)
    description.write_text(description.read_text().replace("array: x", "array: x, scale: 2.0, mean: 0.5"))
    graph, dataset = bound(tiny.conv_tflite(tmp_path), description)
    made = tflite.convert(graph, plan("static_wi8_ai8"), dataset, tmp_path / "m.tflite")
    assert made.inputs[0].preprocessing == {"scale": 2.0, "mean": 0.5}


def test_exceptions_stay_in_float_and_are_told(conv: tuple[ModelGraph, Dataset], tmp_path: Path) -> None:
    graph, dataset = conv
    kinds = {operator.type: operator.index for operator in graph.operators}
    overrides = {kinds["DEPTHWISE_CONV_2D"]: FLOAT32, kinds["SOFTMAX"]: FLOAT32}
    made = tflite.convert(graph, plan("static_wi8_ai8", overrides), dataset, tmp_path / "m.tflite")
    in_float = types_in_float(tmp_path / "m.tflite")
    assert {name for name in in_float if name != "DEQUANTIZE"} == {"DEPTHWISE_CONV_2D", "SOFTMAX"}
    assert made.notes == ("computed in float: DEPTHWISE_CONV_2D (1), SOFTMAX (1)",)
    assert {port.dtype for port in (*made.inputs, *made.outputs)} == {"int8"}


def test_an_exception_can_ask_for_one_scale_per_tensor(conv: tuple[ModelGraph, Dataset], tmp_path: Path) -> None:
    graph, dataset = conv
    dense = next(operator.index for operator in graph.operators if operator.type == "FULLY_CONNECTED")
    tflite.convert(graph, plan("static_wi8_ai8", {dense: TENSOR}), dataset, tmp_path / "m.tflite")
    made = models.read(tmp_path / "m.tflite")
    tensors = {tensor.index: tensor for tensor in made.tensors}
    weights = {one.type: tensors[one.inputs[1]].quantization for one in made.operators if len(one.inputs) == 3}
    assert weights["FULLY_CONNECTED"] is not None
    assert weights["CONV_2D"] is not None
    assert len(weights["FULLY_CONNECTED"].scales) == 1
    assert len(weights["CONV_2D"].scales) == 8


def test_everything_in_float_but_the_ports(conv: tuple[ModelGraph, Dataset], tmp_path: Path) -> None:
    graph, dataset = conv
    every = dict.fromkeys(range(len(graph.operators)), FLOAT32)
    made = tflite.convert(graph, plan("static_wi8_ai8", every), dataset, tmp_path / "m.tflite")
    assert sum(types_in_float(tmp_path / "m.tflite").values()) == len(graph.operators) + 1
    assert made.inputs[0].dtype == made.outputs[0].dtype == "int8"


@pytest.mark.parametrize("method", ["min-max", "percentile", "mean-squared-error"])
def test_each_range_method_calibrates(mlp: tuple[ModelGraph, Dataset], tmp_path: Path, method: RangeMethod) -> None:
    graph, dataset = mlp
    tflite.convert(graph, plan("static_wi8_ai8", ranges=method), dataset, tmp_path / "m.tflite")
    wanted, given = answers(Path(graph.path), graph, dataset), answers(tmp_path / "m.tflite", graph, dataset)
    assert sqnr_db(wanted, given) > 40


def test_min_max_ranges_are_the_samples_own(conv: tuple[ModelGraph, Dataset], tmp_path: Path) -> None:
    graph, dataset = conv
    made = tflite.convert(graph, plan("static_wi8_ai8"), dataset, tmp_path / "m.tflite")
    seen = np.concatenate([sample[0] for sample in datasets.samples(dataset, graph, dataset.calibration)])
    assert made.inputs[0].scale == pytest.approx((seen.max() - min(seen.min(), 0)) / 255, rel=1e-5)


def test_progress_counts_the_calibration_samples(conv: tuple[ModelGraph, Dataset], tmp_path: Path) -> None:
    graph, dataset = conv
    steps: list[tuple[str, int, int]] = []
    tflite.convert(
        graph, plan("static_wi8_ai8"), dataset, tmp_path / "m.tflite", progress=lambda *step: steps.append(step)
    )
    count = len(dataset.calibration)
    assert [one for one in steps if one[0] == "calibrate"] == [("calibrate", done, count) for done in range(count + 1)]


def test_constants_lie_inside_the_flatbuffer_and_aligned(tmp_path: Path) -> None:
    """Interpreters before 2023 and microcontrollers do not read constants behind the flatbuffer."""
    wide = np.random.default_rng(0).normal(0, 1, (600, 600)).astype(np.float32)
    graph, dataset = bound(*dense_model(tmp_path, wide))
    tflite.convert(graph, plan("static_wi8_ai8"), dataset, tmp_path / "m.tflite")
    from ai_edge_litert import schema_py_generated as schema

    content = (tmp_path / "m.tflite").read_bytes()
    packed = schema.Model.GetRootAs(content, 0)
    sizes = [packed.Buffers(i).DataLength() for i in range(packed.BuffersLength())]
    assert max(sizes) == wide.size
    assert all(packed.Buffers(i).Offset() == 0 for i in range(packed.BuffersLength()))
    big = packed.Buffers(sizes.index(max(sizes))).DataAsNumpy().tobytes()
    assert content.find(big) % 16 == 0


def dense_model(folder: Path, weights: np.ndarray, bias: np.ndarray | None = None) -> tuple[Path, Path]:
    """One dense layer and samples for it."""
    outputs, inputs = weights.shape
    bias = np.zeros(outputs, np.float32) if bias is None else bias
    tensors = (
        Tensor(name="x", shape=(1, inputs)),
        Tensor(name="w", shape=weights.shape, data=weights),
        Tensor(name="b", shape=(outputs,), data=bias),
        Tensor(name="y", shape=(1, outputs)),
    )
    node = Node(type="FULLY_CONNECTED", inputs=("x", "w", "b"), outputs=("y",), options_table="FullyConnectedOptions")
    path = write_tflite(folder / "dense.tflite", Graph(tensors=tensors, nodes=(node,), inputs=("x",), outputs=("y",)))
    return path, samples_for(folder, (inputs,))


def samples_for(folder: Path, shape: tuple[int, ...], count: int = 16) -> Path:
    values = np.random.default_rng(5).normal(0, 1, (count, *shape)).astype(np.float32)
    np.savez(folder / "samples.npz", x=values)
    path = folder / "dataset.yaml"
    path.write_text(
        'inputs:\n  - {npz: samples.npz, array: x}\nmetric: cosine\ncalibration: "all"\nevaluation: "all"\n'
    )
    return path


ONE_INPUT = {
    "DEPTH_TO_SPACE": ((1, 4, 4, 8), (1, 8, 8, 2), "DepthToSpaceOptions", {"blockSize": 2}),
    "SQUEEZE": ((1, 4, 1, 8), (4, 8), "SqueezeOptions", {"squeezeDims": [0, 2]}),
    "RELU6": ((1, 4, 4, 8), (1, 4, 4, 8), "", {}),
    "LEAKY_RELU": ((1, 4, 4, 8), (1, 4, 4, 8), "LeakyReluOptions", {"alpha": 0.2}),
    "ELU": ((1, 4, 4, 8), (1, 4, 4, 8), "", {}),
}
WITH_CONSTANT = {
    "EXPAND_DIMS": ((4, 8), (4, 1, 8), "ExpandDimsOptions", np.array([1], np.int32), {}),
    "REDUCE_MAX": ((1, 4, 4, 8), (1, 8), "ReducerOptions", np.array([1, 2], np.int32), {}),
    "MINIMUM": ((1, 4, 4, 8), (1, 4, 4, 8), "MaximumMinimumOptions", np.full((1,), 0.7, np.float32), {}),
}


def operator_graph(name: str) -> Graph:
    if name in ONE_INPUT:
        before, after, table, options = ONE_INPUT[name]
        constants: tuple[Tensor, ...] = ()
    else:
        before, after, table, constant, options = WITH_CONSTANT[name]
        constants = (Tensor(name="c", shape=constant.shape, dtype=str(constant.dtype), data=constant),)
    inputs = ("x", *(tensor.name for tensor in constants))
    node = Node(type=name, inputs=inputs, outputs=("y",), options_table=table, options=options)
    tensors = (Tensor(name="x", shape=before), *constants, Tensor(name="y", shape=after))
    return Graph(tensors=tensors, nodes=(node,), inputs=("x",), outputs=("y",))


@pytest.mark.parametrize("name", [*ONE_INPUT, *WITH_CONSTANT])
def test_operators_unknown_to_the_quantizer_run_in_integers(tmp_path: Path, name: str) -> None:
    path = write_tflite(tmp_path / "one.tflite", operator_graph(name))
    shape = (ONE_INPUT.get(name) or WITH_CONSTANT[name])[0]
    graph, dataset = bound(path, samples_for(tmp_path, shape[1:] if shape[0] == 1 else shape))
    made = tflite.convert(graph, plan("static_wi8_ai8"), dataset, tmp_path / "q.tflite")
    after = flatbuffer.load(tmp_path / "q.tflite")
    kinds = [flatbuffer.type_of(after, operator) for operator in after.subgraphs[0].operators]
    assert made.notes == ()
    assert name in kinds
    assert "DEQUANTIZE" not in kinds
    assert sqnr_db(answers(path, graph, dataset), answers(tmp_path / "q.tflite", graph, dataset)) > 35


def test_a_channel_of_zero_weights_keeps_its_bias(tmp_path: Path) -> None:
    """litert-quantizer gives such a channel a scale so small that its bias overflows to nothing."""
    weights = np.random.default_rng(1).normal(0, 1, (4, 8)).astype(np.float32)
    weights[2] = 0
    graph, dataset = bound(*dense_model(tmp_path, weights, np.array([0, 0.5, -2.5, 1], np.float32)))
    tflite.convert(graph, plan("static_wi8_ai8"), dataset, tmp_path / "m.tflite")
    given = answers(tmp_path / "m.tflite", graph, dataset)
    np.testing.assert_allclose(given[:, 2], -2.5, atol=0.05)
    assert sqnr_db(answers(Path(graph.path), graph, dataset), given) > 30


def test_duplicate_empty_and_odd_names_are_no_obstacle(conv: tuple[ModelGraph, Dataset], tmp_path: Path) -> None:
    _, dataset = conv
    model = flatbuffer.load(Path(conv[0].path))
    for number, tensor in enumerate(model.subgraphs[0].tensors[1:-1]):
        tensor.name = [b"same", b"", b"a(b[c;d" * 2000, b"\xff\xfe"][number % 4]
    path = tmp_path / "named.tflite"
    path.write_bytes(flatbuffer.dump(model))
    graph = with_path(conv[0], path)
    made = tflite.convert(graph, plan("static_wi8_ai8", {1: FLOAT32}), dataset, tmp_path / "m.tflite")
    assert made.notes == ("computed in float: DEPTHWISE_CONV_2D (1)",)
    after = flatbuffer.load(tmp_path / "m.tflite").subgraphs[0].tensors
    assert b"\xff\xfe" in {tensor.name for tensor in after}


def with_path(graph: ModelGraph, path: Path) -> ModelGraph:
    from dataclasses import replace

    return replace(graph, path=str(path))


def test_a_file_without_signature_and_builtin_codes_is_filled_in(
    conv: tuple[ModelGraph, Dataset], tmp_path: Path
) -> None:
    """Files made before TensorFlow 2.4 have only `deprecated_builtin_code`."""
    _, dataset = conv
    model = flatbuffer.load(Path(conv[0].path))
    model.signatureDefs = None
    for code in model.operatorCodes:
        code.builtinCode = 0
    path = tmp_path / "old.tflite"
    path.write_bytes(flatbuffer.dump(model))
    tflite.convert(with_path(conv[0], path), plan("static_wi8_ai8"), dataset, tmp_path / "m.tflite")
    assert types_in_float(tmp_path / "m.tflite") == Counter()


def test_a_static_scheme_needs_samples(conv: tuple[ModelGraph, Dataset], tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="calibration samples") as caught:
        tflite.convert(conv[0], plan("static_wi8_ai8"), None, tmp_path / "m.tflite")
    assert caught.value.hint == "--data dataset.yaml"
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_scheme_is_refused_with_the_known_ones(conv: tuple[ModelGraph, Dataset], tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="no TFLite scheme 'static_wi2'") as caught:
        tflite.convert(conv[0], plan("static_wi2"), conv[1], tmp_path / "m.tflite")
    assert "static_wi8_ai8" in str(caught.value.hint)


def test_an_exception_for_an_operator_that_is_not_there(conv: tuple[ModelGraph, Dataset], tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="operator 99"):
        tflite.convert(conv[0], plan("static_wi8_ai8", {99: FLOAT32}), conv[1], tmp_path / "m.tflite")


def test_a_signature_without_a_setting_is_refused(conv: tuple[ModelGraph, Dataset], tmp_path: Path) -> None:
    odd = Signature(activations="int16", weights="int4")
    with pytest.raises(ConvertError, match="int16/int4"):
        tflite.convert(conv[0], plan("static_wi8_ai8", {0: odd}), conv[1], tmp_path / "m.tflite")


def test_a_quantized_model_is_never_quantized_again(conv: tuple[ModelGraph, Dataset], tmp_path: Path) -> None:
    graph, dataset = conv
    tflite.convert(graph, plan("static_wi8_ai8"), dataset, tmp_path / "q.tflite")
    again = models.read(tmp_path / "q.tflite")
    assert again.state == "quantized"
    with pytest.raises(ConvertError, match="never quantized again"):
        tflite.convert(again, plan("static_wi8_ai8"), dataset, tmp_path / "m.tflite")
    made = tflite.convert(again, plan("as_is"), dataset, tmp_path / "m.tflite")
    assert made.artifact.sha256 == again.sha256


def test_samples_that_overflow_are_told_and_leave_no_file(tmp_path: Path) -> None:
    weights = np.full((2, 4), 3e38, np.float32)
    graph, dataset = bound(*dense_model(tmp_path, weights))
    before = set(tmp_path.iterdir())
    with pytest.raises(ConvertError, match="becomes infinite for calibration sample 0") as caught:
        tflite.convert(graph, plan("static_wi8_ai8"), dataset, tmp_path / "m.tflite")
    assert "'y (tensor 3)'" in caught.value.message
    assert set(tmp_path.iterdir()) == before


def test_a_folder_that_cannot_be_written_is_an_output_error(conv: tuple[ModelGraph, Dataset], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        tflite.convert(conv[0], plan("as_is"), None, tmp_path / "file" / "m.tflite")


def test_nothing_is_printed(
    conv: tuple[ModelGraph, Dataset], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in DEFAULTS:
        tflite.convert(conv[0], plan(name), conv[1], tmp_path / f"{name}.tflite")
    assert capfd.readouterr() == ("", "")


def test_memory_does_not_grow_with_the_samples(tmp_path: Path) -> None:
    """100 and 500 samples of 1.5 MB activations each: far less than one extra megabyte per sample."""
    from dataclasses import replace

    graph, dataset = bound(tiny.conv_tflite(tmp_path), tiny.tiny_dataset(tmp_path))
    few = replace(dataset, calibration=tuple(i % dataset.count for i in range(50)))
    many = replace(dataset, calibration=tuple(i % dataset.count for i in range(500)))
    tflite.convert(graph, plan("static_wi8_ai8", ranges="percentile"), few, tmp_path / "few.tflite")
    before = peak_rss_bytes()
    tflite.convert(graph, plan("static_wi8_ai8", ranges="percentile"), many, tmp_path / "many.tflite")
    assert peak_rss_bytes() - before < 8 << 20


def test_the_peak_is_this_processs_own_and_not_what_its_parent_held() -> None:
    """getrusage counts a parent's memory in a child that it started."""
    held = np.ones(1 << 28, np.uint8)
    script = "from edgeq.converters import peak_rss_bytes\nprint(peak_rss_bytes())"
    empty, own = (
        int(subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout)
        for text in (script, f"held = b'1' * {1 << 28}\n{script}")
    )
    assert own > held.nbytes
    assert empty < own - (200 << 20)

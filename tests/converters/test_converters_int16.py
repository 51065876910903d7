"""static_wi8_ai16 in TFLite: what each operator makes of 16-bit activations in the real runtime, and whole models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

from edgeq import datasets, models
from edgeq.converters import _flatbuffer as flatbuffer
from edgeq.converters import tflite
from edgeq.converters.tflite.restore import type_name
from edgeq.planning.written import WRITTEN, operators_of
from edgeq.runtimes import infer, litert
from edgeq.testing import models as tiny
from edgeq.testing.plans import plan_of
from edgeq.testing.tflite import Graph, Node, Tensor, write_tflite
from edgeq.types import (
    FLOAT32,
    Dataset,
    ModelGraph,
    QuantizedModel,
    RangeMethod,
    Scheme,
    Signature,
)

WIDE = Signature(activations="int16", weights="int8", bias="int64", granularity="per-channel", symmetric="both")
NARROW = Signature(activations="int8", weights="int8", bias="int32", granularity="per-channel", symmetric="weights")
DEFAULTS = {"static_wi8_ai16": WIDE, "static_wi8_ai8": NARROW}
RANDOM = np.random.default_rng(1)
IMAGE = (1, 4, 4, 8)
# With 8-bit weights nothing is nearer to float than this.
WEIGHTED = ("BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


def convert(
    graph: ModelGraph,
    dataset: Dataset | None,
    out: Path,
    name: str = "static_wi8_ai16",
    overrides: dict[int, Signature] | None = None,
    ranges: RangeMethod = "min-max",
) -> QuantizedModel:
    scheme = Scheme(name=name, default=DEFAULTS[name], overrides=overrides or {}, ranges=ranges)
    plan = plan_of(graph, scheme)
    return tflite.convert(graph, plan, dataset, out)


def bind(model: Path, description: Path) -> tuple[ModelGraph, Dataset]:
    graph = models.read(model)
    return graph, datasets.bind(datasets.load(description), graph)


def answers(path: Path, graph: ModelGraph, dataset: Dataset, count: int = 32) -> np.ndarray:
    """All outputs of some evaluation samples in one row."""
    session = litert.open(path, threads=2)
    samples = datasets.samples(dataset, graph, dataset.evaluation[:count])
    return np.concatenate([np.ravel(one) for sample in samples for one in infer(session, sample)])


def sqnr_db(wanted: np.ndarray, given: np.ndarray) -> float:
    noise = np.square(wanted.astype(np.float64) - given).sum()
    return float(10 * np.log10(np.square(wanted.astype(np.float64)).sum() / max(noise, 1e-30)))


def types(path: Path) -> list[tuple[str, str]]:
    """Type and result type of each operator."""
    model = flatbuffer.load(path)
    graph = model.subgraphs[0]
    return [(flatbuffer.type_of(model, one), type_name(graph.tensors[one.outputs[0]])) for one in graph.operators]


# --- one operator at a time ------------------------------------------------------------------


def real(*shape: int) -> np.ndarray:
    return RANDOM.normal(0, 0.4, shape).astype(np.float32)


def ints(*values: Any) -> np.ndarray:
    return np.array(values, np.int32)


class One(NamedTuple):
    """A model of one operator: shapes of inputs (`x0`...), constants (`c0`...), shapes of outputs, options."""

    inputs: list[tuple[int, ...]]
    constants: list[np.ndarray]
    outputs: list[tuple[int, ...]]
    table: str = ""
    options: Mapping[str, Any] = MappingProxyType({})
    order: str = ""  # places of operands, where not inputs then constants
    positive: bool = False


POOL = {"padding": 1, "strideW": 2, "strideH": 2, "filterWidth": 2, "filterHeight": 2}
STRIDES = {"strideW": 1, "strideH": 1}
RIM = np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)
WIDER = (1, 6, 6, 8)
ONES: dict[str, One] = {
    "ADD": One([IMAGE, IMAGE], [], [IMAGE], "AddOptions"),
    "ADD constant": One([IMAGE], [real(8)], [IMAGE], "AddOptions"),
    "AVERAGE_POOL_2D": One([IMAGE], [], [(1, 2, 2, 8)], "Pool2DOptions", POOL),
    "BATCH_MATMUL": One([(1, 4, 8), (1, 8, 3)], [], [(1, 4, 3)], "BatchMatMulOptions"),
    "BATCH_MATMUL constant": One([(1, 4, 8)], [real(1, 8, 3)], [(1, 4, 3)], "BatchMatMulOptions"),
    "CONCATENATION": One([IMAGE, IMAGE], [], [(1, 4, 4, 16)], "ConcatenationOptions", {"axis": 3}),
    "CONV_2D": One([IMAGE], [real(6, 3, 3, 8), real(6)], [(1, 4, 4, 6)], "Conv2DOptions", STRIDES),
    "DEPTHWISE_CONV_2D": One(
        [IMAGE], [real(1, 3, 3, 8), real(8)], [IMAGE], "DepthwiseConv2DOptions", {**STRIDES, "depthMultiplier": 1}
    ),
    "DEPTH_TO_SPACE": One([IMAGE], [], [(1, 8, 8, 2)], "DepthToSpaceOptions", {"blockSize": 2}),
    "DIV": One([IMAGE], [np.abs(real(8)) + np.float32(0.5)], [IMAGE], "DivOptions"),
    "DYNAMIC_UPDATE_SLICE": One([IMAGE, (1, 2, 2, 8)], [ints(0, 1, 1, 0)], [IMAGE], "DynamicUpdateSliceOptions"),
    "ELU": One([IMAGE], [], [IMAGE]),
    "EXPAND_DIMS": One([(4, 8)], [ints(1)], [(4, 1, 8)], "ExpandDimsOptions"),
    "FULLY_CONNECTED": One([(1, 8)], [real(5, 8), real(5)], [(1, 5)], "FullyConnectedOptions"),
    "GATHER": One([(4, 8)], [ints(2, 0)], [(2, 8)], "GatherOptions"),
    "GATHER_ND": One([(4, 8)], [ints([2], [0])], [(2, 8)], "GatherNdOptions"),
    "GELU": One([IMAGE], [], [IMAGE], "GeluOptions"),
    "HARD_SWISH": One([IMAGE], [], [IMAGE], "HardSwishOptions"),
    "LEAKY_RELU": One([IMAGE], [], [IMAGE], "LeakyReluOptions", {"alpha": 0.2}),
    "LOGISTIC": One([IMAGE], [], [IMAGE]),
    "MAXIMUM": One([IMAGE, IMAGE], [], [IMAGE], "MaximumMinimumOptions"),
    "MAX_POOL_2D": One([IMAGE], [], [(1, 2, 2, 8)], "Pool2DOptions", POOL),
    "MEAN": One([IMAGE], [ints(1, 2)], [(1, 8)], "ReducerOptions"),
    "MINIMUM": One([IMAGE, IMAGE], [], [IMAGE], "MaximumMinimumOptions"),
    "MIRROR_PAD": One([IMAGE], [RIM], [WIDER], "MirrorPadOptions"),
    "MUL": One([IMAGE, (1, 1, 1, 8)], [], [IMAGE], "MulOptions"),
    "PACK": One([(4, 8), (4, 8)], [], [(2, 4, 8)], "PackOptions", {"valuesCount": 2}),
    "PAD": One([IMAGE], [RIM], [WIDER], "PadOptions"),
    "PADV2": One([IMAGE], [RIM, np.array([-0.5], np.float32)], [WIDER], "PadV2Options"),
    "REDUCE_MAX": One([IMAGE], [ints(1, 2)], [(1, 8)], "ReducerOptions"),
    "REDUCE_MIN": One([IMAGE], [ints(1, 2)], [(1, 8)], "ReducerOptions"),
    "RELU": One([IMAGE], [], [IMAGE]),
    "RELU6": One([IMAGE], [], [IMAGE]),
    "RESHAPE": One([IMAGE], [ints(1, 128)], [(1, 128)], "ReshapeOptions", {"newShape": [1, 128]}),
    "RESIZE_BILINEAR": One([IMAGE], [ints(8, 8)], [(1, 8, 8, 8)], "ResizeBilinearOptions"),
    "RESIZE_NEAREST_NEIGHBOR": One([IMAGE], [ints(8, 8)], [(1, 8, 8, 8)], "ResizeNearestNeighborOptions"),
    "RSQRT": One([IMAGE], [], [IMAGE], positive=True),
    "SELECT": One([IMAGE, IMAGE], [RANDOM.random(IMAGE) > 0.5], [IMAGE], "SelectOptions", order="c0 x0 x1"),
    "SELECT_V2": One([IMAGE, IMAGE], [RANDOM.random(IMAGE) > 0.5], [IMAGE], "SelectV2Options", order="c0 x0 x1"),
    "SLICE": One([IMAGE], [ints(0, 1, 1, 0), ints(1, 2, 2, 8)], [(1, 2, 2, 8)], "SliceOptions"),
    "SOFTMAX": One([(1, 8)], [], [(1, 8)], "SoftmaxOptions", {"beta": 1.0}),
    "SPACE_TO_DEPTH": One([IMAGE], [], [(1, 2, 2, 32)], "SpaceToDepthOptions", {"blockSize": 2}),
    "SPLIT": One([IMAGE], [ints(3)], [(1, 4, 4, 4)] * 2, "SplitOptions", {"numSplits": 2}, order="c0 x0"),
    "SQRT": One([IMAGE], [], [IMAGE], positive=True),
    "SQUARED_DIFFERENCE": One([IMAGE, IMAGE], [], [IMAGE], "SquaredDifferenceOptions"),
    "SQUEEZE": One([(1, 4, 1, 8)], [], [(4, 8)], "SqueezeOptions", {"squeezeDims": [0, 2]}),
    "STRIDED_SLICE": One(
        [IMAGE], [ints(0, 1, 1, 0), ints(1, 3, 3, 8), ints(1, 1, 1, 1)], [(1, 2, 2, 8)], "StridedSliceOptions"
    ),
    "SUB": One([IMAGE, IMAGE], [], [IMAGE], "SubOptions"),
    "SUM": One([IMAGE], [ints(1, 2)], [(1, 8)], "ReducerOptions"),
    "TANH": One([IMAGE], [], [IMAGE]),
    "TRANSPOSE": One([IMAGE], [ints(0, 3, 1, 2)], [(1, 8, 4, 4)], "TransposeOptions"),
    "TRANSPOSE_CONV": One(
        [IMAGE],
        [ints(1, 8, 8, 3), real(3, 2, 2, 8), real(3)],
        [(1, 8, 8, 3)],
        "TransposeConvOptions",
        {"strideW": 2, "strideH": 2, "padding": 1},
        order="c0 c1 x0 c2",
    ),
    "UNPACK": One([(2, 4, 8)], [], [(4, 8), (4, 8)], "UnpackOptions", {"num": 2}),
}


def one_operator(folder: Path, key: str) -> tuple[ModelGraph, Dataset]:
    one = ONES[key]
    inputs = [Tensor(name=f"x{place}", shape=shape) for place, shape in enumerate(one.inputs)]
    constants = [
        Tensor(name=f"c{place}", shape=values.shape, dtype=str(values.dtype), data=values)
        for place, values in enumerate(one.constants)
    ]
    outputs = [Tensor(name=f"y{place}", shape=shape) for place, shape in enumerate(one.outputs)]
    names = tuple(one.order.split()) or tuple(tensor.name for tensor in (*inputs, *constants))
    results = tuple(tensor.name for tensor in outputs)
    node = Node(
        type=key.split(maxsplit=1)[0], inputs=names, outputs=results, options_table=one.table, options=one.options
    )
    graph = Graph(
        tensors=(*inputs, *constants, *outputs),
        nodes=(node,),
        inputs=tuple(tensor.name for tensor in inputs),
        outputs=results,
    )
    draw = np.random.default_rng(5)
    shapes = {tensor.name: tensor.shape[1:] if tensor.shape[0] == 1 else tensor.shape for tensor in inputs}
    values = {name: draw.normal(0, 1, (32, *shape)).astype(np.float32) for name, shape in shapes.items()}
    np.savez(folder / "samples.npz", **{n: np.abs(v) + 0.3 if one.positive else v for n, v in values.items()})
    lines = "".join(f"  - {{npz: samples.npz, array: {name}}}\n" for name in shapes)
    description = folder / "dataset.yaml"
    description.write_text(f'inputs:\n{lines}metric: cosine\ncalibration: "all"\nevaluation: "all"\n')
    return bind(write_tflite(folder / "one.tflite", graph), description)


@pytest.mark.parametrize("key", ONES)
def test_an_operator_is_written_as_the_planner_says_and_answers_like_float(tmp_path: Path, key: str) -> None:
    graph, dataset = one_operator(tmp_path, key)
    made = convert(graph, dataset, tmp_path / "wide.tflite")
    kind = key.split(maxsplit=1)[0]
    in_float = kind not in operators_of("tflite", "static_wi8_ai16")
    assert made.notes == ((f"computed in float: {kind} (1)",) if in_float else ())
    assert {port.dtype for port in (*made.inputs, *made.outputs)} == {"int16"}
    assert {port.zero_point for port in (*made.inputs, *made.outputs)} == {0}
    assert (kind, "FLOAT32" if in_float else "INT16") in types(tmp_path / "wide.tflite")
    wanted, given = answers(Path(graph.path), graph, dataset), answers(tmp_path / "wide.tflite", graph, dataset)
    assert sqnr_db(wanted, given) > (40 if kind in WEIGHTED else 65)


def test_the_list_of_the_planner_is_wholly_proved() -> None:
    """What is missing here cannot be measured by SQNR (truth values), or this LiteRT's float kernel is missing."""
    proved = {key.split()[0] for key in ONES}
    assert operators_of("tflite", "static_wi8_ai16") - proved == {"BROADCAST_TO", "EQUAL", "NOT_EQUAL"}
    assert proved <= WRITTEN["tflite"]


def test_a_constant_matrix_in_int8_has_one_scale(tmp_path: Path) -> None:
    """LiteRT's integer BATCH_MATMUL answers nothing but zeros to one scale per channel."""
    graph, dataset = one_operator(tmp_path, "BATCH_MATMUL constant")
    channel = {0: NARROW}
    for overrides in ({}, channel):
        convert(graph, dataset, tmp_path / "m.tflite", "static_wi8_ai8", overrides)
        given = answers(tmp_path / "m.tflite", graph, dataset)
        assert sqnr_db(answers(Path(graph.path), graph, dataset), given) > 35


# --- biases ----------------------------------------------------------------------------------


def dense(folder: Path, weights: np.ndarray, bias: np.ndarray) -> tuple[ModelGraph, Dataset]:
    outputs, inputs = weights.shape
    tensors = (
        Tensor(name="x", shape=(1, inputs)),
        Tensor(name="w", shape=weights.shape, data=weights),
        Tensor(name="b", shape=(outputs,), data=bias),
        Tensor(name="y", shape=(1, outputs)),
    )
    node = Node(type="FULLY_CONNECTED", inputs=("x", "w", "b"), outputs=("y",), options_table="FullyConnectedOptions")
    path = write_tflite(folder / "dense.tflite", Graph(tensors=tensors, nodes=(node,), inputs=("x",), outputs=("y",)))
    values = np.random.default_rng(5).normal(0, 1, (16, inputs)).astype(np.float32)
    np.savez(folder / "samples.npz", x=values)
    description = folder / "dataset.yaml"
    description.write_text(
        'inputs:\n  - {npz: samples.npz, array: x}\nmetric: cosine\ncalibration: "all"\nevaluation: "all"\n'
    )
    return bind(path, description)


@pytest.mark.parametrize("weight", [0.0, 1e-9, 1e-6, 1e-5])
def test_biases_beyond_32_bits_survive(tmp_path: Path, weight: float) -> None:
    """litert-quantizer cuts them to 32 bits: steps of int16 activations and tiny weights are very fine."""
    weights = real(4, 8)
    weights[2] *= np.float32(weight)
    graph, dataset = dense(tmp_path, weights, np.array([0, 0.5, -25, 1], np.float32))
    convert(graph, dataset, tmp_path / "m.tflite")
    given = answers(tmp_path / "m.tflite", graph, dataset).reshape(-1, 4)
    np.testing.assert_allclose(given[:, 2], -25, atol=0.005)
    model = flatbuffer.load(tmp_path / "m.tflite")
    dense_layer = next(one for one in model.subgraphs[0].operators if len(one.inputs) == 3)
    bias = model.subgraphs[0].tensors[dense_layer.inputs[2]]
    assert type_name(bias) == "INT64"
    steps = np.frombuffer(model.buffers[bias.buffer].data, np.int64)
    assert np.abs(steps).max() <= 2**30, "it fits accumulators of 32 bits, and the 40 of Ethos-U"
    wanted = answers(Path(graph.path), graph, dataset).reshape(-1, 4)
    assert sqnr_db(wanted[:, :2], given[:, :2]) > 38


# --- whole models ----------------------------------------------------------------------------

MODELS = {
    # least SQNR in dB, and how much nearer to float than int8
    "kws_dscnn/kws_float": (36, 8),
    "vww_mobilenetv1/vww_float": (36, 3),
    "sr_espcn/espcn_float": (39, 1.5),
    "ic_resnet8/resnet8_float": (25.5, 4),
    "ad_autoencoder/ad_float": (43, 0.8),
}


@pytest.mark.parametrize("name", MODELS)
def test_wide_activations_are_clearly_nearer_to_float(shared: Path, tmp_path: Path, name: str) -> None:
    path = shared / f"{name}.tflite"
    graph, dataset = bind(path, path.with_name("dataset.yaml"))
    found = {}
    wanted = answers(path, graph, dataset, 50)
    for scheme in DEFAULTS:
        convert(graph, dataset, tmp_path / f"{scheme}.tflite", scheme)
        found[scheme] = sqnr_db(wanted, answers(tmp_path / f"{scheme}.tflite", graph, dataset, 50))
    least, gain = MODELS[name]
    assert found["static_wi8_ai16"] >= least
    assert found["static_wi8_ai16"] >= found["static_wi8_ai8"] + gain
    wide, narrow = ((tmp_path / f"{scheme}.tflite").stat().st_size for scheme in DEFAULTS)
    assert wide < 1.1 * narrow


def test_exceptions_stay_in_float(tmp_path: Path) -> None:
    graph, dataset = bind(tiny.conv_tflite(tmp_path), tiny.tiny_dataset(tmp_path))
    depthwise = next(one.index for one in graph.operators if one.type == "DEPTHWISE_CONV_2D")
    made = convert(graph, dataset, tmp_path / "m.tflite", overrides={depthwise: FLOAT32})
    assert made.notes == ("computed in float: DEPTHWISE_CONV_2D (1)",)
    assert ("CONV_2D", "INT16") in types(tmp_path / "m.tflite")


@pytest.mark.parametrize("method", ["min-max", "percentile", "mean-squared-error"])
def test_each_range_method_calibrates(tmp_path: Path, method: RangeMethod) -> None:
    graph, dataset = bind(tiny.mlp_tflite(tmp_path), tiny.tiny_dataset(tmp_path, tiny.MLP_SHAPE))
    convert(graph, dataset, tmp_path / "m.tflite", ranges=method)
    wanted, given = answers(Path(graph.path), graph, dataset), answers(tmp_path / "m.tflite", graph, dataset)
    assert sqnr_db(wanted, given) > 45
    assert models.read(tmp_path / "m.tflite").state == "quantized"


def test_partly_quantized_input_is_restored_first(shared: Path, tmp_path: Path) -> None:
    path = shared / "kws_dscnn" / "kws_hybrid.tflite"
    graph, dataset = bind(path, path.with_name("dataset.yaml"))
    made = convert(graph, dataset, tmp_path / "m.tflite")
    assert made.notes == ("5 weights were stored as integers or half floats and were restored to float32 first",)
    assert {port.dtype for port in (*made.inputs, *made.outputs)} == {"int16"}
    assert sqnr_db(answers(path, graph, dataset, 12), answers(tmp_path / "m.tflite", graph, dataset, 12)) > 25

"""Every operator that is lowered, alone, against LiteRT's reference: with settings that random networks do not have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq.codegen import generate, lowering, reference
from edgeq.errors import BuildError
from edgeq.testing import c_models
from edgeq.testing.single_op import Grid, channels, constant, single, tensor
from edgeq.testing.tflite import Graph, Tensor, write_tflite

GRID, OTHER = Grid(0.05, 3), Grid(0.08, -7)
SHAPE = (1, 4, 6, 3)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def moved(
    operator: str, shape: tuple[int, ...], *settings: Tensor, source: tuple[int, ...] = SHAPE, **rest: object
) -> Graph:
    ends = [tensor("x", source, GRID), *settings], [tensor("y", shape, GRID)]
    return single(operator, *ends, str(rest.pop("table", "")), rest)


def parted(operator: str, inputs: list[Tensor], shapes: list[tuple[int, ...]], table: str, **options: object) -> Graph:
    outputs = [tensor(f"y{number}", shape, GRID) for number, shape in enumerate(shapes)]
    return single(operator, inputs, outputs, table, options)


def unary(operator: str, out: Grid, table: str = "", **options: object) -> Graph:
    return single(operator, [tensor("x", SHAPE, GRID)], [tensor("y", SHAPE, out)], table, options)


def binary(operator: str, b: tuple[int, ...], table: str = "", grid: Grid = OTHER, out: Grid = GRID) -> Graph:
    return single(operator, [tensor("a", SHAPE, GRID), tensor("b", b, grid)], [tensor("y", SHAPE, out)], table)


def resized(operator: str, table: str, **options: object) -> Graph:
    return moved(operator, (1, 7, 9, 3), constant("size", ints(7, 9)), table=table, **options)


def transposed() -> Graph:
    weights = np.random.default_rng(1).integers(-127, 128, (2, 3, 3, 3)).astype(np.int8)
    inputs = [
        constant("shape", ints(1, 8, 12, 2)),
        channels("w", weights, (0.01, 0.02)),
        tensor("x", SHAPE, GRID),
    ]
    options = {"padding": 0, "strideH": 2, "strideW": 2}
    return single("TRANSPOSE_CONV", inputs, [tensor("y", (1, 8, 12, 2), OTHER)], "TransposeConvOptions", options)


def grouped(operator: str = "CONV_2D") -> Graph:
    """Two groups, dilated."""
    weights = np.random.default_rng(2).integers(-127, 128, (6, 3, 2, 2)).astype(np.int8)
    scales = tuple(float(np.float32(one)) for one in np.linspace(0.005, 0.02, 6))
    bias = channels("b", np.arange(-300, 300, 100, dtype=np.int32), [scale * 0.05 for scale in scales])
    inputs = [tensor("x", (2, 7, 8, 4), GRID), channels("w", weights, scales), bias]
    options = {"padding": 0, "strideH": 1, "strideW": 1, "dilationHFactor": 2, "dilationWFactor": 3}
    return single(operator, inputs, [tensor("y", (2, 7, 8, 6), OTHER)], "Conv2DOptions", options)


SLICED = {"beginMask": 1, "endMask": 2, "shrinkAxisMask": 8}
X, Z = tensor("x", SHAPE, GRID), tensor("z", SHAPE, GRID)
AMOUNTS = constant("p", np.array([[0, 0], [1, 0], [1, 2], [0, 0]], np.int32))
FROM, SIZES = constant("b", ints(0, 1, 0, 2)), constant("s", ints(1, 2, -1, 1))
NEAREST, BILINEAR = "ResizeNearestNeighborOptions", "ResizeBilinearOptions"
CASES = {
    "TRANSPOSE": moved("TRANSPOSE", (6, 1, 3, 4), constant("p", ints(2, 0, 3, 1)), table="TransposeOptions"),
    "SLICE": moved("SLICE", (1, 2, 6, 1), FROM, SIZES, table="SliceOptions"),
    "STRIDED_SLICE": moved(
        "STRIDED_SLICE", (1, 4, 2), constant("b", ints(0, 0, 5, 1)), constant("e", ints(1, 3, 1, 2)),
        constant("s", ints(1, 1, -2, 1)), table="StridedSliceOptions", **SLICED,
    ),
    "SPLIT": parted("SPLIT", [constant("a", ints(2)), X], [(1, 4, 2, 3)] * 3, "SplitOptions", numSplits=3),
    "SPLIT_V": parted(
        "SPLIT_V", [tensor("x", SHAPE, GRID), constant("s", ints(1, 5)), constant("a", ints(2))],
        [(1, 4, 1, 3), (1, 4, 5, 3)], "SplitVOptions", numSplits=2,
    ),
    "UNPACK": parted("UNPACK", [tensor("x", SHAPE, GRID)], [(1, 4, 6)] * 3, "UnpackOptions", num=3, axis=-1),
    "CONCATENATION": single(
        "CONCATENATION", [X, constant("c", np.ones((1, 2, 6, 3), np.int8), GRID), Z],
        [tensor("y", (1, 10, 6, 3), GRID)], "ConcatenationOptions", {"axis": 1},
    ),
    "PACK": single(
        "PACK", [X, Z], [tensor("y", (1, 2, 4, 6, 3), GRID)], "PackOptions",
        {"valuesCount": 2, "axis": 1},
    ),
    "PAD": moved("PAD", (1, 5, 9, 3), AMOUNTS, table="PadOptions"),
    "PADV2": moved(
        "PADV2", (1, 5, 9, 3), AMOUNTS,
        constant("v", np.array([-77], np.int8), GRID), table="PadV2Options",
    ),
    "GATHER": moved("GATHER", (1, 3, 6, 3), constant("i", ints(3, 0, 3)), table="GatherOptions", axis=1),
    "RESHAPE": moved("RESHAPE", (4, 18), constant("s", ints(4, 18))),
    "SQUEEZE": moved("SQUEEZE", (4, 6, 3), table="SqueezeOptions", squeezeDims=[0]),
    "EXPAND_DIMS": moved("EXPAND_DIMS", (1, 4, 1, 6, 3), constant("a", ints(2)), table="ExpandDimsOptions"),
    "ADD": binary("ADD", (1, 1, 6, 1), "AddOptions"),
    "SUB": binary("SUB", (3,), "SubOptions"),
    "MUL": binary("MUL", (4, 1, 3), "MulOptions"),
    "MAXIMUM": binary("MAXIMUM", (1, 1, 1, 3), "MaximumMinimumOptions", GRID),
    "MINIMUM": binary("MINIMUM", SHAPE, "MaximumMinimumOptions", GRID),
    "PRELU": single(
        "PRELU", [tensor("x", SHAPE, GRID), constant("alpha", np.array([[[-90, 30, 5]]], np.int8), Grid(0.01, 2))],
        [tensor("y", SHAPE, OTHER)],
    ),
    "MEAN": moved("MEAN", (1, 6, 3), constant("a", ints(1)), table="ReducerOptions"),
    "REDUCE_MAX": moved("REDUCE_MAX", (1, 1, 1, 3), constant("a", ints(1, -2)), table="ReducerOptions", keepDims=True),
    "ARG_MAX": single(
        "ARG_MAX", [tensor("x", SHAPE, GRID), constant("a", ints(-1))], [tensor("y", (1, 4, 6), dtype="int32")],
        "ArgMaxOptions", {"outputType": 2},
    ),
    "HARD_SWISH": unary("HARD_SWISH", OTHER),
    "RELU": unary("RELU", OTHER),
    "RELU6": unary("RELU6", GRID),
    "RELU_N1_TO_1": unary("RELU_N1_TO_1", OTHER),
    "LEAKY_RELU": unary("LEAKY_RELU", OTHER, "LeakyReluOptions", alpha=0.3),
    "QUANTIZE": unary("QUANTIZE", OTHER),
    "DEQUANTIZE": single("DEQUANTIZE", [tensor("x", SHAPE, GRID)], [tensor("y", SHAPE, dtype="float32")]),
    "CAST": single(
        "CAST", [X], [tensor("y", SHAPE, dtype="int32")], "CastOptions", {"inDataType": 9, "outDataType": 2}
    ),
    "RESIZE_NEAREST_NEIGHBOR": resized("RESIZE_NEAREST_NEIGHBOR", NEAREST, halfPixelCenters=True),
    "RESIZE_BILINEAR": resized("RESIZE_BILINEAR", BILINEAR, alignCorners=True),
    "TRANSPOSE_CONV": transposed(),
    "CONV_2D": grouped(),
    "LOGISTIC": unary("LOGISTIC", Grid(1 / 256, -128)),
    "TANH": unary("TANH", Grid(1 / 128, 0)),
    "SOFTMAX": unary("SOFTMAX", Grid(1 / 256, -128), "SoftmaxOptions", beta=2.0),
}  # fmt: skip
ELSEWHERE = {
    "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED",
    "AVERAGE_POOL_2D",
    "MAX_POOL_2D",
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "SVDF",
}


def test_no_operator_is_forgotten() -> None:
    assert set(CASES) | ELSEWHERE == set(lowering.LOWERINGS)


@pytest.mark.parametrize("operator", CASES)
def test_an_operator_alone(tmp_path: Path, operator: str) -> None:
    path = write_tflite(tmp_path / "model.tflite", CASES[operator])
    compiled = generate.compile_model(path)
    model, oracle = c_models.Model(compiled, tmp_path, "-O1"), reference.open(path)
    random = np.random.default_rng(4)
    for _ in range(4):
        feed = [random.integers(-128, 128, port.shape).astype(np.int8) for port in compiled.inputs]
        assert c_models.differing_bytes(model.run(feed), oracle.run(feed)) == 0


@pytest.mark.parametrize(
    ("graph", "what"),
    [
        (binary("MAXIMUM", SHAPE, "MaximumMinimumOptions"), "different scales"),
        (unary("LOGISTIC", GRID), "not 1/256"),
        (unary("TANH", GRID), "not 1/128"),
        (unary("RELU6", OTHER), "cannot be computed in integers"),
        (moved("SLICE", (1, 2, 6, 1), constant("b", ints(0, 9, 0, 2)), constant("s", ints(1, 2, -1, 1))), "cuts"),
        (moved("TRANSPOSE", SHAPE, constant("p", ints(0, 0, 1, 2))), "orders the axes"),
        (moved("GATHER", (1, 3, 6, 3), constant("i", ints(3, 0, 4)), table="GatherOptions", axis=1), "gathers outside"),
        (moved("MEAN", (1, 6, 3), constant("a", ints(9)), table="ReducerOptions"), "reduces axes"),
        (moved("RESHAPE", (4, 17), constant("s", ints(4, 17))), "makes"),
        (moved("PAD", (1, 5, 9, 3), constant("p", ints(1, 2)), table="PadOptions"), "pads"),
        (moved("SLICE", (1, 2, 6, 1), tensor("b", (4,), dtype="int32"), SIZES), "stored in the file"),
    ],
)  # fmt: skip
def test_settings_without_a_kernel_are_refused_by_name(tmp_path: Path, graph: Graph, what: str) -> None:
    path = write_tflite(tmp_path / "model.tflite", graph)
    with pytest.raises(BuildError, match=r"^operator 0 \(" + graph.nodes[0].type) as caught:
        generate.compile_model(path)
    assert what in caught.value.message

"""How each operator of TFLite looks in a model of its own; what is not here, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edgeq.conformance.tflite.operands import (
    ABSENT,
    FLOATING,
    MOVED,
    Operand,
    Recipe,
    bias,
    constant,
    data,
    fed,
    state,
    value,
    weights,
)
from edgeq.types import OutputSpec

X = data(1, 4, 4, 4)
Y = data(1, 4, 4, 4, seed=7)
POSITIVE = data(1, 4, 4, 4, low=0.2, high=1.4)
AGAIN = Operand(role="data", values=np.where(np.arange(64).reshape(1, 4, 4, 4) % 2, X.values, Y.values))
"""Equal to `X` in every other place."""
MASK = fed(np.arange(64).reshape(1, 4, 4, 4) % 3 == 0, "bool")
TRUTH = fed([[True, False, True, False]], "bool")
OTHER_TRUTH = fed([[True, True, False, False]], "bool")
INT32, INT64 = 2, 4
"""Data types by their number in the schema, as options name them."""

STRIDES = {"strideH": 1, "strideW": 1}
DILATED = {**STRIDES, "dilationHFactor": 1, "dilationWFactor": 1}
STRIDES_3D = {"strideD": 1, **STRIDES, "dilationDFactor": 1, "dilationHFactor": 1, "dilationWFactor": 1}
POOL = {"strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}

Options = tuple[str, Mapping[str, Any]]


def _numpy(function: Any) -> Callable[..., list[Any]]:
    """A reference that does not care for the data type."""
    return lambda *given: [function(*given[:-1])]


def _one(operand: Operand = X, options: Options = ("", {})) -> Recipe:
    return Recipe(operands=(operand,), options=options)


def _two(first: Operand = X, second: Operand = Y, options: Options = ("", {})) -> Recipe:
    return Recipe(operands=(first, second), options=options)


def _moved(*operands: Operand, options: Options = ("", {}), results: tuple[str, ...] = ("shared",)) -> Recipe:
    return Recipe(operands=operands, options=options, results=results, together=True, kinds=MOVED)


def _same(operand: Operand, options: Options) -> Recipe:
    """Keeps the scale of its input, and is for real numbers only."""
    return Recipe(operands=(operand,), options=options, results=("shared",))


def _reduced(operand: Operand = X, result: str = "computed") -> Recipe:
    operands = (operand, constant([1, 2]))
    return Recipe(operands=operands, options=("ReducerOptions", {"keepDims": True}), results=(result,))


def _compared() -> Recipe:
    return Recipe(operands=(X, AGAIN), results=("bool",), together=True)


def _chosen(options: Options) -> Recipe:
    return Recipe(operands=(X, constant(3)), options=options, results=("int32",))


def _segments() -> Recipe:
    return Recipe(operands=(data(4, 6), constant([0, 1, 1, 2]), constant(3)))


def _logical(*operands: Operand, reference: Any) -> Recipe:
    return Recipe(operands=operands, results=("bool",), kinds=("bool",), reference=_numpy(reference))


# --- layers with weights ---------------------------------------------------------------------

_UNITS = 4
_LSTM = (
    data(1, 3, 6),
    *(weights(_UNITS, 6, seed=seed) for seed in range(20, 24)),
    *(weights(_UNITS, _UNITS, seed=seed) for seed in range(24, 28)),
    *(ABSENT,) * 3,
    *(bias(_UNITS, of=position) for position in range(1, 5)),
    *(ABSENT,) * 2,
    state(1, _UNITS),
    state(1, _UNITS, dtype="cell"),
)
_LSTM_STEP = (data(1, 6), *_LSTM[1:])
_RNN = (weights(4, 6), weights(4, 4, seed=5), bias(4, of=1), state(1, 4))

_LAYERS = {
    "CONV_2D": Recipe(operands=(X, weights(8, 3, 3, 4), bias(8)), options=("Conv2DOptions", DILATED)),
    "DEPTHWISE_CONV_2D": Recipe(
        operands=(X, weights(1, 3, 3, 4, axis=3), bias(4)),
        options=("DepthwiseConv2DOptions", {**DILATED, "depthMultiplier": 1}),
    ),
    "FULLY_CONNECTED": Recipe(
        operands=(data(2, 32), weights(8, 32), bias(8)), options=("FullyConnectedOptions", {})
    ),
    "TRANSPOSE_CONV": Recipe(
        operands=(constant([1, 8, 8, 6]), weights(6, 3, 3, 4), X, bias(6, of=1)),
        options=("TransposeConvOptions", {"strideH": 2, "strideW": 2}),
    ),
    "BATCH_MATMUL": Recipe(
        operands=(data(1, 4, 8), weights(1, 8, 6, axis=2)),
        options=("BatchMatMulOptions", {}),
        takes_two_activations=True,
    ),
    "CONV_3D": Recipe(
        operands=(data(1, 3, 4, 4, 2), weights(2, 2, 2, 2, 5, axis=4), bias(5)), options=("Conv3DOptions", STRIDES_3D)
    ),
    "CONV_3D_TRANSPOSE": Recipe(
        operands=(constant([1, 3, 4, 4, 5]), weights(2, 2, 2, 5, 2, axis=3), data(1, 3, 4, 4, 2), bias(5, of=1)),
        options=("Conv3DOptions", STRIDES_3D),
    ),
    "EMBEDDING_LOOKUP": Recipe(operands=(fed([2, 0, 5]), weights(6, 8)), results=("weights",)),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Recipe(
        operands=_LSTM,
        options=("UnidirectionalSequenceLSTMOptions", {"fusedActivationFunction": 4}),
        intermediates=5,
    ),
    "LSTM": Recipe(operands=_LSTM_STEP, options=("LSTMOptions", {"fusedActivationFunction": 4}), intermediates=5),
    "RNN": Recipe(operands=(data(1, 6), *_RNN), options=("RNNOptions", {"fusedActivationFunction": 4})),
    "UNIDIRECTIONAL_SEQUENCE_RNN": Recipe(
        operands=(data(1, 3, 6), *_RNN), options=("SequenceRNNOptions", {"fusedActivationFunction": 4})
    ),
    "SVDF": Recipe(
        operands=(data(1, 6), weights(4, 6), Operand(role="weights", values=weights(4, 3).values, dtype="time"),
                  Operand(role="bias", values=bias(4).values, of=2, dtype="time"), state(1, 12, dtype="svdf")),
        options=("SVDFOptions", {"rank": 1, "fusedActivationFunction": 0}),
    ),
}  # fmt: skip

# --- arithmetic ------------------------------------------------------------------------------

_ARITHMETIC = {
    "ADD": _two(options=("AddOptions", {"potScaleInt16": False})),
    "SUB": _two(options=("SubOptions", {"potScaleInt16": False})),
    "MUL": _two(options=("MulOptions", {})),
    "DIV": _two(second=data(1, 4, 4, 4, low=0.3, high=1.4, seed=7), options=("DivOptions", {})),
    "MAXIMUM": Recipe(operands=(X, Y), results=("shared",), together=True),
    "MINIMUM": Recipe(operands=(X, Y), results=("shared",), together=True),
    "SQUARED_DIFFERENCE": _two(),
    "POW": _two(POSITIVE),
    "FLOOR_DIV": _two(data(1, 4, 4, 4, low=-5, high=9), POSITIVE),
    "FLOOR_MOD": _two(data(1, 4, 4, 4, low=-5, high=9), POSITIVE),
    "ADD_N": _two(),
    "ATAN2": _two(),
    "STABLEHLO_ADD": _two(),
    "STABLEHLO_MULTIPLY": _two(),
    "STABLEHLO_MAXIMUM": Recipe(operands=(X, Y), results=("shared",), together=True),
    "STABLEHLO_MINIMUM": Recipe(operands=(X, Y), results=("shared",), together=True),
}


def _normalized(x: Any) -> Any:
    """Each channel over the root of 1 and half the squares of the channels not further than two from it."""
    near = np.abs(np.subtract.outer(np.arange(4), np.arange(4))) <= 2
    return x / np.sqrt(1 + 0.5 * (x**2 @ near))


_REDUCTIONS = {
    "AVERAGE_POOL_2D": Recipe(operands=(X,), options=("Pool2DOptions", POOL), results=("pooled",)),
    "MAX_POOL_2D": _same(X, ("Pool2DOptions", POOL)),
    "L2_POOL_2D": Recipe(operands=(X,), options=("Pool2DOptions", POOL), results=("pooled",)),
    "MEAN": _reduced(),
    "SUM": _reduced(),
    "REDUCE_MAX": _reduced(result="shared"),
    "REDUCE_MIN": _reduced(result="shared"),
    "REDUCE_PROD": Recipe(
        operands=(data(1, 2, 2, 4, low=0.5, high=1.4), constant([1, 2])), options=("ReducerOptions", {"keepDims": True})
    ),
    "CUMSUM": Recipe(operands=(X, constant(2)), options=("CumsumOptions", {})),
    "SEGMENT_SUM": Recipe(
        operands=(data(4, 6), constant([0, 1, 1, 2])),
        reference=_numpy(lambda x, at: np.stack([x[at == number].sum(0) for number in range(3)])),
    ),
    **{f"UNSORTED_SEGMENT_{kind}": _segments() for kind in ("MAX", "MIN", "PROD", "SUM")},
    # The reference kernel leaves the upper neighbour out of its sum.
    "LOCAL_RESPONSE_NORMALIZATION": replace(
        _one(options=("LocalResponseNormalizationOptions", {"radius": 2, "bias": 1.0, "alpha": 0.5, "beta": 0.5})),
        reference=_numpy(_normalized),
    ),
}

# --- functions of one tensor -----------------------------------------------------------------


def _fixed(scale: float, signed: int, unsigned: int, long: float | None) -> dict[str, OutputSpec]:
    """The output that each data type must have; `long` is the scale of int16."""
    found = {"int8": (scale, signed), "uint8": (scale, unsigned)} | ({"int16": (long, 0)} if long else {})
    return {dtype: OutputSpec(dtype=dtype, scale=one, zero_point=zero) for dtype, (one, zero) in found.items()}


_WIDE = data(1, 4, 4, 4, low=-5.0, high=7.0)
_FUNCTIONS = {
    **{name: _one(_WIDE) for name in ("RELU", "RELU6", "HARD_SWISH")},
    **{name: _one() for name in ("RELU_N1_TO_1", "RELU_0_TO_1", "ABS", "EXP", "NEG", "SQUARE")},
    **{name: _one(_WIDE) for name in ("SIN", "COS", "FLOOR", "SIGN", "ZEROS_LIKE")},
    **{name: _one(POSITIVE) for name in ("LOG", "SQRT", "RSQRT")},
    "ELU": replace(_one(_WIDE), reference=_numpy(lambda x: np.where(x > 0, x, np.expm1(x)))),
    "CEIL": replace(_one(_WIDE), reference=_numpy(np.ceil)),
    "ROUND": replace(_one(_WIDE), reference=_numpy(np.round)),
    "SOFTMAX": replace(_one(_WIDE, ("SoftmaxOptions", {"beta": 1.0})), fixed=_fixed(2**-8, -128, 0, 2**-15)),
    "LOGISTIC": replace(_one(_WIDE), fixed=_fixed(2**-8, -128, 0, 2**-15)),
    "LOG_SOFTMAX": replace(_one(_WIDE), fixed=_fixed(2**-4, 127, 255, None)),
    "TANH": replace(_one(_WIDE), fixed=_fixed(2**-7, 0, 128, 2**-15)),
    "L2_NORMALIZATION": replace(_one(), fixed=_fixed(2**-7, 0, 128, None)),
    "LEAKY_RELU": _one(options=("LeakyReluOptions", {"alpha": 0.1})),
    "GELU": _one(data(1, 4, 4, 4, low=-3, high=4), ("GeluOptions", {})),
    "PRELU": _two(second=replace(data(1, 1, 4, low=0.1, high=0.5), written=True)),
    "FAKE_QUANT": _one(options=("FakeQuantOptions", {"min": -1.0, "max": 1.4, "numBits": 8})),
}

# --- operators that move data ----------------------------------------------------------------

_M = data(3, 4)
_MOVERS = {
    "RESHAPE": _moved(X, constant([2, 32]), options=("ReshapeOptions", {"newShape": [2, 32]})),
    "SQUEEZE": _moved(data(1, 4, 1, 4), options=("SqueezeOptions", {"squeezeDims": [0, 2]})),
    "EXPAND_DIMS": _moved(_M, constant(1)),
    "TRANSPOSE": _moved(X, constant([0, 3, 1, 2])),
    "SLICE": replace(
        _moved(X, constant([0, 1, 0, 2]), constant([1, 2, 3, 2])),
        reference=_numpy(lambda x, *_: x[0:1, 1:3, 0:3, 2:4]),
    ),
    "STRIDED_SLICE": _moved(
        X, constant([0, 0, 1, 0]), constant([1, 4, 4, 4]), constant([1, 2, 1, 3]), options=("StridedSliceOptions", {})
    ),
    "SPLIT": _moved(constant(3), X, options=("SplitOptions", {"numSplits": 2}), results=("shared",) * 2),
    "SPLIT_V": _moved(
        X, constant([1, 3]), constant(3), options=("SplitVOptions", {"numSplits": 2}), results=("shared",) * 2
    ),
    "PACK": _moved(X, Y, options=("PackOptions", {"valuesCount": 2, "axis": 1})),
    "UNPACK": _moved(_M, options=("UnpackOptions", {"num": 3, "axis": 0}), results=("shared",) * 3),
    "GATHER": _moved(_M, fed([2, 0]), options=("GatherOptions", {"axis": 0})),
    "GATHER_ND": _moved(_M, fed([[2, 1], [0, 3]])),
    "PAD": _moved(X, constant([[0, 0], [1, 0], [2, 1], [0, 1]])),
    "PADV2": _moved(X, constant([[0, 0], [1, 0], [2, 1], [0, 1]]), value(0.7, 1)),
    "MIRROR_PAD": _moved(X, constant([[0, 0], [1, 0], [2, 1], [0, 1]]), options=("MirrorPadOptions", {"mode": 0})),
    "TILE": _moved(_M, constant([2, 3])),
    "BROADCAST_TO": replace(_moved(data(3, 1), constant([2, 3, 4])), twin_version=2),
    "REVERSE_V2": _moved(X, constant([2])),
    "CONCATENATION": _moved(X, Y, options=("ConcatenationOptions", {"axis": 3})),
    "SELECT": _moved(MASK, X, Y),
    "SELECT_V2": _moved(MASK, X, Y),
    "DYNAMIC_UPDATE_SLICE": _moved(X, data(1, 2, 2, 2, seed=8), fed([0, 1, 1, 2])),
    "DILATE": _moved(_M, constant([2, 3]), value(0.7)),
    "TOPK_V2": _moved(_M, constant(2), results=("shared", "int32")),
    "RESIZE_NEAREST_NEIGHBOR": _moved(X, constant([7, 9]), options=("ResizeNearestNeighborOptions", {})),
    "RESIZE_BILINEAR": Recipe(
        operands=(X, constant([7, 9])), options=("ResizeBilinearOptions", {}), results=("pooled",)
    ),
    "DEPTH_TO_SPACE": _moved(X, options=("DepthToSpaceOptions", {"blockSize": 2})),
    "SPACE_TO_DEPTH": _moved(X, options=("SpaceToDepthOptions", {"blockSize": 2})),
    "SPACE_TO_BATCH_ND": _moved(X, constant([2, 2]), constant([[2, 0], [0, 2]])),
    "BATCH_TO_SPACE_ND": _moved(data(4, 2, 2, 3), constant([2, 2]), constant([[0, 1], [1, 0]])),
    "FILL": _moved(constant([2, 3]), data(low=0, high=0.7)),
    "REVERSE_SEQUENCE": _moved(
        data(3, 4, 2), fed([1, 4, 2]), options=("ReverseSequenceOptions", {"seqDim": 1, "batchDim": 0})
    ),
    "SCATTER_ND": _moved(fed([[4], [1]]), data(2, 3), constant([6, 3])),
    "MATRIX_DIAG": _moved(_M),
    "MATRIX_SET_DIAG": _moved(data(2, 3, 4), data(2, 3, seed=9)),
    "SPARSE_TO_DENSE": _moved(
        fed([[0, 1], [2, 3]]),
        constant([3, 4]),
        data(2),
        value(0.1),
        options=("SparseToDenseOptions", {}),
    ),
    "HASHTABLE_LOOKUP": _moved(fed([4, 9]), constant([2, 4, 9]), data(3, 5), results=("shared", "uint8")),
    "UNIQUE": _moved(data(7), options=("UniqueOptions", {"idxOutType": INT32}), results=("shared", "int32")),
}

# --- comparisons, indices, conversions -------------------------------------------------------


def _cast(values: Any, dtype: str) -> list[Any]:
    """Real numbers become whole ones, everything else becomes a real number."""
    return [np.trunc(values) if dtype == "float32" else values]


def _integers(function: Any) -> Callable[..., Any]:
    return lambda *given: function(*(np.asarray(values, np.int32) for values in given))


def _exactly(values: Any, *given: Any) -> list[Any]:  # noqa: ARG001
    return [values]


_INDICES = {
    **{name: _compared() for name in ("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL")},
    "ARG_MAX": _chosen(("ArgMaxOptions", {"outputType": INT32})),
    "ARG_MIN": _chosen(("ArgMinOptions", {"outputType": INT32})),
    "ONE_HOT": Recipe(
        operands=(
            fed([2, 0, 1]),
            constant(4),
            value(1.2),
            value(-0.4),
        ),
        options=("OneHotOptions", {"axis": -1}),
        results=("shared",),
        together=True,
    ),
    "SHAPE": Recipe(
        operands=(X,),
        options=("ShapeOptions", {"outType": INT32}),
        results=("int32",),
        kinds=MOVED,
        reference=lambda values, _: [np.array(values.shape)],
    ),
    "RANK": Recipe(
        operands=(X,), results=("int32",), kinds=MOVED, reference=lambda values, _: [np.array(values.ndim)]
    ),
    "WHERE": Recipe(
        operands=(Operand(role="data", values=np.array([[0.0, 1.0, 0.0], [1.2, 0.0, -1.0]], np.float32)),),
        results=("int64",),
        kinds=MOVED,
        reference=lambda values, _: [np.argwhere(values)],
    ),
    "CAST": Recipe(operands=(_WIDE,), options=("CastOptions", {}), results=("cast",), kinds=MOVED, reference=_cast),
    "RANGE": Recipe(
        operands=tuple(Operand(role="data", values=np.full((), value, np.float32)) for value in (0.5, 4.1, 0.5)),
        options=("RangeOptions", {}),
        results=("shared",),
        together=True,
        kinds=(*FLOATING, "int32", "int64"),
        reference=lambda start, stop, step, _: [np.arange(start, stop, step)],
    ),
    "QUANTIZE": Recipe(
        operands=(Operand(role="fed", values=X.values, dtype="float32"),), options=("QuantizeOptions", {}),
        reference=_exactly, kinds=("int8", "uint8", "int16"),
    ),
    "DEQUANTIZE": Recipe(
        operands=(X,), options=("DequantizeOptions", {}), results=("float32",), reference=_exactly,
        kinds=("int8", "uint8", "int16", "float16"),
    ),
    "LOGICAL_AND": _logical(TRUTH, OTHER_TRUTH, reference=np.logical_and),
    "LOGICAL_OR": _logical(TRUTH, OTHER_TRUTH, reference=np.logical_or),
    "LOGICAL_NOT": _logical(TRUTH, reference=np.logical_not),
    "REDUCE_ALL": Recipe(
        operands=(TRUTH, constant([1])), options=("ReducerOptions", {"keepDims": True}), results=("bool",),
        kinds=("bool",), reference=lambda values, _, __: [values.all(axis=1, keepdims=True)],
    ),
    "REDUCE_ANY": Recipe(
        operands=(TRUTH, constant([1])), options=("ReducerOptions", {"keepDims": True}), results=("bool",),
        kinds=("bool",), reference=lambda values, _, __: [values.any(axis=1, keepdims=True)],
    ),
    "BUCKETIZE": Recipe(
        operands=(X,), options=("BucketizeOptions", {"boundaries": [-0.5, 0.25, 1.0]}), results=("int32",),
        reference=_numpy(lambda values: np.searchsorted([-0.5, 0.25, 1.0], values, side="right")),
    ),
    **{
        name: Recipe(
            operands=(X, Y), results=("shared",), together=True, kinds=("int32",), reference=_numpy(_integers(function))
        )
        for name, function in (("BITWISE_XOR", np.bitwise_xor), ("STABLEHLO_AND", np.bitwise_and))
    },
    "RIGHT_SHIFT": Recipe(
        operands=(X, data(1, 4, 4, 4, low=0, high=0.3)), results=("shared",), kinds=("int32",),
        reference=_numpy(_integers(np.right_shift)),
    ),
    "STABLEHLO_SHIFT_LEFT": Recipe(
        operands=(X, data(1, 4, 4, 4, low=0, high=0.3)), results=("shared",), kinds=("int32",),
        reference=_numpy(_integers(np.left_shift)),
    ),
    "BROADCAST_ARGS": Recipe(
        operands=(fed([3, 1]), fed([2, 1, 4])), results=("int32",), kinds=("int32",),
        reference=lambda *_: [np.array([2, 3, 4])],
    ),
}  # fmt: skip

RECIPES: dict[str, Recipe] = {**_LAYERS, **_ARITHMETIC, **_REDUCTIONS, **_FUNCTIONS, **_MOVERS, **_INDICES}
"""By the name of the schema's BuiltinOperator."""

_RESOURCE = "it works on a variable or a hash table, which other operators make"
_CONTROL = "it runs other subgraphs"
_RANDOM = "its answer is random"
_COMPLEX = "it computes complex numbers, which edgeq does not handle"
UNBUILT: dict[str, str] = {
    **dict.fromkeys(("ASSIGN_VARIABLE", "READ_VARIABLE", "VAR_HANDLE"), _RESOURCE),
    **dict.fromkeys(("HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_SIZE"), _RESOURCE),
    **dict.fromkeys(("IF", "WHILE", "CALL_ONCE", "STABLEHLO_CASE", "STABLEHLO_COMPOSITE"), _CONTROL),
    **dict.fromkeys(("STABLEHLO_REDUCE_WINDOW", "STABLEHLO_SCATTER"), _CONTROL),
    **dict.fromkeys(
        ("RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM", "MULTINOMIAL", "STABLEHLO_RNG_BIT_GENERATOR"), _RANDOM
    ),
    **dict.fromkeys(("COMPLEX_ABS", "IMAG", "REAL", "RFFT2D"), _COMPLEX),
    "CUSTOM": "the name of a custom operator is the user's own",
    "DELEGATE": "a delegate makes it at run time",
    "DENSIFY": "it reads sparse weights, which edgeq does not write",
    "LSH_PROJECTION": "its answer is a hash, not a number near to anything",
    "SKIP_GRAM": "it reads strings",
}
"""Operators of which no model is built here, with the reason."""

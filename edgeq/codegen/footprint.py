"""What a model compiled to C takes of flash and RAM, from its graph alone: before it is quantized or built.

The arena is exact. Flash is the constants, which follow from the shapes, and the code: the kernels' own sizes and a
part for each operator, as clang 14 compiles a bundle's firmware for a Cortex-M4 (MLPerf Tiny's four models: 1 %).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from edgeq.codegen import layouts
from edgeq.codegen.arena import arena_bytes
from edgeq.models.tensors import BITS
from edgeq.types import ModelGraph, Operator, Shape, TensorSpec

_MATRIX = {"matrix": 1900}
_CONV = {**_MATRIX, "conv2d": 1240}
_BROADCAST = {"broadcast": 170}
_LOOKUP = {"lookup": 548}
_COPY = {"copy": 406}
_POOL = {"pool": 458}
_REDUCE = {"reduce": 650}
_RESIZE = {"resize": 472}
_NONE: Mapping[str, int] = {}
KERNELS: Mapping[str, Mapping[str, int]] = {
    "CONV_2D": _CONV,
    "DEPTHWISE_CONV_2D": {"depthwise_conv2d": 2042},
    "TRANSPOSE_CONV": {"transpose_conv": 710},
    "FULLY_CONNECTED": {**_MATRIX, "fully_connected": 154},
    "ADD": {**_BROADCAST, "add": 246},
    "SUB": {**_BROADCAST, "add": 246},
    "MUL": {**_BROADCAST, "mul": 496},
    "MAXIMUM": {**_BROADCAST, "maximum_minimum": 168},
    "MINIMUM": {**_BROADCAST, "maximum_minimum": 168},
    "PRELU": {**_BROADCAST, "prelu": 322},
    "SOFTMAX": {"softmax": 868},
    "UNIDIRECTIONAL_SEQUENCE_LSTM": {**_MATRIX, "lstm": 1282, "sigmoid": 512},
    "SVDF": {"svdf": 558},
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), _POOL),
    **dict.fromkeys(("LOGISTIC", "TANH", "HARD_SWISH", "RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU"), _LOOKUP),
    **dict.fromkeys(("QUANTIZE", "DEQUANTIZE", "CAST"), _LOOKUP),
    **dict.fromkeys(("MEAN", "REDUCE_MAX", "ARG_MAX"), _REDUCE),
    **dict.fromkeys(("RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"), _RESIZE),
    **dict.fromkeys(("TRANSPOSE", "SLICE", "STRIDED_SLICE", "SPLIT", "SPLIT_V", "UNPACK"), _COPY),
    **dict.fromkeys(("CONCATENATION", "PACK", "PAD", "PADV2", "GATHER"), _COPY),
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), _NONE),
}
"""By operator that has a kernel: the files that it needs, with the bytes of their code."""

_WIDE_MATRIX = {"matrix_s16": 2356}
_WIDE_CONV = {**_WIDE_MATRIX, "conv2d_s16": 840}
_CURVES = {"curves_s16": 222, "sigmoid": 512}
_BENT = {"leaky_relu_s16": 178}
_WIDE_POOL = {"pool_s16": 482}
_WIDE_REDUCE = {"reduce_s16": 670}
_WIDE_PAD = {**_COPY, "fill_s16": 14}
_BITS = {"f32": 788}
_MOVED = ("TRANSPOSE", "SLICE", "STRIDED_SLICE", "SPLIT", "SPLIT_V", "UNPACK", "CONCATENATION", "PACK", "GATHER")
WIDE: Mapping[str, Mapping[str, int]] = {
    "CONV_2D": _WIDE_CONV,
    "DEPTHWISE_CONV_2D": {"depthwise_conv2d_s16": 2342},
    "TRANSPOSE_CONV": {"transpose_conv_s16": 650},
    "FULLY_CONNECTED": {**_WIDE_MATRIX, "fully_connected_s16": 156},
    "ADD": {**_BROADCAST, "add_s16": 248},
    "SUB": {**_BROADCAST, "add_s16": 248},
    "MUL": {**_BROADCAST, "mul_s16": 246},
    "MAXIMUM": {**_BROADCAST, "maximum_minimum_s16": 176},
    "MINIMUM": {**_BROADCAST, "maximum_minimum_s16": 176},
    "SOFTMAX": {"softmax_s16": 450},
    "QUANTIZE": {"requantize": 242},
    "DEQUANTIZE": _BITS,
    **dict.fromkeys(("LOGISTIC", "TANH"), _CURVES),
    **dict.fromkeys(("RELU", "RELU6", "LEAKY_RELU"), _BENT),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), _WIDE_POOL),
    **dict.fromkeys(("MEAN", "REDUCE_MAX", "ARG_MAX"), _WIDE_REDUCE),
    **dict.fromkeys(("PAD", "PADV2"), _WIDE_PAD),
    **dict.fromkeys(_MOVED, _COPY),
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), _NONE),
}
"""The same for int16 activations."""

_OWN_BYTES, _CALL_BYTES = 350, 84
_BIAS_BYTES = {1: 4, 2: 8}
"""By bytes of an activation."""
_SCALE_BYTES = 5
"""Multiplier and shift."""
_SOFTMAX_BYTES = 2 * 2 * 513
_FROM_REAL = ("QUANTIZE", "DEQUANTIZE", "CAST")
_INTEGERS = ("int8", "int16", "int32", "uint8", "bool")
_TABLES = {"DEQUANTIZE": 1024, "CAST": 1024}


def refusal(graph: ModelGraph) -> str | None:
    """Why a graph cannot be compiled to C, by its operators and their data types; the compiler looks at the rest."""
    operators = [operator for operator in graph.operators if operator.subgraph == 0]
    return next((why for operator in operators if (why := _refused(operator, graph)) is not None), None)


def _refused(operator: Operator, graph: ModelGraph) -> str | None:
    name = f"operator {operator.index} ({operator.type})"
    if operator.type not in KERNELS or operator.custom:
        return f"{name} has no kernel in C"
    kinds = _kinds(operator, graph)
    real = next((kind for kind in kinds if kind not in _INTEGERS), None)
    if real is not None and not (real == "float32" and operator.type in _FROM_REAL):
        return f"{name} has kernels for integers, not for {real}"
    if _is_wide(operator, graph) and operator.type not in WIDE:
        return f"{name} has a kernel for int8, not for int16"
    return None


def _kinds(operator: Operator, graph: ModelGraph) -> list[str]:
    """Data types of the activations that an operator reads and makes."""
    used = (graph.tensors[index] for index in (*operator.inputs, *operator.outputs) if index >= 0)
    return [tensor.dtype for tensor in used if not tensor.is_constant]


def _is_wide(operator: Operator, graph: ModelGraph) -> bool:
    """Whether an operator's kernel is the one for int16: it reads int16 (beside its state) or makes it."""
    tensors = [place for place in (*operator.inputs[:2], *operator.outputs) if place >= 0]
    return any(graph.tensors[place].dtype == "int16" and not graph.tensors[place].is_constant for place in tensors)


def footprint(graph: ModelGraph) -> dict[str, int]:
    """Bytes of `arena`, `constants` and `code`; empty where the graph cannot be compiled to C."""
    if refusal(graph) is not None:
        return {}
    shapes = [tuple(abs(size) for size in tensor.shape) for tensor in graph.tensors]
    operators = [operator for operator in graph.operators if operator.subgraph == 0]
    code = {file: size for operator in operators for file, size in _files(operator, graph).items()}
    return {
        "arena": arena_bytes(graph),
        "constants": sum(_constant_bytes(operator, graph, shapes) for operator in operators),
        "code": _OWN_BYTES + _CALL_BYTES * len(operators) + sum(code.values()),
    }


def _files(operator: Operator, graph: ModelGraph) -> Mapping[str, int]:
    kinds = _kinds(operator, graph)
    if operator.type == "QUANTIZE" and kinds[0] == "float32":
        return _BITS
    if operator.type == "QUANTIZE" and kinds[0] == "int8":
        return _LOOKUP
    return (WIDE if _is_wide(operator, graph) else KERNELS)[operator.type]


def _constant_bytes(operator: Operator, graph: ModelGraph, shapes: list[Shape]) -> int:
    width = 2 if _is_wide(operator, graph) else 1
    if _files(operator, graph) is _LOOKUP:
        return width * _TABLES.get(operator.type, 256)
    if operator.type == "SOFTMAX":
        return _SOFTMAX_BYTES if width == 2 else 0
    places = {"CONV_2D": 1, "FULLY_CONNECTED": 1, "DEPTHWISE_CONV_2D": 1, "TRANSPOSE_CONV": 1}
    if operator.type not in places or len(operator.inputs) < 2 or operator.inputs[1] < 0:
        constants = (index for index in operator.inputs if index >= 0 and graph.tensors[index].is_constant)
        return sum(_stored_bytes(graph.tensors[i], shapes[i], width) for i in constants)
    weights = operator.inputs[1]
    shape, quantization = shapes[weights], graph.tensors[weights].quantization
    rows = shape[3] if operator.type == "DEPTHWISE_CONV_2D" and len(shape) == 4 else shape[0]
    depth = math.prod(shape) // max(1, rows)
    padded = depth if operator.type in ("DEPTHWISE_CONV_2D", "TRANSPOSE_CONV") else layouts.depth4(depth)
    per_channel = quantization is None or len(quantization.scales) > 1
    return rows * (padded + _BIAS_BYTES[width]) + _SCALE_BYTES * (rows if per_channel else 1)


def _stored_bytes(tensor: TensorSpec, shape: Shape, width: int) -> int:
    """A constant operand: what is float still will be an activation's integers; wider integers of a layer stay."""
    if tensor.dtype in ("int8", "float32"):
        return math.prod(shape) * (width if tensor.dtype == "float32" else 1)
    return BITS.get(tensor.dtype, 0) // 8 * math.prod(shape) if tensor.quantization is not None else 0

"""What a model compiled to C takes of flash and RAM, from its graph alone: before it is quantized or built.

The arena is exact. Flash is the constants, which follow from the shapes, and the code: the kernels' own sizes and a
part for each operator, as clang 14 compiles a bundle's firmware for a Cortex-M4 (MLPerf Tiny's four models: 1 %).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from edgeq.codegen import layouts
from edgeq.codegen.arena import arena_bytes
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

_OWN_BYTES, _CALL_BYTES = 350, 84
_CHANNEL_BYTES = 9
"""Bias, multiplier and shift."""
_TABLES = {"DEQUANTIZE": 1024, "CAST": 1024}


def unknown(graph: ModelGraph) -> list[Operator]:
    """The main graph's operators that have no kernel."""
    return [operator for operator in graph.operators if operator.subgraph == 0 and operator.type not in KERNELS]


def is_integer(graph: ModelGraph) -> bool:
    """Whether all activations are int8, or the integers beside them."""
    used = {i for o in graph.operators if o.subgraph == 0 for i in (*o.inputs, *o.outputs) if i >= 0}
    kinds = {graph.tensors[index].dtype for index in used if not graph.tensors[index].is_constant}
    return "int8" in kinds and kinds <= {"int8", "int16", "int32", "bool"}


def footprint(graph: ModelGraph) -> dict[str, int]:
    """Bytes of `arena`, `constants` and `code`; empty where the graph cannot be compiled to C."""
    if not is_integer(graph) or unknown(graph):
        return {}
    shapes = [tuple(abs(size) for size in tensor.shape) for tensor in graph.tensors]
    operators = [operator for operator in graph.operators if operator.subgraph == 0]
    code = {file: size for operator in operators for file, size in KERNELS[operator.type].items()}
    return {
        "arena": arena_bytes(graph),
        "constants": sum(_constant_bytes(operator, graph, shapes) for operator in operators),
        "code": _OWN_BYTES + _CALL_BYTES * len(operators) + sum(code.values()),
    }


def _constant_bytes(operator: Operator, graph: ModelGraph, shapes: list[Shape]) -> int:
    if KERNELS[operator.type] is _LOOKUP:
        return _TABLES.get(operator.type, 256)
    places = {"CONV_2D": 1, "FULLY_CONNECTED": 1, "DEPTHWISE_CONV_2D": 1, "TRANSPOSE_CONV": 1}
    if operator.type not in places or len(operator.inputs) < 2 or operator.inputs[1] < 0:
        constants = (index for index in operator.inputs if index >= 0 and graph.tensors[index].is_constant)
        return sum(_stored_bytes(graph.tensors[i], shapes[i]) for i in constants)
    weights = operator.inputs[1]
    shape, quantization = shapes[weights], graph.tensors[weights].quantization
    rows = shape[3] if operator.type == "DEPTHWISE_CONV_2D" and len(shape) == 4 else shape[0]
    depth = math.prod(shape) // max(1, rows)
    padded = depth if operator.type in ("DEPTHWISE_CONV_2D", "TRANSPOSE_CONV") else layouts.depth4(depth)
    per_channel = quantization is None or len(quantization.scales) > 1
    return rows * padded + (_CHANNEL_BYTES * rows if per_channel else 4 * rows + 5)


def _stored_bytes(tensor: TensorSpec, shape: Shape) -> int:
    """A constant operand: what is float still will be int8; 32-bit biases of a recurrent layer stay."""
    if tensor.dtype in ("int8", "float32"):
        return math.prod(shape)
    return 4 * math.prod(shape) if tensor.quantization is not None else 0

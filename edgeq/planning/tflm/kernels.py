"""What each kernel of TFLite Micro takes of the arena: parameters, persistent data, scratch buffers.

Sources: builtin_op_data.h (parameters), kernels/*.h and *.cc (Init: the operator's data; Prepare: the rest) of
tensorflow/tflite-micro, kernels/cmsis_nn/ and ARM-software/CMSIS-NN's get_buffer_size functions for `Build.cmsis`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from edgeq.planning.tflm import cmsis
from edgeq.planning.tflm.operands import Operands, elements
from edgeq.planning.tflm.structs import EVAL_TENSOR, Build, measure
from edgeq.types import TensorSpec

LUT_BYTES = 2 * 513
"""An int16 lookup table of 512 steps."""

Prepared = tuple[list[int], list[int]]
"""Bytes of persistent buffers and of scratch buffers, in the order in which Prepare asks for them."""


class Kernel(NamedTuple):
    """Layouts of an operator's parameters and data (empty: none), and what Prepare asks for beside them."""

    parameters: str = ""
    data: str = ""
    prepare: Callable[[Operands], Prepared] | None = None


class Needs(NamedTuple):
    """Bytes that one operator takes: its parameters with their alignment, its data, then what Prepare asks for."""

    parameters: tuple[int, int]
    data: int
    persistent: list[int]
    scratch: list[int]


def needs(operands: Operands) -> Needs:
    """What an operator takes; one that the table does not know counts as a middling one."""
    build = operands.build
    kernel = KERNELS.get(operands.operator.type, UNKNOWN)
    persistent, scratch = kernel.prepare(operands) if kernel.prepare else ([], [])
    data = measure(kernel.data, build)[0] if kernel.data else 0
    if build.cmsis != "none":
        beside = cmsis.beside(operands)
        data += beside.data
        persistent, scratch = persistent + beside.persistent, scratch + beside.scratch
    parameters = measure(kernel.parameters, build) if kernel.parameters else (0, 1)
    return Needs(parameters, data, persistent, scratch)


def _convolution(operands: Operands) -> Prepared:
    """A multiplier and a shift per output channel, of float operators too; int4 weights are unpacked."""
    channels = operands.channels()
    weights = operands.input(1)
    unpacked = [elements(weights)] if weights and weights.dtype == "int4" else []
    return [4 * channels, 4 * channels], unpacked


def _fully_connected(operands: Operands) -> Prepared:
    """Multipliers and shifts only where the weights have several scales."""
    weights = operands.input(1)
    if weights is None or operands.dtype not in ("int8", "int16"):
        return [], []
    unpacked = [elements(weights)] if weights.dtype == "int4" else []
    scales = len(weights.quantization.scales) if weights.quantization else 1
    return [4 * scales, 4 * scales] if scales > 1 else [], unpacked


def _transpose_convolution(operands: Operands) -> Prepared:
    width = {"int8": 4, "int16": 8}.get(operands.dtype_of(2), 0)
    channels = 4 * operands.channels()
    return [channels, channels], [width * operands.output_elements] if width else []


def _softmax(operands: Operands) -> Prepared:
    return [LUT_BYTES, LUT_BYTES] if operands.dtype == "int16" else [], []


def _mean(operands: Operands) -> Prepared:
    """Sums of 32 bits, of integers only."""
    return [], [4 * operands.output_elements] if operands.dtype in ("int8", "uint8", "int16") else []


def _extreme(operands: Operands) -> Prepared:
    """An index per axis, and the axes themselves."""
    axes = operands.input(1)
    return [], [4 * max(1, operands.rank), 4 * max(1, elements(axes) if axes else 1)]


def _svdf(operands: Operands) -> Prepared:
    features = operands.input(1)
    filters = features.shape[0] if features and features.shape else 1
    scratch = [4 * max(1, filters) * operands.batch]
    return [], scratch + ([4 * operands.output_elements] if operands.dtype == "int8" else [])


def _lstm(operands: Operands) -> Prepared:
    """Four gates of a time step, in the cell's data type."""
    width = 4 if operands.dtype == "float32" else 2
    state = operands.input(18)
    units = elements(state) if state else operands.output_elements
    return [], [width * units] * 4


def _batch_matmul(operands: Operands) -> Prepared:
    """Transposed copies of the operands stay in the arena: of the second unless it comes transposed."""
    quantized = [measure("8i", operands.build)[0]] if operands.dtype in ("int8", "int16") else []
    flags = operands.operator.attributes
    turned = [flags.get("adj_x", False), not flags.get("adj_y", False)]
    copies = [tensor for tensor, wanted in zip(operands.inputs, turned, strict=False) if wanted and tensor]
    return quantized + [size for tensor in copies for size in _copy(tensor, operands.build)], []


def _copy(tensor: TensorSpec, build: Build) -> list[int]:
    return [measure(EVAL_TENSOR, build)[0], 4 * (len(tensor.shape) + 1), tensor.size_bytes]


def _concatenation(operands: Operands) -> Prepared:
    """A scale and a zero point per input."""
    return [4 * len(operands.inputs)] * 2 if operands.dtype == "int8" else [], []


def _add_n(operands: Operands) -> Prepared:
    return [], [operands.build.pointer_bytes * len(operands.inputs)]


def _mirror_pad(operands: Operands) -> Prepared:
    return [], [4 * max(1, operands.rank)] * 2


def _assign_variable(operands: Operands) -> Prepared:
    """The first assignment of a resource variable allocates it."""
    value = operands.input(1)
    return [value.size_bytes] if value else [], []


CONVOLUTION = "4i3i2i2p2ii"
ARITHMETIC = "b14i2l5i"
COMPARISON = Kernel(data="7ib")
ELEMENTWISE = Kernel(data="4ib2e")
UNKNOWN = Kernel(parameters="8i", data="16i")

KERNELS: Mapping[str, Kernel] = {
    "ABS": ELEMENTWISE,
    "ADD": Kernel("eb", "b14i"),
    "ADD_N": Kernel("", "10i", _add_n),
    "ARG_MAX": Kernel("e"),
    "ARG_MIN": Kernel("e"),
    "ASSIGN_VARIABLE": Kernel("", "", _assign_variable),
    "AVERAGE_POOL_2D": Kernel("e4ie4i", "8i"),
    "BATCH_MATMUL": Kernel("3b", "3p3b", _batch_matmul),
    "BATCH_TO_SPACE_ND": Kernel(),
    "BROADCAST_ARGS": Kernel(),
    "BROADCAST_TO": Kernel(),
    "CALL_ONCE": Kernel("i", "ib"),
    "CAST": Kernel("2e"),
    "CEIL": Kernel(),
    "CONCATENATION": Kernel("ie", "b2ph2i2i", _concatenation),
    "CONV_2D": Kernel("e2ie2ie", CONVOLUTION, _convolution),
    "COS": Kernel(),
    "CUMSUM": Kernel("2b", "9i"),
    "DEPTH_TO_SPACE": Kernel("i"),
    "DEPTHWISE_CONV_2D": Kernel("e3ie2i", CONVOLUTION, _convolution),
    "DEQUANTIZE": Kernel("", "li3i"),
    "DIV": Kernel("e", "7i"),
    "ELU": Kernel("", "64i"),
    "EMBEDDING_LOOKUP": Kernel("", "2i"),
    "EQUAL": COMPARISON,
    "EXP": Kernel(),
    "EXPAND_DIMS": Kernel(),
    "FILL": Kernel(),
    "FLOOR": Kernel(),
    "FLOOR_DIV": Kernel("", "b14i"),
    "FLOOR_MOD": Kernel("", "b14i"),
    "FULLY_CONNECTED": Kernel("2e2be", "8ii2pb", _fully_connected),
    "GATHER": Kernel("2i"),
    "GATHER_ND": Kernel(),
    "GREATER": COMPARISON,
    "GREATER_EQUAL": COMPARISON,
    "HARD_SWISH": Kernel("", "3hihi"),
    "IF": Kernel("2i", "2i"),
    "L2_NORMALIZATION": Kernel("e", "i"),
    "L2_POOL_2D": Kernel("e4ie4i", "8i"),
    "LEAKY_RELU": Kernel("i", "6i"),
    "LESS": COMPARISON,
    "LESS_EQUAL": COMPARISON,
    "LOG": Kernel(),
    "LOG_SOFTMAX": Kernel("", "l7i5p"),
    "LOGICAL_AND": Kernel(),
    "LOGICAL_NOT": Kernel(),
    "LOGICAL_OR": Kernel(),
    "LOGISTIC": Kernel("", "5i"),
    "MAXIMUM": Kernel(),
    "MAX_POOL_2D": Kernel("e4ie4i", "8i"),
    "MEAN": Kernel("b", "9i", _mean),
    "MINIMUM": Kernel(),
    "MIRROR_PAD": Kernel("e", "5i", _mirror_pad),
    "MUL": Kernel("e", "9i"),
    "NEG": Kernel(),
    "NOT_EQUAL": COMPARISON,
    "PACK": Kernel("2i"),
    "PAD": Kernel("", "b5ib5ibi"),
    "PADV2": Kernel("", "b5ib5ibi"),
    "PRELU": Kernel("", "7i"),
    "QUANTIZE": Kernel("", "li3i"),
    "READ_VARIABLE": Kernel(),
    "REDUCE_MAX": Kernel("b", "9i", _extreme),
    "REDUCE_MIN": Kernel("b", "9i", _extreme),
    "RELU": Kernel("", "e6i"),
    "RELU6": Kernel("", "4i"),
    "RESHAPE": Kernel("9i"),
    "RESIZE_BILINEAR": Kernel("2b"),
    "RESIZE_NEAREST_NEIGHBOR": Kernel("2b"),
    "REVERSE_V2": Kernel(),
    "ROUND": Kernel(),
    "RSQRT": ELEMENTWISE,
    "SELECT_V2": Kernel(),
    "SHAPE": Kernel("e"),
    "SIN": Kernel(),
    "SLICE": Kernel(),
    "SOFTMAX": Kernel("i", "l7i5p", _softmax),
    "SPACE_TO_BATCH_ND": Kernel("", "i"),
    "SPACE_TO_DEPTH": Kernel("i"),
    "SPLIT": Kernel("i"),
    "SPLIT_V": Kernel("i"),
    "SQRT": Kernel(),
    "SQUARE": Kernel(),
    "SQUARED_DIFFERENCE": Kernel("", ARITHMETIC),
    "SQUEEZE": Kernel("9i"),
    "STRIDED_SLICE": Kernel("5ib", "b5ib5ib5i5hb"),
    "SUB": Kernel("eb", "b12i"),
    "SUM": Kernel("b", "9i", _mean),
    "SVDF": Kernel("ieb", "9i", _svdf),
    "TANH": Kernel("", "4i"),
    "TRANSPOSE": Kernel(),
    "TRANSPOSE_CONV": Kernel("e2iee", "14i2i2p", _transpose_convolution),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Kernel("e2i3b", "184i", _lstm),
    "UNPACK": Kernel("2i"),
    "VAR_HANDLE": Kernel("2p", "i"),
    "WHILE": Kernel("2i", "2ib"),
    "ZEROS_LIKE": Kernel(),
}
"""By TFLite's name. Struct by struct as in the sources of 2024 to 2026; where versions differ, the largest."""

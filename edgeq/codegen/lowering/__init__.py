"""Operators to calls of kernels. One that has no kernel is refused with its number and name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from edgeq.codegen import headers
from edgeq.codegen.lowering import activations, arithmetic, layers, moves, pools, recurrent, reductions, resize
from edgeq.codegen.lowering.operands import Operands
from edgeq.codegen.network import Network
from edgeq.codegen.program import Step
from edgeq.types import Operator

Lowering: TypeAlias = Callable[[Operands], Step]

LOWERINGS: Mapping[str, tuple[int, Lowering]] = {
    "CONV_2D": (8, layers.conv),
    "DEPTHWISE_CONV_2D": (7, layers.depthwise),
    "TRANSPOSE_CONV": (4, layers.transpose_conv),
    "FULLY_CONNECTED": (13, layers.dense),
    "AVERAGE_POOL_2D": (3, pools.average),
    "MAX_POOL_2D": (3, pools.maximum),
    "RESHAPE": (2, moves.same_bytes),
    "SQUEEZE": (2, moves.same_bytes),
    "EXPAND_DIMS": (1, moves.same_bytes),
    "TRANSPOSE": (6, moves.transpose),
    "SLICE": (6, moves.slice_),
    "STRIDED_SLICE": (8, moves.strided_slice),
    "SPLIT": (4, moves.split),
    "SPLIT_V": (3, moves.split_v),
    "UNPACK": (4, moves.unpack),
    "CONCATENATION": (5, moves.concatenate),
    "PACK": (4, moves.pack),
    "PAD": (5, moves.pad),
    "PADV2": (5, moves.pad),
    "GATHER": (7, moves.gather),
    "ADD": (5, arithmetic.add),
    "SUB": (6, arithmetic.subtract),
    "MUL": (7, arithmetic.multiply),
    "MAXIMUM": (4, arithmetic.maximum),
    "MINIMUM": (4, arithmetic.minimum),
    "PRELU": (1, arithmetic.prelu),
    "MEAN": (3, reductions.mean),
    "REDUCE_MAX": (3, reductions.largest),
    "ARG_MAX": (3, reductions.arg_max),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (4, recurrent.lstm),
    "SVDF": (4, recurrent.svdf),
    "LOGISTIC": (3, activations.logistic),
    "TANH": (3, activations.tanh),
    "HARD_SWISH": (1, activations.hard_swish),
    "RELU": (3, activations.relu),
    "RELU6": (3, activations.relu6),
    "RELU_N1_TO_1": (1, activations.relu_n1),
    "LEAKY_RELU": (2, activations.leaky_relu),
    "QUANTIZE": (3, activations.quantize),
    "DEQUANTIZE": (6, activations.dequantize),
    "CAST": (6, activations.cast),
    "RESIZE_NEAREST_NEIGHBOR": (4, resize.nearest),
    "RESIZE_BILINEAR": (4, resize.bilinear),
    "SOFTMAX": (3, pools.softmax),
}
"""By operator: the newest version whose meaning is known here, and how it is lowered."""


def lower(net: Network, operator: Operator) -> Step:
    """The calls that compute an operator; raises BuildError for one that has no kernel."""
    at = Operands(net, operator)
    if operator.type not in LOWERINGS:
        raise at.refused("has no kernel in C")
    newest, lowering = LOWERINGS[operator.type]
    if operator.version > newest:
        raise at.refused(f"has version {operator.version}; versions up to {newest} are known")
    step = lowering(at)
    missing = [call.function for call in step.calls if not headers.is_kernel(call.function)]
    if missing:
        raise at.refused(f"has no kernel in C: {missing[0]} is not there")
    return step

"""What the kernels of CMSIS-NN take beside or instead of the reference kernels.

Sources: kernels/cmsis_nn/*.cc of tensorflow/tflite-micro and the get_buffer_size functions of ARM-software/CMSIS-NN.
"""

from __future__ import annotations

from typing import NamedTuple

from edgeq.planning.tflm.operands import Operands
from edgeq.planning.tflm.structs import aligned

MVE_BLOCK = 124
"""Channels that a depthwise convolution with MVE does at once."""

GROWN = {
    "AVERAGE_POOL_2D": 4,
    "BATCH_MATMUL": 32,
    "CONV_2D": 4,
    "DEPTHWISE_CONV_2D": 4,
    "FULLY_CONNECTED": 24,
    "MAX_POOL_2D": 4,
    "PAD": 16,
    "SVDF": 8,
    "TRANSPOSE_CONV": 16,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 192,
}
"""Bytes that an operator's data is larger."""


class Beside(NamedTuple):
    """Bytes that an operator's data is larger, and of what it asks for beside the reference kernel's buffers."""

    data: int
    persistent: list[int]
    scratch: list[int]


def beside(operands: Operands) -> Beside:
    """What an operator takes beside what its reference kernel does."""
    name = operands.operator.type
    grown = GROWN.get(name, 0)
    if operands.dtype_of(2 if name == "TRANSPOSE_CONV" else 0) not in ("int8", "int16"):
        return Beside(grown, [], [])
    scratch = SCRATCH[name](operands) if name in SCRATCH else 0
    return Beside(grown, _row_sums(operands), [scratch] if scratch else [])


def _convolution(operands: Operands) -> int:
    """Columns of the input under the filter; none for 1x1 filters that move by one."""
    _, height, width, channels = _filter(operands)
    moves = operands.operator.attributes
    if height == width == 1 and moves.get("stride_w") == moves.get("stride_h") == 1:
        return 0
    in_lanes = operands.build.cmsis == "mve" and operands.dtype == "int8"
    return 4 * aligned(height * width * channels, 16 if in_lanes else 4)


def _depthwise(operands: Operands) -> int:
    """The filter unpacked; 3x3 filters of eight bits need none."""
    _, height, width, channels = _filter(operands)
    wide = operands.dtype == "int16"
    if operands.build.cmsis == "mve":
        return 4 * MVE_BLOCK * height * width * (2 if wide else 1)
    if not wide and (operands.build.cmsis == "plain" or height == width == 3):
        return 0
    return 2 * channels * height * width


def _fully_connected(operands: Operands) -> int:
    return 4 * operands.channels() if operands.build.cmsis == "mve" and operands.dtype == "int8" else 0


def _average_pool(operands: Operands) -> int:
    made = operands.outputs[0].shape if operands.outputs else ()
    return 4 * max(1, made[-1]) if made and operands.build.cmsis != "plain" else 0


def _transpose_convolution(operands: Operands) -> int:
    """Columns of the input under the filter."""
    _, height, width, channels = _filter(operands)
    return 4 * aligned(height * width * channels, 16)


def _row_sums(operands: Operands) -> list[int]:
    """Sums of the weights' rows, which MVE kernels keep."""
    return [4 * operands.channels()] if operands.build.cmsis == "mve" and operands.operator.type == "SVDF" else []


def _filter(operands: Operands) -> tuple[int, int, int, int]:
    weights = operands.input(1)
    if weights is None or len(weights.shape) != 4:
        return 1, 1, 1, 1
    count, height, width, channels = (max(1, size) for size in weights.shape)
    return count, height, width, channels


SCRATCH = {
    "AVERAGE_POOL_2D": _average_pool,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "TRANSPOSE_CONV": _transpose_convolution,
}

"""What the kernels of CMSIS-NN take beside or instead of the reference kernels.

Sources: kernels/cmsis_nn/*.cc of tensorflow/tflite-micro and the get_buffer_size functions of ARM-software/CMSIS-NN.
"""

from __future__ import annotations

from typing import NamedTuple

from edgeq.planning.tflm.operands import Operands
from edgeq.planning.tflm.structs import aligned
from edgeq.types import TensorSpec

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


class Extra(NamedTuple):
    """Bytes of the operator's data, and of what it asks for beside the reference kernel's buffers."""

    data: int
    persistent: list[int]
    scratch: list[int]


def extra(operands: Operands, kind: str, data: int) -> Extra:
    """What an operator takes with CMSIS-NN of a `kind`: plain, dsp or mve."""
    grown = data + GROWN.get(operands.operator.type, 0)
    if operands.dtype_of(2 if operands.operator.type == "TRANSPOSE_CONV" else 0) not in ("int8", "int16"):
        return Extra(grown, [], [])
    sizes = SCRATCH.get(operands.operator.type)
    scratch = [size for size in (sizes(operands, kind) if sizes else []) if size > 0]
    return Extra(grown, _row_sums(operands, kind), scratch)


def _convolution(operands: Operands, kind: str) -> list[int]:
    """Columns of the input under the filter; none for 1x1 filters that move by one."""
    _, height, width, channels = _filter(operands)
    moves = operands.operator.attributes
    if height == width == 1 and moves.get("stride_w") == moves.get("stride_h") == 1:
        return []
    columns = height * width * channels
    if kind == "mve" and operands.dtype == "int8":
        return [4 * aligned(columns, 16)]
    return [4 * aligned(columns, 4)]


def _depthwise(operands: Operands, kind: str) -> list[int]:
    _, height, width, channels = _filter(operands)
    moves = operands.operator.attributes
    wide = operands.dtype == "int16"
    if moves.get("depth_multiplier", 1) != 1 or not _is_dense(moves.get("dilation_w_factor", 1)):
        return []
    if kind == "mve":
        return [4 * MVE_BLOCK * height * width * (2 if wide else 1)]
    if not wide and (kind == "plain" or height == width == 3):
        return []
    return [2 * channels * height * width]


def _is_dense(dilation: object) -> bool:
    return dilation == 1


def _fully_connected(operands: Operands, kind: str) -> list[int]:
    return [4 * operands.channels()] if kind == "mve" and operands.dtype == "int8" else []


def _average_pool(operands: Operands, kind: str) -> list[int]:
    made = operands.outputs[0].shape if operands.outputs else ()
    return [4 * max(1, made[-1])] if made and kind in ("dsp", "mve") else []


def _transpose_convolution(operands: Operands, kind: str) -> list[int]:
    """Columns of the input under the filter, and the filter turned round."""
    count, height, width, channels = _filter(operands)
    return [4 * aligned(height * width * channels, 16), count * height * width * channels]


def _row_sums(operands: Operands, kind: str) -> list[int]:
    """Sums of the weights' rows, which MVE kernels keep."""
    return [4 * operands.channels()] if kind == "mve" and operands.operator.type == "SVDF" else []


def _filter(operands: Operands) -> tuple[int, int, int, int]:
    weights: TensorSpec | None = operands.inputs[1] if len(operands.inputs) > 1 else None
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

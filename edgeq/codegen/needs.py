"""The memory of each operator beside its tensors, from shapes alone: so the arena of a plan is known, too.

Every number is a promise of a kernel in `eq_kernels.h`: its scratch memory, and how its output may run into its input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from edgeq.codegen import geometry, layouts
from edgeq.codegen.layouts import Window
from edgeq.codegen.program import Needs
from edgeq.models.tensors import BITS
from edgeq.types import ModelGraph, Operator, Shape

Shapes: TypeAlias = Sequence[Shape]
Rule: TypeAlias = Callable[[Operator, ModelGraph, Shapes], Needs]

_MAX_PIXELS = 1 << 21
SCRATCH: Mapping[int, Callable[..., int]] = {
    1: layouts.conv_scratch_bytes,
    2: layouts.wide_conv_scratch_bytes,
    4: layouts.conv_scratch_bytes,
}
"""By bytes of an activation; float ones are planned as the int8 that they become."""


def needs(operator: Operator, graph: ModelGraph, shapes: Shapes) -> Needs:
    """What an operator needs; nothing for one that `lowering` refuses."""
    rule = RULES.get(operator.type)
    try:
        return rule(operator, graph, shapes) if rule else Needs()
    except (ValueError, IndexError):
        return Needs()  # shapes that do not fit together: lowering says so with the operator's name


def _width(operator: Operator, graph: ModelGraph) -> int:
    """Bytes of an element of the first operand."""
    return max(1, BITS.get(graph.tensors[operator.inputs[0]].dtype, 8) // 8)


def _convolution(operator: Operator, graph: ModelGraph, shapes: Shapes) -> Needs:
    image, weights = shapes[operator.inputs[0]], shapes[operator.inputs[1]]
    groups = image[3] // weights[3]
    window = geometry.window(operator, image, (weights[1], weights[2]), weights[0])
    width = _width(operator, graph)
    scratch = SCRATCH[width](weights[1], weights[2], image[3], groups)
    lags = _overlap(operator, window, layouts.conv_overlap, width) if groups == 1 else {}
    return Needs(scratch_bytes=scratch, lags=lags)


def _depthwise(operator: Operator, graph: ModelGraph, shapes: Shapes) -> Needs:
    width = _width(operator, graph)
    image, weights = shapes[operator.inputs[0]], shapes[operator.inputs[1]]
    if weights[3] != image[3]:  # a depth multiplier: a convolution with a group for each channel
        return Needs(scratch_bytes=SCRATCH[width](weights[1], weights[2], image[3], image[3]))
    window = geometry.window(operator, image, (weights[1], weights[2]), image[3])
    return Needs(lags=_overlap(operator, window, layouts.depthwise_overlap, _width(operator, graph)))


def _pool(operator: Operator, graph: ModelGraph, shapes: Shapes) -> Needs:
    """Written like a depthwise convolution: pixel by pixel, channel by channel."""
    image = shapes[operator.inputs[0]]
    kernel = (_integer(operator, "filter_height"), _integer(operator, "filter_width"))
    window = geometry.window(operator, image, kernel, image[3])
    return Needs(lags=_overlap(operator, window, layouts.depthwise_overlap, _width(operator, graph)))


def _dense(operator: Operator, graph: ModelGraph, shapes: Shapes) -> Needs:
    """A row is read wholly before it is written: what is written may only not reach the next row."""
    out_c, in_c = shapes[operator.inputs[1]]
    rows = math.prod(shapes[operator.inputs[0]]) // in_c
    scratch_bytes = layouts.dense_scratch_bytes(in_c)
    width = _width(operator, graph)
    if rows == 1:
        # int8 is widened from the front: the row may lie in the second half of what it becomes. int16 is moved.
        into = in_c if width == 1 else -2 * in_c
        lags = _lag(operator, -in_c * width)
        return Needs(scratch_bytes=scratch_bytes, scratch_lags={operator.inputs[0]: into}, lags=lags)
    behind = max((out_c - in_c) * row for row in (1, rows - 1)) * width
    return Needs(scratch_bytes=scratch_bytes, lags=_lag(operator, behind))


def _lstm(operator: Operator, _: ModelGraph, shapes: Shapes) -> Needs:
    """Room for a widened input and a widened state."""
    in_c, cells = shapes[operator.inputs[0]][2], shapes[operator.inputs[18]][-1]
    return Needs(scratch_bytes=layouts.lstm_scratch_bytes(in_c, cells))


def _elementwise(operator: Operator, graph: ModelGraph, shapes: Shapes) -> Needs:
    """Onto any operand that has the output's shape and width."""
    output = operator.outputs[0]
    width = BITS.get(graph.tensors[output].dtype)
    same = (
        tensor
        for tensor in operator.inputs
        if tensor >= 0 and shapes[tensor] == shapes[output] and BITS.get(graph.tensors[tensor].dtype) == width
    )
    return Needs(lags={(tensor, output): 0 for tensor in same})


def _same_bytes(operator: Operator, graph: ModelGraph, _: Shapes) -> Needs:
    """The output is the input under another shape; a constant is copied."""
    if graph.tensors[operator.inputs[0]].is_constant:
        return Needs()
    return Needs(shares={operator.outputs[0]: operator.inputs[0]})


def _overlap(
    operator: Operator, window: Window, count: Callable[[Window], int], width: int
) -> dict[tuple[int, int], int]:
    """A window's lag, which is found pixel by pixel: not for images that no microcontroller holds."""
    if window.batches * window.out_h * window.out_w > _MAX_PIXELS:
        return {}
    return _lag(operator, count(window) * width)


def _lag(operator: Operator, size_bytes: int) -> dict[tuple[int, int], int]:
    return {(operator.inputs[0], operator.outputs[0]): size_bytes}


def _integer(operator: Operator, name: str) -> int:
    value = operator.attributes.get(name)
    if not isinstance(value, int):
        raise ValueError(name)
    return value


ELEMENTWISE = (
    *("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "PRELU", "LOGISTIC", "TANH", "HARD_SWISH", "RELU", "RELU6"),
    *("RELU_N1_TO_1", "LEAKY_RELU", "QUANTIZE", "SOFTMAX"),
)
RULES: Mapping[str, Rule] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), _same_bytes),
}

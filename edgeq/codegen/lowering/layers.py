"""Layers with weights: CONV_2D, DEPTHWISE_CONV_2D, TRANSPOSE_CONV, FULLY_CONNECTED."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeq.codegen import geometry, layouts, multipliers
from edgeq.codegen.layouts import Window
from edgeq.codegen.lowering.channels import Channels, settle
from edgeq.codegen.lowering.operands import Operands
from edgeq.codegen.multipliers import Multiplier
from edgeq.codegen.program import Call, Scratch, Step, Struct, Table, Value
from edgeq.types import Shape

Multipliers = Callable[[float, Sequence[float], float], list[Multiplier]]


_MOST_TAPS = 511
"""Of a 16-bit depthwise kernel, so that 32 bits hold the products' sum."""


class _Made(NamedTuple):
    """How accumulators become outputs, weights (channels first), biases, whether accumulators stay narrow."""

    output: Struct
    weights: NDArray[Any]
    bias: NDArray[np.int32] | NDArray[np.int64]
    is_narrow: bool
    suffix: str

    @property
    def is_wide(self) -> bool:
        return self.suffix == "s16"


def conv(at: Operands) -> Step:
    """CONV_2D, in groups where the weights are narrower than the image."""
    image, weights = _image_and_weights(at, at.index(0))
    if weights.shape[3] < 1 or image[3] % weights.shape[3] or weights.shape[0] % (image[3] // weights.shape[3]):
        raise at.refused(f"has weights of shape {list(weights.shape)} over {image[3]} channels")
    window = _window(at, image, weights.shape[1:3], weights.shape[0])
    groups = image[3] // weights.shape[3]
    made = _made(at, at.index(0), 2, weights, multipliers.conv)
    return _convolution(at, window, made, layouts.pack_conv(made.weights, groups, wide=made.is_wide), groups)


def depthwise(at: Operands) -> Step:
    """DEPTHWISE_CONV_2D; a depth multiplier above 1 makes it a convolution of one group for each channel."""
    image, weights = _image_and_weights(at, at.index(0))
    if weights.shape[0] != 1 or weights.shape[3] % image[3]:
        raise at.refused(f"has weights of shape {list(weights.shape)} over {image[3]} channels")
    window = _window(at, image, weights.shape[1:3], weights.shape[3])
    made = _made(at, at.index(0), 2, np.moveaxis(weights[0], 2, 0), multipliers.conv, axis=3)
    weights = np.moveaxis(made.weights, 0, 2)[np.newaxis]
    if weights.shape[3] != image[3]:
        packed = layouts.pack_conv(layouts.multiplied_depthwise(weights, image[3]), image[3], wide=made.is_wide)
        return _convolution(at, window, made, packed, image[3])
    if made.is_wide and math.prod(weights.shape[1:3]) > _MOST_TAPS:
        raise at.refused(f"has a kernel of {math.prod(weights.shape[1:3])} taps; the 16-bit one takes {_MOST_TAPS}")
    packed = layouts.pack_depthwise(weights, wide=made.is_wide)
    arguments = (at.read(0), Table(packed), Table(made.bias), at.written())
    params = _params(at, at.index(0), window, 1, made.output)
    return Step(calls=(Call(f"eq_depthwise_conv2d_{made.suffix}", (params, *arguments)),), is_narrow=made.is_narrow)


def transpose_conv(at: Operands) -> Step:
    """TRANSPOSE_CONV: operand 0 is the output's shape, 1 the weights, 2 the image, 3 the bias."""
    image, weights = _image_and_weights(at, at.index(2))
    output = at.net.shape(at.output())
    if weights.shape[3] != image[3] or len(output) != 4 or output[3] != weights.shape[0] or output[0] != image[0]:
        raise at.refused(f"has weights of shape {list(weights.shape)} between {list(image)} and {list(output)}")
    with at.scaling():
        window = geometry.transposed(at.operator, image, output, weights.shape[1:3])
    made = _made(at, at.index(2), 3, weights, multipliers.conv)
    params = _params(at, at.index(2), window, 1, made.output)
    arguments = (at.read(2), Table(np.ascontiguousarray(made.weights)), Table(made.bias), at.written())
    return Step(calls=(Call(f"eq_transpose_conv_{made.suffix}", (params, *arguments)),), is_narrow=made.is_narrow)


def dense(at: Operands) -> Step:
    """FULLY_CONNECTED: all axes but the last are rows."""
    if at.text("weights_format", "DEFAULT") != "DEFAULT":
        raise at.refused(f"has weights in the format {at.text('weights_format')}")
    weights = _weights(at, 2)
    out_c, in_c = weights.shape
    values = math.prod(at.shape(0))
    if values % in_c or math.prod(at.net.shape(at.output())) != values // in_c * out_c:
        raise at.refused(f"multiplies {list(at.shape(0))} with weights of shape {list(weights.shape)}")
    made = _made(at, at.index(0), 2, weights, multipliers.dense)
    fields = {"batches": values // in_c, "in_c": in_c, "out_c": out_c, "in_offset": -at.zero_point(at.index(0))}
    params = Struct("eq_fully_connected_params", {**fields, "out": made.output})
    packed = layouts.pack_dense(made.weights, wide=made.is_wide)
    arguments = (at.read(0), Table(packed), Table(made.bias), at.written(), Scratch())
    return Step(calls=(Call(f"eq_fully_connected_{made.suffix}", (params, *arguments)),), is_narrow=made.is_narrow)


def _convolution(at: Operands, window: Window, made: _Made, packed: NDArray[np.int8], groups: int) -> Step:
    params = _params(at, at.index(0), window, groups, made.output)
    arguments = (at.read(0), Table(packed), Table(made.bias), at.written(), Scratch())
    return Step(calls=(Call(f"eq_conv2d_{made.suffix}", (params, *arguments)),), is_narrow=made.is_narrow)


def _image_and_weights(at: Operands, image: int) -> tuple[Shape, NDArray[Any]]:
    at.wants_rank(4, image)
    return at.net.shape(image), _weights(at, 4)


def _weights(at: Operands, rank: int) -> NDArray[Any]:
    weights = at.constant(1)
    if weights.dtype != np.int8 or weights.ndim != rank:
        raise at.refused(f"has weights of {weights.dtype} with {weights.ndim} axes; its kernel takes int8 with {rank}")
    if any(at.quantization(at.index(1)).zero_points):
        raise at.refused("has weights with a zero point; tflite-micro refuses them too")
    return weights


def _window(at: Operands, image: Shape, kernel: Sequence[int], out_c: int) -> Window:
    with at.scaling():
        window = geometry.window(at.operator, image, (kernel[0], kernel[1]), out_c)
    at.wants_shape(at.output(), (image[0], window.out_h, window.out_w, out_c))
    return window


def _params(at: Operands, image: int, window: Window, groups: int, output: Struct) -> Struct:
    fields: dict[str, Value] = {**window._asdict(), "groups": groups, "in_offset": -at.zero_point(image), "out": output}
    return Struct("eq_conv2d_params", fields)


def _made(
    at: Operands, image: int, bias_place: int, weights: NDArray[Any], make: Multipliers, *, axis: int = 0
) -> _Made:
    """What the kernel takes of weights with their channels on the first axis; `axis` is that of the file's scales."""
    output = at.output()
    suffix, grid = at.suffix(image, output), at.quantization(at.index(1))
    if len(grid.scales) not in (1, len(weights)) or (len(grid.scales) > 1 and grid.axis != axis):
        raise at.refused(f"has {len(grid.scales)} scales along axis {grid.axis} of its weights")
    with at.scaling():
        factors = make(at.scale(image), grid.scales, at.scale(output))
    if suffix == "s16":
        return _made_wide(at, bias_place, weights, factors)
    (low, high), zero = clamp(at, output), at.zero_point(output)
    found = Channels(weights, _bias(at, bias_place, len(weights)), factors)
    layer = settle(found, at.zero_point(image), (low - zero, high - zero))
    bounds = multipliers.accumulator_bounds(layer.weights, layer.bias, at.zero_point(image))
    is_narrow = multipliers.is_narrow(layer.multipliers, bounds)
    return _Made(_output(at, layer.multipliers), layer.weights, layer.bias, is_narrow, suffix)


def _made_wide(at: Operands, place: int, weights: NDArray[Any], factors: list[Multiplier]) -> _Made:
    """The same for int16, whose accumulators and biases have 64 bits."""
    if not at.has(place) and at.operator.type == "CONV_2D":
        raise at.refused("of int16 has no bias; its kernel, as the reference, wants one of 64 bits")
    bias = at.constant(place) if at.has(place) else np.zeros(len(weights), np.int64)
    if bias.dtype != np.int64 or bias.size != len(weights):
        raise at.refused(f"has a bias of {bias.size} {bias.dtype} for {len(weights)} channels; with int16 it has int64")
    with at.scaling():
        made = [multipliers.wide_output(one) for one in factors]
    return _Made(_output(at, made), weights, np.ascontiguousarray(bias.ravel(), np.int64), True, "s16")


def _output(at: Operands, factors: Sequence[Multiplier]) -> Struct:
    low, high = clamp(at, at.output())
    fields: dict[str, Value] = {
        "multiplier": Table(np.array([one.mantissa for one in factors], np.int32)),
        "right_shift": Table(np.array([one.right_shift for one in factors], np.int8)),
        "step": int(len(factors) > 1),
        "offset": at.zero_point(at.output()),
        "act_min": low,
        "act_max": high,
    }
    return Struct("eq_output_s8", fields)


def _bias(at: Operands, place: int, channels: int) -> NDArray[np.int32]:
    if not at.has(place):
        return np.zeros(channels, np.int32)
    values = at.constant(place)
    if values.dtype != np.int32 or values.size != channels:
        raise at.refused(f"has a bias of {values.size} {values.dtype} for {channels} channels")
    return np.ascontiguousarray(values.ravel(), np.int32)


def clamp(at: Operands, output: int) -> tuple[int, int]:
    """Limits of a fused activation on the output's grid."""
    activation = at.text("fused_activation_function", "NONE")
    try:
        return multipliers.clamp(activation, at.scale(output), at.zero_point(output), at.dtype(output))
    except KeyError as error:
        raise at.refused(f"has the fused activation {activation}, which has no integer form") from error

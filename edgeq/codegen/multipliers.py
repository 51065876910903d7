"""Real scales as the integers that the firmware's kernels take: the twin of each operator's preparation.

The arithmetic is tflite-micro's, step by step: where it multiplies in float32 before it widens to float64, so does
this module. Shifts are right shifts (the negative of TFLite's), as in `eq_kernels.h`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_INT32_MAX = 2**31 - 1
_ADD_LEFT_SHIFT = {"int8": 20, "int16": 15}
_SOFTMAX_INTEGER_BITS = 5
_RANGES = {"int8": (-128, 127), "int16": (-32768, 32767)}
_CLAMPS: dict[str, tuple[float | None, float | None]] = {
    "NONE": (None, None),
    "RELU": (0.0, None),
    "RELU_N1_TO_1": (-1.0, 1.0),
    "RELU6": (0.0, 6.0),
}


class Multiplier(NamedTuple):
    """mantissa * 2^(-31 - right_shift); the mantissa is 0 or in 2^30 .. 2^31 - 1."""

    mantissa: int
    right_shift: int


def multiplier(real: float) -> Multiplier:
    """A positive real factor as mantissa and shift (TFLite's QuantizeMultiplier).

    Raises ValueError where the factor is negative, not finite, or needs a left shift above 31.
    """
    if not (math.isfinite(real) and real >= 0):
        raise ValueError(f"a multiplier is a finite number, 0 or more, not {real}")
    if real == 0:
        return Multiplier(0, 0)
    fraction, shift = math.frexp(real)
    mantissa = math.floor(fraction * 2**31 + 0.5)
    if mantissa == 2**31:
        mantissa, shift = mantissa // 2, shift + 1
    if shift < -31:
        return Multiplier(0, 0)
    if shift > 31:
        raise ValueError(f"a multiplier of {real:.3g} needs a left shift above 31")
    return Multiplier(mantissa, -shift)


def wide(value: float) -> float:
    """A scale as stored, in float32, widened to float64."""
    return float(np.float32(value))


def conv(input_scale: float, weight_scales: Sequence[float], output_scale: float) -> list[Multiplier]:
    """One multiplier for each scale of the weights: CONV_2D, DEPTHWISE_CONV_2D, TRANSPOSE_CONV, per-channel dense."""
    return [multiplier(wide(input_scale) * wide(scale) / wide(output_scale)) for scale in weight_scales]


def dense(input_scale: float, weight_scales: Sequence[float], output_scale: float) -> list[Multiplier]:
    """FULLY_CONNECTED; with one scale for all weights the product of the scales is rounded to float32."""
    if len(weight_scales) > 1:
        return conv(input_scale, weight_scales, output_scale)
    with np.errstate(over="ignore", under="ignore"):
        product = float(np.float32(input_scale) * np.float32(weight_scales[0]))
    return [multiplier(product / wide(output_scale))]


def wide_output(made: Multiplier) -> Multiplier:
    """A layer's multiplier for a 64-bit accumulator: 16 bits, and the whole right shift behind the product.

    Raises ValueError where it needs a left shift above 7, which the reference refuses.
    """
    if made.right_shift < -7:
        raise ValueError(f"a multiplier for 64-bit accumulators needs a left shift of {-made.right_shift}, above 7")
    return Multiplier(min((made.mantissa + (1 << 15)) >> 16, 0x7FFF), made.right_shift + 15)


def is_narrow(multipliers: Sequence[Multiplier], bounds: Sequence[int]) -> bool:
    """Whether layers with these largest accumulators may be compiled with EQ_NARROW_ACCUMULATORS."""
    return all(one.right_shift >= 0 for one in multipliers) and all(bound < 2**30 for bound in bounds)


def accumulator_bounds(
    weights: NDArray[Any], bias: NDArray[Any], input_zero_point: int, dtype: str = "int8"
) -> list[int]:
    """Largest possible |accumulator| of each output channel; the weights' first axis is the channel."""
    low, high = _RANGES[dtype]
    reach = max(high - input_zero_point, input_zero_point - low)
    sums = np.abs(weights.astype(np.int64)).reshape(len(weights), -1).sum(axis=1)
    return [int(one) for one in sums * reach + np.abs(bias.astype(np.int64))]


def clamp(activation: str, scale: float, zero_point: int, dtype: str = "int8") -> tuple[int, int]:
    """Smallest and largest output under a fused activation. Raises KeyError for one that has no integer form."""
    low, high = _CLAMPS[activation]
    bottom, top = _RANGES[dtype]
    at_low = bottom if low is None else max(bottom, _grid(low, scale, zero_point))
    at_high = top if high is None else min(top, _grid(high, scale, zero_point))
    return at_low, at_high


def _grid(real: float, scale: float, zero_point: int) -> int:
    steps = float(np.float32(real) / np.float32(scale))
    return zero_point + int(math.copysign(math.floor(abs(steps) + 0.5), steps))


class Add(NamedTuple):
    """ADD's and SUB's three multipliers."""

    a: Multiplier
    b: Multiplier
    out: Multiplier


def add(a_scale: float, b_scale: float, output_scale: float, dtype: str = "int8") -> Add:
    """ADD and SUB. Raises ValueError where a factor is 1 or more, which the reference refuses too."""
    twice = 2 * max(wide(a_scale), wide(b_scale))
    reals = (wide(a_scale) / twice, wide(b_scale) / twice, twice / ((1 << _ADD_LEFT_SHIFT[dtype]) * wide(output_scale)))
    made = [multiplier(real) for real in reals]
    if any(one.right_shift < 0 for one in made):
        raise ValueError("the output's scale is too small for the operands' scales")
    return Add(*made)


def mul(a_scale: float, b_scale: float, output_scale: float) -> Multiplier:
    """MUL."""
    return multiplier(wide(a_scale) * wide(b_scale) / wide(output_scale))


class Prelu(NamedTuple):
    """PRELU's multipliers for inputs of either sign."""

    positive: Multiplier
    negative: Multiplier


def prelu(input_scale: float, alpha_scale: float, output_scale: float) -> Prelu:
    """PRELU."""
    ratio = wide(input_scale) / wide(output_scale)
    return Prelu(multiplier(ratio), multiplier(wide(input_scale) * wide(alpha_scale) / wide(output_scale)))


def requantize(input_scale: float, output_scale: float) -> Multiplier:
    """QUANTIZE between integer types."""
    return multiplier(wide(input_scale) / wide(output_scale))


class Softmax(NamedTuple):
    """SOFTMAX's factor, as mantissa and LEFT shift, and the smallest difference to the largest input that counts."""

    multiplier: int
    left_shift: int
    diff_min: int


def softmax(input_scale: float, beta: float) -> Softmax:
    """SOFTMAX of int8. Raises ValueError where beta * scale is so small that the reference refuses it."""
    real = min(wide(beta) * wide(input_scale) * 2 ** (31 - _SOFTMAX_INTEGER_BITS), _INT32_MAX * 1.0)
    if real <= 1:
        raise ValueError("the input's scale is too small for an integer softmax")
    made = multiplier(real)
    left = -made.right_shift
    radius = ((1 << _SOFTMAX_INTEGER_BITS) - 1) * (1 << (31 - _SOFTMAX_INTEGER_BITS)) / (1 << left)
    return Softmax(made.mantissa, left, -math.floor(radius))


class SoftmaxS16(NamedTuple):
    """SOFTMAX's factor for int16."""

    multiplier: int
    right_shift: int


def softmax_s16(input_scale: float, beta: float) -> SoftmaxS16:
    """SOFTMAX of int16: differences of -65535 are -10 in the table of exponentials.

    Raises ValueError for a scale so large that the reference's 32 bits overflow.
    """
    made = multiplier(wide(input_scale) * wide(beta) / (10.0 / 65535.0))
    if made.right_shift < -14:
        raise ValueError("the input's scale is too large for a 16-bit softmax")
    return SoftmaxS16(*made)


class Curve(NamedTuple):
    """What takes an int16 to the grid of the curves' table."""

    multiplier: int
    round: int
    right_shift: int


def curve(input_scale: float, *, doubles: bool = False) -> Curve:
    """LOGISTIC of int16; TANH with `doubles`, for which 2^-11 is a plain scale too.

    Raises ValueError for a scale above 8/3, whose factor has no 16 bits.
    """
    shift = power_of_two(input_scale)
    if shift is not None and shift + 12 in ((0, 1) if doubles else (0,)):
        return Curve(3 << (shift + 12), 0, 0)
    factor, right = wide(input_scale) * 4096.0 * 3.0, 0
    while factor <= 32767.0 / 2.0 and right <= 30:
        factor, right = factor * 2.0, right + 1
    if factor > 32767:
        raise ValueError("the input's scale is too large for a 16-bit curve")
    return Curve(int(factor), (1 << right) >> 1, right)


def power_of_two(scale: float) -> int | None:
    """The logarithm of a scale that is a power of two, as near as the reference looks; else None."""
    power = math.log2(scale)
    return round(power) if abs(power - round(power)) < 1e-3 else None


class F32(NamedTuple):
    """A scale as a number of 24 bits times a power of two."""

    mantissa: int
    exponent: int


def f32(scale: float) -> F32:
    """QUANTIZE from float32 and DEQUANTIZE to it; raises ValueError for a scale outside of 2^-60 to 2^60."""
    fraction, exponent = math.frexp(wide(scale))
    if not -60 < exponent < 60:
        raise ValueError(f"a scale of {scale:.3g} is out of range")
    return F32(int(fraction * 2**24), exponent - 24)


def mean(input_scale: float, output_scale: float, count: int) -> Multiplier:
    """MEAN over `count` values: the division is part of the multiplier."""
    plain = requantize(input_scale, output_scale)
    shift = min(count.bit_length() - 1, 32, 31 - plain.right_shift)
    return Multiplier((plain.mantissa << shift) // count, plain.right_shift + shift)


class Svdf(NamedTuple):
    """SVDF's two multipliers."""

    feature: Multiplier
    out: Multiplier


def svdf(input_scale: float, feature_scale: float, state_scale: float, time_scale: float, output_scale: float) -> Svdf:
    """SVDF; its factors are float32."""
    first, feature, state = np.float32(input_scale), np.float32(feature_scale), np.float32(state_scale)
    into, out = first * feature / state, state * np.float32(time_scale) / np.float32(output_scale)
    return Svdf(multiplier(float(into)), multiplier(float(out)))


class Lstm(NamedTuple):
    """An LSTM's products behind its gates; `cell_clip` is 0 without clipping."""

    forget: Multiplier
    input: Multiplier
    hidden: Multiplier
    cell_power: int
    cell_clip: int


def lstm(cell_scale: float, hidden_scale: float, cell_clip: float = 0.0) -> Lstm:
    """UNIDIRECTIONAL_SEQUENCE_LSTM; each gate's own two are `dense(scale, [weight_scale], 2**-12)`.

    Raises ValueError where the cell's scale is no power of two.
    """
    power = round(math.log2(cell_scale))
    if abs(math.log2(cell_scale) - power) > 1e-3:
        raise ValueError(f"the cell state's scale {cell_scale} is no power of two")
    gate, cell = 2.0**-15, wide(cell_scale)
    clip = int(max(min(wide(cell_clip) / cell, 32767.0), -32768.0))
    made = (
        multiplier(gate * cell / cell),
        multiplier(gate * gate / cell),
        multiplier(gate * gate / wide(hidden_scale)),
    )
    return Lstm(*made, power + 12, clip)

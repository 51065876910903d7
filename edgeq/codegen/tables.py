"""Tables made at generation time: what an int8 operator of one operand answers to each of the 256 inputs, and
the coordinates of resizing. `table[input + 128]`, bit for bit what tflite-micro's reference kernels compute.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeq.codegen import fixed_point, multipliers
from edgeq.codegen.fixed_point import rescale, round_shift
from edgeq.codegen.multipliers import Multiplier, wide

Table = NDArray[np.int8]
_INPUTS = range(-128, 128)
_INTEGER_BITS = 4
_INT16 = (-32768, 32767)
Real: TypeAlias = "type[np.float32] | type[np.float64]"


class Grid(NamedTuple):
    """Scale and zero point of a tensor."""

    scale: float
    zero_point: int


def _table(answer: Callable[[int], int]) -> Table:
    """The 256 answers, clamped to a byte."""
    return np.array([max(-128, min(127, answer(value))) for value in _INPUTS], np.int8)


# --- curves ----------------------------------------------------------------------------------


def logistic(source: Grid) -> Table:
    """LOGISTIC; the output's grid is 1/256 and -128, as the operator wants."""
    return _curve(source, lambda q4: round_shift(fixed_point.logistic(q4, _INTEGER_BITS), 31 - 8) - 128)


def tanh(source: Grid) -> Table:
    """TANH; the output's grid is 1/128 and 0."""
    return _curve(source, lambda q4: round_shift(fixed_point.tanh(q4, _INTEGER_BITS), 31 - 7))


def _curve(source: Grid, answer: Callable[[int], int]) -> Table:
    """A function of the input in Q4.27; outside its range it is at an end."""
    fraction, left = math.frexp(wide(source.scale) * 2 ** (31 - _INTEGER_BITS))
    mantissa = math.floor(fraction * 2**31 + 0.5)
    radius = math.floor(((1 << _INTEGER_BITS) - 1) * 2 ** (31 - _INTEGER_BITS) / 2.0**left)

    def at(value: int) -> int:
        x = value - source.zero_point
        if x <= -radius:
            return -128
        return 127 if x >= radius else answer(rescale(x, mantissa, -left))

    return _table(at)


def hard_swish(source: Grid, output: Grid) -> Table:
    """HARD_SWISH.

    Raises ValueError where the output's scale is below the input's / 128, which the reference refuses, and where it is
    so large that the reference's 16-bit arithmetic overflows.
    """
    fine = np.float32(1 / 128) * np.float32(source.scale)
    out_factor, out_exponent = _int16_multiplier(float(fine / np.float32(output.scale)))
    relu_factor, relu_exponent = _int16_multiplier(float(fine / (np.float32(3) / np.float32(32768))))
    if not -15 <= out_exponent <= 0:
        raise ValueError(f"the output's scale is too {'small' if out_exponent > 0 else 'large'} for the input's")

    def at(value: int) -> int:
        x = (value - source.zero_point) * 128
        relu = _reluish(x, relu_factor, relu_exponent)
        scaled = _high16(x, out_factor)
        return round_shift(int(relu * scaled / 2**15), -out_exponent) + output.zero_point

    return _table(at)


def _int16_multiplier(real: float) -> tuple[int, int]:
    """A factor as 16-bit mantissa and left shift."""
    mantissa, right_shift = multipliers.multiplier(real)
    return min((mantissa + (1 << 15)) >> 16, _INT16[1]), -right_shift


def _high16(a: int, b: int) -> int:
    return (a * b + (1 << 14)) >> 15


def _saturate16(value: int) -> int:
    return max(_INT16[0], min(_INT16[1], value))


def _reluish(x: int, factor: int, exponent: int) -> int:
    """(x / 3 clamped to [-1, 1] + 1) / 2 in Q0.15."""
    value = _saturate16(x << max(exponent - 1, 0))
    value = _high16(value, factor)
    if exponent > 0:
        value = _saturate16(value << 1)
    return (round_shift(value, max(-exponent, 0)) + (1 << 15)) >> 1


# --- straight lines --------------------------------------------------------------------------


def requantize(source: Grid, output: Grid) -> Table:
    """QUANTIZE from int8 to int8."""
    made = multipliers.requantize(source.scale, output.scale)
    return _table(lambda value: rescale(value - source.zero_point, *made) + output.zero_point)


def relu_multiplier(source: Grid, output: Grid, activation: str = "RELU") -> Multiplier:
    """The factor of RELU, RELU6, RELU_N1_TO_1 as operators of their own: a quotient of float32.

    Raises ValueError for a RELU6 between two grids: tflite-micro copies the bytes there, LiteRT rescales them.
    """
    if activation == "RELU6" and source != output:
        raise ValueError("tflite-micro's RELU6 wants its output on the input's grid")
    return multipliers.multiplier(float(np.float32(source.scale) / np.float32(output.scale)))


def relu(source: Grid, output: Grid, activation: str = "RELU") -> Table:
    """RELU, RELU6, RELU_N1_TO_1 of int8; raises ValueError as `relu_multiplier`."""
    made, (low, high) = relu_multiplier(source, output, activation), multipliers.clamp(activation, *output)
    answers = (rescale(value - source.zero_point, *made) + output.zero_point for value in _INPUTS)
    return np.clip(list(answers), low, high).astype(np.int8)


def leaky_multipliers(source: Grid, output: Grid, alpha: float) -> tuple[Multiplier, Multiplier]:
    """LEAKY_RELU's factors for inputs of either sign, quotients of float32; the second may be negative."""
    scale, target = np.float32(source.scale), np.float32(output.scale)
    slope = float(scale * np.float32(alpha) / target)
    sloped = multipliers.multiplier(abs(slope))
    signed = Multiplier(-sloped.mantissa if slope < 0 else sloped.mantissa, sloped.right_shift)
    return multipliers.multiplier(float(scale / target)), signed


def leaky_relu(source: Grid, output: Grid, alpha: float) -> Table:
    """LEAKY_RELU of int8."""
    positive, negative = leaky_multipliers(source, output, alpha)

    def at(value: int) -> int:
        x = value - source.zero_point
        return rescale(x, *(positive if x >= 0 else negative)) + output.zero_point

    return _table(at)


def widened(source: Grid, output_scale: float) -> NDArray[np.int16]:
    """QUANTIZE from int8 to int16, whose zero point is 0, for `eq_lookup_s8_s16`."""
    made = multipliers.requantize(source.scale, output_scale)
    answers = [rescale(value - source.zero_point, *made) for value in _INPUTS]
    return np.clip(answers, *_INT16).astype(np.int16)


def dequantize(source: Grid) -> NDArray[np.int32]:
    """DEQUANTIZE: the bits of the float32 answers, for `eq_lookup_s8_s32`."""
    real = wide(source.scale) * (np.arange(-128, 128) - source.zero_point)
    return real.astype(np.float32).view(np.int32)


def cast(dtype: str) -> NDArray[np.int32]:
    """CAST from int8 to int32 or float32: the bits of the answers, for `eq_lookup_s8_s32`."""
    return np.arange(-128, 128).astype({"int32": np.int32, "float32": np.float32}[dtype]).view(np.int32)


_SIGMOID_RAISED = (
    *(4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40, 41, 43, 44, 45, 46, 49),
    *(50, 54, 62, 63, 64, 66, 82, 86, 93, 100, 103, 112, 116, 135, 255),
)
"""Entries that the reference holds one step above the rounded sigmoid; read out of LiteRT's int16 TANH."""


def sigmoid() -> NDArray[np.uint16]:
    """What 16-bit LOGISTIC and TANH interpolate: 65536 / (1 + exp(-i / 24)); the kernels' own copy is equal."""
    made = np.floor(65536 / (1 + np.exp(-np.arange(256) / 24)) + 0.5).astype(np.uint16)
    made[list(_SIGMOID_RAISED)] += 1
    return made


# --- the 16-bit softmax ----------------------------------------------------------------------


_RANGE = 65535


def exponential(real: Real = np.float32) -> NDArray[np.int16]:
    """exp from -10 to 0 in Q0.15: 512 pieces and an end, as `eq_softmax_s16` interpolates them.

    `real` is what they are computed in: tflite-micro takes float32, LiteRT float64. NumPy's exp of float32 is less
    exact than a C library's, so it goes through float64.
    """
    return _pieces(lambda x: np.exp(x.astype(np.float64)).astype(real), real(10) / real(_RANGE), 32767, real)


def reciprocal(real: Real = np.float32) -> NDArray[np.int16]:
    """1 / (1 + x) from 0 to 1 in Q0.15; `real` as above."""
    return _pieces(lambda x: real(1) / (real(1) + x), real(1) / real(_RANGE), -32768, real)


def _pieces(curve: Callable[[Any], Any], scale: Any, zero_point: int, real: Real) -> NDArray[np.int16]:
    """Samples, each moved by half the error that a straight line has in the middle of its piece."""
    low, high = scale * real(-32768 - zero_point), scale * real(32767 - zero_point)
    step, output_scale = (high - low) / real(512), real(2) / real(_RANGE)
    unit = real(_RANGE + 1) / (output_scale * real(32767) - output_scale * real(-32768))
    at = low + np.arange(513).astype(real) * step
    values, middles = curve(at) * unit, curve(at[:-1] + step / real(2)) * unit
    samples = _away(values)
    error = _away((values[1:] + samples[:-1]) / real(2)) - _away(middles)
    samples[:-1] -= _away(error / real(2))
    samples[-1] = _away(curve(np.array([high])) * unit)[0]
    return np.asarray(np.clip(samples, *_INT16), np.int16)


def _away(values: NDArray[Any]) -> NDArray[Any]:
    """Rounded, halves away from zero."""
    return np.asarray(np.copysign(np.floor(np.abs(values) + values.dtype.type(0.5)), values))


# --- coordinates -----------------------------------------------------------------------------


def nearest(size: int, output: int, *, align_corners: bool = False, half_pixel: bool = False) -> NDArray[np.uint16]:
    """RESIZE_NEAREST_NEIGHBOR along one axis: the input's index for each of `output` indices."""
    aligned = align_corners and output > 1
    scale = np.float32(size - 1) / np.float32(output - 1) if aligned else np.float32(size) / np.float32(output)
    at = (np.arange(output, dtype=np.float32) + np.float32(0.5 if half_pixel else 0)) * scale
    whole = np.floor(at + np.float32(0.5)) if align_corners else np.floor(at)
    clipped: NDArray[np.uint16] = np.clip(whole, 0, size - 1).astype(np.uint16)
    return clipped


def bilinear(size: int, output: int, *, align_corners: bool = False, half_pixel: bool = False) -> NDArray[Any]:
    """RESIZE_BILINEAR along one axis, rows of (lower, upper, fraction of 1024) as `eq_tap`."""
    step = (1024 * size + output // 2) // output
    if align_corners and output > 1:
        step = (1024 * (size - 1) + (output - 1) // 2) // (output - 1)
    at = np.arange(output, dtype=np.int64) * step + (step // 2 - 512 if half_pixel else 0)
    lower = np.maximum(np.trunc(at / 1024).astype(np.int64), 0)
    upper = np.minimum(np.trunc((at + 1023) / 1024).astype(np.int64), size - 1)
    return np.stack([lower, upper, at - 1024 * lower], axis=1)

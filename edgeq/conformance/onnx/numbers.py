"""Quantized values of operands: scales, zero points and stored integers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeq.conformance.onnx.operands import Operand, real_values
from edgeq.types import Signature

Array = NDArray[Any]
RANGES = {
    "int4": (-8, 7),
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "uint16": (0, 65535),
}
_REACH = {"int4": 7, "int8": 64, "uint8": 64, "int16": 16384}
"""Steps of weights each way from their middle. 8-bit ones leave a bit free: x86 without VNNI adds pairs of products in
16 bits and saturates on full weights, and a proof should not depend on the host that makes it."""


class Step(NamedTuple):
    """Scale and zero point of one tensor."""

    scale: float
    zero_point: int
    dtype: str


class Stored(NamedTuple):
    """Quantized weights; scales and zero points have one number, or one per channel along `axis`."""

    integers: Array
    scales: Array
    zero_points: Array
    dtype: str
    axis: int
    per_channel: bool

    @property
    def reals(self) -> Array:
        """What the integers stand for."""
        shape = [1] * self.integers.ndim
        shape[self.axis] = -1
        scales, zeros = self.scales.reshape(shape), self.zero_points.reshape(shape)
        return ((self.integers.astype(np.int32) - zeros) * scales).astype(np.float32)


def step(values: Array, dtype: str, *, symmetric: bool = False) -> Step:
    """Scale and zero point by which a type covers the values and zero; int16 and what is symmetric is centred."""
    low, high = RANGES[dtype]
    least, most = min(float(values.min(initial=0.0)), 0.0), max(float(values.max(initial=0.0)), 0.0)
    if symmetric or dtype == "int16":
        middle = (low + high + 1) // 2
        return Step(float(np.float32(max(-least, most, 1e-6) / (high - middle))), middle, dtype)
    scale = float(np.float32(max(most - least, 1e-6) / (high - low)))
    return Step(scale, int(np.clip(round(low - least / scale), low, high)), dtype)


def stored(operand: Operand, signature: Signature, salt: str) -> Stored:
    """Weights in the signature's type, granularity and symmetry; channels differ in size and, if asymmetric, centre."""
    dtype, axis, values = signature.weights or "int8", operand.axis, real_values(operand, salt)
    low, high = RANGES[dtype]
    reach = _REACH[dtype]
    count = operand.shape[axis] if signature.granularity == "per-channel" else 1
    shape = [1] * values.ndim
    shape[axis] = count
    factors = np.linspace(1.0, 0.4, count).reshape(shape)
    is_free = signature.symmetric == "none"
    shifts = (np.round(np.linspace(0.1, 0.3, count) * reach) if is_free else np.zeros(count)).reshape(shape)
    scales = np.abs(values).max() / (reach * 0.7) * factors
    steps = np.clip(np.round(values * factors / scales), shifts - reach, reach - shifts)
    zeros = ((low + high + 1) // 2 + shifts).astype(np.int32)
    integers = (steps + zeros).astype("int8" if dtype == "int4" else dtype)
    return Stored(integers, scales.astype(np.float32).ravel(), zeros.ravel(), dtype, axis, count > 1)

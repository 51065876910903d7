"""int16: FULLY_CONNECTED multiplies by 16 bits as convolutions do (LiteRT 2.3 by 31), ADD and SUB know no special
scales, SOFTMAX has tables of float32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeq.codegen import multipliers, tables
from edgeq.codegen.lowering.layers import clamp
from edgeq.codegen.lowering.operands import Operands
from edgeq.codegen.network import Array
from edgeq.codegen.twins.part import Part, scaled
from edgeq.codegen.twins.products import Matrix, Product, factors

_SIGNS = {"ADD": 1, "SUB": -1}


def own(at: Operands) -> Part | None:
    """The twin of an operator that LiteRT computes otherwise with these operands."""
    if at.operator.type == "FULLY_CONNECTED":
        return Dense(at)
    if at.operator.type == "MUL":
        return Product(at)
    if at.operator.type == "SOFTMAX":
        return Softmax(at)
    if at.operator.type in _SIGNS:
        scales = [at.scale(tensor) for tensor in (at.index(0), at.index(1), at.output())]
        return Sum(at) if all(multipliers.power_of_two(scale) is not None for scale in scales) else None
    return None


class Dense(Matrix):
    """FULLY_CONNECTED."""

    def __init__(self, at: Operands) -> None:
        super().__init__(at, [multipliers.wide_output(one) for one in factors(at)])

    def multiplied(self, sums: NDArray[np.int64]) -> NDArray[np.int64]:
        return (sums * self.mantissa + (np.int64(1) << (self.shift - 1))) >> self.shift


class Sum(Part):
    """ADD and SUB, general scales."""

    def __init__(self, at: Operands) -> None:
        self.places, self.output = [at.index(0), at.index(1)], at.output()
        self.constants = {place: at.net.constants[place] for place in self.places if at.net.is_constant(place)}
        a, b, output = (at.scale(tensor) for tensor in (*self.places, self.output))
        self.made = multipliers.add(a, b, output, "int16")
        self.sign, self.limits = _SIGNS[at.operator.type], clamp(at, self.output)

    def run(self, values: dict[int, Array]) -> None:
        known = {**values, **self.constants}
        a, b = (known[place].astype(np.int64) << 15 for place in self.places)
        total = scaled(a, self.made.a) + self.sign * scaled(b, self.made.b)
        values[self.output] = np.clip(scaled(total, self.made.out), *self.limits).astype(np.int16)


class Softmax(Part):
    """SOFTMAX by tflite-micro's tables."""

    def __init__(self, at: Operands) -> None:
        self.source, self.output = at.index(0), at.output()
        self.made = multipliers.softmax_s16(at.scale(self.source), at.real("beta", 1.0))
        self.exponential, self.reciprocal = tables.exponential(), tables.reciprocal()

    def run(self, values: dict[int, Array]) -> None:
        values[self.output] = softmax(values[self.source], self.made, self.exponential, self.reciprocal)


def softmax(
    values: Array, made: multipliers.SoftmaxS16, exponential: NDArray[np.int16], reciprocal: NDArray[np.int16]
) -> NDArray[np.int16]:
    """SOFTMAX over the last axis, into Q0.15."""
    x = values.astype(np.int64)
    below = scaled(x - x.max(axis=-1, keepdims=True), multipliers.Multiplier(*made))
    powers = _between(exponential, below + 32767)
    total = powers.sum(axis=-1, keepdims=True)
    bits = np.frexp(total.astype(np.float64))[1].astype(np.int64)
    fraction = ((total << (31 - bits)) + (1 << 13)) >> 14
    factor = _between(reciprocal, fraction - 3 * (1 << 15))
    made_up = (powers * factor + (np.int64(1) << (bits - 2))) >> (bits - 1)
    return np.asarray(np.clip(made_up, 0, 32767), np.int16)


def _between(table: NDArray[np.int16], at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Between two entries of a table of 512 pieces over 16 bits."""
    x, entries = np.clip(at, -32768, 32767), table.astype(np.int64)
    entry = 256 + (x >> 7)
    slope = entries[entry + 1] - entries[entry]
    return np.asarray(entries[entry] + ((slope * (x & 127) + 64) >> 7), np.int64)

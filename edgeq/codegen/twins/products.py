"""Products: MUL, for which tflite-micro multiplies the scales in float64 and LiteRT in float32, and what
FULLY_CONNECTED's twins share.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeq.codegen import multipliers
from edgeq.codegen.lowering.layers import clamp
from edgeq.codegen.lowering.operands import Operands
from edgeq.codegen.multipliers import Multiplier
from edgeq.codegen.network import Array
from edgeq.codegen.twins.part import Part, scaled


class Product(Part):
    """MUL of int8 or int16."""

    def __init__(self, at: Operands) -> None:
        self.places, self.output = [at.index(0), at.index(1)], at.output()
        self.constants = {place: at.net.constants[place] for place in self.places if at.net.is_constant(place)}
        a, b, output = (at.scale(tensor) for tensor in (*self.places, self.output))
        self.made = multipliers.mul(a, b, output)
        self.zeros = [at.zero_point(tensor) for tensor in (*self.places, self.output)]
        self.limits, self.dtype = clamp(at, self.output), at.dtype(self.output)

    def run(self, values: dict[int, Array]) -> None:
        known = {**values, **self.constants}
        a, b = (known[place].astype(np.int64) - zero for place, zero in zip(self.places, self.zeros[:2], strict=True))
        stored = np.clip(scaled(a * b, self.made) + self.zeros[2], *self.limits)
        values[self.output] = stored.astype(self.dtype)


class Matrix(Part):
    """FULLY_CONNECTED but for how its sums are multiplied."""

    def __init__(self, at: Operands, made: Sequence[Multiplier]) -> None:
        self.source, self.output = at.index(0), at.output()
        self.shape, self.dtype = at.net.shape(self.output), at.dtype(self.output)
        self.weights = at.constant(1).astype(np.int64)
        self.bias = at.constant(2).astype(np.int64) if at.has(2) else np.zeros(1, np.int64)
        self.input_zero, self.zero = at.zero_point(self.source), at.zero_point(self.output)
        self.mantissa = np.array([one.mantissa for one in made], np.int64)
        self.shift = np.array([one.right_shift for one in made], np.int64)
        self.limits = clamp(at, self.output)

    @abstractmethod
    def multiplied(self, sums: NDArray[np.int64]) -> NDArray[np.int64]:
        """The sums by the layer's factors, rounded."""

    def run(self, values: dict[int, Array]) -> None:
        rows = values[self.source].reshape(-1, self.weights.shape[1]).astype(np.int64) - self.input_zero
        stored = np.clip(self.multiplied(rows @ self.weights.T + self.bias) + self.zero, *self.limits)
        values[self.output] = stored.astype(self.dtype).reshape(self.shape)


def factors(at: Operands) -> list[Multiplier]:
    """Of a FULLY_CONNECTED layer, by output or one for all."""
    scales = at.quantization(at.index(1)).scales
    return multipliers.dense(at.scale(at.index(0)), scales, at.scale(at.output()))

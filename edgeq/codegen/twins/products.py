"""MUL: tflite-micro multiplies the scales in float64, LiteRT in float32."""

from __future__ import annotations

import numpy as np

from edgeq.codegen import multipliers
from edgeq.codegen.lowering.layers import clamp
from edgeq.codegen.lowering.operands import Operands
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

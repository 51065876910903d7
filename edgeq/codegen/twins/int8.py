"""int8: FULLY_CONNECTED rounds twice, LOGISTIC and TANH are fixed point."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeq.codegen import multipliers, tables
from edgeq.codegen.lowering.layers import clamp
from edgeq.codegen.lowering.operands import Operands
from edgeq.codegen.network import Array
from edgeq.codegen.twins.part import Part, rescaled
from edgeq.codegen.twins.products import Product


class Dense(Part):
    """FULLY_CONNECTED with tflite-micro's rounding."""

    def __init__(self, at: Operands) -> None:
        self.source, self.output = at.index(0), at.output()
        self.shape = at.net.shape(self.output)
        self.weights = at.constant(1).astype(np.int64)
        self.bias = at.constant(2).astype(np.int64) if at.has(2) else np.zeros(1, np.int64)
        self.input_zero, self.zero = at.zero_point(self.source), at.zero_point(self.output)
        scales = at.quantization(at.index(1)).scales
        made = multipliers.dense(at.scale(self.source), scales, at.scale(self.output))
        self.mantissa = np.array([one.mantissa for one in made], np.int64)
        self.right_shift = np.array([one.right_shift for one in made], np.int64)
        self.limits = clamp(at, self.output)

    def run(self, values: dict[int, Array]) -> None:
        rows = values[self.source].reshape(-1, self.weights.shape[1]).astype(np.int64) - self.input_zero
        sums = rows @ self.weights.T + self.bias
        stored = np.clip(rescaled(sums, self.mantissa, self.right_shift) + self.zero, *self.limits)
        values[self.output] = stored.astype(np.int8).reshape(self.shape)


class Curve(Part):
    """LOGISTIC and TANH by their table."""

    def __init__(self, at: Operands) -> None:
        self.source, self.output = at.index(0), at.output()
        make = {"LOGISTIC": tables.logistic, "TANH": tables.tanh}[at.operator.type]
        self.answers = make(tables.Grid(at.scale(self.source), at.zero_point(self.source)))

    def run(self, values: dict[int, Array]) -> None:
        values[self.output] = self.answers[values[self.source].astype(np.int64) + 128]


OWN: Mapping[str, type[Dense | Curve | Product]] = {
    "FULLY_CONNECTED": Dense,
    "LOGISTIC": Curve,
    "TANH": Curve,
    "MUL": Product,
}
"""By operator."""

"""int8: FULLY_CONNECTED rounds twice, LOGISTIC and TANH are fixed point."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgeq.codegen import tables
from edgeq.codegen.lowering.operands import Operands
from edgeq.codegen.network import Array
from edgeq.codegen.twins.part import Part, rescaled
from edgeq.codegen.twins.products import Matrix, Product, factors


class Dense(Matrix):
    """FULLY_CONNECTED with tflite-micro's rounding."""

    def __init__(self, at: Operands) -> None:
        super().__init__(at, factors(at))

    def multiplied(self, sums: NDArray[np.int64]) -> NDArray[np.int64]:
        return rescaled(sums, self.mantissa, self.shift)


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

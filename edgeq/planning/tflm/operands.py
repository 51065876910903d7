"""An operator with its tensors."""

from __future__ import annotations

import math
from typing import NamedTuple

from edgeq.planning.tflm.structs import Build
from edgeq.types import Operator, TensorSpec


class Operands(NamedTuple):
    """An operator of a build, what it reads (None where an optional operand is left out) and what it makes."""

    operator: Operator
    inputs: tuple[TensorSpec | None, ...]
    outputs: tuple[TensorSpec, ...]
    build: Build

    @property
    def dtype(self) -> str:
        """Data type of the first operand."""
        return self.dtype_of(0)

    @property
    def rank(self) -> int:
        first = self.input(0)
        return len(first.shape) if first else 0

    @property
    def batch(self) -> int:
        first = self.input(0)
        return max(1, first.shape[0]) if first and first.shape else 1

    @property
    def output_elements(self) -> int:
        return elements(self.outputs[0]) if self.outputs else 1

    def input(self, number: int) -> TensorSpec | None:
        """An operand by its place, where there is one."""
        return self.inputs[number] if number < len(self.inputs) else None

    def dtype_of(self, number: int) -> str:
        tensor = self.input(number)
        return tensor.dtype if tensor else ""

    def channels(self) -> int:
        """Output channels by the weights: their first axis, the last of a depthwise convolution's."""
        weights = self.input(1)
        axis = -1 if self.operator.type == "DEPTHWISE_CONV_2D" else 0
        return max(1, weights.shape[axis]) if weights and weights.shape else 1


def elements(tensor: TensorSpec) -> int:
    """Number of values; a dynamic axis counts as 1."""
    return math.prod(1 if size < 0 else size for size in tensor.shape)

"""What the twins share: one step of an oracle, and tflite-micro's rounding in NumPy."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from edgeq.codegen.multipliers import Multiplier
from edgeq.codegen.network import Array


class Part(ABC):
    """Operators in a row: what they read and what they make are stored values by tensor."""

    @abstractmethod
    def run(self, values: dict[int, Array]) -> None:
        """Add what the operators make."""

    def reset(self) -> None:  # noqa: B027 most parts have no state
        """Back to the state of a reset, for those that have one."""


def rescaled(sums: NDArray[np.int64], mantissa: NDArray[np.int64], right_shift: NDArray[np.int64]) -> NDArray[np.int64]:
    """sums * mantissa * 2^(-31 - right_shift), rounded twice: halves up, then halves away from zero."""
    left, right = np.maximum(-right_shift, 0), np.maximum(right_shift, 0)
    high = ((sums << left) * mantissa + (1 << 30)) >> 31
    mask = (np.int64(1) << right) - 1
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0))


def scaled(values: NDArray[np.int64], factor: Multiplier) -> NDArray[np.int64]:
    """The same for one factor."""
    return rescaled(values, np.array(factor.mantissa), np.array(factor.right_shift))

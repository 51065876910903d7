"""What an operator of a one-operator model reads and writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeq.types import OutputSpec

Array = NDArray[Any]
Role = Literal["data", "weights", "bias", "state", "constant", "fed", "absent"]

LOW, HIGH = -1.0, 1.4
"""Range of activations: not centred, so that an 8-bit zero point is neither 0 nor the middle."""
FLOATING = ("float32", "int8", "uint8", "int16")
"""Data types of activations to compute on. float16 is not among them: only the half-precision kernels that XNNPACK has
for some CPUs take it, which says nothing of the others."""
MOVED = ("float16", *FLOATING, "int32", "int64", "bool")
"""Data types that an operator which only moves values may meet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """One input. `values` are real numbers, except for a `constant` and what is `fed`, which are stored as `dtype`.

    `axis` is that of the channels of weights. `of` is the position of the weights whose scale a bias has, -1 for
    the operand before it. A `state` is a variable of its own data type, or of the activations' where `dtype` is "".
    Data that is `written` is a part of the model, as a padding's value is.
    """

    role: Role
    values: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    dtype: str = ""
    axis: int = 0
    of: int = -1
    written: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model of one operator looks.

    `results`, one for each output: `computed` has a scale of its own, `shared` that of the first input, `weights` that
    of the weights, anything else is the data type of an output without a scale. `together` gives all inputs one scale.
    `kinds` are the data types of activations to try. `reference` computes the wanted outputs from the real numbers of
    all operands where the float kernel cannot; it gets the case's data type last. `fixed` is the output that TFLite's
    8-bit quantization specification demands, by data type.
    """

    operands: tuple[Operand, ...]
    options: tuple[str, Mapping[str, Any]] = ("", {})
    results: tuple[str, ...] = ("computed",)
    together: bool = False
    kinds: tuple[str, ...] = FLOATING
    reference: Callable[..., list[Array]] | None = None
    intermediates: int = 0
    twin_version: int = 1
    fixed: Mapping[str, OutputSpec] = field(default_factory=dict)
    takes_two_activations: bool = False

    @property
    def has_weights(self) -> bool:
        """Whether a part of the signature speaks of weights."""
        return any(operand.role == "weights" for operand in self.operands)

    @property
    def has_bias(self) -> bool:
        """Whether it has a bias."""
        return any(operand.role == "bias" for operand in self.operands)


def spread(shape: tuple[int, ...], low: float, high: float, seed: int = 1) -> Array:
    """Distinct values that cover a range evenly, in an order that the seed fixes."""
    count = int(np.prod(shape))
    values = np.linspace(low, high, count) if count > 1 else np.array([high])
    return np.random.default_rng(seed).permutation(values).reshape(shape).astype(np.float32)


def data(*shape: int, low: float = LOW, high: float = HIGH, seed: int = 1) -> Operand:
    """Activations."""
    return Operand(role="data", values=spread(shape, low, high, seed))


def weights(*shape: int, axis: int = 0, seed: int = 2) -> Operand:
    """Weights whose channels along `axis` differ in size, so that a wrong channel's scale shows."""
    sizes = [shape[axis] if number == axis else 1 for number in range(len(shape))]
    growth = np.linspace(0.3, 1.0, shape[axis], dtype=np.float32).reshape(sizes)
    return Operand(role="weights", values=spread(shape, -1.0, 0.8, seed) * growth, axis=axis)


def bias(count: int, of: int = -1) -> Operand:
    """One bias for each channel."""
    return Operand(role="bias", values=spread((count,), -0.5, 0.5, 3), of=of)


def constant(values: Any, dtype: str = "int32") -> Operand:
    """An operand that is written into the model as it is."""
    return Operand(role="constant", values=np.asarray(values, dtype), dtype=dtype)


def value(number: float, *shape: int) -> Operand:
    """One number of the activations' data type, written into the model."""
    return Operand(role="data", values=np.full(shape, number, np.float32), written=True)


def fed(values: Any, dtype: str = "int32") -> Operand:
    """An input that carries no real numbers."""
    return Operand(role="fed", values=np.asarray(values, dtype), dtype=dtype)


def state(*shape: int, dtype: str = "") -> Operand:
    """A variable, which starts from zero."""
    return Operand(role="state", values=np.zeros(shape, np.float32), dtype=dtype)


ABSENT = Operand(role="absent")
"""An optional operand that is left out."""

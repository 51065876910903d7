"""What a one-operator ONNX model is made of: operands, attributes, and the values that feed them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Operand:
    """One input of an operator.

    `kind`: `data` is fed and has the signature's type, `held` is a constant that has it; `weights` and `bias` are
    constants with their own part of the signature; `fed` and `constant` keep the type and values given (`signature` for
    the type of the activations); `typed` is a constant of the activations' type that is never quantized; `left-out` is
    an optional input that is not there. `axis` is that of the output channels.
    """

    kind: str
    shape: Shape = ()
    low: float = -1.0
    high: float = 1.0
    axis: int = 0
    values: Any = None
    dtype: str = "float32"


def data(*shape: int, low: float = -0.7, high: float = 1.0) -> Operand:
    """Real values between two ends, fed to the model."""
    return Operand("data", shape, low, high)


def weights(*shape: int, axis: int = 0) -> Operand:
    """Constant weights with their axis of output channels."""
    return Operand("weights", shape, axis=axis)


def bias(*shape: int) -> Operand:
    """A constant bias."""
    return Operand("bias", shape)


def constant(values: Any, dtype: str = "int64") -> Operand:
    """A constant that no scheme touches, such as axes or a shape."""
    return Operand("constant", values=values, dtype=dtype)


def held(values: Any) -> Operand:
    """A constant of real numbers that is quantized like an activation, such as a slope."""
    return Operand("held", values=values)


def fed(values: Any, dtype: str = "int64") -> Operand:
    """An input that no scheme touches, such as indices or a condition."""
    return Operand("fed", values=values, dtype=dtype)


def typed(values: Any) -> Operand:
    """A constant that has the type of the activations, such as a fill value."""
    return Operand("typed", values=values)


NONE = Operand("left-out")
Attributes = Mapping[str, Any]
Operands = tuple[Operand, ...]
Change = Operands | Attributes | tuple[Operands, Attributes]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to build an operator.

    `outputs` is how many it makes; `same_scale`, that input and output share their quantization. `plain` operators take
    integers as they are, not as quantized reals. `opset` and `until` are the oldest and the newest opset that has it;
    results of a `random` one cannot be compared. `variants` are changes worth trying: other operands or attributes.
    """

    operands: tuple[Operand, ...]
    attributes: Attributes = field(default_factory=dict)
    outputs: int = 1
    same_scale: bool = False
    plain: bool = False
    opset: int = 7
    until: int | None = None
    random: bool = False
    variants: Mapping[str, Change] = field(default_factory=dict)

    def varied(self, variant: str) -> Recipe:
        """The recipe with one of its variants put in."""
        change = self.variants[variant]
        if isinstance(change, Mapping):
            return replace(self, attributes={**self.attributes, **change})
        first, second = change if isinstance(change[1], Mapping) else (change, {})
        return replace(self, operands=first, attributes={**self.attributes, **second})

    def has(self, kind: str) -> bool:
        """Whether some operand is of a kind."""
        return any(one.kind == kind for one in self.operands)


def real_values(operand: Operand, salt: str) -> Array:
    """Float32 values of an operand with a shape, the same in every run; both ends are among them."""
    rng = np.random.default_rng(zlib.crc32(salt.encode()))
    values = rng.uniform(operand.low, operand.high, operand.shape).astype(np.float32)
    if values.size > 1:
        values.flat[0], values.flat[-1] = operand.low, operand.high
    return values


def plain_values(operand: Operand, dtype: str, salt: str) -> Array:
    """Values of an operand in a type that is not quantized: integers from a few steps each way."""
    if operand.values is not None:
        takes_signature = operand.kind in ("typed", "held") or operand.dtype == "signature"
        return np.asarray(operand.values, dtype=dtype if takes_signature else operand.dtype)
    values = real_values(operand, salt)
    if dtype == "bool":
        return values > (operand.low + operand.high) / 2
    if np.issubdtype(np.dtype(dtype), np.integer):
        low = 0.0 if dtype.startswith("u") else -4.0
        return np.clip(np.round(values * 4), max(low, operand.low * 4), None).astype(dtype)
    return values.astype(dtype)

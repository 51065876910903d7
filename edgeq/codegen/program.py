"""What an operator becomes: calls of kernels with constant parameters. Nothing here is text yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

C_TYPES = {
    "int8": "int8_t",
    "uint8": "uint8_t",
    "bool": "uint8_t",
    "int16": "int16_t",
    "uint16": "uint16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "float32": "float",
}
"""NumPy's names of data types -> C's."""

SUFFIXES = {"int8": "s8", "int16": "s16"}
"""How kernels of an activation's data type are named."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Constants in flash; `rows` of a structured table are tuples that `struct` names the C type of."""

    values: NDArray[np.generic]
    struct: str = ""

    @property
    def c_type(self) -> str:
        return self.struct or C_TYPES[self.values.dtype.name]


@dataclass(frozen=True, slots=True, eq=False)
class Struct:
    """A parameter struct of `eq_kernels.h`; all its fields are given."""

    type: str
    fields: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Activation:
    """A pointer to a tensor in the arena, `offset` bytes behind its start."""

    tensor: int
    c_type: str
    is_const: bool = False
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Scratch:
    """A pointer to the step's scratch memory."""


Value: TypeAlias = "int | Table | Struct | tuple[int, ...]"
Argument: TypeAlias = "int | Table | Struct | Activation | Scratch"


@dataclass(frozen=True, slots=True)
class Call:
    """`function(arguments)`; a Struct is passed by its address."""

    function: str
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one operator becomes. `is_narrow` says that its accumulators stay below 2**30, see `eq_kernels.h`."""

    calls: tuple[Call, ...] = ()
    is_narrow: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """The memory that one operator wants beside its tensors, known from shapes alone.

    `lags` let an output creep over an input that ends here: (input, output) -> bytes, see `memory`. `shares` are
    outputs that are their input's bytes under another shape: output -> input. `scratch_lags` let the scratch memory
    creep over an input as an output would: input -> bytes.
    """

    scratch_bytes: int = 0
    scratch_lags: Mapping[int, int] = field(default_factory=dict)
    lags: Mapping[tuple[int, int], int] = field(default_factory=dict)
    shares: Mapping[int, int] = field(default_factory=dict)

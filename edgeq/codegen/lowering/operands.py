"""One operator with its tensors at hand, and one way to refuse it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from edgeq.codegen.network import Array, Network
from edgeq.codegen.program import C_TYPES, SUFFIXES, Activation, Table
from edgeq.errors import BuildError
from edgeq.types import Operator, Quantization, Shape


@dataclass(frozen=True, slots=True)
class Operands:
    """Tensors of one operator by their place among its inputs or outputs."""

    net: Network
    operator: Operator

    def refused(self, why: str) -> BuildError:
        """`operator 3 (CONV_2D) ...`: the one error for what has no kernel."""
        return BuildError(f"operator {self.operator.index} ({self.operator.type}) {why}", where=self.net.graph.path)

    @contextlib.contextmanager
    def scaling(self) -> Iterator[None]:
        """Turn what the twins of the kernels refuse into the error for this operator."""
        try:
            yield
        except ValueError as error:
            raise self.refused(f"cannot be computed in integers: {error}") from error

    def has(self, place: int) -> bool:
        return place < len(self.operator.inputs) and self.operator.inputs[place] >= 0

    def index(self, place: int) -> int:
        if not self.has(place):
            raise self.refused(f"has no operand {place}")
        return self.operator.inputs[place]

    def output(self, place: int = 0) -> int:
        if place >= len(self.operator.outputs):
            raise self.refused(f"has no output {place}")
        return self.operator.outputs[place]

    def shape(self, place: int) -> Shape:
        return self.net.shape(self.index(place))

    def dtype(self, tensor: int) -> str:
        return self.net.tensor(tensor).dtype

    def constant(self, place: int) -> Array:
        """The values of an operand that must be stored in the file."""
        tensor = self.index(place)
        if tensor not in self.net.constants:
            raise self.refused(f"wants operand {place} stored in the file; here it is computed")
        return self.net.constants[tensor]

    def integers(self, place: int) -> list[int]:
        """A constant of integers as a plain list."""
        values = self.constant(place)
        if values.dtype.kind not in "iu":
            raise self.refused(f"wants integers as operand {place}, not {values.dtype}")
        return [int(value) for value in values.ravel()]

    def quantization(self, tensor: int) -> Quantization:
        found = self.net.tensor(tensor).quantization
        if found is None:
            raise self.refused(f"wants tensor {tensor} to have a scale")
        if any(scale <= 0 for scale in found.scales):
            raise self.refused(f"wants tensor {tensor} to have a scale above 0")
        return found

    def scale(self, tensor: int) -> float:
        """The one scale of a tensor."""
        found = self.quantization(tensor)
        if len(found.scales) != 1:
            raise self.refused(f"wants one scale for tensor {tensor}, not {len(found.scales)}")
        return found.scales[0]

    def zero_point(self, tensor: int) -> int:
        self.scale(tensor)
        return self.quantization(tensor).zero_points[0]

    def text(self, name: str, default: str = "") -> str:
        value = self.operator.attributes.get(name, default)
        return value if isinstance(value, str) else default

    def number(self, name: str, default: int = 0) -> int:
        value = self.operator.attributes.get(name, default)
        return value if isinstance(value, int) else default

    def real(self, name: str, default: float = 0.0) -> float:
        value = self.operator.attributes.get(name, default)
        return float(value) if isinstance(value, (int, float)) else default

    def wants(self, dtype: str, *tensors: int) -> None:
        """Refuse tensors of another data type."""
        wrong = [tensor for tensor in tensors if self.dtype(tensor) != dtype]
        if wrong:
            raise self.refused(f"has a kernel for {dtype}, not for {self.dtype(wrong[0])} (tensor {wrong[0]})")

    def suffix(self, *tensors: int) -> str:
        """`s8` or `s16`, the one kind of these activations; int16 has zero points of 0, as the reference wants."""
        first = self.dtype(tensors[0])
        if first not in SUFFIXES:
            raise self.refused(f"has kernels for {' and '.join(SUFFIXES)}, not for {first} (tensor {tensors[0]})")
        self.wants(first, *tensors)
        for tensor in tensors if first == "int16" else ():
            if self.zero_point(tensor):
                raise self.refused(f"wants a zero point of 0 for tensor {tensor}, which is int16")
        return SUFFIXES[first]

    def wants_rank(self, rank: int, *tensors: int) -> None:
        wrong = [tensor for tensor in tensors if len(self.net.shape(tensor)) != rank]
        if wrong:
            shape = list(self.net.shape(wrong[0]))
            raise self.refused(f"wants {rank} axes; tensor {wrong[0]} has the shape {shape}")

    def wants_shape(self, tensor: int, shape: Shape) -> None:
        """Refuse a tensor whose shape does not follow from the others: the file contradicts itself."""
        if self.net.shape(tensor) != tuple(shape):
            own = list(self.net.shape(tensor))
            raise self.refused(f"says that tensor {tensor} has the shape {own}; it follows to be {list(shape)}")

    def read(self, place: int, c_type: str | None = None, offset: int = 0) -> Activation | Table:
        """An operand as an argument: in the arena, or in flash where it is a constant."""
        tensor = self.index(place)
        if tensor in self.net.constants:
            return Table(self.net.constants[tensor])
        return Activation(tensor, c_type or C_TYPES[self.dtype(tensor)], is_const=True, offset=offset)

    def written(self, place: int = 0, c_type: str | None = None, offset: int = 0) -> Activation:
        """An output as an argument."""
        tensor = self.output(place)
        return Activation(tensor, c_type or C_TYPES[self.dtype(tensor)], offset=offset)

"""A model as a graph to walk on: operators, which tensors are activations, and regions between tensors."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeq.types import ModelGraph, Operator, Port, Quantization

QUANTIZE = frozenset({"QUANTIZE", "QuantizeLinear", "com.microsoft.QuantizeLinear"})
DEQUANTIZE = frozenset({"DEQUANTIZE", "DequantizeLinear", "com.microsoft.DequantizeLinear"})
INTEGERS = frozenset({"int8", "uint8", "int16", "uint16"})
FLOATS = frozenset({"float32", "float16", "float64"})
LARGEST_REGION = 64
"""Operators that may stand for one operator of the other model; beyond it the two have nothing in common there."""


def real_values(stored: NDArray[Any], found: Quantization) -> NDArray[np.float32]:
    """scale * (stored - zero_point), per tensor or along the axis."""
    along = [1] * stored.ndim
    if len(found.scales) > 1:
        along[found.axis or 0] = -1
    zero = np.asarray(found.zero_points, np.float32)
    zero = zero.reshape(along) if zero.size > 1 else zero.reshape(())
    scale = np.asarray(found.scales, np.float32)
    return np.asarray(
        (stored.astype(np.float32) - zero) * (scale.reshape(along) if scale.size > 1 else scale.reshape(()))
    )


class Part(NamedTuple):
    """One operator to look at: the tensors it reads and writes, as the file stores them."""

    operator: Operator
    ends: tuple[int, ...]
    goals: tuple[int, ...]


class Region(NamedTuple):
    """Operators, in order, that make `goals` out of `ends`."""

    operators: tuple[Operator, ...]
    ends: tuple[int, ...]
    goals: tuple[int, ...]


@dataclass(frozen=True)
class Net:
    """A model file's first graph; `raw` is the format's own object, for running and cutting."""

    graph: ModelGraph
    raw: Any

    @functools.cached_property
    def operators(self) -> tuple[Operator, ...]:
        """Operators of the first graph, in execution order."""
        return tuple(operator for operator in self.graph.operators if operator.subgraph == 0)

    @functools.cached_property
    def makers(self) -> dict[int, Operator]:
        """Tensor to the operator that writes it."""
        return {output: operator for operator in self.operators for output in operator.outputs if output >= 0}

    @functools.cached_property
    def readers(self) -> dict[int, list[Operator]]:
        """Tensor to the operators that read it."""
        found: dict[int, list[Operator]] = {}
        for operator in self.operators:
            for tensor in operator.inputs:
                found.setdefault(tensor, []).append(operator)
        return found

    @functools.cached_property
    def fixed(self) -> frozenset[int]:
        """Tensors that no input changes: constants and what is computed from constants alone."""
        found = {tensor.index for tensor in self.graph.tensors if tensor.is_constant}
        for operator in self.operators:
            read = [tensor for tensor in operator.inputs if tensor >= 0]
            if read and found.issuperset(read):
                found.update(operator.outputs)
        return frozenset(found)

    def is_activation(self, tensor: int) -> bool:
        """Whether a tensor is an input or computed from one; an LSTM's state is neither."""
        return tensor >= 0 and tensor not in self.fixed and (tensor in self.makers or tensor in self.graph.inputs)

    def read(self, operator: Operator) -> tuple[int, ...]:
        """Activations that an operator reads, each once."""
        return tuple(dict.fromkeys(filter(self.is_activation, operator.inputs)))

    def port(self, tensor: int) -> Port:
        """How a tensor's values are stored; a scale only for integers with one."""
        spec = self.graph.tensors[tensor]
        found = spec.quantization
        scaled = found is not None and len(found.scales) == 1 and spec.dtype in INTEGERS and found.scales[0] > 0
        if found is None or not scaled:
            return Port(name=spec.name, shape=spec.shape, dtype=spec.dtype)
        zero = found.zero_points[0] if found.zero_points else 0
        return Port(name=spec.name, shape=spec.shape, dtype=spec.dtype, scale=found.scales[0], zero_point=zero)

    def is_stored(self, tensor: int) -> bool:
        """Whether a tensor holds integers that stand for real values."""
        return self.port(tensor).scale is not None


def parts(net: Net) -> Iterator[Part]:
    """Every operator of a quantized model that computes something, in order.

    ONNX's QuantizeLinear and DequantizeLinear belong to the operators between them, but for those that quantize an
    input or change a scale; TFLite's QUANTIZE and DEQUANTIZE are operators that run.
    """
    is_onnx = net.graph.format == "onnx"
    for operator in net.operators:
        made = [tensor for tensor in operator.outputs if net.is_activation(tensor)]
        if not made or (is_onnx and _is_wrapping(net, operator)):
            continue
        ends, goals = net.read(operator), tuple(made)
        if is_onnx:
            ends = tuple(dict.fromkeys(_before(net, tensor) for tensor in ends))
            goals = tuple(_behind(net, tensor) for tensor in goals)
        yield Part(operator, ends, goals)


def _is_wrapping(net: Net, operator: Operator) -> bool:
    if operator.type in DEQUANTIZE:
        return True
    maker = net.makers.get(operator.inputs[0])
    return operator.type in QUANTIZE and maker is not None and maker.type not in DEQUANTIZE


def _before(net: Net, tensor: int) -> int:
    maker = net.makers.get(tensor)
    return maker.inputs[0] if maker is not None and maker.type in DEQUANTIZE else tensor


def _behind(net: Net, tensor: int) -> int:
    quantized = [reader for reader in net.readers.get(tensor, ()) if reader.type in QUANTIZE]
    return quantized[0].outputs[0] if quantized else tensor


def region(net: Net, goals: Iterable[int], ends: Collection[int]) -> Region | None:
    """What makes `goals` out of `ends`, and out of model inputs that it meets; None where that is too much."""
    left, found, met = list(goals), {}, dict.fromkeys(end for end in ends if end in goals)
    while left:
        tensor = left.pop()
        if tensor in ends or tensor in net.graph.inputs:
            met[tensor] = None
            continue
        maker = net.makers.get(tensor)
        if maker is None or maker.index in found:
            continue
        found[maker.index] = maker
        if len(found) > LARGEST_REGION:
            return None
        left += [one for one in maker.inputs if one >= 0 and (net.is_activation(one) or one in net.makers)]
    return Region(tuple(found[index] for index in sorted(found)), tuple(met), tuple(goals))

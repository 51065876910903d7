"""The graph that is compiled: static shapes, integer activations, the constants' values. All else is refused here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import BuildError, ModelError
from edgeq.models import flatbuffer, liveness, tflite
from edgeq.models.tensors import BITS, shown
from edgeq.types import ModelGraph, Operator, Shape, TensorSpec

Array: TypeAlias = NDArray[np.generic]

ACTIVATIONS = ("int8", "int16", "int32", "bool", "uint8")
_LIMIT_BYTES = 2**31 - 1
"""Sizes and offsets are signed 32-bit integers in the kernels."""
_QUANTIZE = "give it to `edgeq quantize` first"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A model's main graph, ready to be lowered. `shapes` are static, by tensor; `constants` hold values by tensor."""

    graph: ModelGraph
    shapes: tuple[Shape, ...]
    constants: Mapping[int, Array]

    @property
    def operators(self) -> tuple[Operator, ...]:
        """The main graph's operators, in the order in which they run."""
        return tuple(operator for operator in self.graph.operators if operator.subgraph == 0)

    def tensor(self, index: int) -> TensorSpec:
        return self.graph.tensors[index]

    def shape(self, index: int) -> Shape:
        return self.shapes[index]

    def size_bytes(self, index: int) -> int:
        """Bytes of an activation."""
        return math.prod(self.shapes[index]) * BITS[self.tensor(index).dtype] // 8

    def is_constant(self, index: int) -> bool:
        return index in self.constants

    def is_made(self, index: int) -> bool:
        """Whether a tensor is an input or made by an operator; others that are read are constants or state."""
        return index in self.graph.inputs or any(index in operator.outputs for operator in self.operators)


def read(path: Path) -> Network:
    """The network in an INT8 `.tflite` file; raises ModelError for a broken file, BuildError for one that is no use."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    if content[4:8] != tflite.MAGIC:
        raise BuildError("C is generated from INT8 TFLite files, and this is none", where=str(path), hint=_QUANTIZE)
    graph = tflite.read(path)
    shapes = _shapes(graph, flatbuffer.unpack(content, len(content), str(path)))
    network = Network(graph=graph, shapes=shapes, constants=_constants(graph, shapes, content))
    _check(network)
    return network


def _shapes(graph: ModelGraph, raw: flatbuffer.RawModel) -> tuple[Shape, ...]:
    """Shapes as the file's own allocation has them; an open batch axis of an input is one sample."""
    stored = [tuple(map(int, tensor.shape)) for one in raw.graphs for tensor in one.tensors]
    for index in graph.inputs:
        spec, own = graph.tensors[index], stored[index]
        if -1 in spec.shape[1:] or (spec.shape[:1] == (-1,) and own[:1] != (1,)):
            raise _refused(graph, f"input {shown(spec.name)!r} has the dynamic shape {list(spec.shape)}")
    return tuple(stored)


def _constants(graph: ModelGraph, shapes: tuple[Shape, ...], content: bytes) -> dict[int, Array]:
    wanted = [t for t in graph.tensors[: _main_tensors(graph)] if t.is_constant]
    try:
        data = dict(flatbuffer.main_data(content, len(content), [tensor.index for tensor in wanted]))
    except flatbuffer.CORRUPT as error:
        raise ModelError("is not a whole TFLite file: a constant lies outside of it", where=graph.path) from error
    return {tensor.index: values for tensor in wanted if (values := _values(tensor, shapes, data)) is not None}


def _main_tensors(graph: ModelGraph) -> int:
    """Number of the main graph's tensors, which come first."""
    others = (
        tensor
        for operator in graph.operators
        if operator.subgraph
        for tensor in (*operator.inputs, *operator.outputs)
        if tensor >= 0
    )
    return min(others, default=len(graph.tensors))


def _values(tensor: TensorSpec, shapes: tuple[Shape, ...], data: Mapping[int, memoryview]) -> Array | None:
    """None where the data type is not one that kernels here read: int4 is left to be refused where it is used."""
    if tensor.dtype not in ("int8", "uint8", "int16", "int32", "int64", "bool", "float32"):
        return None
    kind = np.dtype(tensor.dtype).newbyteorder("<")
    shape = shapes[tensor.index]
    if len(data[tensor.index]) != kind.itemsize * math.prod(shape):
        return None  # sparse: the operator that reads it refuses it
    return np.frombuffer(data[tensor.index], kind).reshape(shape).astype(tensor.dtype)


def _check(network: Network) -> None:
    graph = network.graph
    if not network.operators:
        raise _refused(graph, "holds no operator, so there is nothing to compile")
    for operator in network.operators:
        _check_operator(network, operator)
    for index in (*graph.inputs, *graph.outputs):
        _check_tensor(network, index, "the model")
    sizes = sum(network.size_bytes(index) for index in _activations(network))
    if sizes > _LIMIT_BYTES:
        raise _refused(graph, f"its activations take {sizes} bytes; offsets have 32 bits")


def _activations(network: Network) -> Iterator[int]:
    used = dict.fromkeys(i for o in network.operators for i in (*o.inputs, *o.outputs) if i >= 0)
    yield from (index for index in used if index not in network.constants)


def _check_operator(network: Network, operator: Operator) -> None:
    place = f"operator {operator.index} ({shown(operator.type)})"
    if operator.custom or liveness.callees(operator):
        raise _refused(network.graph, f"{place} has no kernel in C")
    for index in _used(operator):
        _check_tensor(network, index, place)


def _used(operator: Operator) -> Iterable[int]:
    return (index for index in (*operator.inputs, *operator.outputs) if index >= 0)


def _check_tensor(network: Network, index: int, place: str) -> None:
    spec, shape, graph = network.tensor(index), network.shape(index), network.graph
    name = f"{place} uses tensor {index} ({shown(spec.name)[:60]!r}), which"
    if spec.is_constant and index not in network.constants:
        raise _refused(graph, f"{name} is stored as sparse or packed {spec.dtype}; there is no kernel for that")
    if any(size < 0 for size in shape):
        raise _refused(graph, f"{name} has the dynamic shape {list(shape)}")
    if any(size == 0 for size in shape):
        raise _refused(graph, f"{name} has no elements: its shape is {list(shape)}")
    if math.prod(shape) * max(1, BITS.get(spec.dtype, 8) // 8) > _LIMIT_BYTES:
        raise _refused(graph, f"{name} of shape {list(shape)} is larger than 32 bits can address")
    if index in network.constants:
        return
    if spec.dtype.startswith(("float", "bfloat")) and graph.state != "quantized":
        raise _refused(graph, f"{name} is {spec.dtype}: this model is not quantized", hint=_QUANTIZE)
    if spec.dtype not in (*ACTIVATIONS, "float32"):
        raise _refused(graph, f"{name} is {spec.dtype}; kernels take {', '.join(ACTIVATIONS)}")


def _refused(graph: ModelGraph, message: str, *, hint: str | None = None) -> BuildError:
    return BuildError(message, where=graph.path, hint=hint)

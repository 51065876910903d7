"""Operators as the generator lowers them, run by the kernels of this host's library: no C is generated or compiled."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.codegen import headers, lowering, network
from edgeq.codegen.arena import variables
from edgeq.codegen.needs import needs
from edgeq.codegen.network import Network
from edgeq.codegen.program import Activation, Argument, Scratch, Step, Struct, Table
from edgeq.testing.tflite import Graph, write_tflite

Array = NDArray[Any]


class Stepper:
    """A graph's main operators one after another, each tensor in memory of its own, states kept from run to run."""

    def __init__(self, folder: Path, graph: Graph) -> None:
        self.net: Network = network.read(write_tflite(folder / "model.tflite", graph))
        self.steps: list[Step] = [lowering.lower(self.net, operator) for operator in self.net.operators]
        self.states: dict[int, Array] = {}

    def run(self, library: ctypes.CDLL, feeds: Sequence[Array]) -> list[Array]:
        """The outputs, in the graph's order. Scratch memory is of the size that `needs` says, and full of rubbish."""
        net = self.net
        values = dict(zip(net.graph.inputs, map(np.ascontiguousarray, feeds), strict=True)) | self._states()
        for operator, step in zip(net.operators, self.steps, strict=True):
            for tensor in operator.outputs:
                values[tensor] = np.full(net.shape(tensor), 99, net.tensor(tensor).dtype)
            scratch = _rubbish(needs(operator, net.graph, net.shapes).scratch_bytes)
            if not step.calls:
                values[operator.outputs[0]].ravel()[:] = values[operator.inputs[0]].ravel()
            for call in step.calls:
                kept: list[object] = []
                arguments = [_argument(one, values, scratch, kept) for one in call.arguments]
                getattr(library, call.function)(*arguments)
        return [values[tensor] for tensor in net.graph.outputs]

    def _states(self) -> dict[int, Array]:
        if not self.states:
            graph = self.net.graph
            constant = set(self.net.constants)
            for tensor in variables(graph, list(self.net.operators), constant):
                spec = self.net.tensor(tensor)
                zero = spec.quantization.zero_points[0] if spec.quantization and spec.dtype == "int8" else 0
                self.states[tensor] = np.full(self.net.shape(tensor), zero, spec.dtype)
        return self.states


def _rubbish(size_bytes: int) -> Array:
    return np.full(max(-(-size_bytes // 4), 1), 0x5A5A5A5A, np.uint32)


def _argument(argument: Argument, values: dict[int, Array], scratch: Array, kept: list[object]) -> Any:
    if isinstance(argument, Struct):
        made = _structure(argument, kept)
        kept.append(made)
        return ctypes.byref(made)
    if isinstance(argument, Table):
        return _address(argument.values, kept)
    if isinstance(argument, Activation):
        return ctypes.c_void_p(values[argument.tensor].ctypes.data + argument.offset)
    if isinstance(argument, Scratch):
        return ctypes.c_void_p(scratch.ctypes.data)
    return ctypes.c_size_t(argument)


def _address(values: Array, kept: list[object]) -> ctypes.c_void_p:
    whole = np.ascontiguousarray(values)
    kept.append(whole)
    return ctypes.c_void_p(whole.ctypes.data)


def _structure(struct: Struct, kept: list[object]) -> ctypes.Structure:
    made = _type(struct.type)()
    for name, value in struct.fields.items():
        if isinstance(value, Struct):
            setattr(made, name, _structure(value, kept))
        elif isinstance(value, Table):
            setattr(made, name, _address(value.values, kept))
        elif isinstance(value, tuple):
            getattr(made, name)[:] = value
        else:
            setattr(made, name, value)
            if getattr(made, name) != value:
                raise AssertionError(f"{struct.type}.{name} cannot hold {value}")
    return made


@functools.cache
def _type(name: str) -> type[ctypes.Structure]:
    """The C struct of the kernels' header."""
    fields: list[tuple[str, Any]] = []
    for field, declared in headers.structs()[name].items():
        kind: Any = getattr(ctypes, f"c_{declared.type.removesuffix('_t')}", None) or _type(declared.type)
        kind = ctypes.c_void_p if declared.is_pointer else kind
        fields.append((field, kind * declared.length if declared.length else kind))
    return type(name, (ctypes.Structure,), {"_fields_": fields})

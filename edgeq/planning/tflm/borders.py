"""The operators that a converter sets between integer and float ones."""

from __future__ import annotations

import dataclasses
import math

from edgeq.types import ModelGraph, Operator, TensorSpec

CASTS = ("QUANTIZE", "DEQUANTIZE", "CAST")
INTEGERS = {"int8": 1, "uint8": 1, "int16": 2}
WIDTHS = {**INTEGERS, "float32": 4}


def with_borders(graph: ModelGraph) -> ModelGraph:
    """The graph with a QUANTIZE or DEQUANTIZE where an operator reads what is made in the other kind of type.

    For a planned graph: its inputs and outputs become integers as well. A file that has such operators, or that is
    all of one kind, stays as it is.
    """
    made = [graph.tensors[index] for operator in graph.operators for index in operator.outputs]
    kinds = [tensor.dtype for tensor in made if tensor.dtype in WIDTHS]
    integers = [kind for kind in kinds if kind in INTEGERS]
    if not integers or "float32" not in kinds or any(_casts(graph, operator) for operator in graph.operators):
        return graph
    return _Borders(graph, integers[0]).drawn()


def _casts(graph: ModelGraph, operator: Operator) -> bool:
    """Whether an operator turns integer activations into float ones or back."""
    if operator.type not in CASTS[:2]:
        return False
    return any(index >= 0 and not graph.tensors[index].is_constant for index in operator.inputs)


class _Borders:
    """A graph that gets tensors and operators at its end and between its operators."""

    def __init__(self, graph: ModelGraph, integer: str) -> None:
        self.graph, self.integer = graph, integer
        self.tensors = list(graph.tensors)
        self.operators: list[Operator] = []
        self.copies: dict[tuple[int, bool], int] = {}
        self.number = max(operator.index for operator in graph.operators) + 1

    def drawn(self) -> ModelGraph:
        inputs = tuple(self._port(index) for index in self.graph.inputs)
        for given, port in zip(self.graph.inputs, inputs, strict=True):
            if given != port:
                self._cast(port, given)
        for operator in self.graph.operators:
            self.operators.append(operator if operator.subgraph else self._reading(operator))
        outputs = tuple(self._as(index, is_float=False) for index in self.graph.outputs)
        tensors, operators = tuple(self.tensors), tuple(self.operators)
        return dataclasses.replace(self.graph, inputs=inputs, outputs=outputs, tensors=tensors, operators=operators)

    def _port(self, index: int) -> int:
        """An input, or the integer one that takes its place."""
        if self.tensors[index].dtype != "float32":
            return index
        port = self._added(index, self.integer)
        self.copies[index, False] = port
        return port

    def _reading(self, operator: Operator) -> Operator:
        kinds = [self.tensors[index].dtype for index in operator.outputs]
        kinds = [kind for kind in kinds if kind in WIDTHS]
        if not kinds or operator.type in CASTS:
            return operator
        inputs = tuple(self._as(index, is_float=kinds[0] == "float32") for index in operator.inputs)
        return dataclasses.replace(operator, inputs=inputs)

    def _as(self, index: int, *, is_float: bool) -> int:
        """A tensor in the wanted kind of type: itself, or a copy that an operator makes."""
        tensor = self.tensors[index] if index >= 0 else None
        if tensor is None or tensor.is_constant or tensor.dtype not in WIDTHS:
            return index
        if (tensor.dtype == "float32") == is_float:
            return index
        if (index, is_float) not in self.copies:
            copy = self._added(index, "float32" if is_float else self.integer)
            self._cast(index, copy)
            self.copies[index, is_float] = copy
        return self.copies[index, is_float]

    def _added(self, index: int, dtype: str) -> int:
        source: TensorSpec = self.tensors[index]
        count = math.ceil(source.size_bytes / WIDTHS[source.dtype])
        copy = len(self.tensors)
        changes = {"index": copy, "dtype": dtype, "size_bytes": count * WIDTHS[dtype], "quantization": None}
        self.tensors.append(dataclasses.replace(source, **changes))  # type: ignore[arg-type]
        return copy

    def _cast(self, source: int, result: int) -> None:
        kind = "DEQUANTIZE" if self.tensors[result].dtype == "float32" else "QUANTIZE"
        cast = Operator(index=self.number, type=kind, version=1, inputs=(source,), outputs=(result,))
        self.operators.append(cast)
        self.number += 1

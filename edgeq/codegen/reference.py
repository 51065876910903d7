"""What a microcontroller computes, on this host: the oracle of golden vectors.

LiteRT's reference kernels equal tflite-micro's, with exceptions: FULLY_CONNECTED rounds once where tflite-micro
rounds twice, and LOGISTIC, TANH and the LSTM's curves are others. They are a few steps apart. MUL takes
its scales' product in float32. With int16 activations SOFTMAX differs, and ADD and SUB whose scales are powers of two.
So the model is cut at these operators, and at SVDF, whose state must last: they are computed in `twins`, the rest by
LiteRT.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from edgeq.codegen import network
from edgeq.codegen.lowering.operands import Operands
from edgeq.codegen.network import Array, Network
from edgeq.codegen.twins import int8, int16, states
from edgeq.codegen.twins.part import Part
from edgeq.runtimes import litert
from edgeq.types import Operator, Port


def open(path: Path) -> Reference:
    """An integer `.tflite` file that `network.read` takes; raises ModelError and BuildError."""
    return Reference(path)


class Reference:
    """One loaded model, as a session of `edgeq.runtimes`: arrays are stored values in the ports' order."""

    def __init__(self, path: Path) -> None:
        self._net = network.read(path)
        whole = litert.open(path, kernels="reference")
        self.inputs: tuple[Port, ...] = whole.inputs
        self.outputs: tuple[Port, ...] = whole.outputs
        self._parts = list(_parts(self._net, path))

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """One inference of one sample from the state of a reset; raises ModelError for arrays that do not fit."""
        return self.sequence([inputs])[0]

    def sequence(self, samples: Sequence[Sequence[Array]]) -> list[list[Array]]:
        """Inferences one after another, the first from the state of a reset, each from what the one before left."""
        for part in self._parts:
            part.reset()
        return [self._infer(inputs) for inputs in samples]

    def _infer(self, inputs: Sequence[Array]) -> list[Array]:
        values: dict[int, Array] = dict(zip(self._net.graph.inputs, inputs, strict=True))
        for part in self._parts:
            part.run(values)
        return [values[tensor] for tensor in self._net.graph.outputs]


def _parts(net: Network, path: Path) -> Iterator[Part]:
    made = {operator.index: _own(net, operator) for operator in net.operators}
    for is_own, operators in groupby(net.operators, key=lambda one: made[one.index] is not None):
        group = list(operators)
        if is_own:
            yield from (part for operator in group if (part := made[operator.index]) is not None)
        else:
            yield _Between(net, path, group)


def _own(net: Network, operator: Operator) -> Part | None:
    """The operator as it is computed here; None for one that LiteRT computes as tflite-micro does."""
    at = Operands(net, operator)
    if operator.type in states.OWN:
        return states.OWN[operator.type](at)
    if at.dtype(at.output()) == "int16":
        return int16.own(at)
    return int8.OWN[operator.type](at) if operator.type in int8.OWN else None


class _Between(Part):
    """A run of other operators as a model of its own."""

    def __init__(self, net: Network, path: Path, operators: Sequence[Operator]) -> None:
        made = {tensor for operator in operators for tensor in operator.outputs}
        read = dict.fromkeys(tensor for operator in operators for tensor in operator.inputs if tensor >= 0)
        later = {t for o in net.operators if o.index > operators[-1].index for t in o.inputs} | set(net.graph.outputs)
        known = set(net.constants) | made
        self.inputs = [tensor for tensor in read if tensor not in known and net.is_made(tensor)]
        self.outputs = sorted(made & later)
        self.shapes = [net.shape(tensor) for tensor in self.inputs]
        with tempfile.TemporaryDirectory(prefix="edgeq-part-") as folder:
            part = Path(folder) / "part.tflite"
            part.write_bytes(_cut(path, operators, self.inputs, self.outputs))
            self.session = litert.open(part, kernels="reference")

    def run(self, values: dict[int, Array]) -> None:
        given = [values[tensor].reshape(shape) for tensor, shape in zip(self.inputs, self.shapes, strict=True)]
        values.update(zip(self.outputs, self.session.run(given), strict=True))


def _cut(path: Path, operators: Sequence[Operator], inputs: list[int], outputs: list[int]) -> bytes:
    """The file with these operators of the main graph only, their shapes static."""
    import flatbuffers  # type: ignore[import-untyped]
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    graph = copy.copy(model.subgraphs[0])
    graph.operators = [graph.operators[operator.index] for operator in operators]
    graph.inputs, graph.outputs = inputs, outputs
    for tensor in graph.tensors:
        tensor.shapeSignature = None
    model.subgraphs, model.signatureDefs = [graph], []
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())

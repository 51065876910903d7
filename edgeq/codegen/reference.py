"""What a microcontroller computes, on this host: the oracle of golden vectors.

LiteRT's reference kernels equal tflite-micro's, with exceptions: FULLY_CONNECTED rounds once where tflite-micro
rounds twice, and LOGISTIC, TANH and the LSTM's curves are others. They are a few steps apart. So the model is cut at
these operators: they are computed here, the rest by LiteRT.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeq.codegen import multipliers, network, tables
from edgeq.codegen.lowering import recurrent
from edgeq.codegen.lowering.operands import Operands
from edgeq.codegen.multipliers import Multiplier
from edgeq.codegen.network import Array, Network
from edgeq.errors import BuildError
from edgeq.runtimes import litert
from edgeq.types import Operator, Port, Quantization, TensorSpec


def open(path: Path) -> Reference:
    """An INT8 `.tflite` file that `network.read` takes; raises ModelError and BuildError."""
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
        """One inference of one sample; raises ModelError for arrays that do not fit."""
        values: dict[int, Array] = dict(zip(self._net.graph.inputs, inputs, strict=True))
        for part in self._parts:
            part.run(values)
        return [values[tensor] for tensor in self._net.graph.outputs]


def _parts(net: Network, path: Path) -> Iterator[_Dense | _Table | _Lstm | _Between]:
    for is_own, operators in groupby(net.operators, key=lambda one: one.type in _OWN):
        group = list(operators)
        if is_own:
            yield from (_OWN[operator.type](net, operator) for operator in group)
        else:
            yield _Between(net, path, group)


class _Dense:
    """FULLY_CONNECTED with tflite-micro's rounding."""

    def __init__(self, net: Network, operator: Operator) -> None:
        self.source, self.output = operator.inputs[0], operator.outputs[0]
        self.shape = net.shape(self.output)
        self.weights = net.constants[operator.inputs[1]].astype(np.int64)
        has_bias = len(operator.inputs) > 2 and operator.inputs[2] >= 0
        self.bias = net.constants[operator.inputs[2]].astype(np.int64) if has_bias else np.zeros(1, np.int64)
        source, weights, output = (
            _grid(net.tensor(tensor)) for tensor in (self.source, operator.inputs[1], self.output)
        )
        self.input_zero, self.zero = source.zero_points[0], output.zero_points[0]
        made = multipliers.dense(source.scales[0], weights.scales, output.scales[0])
        self.mantissa = np.array([one.mantissa for one in made], np.int64)
        self.right_shift = np.array([one.right_shift for one in made], np.int64)
        activation = str(operator.attributes.get("fused_activation_function", "NONE"))
        self.limits = multipliers.clamp(activation, output.scales[0], self.zero)

    def run(self, values: dict[int, Array]) -> None:
        rows = values[self.source].reshape(-1, self.weights.shape[1]).astype(np.int64) - self.input_zero
        sums = rows @ self.weights.T + self.bias
        stored = np.clip(rescaled(sums, self.mantissa, self.right_shift) + self.zero, *self.limits)
        values[self.output] = stored.astype(np.int8).reshape(self.shape)


def _grid(tensor: TensorSpec) -> Quantization:
    if tensor.quantization is None:
        raise BuildError(f"tensor {tensor.index} has no scale")
    return tensor.quantization


def rescaled(sums: NDArray[np.int64], mantissa: NDArray[np.int64], right_shift: NDArray[np.int64]) -> NDArray[np.int64]:
    """sums * mantissa * 2^(-31 - right_shift), rounded twice: halves up, then halves away from zero."""
    left, right = np.maximum(-right_shift, 0), np.maximum(right_shift, 0)
    high = ((sums << left) * mantissa + (1 << 30)) >> 31
    mask = (np.int64(1) << right) - 1
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0))


class _Table:
    """LOGISTIC and TANH by their table."""

    def __init__(self, net: Network, operator: Operator) -> None:
        self.source, self.output = operator.inputs[0], operator.outputs[0]
        grid = _grid(net.tensor(self.source))
        make = {"LOGISTIC": tables.logistic, "TANH": tables.tanh}[operator.type]
        self.answers = make(tables.Grid(grid.scales[0], grid.zero_points[0]))

    def run(self, values: dict[int, Array]) -> None:
        values[self.output] = self.answers[values[self.source].astype(np.int64) + 128]


class _Gate(NamedTuple):
    weights: NDArray[np.int64]
    recurrent: NDArray[np.int64]
    bias: NDArray[np.int64]
    factors: tuple[Multiplier, Multiplier]


class _Lstm:
    """UNIDIRECTIONAL_SEQUENCE_LSTM from zero states, in tflite-micro's integers."""

    def __init__(self, net: Network, operator: Operator) -> None:
        at = Operands(net, operator)
        self.source, self.output = operator.inputs[0], operator.outputs[0]
        self.is_time_major = bool(at.number("time_major"))
        self.input_zero, self.zero = at.zero_point(self.source), at.zero_point(at.index(recurrent.HIDDEN))
        cell, hidden = at.scale(at.index(recurrent.CELL)), at.scale(at.index(recurrent.HIDDEN))
        self.products = multipliers.lstm(cell, hidden, at.real("cell_clip"))
        self.gates = {
            gate: _Gate(
                at.constant(recurrent.WEIGHTS + place).astype(np.int64),
                at.constant(recurrent.RECURRENT + place).astype(np.int64),
                at.constant(recurrent.BIASES + place).astype(np.int64),
                recurrent.gate_multipliers(at, place),
            )
            for gate, place in recurrent.GATES.items()
        }

    def run(self, values: dict[int, Array]) -> None:
        feed = np.asarray(values[self.source], np.int64)
        batches = feed.transpose(1, 0, 2) if self.is_time_major else feed
        shown = np.stack([self._sequence(one) for one in batches]).astype(np.int8)
        values[self.output] = shown.transpose(1, 0, 2) if self.is_time_major else shown

    def _sequence(self, feed: NDArray[np.int64]) -> NDArray[np.int64]:
        cells = len(self.gates["cell"].bias)
        hidden, state, shown = np.full(cells, self.zero, np.int64), np.zeros(cells, np.int64), []
        for x in feed:
            hidden, state = self._step(x - self.input_zero, hidden - self.zero, state)
            shown.append(hidden)
        return np.array(shown)

    def _step(
        self, x: NDArray[np.int64], hidden: NDArray[np.int64], state: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        sums = {
            name: _clip16(
                _clip16(_scaled(gate.weights @ x + gate.bias, gate.factors[0]))
                + _clip16(_scaled(gate.recurrent @ hidden, gate.factors[1]))
            )
            for name, gate in self.gates.items()
        }
        made = self.products
        kept = _clip16(_scaled(_logistic(sums["forget"]) * state, made.forget))
        fresh = _clip16(_scaled(_logistic(sums["input"]) * _tanh(sums["cell"], 0), made.input))
        state = _clip16(kept + fresh)
        if made.cell_clip:
            state = np.clip(state, -made.cell_clip, made.cell_clip)
        out = _scaled(_tanh(state, made.cell_power) * _logistic(sums["output"]), made.hidden)
        return np.clip(out + self.zero, -128, 127), state


def _clip16(values: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.clip(values, -32768, 32767)


def _scaled(values: NDArray[np.int64], factor: Multiplier) -> NDArray[np.int64]:
    return rescaled(values, np.array(factor.mantissa), np.array(factor.right_shift))


def _logistic(q12: NDArray[np.int64]) -> NDArray[np.int64]:
    """A sigmoid of Q3.12 in Q0.15, between the entries of a table."""
    scaled = 3 * q12
    y = _between(scaled, 9, 0x7FFF << 10)
    return np.where(scaled >= 0, y + 512, (1 << 25) - y + 511) >> 10


def _tanh(q12: NDArray[np.int64], power: int) -> NDArray[np.int64]:
    """tanh of Q3.12 * 2^power in Q0.15, from the same table."""
    wide = 3 * q12
    scaled = wide << power if power >= 0 else (wide + (1 << (-power - 1))) >> -power
    y = _between(scaled, 8, 0xFFFF << 8) - (1 << 23)
    return np.where(scaled >= 0, y + 128, -y + 127) >> 8


def _between(scaled: NDArray[np.int64], bits: int, last: int) -> NDArray[np.int64]:
    table = tables.sigmoid().astype(np.int64)
    size = np.abs(scaled)
    entry = np.minimum(size >> bits, 254)
    y = (table[entry] << bits) + (size & ((1 << bits) - 1)) * (table[entry + 1] - table[entry])
    return np.where(size >> bits >= 255, last, y)


_OWN: Mapping[str, type[_Dense | _Table | _Lstm]] = {
    "FULLY_CONNECTED": _Dense,
    "LOGISTIC": _Table,
    "TANH": _Table,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _Lstm,
}


class _Between:
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

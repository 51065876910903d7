"""Operators whose state outlives an inference: SVDF, and the LSTM, whose curves differ besides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeq.codegen import multipliers, tables
from edgeq.codegen.lowering import recurrent
from edgeq.codegen.lowering.operands import Operands
from edgeq.codegen.multipliers import Multiplier
from edgeq.codegen.network import Array
from edgeq.codegen.twins.part import Part, scaled


class _Gate(NamedTuple):
    weights: NDArray[np.int64]
    recurrent: NDArray[np.int64]
    bias: NDArray[np.int64]
    factors: tuple[Multiplier, Multiplier]


class Lstm(Part):
    """UNIDIRECTIONAL_SEQUENCE_LSTM from zero states, in tflite-micro's integers."""

    def __init__(self, at: Operands) -> None:
        self.source, self.output = at.index(0), at.output()
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

        self.states: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    def reset(self) -> None:
        self.states = {}

    def run(self, values: dict[int, Array]) -> None:
        feed = np.asarray(values[self.source], np.int64)
        batches = feed.transpose(1, 0, 2) if self.is_time_major else feed
        shown = np.stack([self._sequence(number, one) for number, one in enumerate(batches)]).astype(np.int8)
        values[self.output] = shown.transpose(1, 0, 2) if self.is_time_major else shown

    def _sequence(self, batch: int, feed: NDArray[np.int64]) -> NDArray[np.int64]:
        cells = len(self.gates["cell"].bias)
        fresh = np.full(cells, self.zero, np.int64), np.zeros(cells, np.int64)
        (hidden, state), shown = self.states.get(batch, fresh), []
        for x in feed:
            hidden, state = self._step(x - self.input_zero, hidden - self.zero, state)
            shown.append(hidden)
        self.states[batch] = hidden, state
        return np.array(shown)

    def _step(
        self, x: NDArray[np.int64], hidden: NDArray[np.int64], state: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        sums = {
            name: _clip16(
                _clip16(scaled(gate.weights @ x + gate.bias, gate.factors[0]))
                + _clip16(scaled(gate.recurrent @ hidden, gate.factors[1]))
            )
            for name, gate in self.gates.items()
        }
        made = self.products
        kept = _clip16(scaled(_logistic(sums["forget"]) * state, made.forget))
        fresh = _clip16(scaled(_logistic(sums["input"]) * _tanh(sums["cell"], 0), made.input))
        state = _clip16(kept + fresh)
        if made.cell_clip:
            state = np.clip(state, -made.cell_clip, made.cell_clip)
        out = scaled(_tanh(state, made.cell_power) * _logistic(sums["output"]), made.hidden)
        return np.clip(out + self.zero, -128, 127), state


class Svdf(Part):
    """SVDF with a state of int8 or int16, newest values last."""

    def __init__(self, at: Operands) -> None:
        self.source, self.output = at.index(0), at.output()
        self.features, times = at.constant(recurrent.FEATURES).astype(np.int64), at.constant(recurrent.TIMES)
        self.times, self.limits = times.astype(np.int64), np.iinfo(times.dtype.name)
        self.units = len(times) // at.number("rank")
        self.bias = recurrent.svdf_bias(at, self.units).astype(np.int64)
        self.input_zero, self.zero = at.zero_point(self.source), at.zero_point(self.output)
        self.state_zero = at.zero_point(at.index(recurrent.STATE))
        self.made = recurrent.svdf_multipliers(at)
        self.batches = at.shape(0)[0]
        self.reset()

    def reset(self) -> None:
        self.state = np.full((self.batches, *self.times.shape), self.state_zero, np.int64)

    def run(self, values: dict[int, Array]) -> None:
        feed = values[self.source].astype(np.int64) - self.input_zero
        newest = np.clip(
            scaled(feed @ self.features.T, self.made.feature) + self.state_zero, self.limits.min, self.limits.max
        )
        self.state = np.concatenate([self.state[:, :, 1:], newest[:, :, np.newaxis]], axis=2)
        sums = ((self.state - self.state_zero) * self.times).sum(axis=2)
        units = sums.reshape(self.batches, self.units, -1).sum(axis=2) + self.bias
        values[self.output] = np.clip(scaled(units, self.made.out) + self.zero, -128, 127).astype(np.int8)


def _clip16(values: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.clip(values, -32768, 32767)


def _logistic(q12: NDArray[np.int64]) -> NDArray[np.int64]:
    """A sigmoid of Q3.12 in Q0.15, between the entries of a table."""
    at = 3 * q12
    y = _between(at, 9, 0x7FFF << 10)
    return np.where(at >= 0, y + 512, (1 << 25) - y + 511) >> 10


def _tanh(q12: NDArray[np.int64], power: int) -> NDArray[np.int64]:
    """tanh of Q3.12 * 2^power in Q0.15, from the same table."""
    wide = 3 * q12
    at = wide << power if power >= 0 else (wide + (1 << (-power - 1))) >> -power
    y = _between(at, 8, 0xFFFF << 8) - (1 << 23)
    return np.where(at >= 0, y + 128, -y + 127) >> 8


def _between(at: NDArray[np.int64], bits: int, last: int) -> NDArray[np.int64]:
    table = tables.sigmoid().astype(np.int64)
    size = np.abs(at)
    entry = np.minimum(size >> bits, 254)
    y = (table[entry] << bits) + (size & ((1 << bits) - 1)) * (table[entry + 1] - table[entry])
    return np.where(size >> bits >= 255, last, y)


OWN: Mapping[str, type[Lstm | Svdf]] = {"UNIDIRECTIONAL_SEQUENCE_LSTM": Lstm, "SVDF": Svdf}
"""By operator."""

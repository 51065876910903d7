"""Operators with a state that outlives an inference: SVDF, and UNIDIRECTIONAL_SEQUENCE_LSTM of INT8 with a 16-bit cell
(no peepholes, projection, normalization or coupled gates).
"""

from __future__ import annotations

import math

import numpy as np

from edgeq.codegen import layouts, multipliers
from edgeq.codegen.lowering.operands import Operands
from edgeq.codegen.multipliers import Multiplier
from edgeq.codegen.network import Array
from edgeq.codegen.program import C_TYPES, Activation, Call, Scratch, Step, Struct, Table, Value
from edgeq.types import Shape

GATES = {"input": 0, "forget": 1, "cell": 2, "output": 3}
"""By gate its place among the operands of each kind: weights from 1 on, recurrent ones from 5, biases from 12."""
WEIGHTS, RECURRENT, BIASES, HIDDEN, CELL = 1, 5, 12, 18, 19
_ABSENT = (*range(9, 12), 16, 17, *range(20, 24))
GATE_SCALE = 2.0**-12


def lstm(at: Operands) -> Step:
    """The whole sequence in one call; both states lie in the arena and outlive the inference."""
    _check(at)
    shape, major = at.shape(0), bool(at.number("time_major"))
    batches, steps = (shape[1], shape[0]) if major else shape[:2]
    cells = at.shape(HIDDEN)[-1]
    at.wants_shape(at.output(), (*shape[:2], cells))
    hidden = at.index(HIDDEN)
    with at.scaling():
        made = multipliers.lstm(at.scale(at.index(CELL)), at.scale(hidden), at.real("cell_clip"))
    products: dict[str, Multiplier] = {"forget": made.forget, "input": made.input, "hidden": made.hidden}
    fields: dict[str, Value] = {
        "batches": batches,
        "steps": steps,
        "in_c": shape[2],
        "cells": cells,
        "time_major": int(major),
        "cell_power": made.cell_power,
        "in_offset": -at.zero_point(at.index(0)),
        "hidden_offset": -at.zero_point(hidden),
        "cell_clip": made.cell_clip,
        **{gate: _gate(at, place, shape[2], cells) for gate, place in GATES.items()},
        **{f"{name}_multiplier": one.mantissa for name, one in products.items()},
        **{f"{name}_shift": one.right_shift for name, one in products.items()},
    }
    states = Activation(hidden, "int8_t"), Activation(at.index(CELL), "int16_t")
    arguments = (Struct("eq_lstm_params", fields), at.read(0), *states, at.written(), Scratch())
    return Step(calls=(Call("eq_lstm_s8", arguments),))


def _check(at: Operands) -> None:
    if any(at.has(place) for place in _ABSENT):
        raise at.refused("has peepholes, a projection or layer normalization, which have no kernel")
    if at.text("fused_activation_function", "TANH") != "TANH":
        raise at.refused(f"has the activation {at.text('fused_activation_function')}; its kernel computes TANH")
    at.wants("int8", at.index(0), at.index(HIDDEN), at.output())
    at.wants("int16", at.index(CELL))
    at.wants_rank(3, at.index(0))
    if any(at.net.is_constant(at.index(place)) or at.net.is_made(at.index(place)) for place in (HIDDEN, CELL)):
        raise at.refused("wants states that outlive an inference (variables)")
    shape, cells = at.shape(0), at.shape(HIDDEN)[-1]
    batches = shape[1] if at.number("time_major") else shape[0]
    if any(math.prod(at.shape(place)) != batches * cells for place in (HIDDEN, CELL)):
        raise at.refused(f"has states of shapes {list(at.shape(HIDDEN))} and {list(at.shape(CELL))}")
    grids = [(at.scale(tensor), at.zero_point(tensor)) for tensor in (at.index(HIDDEN), at.output())]
    if grids[0] != grids[1]:
        raise at.refused("has an output on another grid than its hidden state")


def _gate(at: Operands, place: int, in_c: int, cells: int) -> Struct:
    sizes = {WEIGHTS: (cells, in_c), RECURRENT: (cells, cells)}
    for kind, shape in sizes.items():
        weights = at.constant(kind + place)
        if (
            weights.dtype != np.int8
            or weights.shape != shape
            or any(at.quantization(at.index(kind + place)).zero_points)
        ):
            raise at.refused(f"has weights of {weights.dtype} {list(weights.shape)} as operand {kind + place}")
    bias = at.constant(BIASES + place)
    if bias.dtype != np.int32 or bias.shape != (cells,):
        raise at.refused(f"has a bias of {bias.dtype} {list(bias.shape)} as operand {BIASES + place}")
    own, recurrent = gate_multipliers(at, place)
    fields: dict[str, Value] = {
        "input_weights": Table(layouts.pack_rows(at.constant(WEIGHTS + place))),
        "recurrent_weights": Table(layouts.pack_rows(at.constant(RECURRENT + place))),
        "bias": Table(bias),
        "input_multiplier": own.mantissa,
        "recurrent_multiplier": recurrent.mantissa,
        "input_shift": own.right_shift,
        "recurrent_shift": recurrent.right_shift,
    }
    return Struct("eq_lstm_gate", fields)


def gate_multipliers(at: Operands, place: int) -> tuple[Multiplier, Multiplier]:
    """A gate's multipliers, for what comes in and for what comes back."""
    pairs = ((0, WEIGHTS + place), (HIDDEN, RECURRENT + place))
    with at.scaling():
        own, recurrent = (
            multipliers.dense(at.scale(at.index(source)), [at.scale(at.index(weights))], GATE_SCALE)[0]
            for source, weights in pairs
        )
    return own, recurrent


FEATURES, TIMES, BIAS, STATE = 1, 2, 3, 4
"""SVDF's operands."""


def svdf(at: Operands) -> Step:
    """SVDF: its state, of int8 or int16 as its weights in time, lies in the arena."""
    shape, times = at.shape(0), at.constant(TIMES)
    if at.text("fused_activation_function", "NONE") != "RELU":
        raise at.refused("has no RELU; the reference's integers know no other activation of it")
    features, rank = _features(at, shape), at.number("rank")
    if rank < 1 or features.shape[0] % rank or times.shape[:1] != features.shape[:1] or times.ndim != 2:
        raise at.refused(f"has weights of shapes {list(features.shape)} and {list(times.shape)} of rank {rank}")
    filters, memory = times.shape
    state = _state(at, times.dtype.name, shape[0] * filters * memory)
    at.wants_shape(at.output(), (shape[0], filters // rank))
    with at.scaling():
        made = svdf_multipliers(at)
    fields: dict[str, Value] = {
        "batches": shape[0],
        "in_c": shape[1],
        "filters": filters,
        "rank": rank,
        "memory": memory,
        "is_wide": int(times.dtype == np.int16),
        "in_offset": -at.zero_point(at.index(0)),
        "state_zero_point": at.zero_point(at.index(STATE)),
        "out_offset": at.zero_point(at.output()),
        "feature_multiplier": made.feature.mantissa,
        "out_multiplier": made.out.mantissa,
        "feature_shift": made.feature.right_shift,
        "out_shift": made.out.right_shift,
    }
    constants = Table(features), Table(times), Table(svdf_bias(at, filters // rank))
    arguments = (Struct("eq_svdf_params", fields), at.read(0), *constants, state, at.written())
    return Step(calls=(Call("eq_svdf_s8", arguments),))


def _features(at: Operands, shape: Shape) -> Array:
    at.wants("int8", at.index(0), at.output())
    at.wants_rank(2, at.index(0))
    features = at.constant(FEATURES)
    if features.dtype != np.int8 or features.ndim != 2 or features.shape[1] != shape[1]:
        raise at.refused(f"has weights of {features.dtype} {list(features.shape)} for {shape[1]} features")
    if any(point for place in (FEATURES, TIMES) for point in at.quantization(at.index(place)).zero_points):
        raise at.refused("has weights with a zero point, which has no kernel")
    return features


def _state(at: Operands, dtype: str, count: int) -> Activation:
    """The state as an argument; refuses one that is made or stored, and other types than the weights in time."""
    tensor = at.index(STATE)
    if at.net.is_constant(tensor) or at.net.is_made(tensor):
        raise at.refused("wants a state that outlives an inference (a variable)")
    if dtype not in ("int8", "int16") or at.dtype(tensor) != dtype or math.prod(at.shape(STATE)) != count:
        raise at.refused(f"has a state of {at.dtype(tensor)} {list(at.shape(STATE))} for weights of {dtype}")
    if dtype == "int16" and at.zero_point(tensor):
        raise at.refused("wants a zero point of 0 for its state of int16")
    return Activation(tensor, C_TYPES[dtype])


def svdf_bias(at: Operands, units: int) -> Array:
    """SVDF's bias, zeros where it has none."""
    if not at.has(BIAS):
        return np.zeros(units, np.int32)
    bias = at.constant(BIAS)
    if bias.dtype != np.int32 or bias.shape != (units,):
        raise at.refused(f"has a bias of {bias.dtype} {list(bias.shape)} for {units} units")
    return bias


def svdf_multipliers(at: Operands) -> multipliers.Svdf:
    """SVDF's two multipliers; raises ValueError where they do not fit."""
    tensors = at.index(0), at.index(FEATURES), at.index(STATE), at.index(TIMES), at.output()
    return multipliers.svdf(*map(at.scale, tensors))

"""UNIDIRECTIONAL_SEQUENCE_LSTM of INT8 with a 16-bit cell: no peepholes, projection, normalization or coupled gates."""

from __future__ import annotations

import math

import numpy as np

from edgeq.codegen import layouts, multipliers
from edgeq.codegen.lowering.operands import Operands
from edgeq.codegen.multipliers import Multiplier
from edgeq.codegen.program import Activation, Call, Scratch, Step, Struct, Table, Value

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

"""Operators of one operand: a table of 256 answers where the input is int8, arithmetic where it is int16; QUANTIZE,
DEQUANTIZE, CAST.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from edgeq.codegen import multipliers, tables
from edgeq.codegen.lowering.operands import Operands
from edgeq.codegen.multipliers import Multiplier
from edgeq.codegen.program import SUFFIXES, Call, Step, Struct, Table, Value
from edgeq.codegen.tables import Grid


def _grid(at: Operands, tensor: int) -> Grid:
    return Grid(at.scale(tensor), at.zero_point(tensor))


def _is_wide(at: Operands) -> bool:
    """Whether input and output are int16."""
    return at.suffix(at.index(0), at.output()) == "s16"


def _ends(at: Operands) -> tuple[Grid, Grid]:
    """Grids of input and output, both of one data type and one shape."""
    source, output = at.index(0), at.output()
    at.suffix(source, output)
    at.wants_shape(output, at.net.shape(source))
    return _grid(at, source), _grid(at, output)


def _lookup(at: Operands, values: tables.Table) -> Step:
    return _call(at, "eq_lookup_s8", Table(np.asarray(values, np.int8)))


def _call(at: Operands, function: str, first: Table | Struct, c_type: str | None = None) -> Step:
    count = math.prod(at.net.shape(at.index(0)))
    return Step(calls=(Call(function, (first, at.read(0), at.written(c_type=c_type), count)),))


def logistic(at: Operands) -> Step:
    """LOGISTIC; the output's grid is fixed, as in the reference."""
    source, output = _ends(at)
    if _is_wide(at):
        return _curve(at, "eq_logistic_s16", doubles=False)
    if output != Grid(1 / 256, -128):
        raise at.refused("has an output whose scale is not 1/256 with zero point -128")
    return _lookup(at, tables.logistic(source))


def tanh(at: Operands) -> Step:
    """TANH; the output's grid is fixed, as in the reference."""
    source, output = _ends(at)
    if _is_wide(at):
        return _curve(at, "eq_tanh_s16", doubles=True)
    if output != Grid(1 / 128, 0):
        raise at.refused("has an output whose scale is not 1/128 with zero point 0")
    return _lookup(at, tables.tanh(source))


def _curve(at: Operands, function: str, *, doubles: bool) -> Step:
    if multipliers.power_of_two(at.scale(at.output())) != -15:
        raise at.refused("has an output whose scale is not 1/32768")
    with at.scaling():
        made = multipliers.curve(at.scale(at.index(0)), doubles=doubles)
    return _call(at, function, Struct("eq_curve_params", made._asdict()))


def hard_swish(at: Operands) -> Step:
    """HARD_SWISH."""
    at.wants("int8", at.index(0), at.output())
    source, output = _ends(at)
    with at.scaling():
        return _lookup(at, tables.hard_swish(source, output))


def _relu(at: Operands, activation: str) -> Step:
    source, output = _ends(at)
    with at.scaling():
        if not _is_wide(at):
            return _lookup(at, tables.relu(source, output, activation))
        line = tables.relu_multiplier(source, output, activation)
        limits = multipliers.clamp(activation, *output, "int16")
    return _bent(at, line, line, limits)


relu = partial(_relu, activation="RELU")
relu6 = partial(_relu, activation="RELU6")


def relu_n1(at: Operands) -> Step:
    """RELU_N1_TO_1, which the reference has for int8 only."""
    at.wants("int8", at.index(0), at.output())
    return _relu(at, "RELU_N1_TO_1")


def leaky_relu(at: Operands) -> Step:
    """LEAKY_RELU."""
    source, output = _ends(at)
    with at.scaling():
        if not _is_wide(at):
            return _lookup(at, tables.leaky_relu(source, output, at.real("alpha")))
        lines = tables.leaky_multipliers(source, output, at.real("alpha"))
    return _bent(at, *lines, (-32768, 32767))


def _bent(at: Operands, positive: Multiplier, negative: Multiplier, limits: tuple[int, int]) -> Step:
    """A straight line on each side of zero, then a clamp."""
    fields: dict[str, Value] = {
        "positive_multiplier": positive.mantissa,
        "negative_multiplier": negative.mantissa,
        "positive_shift": positive.right_shift,
        "negative_shift": negative.right_shift,
        "act_min": limits[0],
        "act_max": limits[1],
    }
    return _call(at, "eq_leaky_relu_s16", Struct("eq_leaky_relu_params", fields))


def quantize(at: Operands) -> Step:
    """QUANTIZE between integer types, and from float32 by its bits."""
    source, output = at.index(0), at.output()
    at.wants_shape(output, at.net.shape(source))
    kinds = at.dtype(source), at.dtype(output)
    if kinds[0] == "float32" and kinds[1] in SUFFIXES:
        return _call(at, f"eq_quantize_f32_{SUFFIXES[kinds[1]]}", _f32(at, output))
    with at.scaling():
        if kinds == ("int8", "int8"):
            return _lookup(at, tables.requantize(_grid(at, source), _grid(at, output)))
        if kinds == ("int8", "int16"):
            return _call(at, "eq_lookup_s8_s16", Table(tables.widened(_grid(at, source), at.scale(output))))
        made = multipliers.requantize(at.scale(source), at.scale(output))
    names = {("int16", "int8"): "eq_requantize_s16_s8", ("int16", "int16"): "eq_requantize_s16"}
    if kinds not in names:
        raise at.refused(f"has no kernel from {kinds[0]} to {kinds[1]}")
    zero_points = {"in_zero_point": at.zero_point(source), "out_zero_point": at.zero_point(output)}
    fields = {"multiplier": made.mantissa, "right_shift": made.right_shift, **zero_points}
    return _call(at, names[kinds], Struct("eq_requantize_params", fields))


def _f32(at: Operands, tensor: int) -> Struct:
    with at.scaling():
        made = multipliers.f32(at.scale(tensor))
    return Struct("eq_f32_params", {**made._asdict(), "zero_point": at.zero_point(tensor)})


def dequantize(at: Operands) -> Step:
    """DEQUANTIZE by the bits of the numbers, constants for int8, so that nothing is computed in floating point."""
    at.wants("float32", at.output())
    at.wants_shape(at.output(), at.shape(0))
    if at.suffix(at.index(0)) == "s16":
        return _call(at, "eq_dequantize_s16_f32", _f32(at, at.index(0)))
    return _call(at, "eq_lookup_s8_s32", Table(tables.dequantize(_grid(at, at.index(0)))), "int32_t")


def cast(at: Operands) -> Step:
    """CAST of int8 to 32 bits."""
    at.wants("int8", at.index(0))
    at.wants_shape(at.output(), at.shape(0))
    if at.dtype(at.output()) not in ("int32", "float32"):
        raise at.refused(f"has no kernel from int8 to {at.dtype(at.output())}")
    return _call(at, "eq_lookup_s8_s32", Table(tables.cast(at.dtype(at.output()))), "int32_t")

"""Operators of one operand: a table of 256 answers where the input is int8; QUANTIZE, DEQUANTIZE, CAST."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from edgeq.codegen import multipliers, tables
from edgeq.codegen.lowering.operands import Operands
from edgeq.codegen.program import Call, Step, Struct, Table
from edgeq.codegen.tables import Grid


def _grid(at: Operands, tensor: int) -> Grid:
    return Grid(at.scale(tensor), at.zero_point(tensor))


def _ends(at: Operands) -> tuple[Grid, Grid]:
    """Grids of input and output, both int8 and of one shape."""
    source, output = at.index(0), at.output()
    at.wants("int8", source, output)
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
    if output != Grid(1 / 256, -128):
        raise at.refused("has an output whose scale is not 1/256 with zero point -128")
    return _lookup(at, tables.logistic(source))


def tanh(at: Operands) -> Step:
    """TANH; the output's grid is fixed, as in the reference."""
    source, output = _ends(at)
    if output != Grid(1 / 128, 0):
        raise at.refused("has an output whose scale is not 1/128 with zero point 0")
    return _lookup(at, tables.tanh(source))


def hard_swish(at: Operands) -> Step:
    """HARD_SWISH."""
    source, output = _ends(at)
    with at.scaling():
        return _lookup(at, tables.hard_swish(source, output))


def _relu(at: Operands, activation: str) -> Step:
    source, output = _ends(at)
    with at.scaling():
        return _lookup(at, tables.relu(source, output, activation))


relu = partial(_relu, activation="RELU")
relu6 = partial(_relu, activation="RELU6")
relu_n1 = partial(_relu, activation="RELU_N1_TO_1")


def leaky_relu(at: Operands) -> Step:
    """LEAKY_RELU."""
    source, output = _ends(at)
    with at.scaling():
        return _lookup(at, tables.leaky_relu(source, output, at.real("alpha")))


def quantize(at: Operands) -> Step:
    """QUANTIZE between integer types."""
    source, output = at.index(0), at.output()
    at.wants_shape(output, at.net.shape(source))
    kinds = at.dtype(source), at.dtype(output)
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


def dequantize(at: Operands) -> Step:
    """DEQUANTIZE of int8: the bits of the 256 floats are constants, so that nothing is computed in floating point."""
    at.wants("int8", at.index(0))
    at.wants("float32", at.output())
    at.wants_shape(at.output(), at.shape(0))
    return _call(at, "eq_lookup_s8_s32", Table(tables.dequantize(_grid(at, at.index(0)))), "int32_t")


def cast(at: Operands) -> Step:
    """CAST of int8 to 32 bits."""
    at.wants("int8", at.index(0))
    at.wants_shape(at.output(), at.shape(0))
    if at.dtype(at.output()) not in ("int32", "float32"):
        raise at.refused(f"has no kernel from int8 to {at.dtype(at.output())}")
    return _call(at, "eq_lookup_s8_s32", Table(tables.cast(at.dtype(at.output()))), "int32_t")

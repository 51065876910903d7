"""Operators of two operands: ADD, SUB, MUL, MAXIMUM, MINIMUM, PRELU."""

from __future__ import annotations

from functools import partial

from edgeq.codegen import multipliers, strides
from edgeq.codegen.lowering.layers import clamp
from edgeq.codegen.lowering.operands import Operands
from edgeq.codegen.program import Call, Step, Struct, Value


def _add(at: Operands, sign: int) -> Step:
    shape, suffix = _broadcast(at)
    a, b, output = at.index(0), at.index(1), at.output()
    with at.scaling():
        made = multipliers.add(at.scale(a), at.scale(b), at.scale(output), at.dtype(output))
    low, high = clamp(at, output)
    fields: dict[str, Value] = {
        "shape": shape,
        "a_multiplier": made.a.mantissa,
        "b_multiplier": made.b.mantissa,
        "out_multiplier": made.out.mantissa,
        "a_shift": made.a.right_shift,
        "b_shift": made.b.right_shift,
        "out_shift": made.out.right_shift,
        "sign": sign,
        "a_offset": -at.zero_point(a),
        "b_offset": -at.zero_point(b),
        "out_offset": at.zero_point(output),
        "act_min": low,
        "act_max": high,
    }
    return _two(at, f"eq_add_{suffix}", Struct("eq_add_params", fields))


add = partial(_add, sign=1)
subtract = partial(_add, sign=-1)


def multiply(at: Operands) -> Step:
    """MUL."""
    shape, suffix = _broadcast(at)
    a, b, output = at.index(0), at.index(1), at.output()
    with at.scaling():
        made = multipliers.mul(at.scale(a), at.scale(b), at.scale(output))
    low, high = clamp(at, output)
    fields: dict[str, Value] = {
        "shape": shape,
        "out_multiplier": made.mantissa,
        "out_shift": made.right_shift,
        "a_offset": -at.zero_point(a),
        "b_offset": -at.zero_point(b),
        "out_offset": at.zero_point(output),
        "act_min": low,
        "act_max": high,
    }
    return _two(at, f"eq_mul_{suffix}", Struct("eq_mul_params", fields))


def _extreme(at: Operands, function: str) -> Step:
    """Stored values are compared as they are, so all three must be on one grid."""
    grids = {(at.scale(tensor), at.zero_point(tensor)) for tensor in (at.index(0), at.index(1), at.output())}
    if len(grids) != 1:
        raise at.refused("compares stored values, but its operands have different scales")
    shape, suffix = _broadcast(at)
    return _two(at, f"{function}_{suffix}", shape)


maximum = partial(_extreme, function="eq_maximum")
minimum = partial(_extreme, function="eq_minimum")


def prelu(at: Operands) -> Step:
    """PRELU: operand 1 has the slopes."""
    at.wants("int8", at.index(0), at.index(1), at.output())
    shape, _ = _broadcast(at)
    source, alpha, output = at.index(0), at.index(1), at.output()
    with at.scaling():
        made = multipliers.prelu(at.scale(source), at.scale(alpha), at.scale(output))
    fields: dict[str, Value] = {
        "shape": shape,
        "positive_multiplier": made.positive.mantissa,
        "negative_multiplier": made.negative.mantissa,
        "positive_shift": made.positive.right_shift,
        "negative_shift": made.negative.right_shift,
        "in_offset": -at.zero_point(source),
        "alpha_offset": -at.zero_point(alpha),
        "out_offset": at.zero_point(output),
    }
    return _two(at, "eq_prelu_s8", Struct("eq_prelu_params", fields))


def _broadcast(at: Operands) -> tuple[Struct, str]:
    """The walk over both operands, and which kernel's suffix they want."""
    suffix = at.suffix(at.index(0), at.index(1), at.output())
    a, b = at.shape(0), at.shape(1)
    with at.scaling():
        found = strides.broadcast(a, b)
    rank = max(len(a), len(b))
    at.wants_shape(
        at.output(),
        tuple(max(*sizes) for sizes in zip(*((1,) * (rank - len(s)) + tuple(s) for s in (a, b)), strict=True)),
    )
    return Struct("eq_broadcast", found._asdict()), suffix


def _two(at: Operands, function: str, params: Struct) -> Step:
    return Step(calls=(Call(function, (params, at.read(0), at.read(1), at.written())),))

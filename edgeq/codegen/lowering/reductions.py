"""MEAN, REDUCE_MAX, ARG_MAX."""

from __future__ import annotations

import math

from edgeq.codegen import multipliers, strides
from edgeq.codegen.lowering.operands import Operands
from edgeq.codegen.program import Call, Step, Struct, Value


def mean(at: Operands) -> Step:
    """MEAN over constant axes."""
    shape, count = _reduced(at)
    source, output = at.index(0), at.output()
    with at.scaling():
        made = multipliers.mean(at.scale(source), at.scale(output), count)
    fields: dict[str, Value] = {
        "shape": shape,
        "multiplier": made.mantissa,
        "right_shift": made.right_shift,
        "in_sum_offset": -at.zero_point(source) * count,
        "out_offset": at.zero_point(output),
    }
    return Step(calls=(Call("eq_mean_s8", (Struct("eq_mean_params", fields), at.read(0), at.written())),))


def largest(at: Operands) -> Step:
    """REDUCE_MAX over constant axes; the grid stays."""
    shape, _ = _reduced(at)
    source, output = at.index(0), at.output()
    if (at.scale(source), at.zero_point(source)) != (at.scale(output), at.zero_point(output)):
        raise at.refused("changes the scale between input and output, which its kernel does not")
    return Step(calls=(Call("eq_reduce_max_s8", (shape, at.read(0), at.written())),))


def arg_max(at: Operands) -> Step:
    """ARG_MAX to int32."""
    at.wants("int8", at.index(0))
    at.wants("int32", at.output())
    shape = at.shape(0)
    axis = at.integers(1)[0]
    if not -len(shape) <= axis < len(shape):
        raise at.refused(f"names axis {axis} of {len(shape)}")
    axis %= len(shape)
    at.wants_shape(at.output(), (*shape[:axis], *shape[axis + 1 :]))
    sizes = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    return Step(calls=(Call("eq_arg_max_s8", (*sizes, at.read(0), at.written())),))


def _reduced(at: Operands) -> tuple[Struct, int]:
    """The walk, and how many values become one."""
    at.wants("int8", at.index(0), at.output())
    shape, axes = at.shape(0), at.integers(1)
    if not all(-len(shape) <= axis < len(shape) for axis in axes):
        raise at.refused(f"reduces axes {axes} of {list(shape)}")
    gone = {axis % len(shape) for axis in axes}
    keeps = bool(at.number("keep_dims"))
    kept = [1 if axis in gone else size for axis, size in enumerate(shape) if keeps or axis not in gone]
    at.wants_shape(at.output(), tuple(kept))
    with at.scaling():
        made = strides.reduce(shape, axes)
    return Struct("eq_reduce", made._asdict()), math.prod(shape[axis] for axis in gone)

"""MEAN, REDUCE_MAX, ARG_MAX."""

from __future__ import annotations

import math

from edgeq.codegen import multipliers, strides
from edgeq.codegen.lowering.operands import Operands
from edgeq.codegen.program import Call, Step, Struct, Value

_MOST_VALUES = 65535


def mean(at: Operands) -> Step:
    """MEAN over constant axes."""
    shape, count, suffix = _reduced(at)
    source, output = at.index(0), at.output()
    if suffix == "s16" and count > _MOST_VALUES:
        raise at.refused(f"adds {count} values of int16; 32 bits hold {_MOST_VALUES}")
    with at.scaling():
        made = multipliers.mean(at.scale(source), at.scale(output), count)
    fields: dict[str, Value] = {
        "shape": shape,
        "multiplier": made.mantissa,
        "right_shift": made.right_shift,
        "in_sum_offset": -at.zero_point(source) * count,
        "out_offset": at.zero_point(output),
    }
    return Step(calls=(Call(f"eq_mean_{suffix}", (Struct("eq_mean_params", fields), at.read(0), at.written())),))


def largest(at: Operands) -> Step:
    """REDUCE_MAX over constant axes; the grid stays."""
    shape, _, suffix = _reduced(at)
    source, output = at.index(0), at.output()
    if (at.scale(source), at.zero_point(source)) != (at.scale(output), at.zero_point(output)):
        raise at.refused("changes the scale between input and output, which its kernel does not")
    return Step(calls=(Call(f"eq_reduce_max_{suffix}", (shape, at.read(0), at.written())),))


def arg_max(at: Operands) -> Step:
    """ARG_MAX to int32."""
    suffix = at.suffix(at.index(0))
    at.wants("int32", at.output())
    shape = at.shape(0)
    axis = at.integers(1)[0]
    if not -len(shape) <= axis < len(shape):
        raise at.refused(f"names axis {axis} of {len(shape)}")
    axis %= len(shape)
    at.wants_shape(at.output(), (*shape[:axis], *shape[axis + 1 :]))
    sizes = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    return Step(calls=(Call(f"eq_arg_max_{suffix}", (*sizes, at.read(0), at.written())),))


def _reduced(at: Operands) -> tuple[Struct, int, str]:
    """The walk, how many values become one, and the kernel's suffix."""
    suffix = at.suffix(at.index(0), at.output())
    shape, axes = at.shape(0), at.integers(1)
    if not all(-len(shape) <= axis < len(shape) for axis in axes):
        raise at.refused(f"reduces axes {axes} of {list(shape)}")
    gone = {axis % len(shape) for axis in axes}
    keeps = bool(at.number("keep_dims"))
    kept = [1 if axis in gone else size for axis, size in enumerate(shape) if keeps or axis not in gone]
    at.wants_shape(at.output(), tuple(kept))
    with at.scaling():
        made = strides.reduce(shape, axes)
    return Struct("eq_reduce", made._asdict()), math.prod(shape[axis] for axis in gone), suffix

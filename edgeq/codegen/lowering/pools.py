"""AVERAGE_POOL_2D, MAX_POOL_2D, SOFTMAX."""

from __future__ import annotations

import math
from functools import partial

from edgeq.codegen import geometry, multipliers, tables
from edgeq.codegen.lowering.layers import clamp
from edgeq.codegen.lowering.operands import Operands
from edgeq.codegen.program import Call, Step, Struct, Table, Value

_SIZES = (
    *("batches", "in_h", "in_w", "out_h", "out_w", "kernel_h", "kernel_w", "stride_h", "stride_w"),
    *("pad_top", "pad_left"),
)
_MOST_CLASSES = 65536


def _pool(at: Operands, function: str) -> Step:
    image, output = at.index(0), at.output()
    suffix = at.suffix(image, output)
    at.wants_rank(4, image)
    if at.scale(image) != at.scale(output) or at.zero_point(image) != at.zero_point(output):
        raise at.refused("changes the scale between input and output, which its kernel does not")
    shape = at.net.shape(image)
    kernel = at.number("filter_height"), at.number("filter_width")
    with at.scaling():
        window = geometry.window(at.operator, shape, kernel, shape[3])
    at.wants_shape(output, (shape[0], window.out_h, window.out_w, shape[3]))
    low, high = clamp(at, output)
    fields = {name: size for name, size in window._asdict().items() if name in _SIZES}
    params = Struct("eq_pool_params", {**fields, "channels": shape[3], "act_min": low, "act_max": high})
    return Step(calls=(Call(f"{function}_{suffix}", (params, at.read(0), at.written())),))


average = partial(_pool, function="eq_average_pool")
maximum = partial(_pool, function="eq_max_pool")


def softmax(at: Operands) -> Step:
    """Over the last axis; the output's grid is fixed, as in the reference."""
    source, output = at.index(0), at.output()
    suffix = at.suffix(source, output)
    at.wants_shape(output, at.net.shape(source))
    shape = at.net.shape(source)
    depth = shape[-1] if shape else 1
    sizes: dict[str, Value] = {"rows": math.prod(shape) // depth, "depth": depth}
    params = (_softmax_s16 if suffix == "s16" else _softmax_s8)(at, sizes)
    return Step(calls=(Call(f"eq_softmax_{suffix}", (params, at.read(0), at.written())),))


def _softmax_s8(at: Operands, sizes: dict[str, Value]) -> Struct:
    if at.scale(at.output()) != 1 / 256 or at.zero_point(at.output()) != -128:
        raise at.refused("has an output whose scale is not 1/256 with zero point -128")
    with at.scaling():
        made = multipliers.softmax(at.scale(at.index(0)), at.real("beta", 1.0))
    return Struct("eq_softmax_params", {**sizes, **made._asdict()})


def _softmax_s16(at: Operands, sizes: dict[str, Value]) -> Struct:
    if abs(at.scale(at.output()) * 32768 - 1) > 0.001:
        raise at.refused("has an output whose scale is not 1/32768")
    if at.shape(0)[-1] > _MOST_CLASSES:
        raise at.refused(f"adds {at.shape(0)[-1]} exponentials; 32 bits hold {_MOST_CLASSES}")
    with at.scaling():
        made = multipliers.softmax_s16(at.scale(at.index(0)), at.real("beta", 1.0))
    curves: dict[str, Value] = {"exponential": Table(tables.exponential()), "reciprocal": Table(tables.reciprocal())}
    return Struct("eq_softmax_s16_params", {**curves, **sizes, **made._asdict()})

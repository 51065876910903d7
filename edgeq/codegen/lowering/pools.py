"""AVERAGE_POOL_2D, MAX_POOL_2D, SOFTMAX."""

from __future__ import annotations

import math
from functools import partial

from edgeq.codegen import geometry, multipliers
from edgeq.codegen.lowering.layers import clamp
from edgeq.codegen.lowering.operands import Operands
from edgeq.codegen.program import Call, Step, Struct

_SIZES = (
    *("batches", "in_h", "in_w", "out_h", "out_w", "kernel_h", "kernel_w", "stride_h", "stride_w"),
    *("pad_top", "pad_left"),
)


def _pool(at: Operands, function: str) -> Step:
    image, output = at.index(0), at.output()
    at.wants("int8", image, output)
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
    return Step(calls=(Call(function, (params, at.read(0), at.written())),))


average = partial(_pool, function="eq_average_pool_s8")
maximum = partial(_pool, function="eq_max_pool_s8")


def softmax(at: Operands) -> Step:
    """Over the last axis; the output's grid is fixed, as in the reference."""
    source, output = at.index(0), at.output()
    at.wants("int8", source, output)
    at.wants_shape(output, at.net.shape(source))
    if at.scale(output) != 1 / 256 or at.zero_point(output) != -128:
        raise at.refused("has an output whose scale is not 1/256 with zero point -128")
    shape = at.net.shape(source)
    depth = shape[-1] if shape else 1
    with at.scaling():
        made = multipliers.softmax(at.scale(source), at.real("beta", 1.0))
    params = Struct("eq_softmax_params", {"rows": math.prod(shape) // depth, "depth": depth, **made._asdict()})
    return Step(calls=(Call("eq_softmax_s8", (params, at.read(0), at.written())),))

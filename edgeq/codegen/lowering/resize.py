"""RESIZE_NEAREST_NEIGHBOR and RESIZE_BILINEAR: coordinates are tables."""

from __future__ import annotations

from edgeq.codegen import tables
from edgeq.codegen.lowering.operands import Operands
from edgeq.codegen.program import Call, Step, Struct, Table, Value


def nearest(at: Operands) -> Step:
    """RESIZE_NEAREST_NEIGHBOR."""
    fields, settings = _sizes(at)
    rows, columns = (tables.nearest(at.shape(0)[axis], at.net.shape(at.output())[axis], **settings) for axis in (1, 2))
    params = Struct("eq_resize_nearest_params", {**fields, "row": Table(rows), "column": Table(columns)})
    return Step(calls=(Call("eq_resize_nearest_s8", (params, at.read(0), at.written())),))


def bilinear(at: Operands) -> Step:
    """RESIZE_BILINEAR."""
    fields, settings = _sizes(at)
    rows, columns = (
        Table(tables.bilinear(at.shape(0)[axis], at.net.shape(at.output())[axis], **settings), struct="eq_tap")
        for axis in (1, 2)
    )
    params = Struct("eq_resize_bilinear_params", {**fields, "row": rows, "column": columns})
    return Step(calls=(Call("eq_resize_bilinear_s8", (params, at.read(0), at.written())),))


def _sizes(at: Operands) -> tuple[dict[str, Value], dict[str, bool]]:
    at.wants("int8", at.index(0), at.output())
    at.wants_rank(4, at.index(0), at.output())
    shape, output = at.shape(0), at.net.shape(at.output())
    if at.integers(1) != list(output[1:3]) or (shape[0], shape[3]) != (output[0], output[3]):
        raise at.refused(f"resizes {list(shape)} to {at.integers(1)}, its output is {list(output)}")
    if at.scale(at.index(0)) != at.scale(at.output()) or at.zero_point(at.index(0)) != at.zero_point(at.output()):
        raise at.refused("changes the scale between input and output, which its kernel does not")
    names = ("batches", "in_h", "in_w", "channels", "out_h", "out_w")
    settings = {"align_corners": bool(at.number("align_corners")), "half_pixel": bool(at.number("half_pixel_centers"))}
    return dict(zip(names, (*shape, *output[1:3]), strict=True)), settings

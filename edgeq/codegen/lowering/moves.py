"""Operators that only move bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from edgeq.codegen import strides
from edgeq.codegen.lowering.operands import Operands
from edgeq.codegen.program import Activation, Argument, Call, Step, Struct, Table
from edgeq.codegen.strides import Copy
from edgeq.models.tensors import BITS
from edgeq.types import Shape


def same_bytes(at: Operands) -> Step:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: the output lies where the input does, so there is nothing to call."""
    source, output = at.index(0), at.output()
    shape = at.net.shape(source)
    at.wants(at.dtype(source), output)
    if math.prod(shape) != math.prod(at.net.shape(output)):
        raise at.refused(f"makes {list(at.net.shape(output))} of {list(shape)}")
    if at.net.is_constant(source):
        flat = (math.prod(shape),)
        return Step(calls=(_copy(at, strides.place(flat, (0,), flat), at.read(0), at.written()),))
    return Step()


def transpose(at: Operands) -> Step:
    """TRANSPOSE: operand 1 has the order of the axes."""
    shape, order = at.shape(0), at.integers(1)
    if sorted(order) != list(range(len(shape))):
        raise at.refused(f"orders the axes of {list(shape)} by {order}")
    at.wants_shape(at.output(), tuple(shape[axis] for axis in order))
    with at.scaling():
        made = strides.transpose(shape, order)
    return _one(at, made)


def slice_(at: Operands) -> Step:
    """SLICE: begin and size of each axis; a size of -1 takes all that is left."""
    shape, begin, sizes = at.shape(0), at.integers(1), at.integers(2)
    if not len(shape) == len(begin) == len(sizes):
        raise at.refused(f"cuts {list(shape)} at {begin} by {sizes}")
    dims = [whole - first if size == -1 else size for whole, first, size in zip(shape, begin, sizes, strict=True)]
    inside = all(f >= 0 and d > 0 and f + d <= w for w, f, d in zip(shape, begin, dims, strict=True))
    if not inside:
        raise at.refused(f"cuts {list(shape)} at {begin} by {sizes}")
    at.wants_shape(at.output(), tuple(dims))
    with at.scaling():
        made = strides.cut(shape, begin, dims)
    return _one(at, made)


def strided_slice(at: Operands) -> Step:
    """STRIDED_SLICE without new axes, ellipses and offsets."""
    for name in ("ellipsis_mask", "new_axis_mask", "offset"):
        if at.number(name):
            raise at.refused(f"uses {name}, which has no kernel")
    shape = at.shape(0)
    begin, end, step = (at.integers(place) for place in (1, 2, 3))
    if not len(begin) == len(end) == len(step) <= len(shape):
        raise at.refused(f"cuts {list(shape)} from {begin} to {end} by {step}")
    masks = strides.Masks(at.number("begin_mask"), at.number("end_mask"), at.number("shrink_axis_mask"))
    with at.scaling():
        made, dims = strides.strided_slice(shape, begin, end, step, masks)
    kept = tuple(size for axis, size in enumerate(dims) if not masks.shrink >> axis & 1)
    at.wants_shape(at.output(), kept)
    return _one(at, made)


def split(at: Operands) -> Step:
    """SPLIT: operand 0 is the axis, 1 the input; all parts are of one size."""
    return _split(at, 1, at.integers(0)[0])


def split_v(at: Operands) -> Step:
    """SPLIT_V: input, sizes, axis; the outputs' shapes have the sizes."""
    return _split(at, 0, at.integers(2)[0])


def unpack(at: Operands) -> Step:
    """UNPACK: an output for each element of an axis, which is gone in it."""
    shape = at.shape(0)
    axis = _axis(at, at.number("axis"), len(shape))
    for place in range(len(at.operator.outputs)):
        at.wants_shape(at.output(place), (*shape[:axis], *shape[axis + 1 :]))
    return _parts(at, 0, axis, [1] * len(at.operator.outputs))


def _split(at: Operands, source: int, axis: int) -> Step:
    shape = at.shape(source)
    axis = _axis(at, axis, len(shape))
    shapes = [at.net.shape(at.output(place)) for place in range(len(at.operator.outputs))]
    if any(len(one) != len(shape) for one in shapes):
        raise at.refused(f"splits {list(shape)} into {[list(one) for one in shapes]}")
    for place, one in enumerate(shapes):
        at.wants_shape(at.output(place), (*shape[:axis], one[axis], *shape[axis + 1 :]))
    return _parts(at, source, axis, [one[axis] for one in shapes])


def _parts(at: Operands, source: int, axis: int, sizes: Sequence[int]) -> Step:
    shape = at.shape(source)
    if sum(sizes) != shape[axis]:
        raise at.refused(f"splits {shape[axis]} elements into {list(sizes)}")
    with at.scaling():
        copies = strides.split(shape, axis, sizes)
    return Step(calls=tuple(_copy(at, one, at.read(source), at.written(place)) for place, one in enumerate(copies)))


def concatenate(at: Operands) -> Step:
    """CONCATENATION of inputs on one grid."""
    if at.text("fused_activation_function", "NONE") != "NONE":
        raise at.refused("has a fused activation, which has no kernel")
    shapes = [at.shape(place) for place in range(len(at.operator.inputs))]
    axis = _axis(at, at.number("axis"), len(shapes[0]))
    _same_grid(at)
    return _joined(at, shapes, axis, at.net.shape(at.output()))


def pack(at: Operands) -> Step:
    """PACK: inputs of one shape along a new axis."""
    rank = len(at.shape(0)) + 1
    axis = _axis(at, at.number("axis"), rank)
    _same_grid(at)
    shapes = [(*shape[:axis], 1, *shape[axis:]) for shape in map(at.shape, range(len(at.operator.inputs)))]
    return _joined(at, shapes, axis, at.net.shape(at.output()))


def _joined(at: Operands, shapes: Sequence[Shape], axis: int, whole: Shape) -> Step:
    if any(len(shape) != len(whole) for shape in shapes):
        raise at.refused(f"joins {[list(shape) for shape in shapes]}")
    rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(rest) != 1:
        raise at.refused(f"joins {[list(shape) for shape in shapes]} along axis {axis}")
    at.wants_shape(at.output(), (*whole[:axis], sum(shape[axis] for shape in shapes), *whole[axis + 1 :]))
    if rest != {(*whole[:axis], *whole[axis + 1 :])}:
        raise at.refused(f"joins {[list(shape) for shape in shapes]} to {list(whole)}")
    with at.scaling():
        copies = strides.concatenate(shapes, axis)
    return Step(calls=tuple(_copy(at, one, at.read(place), at.written()) for place, one in enumerate(copies)))


def pad(at: Operands) -> Step:
    """PAD with the output's zero point, PADV2 with operand 2."""
    shape, suffix = at.shape(0), at.suffix(at.index(0), at.output())
    amounts = at.integers(1)
    if len(amounts) != 2 * len(shape) or min(amounts) < 0:
        raise at.refused(f"pads {list(shape)} by {amounts}")
    pairs = list(zip(amounts[::2], amounts[1::2], strict=True))
    whole = tuple(before + size + after for size, (before, after) in zip(shape, pairs, strict=True))
    at.wants_shape(at.output(), whole)
    value = at.integers(2)[0] if at.has(2) else at.zero_point(at.output())
    with at.scaling():
        made = strides.pad(shape, pairs)
    fill = Call(f"eq_fill_{suffix}", (value, at.written(), math.prod(whole)))
    return Step(calls=(fill, _copy(at, made, at.read(0), at.written())))


class _Picked(NamedTuple):
    outer: int
    index_batches: int
    axis: int
    inner: int
    number: int


def gather(at: Operands) -> Step:
    """GATHER along one axis; indices are int32, stored or computed."""
    at.wants("int32", at.index(1))
    at.wants(at.dtype(at.index(0)), at.output())
    shape, indices = at.shape(0), at.shape(1)
    axis = _axis(at, at.number("axis"), len(shape))
    batches = at.number("batch_dims")
    if not 0 <= batches <= min(axis, len(indices)) or shape[:batches] != indices[:batches]:
        raise at.refused(f"gathers from {list(shape)} by {list(indices)} with {batches} batch axes")
    at.wants_shape(at.output(), (*shape[:axis], *indices[batches:], *shape[axis + 1 :]))
    if at.net.is_constant(at.index(1)) and not all(0 <= one < shape[axis] for one in at.integers(1)):
        raise at.refused(f"gathers outside of the {shape[axis]} elements that it has")
    picked = _Picked(
        outer=math.prod(shape[:axis]),
        index_batches=math.prod(shape[:batches]),
        axis=shape[axis],
        inner=math.prod(shape[axis + 1 :]) * _width(at, at.index(0)),
        number=math.prod(indices[batches:]),
    )
    return Step(calls=(Call("eq_gather", (*picked, at.read(0), at.read(1), at.written())),))


def _axis(at: Operands, axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise at.refused(f"names axis {axis} of {rank}")
    return axis % rank


def _same_grid(at: Operands) -> None:
    """Bytes are moved as they are, so inputs and output must mean the same by them."""
    tensors = [*(tensor for tensor in at.operator.inputs if tensor >= 0), at.output()]
    at.wants(at.dtype(at.output()), *tensors)
    if at.dtype(at.output()) in ("int8", "int16") and len({(at.scale(t), at.zero_point(t)) for t in tensors}) != 1:
        raise at.refused("joins inputs of different scales, which its kernel does not")


def _width(at: Operands, tensor: int) -> int:
    return max(1, BITS[at.dtype(tensor)] // 8)


def _one(at: Operands, copy: Copy) -> Step:
    at.wants(at.dtype(at.index(0)), at.output())
    return Step(calls=(_copy(at, copy, at.read(0), at.written()),))


def _copy(at: Operands, copy: Copy, source: Activation | Table, output: Activation) -> Call:
    params = Struct("eq_copy", {**copy._asdict(), "size": _width(at, output.tensor)})
    arguments: tuple[Argument, ...] = (params, source, output)
    return Call("eq_copy_strided", arguments)

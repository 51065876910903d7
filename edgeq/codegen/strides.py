"""Shapes as the steps through memory that the firmware's kernels take: broadcasts, reductions and copies.

Every result has five axes, outermost first, leading ones of size 1; neighbouring axes that are walked as one are one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

_AXES = 5
Five = tuple[int, ...]


class Broadcast(NamedTuple):
    """eq_broadcast."""

    dims: Five
    stride_a: Five
    stride_b: Five


class Reduction(NamedTuple):
    """eq_reduce."""

    kept: Five
    kept_stride: Five
    gone: Five
    gone_stride: Five


class Copy(NamedTuple):
    """eq_copy without the size of an element."""

    dims: Five
    in_stride: Five
    out_stride: Five
    in_offset: int = 0
    out_offset: int = 0


def dense(shape: Sequence[int]) -> tuple[int, ...]:
    """Steps of a dense tensor, in elements."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def broadcast(shape_a: Sequence[int], shape_b: Sequence[int]) -> Broadcast:
    """Two operands of one operator. Raises ValueError where they do not fit or need more than five axes."""
    rank = max(len(shape_a), len(shape_b))
    a, b = (1,) * (rank - len(shape_a)) + tuple(shape_a), (1,) * (rank - len(shape_b)) + tuple(shape_b)
    if any(one != other and 1 not in (one, other) for one, other in zip(a, b, strict=True)):
        raise ValueError(f"shapes {list(shape_a)} and {list(shape_b)} do not broadcast")
    dims = [max(one, other) for one, other in zip(a, b, strict=True)]
    steps = [[0 if size == 1 else step for size, step in zip(shape, dense(shape), strict=True)] for shape in (a, b)]
    return Broadcast(*_merged(dims, *steps))


def reduce(shape: Sequence[int], axes: Sequence[int]) -> Reduction:
    """A reduction over `axes` (negative ones count from the end; repeated ones count once)."""
    gone = {axis % len(shape) for axis in axes} if shape else set()
    steps = dense(shape)
    kept = [axis for axis in range(len(shape)) if axis not in gone]
    parts = []
    for group in (kept, sorted(gone)):
        parts += _merged([shape[axis] for axis in group], [steps[axis] for axis in group])
    return Reduction(*parts)


def transpose(shape: Sequence[int], order: Sequence[int]) -> Copy:
    """TRANSPOSE."""
    dims = [shape[axis] for axis in order]
    steps = dense(shape)
    return _copy(dims, [steps[axis] for axis in order], dense(dims))


def cut(shape: Sequence[int], begin: Sequence[int], dims: Sequence[int], step: Sequence[int] | None = None) -> Copy:
    """A dense tensor made of every `step`-th element of each axis from `begin` on: SLICE, STRIDED_SLICE, SPLIT."""
    by = step or (1,) * len(shape)
    steps = dense(shape)
    offset = sum(first * one for first, one in zip(begin, steps, strict=True))
    return _copy(dims, [one * each for one, each in zip(steps, by, strict=True)], dense(dims), in_offset=offset)


def place(shape: Sequence[int], begin: Sequence[int], whole: Sequence[int]) -> Copy:
    """A dense tensor written into a larger one from `begin` on: CONCATENATION, PACK, PAD."""
    steps = dense(whole)
    offset = sum(first * one for first, one in zip(begin, steps, strict=True))
    return _copy(shape, dense(shape), steps, out_offset=offset)


def split(shape: Sequence[int], axis: int, sizes: Sequence[int]) -> list[Copy]:
    """SPLIT and SPLIT_V: one copy for each output. UNPACK is sizes of 1."""
    axis, made, at = axis % len(shape), [], 0
    for size in sizes:
        begin, dims = [0] * len(shape), list(shape)
        begin[axis], dims[axis] = at, size
        made.append(cut(shape, begin, dims))
        at += size
    return made


def concatenate(shapes: Sequence[Sequence[int]], axis: int) -> list[Copy]:
    """CONCATENATION: one copy for each input. PACK is inputs with a new axis of 1."""
    axis, made, at = axis % len(shapes[0]), [], 0
    whole = list(shapes[0])
    whole[axis] = sum(shape[axis] for shape in shapes)
    for shape in shapes:
        begin = [0] * len(shape)
        begin[axis] = at
        made.append(place(shape, begin, whole))
        at += shape[axis]
    return made


def pad(shape: Sequence[int], amounts: Sequence[Sequence[int]]) -> Copy:
    """PAD and PADV2, after the filling: `amounts` are (before, after) of each axis."""
    whole = [before + size + after for size, (before, after) in zip(shape, amounts, strict=True)]
    return place(shape, [before for before, _ in amounts], whole)


class Masks(NamedTuple):
    """STRIDED_SLICE's bit masks."""

    begin: int = 0
    end: int = 0
    shrink: int = 0


def strided_slice(
    shape: Sequence[int], begin: Sequence[int], end: Sequence[int], step: Sequence[int], masks: Masks | None = None
) -> tuple[Copy, list[int]]:
    """STRIDED_SLICE's copy and its output's dimensions, before shrunk axes are dropped.

    Axes behind those given are taken whole. Raises ValueError for a step of 0.
    """
    found = masks or Masks()
    first, dims, by = [0] * len(shape), list(shape), [1] * len(shape)
    for axis, (low, high, each) in enumerate(zip(begin, end, step, strict=True)):
        if found.shrink >> axis & 1:
            first[axis], dims[axis] = low % shape[axis], 1
            continue
        start = None if found.begin >> axis & 1 else low
        stop = None if found.end >> axis & 1 else high
        taken = range(shape[axis])[slice(start, stop, each)]
        first[axis], dims[axis], by[axis] = (taken.start, len(taken), each) if len(taken) else (0, 0, 1)
    return cut(shape, first, dims, by), dims


def _copy(
    dims: Sequence[int], in_steps: Sequence[int], out_steps: Sequence[int], in_offset: int = 0, out_offset: int = 0
) -> Copy:
    sizes, reading, writing = _merged(dims, in_steps, out_steps)
    return Copy(sizes, reading, writing, in_offset, out_offset)


def _merged(dims: Sequence[int], *steps: Sequence[int]) -> list[Five]:
    """Axes without those of size 1, neighbours in step joined, padded to five; then each operand's steps."""
    axes: list[list[int]] = []
    for size, *each in zip(dims, *steps, strict=True):
        if size == 1:
            continue
        if axes and all(before == after * size for before, after in zip(axes[-1][1:], each, strict=True)):
            axes[-1] = [axes[-1][0] * size, *each]
        else:
            axes.append([size, *each])
    if len(axes) > _AXES:
        raise ValueError(f"{len(axes)} axes that cannot be joined; the kernels walk {_AXES}")
    padded = [[1] + [0] * len(steps)] * (_AXES - len(axes)) + axes
    return [tuple(column) for column in zip(*padded, strict=True)]

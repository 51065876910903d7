"""Measures of what an operator does to the axes of its data: scaled, removed, reduced, moved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from edgeq.planning.measures.tensors import Value, operand
from edgeq.planning.view import View
from edgeq.types import Operator, Shape


def upscaling(look: View, operator: Operator, name: str | None) -> Value:
    """By which whole number a picture grows along `height`, `width`, or (unnamed) both; 0 where by none.

    None from a picture of one pixel. With `align_corners` lengths count from pixel centre to pixel centre.
    """
    sides = _resized(look, operator)
    if sides is None or all(given == 1 for given, _ in sides):
        return None
    corners = operator.attributes.get("align_corners") is True
    high, wide = (_factor(given, made, corners=corners) for given, made in sides)
    if name in ("height", "width"):
        return high if name == "height" else wide
    flat = [made == 1 and factor == 1 for (_, made), factor in zip(sides, (high, wide), strict=True)]
    return high if high == wide or flat[1] else wide if flat[0] else 0


def half_pixel_upscaling(look: View, operator: Operator, name: str | None) -> Value:
    """The upscaling, where it is by half-pixel centres; else None."""
    return upscaling(look, operator, name) if operator.attributes.get("half_pixel_centers") is True else None


def removed_axis(look: View, operator: Operator, name: str | None) -> Value:
    """The axis, counted from the end, along which a result without that axis is made; None where shapes do not tell."""
    shapes = _shapes(look, operator, name)
    if shapes is None:
        return None
    given, made = shapes
    found = (axis for axis in range(-1, -len(given) - 1, -1) if _without(given, axis) == made)
    return next(found, None)


def reduced_elements(look: View, operator: Operator, name: str | None) -> Value:
    """Number of values that are reduced to one."""
    lengths = _reduced(look, operator, name)
    return None if lengths is None else math.prod(lengths.values())


def reduced_axis(look: View, operator: Operator, name: str | None) -> Value:
    """Length of the longest axis that is reduced."""
    lengths = _reduced(look, operator, name)
    return max(lengths.values(), default=1) if lengths is not None else None


def depth_reduced_with_height_and_width(look: View, operator: Operator, name: str | None) -> Value:
    """1 where the last axis is reduced and none of the last three has length 1; a table that forbids it says 0."""
    lengths, tensor = _reduced(look, operator, name), operand(look, operator, name)
    if lengths is None or tensor is None:
        return None
    return int(-1 in lengths and len(tensor.shape) > 2 and 1 not in tensor.shape[-3:])


def transposed_axis(look: View, operator: Operator, name: str | None) -> Value:
    """The longest axis of data with one to three axes longer than 1 at the end, else the largest product of all but
    two axes."""
    tensor = operand(look, operator, name)
    if tensor is None or not tensor.shape:
        return None
    lengths = [max(length, 1) for length in tensor.shape]
    if all(length == 1 for length in lengths[:-3]):
        return max(lengths)
    return math.prod(sorted(lengths)[2:])


def _resized(look: View, operator: Operator) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Height before and after, width before and after; None where one is unknown."""
    tensor, result = operand(look, operator, "input"), operand(look, operator, "output")
    if tensor is None or result is None or len(tensor.shape) != 4 or len(result.shape) != 4:
        return None
    if min(*tensor.shape[1:3], *result.shape[1:3]) < 1:
        return None
    return (tensor.shape[1], result.shape[1]), (tensor.shape[2], result.shape[2])


def _factor(given: int, made: int, *, corners: bool) -> int:
    """The whole number by which a length grows, 0 where it is none."""
    if corners and given > 1:
        given, made = given - 1, made - 1
    return made // given if made % given == 0 else 0


def _shapes(look: View, operator: Operator, name: str | None) -> tuple[Shape, Shape] | None:
    """Shapes of an operand and the result; None where one is left out or open behind its first axis."""
    tensor, result = operand(look, operator, name), operand(look, operator, "output")
    if tensor is None or result is None or not tensor.shape:
        return None
    return None if min((*tensor.shape[1:], *result.shape[1:]), default=0) < 0 else (tensor.shape, result.shape)


def _without(shape: Shape, axis: int) -> Shape:
    kept = list(shape)
    del kept[axis]
    return tuple(kept)


def _reduced(look: View, operator: Operator, name: str | None) -> Mapping[int, int] | None:
    """Lengths of the reduced axes by their number from the end, read off the shapes; None where they do not tell.

    A graph does not hold the axes' values. Of equal lengths the last are taken to be kept.
    """
    shapes = _shapes(look, operator, name)
    if shapes is None:
        return None
    given, made = shapes
    if len(given) == len(made):
        return {axis: length for axis, length in _from_end(given) if made[axis] != length}
    kept = list(made)
    lost: dict[int, int] = {}
    for axis, length in _from_end(given):
        if kept and kept[-1] == length:
            kept.pop()
        else:
            lost[axis] = max(length, 1)
    return None if kept else lost


def _from_end(shape: Shape) -> Iterator[tuple[int, int]]:
    return ((axis, shape[axis]) for axis in range(-1, -len(shape) - 1, -1))

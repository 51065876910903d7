"""Measures of one operand, or of all that an operator reads and makes."""

from __future__ import annotations

import math

from edgeq.planning import view as views
from edgeq.planning.view import View
from edgeq.types import Operator, TensorSpec

Value = int | str | None
_BY_POSITION = "operand "


def operand(look: View, operator: Operator, name: str | None) -> TensorSpec | None:
    """The operand of that name: `input`, `output`, `weights`, `bias`, or `operand 2` by its position from 0."""
    if name == "output":
        return next(views.results(look, operator), None)
    if name == "weights":
        return next(iter(views.weights(look, operator)), None)
    if name == "bias":
        return views.bias(look, operator)
    if name is not None and name.startswith(_BY_POSITION):
        position = name.removeprefix(_BY_POSITION)
        return views.at(look, operator, int(position)) if position.isdecimal() and len(position) < 4 else None
    return views.data(look, operator)


def rank(look: View, operator: Operator, name: str | None) -> Value:
    """Number of axes."""
    tensor = operand(look, operator, name)
    return None if tensor is None else len(tensor.shape)


def dtype(look: View, operator: Operator, name: str | None) -> Value:
    """Data type in the file."""
    tensor = operand(look, operator, name)
    return None if tensor is None else tensor.dtype


def elements(look: View, operator: Operator, name: str | None) -> Value:
    """Number of values."""
    tensor = operand(look, operator, name)
    return None if tensor is None else views.elements(tensor)


def constant(look: View, operator: Operator, name: str | None) -> Value:
    """1 where the operand is stored in the file."""
    if name == "weights" and operator.type in views.WEIGHTS_AT:
        return int(bool(views.weights(look, operator)))
    tensor = operand(look, operator, name)
    return None if tensor is None else int(tensor.index in look.constants)


def present(look: View, operator: Operator, name: str | None) -> Value:
    """1 where the operand is there, 0 where it is left out."""
    return int(operand(look, operator, name) is not None)


def inputs(look: View, operator: Operator, name: str | None) -> Value:  # noqa: ARG001
    """Number of operands."""
    return sum(1 for _ in views.operands(look, operator))


def batch(look: View, operator: Operator, name: str | None) -> Value:
    """Length of the first axis; an open one counts as 1."""
    tensor = operand(look, operator, name)
    return max(tensor.shape[0], 1) if tensor is not None and tensor.shape else None


def depth(look: View, operator: Operator, name: str | None) -> Value:
    """Length of the last axis."""
    tensor = operand(look, operator, name)
    return None if tensor is None or not tensor.shape else _known(tensor.shape[-1])


def height_times_width(look: View, operator: Operator, name: str | None) -> Value:
    """Product of the two axes before the last; an axis that is not there counts as 1."""
    tensor = operand(look, operator, name)
    return None if tensor is None else math.prod(max(length, 1) for length in tensor.shape[-3:-1])


def size_before_last(look: View, operator: Operator, name: str | None) -> Value:
    """Product of all axes but the last; an open one counts as 1."""
    return _size(look, operator, name, -1)


def size_before_last_three(look: View, operator: Operator, name: str | None) -> Value:
    """Product of all axes but the last three; an open one counts as 1."""
    return _size(look, operator, name, -3)


def static_shape(look: View, operator: Operator, name: str | None) -> Value:  # noqa: ARG001
    """1 where no axis but the first of any operand or result is open."""
    touched = (*operator.inputs, *operator.outputs)
    shapes = (look.tensors[index].shape for index in touched if index in look.tensors)
    return int(all(length >= 0 for shape in shapes for length in shape[1:]))


def same_quantization(look: View, operator: Operator, name: str | None) -> Value:  # noqa: ARG001
    """1 where all quantized operands and results share scale and zero point; None where none is quantized."""
    found = {
        (tensor.quantization.scales, tensor.quantization.zero_points)
        for tensor in (*views.operands(look, operator), *views.results(look, operator))
        if tensor.quantization is not None and tensor.quantization.scales
    }
    return int(len(found) == 1) if found else None


def _known(length: int) -> int | None:
    return length if length >= 0 else None


def _size(look: View, operator: Operator, name: str | None, end: int) -> int | None:
    tensor = operand(look, operator, name)
    return None if tensor is None else math.prod(max(length, 1) for length in tensor.shape[:end])

"""What constraints of operator tables measure on one operator; a measure's name is what the user reads.

A measure gives None where the operator lacks what it speaks of (an operand left out, an attribute not there, an
unknown length): such a constraint holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from edgeq.planning import view as views
from edgeq.planning.view import View
from edgeq.types import Attribute, Operator, Shape, TensorSpec

Value = int | str | None
Measure = Callable[[View, Operator, str | None], Value]
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


# --- tensors ---------------------------------------------------------------------------------


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


# --- attributes ------------------------------------------------------------------------------


def attribute(look: View, operator: Operator, name: str | None) -> Value:  # noqa: ARG001
    """The operator's attribute of that name."""
    value = operator.attributes.get(name or "")
    return value if isinstance(value, int | str) else None


def dilation_with_stride(look: View, operator: Operator, name: str | None) -> Value:  # noqa: ARG001
    """1 where the operator both dilates and strides; a table that forbids it says `equals: 0`."""
    return int(_above_one(operator.attributes, "dilation") and _above_one(operator.attributes, "stride"))


def dilation(look: View, operator: Operator, name: str | None) -> Value:  # noqa: ARG001
    """The larger dilation."""
    return max(_dilations(operator))


def uneven_dilation(look: View, operator: Operator, name: str | None) -> Value:  # noqa: ARG001
    """1 where height and width are dilated differently; a table that forbids it says `equals: 0`."""
    return int(len(set(_dilations(operator))) > 1)


def align_corners_with_half_pixel_centers(look: View, operator: Operator, name: str | None) -> Value:  # noqa: ARG001
    """1 where both are asked for; a table that forbids it says `equals: 0`."""
    found = operator.attributes
    return int(found.get("align_corners") is True and found.get("half_pixel_centers") is True)


def axis_minus_batch_dims(look: View, operator: Operator, name: str | None) -> Value:
    """How far the axis that is gathered along lies behind the batch axes."""
    tensor = operand(look, operator, name)
    axis, batch_dims = _integer(operator, "axis", 0), _integer(operator, "batch_dims", 0)
    if axis < 0 and tensor is not None:
        axis += len(tensor.shape)
    return axis - batch_dims


# --- windows ---------------------------------------------------------------------------------


def stride(look: View, operator: Operator, name: str | None) -> Value:  # noqa: ARG001
    """The larger stride."""
    return max(_strides(operator))


def stride_with_padding_or_dilation(look: View, operator: Operator, name: str | None) -> Value:  # noqa: ARG001
    """The larger stride, where the operator pads or dilates; else None."""
    unpadded = operator.attributes.get("padding") == "VALID" and not _above_one(operator.attributes, "dilation")
    return None if unpadded else max(_strides(operator))


def stride_size(look: View, operator: Operator, name: str | None) -> Value:
    """Stride as width x height; along an axis where the data and the kernel have length 1 it counts like the other."""
    tensor, kernel = operand(look, operator, name), _kernel(look, operator)
    high, wide = _strides(operator)
    if tensor is not None and kernel is not None and len(tensor.shape) == 4:
        flat_high = tensor.shape[1] == kernel[0] == high == 1
        flat_wide = tensor.shape[2] == kernel[1] == wide == 1
        high, wide = wide if flat_high else high, high if flat_wide else wide
    return f"{wide}x{high}"


def kernel_height(look: View, operator: Operator, name: str | None) -> Value:  # noqa: ARG001
    """Height of the window."""
    kernel = _kernel(look, operator)
    return None if kernel is None else kernel[0]


def kernel_product(look: View, operator: Operator, name: str | None) -> Value:  # noqa: ARG001
    """Height times width of the window."""
    kernel = _kernel(look, operator)
    return None if kernel is None else kernel[0] * kernel[1]


def kernel_with_padding(look: View, operator: Operator, name: str | None) -> Value:  # noqa: ARG001
    """The longer side of the window, where the operator pads; else None."""
    kernel = _kernel(look, operator)
    return None if kernel is None or operator.attributes.get("padding") == "VALID" else max(kernel)


def weights_per_channel(look: View, operator: Operator, name: str | None) -> Value:  # noqa: ARG001
    """Number of weights that are summed into one output channel."""
    tensor = next(iter(views.weights(look, operator)), None)
    return None if tensor is None else views.elements(tensor) // views.channels(operator, tensor)


def output_follows_stride(look: View, operator: Operator, name: str | None) -> Value:
    """1 where a transposed convolution makes input times stride, and without padding what the kernel adds to it."""
    tensor, result, kernel = operand(look, operator, name), operand(look, operator, "output"), _kernel(look, operator)
    if tensor is None or result is None or kernel is None or len(tensor.shape) != 4 or len(result.shape) != 4:
        return None
    if min(*tensor.shape[1:3], *result.shape[1:3]) < 0:
        return None
    valid = operator.attributes.get("padding") == "VALID"
    sides = zip(tensor.shape[1:3], result.shape[1:3], _strides(operator), kernel, strict=True)
    return int(all(made == given * step + (side - step) * valid for given, made, step, side in sides))


# --- changed sizes ---------------------------------------------------------------------------


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


# --- reading ---------------------------------------------------------------------------------


def _known(length: int) -> int | None:
    return length if length >= 0 else None


def _integer(operator: Operator, name: str, otherwise: int) -> int:
    value = operator.attributes.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise


def _strides(operator: Operator) -> tuple[int, int]:
    """Height and width of the stride, 1 where nothing is said."""
    listed = operator.attributes.get("strides")
    if isinstance(listed, list):
        steps = [step for step in listed[:2] if isinstance(step, int)]
        return (steps[0], steps[-1]) if steps else (1, 1)
    return _integer(operator, "stride_h", 1), _integer(operator, "stride_w", 1)


def _dilations(operator: Operator) -> tuple[int, ...]:
    """The dilation along each axis, 1 where nothing is said."""
    listed = operator.attributes.get("dilations")
    if isinstance(listed, list):
        return tuple(step for step in listed if isinstance(step, int)) or (1,)
    return _integer(operator, "dilation_h_factor", 1), _integer(operator, "dilation_w_factor", 1)


def _size(look: View, operator: Operator, name: str | None, end: int) -> int | None:
    tensor = operand(look, operator, name)
    return None if tensor is None else math.prod(max(length, 1) for length in tensor.shape[:end])


def _kernel(look: View, operator: Operator) -> tuple[int, int] | None:
    """Height and width of a pooling window or of a layer's weights, both known and more than 0; else None."""
    high, wide = _integer(operator, "filter_height", 0), _integer(operator, "filter_width", 0)
    if not (high and wide):
        position = views.WEIGHTS_AT.get(operator.type, ())[:1]
        tensor = views.at(look, operator, position[0]) if position else None
        if tensor is None or len(tensor.shape) != 4:
            return None
        high, wide = tensor.shape[1:3]
    return (high, wide) if high > 0 and wide > 0 else None


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


def _above_one(attributes: Mapping[str, Attribute], stem: str) -> bool:
    return any(stem in name and _largest(value) > 1 for name, value in attributes.items())


def _largest(value: Attribute) -> float:
    numbers = value if isinstance(value, list) else [value]
    return max((number for number in numbers if isinstance(number, int | float)), default=0)


MEASURES: dict[str, Measure] = {
    measure.__name__: measure
    for measure in (
        align_corners_with_half_pixel_centers,
        attribute,
        axis_minus_batch_dims,
        batch,
        constant,
        depth,
        depth_reduced_with_height_and_width,
        dilation,
        dilation_with_stride,
        dtype,
        elements,
        half_pixel_upscaling,
        height_times_width,
        inputs,
        kernel_height,
        kernel_product,
        kernel_with_padding,
        output_follows_stride,
        present,
        rank,
        reduced_axis,
        reduced_elements,
        removed_axis,
        same_quantization,
        size_before_last,
        size_before_last_three,
        static_shape,
        stride,
        stride_size,
        stride_with_padding_or_dilation,
        transposed_axis,
        uneven_dilation,
        upscaling,
        weights_per_channel,
    )
}
"""Every measure by the name of the rule in an operator table."""

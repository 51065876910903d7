"""Measures of strides, dilations, kernels and other attributes."""

from __future__ import annotations

from collections.abc import Mapping

from edgeq.planning import view as views
from edgeq.planning.measures.tensors import Value, operand
from edgeq.planning.view import View
from edgeq.types import Attribute, Operator


def attribute(look: View, operator: Operator, name: str | None) -> Value:  # noqa: ARG001
    """The operator's attribute of that name."""
    value = operator.attributes.get(name or "")
    return value if isinstance(value, int | str) else None


def axis_minus_batch_dims(look: View, operator: Operator, name: str | None) -> Value:
    """How far the axis that is gathered along lies behind the batch axes."""
    tensor = operand(look, operator, name)
    axis, batch_dims = _integer(operator, "axis", 0), _integer(operator, "batch_dims", 0)
    if axis < 0 and tensor is not None:
        axis += len(tensor.shape)
    return axis - batch_dims


def align_corners_with_half_pixel_centers(look: View, operator: Operator, name: str | None) -> Value:  # noqa: ARG001
    """1 where both are asked for; a table that forbids it says `equals: 0`."""
    found = operator.attributes
    return int(found.get("align_corners") is True and found.get("half_pixel_centers") is True)


def stride(look: View, operator: Operator, name: str | None) -> Value:  # noqa: ARG001
    """The larger stride."""
    return max(_strides(operator))


def dilation(look: View, operator: Operator, name: str | None) -> Value:  # noqa: ARG001
    """The larger dilation."""
    return max(_dilations(operator))


def uneven_dilation(look: View, operator: Operator, name: str | None) -> Value:  # noqa: ARG001
    """1 where height and width are dilated differently; a table that forbids it says `equals: 0`."""
    return int(len(set(_dilations(operator))) > 1)


def dilation_with_stride(look: View, operator: Operator, name: str | None) -> Value:  # noqa: ARG001
    """1 where the operator both dilates and strides; a table that forbids it says `equals: 0`."""
    return int(_above_one(operator.attributes, "dilation") and _above_one(operator.attributes, "stride"))


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


def _above_one(attributes: Mapping[str, Attribute], stem: str) -> bool:
    return any(stem in name and _largest(value) > 1 for name, value in attributes.items())


def _largest(value: Attribute) -> float:
    numbers = value if isinstance(value, list) else [value]
    return max((number for number in numbers if isinstance(number, int | float)), default=0)

"""What constraints of operator tables measure on one operator; a measure's name is what the user reads.

A measure gives None where the operator lacks what it speaks of (an operand left out, an attribute not there, an
unknown length): such a constraint holds.
"""

from __future__ import annotations

from collections.abc import Callable

from edgeq.planning.measures import sizes, tensors, windows
from edgeq.planning.measures.tensors import Value
from edgeq.planning.view import View
from edgeq.types import Operator

Measure = Callable[[View, Operator, str | None], Value]

MEASURES: dict[str, Measure] = {
    measure.__name__: measure
    for measure in (
        tensors.rank,
        tensors.dtype,
        tensors.elements,
        tensors.constant,
        tensors.present,
        tensors.inputs,
        tensors.batch,
        tensors.depth,
        tensors.height_times_width,
        tensors.size_before_last,
        tensors.size_before_last_three,
        tensors.static_shape,
        tensors.same_quantization,
        windows.attribute,
        windows.axis_minus_batch_dims,
        windows.align_corners_with_half_pixel_centers,
        windows.stride,
        windows.dilation,
        windows.uneven_dilation,
        windows.dilation_with_stride,
        windows.stride_with_padding_or_dilation,
        windows.stride_size,
        windows.kernel_height,
        windows.kernel_product,
        windows.kernel_with_padding,
        windows.weights_per_channel,
        windows.output_follows_stride,
        sizes.upscaling,
        sizes.half_pixel_upscaling,
        sizes.removed_axis,
        sizes.reduced_elements,
        sizes.reduced_axis,
        sizes.depth_reduced_with_height_and_width,
        sizes.transposed_axis,
    )
}
"""Every measure by the name of the rule in an operator table."""

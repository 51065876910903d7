"""Windows of convolutions and pools: padding and output sizes, as TFLite computes them."""

from __future__ import annotations

from typing import NamedTuple

from edgeq.codegen.layouts import Window
from edgeq.types import Operator, Shape


class _Axis(NamedTuple):
    kernel: int
    stride: int
    dilation: int
    pad: int
    output: int


def window(operator: Operator, shape: Shape, kernel: tuple[int, int], out_c: int) -> Window:
    """The geometry of a convolution or pool over an NHWC `shape`; raises ValueError where there is none."""
    rows = _axis(operator, "h", shape[1], kernel[0])
    columns = _axis(operator, "w", shape[2], kernel[1])
    return Window(
        batches=shape[0],
        in_h=shape[1],
        in_w=shape[2],
        in_c=shape[3],
        out_h=rows.output,
        out_w=columns.output,
        out_c=out_c,
        kernel_h=rows.kernel,
        kernel_w=columns.kernel,
        stride_h=rows.stride,
        stride_w=columns.stride,
        dilation_h=rows.dilation,
        dilation_w=columns.dilation,
        pad_top=rows.pad,
        pad_left=columns.pad,
    )


def transposed(operator: Operator, shape: Shape, output: Shape, kernel: tuple[int, int]) -> Window:
    """The same for a transposed convolution: what is padded is cut off the output."""
    steps = [_number(operator, f"stride_{axis}") for axis in "hw"]
    if min(*steps, *kernel) < 1:
        raise ValueError(f"has a window of {kernel} with strides {steps}")
    same = operator.attributes.get("padding") == "SAME"
    pads = [_cut(*sizes, same) for sizes in zip(output[1:3], kernel, steps, strict=True)]
    return Window(
        batches=shape[0],
        in_h=shape[1],
        in_w=shape[2],
        in_c=shape[3],
        out_h=output[1],
        out_w=output[2],
        out_c=output[3],
        kernel_h=kernel[0],
        kernel_w=kernel[1],
        stride_h=steps[0],
        stride_w=steps[1],
        dilation_h=1,
        dilation_w=1,
        pad_top=pads[0],
        pad_left=pads[1],
    )


def _axis(operator: Operator, axis: str, size: int, kernel: int) -> _Axis:
    stride, dilation = _number(operator, f"stride_{axis}"), _number(operator, f"dilation_{axis}_factor")
    if stride < 1 or dilation < 1 or kernel < 1:
        raise ValueError(f"has a window of {kernel} with stride {stride} and dilation {dilation}")
    same = operator.attributes.get("padding") == "SAME"
    reach = (kernel - 1) * dilation + 1
    output = -(-size // stride) if same else (size - reach) // stride + 1
    if output < 1:
        raise ValueError(f"has a window of {reach} over {size} elements")
    return _Axis(kernel, stride, dilation, _pad(size, reach, stride, output) if same else 0, output)


def _pad(size: int, reach: int, stride: int, output: int) -> int:
    return max((output - 1) * stride + reach - size, 0) // 2


def _cut(output: int, kernel: int, stride: int, same: bool) -> int:
    """A transposed convolution cuts off what the convolution that it turns around would have padded."""
    return _pad(output, kernel, stride, -(-output // stride)) if same else 0


def _number(operator: Operator, name: str) -> int:
    value = operator.attributes.get(name, 1)
    return value if isinstance(value, int) else 1

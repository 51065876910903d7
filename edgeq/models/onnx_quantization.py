"""Quantization parameters of ONNX tensors, from the nodes that quantize and dequantize them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.errors import ModelError
from edgeq.models import onnx_constants
from edgeq.models.tensors import shown
from edgeq.types import Operator, Quantization

if TYPE_CHECKING:
    import onnx

    from edgeq.models.assemble import Parts

OUTPUT = -1
_TWO_TO_ONE = ((0, 1, 2, None), (3, 4, 5, None), (OUTPUT, 6, 7, None))
_ONE_TO_ONE = ((0, 1, 2, None), (OUTPUT, 3, 4, None))

DESCRIBES: Mapping[str, tuple[tuple[int, int, int, int | None], ...]] = {
    "QuantizeLinear": ((OUTPUT, 1, 2, 1),),
    "DequantizeLinear": ((0, 1, 2, 1),),
    "com.microsoft.QuantizeLinear": ((OUTPUT, 1, 2, 1),),
    "com.microsoft.DequantizeLinear": ((0, 1, 2, 1),),
    "QLinearConv": ((0, 1, 2, None), (3, 4, 5, 0), (OUTPUT, 6, 7, None)),
    "QLinearMatMul": ((0, 1, 2, None), (3, 4, 5, -1), (OUTPUT, 6, 7, None)),
    "com.microsoft.QGemm": ((0, 1, 2, None), (3, 4, 5, -1), (OUTPUT, 7, 8, None)),
    "com.microsoft.QLinearAdd": _TWO_TO_ONE,
    "com.microsoft.QLinearMul": _TWO_TO_ONE,
    "com.microsoft.QLinearSigmoid": _ONE_TO_ONE,
    "com.microsoft.QLinearLeakyRelu": _ONE_TO_ONE,
    "com.microsoft.QLinearSoftmax": _ONE_TO_ONE,
    "com.microsoft.QLinearReduceMean": _ONE_TO_ONE,
    "com.microsoft.QLinearAveragePool": _ONE_TO_ONE,
    "com.microsoft.QLinearGlobalAveragePool": _ONE_TO_ONE,
}
"""Operator -> (operand described or OUTPUT, positions of its scale and zero point, axis without an attribute)."""

BIASES: Mapping[str, tuple[int, int, int]] = {"QLinearConv": (8, 0, 3), "com.microsoft.QGemm": (6, 0, 3)}
"""Operator -> positions of its int32 bias, activation and weights: the bias's scale is the others' product."""


def apply(parts: Parts, constants: Mapping[int, onnx.TensorProto], path: Path) -> None:
    """Set `quantization` of the integer tensors; scales computed at run time leave it None. Raises ModelError."""
    for operator in parts.operators:
        for described, scale, zero_point, axis in DESCRIBES.get(operator.type, ()):
            tensor = operator.outputs[0] if described == OUTPUT else _operand(operator, described)
            if tensor < 0:
                continue
            spec = parts.tensors[tensor]
            scales = _values(_operand(operator, scale), constants, path)
            zero_points = _values(_operand(operator, zero_point), constants, path)
            if scales and not operator.attributes.get("block_size"):
                found = _quantization(operator, scales, zero_points or [0.0], axis, spec.shape, path)
                parts.tensors[tensor] = replace(spec, quantization=found)
        if operator.type in BIASES:
            _describe_bias(parts, *(_operand(operator, place) for place in BIASES[operator.type]))


def _describe_bias(parts: Parts, bias: int, activation: int, weights: int) -> None:
    if min(bias, activation, weights) < 0:
        return
    source, kernel = parts.tensors[activation].quantization, parts.tensors[weights].quantization
    if source is not None and kernel is not None:
        scales = tuple(source.scales[0] * scale for scale in kernel.scales)
        axis = 0 if len(scales) > 1 else None
        found = Quantization(scales=scales, zero_points=(0,) * len(scales), axis=axis)
        parts.tensors[bias] = replace(parts.tensors[bias], quantization=found)


def _operand(operator: Operator, position: int) -> int:
    return operator.inputs[position] if position < len(operator.inputs) else -1


def _values(tensor: int, constants: Mapping[int, onnx.TensorProto], path: Path) -> list[float] | None:
    return onnx_constants.values(constants[tensor], path) if tensor in constants else None


def _quantization(
    operator: Operator,
    scales: list[float],
    zero_points: list[float],
    default_axis: int | None,
    shape: tuple[int, ...],
    path: Path,
) -> Quantization:
    place = f"node {operator.index} ({shown(operator.type)})"
    if not all(math.isfinite(scale) and scale >= 0 for scale in scales):
        raise ModelError(f"{place} has a scale that is no positive number", where=str(path))
    if len(zero_points) not in (1, len(scales)) or not all(map(math.isfinite, zero_points)):
        raise ModelError(f"{place} has {len(scales)} scales and {len(zero_points)} zero points", where=str(path))
    whole = tuple(int(zero_point) for zero_point in zero_points)
    if len(scales) == 1:
        return Quantization(scales=tuple(scales), zero_points=whole)
    axis = 0 if operator.attributes.get("transB") else operator.attributes.get("axis", default_axis)
    axis = axis if isinstance(axis, int) else 0
    axis += len(shape) if axis < 0 else 0
    if shape and not (0 <= axis < len(shape) and shape[axis] in (-1, len(scales))):
        raise ModelError(f"{place} has {len(scales)} scales along axis {axis} of shape {list(shape)}", where=str(path))
    return Quantization(scales=tuple(scales), zero_points=whole * (len(scales) // len(whole)), axis=axis)

"""Multiply-accumulates of one operator, from its operands' shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

from edgeq.types import Attribute, Shape

Shapes = Mapping[int, Shape]
"""Operand position -> shape with dynamic axes as 1; operands left out or of unknown shape are absent."""

Formula = Callable[[Shapes, Shapes, Mapping[str, Attribute]], int]


def count(
    type: str,
    inputs: Shapes,
    outputs: Shapes,
    attributes: Mapping[str, Attribute],
    weights: Shapes,
) -> int | None:
    """MACs of one operator; 0 for those without a weight or matrix product, None where shapes are unknown.

    A convolution, matrix product or recurrent step counts one MAC per multiplication of an input by a
    weight (for products of two activations, by the other activation). Bias additions, element-wise
    arithmetic, pooling and activations count 0. `weights` holds the operands known to be constant.
    """
    formula = FORMULAS.get(type)
    if formula is None and type not in RECURRENT:
        return 0
    try:
        if formula is None:
            return _recurrent(inputs, weights)
        return formula(inputs, outputs, attributes)
    except LookupError:  # an operand is absent, of unknown shape, or has too few axes
        return None


def _per_output(weight: int, first: int = 1, last: int | None = None) -> Formula:
    """Every output element takes one product over the weight's axes `first` to `last`."""

    def formula(inputs: Shapes, outputs: Shapes, _: Mapping[str, Attribute]) -> int:
        return prod(outputs[0]) * prod(_axes(inputs[weight], first)[first:last])

    return formula


def _per_input(source: int, weight: int, axes: tuple[int, ...]) -> Formula:
    """Every input element is multiplied by the weights along `axes` (transposed convolution)."""

    def formula(inputs: Shapes, _outputs: Shapes, _: Mapping[str, Attribute]) -> int:
        return prod(inputs[source]) * prod(inputs[weight][axis] for axis in axes)

    return formula


def _transposed_onnx(inputs: Shapes, _outputs: Shapes, _: Mapping[str, Attribute]) -> int:
    return prod(inputs[0]) * prod(_axes(inputs[1], 1)[1:])


def _depthwise(inputs: Shapes, outputs: Shapes, _: Mapping[str, Attribute]) -> int:
    return prod(outputs[0]) * inputs[1][1] * inputs[1][2]


def _product(transposed: str = "", transposed_axis: int = -2) -> Formula:
    """A matrix product: each output element sums over the left operand's last axis."""

    def formula(inputs: Shapes, outputs: Shapes, attributes: Mapping[str, Attribute]) -> int:
        axis = transposed_axis if attributes.get(transposed) else -1
        return prod(outputs[0]) * inputs[0][axis]

    return formula


def _recurrent(inputs: Shapes, weights: Shapes) -> int:
    """Each matrix of weights is read once per time step and sample; ONNX's have a leading direction axis."""
    matrices = [shape for position, shape in weights.items() if position and len(shape) in (2, 3)]
    if not matrices:
        raise LookupError
    return prod(_axes(inputs[0], 1)[:-1]) * sum(prod(shape) for shape in matrices)


def _axes(shape: Shape, least: int) -> Shape:
    if len(shape) <= least:
        raise LookupError
    return shape


RECURRENT = frozenset(
    (
        "LSTM",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        "BIDIRECTIONAL_SEQUENCE_LSTM",
        "RNN",
        "UNIDIRECTIONAL_SEQUENCE_RNN",
        "BIDIRECTIONAL_SEQUENCE_RNN",
        "SVDF",
        "GRU",
        "com.microsoft.DynamicQuantizeLSTM",
    )
)

FORMULAS: Mapping[str, Formula] = {
    "CONV_2D": _per_output(1),
    "CONV_3D": _per_output(1, 0, -1),
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _per_input(2, 1, (0, 1, 2)),
    "CONV_3D_TRANSPOSE": _per_input(2, 1, (0, 1, 2, 3)),
    "FULLY_CONNECTED": _per_output(1),
    "BATCH_MATMUL": _product("adj_x"),
    "Conv": _per_output(1),
    "ConvInteger": _per_output(1),
    "QLinearConv": _per_output(3),
    "com.microsoft.FusedConv": _per_output(1),
    "ConvTranspose": _transposed_onnx,
    "MatMul": _product(),
    "MatMulInteger": _product(),
    "QLinearMatMul": _product(),
    "Gemm": _product("transA", 0),
    "com.microsoft.QGemm": _product("transA", 0),
    "com.microsoft.FusedMatMul": _product("transA"),
    "com.microsoft.DynamicQuantizeMatMul": _product(),
    "com.microsoft.MatMulIntegerToFloat": _product(),
    "com.microsoft.MatMulNBits": _product(),
}

UNCOUNTED = frozenset(
    (
        "STABLEHLO_CONVOLUTION",
        "STABLEHLO_DOT_GENERAL",
        "Einsum",
        "Attention",
        "DeformConv",
        "com.microsoft.Attention",
        "com.microsoft.MultiHeadAttention",
        "com.microsoft.QAttention",
        "com.microsoft.GroupQueryAttention",
    )
)
"""Operators that multiply and have no formula here; the readers note them."""

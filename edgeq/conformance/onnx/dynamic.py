"""Layers with integer weights whose activations are quantized as they come, as onnxruntime writes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from edgeq.conformance.onnx.numbers import Stored
from edgeq.conformance.onnx.operands import Recipe

if TYPE_CHECKING:
    from edgeq.conformance.onnx.parts import Parts

Array = NDArray[Any]
Writer = Callable[["Parts", list[Stored], Array | None, Recipe], list[str]]
_FLOAT = 1


def _product(parts: Parts, layers: list[Stored], bias: Array | None, recipe: Recipe, kind: str) -> list[str]:
    """DynamicQuantizeLinear, an integer product, then its scales and its bias in float."""
    layer = layers[0]
    is_convolution = kind == "ConvInteger"
    is_flipped = recipe.attributes.get("transB") == 1
    integers = layer.integers.T.copy() if is_flipped else layer.integers
    per_row = (1, -1, *[1] * (integers.ndim - 2)) if is_convolution else (-1,)
    zeros = layer.zero_points.astype(layer.dtype)
    is_shared = len(set(zeros.tolist())) == 1
    parts.node("DynamicQuantizeLinear", ["x0"], ["xq", "xs", "xz"])
    parts.hold("wq", integers)
    parts.hold("wz", zeros[0] if is_shared else zeros)
    parts.hold("ws", layer.scales.reshape(per_row) if layer.per_channel else layer.scales.reshape(()))
    attributes = dict(recipe.attributes) if is_convolution else {}
    parts.node(kind, ["xq", "wq", "xz", "wz"], ["sums"], **attributes)
    parts.node("Cast", ["sums"], ["counts"], to=_FLOAT)
    parts.node("Mul", ["xs", "ws"], ["steps"])
    made = parts.node("Mul", ["counts", "steps"], ["products"])
    if bias is not None:
        made = parts.node("Add", [made, parts.hold("b", bias.reshape(per_row))], ["y0"])
    return [made]


def _conv(parts: Parts, layers: list[Stored], bias: Array | None, recipe: Recipe) -> list[str]:
    return _product(parts, layers, bias, recipe, "ConvInteger")


def _matmul(parts: Parts, layers: list[Stored], bias: Array | None, recipe: Recipe) -> list[str]:
    return _product(parts, layers, bias, recipe, "MatMulInteger")


def _lstm(parts: Parts, layers: list[Stored], bias: Array | None, recipe: Recipe) -> list[str]:
    """DynamicQuantizeLSTM, which wants its weights with gates last."""
    names = ["x0"]
    scales: list[str] = []
    for name, layer in zip("WR", layers, strict=True):
        names.append(parts.hold(name, layer.integers.transpose(0, 2, 1).copy()))
        rows = (1, -1) if layer.per_channel else (1,)
        scales.append(parts.hold(f"{name}s", layer.scales.reshape(rows)))
        scales.append(parts.hold(f"{name}z", layer.zero_points.astype(layer.dtype).reshape(rows)))
    held = parts.hold("b", bias) if bias is not None else ""
    outputs = [f"y{number}" for number in range(recipe.outputs)]
    inputs = [*names, held, "", "", "", "", *scales]
    parts.node("DynamicQuantizeLSTM", inputs, outputs, "com.microsoft", **recipe.attributes)
    return outputs


WRITERS: dict[str, Writer] = {"Conv": _conv, "MatMul": _matmul, "Gemm": _matmul, "LSTM": _lstm}
"""Operators that have such a form."""

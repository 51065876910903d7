"""Which operators lose the most by 8 bits, so that a mixed scheme keeps them in float."""

from __future__ import annotations

from edgeq.planning import view as views
from edgeq.planning.view import View
from edgeq.types import Operator

EXPONENTIALS = frozenset(["SOFTMAX", "LOG_SOFTMAX", "EXP", "Softmax", "LogSoftmax", "Exp"])
CELLS = frozenset(
    [
        "LSTM",
        "RNN",
        "GRU",
        "SVDF",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        "UNIDIRECTIONAL_SEQUENCE_RNN",
        "BIDIRECTIONAL_SEQUENCE_LSTM",
        "BIDIRECTIONAL_SEQUENCE_RNN",
    ]
)
NORMALIZATIONS = frozenset(
    [
        "LayerNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "SimplifiedLayerNormalization",
        "SkipLayerNormalization",
        "RMSNormalization",
        "LpNormalization",
        "L2_NORMALIZATION",
    ]
)
_GATES = ["HARD_SWISH", "LOGISTIC", "TANH", "GELU", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "Gelu", "Erf"]
_REASONS = {
    **dict.fromkeys(EXPONENTIALS, "an exponential spreads its values over many magnitudes"),
    **dict.fromkeys(CELLS, "rounding errors add up from step to step"),
    **dict.fromkeys(NORMALIZATIONS, "a normalization divides by a statistic of few large values"),
    **dict.fromkeys(_GATES, "a gate scales everything that follows"),
}

_ROOTS = ("SQRT", "RSQRT", "Sqrt", "Rsqrt")
_MEANS = ("MEAN", "ReduceMean")
_BEFORE_ROOT = (
    ("ADD", "MAXIMUM", "Add", "Max"),
    _MEANS,
    ("POW", "SQUARE", "SQUARED_DIFFERENCE", "MUL", "Pow", "Mul"),
    ("SUB", "MEAN", "Sub", "ReduceMean"),
    _MEANS,
)
"""Backwards from the root: epsilon, variance, square, difference, mean; a step that is not there is passed over."""
_AFTER_ROOT = ("DIV", "MUL", "SUB", "ADD", "Div", "Mul", "Reciprocal")
_ADDITIONS = ("ADD", "Add")
_PRODUCTS = ("MUL", "Mul")
_TRANSFORMER = ("LayerNormalization", "SkipLayerNormalization", "Attention", "MultiHeadAttention")
_PRODUCTS_OF = {
    "onnx": ("MatMul", "Gemm"),
    "tflite": ("BATCH_MATMUL", "FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D"),
}
_OUTLIERS = "a few very large values run through a transformer between its matrix products"
_STATISTIC = "it is part of a layer normalization, which divides by a statistic of few large values"


def sensitive(look: View) -> dict[int, str]:
    """Sensitive operators by index, each with the reason; operators on constants are none of them."""
    found = dict(_between_products(look)) if _is_transformer(look) else {}
    found.update(_ends(look))
    found.update(dict.fromkeys(written_out(look), _STATISTIC))
    for operator in look.graph.operators:
        if operator.type in _REASONS:
            found[operator.index] = _REASONS[operator.type]
        if is_gated(look, operator):
            found[operator.index] = "it multiplies by a gate"
    return _without_constants(look, found)


def always_float(look: View) -> dict[int, str]:
    """What even a plain static scheme keeps in float: in an ONNX transformer all but the matrix products.

    onnxruntime quantizing all of MiniLM loses 22 points (design/peers.md).
    """
    if look.graph.format != "onnx" or not _is_transformer(look):
        return {}
    return _without_constants(look, _between_products(look))


def written_out(look: View) -> set[int]:
    """Operators of normalizations that are written out in simple ones, round a square root."""
    roots = [operator for operator in look.graph.operators if operator.type in _ROOTS]
    return {index for root in roots for index in _normalization(look, root)}


def _without_constants(look: View, found: dict[int, str]) -> dict[int, str]:
    moving = {operator.index for operator in look.graph.operators if not views.on_constants(look, operator)}
    return {index: why for index, why in found.items() if index in moving}


def _is_transformer(look: View) -> bool:
    """Whether the graph has layer normalization, or attention written out."""
    kinds = {operator.type for operator in look.graph.operators}
    if not kinds.isdisjoint(_TRANSFORMER):
        return True
    if kinds.isdisjoint(("SOFTMAX", "Softmax")) or kinds.isdisjoint(_ROOTS):
        return False
    products = (operator for operator in look.graph.operators if operator.type in ("MatMul", "BATCH_MATMUL"))
    return any(not views.weights(look, product) for product in products)


def _between_products(look: View) -> dict[int, str]:
    """All of a transformer but its matrix products."""
    products = _PRODUCTS_OF[look.graph.format]
    return {operator.index: _OUTLIERS for operator in look.graph.operators if operator.type not in products}


def _ends(look: View) -> dict[int, str]:
    """The first and the last layer that have weights."""
    layers = [operator for operator in look.graph.operators if views.weights(look, operator)]
    if not layers:
        return {}
    return {layers[-1].index: "it is the last layer", layers[0].index: "it is the first layer"}


def _normalization(look: View, root: Operator) -> set[int]:
    """Operators of the cluster round a square root: mean, difference, square before it; division after it."""
    cluster = [root]
    current = [root]
    for kinds in _BEFORE_ROOT:
        makers = {maker.index: maker for operator in current for maker in _makers(look, operator)}
        found = [maker for maker in makers.values() if maker.type in kinds]
        current = found or current
        cluster += found
    return {operator.index for operator in cluster} | _after(look, root, steps=3)


def _after(look: View, root: Operator, steps: int) -> set[int]:
    """The divisions and products that apply the statistic, a few steps behind the root."""
    reached = {root.index}
    current = [root]
    for _ in range(steps):
        outputs = [output for operator in current for output in operator.outputs]
        readers = [reader for output in outputs for reader in look.consumers.get(output, ())]
        current = [reader for reader in readers if reader.type in _AFTER_ROOT and reader.index not in reached]
        current = list({reader.index: reader for reader in current}.values())
        reached.update(reader.index for reader in current)
    return reached


def is_gated(look: View, operator: Operator) -> bool:
    """Whether the operator multiplies by the result of a gate (hard-swish, squeeze-and-excite)."""
    if operator.type not in _PRODUCTS:
        return False
    return any(_is_gate(look, maker) for maker in _makers(look, operator))


def _is_gate(look: View, operator: Operator) -> bool:
    if operator.type in ("LOGISTIC", "Sigmoid", "HardSigmoid", "HARD_SWISH", "HardSwish"):
        return True
    if operator.type in _PRODUCTS:  # hard sigmoid written out: relu6(x + 3) * 1/6
        return any(_is_shifted_clip(look, maker) for maker in _makers(look, operator))
    return _is_shifted_clip(look, operator)


def _is_shifted_clip(look: View, operator: Operator) -> bool:
    """relu6(x + constant), the core of a hard sigmoid; TFLite fuses the clip into the addition."""
    fused = operator.attributes.get("fused_activation_function") or operator.attributes.get("activation")
    if operator.type in _ADDITIONS:
        return str(fused).upper() == "RELU6" and _adds_constant(look, operator)
    if operator.type not in ("RELU6", "Clip"):
        return False
    return any(maker.type in _ADDITIONS and _adds_constant(look, maker) for maker in _makers(look, operator))


def _adds_constant(look: View, operator: Operator) -> bool:
    return any(tensor.index in look.constants for tensor in views.operands(look, operator))


def _makers(look: View, operator: Operator) -> list[Operator]:
    return [look.producers[index] for index in operator.inputs if index in look.producers]

"""What edgeq's converters can write in integers, and what they leave in float."""

from __future__ import annotations

from collections.abc import Mapping

from edgeq.planning import view as views
from edgeq.planning.view import View
from edgeq.types import Operator, Scheme

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_CLIPS = ("Relu", "Clip")
_NOT_WRITTEN = "edgeq's converter does not write it in integers"

WRITTEN = {
    "tflite": frozenset(
        (
            "ADD",
            "AVERAGE_POOL_2D",
            "BATCH_MATMUL",
            "BROADCAST_TO",
            "CONCATENATION",
            "CONV_2D",
            "DEPTHWISE_CONV_2D",
            "DEPTH_TO_SPACE",
            "DIV",
            "DYNAMIC_UPDATE_SLICE",
            "ELU",
            "EMBEDDING_LOOKUP",
            "EQUAL",
            "EXPAND_DIMS",
            "FULLY_CONNECTED",
            "GATHER",
            "GATHER_ND",
            "GELU",
            "HARD_SWISH",
            "LEAKY_RELU",
            "LOGISTIC",
            "MAXIMUM",
            "MAX_POOL_2D",
            "MEAN",
            "MINIMUM",
            "MIRROR_PAD",
            "MUL",
            "NOT_EQUAL",
            "PACK",
            "PAD",
            "PADV2",
            "REDUCE_MAX",
            "REDUCE_MIN",
            "RELU",
            "RELU6",
            "RESHAPE",
            "RESIZE_BILINEAR",
            "RESIZE_NEAREST_NEIGHBOR",
            "RSQRT",
            "SELECT",
            "SELECT_V2",
            "SLICE",
            "SOFTMAX",
            "SPACE_TO_DEPTH",
            "SPLIT",
            "SQRT",
            "SQUARED_DIFFERENCE",
            "SQUEEZE",
            "STRIDED_SLICE",
            "SUB",
            "SUM",
            "TANH",
            "TRANSPOSE",
            "TRANSPOSE_CONV",
            "UNPACK",
        )
    ),
    "onnx": frozenset(
        (
            *_WEIGHTED,
            *_CLIPS,
            "Add",
            "AveragePool",
            "Concat",
            "Flatten",
            "Gather",
            "GlobalAveragePool",
            "LeakyRelu",
            "MaxPool",
            "Mul",
            "Pad",
            "Reshape",
            "Resize",
            "Sigmoid",
            "Slice",
            "Split",
            "Squeeze",
            "Transpose",
            "Unsqueeze",
            "Where",
        )
    ),
}
"""TFLite operators that litert-quantizer 0.11 quantizes, and those that converters/tflite shows to it as others; ONNX
operators that converters/onnx gives to onnxruntime's quantizer for a static scheme. All else, such as recurrent cells,
stays in float."""

_STATIC_AI16 = WRITTEN["tflite"] - frozenset(
    ("DEPTH_TO_SPACE", "ELU", "EMBEDDING_LOOKUP", "HARD_SWISH", "SPACE_TO_DEPTH", "SQUARED_DIFFERENCE")
)
_ONNX_LAYERS = frozenset((*_WEIGHTED, "GRU", "Gather", "LSTM", "RNN"))
_LAYERS = ["BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "EMBEDDING_LOOKUP", "FULLY_CONNECTED", "TRANSPOSE_CONV"]

WRITTEN_BY_SCHEME: Mapping[tuple[str, str], frozenset[str]] = {
    ("tflite", "static_wi8_ai16"): _STATIC_AI16,
    ("tflite", "dynamic_wi8_af32"): WRITTEN["tflite"] | {"UNIDIRECTIONAL_SEQUENCE_LSTM"},
    ("tflite", "weight_only_wi8"): frozenset(_LAYERS),
    ("tflite", "weight_only_wi4"): frozenset(_LAYERS),
    ("onnx", "dynamic_wi8_af32"): frozenset(("Gather", "Gemm", "LSTM", "MatMul")),
    ("onnx", "static_wi8_ai16"): WRITTEN["onnx"],
    ("onnx", "weight_only_wi8"): _ONNX_LAYERS,
    ("onnx", "weight_only_wi4"): _ONNX_LAYERS,
}
"""What a converter writes under a scheme that has a list of its own, by format and scheme. A scheme of `OWN_LISTS`
that a format does not name cannot be written in it."""

OWN_LISTS = ("static_wi8_ai16", "weight_only_wi8", "weight_only_wi4")
EIGHT_BITS_ONLY = ("DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "ConvTranspose", "GRU", "Gather", "LSTM", "RNN")
"""Layers whose weights stay 8 bits where a scheme wants 4: litert-quantizer has no 4-bit setting for them, and in ONNX
they lose too much (embeddings: 14 dB became 7). So do ONNX convolutions in groups."""


def in_eight_bits(operator: Operator) -> bool:
    """Whether a layer's weights stay 8 bits where a scheme wants 4."""
    grouped = operator.type == "Conv" and operator.attributes.get("group", 1) != 1
    return grouped or operator.type in EIGHT_BITS_ONLY


def operators_of(model_format: str, scheme: str) -> frozenset[str]:
    """Operators that edgeq's converter of a format can write in integers under a scheme; empty for none."""
    shared = frozenset() if scheme in OWN_LISTS else WRITTEN[model_format]
    return WRITTEN_BY_SCHEME.get((model_format, scheme), shared)


def why_float(
    look: View, operator: Operator, scheme: Scheme, before: frozenset[int], carried: Mapping[int, str]
) -> str | None:
    """Why the converter of the model's format leaves an operator in float; None where it does not.

    `before` is `before_weights`; `carried` are the data types of what earlier operators made.
    """
    if scheme.expands_weights:
        is_written = operator.type in operators_of(look.graph.format, scheme.name)
        return None if is_written or not views.weights(look, operator) else _NOT_WRITTEN
    if look.graph.format == "onnx" and not scheme.is_static:
        own = WRITTEN_BY_SCHEME.get(("onnx", scheme.name))
        is_left = own is not None and operator.type not in own and bool(views.weights(look, operator))
        return _NOT_WRITTEN if is_left else None
    if operator.type not in operators_of(look.graph.format, scheme.name):
        return _NOT_WRITTEN
    return _why_float_onnx(look, operator, before, carried) if look.graph.format == "onnx" else None


def is_folded(look: View, operator: Operator) -> bool:
    """Whether an operator vanishes in the convolution before it when the ONNX converter prepares the model."""
    if look.graph.format != "onnx" or operator.type != "BatchNormalization" or not operator.inputs:
        return False
    source, layer = operator.inputs[0], look.producers.get(operator.inputs[0])
    is_layer = layer is not None and layer.type == "Conv" and bool(views.weights(look, layer))
    return is_layer and len(look.consumers.get(source, ())) == 1 and source not in look.graph.outputs


def _why_float_onnx(look: View, operator: Operator, before: frozenset[int], carried: Mapping[int, str]) -> str | None:
    """Clips and biases are fused into the layer before them; what follows the last weights stays in float."""
    source = look.producers.get(operator.inputs[0]) if operator.inputs else None
    if operator.type in _CLIPS or _is_bias(look, operator):
        made = carried.get(operator.inputs[0], "float32") if source else "float32"
        return None if made in views.INTEGERS else "it belongs to the layer before it, which does"
    if operator.type in _WEIGHTED or before.intersection(operator.outputs):
        return None
    return "no weights follow it, and edgeq's converter leaves such ends"


def _is_bias(look: View, operator: Operator) -> bool:
    """Whether an addition is the bias of a matrix product, with which onnxruntime makes it one Gemm."""
    if operator.type != "Add" or len(operator.inputs) != 2 or operator.inputs[1] not in look.constants:
        return False
    source, product = look.tensors.get(operator.inputs[0]), look.producers.get(operator.inputs[0])
    is_product = product is not None and product.type == "MatMul" and bool(views.weights(look, product))
    return is_product and source is not None and len(source.shape) == 2


def before_weights(look: View) -> frozenset[int]:
    """Tensors from which some ONNX operator with weights is reached."""
    found: set[int] = set()
    for operator in reversed(look.graph.operators):
        if operator.type in _WEIGHTED or found.intersection(operator.outputs):
            found.update(operator.inputs)
    return frozenset(found)

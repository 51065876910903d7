"""Static schemes: QuantizeLinear and DequantizeLinear pairs laid out so that onnxruntime fuses them.

It fuses none with 16-bit activations: its CPU kernels round them and compute in float.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edgeq.converters.observing import Ranges
from edgeq.converters.onnx import prepare
from edgeq.types import Scheme

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_ARITHMETIC = frozenset({"Add", "Mul", "Relu", "Clip", "LeakyRelu", "Sigmoid", "Where"})
_POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "Resize"})
_MOVES = frozenset(
    {"Concat", "Split", "Slice", "Pad", "Gather", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"}
)
KINDS = WEIGHTED | _ARITHMETIC | _POOLS | _MOVES
"""Operators that onnxruntime's CPU kernels compute in integers, or that only move values."""
PRODUCTS = frozenset({"MatMul", "Gemm"})
"""What is quantized in a transformer, with float results: its other operators lose too much in 8 bits."""
CLIPS = frozenset({"Relu", "Clip"})
WIDE_OPSET = 21
"""The first operator set whose QuantizeLinear writes 16 bits."""
LARGEST = 1e9
"""Ranges beyond it are masks (-3.4e38 for minus infinity), whose 8-bit step would swallow all other values."""
_ATTENTIVE = frozenset({"LayerNormalization", "SkipLayerNormalization", "Attention", "MultiHeadAttention"})


def is_transformer(model: Any) -> bool:
    """Whether the model holds attention or layer normalization."""
    return any(node.op_type in _ATTENTIVE for node in model.graph.node)


def chosen(model: Any, excluded: set[str]) -> list[Any]:
    """Nodes to quantize.

    What follows the last weights stays in float: it is cheap, and one scale for unlike results (boxes beside
    probabilities) would go straight into the output.
    """
    kinds = PRODUCTS if is_transformer(model) else KINDS
    before = _before_weights(model)
    return [
        node
        for node in model.graph.node
        if node.op_type in kinds
        and node.name not in excluded
        and (node.op_type in WEIGHTED | CLIPS or before.intersection(node.output))
    ]


def _before_weights(model: Any) -> set[str]:
    """Tensors from which some operator with weights is reached."""
    makers = {name: node for node in model.graph.node for name in node.output}
    left = [name for node in model.graph.node if node.op_type in WEIGHTED for name in node.input]
    found: set[str] = set()
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += makers[name].input if name in makers else []
    return found


def float_activations(model: Any, nodes: Iterable[Any]) -> set[str]:
    """Float tensors that those nodes read or write, constants left out."""
    import onnx

    constants = {item.name for item in model.graph.initializer}
    known = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    floats = {item.name for item in known if item.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    touched = {name for node in nodes for name in (*node.input, *node.output)}
    return (touched & floats) - constants


def measurable(model: Any, nodes: Iterable[Any], ranges: Ranges) -> list[Any]:
    """Those nodes whose activations all have a range, and none that of a mask."""
    from onnx import numpy_helper

    bad = {name for name, ends in ranges.items() if max(-ends[0], ends[1]) > LARGEST}
    for item in model.graph.initializer:
        values = numpy_helper.to_array(item) if item.data_type == item.FLOAT else None
        if values is not None and values.size and float(abs(values).max()) > LARGEST:
            bad.add(item.name)
    return [
        node
        for node in nodes
        if not bad.intersection((*node.input, *node.output)) and float_activations(model, [node]) <= ranges.keys()
    ]


def quantized(model: Any, nodes: Iterable[Any], ranges: Ranges, scheme: Scheme) -> Any:
    """The model with QDQ pairs round those nodes; the given model is used up."""
    import numpy as np
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    kinds = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
    kinds |= {"int16": QuantType.QInt16, "uint16": QuantType.QUInt16}
    known = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    nodes = list(nodes)
    chosen_names = {node.name for node in nodes}
    rest = {node.name for node in model.graph.node} - chosen_names
    own = {name for node in model.graph.node for name in (*node.input, *node.output)}
    shift = _is_shifted(scheme)
    quantizer = QDQQuantizer(
        model,
        scheme.default.granularity != "per-tensor",
        scheme.reduce_range,
        kinds["int8" if shift else scheme.default.weights or "int8"],
        kinds[scheme.default.activations],
        TensorsData(CalibrationMethod.MinMax, known),
        sorted(chosen_names),
        [],
        sorted({node.op_type for node in nodes}),
        _options(model, scheme),
    )
    quantizer.quantize_model()
    made = quantizer.model.model
    if shift:
        _store_unsigned(made)
    _free_results(made, rest)
    prepare.sort_nodes(made)
    _shorten(made, own)
    return made


def _options(model: Any, scheme: Scheme) -> dict[str, object]:
    return {
        "ActivationSymmetric": scheme.default.symmetric == "both",
        "WeightSymmetric": scheme.default.symmetric != "none",
        "OpTypesToExcludeOutputQuantization": sorted(PRODUCTS) if is_transformer(model) else [],
    }


def _is_shifted(scheme: Scheme) -> bool:
    """Whether uint8 weights are int8 ones plus 128.

    onnxruntime's own symmetric uint8 weights reach 127.5 steps, which clips the largest of each channel:
    18.6 dB instead of 21.9 on ResNet-8.
    """
    is_free = scheme.default.symmetric == "none" and scheme.default.granularity == "per-tensor"
    return scheme.default.weights == "uint8" and not is_free


def _store_unsigned(model: Any) -> None:
    """Store int8 weights as uint8 with 128 more, zero point too: the same numbers."""
    import numpy as np
    from onnx import TensorProto, numpy_helper

    constants = {item.name: item for item in model.graph.initializer}
    makers = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    weights = {node.input[1] for node in model.graph.node if node.op_type in WEIGHTED}
    names = {name for weight in weights if weight in makers for name in makers[weight].input[::2]}
    for name in names & constants.keys():
        item = constants[name]
        if item.data_type == TensorProto.INT8:
            raised = (numpy_helper.to_array(item).astype(np.int16) + 128).astype(np.uint8)
            item.CopyFrom(numpy_helper.from_array(raised, name))


def _free_results(model: Any, rest: set[str]) -> None:
    """Take QDQ pairs away between a product and operators in float: integer products give float results.

    Their scales go with them: onnxruntime warns of constants that nothing reads.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    readers: dict[str, list[Any]] = {}
    scales: set[str] = set()
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for product in [node for node in model.graph.node if node.op_type in PRODUCTS]:
        pair = _pair_behind(product, readers)
        if pair and makers[product.input[0]].op_type == "DequantizeLinear":
            back = pair[1].output[0]
            if all(reader.name in rest for reader in readers.get(back, ())):
                for node in pair:
                    model.graph.node.remove(node)
                product.output[0] = back
                scales.update(name for node in pair for name in node.input[1:])
    scales -= {name for node in model.graph.node for name in node.input}
    for item in [item for item in model.graph.initializer if item.name in scales]:
        model.graph.initializer.remove(item)


def _shorten(model: Any, own: set[str]) -> None:
    """Give what was added short names: each would repeat a tensor's name, six times a layer (kws: 92 KB, not 50)."""
    kept = own | {item.name for item in (*model.graph.input, *model.graph.output)}
    added = {name for node in model.graph.node for name in (*node.input, *node.output)} - kept
    short = {name: f"q{number}" for number, name in enumerate(sorted(added))}
    short = {name: new if new not in kept else name for name, new in short.items()}
    for item in model.graph.initializer:
        item.name = short.get(item.name, item.name)
    for number, node in enumerate(model.graph.node):
        node.input[:] = [short.get(name, name) for name in node.input]
        node.output[:] = [short.get(name, name) for name in node.output]
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.name = f"q{number}"
    del model.graph.value_info[:]


def _pair_behind(node: Any, readers: dict[str, list[Any]]) -> tuple[Any, Any] | None:
    """The only reader of a node's result and that one's only reader, if they quantize and dequantize."""
    first = readers.get(node.output[0], [])
    if len(first) != 1 or first[0].op_type != "QuantizeLinear":
        return None
    second = readers.get(first[0].output[0], [])
    if len(second) != 1 or second[0].op_type != "DequantizeLinear":
        return None
    return first[0], second[0]

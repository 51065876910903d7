"""Which operators of a file compute in float, counted without edgeq."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

_TRANSPARENT = ("QUANTIZE", "DEQUANTIZE", "QuantizeLinear", "DequantizeLinear", "Constant", "Identity", "Cast", "Shape")
_MOVES = ("Reshape", "Transpose", "Unsqueeze", "Squeeze", "Flatten", "RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS")


def float_operators(model: Path) -> dict[str, int]:
    """Operators that compute on float activations, by type, what only moves values left out."""
    found = _onnx(model) if model.suffix == ".onnx" else _tflite(model)
    return dict(sorted((name, number) for name, number in found.items() if name not in (*_TRANSPARENT, *_MOVES)))


def _tflite(model: Path) -> Counter[str]:
    """Operators with a float result."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: key for key, value in vars(schema.BuiltinOperator).items() if not key.startswith("_")}
    content = schema.ModelT.InitFromPackedBuf(model.read_bytes(), 0)
    graph = content.subgraphs[0]

    def name(operator: Any) -> str:
        code = content.operatorCodes[operator.opcodeIndex]
        return names[max(code.builtinCode, code.deprecatedBuiltinCode)]

    return Counter(
        name(operator)
        for operator in graph.operators
        if any(graph.tensors[index].type == schema.TensorType.FLOAT32 for index in operator.outputs)
    )


def _onnx(model: Path) -> Counter[str]:
    """Operators with a float activation that comes from no DequantizeLinear (so QDQ pairs count as integers)."""
    import onnx

    content = onnx.shape_inference.infer_shapes(onnx.load(model))
    graph = content.graph
    constants = {item.name for item in graph.initializer}
    floats = {
        item.name
        for item in (*graph.value_info, *graph.input, *graph.output)
        if item.type.tensor_type.elem_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    }
    plain = floats - constants - {name for node in graph.node if _is_back(node) for name in node.output}
    plain -= {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    return Counter(node.op_type for node in graph.node if plain.intersection(node.input))


def _is_back(node: Any) -> bool:
    return bool(node.op_type == "DequantizeLinear")

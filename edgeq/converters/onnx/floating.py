"""Schemes with float activations: dynamic range, and weights in half floats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeq.types import Scheme

DYNAMIC = ("MatMul", "Gemm", "LSTM", "Gather")
"""What is computed in integers with ranges found at run time.

Conv is not: with ConvInteger kws took 6.4, resnet8 1.6, mobilenet_v2 2.1 times as long as float (ORT 1.31, VNNI).
"""
_LARGEST_HALF = 65504.0


def dynamic(source: Path, excluded: set[str], scheme: Scheme, folder: Path) -> Path:
    """Write the model with int8 weights and activations quantized as they come; the new file's path."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    out = folder / "dynamic.onnx"
    quantize_dynamic(
        str(source),
        str(out),
        op_types_to_quantize=list(DYNAMIC),
        per_channel=scheme.default.granularity != "per-tensor",
        reduce_range=scheme.reduce_range,
        weight_type=QuantType.QUInt8 if scheme.default.weights == "uint8" else QuantType.QInt8,
        nodes_to_exclude=sorted(excluded),
        extra_options={"MatMulConstBOnly": True},
    )
    return out


def has_integers(path: Path) -> bool:
    """Whether some constant of the model is stored in 8 bits."""
    import onnx

    kinds = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    # a zero point is one number; weights are more
    return any(item.data_type in kinds and len(item.dims) >= 2 for item in onnx.load(str(path)).graph.initializer)


def halve_weights(model: Any, excluded: set[str]) -> int:
    """Store float matrices and kernels as float16 behind a Cast; returns how many.

    Vectors stay: biases are small, and operands such as the scales of Resize must be exact. So do weights
    beyond float16's range, and those that only excluded nodes read.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    wanted = {name for node in model.graph.node if node.name not in excluded for name in node.input}
    wanted -= {item.name for item in (*model.graph.input, *model.graph.output)}
    casts = []
    for item in model.graph.initializer:
        if item.name not in wanted or item.data_type != TensorProto.FLOAT or len(item.dims) < 2:
            continue
        name, values = item.name, numpy_helper.to_array(item)
        if values.size and float(np.abs(values).max()) <= _LARGEST_HALF:
            half = f"{name}_float16"
            item.CopyFrom(numpy_helper.from_array(values.astype(np.float16), half))
            casts.append(helper.make_node("Cast", [half], [name], name=f"{half}_Cast", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return len(casts)

"""Give a file with integer or half-precision weights its float weights back."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.converters._flatbuffer import Model, Subgraph, Tensor, add_buffer, drop_unused, is_constant, type_of
from edgeq.errors import ConvertError

_STORED = {"INT8": np.int8, "UINT8": np.uint8, "INT16": np.int16, "INT32": np.int32, "FLOAT16": np.float16}
_REFUSED = {"INT2": "2-bit", "UINT4": "unsigned 4-bit"}
_SHUFFLED = 1  # FullyConnectedOptionsWeightsFormat.SHUFFLED4x16INT8
# Operators with hybrid kernels: integer weights, float activations.
_HYBRID = {
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "TRANSPOSE_CONV",
    "FULLY_CONNECTED",
    "BATCH_MATMUL",
    "EMBEDDING_LOOKUP",
    "SVDF",
    "RNN",
    "LSTM",
    "UNIDIRECTIONAL_SEQUENCE_RNN",
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "BIDIRECTIONAL_SEQUENCE_RNN",
    "BIDIRECTIONAL_SEQUENCE_LSTM",
}


def float_weights(model: Model) -> int:
    """Turn stored weights of float operators into float32 constants; the number of weights turned.

    Both ways of storing are known: a constant behind DEQUANTIZE, which is removed, and a constant that a
    float operator takes as it is (its kernel quantizes activations at run time). Values become
    `scale * (stored - zero_point)`, which is what DEQUANTIZE computes. Raises ConvertError for weights
    that are packed, shuffled or sparse.
    """
    turned = sum(_unfold_dequantize(model, one) + _unfold_hybrid(model, one) for one in model.subgraphs)
    if turned:
        drop_unused(model)
    return turned


def _unfold_dequantize(model: Model, subgraph: Subgraph) -> int:
    kept, turned = [], 0
    for operator in subgraph.operators:
        if _is_constant_dequantize(model, subgraph, operator):
            source, result = subgraph.tensors[operator.inputs[0]], subgraph.tensors[operator.outputs[0]]
            result.buffer = add_buffer(model, real_values(model, source))
            turned += 1
        else:
            kept.append(operator)
    subgraph.operators = kept
    return turned


def _is_constant_dequantize(model: Model, subgraph: Subgraph, operator: Any) -> bool:
    return (
        type_of(model, operator) == "DEQUANTIZE"
        and is_constant(model, subgraph.tensors[operator.inputs[0]])
        and operator.outputs[0] not in list(subgraph.outputs)
    )


def _unfold_hybrid(model: Model, subgraph: Subgraph) -> int:
    found = {
        index
        for operator in subgraph.operators
        if type_of(model, operator) in _HYBRID and _has_float_results(subgraph, operator)
        for index in operator.inputs
        if index >= 0 and _is_stored_weight(model, subgraph.tensors[index])
    }
    for operator in subgraph.operators:
        _refuse_shuffled(model, operator)
    for index in found:
        tensor = subgraph.tensors[index]
        tensor.buffer = add_buffer(model, real_values(model, tensor))
        tensor.type, tensor.quantization = _type_numbers()["FLOAT32"], None
    return len(found)


def _has_float_results(subgraph: Subgraph, operator: Any) -> bool:
    return all(type_name(subgraph.tensors[index]) == "FLOAT32" for index in operator.outputs)


def _is_stored_weight(model: Model, tensor: Tensor) -> bool:
    scaled = tensor.quantization is not None and tensor.quantization.scale is not None
    stored = type_name(tensor) in ("INT8", "UINT8", "INT4", *_REFUSED)
    return stored and scaled and is_constant(model, tensor)


def _refuse_shuffled(model: Model, operator: Any) -> None:
    if type_of(model, operator) != "FULLY_CONNECTED" or operator.builtinOptions is None:
        return
    if operator.builtinOptions.weightsFormat == _SHUFFLED:
        raise ConvertError("weights in the shuffled 4x16 layout cannot be restored to float")


def real_values(model: Model, tensor: Tensor) -> NDArray[np.float32]:
    """Real values of a stored constant, in its shape."""
    kind, name = type_name(tensor), (tensor.name or b"").decode(errors="replace")
    if kind not in (*_STORED, "INT4") or tensor.sparsity is not None:
        how = "sparse" if tensor.sparsity is not None else _REFUSED.get(kind, kind)
        raise ConvertError(f"weights {name!r} are {how} and cannot be restored to float")
    shape = [] if tensor.shape is None else list(tensor.shape)
    try:
        data = model.buffers[tensor.buffer].data
        flat = _nibbles(data, shape) if kind == "INT4" else np.frombuffer(data, _STORED[kind])
        stored = flat.reshape(shape)
        return stored.astype(np.float32) if kind == "FLOAT16" else _scaled(stored, tensor.quantization)
    except (ValueError, AttributeError, TypeError) as error:
        raise ConvertError(f"weights {name!r} do not fit their shape or scales: {error}") from error


def _nibbles(data: Any, shape: list[int]) -> NDArray[np.int8]:
    """Signed 4-bit values, two in a byte, the first in its lower half; an odd number leaves the last half unused."""
    packed = np.frombuffer(data, np.int8)
    pairs = np.stack([(packed << 4).astype(np.int8) >> 4, packed >> 4], axis=-1)
    count = int(np.prod(shape, dtype=np.int64))
    if packed.size != (count + 1) // 2:
        raise ValueError(f"{packed.size} bytes for {count} values")
    return pairs.reshape(-1)[:count]


def _scaled(stored: NDArray[Any], quantization: Any) -> NDArray[np.float32]:
    along = [1] * stored.ndim
    if len(quantization.scale) > 1:
        along[quantization.quantizedDimension] = -1
    scale = np.asarray(quantization.scale, np.float32).reshape(along or [])
    zero = np.asarray(0 if quantization.zeroPoint is None else quantization.zeroPoint, np.int32)
    zero = zero.reshape(along) if zero.size > 1 else zero.reshape(())
    return np.asarray((stored.astype(np.int32) - zero).astype(np.float32) * scale, np.float32)


def type_name(tensor: Tensor) -> str:
    """Name of a tensor's data type in the schema, such as `INT8`."""
    return next((name for name, number in _type_numbers().items() if number == tensor.type), "UNKNOWN")


@functools.lru_cache(maxsize=1)
def _type_numbers() -> dict[str, int]:
    from ai_edge_litert import schema_py_generated as schema

    return {name: number for name, number in vars(schema.TensorType).items() if not name.startswith("_")}

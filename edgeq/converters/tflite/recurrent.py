"""8-bit weights of recurrent cells, which litert-quantizer leaves in float.

LiteRT's hybrid kernel reads int8 matrices with one scale each, symmetric, beside float states and biases.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

import numpy as np

from edgeq.converters import _flatbuffer as flatbuffer
from edgeq.converters.tflite.restore import type_name

MATRICES = {"UNIDIRECTIONAL_SEQUENCE_LSTM": (*range(1, 9), 16)}
"""Inputs that are matrices: of the input and of the state for each gate, and the projection."""
_HYBRID_VERSION = 2
"""The first version of the operators whose kernels read int8 weights beside float activations."""
_LARGEST = 127


def shrink(model: Any, results: Container[str]) -> int:
    """Store the matrices of those cells (by the name of their first result) in int8; how many were."""
    count = 0
    for operator in model.subgraphs[0].operators:
        kind = flatbuffer.type_of(model, operator)
        name = (model.subgraphs[0].tensors[operator.outputs[0]].name or b"").decode()
        matrices = list(_matrices(model, operator, kind)) if name in results else []
        for tensor in matrices:
            _store(model, tensor)
        if matrices:
            _raise_version(model, operator)
        count += len(matrices)
    return count


def _matrices(model: Any, operator: Any, kind: str) -> Iterator[Any]:
    tensors = model.subgraphs[0].tensors
    for place in MATRICES.get(kind, ()):
        index = int(operator.inputs[place]) if place < len(operator.inputs) else -1
        tensor = tensors[index] if index >= 0 else None
        if tensor is not None and type_name(tensor) == "FLOAT32" and flatbuffer.is_constant(model, tensor):
            yield tensor


def _store(model: Any, tensor: Any) -> None:
    from ai_edge_litert import schema_py_generated as schema

    raw = np.asarray(model.buffers[tensor.buffer].data, np.uint8).tobytes()
    real = np.frombuffer(raw, "<f4").astype(np.float64)
    largest = float(np.abs(real).max(initial=0))
    scale = np.float32(largest / _LARGEST)
    scale = scale if scale >= np.finfo(np.float32).tiny else np.float32(1)  # zeros have no scale of their own
    stored = np.clip(np.rint(real / scale), -_LARGEST, _LARGEST).astype(np.int8)
    tensor.buffer = flatbuffer.add_buffer(model, stored)  # another cell may read the same floats
    tensor.type = schema.TensorType.INT8
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = np.array([scale], np.float32)
    tensor.quantization.zeroPoint = np.zeros(1, np.int64)


def _raise_version(model: Any, operator: Any) -> None:
    """Name the version that has the kernel; other operators of the same code keep theirs."""
    import copy

    code = model.operatorCodes[operator.opcodeIndex]
    if code.version < _HYBRID_VERSION:
        code = copy.copy(code)
        code.version = _HYBRID_VERSION
        model.operatorCodes.append(code)
        operator.opcodeIndex = len(model.operatorCodes) - 1

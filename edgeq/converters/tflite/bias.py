"""Repair biases that overflow: litert-quantizer 0.11 gives a channel of zero weights the scale 1e-9 / 127.

The bias's scale is input scale * weight scale, so that such a channel's bias becomes -2**31 steps, that is
nothing, where the float model adds a constant. Pruned networks are full of these channels. With int16
activations, whose steps are 256 times finer, it cuts biases to 32 bits too before it stores them in 64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.converters._flatbuffer import Model, is_constant, operators, type_of
from edgeq.converters.tflite.restore import type_name

# For 64-bit biases too: they fit the 40 bits of Ethos-U and accumulators of 32 bits.
_LARGEST_STEPS = 2**30
_STORED = {"INT32": np.int32, "INT64": np.int64}
# Places of input, weights and bias among an operator's inputs.
_PLACES = {
    "CONV_2D": (0, 1, 2),
    "DEPTHWISE_CONV_2D": (0, 1, 2),
    "FULLY_CONNECTED": (0, 1, 2),
    "TRANSPOSE_CONV": (2, 1, 3),
}


def repair(original: Model, made: Model) -> int:
    """Widen the weight scale of each channel whose bias does not fit; the number of channels widened.

    Both models have numbered names. The weights of a widened channel are quantized again from the originals.
    """
    reals = {tensor.name: (original, tensor) for graph in original.subgraphs for tensor in graph.tensors}
    return sum(
        _repair_operator(made, operator, reals)
        for operator in operators(made)
        if type_of(made, operator) in _PLACES and len(operator.inputs) > max(_PLACES[type_of(made, operator)])
    )


def _repair_operator(made: Model, operator: Any, reals: dict[bytes, tuple[Model, Any]]) -> int:
    places = _PLACES[type_of(made, operator)]
    if any(operator.inputs[place] < 0 for place in places):
        return 0
    source, weights, bias = (_graph_of(made, operator).tensors[operator.inputs[place]] for place in places)
    if type_name(bias) not in _STORED or not is_constant(made, bias) or not is_constant(made, weights):
        return 0
    if weights.name not in reals or bias.name not in reals or _is_shared(made, weights) or _is_shared(made, bias):
        return 0
    wanted = _values(*reals[bias.name], np.float32).astype(np.float64)
    scales = np.array(weights.quantization.scale, np.float64)
    needed = np.abs(wanted) / (float(source.quantization.scale[0]) * _LARGEST_STEPS)
    wide = np.flatnonzero(needed > scales) if len(scales) == len(wanted) else np.array([], np.int64)
    if wide.size:
        scales[wide] = needed[wide]
        _rescale(made, weights, _values(*reals[weights.name], np.float32), scales, wide)
        _set_bias(made, bias, wanted, scales * float(source.quantization.scale[0]), wide)
    return int(wide.size)


def _graph_of(made: Model, operator: Any) -> Any:
    return next(graph for graph in made.subgraphs if any(one is operator for one in graph.operators))


def _is_shared(made: Model, tensor: Any) -> bool:
    """Whether a second tensor or operator uses these values."""
    tensors = [
        (graph, index)
        for graph in made.subgraphs
        for index, other in enumerate(graph.tensors)
        if other.buffer == tensor.buffer
    ]
    uses = sum(list(one.inputs).count(index) for graph, index in tensors for one in graph.operators)
    return len(tensors) > 1 or uses > 1


def _values(model: Model, tensor: Any, dtype: Any) -> NDArray[Any]:
    return np.frombuffer(model.buffers[tensor.buffer].data, dtype).reshape(list(tensor.shape))


def _rescale(
    made: Model, weights: Any, wanted: NDArray[Any], scales: NDArray[np.float64], wide: NDArray[np.int64]
) -> None:
    axis = weights.quantization.quantizedDimension
    stored = np.moveaxis(_values(made, weights, np.int8).copy(), axis, 0)
    channels = np.moveaxis(wanted, axis, 0)[wide].reshape(len(wide), -1) / scales[wide, np.newaxis]
    stored[wide] = np.clip(np.rint(channels), -127, 127).astype(np.int8).reshape(stored[wide].shape)
    _store(made, weights, np.moveaxis(stored, 0, axis))
    weights.quantization.scale = scales.astype(np.float32)


def _set_bias(
    made: Model, bias: Any, wanted: NDArray[Any], scales: NDArray[np.float64], wide: NDArray[np.int64]
) -> None:
    dtype = _STORED[type_name(bias)]
    stored = _values(made, bias, dtype).copy()
    stored[wide] = np.rint(wanted[wide] / scales[wide]).astype(dtype)
    _store(made, bias, stored)
    bias.quantization.scale = scales.astype(np.float32)


def _store(made: Model, tensor: Any, values: NDArray[Any]) -> None:
    made.buffers[tensor.buffer].data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)

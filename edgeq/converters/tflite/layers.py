"""A TFLite model's layers as numbers, and which of their tensors share their channels.

Layers and tensors go by the numbered names of the first subgraph; a layer has the name of what it makes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.converters import _flatbuffer as flatbuffer
from edgeq.converters.sites import Tie, sites
from edgeq.converters.tflite.restore import type_name
from edgeq.quantization.equalization import Site
from edgeq.quantization.layers import Layer, Window

Array = NDArray[Any]
LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_ALIKE = frozenset({"RELU", "RELU6", "LEAKY_RELU", "ADD", "MAX_POOL_2D", "AVERAGE_POOL_2D"})
"""Operators whose result is multiplied where all they read is, channel by channel."""
_FLATTENERS = frozenset({"MEAN", "RESHAPE", "SQUEEZE", "PAD"})
"""The same, where a constant behind their input keeps the last axis whole."""
_LIMITS = {"NONE": None, "RELU": None, "RELU6": 6.0}
"""Fused activations that leave channels free, with where they clip."""


def layers(model: Any) -> dict[str, Layer]:
    """Convolutions and fully connected layers with constant float weights that nothing else reads."""
    subgraph = model.subgraphs[0]
    uses = Counter(int(index) for one in subgraph.operators for index in one.inputs)
    uses.update(int(index) for index in (*subgraph.inputs, *subgraph.outputs))
    buffers = Counter(tensor.buffer for graph in model.subgraphs for tensor in graph.tensors)
    found = {}
    for operator in subgraph.operators:
        constants = [int(index) for index in list(operator.inputs)[1:] if index >= 0]
        is_own = all(uses[index] == 1 and buffers[subgraph.tensors[index].buffer] == 1 for index in constants)
        if flatbuffer.type_of(model, operator) in LAYERS and constants and is_own:
            layer = _layer(model, operator, constants)
            if layer is not None:
                found[layer.name] = layer
    return found


def _layer(model: Any, operator: Any, constants: list[int]) -> Layer | None:
    tensors = model.subgraphs[0].tensors
    held = [values(model, tensors[index]) for index in constants]
    if any(one is None for one in held):
        return None
    source, result = tensors[operator.inputs[0]], tensors[operator.outputs[0]]
    kind = flatbuffer.type_of(model, operator)
    stored = np.asarray(held[0])
    window = None if kind == "FULLY_CONNECTED" else _window(stored.shape, operator.builtinOptions, source, result)
    if kind != "FULLY_CONNECTED" and window is None:
        return None
    depth = int(source.shape[-1])
    is_depthwise = kind == "DEPTHWISE_CONV_2D"
    if stored.ndim != (2 if window is None else 4):
        return None
    if window is not None and (stored.shape[3] % (depth or 1) if is_depthwise else depth % (stored.shape[3] or 1)):
        return None
    return Layer(
        name=result.name.decode(),
        source=source.name.decode(),
        result=result.name.decode(),
        weights=_outputs_first(stored, is_depthwise=is_depthwise),
        bias=np.asarray(held[1]) if len(held) > 1 else None,
        groups=1 if window is None else depth if is_depthwise else depth // stored.shape[3],
        window=window,
        channels_last=True,
    )


def values(model: Any, tensor: Any) -> Array | None:
    """A float constant's values; None for anything else."""
    if type_name(tensor) != "FLOAT32" or not flatbuffer.is_constant(model, tensor):
        return None
    return np.frombuffer(model.buffers[tensor.buffer].data, np.float32).reshape(list(tensor.shape))


def _outputs_first(stored: Array, *, is_depthwise: bool) -> Array:
    """(outputs, inputs of one group, taps), from (outputs, rows, columns, inputs), or (1, rows, columns, outputs)."""
    if stored.ndim == 2:
        return stored[:, :, None]
    turned = stored.transpose(3, 0, 1, 2) if is_depthwise else stored.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(turned.reshape(*turned.shape[:2], -1))


def as_stored(layer: Layer, shape: tuple[int, ...], numbers: Array) -> Array:
    """Numbers of the weights' shape as a tensor of that shape holds them."""
    if layer.window is None:
        return numbers.reshape(shape)
    pictures = numbers.reshape(*numbers.shape[:2], *layer.window.kernel)
    is_depthwise = shape[0] == 1 and shape[3] == len(numbers) and numbers.shape[1] == 1
    return np.ascontiguousarray(pictures.transpose(1, 2, 3, 0) if is_depthwise else pictures.transpose(0, 2, 3, 1))


def _window(shape: tuple[int, ...], options: Any, source: Any, result: Any) -> Window | None:
    """None where the picture's size is open."""
    if len(shape) != 4 or len(source.shape) != 4 or min(list(source.shape)[1:]) < 1:
        return None
    strides = (int(options.strideH), int(options.strideW))
    dilations = (int(options.dilationHFactor), int(options.dilationWFactor))
    before, after = (0, 0), (0, 0)
    spans = [(size - 1) * step + 1 for size, step in zip(shape[1:3], dilations, strict=True)]
    if options.padding == 0:  # SAME
        missing = [
            max((made - 1) * stride + span - read, 0)
            for made, stride, span, read in zip(result.shape[1:3], strides, spans, source.shape[1:3], strict=True)
        ]
        before = (int(missing[0]) // 2, int(missing[1]) // 2)
        after = (int(missing[0]) - before[0], int(missing[1]) - before[1])
    return Window((int(shape[1]), int(shape[2])), strides, dilations, before, after)


def write(model: Any, changed: Iterable[Layer]) -> None:
    """Put layers' weights and biases into the float model."""
    tensors = model.subgraphs[0].tensors
    makers = {tensors[one.outputs[0]].name.decode(): one for one in model.subgraphs[0].operators if len(one.outputs)}
    for layer in changed:
        operator = makers[layer.name]
        weights = tensors[operator.inputs[1]]
        store(model, weights, as_stored(layer, tuple(weights.shape), layer.weights))
        if layer.bias is not None:
            store(model, tensors[operator.inputs[2]], layer.bias)


def store(model: Any, tensor: Any, numbers: Array) -> None:
    """Replace a constant's values; they have its data type."""
    model.buffers[tensor.buffer].data = np.frombuffer(np.ascontiguousarray(numbers).tobytes(), np.uint8)


def channel_sites(model: Any, known: Mapping[str, Layer]) -> list[Site]:
    """Where channels may be multiplied."""
    subgraph = model.subgraphs[0]
    if len(model.subgraphs) > 1:
        return []  # bodies of IF and WHILE are not looked at
    ties = [tie for operator in subgraph.operators for tie in _ties(model, operator, known)]
    ports = {_name(subgraph, index) for index in (*subgraph.inputs, *subgraph.outputs)}
    constants = {tensor.name.decode() for tensor in subgraph.tensors if flatbuffer.is_constant(model, tensor)}
    return sites(known, ties, ports | constants)


def _ties(model: Any, operator: Any, known: Mapping[str, Layer]) -> list[Tie]:
    """How an operator, or what is fused into a layer, binds what it reads to what it makes."""
    subgraph, kind = model.subgraphs[0], flatbuffer.type_of(model, operator)
    read = tuple(_name(subgraph, index) for index in operator.inputs if index >= 0)
    made = tuple(_name(subgraph, index) for index in operator.outputs)
    fused = _fused(operator)
    if made and made[0] in known:
        return [Tie(made, made, _LIMITS.get(fused), is_free=fused in _LIMITS)]
    if kind in _FLATTENERS and _keeps_channels(model, operator):
        return [Tie(read[:1], made, None)]
    if kind in _ALIKE and fused in _LIMITS and len({_depth(subgraph, one) for one in _all(operator)}) == 1:
        return [Tie(read, made, 6.0 if kind == "RELU6" else _LIMITS[fused])]
    return [Tie(read, made, None, is_free=False)]


def _all(operator: Any) -> list[int]:
    return [int(index) for index in (*operator.inputs, *operator.outputs) if index >= 0]


def _depth(subgraph: Any, index: int) -> int:
    shape = subgraph.tensors[index].shape
    return int(shape[-1]) if shape is not None and len(shape) > 1 else 0


def _keeps_channels(model: Any, operator: Any) -> bool:
    """Whether pictures become pictures or vectors with the same last axis."""
    subgraph, kind = model.subgraphs[0], flatbuffer.type_of(model, operator)
    before, after = (list(subgraph.tensors[one].shape) for one in (operator.inputs[0], operator.outputs[0]))
    if len(before) != 4 or not len(after) or before[-1] != after[-1]:
        return False
    if kind in ("RESHAPE", "SQUEEZE"):
        return before[1:3] == [1, 1]
    axes = _integers(model, subgraph.tensors[operator.inputs[1]])
    if axes is None:
        return False
    return sorted(axis % 4 for axis in axes) == [1, 2] if kind == "MEAN" else axes[-2:] == [0, 0]


def _integers(model: Any, tensor: Any) -> list[int] | None:
    if type_name(tensor) not in ("INT32", "INT64") or not flatbuffer.is_constant(model, tensor):
        return None
    kind = np.int32 if type_name(tensor) == "INT32" else np.int64
    return [int(one) for one in np.frombuffer(model.buffers[tensor.buffer].data, kind)]


def _fused(operator: Any) -> str:
    number = getattr(operator.builtinOptions, "fusedActivationFunction", 0)
    return {0: "NONE", 1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH", 5: "SIGN_BIT"}.get(number, "UNKNOWN")


def _name(subgraph: Any, index: int) -> str:
    return str((subgraph.tensors[index].name or b"").decode(errors="replace"))

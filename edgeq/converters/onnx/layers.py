"""An ONNX model's layers as numbers, and which of their tensors share their channels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.converters.onnx import prepare
from edgeq.converters.sites import Tie, sites
from edgeq.quantization.equalization import Site
from edgeq.quantization.layers import Layer, Window

Array = NDArray[Any]
_ALIKE = frozenset(
    {"Relu", "LeakyRelu", "Add", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity", "Dropout"}
)
"""Operators whose result is multiplied where all they read is, channel by channel."""


def layers(model: Any) -> dict[str, Layer]:
    """Convolutions and products with constant weights that nothing else reads, by node."""
    constants = {item.name: item for item in model.graph.initializer}
    uses = _uses(model)
    found = (
        _layer(node, constants)
        for node in model.graph.node
        if len(node.input) > 1
        and all(name in constants and uses[name] == 1 for name in node.input[1:])
        and (node.op_type in ("Conv", "Gemm", "MatMul"))
    )
    return {layer.name: layer for layer in found if layer is not None}


def _layer(node: Any, constants: dict[str, Any]) -> Layer | None:
    settings = _attributes(node)
    stored = _values(constants[node.input[1]])
    bias = _values(constants[node.input[2]]) if len(node.input) > 2 else None
    if stored.dtype != np.float32 or (bias is not None and bias.ndim != 1):
        return None
    if node.op_type == "Conv":
        window = _window(stored.shape[2:], settings)
        weights = stored.reshape(*stored.shape[:2], -1) if window is not None else None
    else:
        window = None
        is_plain = stored.ndim == 2 and not settings.get("transA") and settings.get("alpha", 1) == 1
        is_plain = is_plain and settings.get("beta", 1) == 1
        weights = (stored if settings.get("transB") else stored.T)[:, :, None] if is_plain else None
    if weights is None:
        return None
    return Layer(
        name=node.name,
        source=node.input[0],
        result=node.output[0],
        weights=np.ascontiguousarray(weights),
        bias=bias,
        groups=int(settings.get("group", 1)),
        window=window,
        channels_last=False,
    )


def _window(kernel: tuple[int, ...], settings: dict[str, Any]) -> Window | None:
    """None for what is no picture, or padded by a rule instead of numbers."""
    if len(kernel) != 2 or settings.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return None
    top, left, bottom, right = settings.get("pads", [0, 0, 0, 0])
    down, across = settings.get("strides", [1, 1])
    rows, columns = settings.get("dilations", [1, 1])
    return Window((kernel[0], kernel[1]), (down, across), (rows, columns), (top, left), (bottom, right))


def _attributes(node: Any) -> dict[str, Any]:
    import onnx

    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}


def _values(item: Any) -> Array:
    from onnx import numpy_helper

    return np.asarray(numpy_helper.to_array(item))


def _uses(model: Any) -> Counter[str]:
    """How often each name is read, by bodies of nodes and by the model's ports too."""
    found = Counter(name for node in model.graph.node for name in prepare.read_by(node))
    found.update(item.name for item in (*model.graph.input, *model.graph.output))
    return found


def stored(layer: Layer, node: Any, weights: Array) -> Array:
    """Weights, or integers of their shape, as the node holds them."""
    if node.op_type == "Conv":
        window = layer.window
        return weights.reshape(*weights.shape[:2], *(window.kernel if window else ()))
    flat = weights[:, :, 0]
    return np.ascontiguousarray(flat if _attributes(node).get("transB") else flat.T)


def written(model: Any, changed: Iterable[Layer]) -> Any:
    """A copy of the model with those layers' weights and biases."""
    import onnx
    from onnx import numpy_helper

    made = onnx.ModelProto()
    made.CopyFrom(model)
    constants = {item.name: item for item in made.graph.initializer}
    nodes = {node.name: node for node in made.graph.node}
    for layer in changed:
        node = nodes[layer.name]
        constants[node.input[1]].CopyFrom(
            numpy_helper.from_array(stored(layer, node, layer.weights), node.input[1]),
        )
        if layer.bias is not None:
            constants[node.input[2]].CopyFrom(numpy_helper.from_array(layer.bias, node.input[2]))
    return made


def channel_sites(model: Any, known: dict[str, Layer]) -> list[Site]:
    """Where channels may be multiplied."""
    constants = {item.name: item for item in model.graph.initializer}
    shapes = _shapes(model)
    ties = [_tie(node, constants, shapes) for node in model.graph.node if node.name not in known]
    outside = {item.name for item in (*model.graph.input, *model.graph.output)} | constants.keys()
    if any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute):
        return []  # what a body reads is not among its node's inputs
    flat = [layer for layer in known.values() if layer.window is None]
    outside |= {
        name for layer in flat for name in (layer.source, layer.result) if len(shapes.get(name, ())) not in (2, 3)
    }
    return sites(known, ties, outside)


def _tie(node: Any, constants: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> Tie:
    """How a node that is no layer binds what it reads to what it makes."""
    read, made = tuple(name for name in node.input if name), tuple(name for name in node.output if name)
    if node.op_type == "Clip" and len(read) == 3 and _is_bound(constants, read):
        return Tie(read[:1], made, _number(constants[read[2]]))
    if node.op_type in ("Flatten", "Reshape") and _is_flattened(node, shapes):
        return Tie(read[:1], made, None)
    if node.op_type in _ALIKE and len({_channels(shapes.get(name, ())) for name in (*read, *made)}) == 1:
        return Tie(read, made, None)
    return Tie(read, made, None, is_free=False)


def _is_bound(constants: dict[str, Any], read: tuple[str, ...]) -> bool:
    """Whether a Clip is a ReLU that ends at a positive number."""
    if not all(name in constants and math.prod(constants[name].dims) == 1 for name in read[1:]):
        return False
    return _number(constants[read[1]]) == 0 and _number(constants[read[2]]) > 0


def _number(item: Any) -> float:
    return float(_values(item).reshape(()))


def _is_flattened(node: Any, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether (N, C, 1, 1) becomes (N, C)."""
    before, after = shapes.get(node.input[0], ()), shapes.get(node.output[0], ())
    return len(before) == 4 and before[2:] == (1, 1) and after[1:] == before[1:2] and before[1] > 0


def _channels(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rank and number of channels: of pictures on axis 1, of vectors on the last."""
    if len(shape) == 4:
        return 4, shape[1]
    return (len(shape), shape[-1]) if len(shape) > 1 else (0, 0)


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    known = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    return {item.name: tuple(axis.dim_value for axis in item.type.tensor_type.shape.dim) for item in known}

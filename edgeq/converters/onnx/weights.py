"""Weights in 8 or 4 bits behind DequantizeLinear; all arithmetic stays in float.

onnxruntime keeps them small in memory and expands them in every run (mobilenet_v2 takes twice as long; the session
option `session.disable_quant_qdq` expands them once). 4 bits in front of a MatMul become its MatMulNBits kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

OPSET = {8: 13, 4: 21}
"""The first operator set whose DequantizeLinear reads weights of so many bits per channel."""
BLOCK = 32
"""Weights of one output that share a scale in 4-bit products: MiniLM had 13.8 dB, with one scale per channel 9.9."""
_LARGEST = {8: 127, 4: 7}
_LOWEST_4 = -8
_CLIPPING = np.linspace(1.0, 0.625, 16)
"""What the scale of the largest value is multiplied by, in turn; 0.875 gives weights that lie on such a grid back."""
RECURRENT = ("LSTM", "GRU", "RNN")
_AT_LEAST_8 = ("ConvTranspose", "Gather", *RECURRENT)


class Layout(NamedTuple):
    """How one constant is stored: its bits, the axis of its scales, and how many values along it share one.

    `block` 1 is one scale for each place on the axis, for all values of the other axes together.
    """

    bits: int
    axis: int
    block: int = 1


def shrink(model: Any, bits: Mapping[str, int]) -> dict[str, int]:
    """Store the weights of those nodes in `bits` (8 or 4, by node name); bits of each node that really has them.

    The first node that reads a constant decides how it is stored. Vectors stay as they are.
    """
    from onnx import TensorProto

    constants = {item.name: item for item in model.graph.initializer if item.data_type == TensorProto.FLOAT}
    ports = {item.name for item in (*model.graph.input, *model.graph.output)}
    layouts: dict[str, Layout] = {}
    done: dict[str, int] = {}
    for node in model.graph.node:
        for name, axis in _weights(node) if node.name in bits else ():
            if name in constants and name not in ports and len(constants[name].dims) >= 2:
                layouts.setdefault(name, _layout(node, constants[name], axis, bits[node.name]))
                done[node.name] = layouts[name].bits
    _write(model, [_stored(constants[name], layout) for name, layout in layouts.items()])
    return done


def _weights(node: Any) -> Iterator[tuple[str, int]]:
    """Names of what may be a node's weights, with the axis that its outputs lie along."""
    for place, axis in _PLACES.get(node.op_type, lambda _: {})(node).items():
        if place < len(node.input):
            yield node.input[place], axis


def _attribute(node: Any, name: str, default: int) -> int:
    return next((int(item.i) for item in node.attribute if item.name == name), default)


_PLACES: dict[str, Callable[[Any], dict[int, int]]] = {
    "Conv": lambda _: {1: 0},
    "ConvTranspose": lambda _: {1: 1},
    "Gemm": lambda node: {1: 0 if _attribute(node, "transB", 0) else 1},
    "MatMul": lambda _: {1: -1},
    "Gather": lambda node: {0: _attribute(node, "axis", 0)},
    **dict.fromkeys(RECURRENT, lambda _: {1: 1, 2: 1}),
}
"""Inputs that hold weights, each with the axis of its scales."""


def _layout(node: Any, item: Any, axis: int, bits: int) -> Layout:
    """Some operators have 8 bits at least: with 4, MiniLM's embeddings alone take 7 of 14 dB."""
    axis %= len(item.dims)
    grouped = node.op_type == "Conv" and _attribute(node, "group", 1) > 1
    if bits == 8 or grouped or node.op_type in _AT_LEAST_8:
        return Layout(8, axis)
    if node.op_type == "MatMul" and len(item.dims) == 2:
        return Layout(4, 0, BLOCK)
    return Layout(4, axis)


class _Stored(NamedTuple):
    name: str
    values: Any
    scales: Any
    node: Any


def _stored(item: Any, layout: Layout) -> _Stored:
    from onnx import TensorProto, helper, numpy_helper

    name = item.name
    real = numpy_helper.to_array(item)
    stored, scales = rounded(real, layout)
    kind, raw = TensorProto.INT8, stored.tobytes()
    if layout.bits == 4:
        kind, raw = TensorProto.INT4, packed(stored)
    values = TensorProto(name=f"{name}_int{layout.bits}", data_type=kind, dims=real.shape, raw_data=raw)
    scale = numpy_helper.from_array(scales, f"{name}_scale")
    options = {"block_size": layout.block} if layout.block > 1 else {}
    node = helper.make_node(
        "DequantizeLinear",
        [values.name, scale.name],
        [name],
        name=f"{name}_DequantizeLinear",
        axis=layout.axis,
        **options,
    )
    return _Stored(name, values, scale, node)


def rounded(real: NDArray[np.float32], layout: Layout) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Integers, and scales: one for each place on the axis, or for each block along it of every other place.

    In blocks of 4 bits the largest values are clipped where that lessens the squared error of their block. Not in
    whole channels: what it takes from large weights adds up behind ReLU (vww: 12.2 dB became 8.5).
    """
    largest = _LARGEST[layout.bits]
    scales = _scales(_by_group(np.maximum, np.abs(real), layout), largest)
    if layout.bits == 4 and layout.block > 1:
        scales = _least_error(real, scales, layout)
    low = _LOWEST_4 if layout.bits == 4 else -largest
    stored = np.clip(np.rint(real / _spread(scales, real.shape, layout)), low, largest).astype(np.int8)
    return stored, scales if layout.block > 1 else scales.reshape(-1)


def _by_group(reduction: np.ufunc, values: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """One number for all values that share a scale, with as many axes as the values."""
    if layout.block > 1:
        starts = np.arange(0, values.shape[layout.axis], layout.block)
        return np.asarray(reduction.reduceat(values, starts, axis=layout.axis))
    others = tuple(place for place in range(values.ndim) if place != layout.axis)
    return np.asarray(reduction.reduce(values, axis=others, keepdims=True, initial=0))


def _spread(scales: NDArray[Any], shape: tuple[int, ...], layout: Layout) -> NDArray[Any]:
    """The scale of each value."""
    if layout.block == 1:
        return scales
    return np.repeat(scales, layout.block, axis=layout.axis).take(range(shape[layout.axis]), layout.axis)


def _least_error(real: NDArray[np.float32], scales: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
    """The scales, each multiplied by what leaves the least squared error: MiniLM's products gain 1 dB."""
    steps = real / _spread(scales, real.shape, layout)  # errors in steps of the widest scale cannot overflow
    best, least = np.ones_like(scales), np.full(scales.shape, np.inf, np.float32)
    for factor in _CLIPPING:
        error = np.square(np.clip(np.rint(steps / factor), _LOWEST_4, _LARGEST[4]) * factor - steps)
        found = _by_group(np.add, error, layout)
        best = np.where(found < least, np.float32(factor), best)
        least = np.minimum(found, least)
    made = scales * best
    return np.where(made < np.finfo(np.float32).tiny, scales, made)


def _scales(ends: NDArray[np.float32], largest: int) -> NDArray[np.float32]:
    """Nothing but zeros, or less than a float can be divided by, has the scale 1."""
    scales = (ends / np.float32(largest)).astype(np.float32)
    return np.where(scales < np.finfo(np.float32).tiny, np.float32(1), scales)


def packed(values: NDArray[np.int8]) -> bytes:
    """Two 4-bit values in a byte, the first in its lower half."""
    flat = values.reshape(-1).astype(np.uint8) & 15
    pairs = np.pad(flat, (0, flat.size % 2)).reshape(-1, 2)
    return bytes((pairs[:, 0] | (pairs[:, 1] << 4)).astype(np.uint8))


def _write(model: Any, stored: list[_Stored]) -> None:
    names = {one.name for one in stored}
    constants = [item for item in model.graph.initializer if item.name not in names]
    nodes = [*(one.node for one in stored), *model.graph.node]
    constants += [tensor for one in stored for tensor in (one.values, one.scales)]
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)
    del model.graph.node[:]
    model.graph.node.extend(nodes)

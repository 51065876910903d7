"""Prepare a float ONNX model for quantization, and round the weights of the quantized one by what layers read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.converters import improving
from edgeq.converters.onnx import calibration, prepare
from edgeq.converters.onnx import layers as reading
from edgeq.quantization import rounding
from edgeq.quantization.layers import Layer, Statistics
from edgeq.quantization.rounding import Grid

Array = NDArray[Any]
_ENDS = {"int8": (-127, 127), "uint8": (0, 255)}


def statistics(
    model: Any, known: Mapping[str, Layer], samples: Iterable[tuple[Array, ...]], folder: Path, where: str
) -> dict[str, Statistics]:
    """What each layer reads, over the samples."""
    found = {name: Statistics(layer) for name, layer in known.items()}
    with prepare.blaming(where):
        for seen in calibration.watch(model, {layer.source for layer in known.values()}, samples, folder, where):
            for name, one in found.items():
                one.update(seen[known[name].source])
    return found


def equalize(
    model: Any, known: Mapping[str, Layer], seen: Mapping[str, Statistics]
) -> tuple[dict[str, Layer], dict[str, Statistics], list[str]]:
    """Multiply channels in the model where that pays; its layers and their statistics after that, and a note."""
    places = reading.channel_sites(model, dict(known))
    layers, after, count = improving.equalized(known, seen, places)
    reading.write(model, [layer for name, layer in layers.items() if layer is not known[name]])
    return layers, after, improving.note(count, len(places))


def correct(made: Any, known: Mapping[str, Layer], seen: Mapping[str, Statistics]) -> int:
    """Round the weights of a quantized model anew, and mend its biases; returns how many layers were."""
    from onnx import numpy_helper

    constants = {item.name: item for item in made.graph.initializer}
    makers = {node.output[0]: node for node in made.graph.node if node.op_type == "DequantizeLinear"}
    count = 0
    for node in made.graph.node:
        layer, one = known.get(node.name), seen.get(node.name)
        stored = makers.get(node.input[1]) if layer is not None and len(node.input) > 1 else None
        if layer is None or one is None or stored is None or one.count == 0 or stored.input[0] not in constants:
            continue
        held = numpy_helper.to_array(constants[stored.input[0]])
        grid = _grid(stored, constants, held)
        has_bias = len(node.input) > 2
        integers = rounding.rounded(layer, grid, one, is_centred=has_bias)
        kept = reading.stored(layer, node, integers.astype(held.dtype))
        constants[stored.input[0]].CopyFrom(numpy_helper.from_array(kept, stored.input[0]))
        if has_bias:
            _mend(constants, makers.get(node.input[2]), node.input[2], rounding.bias_shift(layer, grid, integers, one))
        count += 1
    return count


def _grid(node: Any, constants: Mapping[str, Any], held: Array) -> Grid:
    from onnx import numpy_helper

    scales = numpy_helper.to_array(constants[node.input[1]]).astype(np.float64).reshape(-1)
    zeros = numpy_helper.to_array(constants[node.input[2]]).astype(np.int64).reshape(-1)
    reach = int(np.abs(held.astype(np.int64) - zeros.max(initial=0)).max(initial=1))
    low, high = _ENDS[held.dtype.name]
    return Grid(scales, zeros, max(int(zeros.max()) - reach, low), min(int(zeros.max()) + reach, high))


def _mend(constants: Mapping[str, Any], stored: Any, name: str, shift: Array) -> None:
    """Add to a bias, be it in integers or in float."""
    from onnx import numpy_helper

    if stored is None:
        held = numpy_helper.to_array(constants[name])
        constants[name].CopyFrom(numpy_helper.from_array((held + shift).astype(held.dtype), name))
        return
    held = numpy_helper.to_array(constants[stored.input[0]])
    steps = np.rint(shift / numpy_helper.to_array(constants[stored.input[1]]).astype(np.float64))
    limits = np.iinfo(held.dtype)
    mended = np.clip(held.astype(np.int64) + steps.astype(np.int64), limits.min, limits.max).astype(held.dtype)
    constants[stored.input[0]].CopyFrom(numpy_helper.from_array(mended, stored.input[0]))

"""Prepare a float TFLite model for quantization, and round the weights of the quantized one by what layers read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.converters import _flatbuffer as flatbuffer
from edgeq.converters import improving
from edgeq.converters.tflite import layers as reading
from edgeq.converters.tflite.restore import type_name
from edgeq.quantization import rounding
from edgeq.quantization.layers import Layer, Statistics
from edgeq.quantization.rounding import Grid
from edgeq.runtimes import encode, litert

Array = NDArray[Any]
_BIASES = {"INT32": np.int32, "INT64": np.int64}


def statistics(path: Path, known: Mapping[str, Layer], samples: Iterable[tuple[Array, ...]]) -> dict[str, Statistics]:
    """What each layer of the file reads, over the samples."""
    found = {name: Statistics(layer) for name, layer in known.items()}
    sources = {layer.source: [] for layer in known.values()}
    for name, layer in known.items():
        sources[layer.source].append(found[name])
    session = litert.open(path, threads=2, preserve=True)
    for sample in samples:
        session.run([encode(port, real) for port, real in zip(session.inputs, sample, strict=True)])
        for name, values in session.tensors(sources):
            for one in sources[name]:
                one.update(values)
    return found


def equalize(
    model: Any, known: Mapping[str, Layer], seen: Mapping[str, Statistics]
) -> tuple[dict[str, Layer], dict[str, Statistics], list[str]]:
    """Multiply channels in the model where that pays; its layers and their statistics after that, and a note."""
    places = reading.channel_sites(model, known)
    layers, after, count = improving.equalized(known, seen, places)
    reading.write(model, [layer for name, layer in layers.items() if layer is not known[name]])
    return layers, after, improving.note(count, len(places))


def correct(made: Any, known: Mapping[str, Layer], seen: Mapping[str, Statistics]) -> int:
    """Round the weights of a quantized model anew, and mend its biases; returns how many layers were."""
    tensors = made.subgraphs[0].tensors
    count = 0
    for operator in made.subgraphs[0].operators:
        if flatbuffer.type_of(made, operator) not in reading.LAYERS:
            continue
        name = tensors[operator.outputs[0]].name.decode()
        layer, weights = known.get(name), tensors[operator.inputs[1]]
        if layer is None or seen[name].count == 0 or type_name(weights) != "INT8":
            continue
        grid = Grid(np.asarray(weights.quantization.scale, np.float64), np.zeros(1, np.int64), -127, 127)
        bias = tensors[operator.inputs[2]] if len(operator.inputs) > 2 and operator.inputs[2] >= 0 else None
        integers = rounding.rounded(layer, grid, seen[name], is_centred=bias is not None)
        reading.store(made, weights, reading.as_stored(layer, tuple(weights.shape), integers.astype(np.int8)))
        if bias is not None:
            _mend(made, bias, rounding.bias_shift(layer, grid, integers, seen[name]))
        count += 1
    return count


def _mend(made: Any, bias: Any, shift: Array) -> None:
    """Add to a bias, be it in integers or in float."""
    data = made.buffers[bias.buffer].data
    if type_name(bias) == "FLOAT32":
        reading.store(made, bias, (np.frombuffer(data, np.float32) + shift).astype(np.float32))
    elif type_name(bias) in _BIASES:
        kind = _BIASES[type_name(bias)]
        steps = np.rint(shift / np.asarray(bias.quantization.scale, np.float64)).astype(np.int64)
        limits = np.iinfo(np.int32)
        mended = np.clip(np.frombuffer(data, kind).astype(np.int64) + steps, limits.min, limits.max)
        reading.store(made, bias, mended.astype(kind))

"""Prepare a float ONNX model for quantization, and round the weights of the quantized one by what layers read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.converters import improving
from edgeq.converters.improving import Known, Samples
from edgeq.converters.onnx import calibration, prepare, static
from edgeq.converters.onnx import layers as reading
from edgeq.quantization.layers import Layer
from edgeq.quantization.rounding import Grid
from edgeq.types import Progress, Scheme

Array = NDArray[Any]
_ENDS = {"int8": (-127, 127), "uint8": (0, 255)}


def improved(
    model: Any,
    names: set[str],
    samples: Samples,
    count: int,
    folder: Path,
    where: str,
    progress: Progress,
    scheme: Scheme,
) -> tuple[Any, Known, list[str]]:
    """The model with equalized channels, the layers among those nodes with what the model answers, and notes.

    What layers read is known of a corrected scheme; `looked` finds it for another. Only a corrected scheme equalizes;
    weights with one scale for all outputs would pay for channels that are raised where they are made. A transformer
    stays as it is: its noise comes from activations, which are smoothed.
    """
    if not count or static.is_transformer(model):
        return model, Known({}, {}), []
    layers = {name: layer for name, layer in reading.layers(model).items() if name in names}
    if not scheme.corrected:
        return model, looked(model, {}, samples, count, folder, where, progress)._replace(layers=layers), []
    known = looked(model, layers, samples, count, folder, where, progress)
    places = reading.channel_sites(model, layers) if improving.is_per_channel(scheme) else []
    after, changed = improving.equalized(known, places)
    if not changed:
        return model, known, []
    made = reading.written(model, [one for name, one in after.layers.items() if one is not layers[name]])
    is_kept = improving.is_faithful(known, answers(made, samples(improving.CHECKED), folder, where))
    notes = improving.note(changed, len(places), is_kept=is_kept)
    return (made, after, notes) if is_kept else (model, known, notes)


def looked(
    model: Any,
    layers: Mapping[str, Layer],
    samples: Samples,
    count: int,
    folder: Path,
    where: str,
    progress: Progress,
) -> Known:
    """What these layers read and the model answers."""
    sources = {layer.source for layer in layers.values()}
    outputs = [item.name for item in model.graph.output]
    with prepare.blaming(where):
        stream = calibration.watch(model, sources, samples(count), folder, where)
        return improving.observed(layers, stream, outputs, count, progress)


def answers(made: Any, samples: Iterable[tuple[Array, ...]], folder: Path, where: str) -> Iterator[list[Array]]:
    """What a model answers."""
    names = [item.name for item in made.graph.output]
    with prepare.blaming(where):
        for seen in calibration.watch(made, (), samples, folder, where):
            yield [seen[name] for name in names]


def corrected(model: Any, known: Known, progress: Progress) -> Any:
    """A quantized model with its weights rounded anew and its biases mended, by what layers were seen to read."""
    from onnx import numpy_helper

    made = type(model)()
    made.CopyFrom(model)
    constants = {item.name: item for item in made.graph.initializer}
    makers = {node.output[0]: node for node in made.graph.node if node.op_type == "DequantizeLinear"}
    found = [node for node in made.graph.node if node.name in known.layers and node.input[1] in makers]
    for done, node in enumerate(found):
        progress("round weights", done, len(found))
        weights = makers[node.input[1]]
        held = numpy_helper.to_array(constants[weights.input[0]])
        has_bias = len(node.input) > 2
        answer = improving.corrected(node.name, known, _grid(weights, constants, held), has_bias=has_bias)
        if answer is None:
            continue
        kept = reading.stored(known.layers[node.name], node, answer[0].astype(held.dtype))
        constants[weights.input[0]].CopyFrom(numpy_helper.from_array(kept, weights.input[0]))
        if answer[1] is not None:
            _mend(constants, makers.get(node.input[2]), node.input[2], answer[1])
    if found:
        progress("round weights", len(found), len(found))
    return made


def _grid(node: Any, constants: Mapping[str, Any], held: Array) -> Grid:
    """The integers that a weight may become; a quantizer that leaves out the outer ones does so on purpose."""
    from onnx import numpy_helper

    scales = numpy_helper.to_array(constants[node.input[1]]).astype(np.float64).reshape(-1)
    zeros = numpy_helper.to_array(constants[node.input[2]]).astype(np.int64).reshape(-1)
    middle = int(zeros.max())
    reach = int(np.abs(held.astype(np.int64) - middle).max(initial=1))
    low, high = _ENDS[held.dtype.name]
    return Grid(scales, zeros, max(middle - reach, low), min(middle + reach, high))


def _mend(constants: Mapping[str, Any], stored: Any, name: str, shift: Array) -> None:
    from onnx import numpy_helper

    own = name if stored is None else stored.input[0]
    scales = None if stored is None else numpy_helper.to_array(constants[stored.input[1]])
    mended = improving.mended(numpy_helper.to_array(constants[own]), scales, shift)
    constants[own].CopyFrom(numpy_helper.from_array(mended, own))
